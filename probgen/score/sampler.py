"""From noise at t = 1 to (almost) data at t = 0, in equal steps of t, as one `lax.scan`."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import check_sizes
from probgen.score.denoiser import to_noise
from probgen.score.sde import VP, coefficients

Denoise = Callable[[Array, Array], Array]  # z, λ ↦ E[x | z]


@dataclass(frozen=True)
class Sampler:
    """The base of samplers: z_1 ~ Normal(0, I), then `step` from t down to s, `steps` times.

    A subclass writes `step(key, denoise, sde, z, t, s) -> z_s` for one event. Raises ValueError where `steps` < 1.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        check_sizes(steps=self.steps)

    def step(self, key: Array, denoise: Denoise, sde: VP, z: Array, t: Array, s: Array) -> Array:
        """One step from t to s < t."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def __call__(self, key: Array, denoise: Denoise, sde: VP, z: Array) -> Array:
        """All steps from z at t = 1; returns z at t = 0."""
        times = jnp.linspace(1.0, 0.0, self.steps + 1, dtype=z.dtype)

        def body(z: Array, now: tuple[Array, Array, Array]) -> tuple[Array, None]:
            key, t, s = now
            return self.step(key, denoise, sde, z, t, s), None

        return lax.scan(body, z, (jax.random.split(key, self.steps), times[:-1], times[1:]))[0]


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The posterior of the forward process with x̂ for x; the sampler of the model whose bound is reported.

        z_s ~ q(z_s | z_t, x = x̂) = Normal(α_s (z_t (1 − c) / α_t + c x̂), c σ_s²),   c = 1 − exp(λ_t − λ_s)

    References: Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239; in this form
    Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, appendix A.
    """

    def step(self, key: Array, denoise: Denoise, sde: VP, z: Array, t: Array, s: Array) -> Array:
        """One step from t to s < t."""
        now, then = sde.log_snr(t), sde.log_snr(s)
        (alpha, _), (alpha_s, sigma_s) = coefficients(now), coefficients(then)
        c = -jnp.expm1(now - then)
        mean = alpha_s * (z * (1.0 - c) / alpha + c * denoise(z, now))
        return mean + jnp.sqrt(c) * sigma_s * jax.random.normal(key, z.shape, z.dtype)


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """Euler–Maruyama steps of the reverse SDE.

        dx = (f x − g² ∇ log p_t(x)) dt + g dw̄

    References: Reverse-time diffusion equation models (Anderson 1982), Stochastic Processes and their Applications 12;
    Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456.
    """

    def step(self, key: Array, denoise: Denoise, sde: VP, z: Array, t: Array, s: Array) -> Array:
        """One step from t to s < t."""
        log_snr, dt = sde.log_snr(t), t - s
        score = -to_noise(denoise(z, log_snr), z, log_snr) / coefficients(log_snr)[1]
        g = sde.diffusion(t)
        noise = jax.random.normal(key, z.shape, z.dtype)
        return z - dt * (sde.drift(t) * z - g**2 * score) + jnp.sqrt(dt) * g * noise


@dataclass(frozen=True)
class DDIM(Sampler):
    """Deterministic steps that keep x̂ and ε̂: Euler's method for the probability-flow ODE in z/α against σ/α.

        z_s = α_s x̂ + σ_s ε̂

    References: Denoising Diffusion Implicit Models (Song, Meng, Ermon 2021), arXiv:2010.02502.
    """

    def step(self, key: Array, denoise: Denoise, sde: VP, z: Array, t: Array, s: Array) -> Array:
        """One step from t to s < t."""
        log_snr = sde.log_snr(t)
        x = denoise(z, log_snr)
        alpha_s, sigma_s = sde.marginal(s)
        return alpha_s * x + sigma_s * to_noise(x, z, log_snr)


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's second-order method for the same ODE, two calls of the network a step.

        d(z/α) = ε̂ dρ,   ρ = σ/α

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, algorithm 1.
    """

    def step(self, key: Array, denoise: Denoise, sde: VP, z: Array, t: Array, s: Array) -> Array:
        """One step from t to s < t."""
        now, then = sde.log_snr(t), sde.log_snr(s)
        alpha, alpha_s = coefficients(now)[0], coefficients(then)[0]
        drho = jnp.exp(-0.5 * then) - jnp.exp(-0.5 * now)
        eps = to_noise(denoise(z, now), z, now)
        euler = alpha_s * (z / alpha + drho * eps)
        eps_s = to_noise(denoise(euler, then), euler, then)
        return alpha_s * (z / alpha + drho * 0.5 * (eps + eps_s))
