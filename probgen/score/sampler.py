"""From noise at t = 1 to (almost) data at t = 0, in equal steps of t, as one `lax.scan`."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import check_sizes
from probgen.score.denoiser import Denoise
from probgen.score.sde import SDE

State = Any  # what a sampler remembers from step to step


@dataclass(frozen=True)
class Sampler:
    """The base of samplers: z_1 ~ Normal(0, c(1)² I), then `step` from t down to s, `steps` times.

    `denoise` is z, t ↦ x̂ = E[x | x_t = z]: a denoiser `under` the SDE. A subclass writes `step(key, denoise, sde, z,
    state, t, s) -> (z_s, state)` for one event, and `init(z) -> state` where it remembers something from step to step.

    Args:
        steps: how many.

    Raises ValueError where `steps` < 1.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        check_sizes(steps=self.steps)

    def init(self, z: Array) -> State:
        """Return what is remembered before the first step: nothing, by default."""
        return None

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t, and return z there and the state."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def __call__(self, key: Array, denoise: Denoise, sde: SDE, z: Array) -> Array:
        """Take all steps from z at t = 1, and return z at t = 0."""
        times = jnp.linspace(1.0, 0.0, self.steps + 1, dtype=z.dtype)

        def body(carry: tuple[Array, State], now: tuple[Array, Array, Array]) -> tuple[tuple[Array, State], None]:
            key, t, s = now
            return self.step(key, denoise, sde, *carry, t, s), None

        keys = jax.random.split(key, self.steps)
        return lax.scan(body, (z, self.init(z)), (keys, times[:-1], times[1:]))[0][0]


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The posterior of the forward process with x̂ for x; the sampler of the model whose bound is reported.

        z_s ~ q(z_s | z_t, x = x̂) = Normal(α_s (z_t (1 − c) / α_t + c x̂), c σ_s²),   c = 1 − exp(λ_t − λ_s)

    Args:
        steps: how many.

    References: Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239; in this form
    Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, appendix A.
    """

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        (alpha, _), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
        c = -jnp.expm1(sde.log_snr(t) - sde.log_snr(s))
        mean = alpha_s * (z * (1.0 - c) / alpha + c * denoise(z, t))
        return mean + jnp.sqrt(c) * sigma_s * jax.random.normal(key, z.shape, z.dtype), state


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """Euler–Maruyama steps of the reverse SDE.

        dx = (f x − g² ∇ log p_t(x)) dt + g dw̄

    Args:
        steps: how many.

    References: Reverse-time diffusion equation models (Anderson 1982), Stochastic Processes and their Applications 12;
    Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456.
    """

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        (alpha, sigma), g, dt = sde.marginal(t), sde.diffusion(t), t - s
        score = (alpha * denoise(z, t) - z) / sigma**2  # Tweedie's formula
        noise = jax.random.normal(key, z.shape, z.dtype)
        return z - dt * (sde.drift(t) * z - g**2 * score) + jnp.sqrt(dt) * g * noise, state


@dataclass(frozen=True)
class DDIM(Sampler):
    """Deterministic steps that keep x̂ and ε̂: Euler's method for the probability-flow ODE in z/α against σ/α.

        z_s = α_s x̂ + σ_s ε̂

    Args:
        steps: how many.

    References: Denoising Diffusion Implicit Models (Song, Meng, Ermon 2021), arXiv:2010.02502.
    """

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        x, (alpha_s, sigma_s) = denoise(z, t), sde.marginal(s)
        return alpha_s * x + sigma_s * _noise(x, z, sde, t), state


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's second-order method for the same ODE, two calls of the network a step.

        d(z/α) = ε̂ dρ,   ρ = σ/α

    Args:
        steps: how many.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, algorithm 1.
    """

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        (alpha, sigma), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
        drho = sigma_s / alpha_s - sigma / alpha
        eps = _noise(denoise(z, t), z, sde, t)
        euler = alpha_s * (z / alpha + drho * eps)
        eps_s = _noise(denoise(euler, s), euler, sde, s)
        return alpha_s * (z / alpha + drho * 0.5 * (eps + eps_s)), state


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++(2M): second order for the same ODE with one call of the network a step, by the x̂ of the last step.

        z_s = (σ_s / σ_t) z_t − α_s (e^{−h} − 1) D,   h = (λ_s − λ_t) / 2
        D = x̂_t + (h / 2 h₋) (x̂_t − x̂₋)

    where x̂₋ and h₋ are those of the step before; the first step has D = x̂_t, and is one of DDIM.

    Args:
        steps: how many.

    References: DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu, Zhou, Bao, Chen,
    Li, Zhu 2022), arXiv:2211.01095, algorithm 2.
    """

    def init(self, z: Array) -> State:
        """Return (x̂ of the last step, its h), of which there is none yet."""
        return jnp.zeros_like(z), jnp.full((), jnp.inf, z.dtype)

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        before, last = state
        (_, sigma), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
        h, x = (sde.log_snr(s) - sde.log_snr(t)) / 2, denoise(z, t)
        forward = x + h / (2 * last) * (x - before)  # where there was no step before, h / ∞
        return sigma_s / sigma * z - alpha_s * jnp.expm1(-h) * forward, (x, h)


def _noise(x: Array, z: Array, sde: SDE, t: Array) -> Array:
    alpha, sigma = sde.marginal(t)
    return (z - alpha * x) / sigma
