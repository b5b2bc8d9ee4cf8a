"""Variational autoencoders whose posterior is more than independent normals: a flow."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from probgen.bijectors import AffineTransformer, Chain, MaskedAutoregressive, Reverse
from probgen.core import Contextual, Dependence, as_shape, check_sizes, recipe
from probgen.distributions import ConditionalModel, Transformed
from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.posteriors import AtFeatures
from probgen.latent.vae import standard_normal, vae
from probgen.networks import MADE, MLP, Pixels


@recipe
def iaf_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    layers: int = 2,
    width: int = 256,
    features: int = 64,
    latent_dim: int = 16,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A `vae` whose posterior is an inverse autoregressive flow at features of x; any other conditional flow is an
    argument, `AtFeatures(network, flow)`.

        z = (f_L ∘ … ∘ f_1)(ε; e(x)),   ε ~ Normal(0, I)

    Args:
        event_shape: the shape of one event.
        levels: how many integers a number takes.
        layers: L.
        width: of the hidden layer of each f.
        features: the size of e(x).
        latent_dim: the size of z.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed.
        components: as `vae`'s.
        dropout: the rate in both networks, in training.
        input_dropout: the rate at which numbers are hidden from the encoder, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`.
        key: draws the first weights.

    References: Improved Variational Inference with Inverse Autoregressive Flow (Kingma, Salimans, Jozefowicz, Chen,
    Sutskever, Welling 2016), arXiv:1606.04934.

    >>> import jax, jax.numpy as jnp
    >>> model = iaf_vae((4,), 3, width=8, features=4, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((5, 4), int)).shape
    (5,)
    """
    event_shape = as_shape(event_shape, fewest=0)
    check_sizes(layers=layers, width=width, features=features)
    encoder_key, flow_key, key = jax.random.split(key, 3)
    size, order = math.prod(event_shape), Dependence.in_order(range(latent_dim))
    made = lambda key: MADE(latent_dim, 2, hidden=(width,), order=order, context_dim=features, key=key)
    step = lambda key: MaskedAutoregressive(Contextual(made(key)), AffineTransformer(), order)
    parts = [part for k in jax.random.split(flow_key, layers) for part in (Reverse(), step(k))]
    flow = ConditionalModel(Transformed(standard_normal(latent_dim), Chain(parts)), (features,))
    encoder = MLP(
        size, features, hidden=hidden, dropout=dropout, context_dim=context_dim, gain=2**0.5, out_scale=1.0,
        key=encoder_key,
    )  # fmt: skip
    seen: Any = Pixels(encoder, levels, (size,), dropout=input_dropout)
    posterior = AtFeatures(Contextual(seen) if context_dim else seen, flow, len(event_shape))
    model = vae(
        event_shape, levels, latent_dim=latent_dim, hidden=hidden, components=components, dropout=dropout,
        context_dim=context_dim, key=key,
    )  # fmt: skip
    if isinstance(model, ConditionalModel):
        return ConditionalModel(model.model.replace(posterior=posterior), model.context_shape)
    return model.replace(posterior=posterior)
