"""The variational autoencoder."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import Contextual, recipe
from probgen.distributions import (
    BernoulliHead,
    CategoricalHead,
    Conditional,
    ConditionalModel,
    DiscretizedLogisticMixtureHead,
)
from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.parts import BoundedNormalHead, GaussianMixture, Pixels
from probgen.networks import MLP


@recipe
def vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    latent_dim: int = 16,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    prior_components: int = 1,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    event_shape, hidden = tuple(event_shape), tuple(hidden)
    size = math.prod(event_shape)
    if components:
        head = DiscretizedLogisticMixtureHead(levels, components)
    else:
        head = BernoulliHead() if levels == 2 else CategoricalHead(levels)
    encoder_key, decoder_key, prior_key = jax.random.split(key, 3)
    shared = {"activation": jax.nn.silu, "context_dim": context_dim}
    encoder = MLP(size, 2 * latent_dim, hidden=hidden, dropout=dropout, **shared, key=encoder_key)
    decoder = MLP(latent_dim, size * head.num_params, hidden=hidden[::-1], dropout=dropout, **shared, key=decoder_key)
    seen: Any = Pixels(encoder, levels, input_dropout)
    if context_dim:
        seen, decoder = Contextual(seen), Contextual(decoder)
    model = LatentVariableModel(
        _prior(latent_dim, prior_components, prior_key),
        Conditional(decoder, head, event_shape),
        Conditional(seen, BoundedNormalHead(), (latent_dim,), context_ndims=len(event_shape)),
        context_shape=(context_dim,) if context_dim else None,
    )
    return ConditionalModel(model, (context_dim,)) if context_dim else model


def _prior(dim: int, components: int, key: Array) -> dist.Distribution:
    if components == 1:
        return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)
    loc = jax.random.normal(key, (components, dim))
    return GaussianMixture(jnp.zeros(components), loc, jnp.zeros((components, dim)))
