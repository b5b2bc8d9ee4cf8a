"""Recipes of score models by their SDE: variance preserving, below that, exploding."""

from collections.abc import Sequence

from jax import Array

from probgen.core import recipe
from probgen.distributions import ConditionalModel
from probgen.score.assembly import Architecture, Condition, assembled, ends_of
from probgen.score.losses import Denoising
from probgen.score.schedules import GeometricSigma, LinearLogSNR, SubLinearBeta
from probgen.score.score_model import ScoreModel
from probgen.score.stochastic_samplers import Ancestral, Corrected, ReverseDiffusion
from probgen.score.weights import LikelihoodWeight


@recipe
def vp_score(
    event_shape: tuple[int, ...],
    *,
    levels: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    channels: int | Sequence[int] | None = None,
    patch: int | None = None,
    rank: int | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    log_snr: tuple[float, float] | None = None,
    steps: int = 100,
    context_dim: int | None = None,
    drop_context: float = 0.0,
    key: Array,
) -> ScoreModel | ConditionalModel:
    """A variance-preserving diffusion, trained by denoising with the weight of the likelihood, and ancestral sampling.

        dx = f(t) x dt + g(t) dw,   λ(t) from λ_max to λ_min linearly;   x̂ of a `LevelDenoiser` or `RealDenoiser`

    The loss is the bound without its terms at the two ends, of which one has nothing to learn, and the other teaches
    what least noise teaches, at twice the cost of a step. `model.replace(loss=Bound())` has them.

    Args:
        event_shape: shape of one event; images have two or three axes.
        levels: L of integers 0..L−1; None for reals.
        width: of a dense network (256 by default), or of the patches of a transformer (128).
        depth: blocks, of a dense network or a `ResidualCNN` (3), each stage of a U-Net (1), a transformer (4).
        channels: of a `ResidualCNN`, or those of each stage of a `UNet`: the network then.
        patch: the size of the patches of a diffusion transformer, which is the network then.
        rank: more levels than that (32 by default) are logits of so many features a position (`LevelFeatures`).
        dropout: the network's rate of dropout.
        scale: the standard deviation of (centred) real data, 1 by default.
        log_snr: (λ_max, λ_min), by default (7, −7) of reals; of integers λ_max is where half a step between levels is
            two standard deviations of the noise.
        steps: those of the sampler.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where an argument is out of its range, or would not act.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456;
    Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630.

    >>> import jax, jax.numpy as jnp
    >>> model = vp_score((4, 4), levels=17, width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 4, 4), int)).shape
    (3,)
    """
    return assembled(
        event_shape, LinearLogSNR(*ends_of(log_snr, levels)), Architecture(width, depth, channels, patch, dropout),
        Condition(context_dim, drop_context), levels=levels, rank=rank, scale=scale, sampler=Ancestral(steps),
        loss=Denoising(LikelihoodWeight()), key=key,
    )  # fmt: skip


@recipe
def subvp_score(
    event_shape: tuple[int, ...],
    *,
    levels: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    channels: int | Sequence[int] | None = None,
    patch: int | None = None,
    rank: int | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    steps: int = 100,
    context_dim: int | None = None,
    drop_context: float = 0.0,
    key: Array,
) -> ScoreModel | ConditionalModel:
    """A diffusion of less variance than the preserving one, trained by denoising score matching.

        dx = −½ β x du + √(β (1 − exp(−2 B))) dw,   B(u) the integral of β from 0 to u, β linear

    Args:
        event_shape: shape of one event; images have two or three axes.
        levels: L of integers 0..L−1; None for reals.
        width: of a dense network (256 by default), or of the patches of a transformer (128).
        depth: blocks, of a dense network or a `ResidualCNN` (3), each stage of a U-Net (1), a transformer (4).
        channels: of a `ResidualCNN`, or those of each stage of a `UNet`: the network then.
        patch: the size of the patches of a diffusion transformer, which is the network then.
        rank: more levels than that (32 by default) are logits of so many features a position (`LevelFeatures`).
        dropout: the network's rate of dropout.
        scale: the standard deviation of (centred) real data, 1 by default.
        steps: those of the ancestral sampler.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where an argument is out of its range, or would not act.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456, section 3.4.

    >>> import jax, jax.numpy as jnp
    >>> model = subvp_score((2,), width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 2))).shape
    (3,)
    """
    return assembled(
        event_shape, SubLinearBeta(), Architecture(width, depth, channels, patch, dropout),
        Condition(context_dim, drop_context), levels=levels, rank=rank, scale=scale, sampler=Ancestral(steps),
        loss=Denoising(), key=key,
    )  # fmt: skip


@recipe
def ve_score(
    event_shape: tuple[int, ...],
    *,
    levels: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    channels: int | Sequence[int] | None = None,
    patch: int | None = None,
    rank: int | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    sigma_min: float = 0.01,
    sigma_max: float = 50.0,
    steps: int = 100,
    context_dim: int | None = None,
    drop_context: float = 0.0,
    key: Array,
) -> ScoreModel | ConditionalModel:
    """A variance-exploding diffusion, trained by denoising score matching, drawn by predictor and corrector.

        x_t = x + σ(t) ε,   σ(t) = σ_min (σ_max / σ_min)^t

    Args:
        event_shape: shape of one event; images have two or three axes.
        levels: L of integers 0..L−1; None for reals.
        width: of a dense network (256 by default), or of the patches of a transformer (128).
        depth: blocks, of a dense network or a `ResidualCNN` (3), each stage of a U-Net (1), a transformer (4).
        channels: of a `ResidualCNN`, or those of each stage of a `UNet`: the network then.
        patch: the size of the patches of a diffusion transformer, which is the network then.
        rank: more levels than that (32 by default) are logits of so many features a position (`LevelFeatures`).
        dropout: the network's rate of dropout.
        scale: the standard deviation of (centred) real data, 1 by default.
        sigma_min: σ at the data, more than 0; integers are put evenly from −1 to 1.
        sigma_max: σ at the noise, more than `sigma_min`.
        steps: those of the sampler, each with a Langevin step after it.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where an argument is out of its range, or would not act.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456,
    algorithm 2.

    >>> import jax, jax.numpy as jnp
    >>> model = ve_score((2,), width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 2))).shape
    (3,)
    """
    return assembled(
        event_shape, GeometricSigma(sigma_min, sigma_max), Architecture(width, depth, channels, patch, dropout),
        Condition(context_dim, drop_context), levels=levels, rank=rank, scale=scale,
        sampler=Corrected(ReverseDiffusion(steps)), loss=Denoising(), key=key,
    )  # fmt: skip
