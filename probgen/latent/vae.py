"""The variational autoencoder: dense, convolutional, and with an autoregressive decoder."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import Contextual, as_shape, check_instances, check_sizes, recipe
from probgen.distributions import BoundedNormalHead, Conditional, ConditionalModel, integer_head
from probgen.distributions.enumeration import levels as levels_of
from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.priors import VampPrior
from probgen.networks import MLP, ImageDecoder, ImageEncoder, Pixels
from probgen.networks.images import image_shape


@recipe
def vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    latent_dim: int = 16,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    prior: dist.Distribution | VampPrior | None = None,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A variational autoencoder of integers 0..levels−1 with an MLP each way.

        z ~ p(z),   x_d ~ P(x_d | decoder(z)_d);   q(z | x) = Normal(μ(x), diag σ(x)²)

    Args:
        event_shape: the shape of one event, such as (28, 28).
        levels: how many integers a number takes, at least 2.
        latent_dim: the size of z.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed.
        components: of the discretized logistics that a number has; a categorical where it is 0, or a Bernoulli of two
            levels.
        prior: of z, such as a `mixtures.gaussian_mixture` or a flow, or a model that itself has only a bound; a
            standard normal by default.
        dropout: the rate in both networks, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, whose encoder and decoder see the
            context.
        key: draws the first weights.

    Raises ValueError where the prior has events of another shape.

    References: Auto-Encoding Variational Bayes (Kingma, Welling 2014), arXiv:1312.6114.

    >>> import jax, jax.numpy as jnp
    >>> model = vae((4, 4), 17, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 4, 4), int), num_particles=5).shape
    (3,)
    """
    event_shape = as_shape(event_shape, fewest=0)
    check_sizes(latent_dim=latent_dim)
    size, head = math.prod(event_shape), integer_head(levels, components=components)
    encoder_key, decoder_key = jax.random.split(key)
    # He's gain: with the smaller weights of flows, 100 epochs of digits end 0.03 bits/dim worse
    mlp = functools.partial(MLP, context_dim=context_dim, dropout=dropout, gain=2**0.5)
    encoder = mlp(size, 2 * latent_dim, hidden=hidden, key=encoder_key)
    decoder = mlp(latent_dim, size * head.num_params, hidden=tuple(hidden)[::-1], key=decoder_key)
    seen = Pixels(encoder, levels, (size,), dropout=input_dropout)
    likelihood = Conditional(Contextual(decoder) if context_dim else decoder, head, event_shape)
    return _assembled(event_shape, latent_dim, seen, likelihood, prior, context_dim)


