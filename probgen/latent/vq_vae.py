"""The recipe of a VQ-VAE."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpyro.distributions as dist
from jax import Array

from probgen.core import Contextual, as_shape, check_instances, check_sizes, recipe
from probgen.distributions import Conditional, ConditionalModel, integer_head
from probgen.latent.vector_quantized import VectorQuantized
from probgen.networks import MLP, Pixels, Reshaped


@recipe
def vq_vae(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    codes: int = 64,
    code_shape: tuple[int, ...] = (4,),
    dim: int = 8,
    hidden: Sequence[int] = (256, 256),
    components: int = 3,
    commitment: float = 1.0,
    decay: float = 0.95,
    prior: dist.Distribution | None = None,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> VectorQuantized | ConditionalModel:
    """A VQ-VAE of integers 0..levels−1 with an MLP each way.

        z_i ~ p(z),   x_d ~ P(x_d | decoder(e_z)_d);   z = the codes nearest to encoder(x)

    Train it; then fit a prior to `model.encode(x)`, such as `autoregressive.made(code_shape, codes)`, and go on with
    `model.replace(prior=…)`.

    Args:
        event_shape: the shape of one event, such as (28, 28).
        levels: how many integers a number takes, at least 2.
        codes: how many the codebook has.
        code_shape: of the codes of one event, such as (4,), or (4, 4) for a PixelCNN as the prior.
        dim: the length of a code's vector.
        hidden: widths of the encoder's hidden layers; the decoder's are reversed.
        components: of the discretized logistics that a number has; a categorical where it is 0, or a Bernoulli of two
            levels.
        commitment: β of `VectorQuantized`.
        decay: γ of `VectorQuantized`.
        prior: of the codes; uniform by default.
        dropout: the rate in both networks, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, whose encoder and decoder see the
            context.
        key: draws the first weights.

    Raises ValueError where the prior has events of another shape or other integers.

    References: as `VectorQuantized`.

    >>> import jax, jax.numpy as jnp
    >>> model = vq_vae((4, 4), 17, codes=8, code_shape=(3,), dim=2, hidden=(8,), key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((5, 4, 4), int)).shape
    (5,)
    """
    event_shape, code_shape = as_shape(event_shape, fewest=0), as_shape(code_shape, fewest=0)
    check_sizes(codes=codes, dim=dim)
    check_instances(prior=prior)
    if prior is not None and prior.event_shape != code_shape:
        raise ValueError(f"prior: expected event shape {code_shape}, got {prior.event_shape}")
    size, latent_size = math.prod(event_shape), math.prod(code_shape) * dim
    head = integer_head(levels, components=components)
    encoder_key, decoder_key, code_key = jax.random.split(key, 3)
    mlp = functools.partial(MLP, context_dim=context_dim, dropout=dropout, gain=2**0.5)
    encoder: Any = Pixels(mlp(size, latent_size, hidden=hidden, out_scale=1.0, key=encoder_key), levels, (size,))
    decoder: Any = mlp(latent_size, size * head.num_params, hidden=tuple(hidden)[::-1], key=decoder_key)
    decoder = Reshaped(decoder, (latent_size,))
    if context_dim:
        encoder, decoder = Contextual(encoder), Contextual(decoder)
    model = VectorQuantized(
        dist.DiscreteUniform(0, codes - 1).expand(code_shape).to_event() if prior is None else prior,
        encoder,
        Conditional(decoder, head, event_shape, context_ndims=len(code_shape) + 1),
        jax.random.normal(code_key, (codes, dim)),
        commitment=commitment,
        decay=decay,
        context_shape=(context_dim,) if context_dim else None,
    )
    return ConditionalModel(model, (context_dim,)) if context_dim else model
