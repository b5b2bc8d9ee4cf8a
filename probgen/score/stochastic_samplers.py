"""Samplers that draw new noise at each step."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_positive, check_sizes, in_words
from probgen.score.denoiser import Denoise
from probgen.score.grids import TimeGrid
from probgen.score.sampler import State, StepSampler
from probgen.score.sde import SDE, posterior


@dataclass(frozen=True)
class Ancestral(StepSampler):
    """The posterior of the forward process with x̂ for x; the sampler of the model whose bound is reported.

        z_s ~ q(z_s | z_t, x = x̂) = Normal(α_s (z_t (1 − c) / α_t + c x̂), c σ_s²),   c = 1 − exp(λ_t − λ_s)

    Args:
        steps: how many.
        grid: of the times.
        progress: whether a bar counts the steps, or its name.

    References: Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239; in this form
    Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, appendix A.
    """

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        mean, deviation = self.transition(denoise(z, t), sde, z, t, s)
        return mean + deviation * jax.random.normal(key, z.shape, z.dtype), state

    def transition(self, x: Array, sde: SDE, z: Array, t: Array, s: Array) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of z_s given z_t and x̂."""
        return posterior(x, z, sde.marginal(t)[0], sde.marginal(s), sde.log_snr(s) - sde.log_snr(t))


@dataclass(frozen=True)
class EulerMaruyama(StepSampler):
    """Euler–Maruyama steps of the reverse SDE.

        dx = (f x − g² ∇ log p_t(x)) dt + g dw̄

    Args:
        steps: how many.
        grid: of the times.
        progress: whether a bar counts the steps, or its name.

    References: Reverse-time diffusion equation models (Anderson 1982), Stochastic Processes and their Applications 12;
    Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456.
    """

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        score, g, dt = _score(denoise, sde, z, t), sde.diffusion(t), t - s
        noise = jax.random.normal(key, z.shape, z.dtype)
        return z - dt * (sde.drift(t) * z - g**2 * score) + jnp.sqrt(dt) * g * noise, state


@dataclass(frozen=True)
class ReverseDiffusion(StepSampler):
    """The forward process's own steps, turned around: x_t | x_s ~ Normal(a x_s, v), a = α_t/α_s, v = σ_t² − a² σ_s².

        z_s = (2 − a) z_t + v ∇ log p_t(z_t) + √v ε

    Args:
        steps: how many.
        grid: of the times.
        progress: whether a bar counts the steps, or its name.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456, appendix E.
    """

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        (alpha, sigma), (alpha_s, _) = sde.marginal(t), sde.marginal(s)
        a = alpha / alpha_s
        variance = -jnp.expm1(sde.log_snr(t) - sde.log_snr(s)) * sigma**2
        noise = jax.random.normal(key, z.shape, z.dtype)
        return (2.0 - a) * z + variance * _score(denoise, sde, z, t) + jnp.sqrt(variance) * noise, state


_REVERSE = ReverseDiffusion()


@dataclass(frozen=True)
class Corrected(StepSampler):
    """A sampler each of whose steps is followed by Langevin steps at the time where it ends.

        z ← z + δ ∇ log p_s(z) + √(2 δ) ε,   δ = 2 (r σ_s)²

    The published step, 2 (r |ε| / |∇ log p_s|)² with norms averaged over a batch, makes draws depend on what else is
    drawn with them; here E|ε|² and D/σ_s², the squared norm of the noise's own score, stand for those.

    Args:
        predictor: the sampler.
        corrections: how many Langevin steps follow each of its steps.
        snr: r, the signal-to-noise ratio of a Langevin step, more than 0.

    Raises ValueError where an argument is out of its range.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456,
    algorithms 2 to 5; Generative Modeling by Estimating Gradients of the Data Distribution (Song, Ermon 2019),
    arXiv:1907.05600, algorithm 1.
    """

    steps: int = field(init=False)
    grid: TimeGrid = field(init=False)
    progress: bool | str = field(init=False, kw_only=True)
    predictor: StepSampler = _REVERSE
    corrections: int = 1
    snr: float = 0.16

    def __post_init__(self) -> None:
        if not isinstance(self.predictor, StepSampler):
            raise ValueError(f"predictor: expected a sampler that takes steps, got {in_words(self.predictor)}")
        check_sizes(corrections=self.corrections)
        check_positive(snr=self.snr)
        for name in ("steps", "grid", "progress"):
            object.__setattr__(self, name, getattr(self.predictor, name))

    def init(self, z: Array) -> State:
        """Return what the predictor remembers before its first step."""
        return self.predictor.init(z)

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t, and the corrections at s."""
        key, first = jax.random.split(key)
        z, state = self.predictor.step(first, denoise, sde, z, state, t, s)
        delta = 2.0 * (self.snr * sde.marginal(s)[1]) ** 2

        def correct(z: Array, key: Array) -> tuple[Array, None]:
            noise = jax.random.normal(key, z.shape, z.dtype)
            return z + delta * _score(denoise, sde, z, s) + jnp.sqrt(2.0 * delta) * noise, None

        z, _ = jax.lax.scan(correct, z, jax.random.split(key, self.corrections))
        return z, state


def _score(denoise: Denoise, sde: SDE, z: Array, t: Array) -> Array:
    """Return ∇ log p_t(z), by Tweedie's formula."""
    alpha, sigma = sde.marginal(t)
    return (alpha * denoise(z, t) - z) / sigma**2