@recipe
def conv_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    latent_dim: int = 16,
    channels: Sequence[int] = (32, 64),
    depth: int = 1,
    components: int = 3,
    prior: dist.Distribution | VampPrior | None = None,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A `vae` of images, whose encoder and decoder are residual convolutional networks.

    Args:
        event_shape: the shape of one event, (H, W) or (H, W, C).
        levels: how many integers a number takes.
        latent_dim: the size of z.
        channels: of each resolution of the encoder, each half of the one before; the decoder's are reversed.
        depth: how many residual blocks a resolution has.
        components: as `vae`'s.
        prior: as `vae`'s.
        dropout: the rate in both networks, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`.
        key: draws the first weights.

    Raises ValueError where an event is no image, or the prior has events of another shape.

    References: Auto-Encoding Variational Bayes (Kingma, Welling 2014), arXiv:1312.6114; Identity Mappings in Deep
    Residual Networks (He, Zhang, Ren, Sun 2016), arXiv:1603.05027.

    >>> import jax, jax.numpy as jnp
    >>> model = conv_vae((5, 5), 17, latent_dim=2, channels=(4, 4), key=jax.random.key(0))
    >>> model.encode(jnp.zeros((3, 5, 5), int)).event_shape
    (2,)
    """
    event_shape, image = as_shape(event_shape), image_shape(event_shape)
    check_sizes(latent_dim=latent_dim)
    head = integer_head(levels, components=components)
    encoder_key, decoder_key = jax.random.split(key)
    how: Any = {"channels": channels, "depth": depth, "context_dim": context_dim, "dropout": dropout}
    encoder = ImageEncoder(image, 2 * latent_dim, key=encoder_key, **how)
    decoder = ImageDecoder(latent_dim, (*image[:2], image[2] * head.num_params), key=decoder_key, **how)
    seen = Pixels(encoder, levels, image, dropout=input_dropout)
    likelihood = Conditional(Contextual(decoder) if context_dim else decoder, head, event_shape)
    return _assembled(event_shape, latent_dim, seen, likelihood, prior, context_dim)


@recipe
def pixel_vae(
    decoder: ConditionalModel,
    levels: int,
    *,
    hidden: Sequence[int] = (256, 256),
    prior: dist.Distribution | VampPrior | None = None,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A variational autoencoder whose decoder is autoregressive, given z.

        p(x | z) = Π_d p(x_d | x_<d, z);   q(z | x) = Normal(μ(x), diag σ(x)²)

    With a context c these are p(x | z, c) and q(z | x, c).

    A strong decoder does without z: watch the KL, and give it little reach, or the bound free bits.

    Args:
        decoder: of the integers x given z, such as `autoregressive.gated_pixel_cnn(…, context_dim=latent_dim)`; given
            z and then c in one vector, where there are contexts.
        levels: how many integers a number takes.
        hidden: widths of the encoder's hidden layers.
        prior: as `vae`'s.
        dropout: the rate in the encoder, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of c; with it the model is a `ConditionalModel`. What is left of the decoder's context is
            z.
        key: draws the encoder's first weights.

    Raises ValueError where the decoder's context is no vector or has no room for z, its integers are others, or the
    prior has events of another shape.

    References: PixelVAE (Gulrajani et al. 2017), arXiv:1611.05013; Variational Lossy Autoencoder (Chen et al. 2017),
    arXiv:1611.02731.

    >>> import jax, jax.numpy as jnp, probgen
    >>> keys = jax.random.split(jax.random.key(0))
    >>> made = probgen.autoregressive.made((4,), 3, hidden=(8,), context_dim=2, key=keys[0])
    >>> pixel_vae(made, 3, hidden=(8,), key=keys[1]).log_prob_bound(keys[0], jnp.zeros((5, 4), int)).shape
    (5,)
    """
    check_instances(decoder=decoder)
    if not isinstance(decoder, ConditionalModel) or len(decoder.context_shape) != 1:
        raise ValueError("decoder: expected a ConditionalModel whose contexts are vectors, those of z")
    check_sizes(2, levels=levels)
    if (known := levels_of(decoder.model.support)) not in (None, (0, levels)):
        low, count = known
        raise ValueError(f"levels: the decoder is of integers {low}..{low + count - 1}, got 0..{levels - 1}")
    (latent_dim,), event_shape = decoder.context_shape, decoder.model.event_shape
    latent_dim -= context_dim or 0
    if latent_dim < 1:
        raise ValueError(f"decoder: expected contexts of z and {context_dim} more numbers, got {decoder.context_shape}")
    size = math.prod(event_shape)
    encoder = MLP(
        size, 2 * latent_dim, hidden=hidden, context_dim=context_dim, dropout=dropout, gain=2**0.5, key=key
    )  # fmt: skip
    seen = Pixels(encoder, levels, (size,), dropout=input_dropout)
    likelihood = Contextual(_OfBoth(decoder)) if context_dim else decoder
    return _assembled(event_shape, latent_dim, seen, likelihood, prior, context_dim)


class _OfBoth(eqx.Module):
    """p(x | z, c) of a model whose contexts are z and c in one vector."""

    decoder: ConditionalModel

    def __call__(self, z: Array, context: Array) -> dist.Distribution:
        return self.decoder(jnp.concatenate([z, jnp.broadcast_to(context, (*z.shape[:-1], *context.shape))], -1))


def _assembled(
    event_shape: tuple[int, ...],
    latent_dim: int,
    encoder: Any,
    likelihood: Any,
    prior: dist.Distribution | VampPrior | None,
    context_dim: int | None,
) -> LatentVariableModel | ConditionalModel:
    """Return the model of this encoder and likelihood, conditional where there is a context."""
    model = LatentVariableModel(
        _prior(prior, latent_dim),
        likelihood,
        Conditional(
            Contextual(encoder) if context_dim else encoder,
            BoundedNormalHead(),
            (latent_dim,),
            context_ndims=len(event_shape),
        ),
        context_shape=(context_dim,) if context_dim else None,
    )
    return ConditionalModel(model, (context_dim,)) if context_dim else model


def _prior(prior: Any, latent_dim: int) -> Any:
    check_instances(prior=prior)
    if isinstance(prior, dist.Distribution) and prior.event_shape != (latent_dim,):
        raise ValueError(f"prior: expected event shape ({latent_dim},), got {prior.event_shape}")
    return standard_normal(latent_dim) if prior is None else prior


def standard_normal(dim: int) -> dist.Distribution:
    """Return Normal(0, I) of vectors."""
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)
