"""The recipes of diffusions of integers."""

import math
from collections.abc import Sequence
from typing import Any

from jax import Array

from probgen.core import Contextual, as_shape, check_sizes, recipe
from probgen.distributions import ConditionalModel, integer_head
from probgen.networks import MaskedLevels, NoiseEmbedding, Pixels
from probgen.score.assembly import Architecture, Condition, check_data, of_levels
from probgen.score.dropped_context import DroppingContext
from probgen.score.masked_diffusion import MaskedDiffusion
from probgen.score.uniform_diffusion import AtShare, UniformDiffusion
from probgen.score.unmasking import InSteps, OneByOne

_SHARE = NoiseEmbedding(17, reach=1.0, fastest=8.0)


@recipe
def masked_diffusion(
    event_shape: Sequence[int],
    *,
    levels: int,
    width: int | None = None,
    depth: int | None = None,
    channels: int | Sequence[int] | None = None,
    patch: int | None = None,
    rank: int | None = None,
    dropout: float = 0.0,
    steps: int | None = None,
    context_dim: int | None = None,
    drop_context: float = 0.0,
    key: Array,
) -> MaskedDiffusion | ConditionalModel:
    """A masked diffusion of integers 0..levels−1: an any-order autoregressive model.

        log p(x) ≥ E_σ Σ_i log Categorical(x_{σ_i}; logits_{σ_i}(x_{σ_1}, …, x_{σ_{i−1}}))

    Args:
        event_shape: shape of one event.
        levels: L, how many integers a number takes, at least 2.
        width: of a dense network (256 by default), or of the patches of a transformer (128).
        depth: blocks, of a dense network or a `ResidualCNN` (3), each stage of a U-Net (1), a transformer (4).
        channels: of a `ResidualCNN`, or those of each stage of a `UNet`: the network then.
        patch: the size of the patches of a diffusion transformer, which is the network then.
        rank: more levels than that (32 by default) are logits of so many features a position (`LevelFeatures`).
        dropout: its rate of dropout.
        steps: those of a draw, and of the bound with it (`InSteps`); by default one for each number (`OneByOne`).
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where one is out of its range, or a `rank` would not act.

    References: Autoregressive Diffusion Models (Hoogeboom et al. 2022), arXiv:2110.02037; Simple and Effective Masked
    Diffusion Language Models (Sahoo et al. 2024), arXiv:2406.07524.

    >>> import jax, jax.numpy as jnp
    >>> model = masked_diffusion((4, 4), levels=17, width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 4, 4), int)).shape
    (3,)
    """
    event_shape, architecture = as_shape(event_shape), Architecture(width, depth, channels, patch, dropout)
    condition = Condition(context_dim, drop_context)
    logits = _logits(event_shape, levels, architecture, rank, condition, key, inputs=2)
    network: Any = MaskedLevels(logits, levels, architecture.shape(event_shape), _SHARE)
    unmasking = OneByOne() if steps is None else InSteps(steps)
    if drop_context:
        network = DroppingContext(network, **condition._asdict())
    elif context_dim:
        network = Contextual(network)
    model = MaskedDiffusion(network, integer_head(levels), event_shape, unmasking=unmasking)
    return ConditionalModel(model, (context_dim,)) if context_dim else model


@recipe
def uniform_diffusion(
    event_shape: Sequence[int],
    *,
    levels: int,
    width: int | None = None,
    depth: int | None = None,
    channels: int | Sequence[int] | None = None,
    patch: int | None = None,
    rank: int | None = None,
    dropout: float = 0.0,
    steps: int = 100,
    context_dim: int | None = None,
    key: Array,
) -> UniformDiffusion | ConditionalModel:
    """A diffusion of integers 0..levels−1 by uniform noise (D3PM's uniform one).

        q(z_t | x) = Categorical(α_t δ_x + (1 − α_t) / L),   α_t = 1 − t / T

    Args:
        event_shape: shape of one event.
        levels: L, how many integers a number takes, at least 2.
        width: of a dense network (256 by default), or of the patches of a transformer (128).
        depth: blocks, of a dense network or a `ResidualCNN` (3), each stage of a U-Net (1), a transformer (4).
        channels: of a `ResidualCNN`, or those of each stage of a `UNet`: the network then.
        patch: the size of the patches of a diffusion transformer, which is the network then.
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
    event_shape, architecture = as_shape(event_shape), Architecture(width, depth, channels, patch, dropout)
    logits = _logits(event_shape, levels, architecture, rank, Condition(context_dim, 0.0), key, inputs=1)
    network = AtShare(Pixels(logits, levels, architecture.shape(event_shape)), _SHARE, context_dim)
    model = UniformDiffusion(network, integer_head(levels), event_shape, steps=steps)
    return ConditionalModel(model, (context_dim,)) if context_dim else model


def _logits(
    event_shape: tuple[int, ...],
    levels: int,
    architecture: Architecture,
    rank: int | None,
    conditional_on: Condition,
    key: Array,
    *,
    inputs: int,
) -> Any:
    """Return the network of `inputs` reals for each number, and of features of the noise and a context, to logits."""
    check_sizes(0, context_dim=conditional_on.context_dim or 0)
    num_params = integer_head(levels).num_params
    check_data(levels, rank if num_params > 1 else None, None)
    if rank is not None and num_params == 1:
        raise ValueError(f"rank: expected less than levels={levels}, or it would do nothing, got {rank}")
    of = lambda numbers: architecture.build(
        event_shape, numbers, _SHARE.dim + conditional_on.numbers, key, inputs=inputs
    )  # fmt: skip
    return of_levels(of, math.prod(event_shape), num_params, rank)
