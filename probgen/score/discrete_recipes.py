"""The recipes of diffusions of integers."""

import math
from collections.abc import Sequence
from typing import Any

from jax import Array

from probgen.core import Contextual, as_shape, check_sizes, recipe
from probgen.distributions import ConditionalModel, integer_head
from probgen.networks import LevelFeatures, MaskedLevels, NoiseEmbedding, Pixels, ResidualMLP
from probgen.score.masked_diffusion import MaskedDiffusion
from probgen.score.uniform_diffusion import AtShare, UniformDiffusion
from probgen.score.unmasking import InSteps, OneByOne

_RANK = 32
_SHARE = NoiseEmbedding(17, reach=1.0, fastest=8.0)


@recipe
def masked_diffusion(
    event_shape: Sequence[int],
    *,
    levels: int,
    width: int = 256,
    depth: int = 3,
    rank: int | None = None,
    dropout: float = 0.0,
    steps: int | None = None,
    context_dim: int | None = None,
    key: Array,
) -> MaskedDiffusion | ConditionalModel:
    """A masked diffusion of integers 0..levels−1 with a residual network: an any-order autoregressive model.

        log p(x) ≥ E_σ Σ_i log Categorical(x_{σ_i}; logits_{σ_i}(x_{σ_1}, …, x_{σ_{i−1}}))

    Args:
        event_shape: shape of one event.
        levels: L, how many integers a number takes, at least 2.
        width: the width of the network.
        depth: how many blocks it has.
        rank: more levels than that (32 by default) are logits of so many features a position (`LevelFeatures`).
        dropout: its rate of dropout.
        steps: those of a draw, and of the bound with it (`InSteps`); by default one for each number (`OneByOne`).
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        key: draws the weights.

    Raises ValueError where one is out of its range, or a `rank` would not act.

    References: Autoregressive Diffusion Models (Hoogeboom et al. 2022), arXiv:2110.02037; Simple and Effective Masked
    Diffusion Language Models (Sahoo et al. 2024), arXiv:2406.07524.

    >>> import jax, jax.numpy as jnp
    >>> model = masked_diffusion((4, 4), levels=17, width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 4, 4), int)).shape
    (3,)
    """
    event_shape, head = as_shape(event_shape), integer_head(levels)
    size = math.prod(event_shape)
    dense = _dense(2 * size, size, levels, width, depth, rank, dropout, context_dim, key=key)
    network: Any = MaskedLevels(dense, levels, (size,), _SHARE)
    unmasking = OneByOne() if steps is None else InSteps(steps)
    network = Contextual(network) if context_dim else network
    model = MaskedDiffusion(network, head, event_shape, unmasking=unmasking)
    return ConditionalModel(model, (context_dim,)) if context_dim else model


@recipe
def uniform_diffusion(
    event_shape: Sequence[int],
    *,
    levels: int,
    width: int = 256,
    depth: int = 3,
    rank: int | None = None,
    dropout: float = 0.0,
    steps: int = 100,
    context_dim: int | None = None,
    key: Array,
) -> UniformDiffusion | ConditionalModel:
    """A diffusion of integers 0..levels−1 by uniform noise (D3PM's uniform one), with a residual network.

        q(z_t | x) = Categorical(α_t δ_x + (1 − α_t) / L),   α_t = 1 − t / T

    Args:
        event_shape: shape of one event.
        levels: L, how many integers a number takes, at least 2.
        width: the width of the network.
        depth: how many blocks it has.
        rank: more levels than that (32 by default) are logits of so many features a position (`LevelFeatures`).
        dropout: its rate of dropout.
        steps: T, those of a draw and of the bound.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        key: draws the weights.

    Raises ValueError where one is out of its range, or a `rank` would not act.

    References: Structured Denoising Diffusion Models in Discrete State-Spaces (Austin et al. 2021), arXiv:2107.03006.

    >>> import jax, jax.numpy as jnp
    >>> model = uniform_diffusion((4, 4), levels=17, width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 4, 4), int)).shape
    (3,)
    """
    event_shape, head = as_shape(event_shape), integer_head(levels)
    size = math.prod(event_shape)
    dense = _dense(size, size, levels, width, depth, rank, dropout, context_dim, key=key)
    network = AtShare(Pixels(dense, levels, (size,)), _SHARE, context_dim)
    model = UniformDiffusion(network, head, event_shape, steps=steps)
    return ConditionalModel(model, (context_dim,)) if context_dim else model


def _dense(
    in_dim: int,
    size: int,
    levels: int,
    width: int,
    depth: int,
    rank: int | None,
    dropout: float,
    context_dim: int | None,
    *,
    key: Array,
) -> Any:
    """Return the network of `in_dim` reals, and of features of the noise and a context, to the raw numbers of `size`
    integers."""
    check_sizes(0, context_dim=context_dim or 0)
    if rank is not None:
        check_sizes(rank=rank)
        if rank >= levels or levels == 2:
            raise ValueError(f"rank: expected less than levels={levels}, or it would do nothing, got {rank}")
    num_params, rank = integer_head(levels).num_params, _RANK if rank is None else rank
    network = ResidualMLP(
        in_dim,
        size * min(num_params, rank),
        context_dim=_SHARE.dim + (context_dim or 0),
        width=width,
        depth=depth,
        dropout=dropout,
        key=key,
    )
    return LevelFeatures(network, size=size, levels=levels, rank=rank) if num_params > rank else network
