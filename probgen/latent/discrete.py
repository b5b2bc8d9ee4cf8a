"""Variational autoencoders of discrete codes."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import Contextual, as_shape, check_sizes, recipe
from probgen.distributions import Conditional, ConditionalModel, integer_head
from probgen.latent.latent_variable import LatentVariableModel
from probgen.mixtures import histogram
from probgen.networks import MLP, Pixels, place


class _Codes(eqx.Module):
    """A network of vectors that takes codes: bits as ±1, others one-hot."""

    network: MLP
    codes: int = eqx.field(static=True)

    def __call__(self, z: Array, *context: Array) -> Array:
        numbers = place(z, 2) if self.codes == 2 else jax.nn.one_hot(jnp.asarray(z, int), self.codes).reshape(-1)
        return self.network(numbers, *context)


@recipe
def discrete_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    latent_dim: int = 32,
    codes: int = 2,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> LatentVariableModel | ConditionalModel:
    """A variational autoencoder of integers 0..levels−1 whose latent numbers are integers too, with an MLP each way.

        z_i ~ P(z_i),   x_d ~ P(x_d | decoder(z)_d);   q(z | x) = Π_i P(z_i | encoder(x)_i)

    The prior's frequencies are learned. Draws of z carry no gradient: `fit` trains the model's `program` and `guide`,
    with the best unbiased estimator of `inference.estimators`, or the one that `estimators.use` names.

    Args:
        event_shape: the shape of one event, such as (28, 28).
        levels: how many integers a number takes, at least 2.
        latent_dim: how many latent numbers there are.
        codes: how many integers each of them takes; bits of 2.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed.
        components: of the discretized logistics that a number has; a categorical where it is 0, or a Bernoulli of two
            levels.
        dropout: the rate in both networks, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, whose encoder and decoder see the
            context.
        key: draws the first weights.

    References: Neural Variational Inference and Learning in Belief Networks (Mnih, Gregor 2014), arXiv:1402.0030;
    Variational Inference for Monte Carlo Objectives (Mnih, Rezende 2016), arXiv:1602.06725.

    >>> import jax, jax.numpy as jnp
    >>> model = discrete_vae((4,), 3, latent_dim=5, hidden=(8,), key=jax.random.key(0))
    >>> model.encode(jnp.zeros((3, 4), int)).sample(jax.random.key(1)).shape
    (3, 5)
    """
    event_shape = as_shape(event_shape, fewest=0)
    check_sizes(latent_dim=latent_dim)
    check_sizes(2, codes=codes)
    size, numbers = math.prod(event_shape), latent_dim * (1 if codes == 2 else codes)
    head, latent_head = integer_head(levels, components=components), integer_head(codes)
    encoder_key, decoder_key = jax.random.split(key)
    mlp = functools.partial(MLP, context_dim=context_dim, dropout=dropout, gain=2**0.5)
    encoder: Any = mlp(size, latent_dim * latent_head.num_params, hidden=hidden, key=encoder_key)
    decoder: Any = mlp(numbers, size * head.num_params, hidden=tuple(hidden)[::-1], key=decoder_key)
    encoder, decoder = Pixels(encoder, levels, (size,)), _Codes(decoder, codes)
    if context_dim:
        encoder, decoder = Contextual(encoder), Contextual(decoder)
    model = LatentVariableModel(
        histogram((latent_dim,), codes),
        Conditional(decoder, head, event_shape),
        Conditional(encoder, latent_head, (latent_dim,), context_ndims=len(event_shape)),
        context_shape=(context_dim,) if context_dim else None,
    )
    return ConditionalModel(model, (context_dim,)) if context_dim else model
