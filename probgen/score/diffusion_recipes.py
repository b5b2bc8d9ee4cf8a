"""Recipes of score models by the paper that named them: DDPM, VDM, EDM, flow matching."""

from collections.abc import Sequence

from jax import Array

from probgen.core import recipe
from probgen.distributions import ConditionalModel
from probgen.score.assembly import Architecture, Condition, assembled, ends_of
from probgen.score.coupling import OptimalTransport
from probgen.score.learned_schedule import LearnedLogSNR
from probgen.score.losses import Denoising, edm_loss, flow_matching_loss
from probgen.score.ode_samplers import Heun
from probgen.score.schedules import LinearBeta, PowerSigma, Straight
from probgen.score.score_model import ScoreModel
from probgen.score.stochastic_samplers import Ancestral
from probgen.score.targets import FlowVelocity, Noise


@recipe
def ddpm(
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
    steps: int = 1000,
    context_dim: int | None = None,
    drop_context: float = 0.0,
    key: Array,
) -> ScoreModel | ConditionalModel:
    """A latent-variable model of many layers with a fixed posterior, trained to say the noise.

        z_s | z_t of `Ancestral`,   loss = E ‖ε − ε̂(z_t)‖²,   bound = that of its `steps` layers

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
        steps: T, the layers, and the sampler's steps.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where an argument is out of its range, or would not act.

    References: Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239.

    >>> import jax, jax.numpy as jnp
    >>> model = ddpm((2,), width=8, depth=1, steps=50, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 2))).shape
    (3,)
    """
    return assembled(
        event_shape, LinearBeta(), Architecture(width, depth, channels, patch, dropout),
        Condition(context_dim, drop_context), levels=levels, rank=rank, scale=scale, sampler=Ancestral(steps),
        loss=Denoising(), target=Noise() if levels is None else None, stepwise=True, key=key,
    )  # fmt: skip


@recipe
def vdm(
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
    """A variational diffusion model: trained on its bound, with a noise schedule that learns.

        λ(t) of a `LearnedLogSNR`: its ends by the bound, its interior by the variance of the bound's estimate

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
        log_snr: (λ_max, λ_min) at the start, by default (7, −7) of reals; of integers λ_max is where half a step
            between levels is two standard deviations of the noise.
        steps: those of the sampler.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where an argument is out of its range, or would not act.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630.

    >>> import jax, jax.numpy as jnp
    >>> model = vdm((2,), width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 2))).shape
    (3,)
    """
    return assembled(
        event_shape, LearnedLogSNR(*ends_of(log_snr, levels)), Architecture(width, depth, channels, patch, dropout),
        Condition(context_dim, drop_context), levels=levels, rank=rank, scale=scale, sampler=Ancestral(steps), key=key,
    )  # fmt: skip


@recipe
def edm(
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
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    steps: int = 18,
    context_dim: int | None = None,
    drop_context: float = 0.0,
    key: Array,
) -> ScoreModel | ConditionalModel:
    """EDM: noise levels, weights and preconditioning by themselves; Heun's method over σ^{1/ρ}.

        x_t = x + σ ε,   log σ ~ Normal(−1.2, 1.2²) in training,   loss of the network F at unit weight

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
        steps: those of the sampler, of two calls of the network each.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where an argument is out of its range, or would not act.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364.

    >>> import jax, jax.numpy as jnp
    >>> model = edm((2,), width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 2))).shape
    (3,)
    """
    return assembled(
        event_shape, PowerSigma(sigma_min, sigma_max), Architecture(width, depth, channels, patch, dropout),
        Condition(context_dim, drop_context), levels=levels, rank=rank, scale=scale, sampler=Heun(steps),
        loss=edm_loss(1.0 if scale is None else scale), key=key,
    )  # fmt: skip


@recipe
def flow_matching(
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
    optimal_transport: bool = False,
    steps: int = 16,
    context_dim: int | None = None,
    drop_context: float = 0.0,
    key: Array,
) -> ScoreModel | ConditionalModel:
    """Flow matching: the velocity of straight lines from data to noise, and Heun's method along it.

        x_u = (1 − u) x + u ε,   loss = E ‖(ε − x) − v(x_u, u)‖²

    Its bound is a noisy estimate along these lines (see `Straight`): evaluate
    `model.replace(sde=LinearLogSNR(15.0, -15.0))`, whose bound has the same mean.

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
        optimal_transport: whether the noise of a batch is dealt out to its rows by `OptimalTransport`: straighter
            paths; only without contexts.
        steps: those of the sampler, of two calls of the network each.
        context_dim: makes it a `ConditionalModel` of contexts [context_dim].
        drop_context: the rate at which training drops contexts, so that the model can be `guided`.
        key: draws the weights.

    Raises ValueError where an argument is out of its range, or would not act.

    References: Flow Matching for Generative Modeling (Lipman, Chen, Ben-Hamu, Nickel, Le 2023), arXiv:2210.02747;
    Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (Tong et al. 2024),
    arXiv:2302.00482.

    >>> import jax, jax.numpy as jnp
    >>> model = flow_matching((2,), width=8, depth=1, key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 2))).shape
    (3,)
    """
    if optimal_transport and context_dim:
        raise ValueError(f"optimal_transport: expected no contexts beside it, got context_dim={context_dim}")
    loss = flow_matching_loss(OptimalTransport() if optimal_transport else None)
    return assembled(
        event_shape, Straight(), Architecture(width, depth, channels, patch, dropout),
        Condition(context_dim, drop_context), levels=levels, rank=rank, scale=scale,
        sampler=Heun(steps, straight=True), loss=loss,
        target=FlowVelocity() if levels is None else None, key=key,
    )  # fmt: skip
