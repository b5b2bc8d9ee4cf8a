"""Hierarchies of latents: from the bottom up, from the top down, and of bits."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from probgen.core import Contextual, as_shape, check_sizes, recipe
from probgen.distributions import BernoulliHead, BoundedNormalHead, Conditional, ConditionalModel, integer_head
from probgen.latent.dense_layers import DenseEncoder, DenseLayer
from probgen.latent.image_layers import AsImage, Enlarged, ImageLayer, PyramidDecoder, PyramidEncoder
from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.path import Path, Stage
from probgen.latent.top_down import TopDown
from probgen.latent.vae import standard_normal, vae
from probgen.mixtures import histogram
from probgen.networks import MLP, Pixels, Upsample
from probgen.networks.images import halved, image_shape


def _check_widths(name: str, widths: Sequence[int], fewest: int) -> None:
    if isinstance(widths, str) or not isinstance(widths, Sequence) or len(widths) < fewest:
        raise ValueError(f"{name}: expected a sequence of at least {fewest} sizes, got {widths!r}")
    check_sizes(**{f"{name}[{i}]": width for i, width in enumerate(widths)})


@recipe
def hierarchical_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    latent_dims: Sequence[int] = (32, 16),
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """Latents over latents, Markov, with inference from the bottom up: a `vae` whose prior is one, and so on.

        p(x, z) = p(x | z₁) p(z₁ | z₂) … p(z_L),   q(z | x) = q(z₁ | x) q(z₂ | z₁) …

    Its upper layers tend to die in training; `top_down_vae` mends that.

    Args:
        event_shape: the shape of one event.
        levels: how many integers a number takes.
        latent_dims: the sizes of z₁, z₂, …, from the bottom.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed. Those between latents are as wide.
        components: as `vae`'s.
        dropout: the rate in the networks of x, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context, which the networks of x see; with it the model is a `ConditionalModel`.
        key: draws the first weights.

    References: Stochastic Backpropagation and Approximate Inference in Deep Generative Models (Rezende, Mohamed,
    Wierstra 2014), arXiv:1401.4082; Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov 2016),
    arXiv:1509.00519.

    >>> import jax, jax.numpy as jnp
    >>> model = hierarchical_vae((4,), 3, latent_dims=(3, 2), hidden=(8,), key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros(4, int), 5).shape
    ()
    """
    _check_widths("latent_dims", latent_dims, 1)
    prior: Any = standard_normal(latent_dims[-1])
    for i in range(len(latent_dims) - 1, 0, -1):
        low, high = latent_dims[i - 1], latent_dims[i]
        key, down_key, up_key = jax.random.split(key, 3)
        down = MLP(high, 2 * low, hidden=tuple(hidden)[::-1], gain=2**0.5, key=down_key)
        up = MLP(low, 2 * high, hidden=hidden, gain=2**0.5, key=up_key)
        head = BoundedNormalHead()
        prior = LatentVariableModel(prior, Conditional(down, head, (low,)), Conditional(up, head, (high,)))
    return vae(
        event_shape, levels, latent_dim=latent_dims[0], hidden=hidden, components=components, prior=prior,
        dropout=dropout, input_dropout=input_dropout, context_dim=context_dim, key=key,
    )  # fmt: skip


@recipe
def top_down_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    layers: int = 2,
    latent_dim: int = 16,
    width: int = 256,
    hidden: Sequence[int] = (256,),
    components: int = 3,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> TopDown | ConditionalModel:
    """A hierarchy of vectors inferred from the top down, along the path that the prior takes.

        p(z_l | h_{l−1}) = N(μ, σ²),   q(z_l | h_{l−1}, x) = N(μ + Δμ, σ² Δσ²),   h_l = h_{l−1} + D(h_{l−1}, z_l)

    Args:
        event_shape: the shape of one event.
        levels: how many integers a number takes.
        layers: L, equal ones, run in a scan.
        latent_dim: the size of each z_l.
        width: of the path's state, of the features, and of the layers' hidden layers.
        hidden: widths of the decoder's hidden layers.
        components: as `vae`'s.
        dropout: the rate in the decoder, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context, which the encoder and the top of the path see; with it the model is a
            `ConditionalModel`.
        key: draws the first weights.

    References: Ladder Variational Autoencoders (Sønderby et al. 2016), arXiv:1602.02282; NVAE (Vahdat, Kautz 2020),
    arXiv:2007.03898.

    >>> import jax, jax.numpy as jnp
    >>> model = top_down_vae((4,), 3, latent_dim=2, width=8, hidden=(8,), key=jax.random.key(0))
    >>> model.kl_of_layers(jax.random.key(1), jnp.zeros((5, 4), int)).shape
    (5, 2)
    """
    event_shape = as_shape(event_shape, fewest=0)
    check_sizes(layers=layers, latent_dim=latent_dim, width=width)
    size, head, latent_head = math.prod(event_shape), integer_head(levels, components=components), BoundedNormalHead()
    layer_key, encoder_key, decoder_key, start_key = jax.random.split(key, 4)
    layer = lambda key: DenseLayer(width, latent_dim, latent_head.num_params, hidden=width, key=key)
    encoder = DenseEncoder(size, width=width, depth=layers, hidden=width, context_dim=context_dim, key=encoder_key)
    seen: Any = Pixels(encoder, levels, (size,), dropout=input_dropout)
    start: Any = jax.random.normal(start_key, (width,))  # at zero its gradient would be a thousand times larger
    if context_dim:
        seen = Contextual(seen)
        start = Contextual(MLP(0, width, hidden=(width,), out_scale=1.0, context_dim=context_dim, key=start_key))
    path = Path(start, (Stage(jax.vmap(layer)(jax.random.split(layer_key, layers))),), latent_head)
    decoder = MLP(width, size * head.num_params, hidden=hidden, dropout=dropout, gain=2**0.5, key=decoder_key)
    model = TopDown(
        path, seen, Conditional(decoder, head, event_shape), context_shape=(context_dim,) if context_dim else None
    )
    return ConditionalModel(model, (context_dim,)) if context_dim else model


@recipe
def vd_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    layers: Sequence[int] = (1, 2, 2),
    channels: int = 32,
    latent_channels: int = 4,
    components: int = 3,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> TopDown | ConditionalModel:
    """A top-down hierarchy of images, of several resolutions, as deep as one likes.

    Of x [H, W] or [H, W, C] the finest latents are images of half its size; each next resolution has half of that.
    Very deep ones are trained without the steps whose gradients are large: `optax.MultiSteps(optimizer, 1,
    should_skip_update_fn=partial(optax.skip_large_updates, max_squared_norm=…))`.

    Args:
        event_shape: the shape of one event, (H, W) or (H, W, C).
        levels: how many integers a number takes.
        layers: how many layers of latents each resolution has, from the finest.
        channels: of the states.
        latent_channels: the latent numbers at each place of a layer.
        components: as `vae`'s.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context, which the encoder and the top of the path see; with it the model is a
            `ConditionalModel`.
        key: draws the first weights.

    References: Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images (Child 2021),
    arXiv:2011.10650; NVAE (Vahdat, Kautz 2020), arXiv:2007.03898; Ladder Variational Autoencoders (Sønderby et al.
    2016), arXiv:1602.02282.

    >>> import jax, jax.numpy as jnp
    >>> model = vd_vae((8, 8), 17, layers=(1, 2), channels=8, latent_channels=2, key=jax.random.key(0))
    >>> model.kl_of_layers(jax.random.key(1), jnp.zeros((8, 8), int)).shape
    (3,)
    """
    event_shape, image = as_shape(event_shape), image_shape(event_shape)
    _check_widths("layers", layers, 1)
    check_sizes(channels=channels, latent_channels=latent_channels)
    sizes = [halved(image[:2])]
    for _ in layers[1:]:
        sizes.append(halved(sizes[-1]))
    head, latent_head = integer_head(levels, components=components), BoundedNormalHead()
    encoder_key, decoder_key, start_key, *keys = jax.random.split(key, 3 + len(layers))
    stages: list[Stage] = []
    for i in reversed(range(len(layers))):  # from the top
        into_key, layer_key = jax.random.split(keys[i])
        one = lambda k, size=sizes[i]: ImageLayer(size, channels, latent_channels, latent_head.num_params, key=k)
        into = Enlarged(Upsample(channels, channels, key=into_key), sizes[i]) if stages else None
        stages.append(Stage(jax.vmap(one)(jax.random.split(layer_key, layers[i])), into))
    top = (*sizes[-1], channels)
    encoder = PyramidEncoder(image[2], channels=channels, layers=layers, context_dim=context_dim, key=encoder_key)
    seen: Any = Pixels(encoder, levels, image, dropout=input_dropout)
    start: Any = jax.random.normal(start_key, top)
    if context_dim:
        seen = Contextual(seen)
        first = MLP(0, math.prod(top), hidden=(), out_scale=1.0, context_dim=context_dim, key=start_key)
        start = Contextual(AsImage(first, top))
    decoder = PyramidDecoder(image[:2], channels, image[2] * head.num_params, key=decoder_key)
    model = TopDown(
        Path(start, tuple(stages), latent_head),
        seen,
        Conditional(decoder, head, event_shape, context_ndims=3),
        context_shape=(context_dim,) if context_dim else None,
    )
    return ConditionalModel(model, (context_dim,)) if context_dim else model


@recipe
def helmholtz_machine(
    event_shape: tuple[int, ...],
    levels: int = 2,
    *,
    units: Sequence[int] = (200, 200),
    hidden: Sequence[int] = (),
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """Layers of bits over bits, a sigmoid belief net, with a recognition net from the bottom up.

        p(x, z) = p(x | z₁) p(z₁ | z₂) … p(z_L),   each factor Π_i Bernoulli(z_i | sigmoid(W z + b)_i), and likewise q

    Train it by wake and sleep (`inference.objectives.WakeSleep`, `ReweightedWakeSleep`), or by any estimator that
    serves bits.

    Args:
        event_shape: the shape of one event.
        levels: how many integers a number of x takes.
        units: the bits of z₁, z₂, …, from the bottom.
        hidden: widths of hidden layers within each factor; none in a sigmoid belief net.
        context_dim: the size of a context, which the networks of x see; with it the model is a `ConditionalModel`.
        key: draws the first weights.

    References: The Helmholtz Machine (Dayan, Hinton, Neal, Zemel 1995); The Wake-Sleep Algorithm for Unsupervised
    Neural Networks (Hinton, Dayan, Frey, Neal 1995); Connectionist Learning of Belief Networks (Neal 1992).

    >>> import jax, jax.numpy as jnp
    >>> model = helmholtz_machine((4,), units=(3, 2), key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros(4, int), 5).shape
    ()
    """
    event_shape = as_shape(event_shape, fewest=0)
    _check_widths("units", units, 1)
    bits, size = BernoulliHead(), math.prod(event_shape)
    net = lambda i, o, key, **how: MLP(i, o, hidden=hidden, gain=2**0.5, out_scale=0.5, key=key, **how)
    prior: Any = histogram((units[-1],), 2)
    for i in range(len(units) - 1, 0, -1):
        low, high = units[i - 1], units[i]
        key, down_key, up_key = jax.random.split(key, 3)
        down, up = net(high, low, down_key), net(low, high, up_key)
        prior = LatentVariableModel(prior, Conditional(down, bits, (low,)), Conditional(up, bits, (high,)))
    head = integer_head(levels)
    down_key, up_key = jax.random.split(key)
    decoder: Any = net(units[0], size * head.num_params, down_key, context_dim=context_dim)
    encoder: Any = Pixels(net(size, units[0], up_key, context_dim=context_dim), levels, (size,))
    if context_dim:
        encoder, decoder = Contextual(encoder), Contextual(decoder)
    model = LatentVariableModel(
        prior,
        Conditional(decoder, head, event_shape),
        Conditional(encoder, bits, (units[0],), context_ndims=len(event_shape)),
        context_shape=(context_dim,) if context_dim else None,
    )
    return ConditionalModel(model, (context_dim,)) if context_dim else model
