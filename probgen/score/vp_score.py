"""The recipe of a score model with a variance-preserving SDE."""

import math
from typing import Any

from jax import Array

from probgen.core import as_shape, check_positive, check_sizes, recipe
from probgen.distributions import ConditionalModel
from probgen.networks import LevelFeatures, NoiseEmbedding, Reshaped, ResidualMLP
from probgen.score.decoder import LevelDecoder
from probgen.score.denoiser import LevelDenoiser, RealDenoiser
from probgen.score.schedules import LinearLogSNR
from probgen.score.score_model import ScoreModel
from probgen.score.sde import falls
from probgen.score.stochastic_samplers import Ancestral

_RANK = 32


@recipe
def vp_score(
    event_shape: tuple[int, ...],
    *,
    levels: int | None = None,
    width: int = 256,
    depth: int = 3,
    rank: int | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    log_snr: tuple[float, float] | None = None,
    steps: int = 100,
    context_dim: int | None = None,
    drop_context: float = 0.0,
    key: Array,
) -> ScoreModel | ConditionalModel:
    """A variance-preserving diffusion with a residual network for a denoiser, and ancestral sampling.

        dx = f(t) x dt + g(t) dw,   λ(t) from λ_max to λ_min linearly;   x̂ of a `LevelDenoiser` or `RealDenoiser`

    Args:
        event_shape: shape of one event; images have three axes.
        levels: L of integers 0..L−1; None for reals.
        width: the width of the network.
        depth: how many blocks it has.
        rank: more levels than that (32 by default) are logits of so many features a position (`LevelFeatures`),
            so that the parameters do not grow with `width` · D · L.
        dropout: its rate of dropout.
        scale: the standard deviation of (centred) real data, 1 by default.
        log_snr: (λ_max, λ_min), by default (7, −7) of reals; of integers λ_max is where half a step between levels is
            two standard deviations of the noise.
        steps: those of the sampler.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where one is out of its range, or would not act: a `rank` of no fewer features than there are
    levels, a `scale` of integers.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456; Variational Diffusion
    Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630.

    >>> import jax, jax.numpy as jnp
    >>> model = vp_score((4, 4), levels=17, width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 4, 4), int)).shape
    (3,)
    """
    event_shape = as_shape(event_shape, fewest=0)
    _check(levels, rank, scale)
    log_snr = _ends(levels) if log_snr is None else log_snr
    if not falls(log_snr):
        raise ValueError(f"log_snr: expected two finite numbers, the first above the second, got {log_snr}")
    embedding = NoiseEmbedding(reach=max(abs(end) for end in log_snr))
    size, rank = math.prod(event_shape), _RANK if rank is None else rank
    network: Any = ResidualMLP(
        size,
        size * min(levels or 1, rank),
        context_dim=embedding.dim + (context_dim or 0) + (drop_context > 0),
        width=width,
        depth=depth,
        dropout=dropout,
        key=key,
    )
    if levels is not None and levels > rank:
        network = LevelFeatures(network, size=size, levels=levels, rank=rank)
    network = Reshaped(network, (size,))
    condition: dict[str, Any] = {"context_dim": context_dim, "drop_context": drop_context}
    denoiser = (
        RealDenoiser(network, embedding, scale=1.0 if scale is None else scale, **condition)
        if levels is None
        else LevelDenoiser(network, embedding, levels=levels, **condition)
    )
    decoder = None if levels is None else LevelDecoder(levels)
    model = ScoreModel(denoiser, LinearLogSNR(*log_snr), event_shape, decoder=decoder, sampler=Ancestral(steps))
    return ConditionalModel(model, (context_dim,)) if context_dim else model


def _ends(levels: int | None) -> tuple[float, float]:
    return (7.0 if levels is None else 2.0 * math.log(2.0 * (levels - 1)), -7.0)


def _check(levels: int | None, rank: int | None, scale: float | None) -> None:
    if levels is not None:
        check_sizes(2, levels=levels)
    if scale is not None:
        check_positive(scale=scale)
        if levels is not None:
            raise ValueError(f"scale: expected none beside levels, which are put into [-1, 1], got {scale}")
    if rank is not None:
        check_sizes(rank=rank)
        if levels is None or rank >= levels:
            raise ValueError(f"rank: expected less than levels={levels}, or it would do nothing, got {rank}")
