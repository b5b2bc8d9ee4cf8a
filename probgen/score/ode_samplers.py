"""Samplers by the probability-flow ODE, d(z/α) = ε̂ dρ with ρ = σ/α, and what of them also draws noise."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_not_negative, check_sizes
from probgen.score.denoiser import Denoise
from probgen.score.sampler import State, StepSampler
from probgen.score.sde import SDE


@dataclass(frozen=True)
class DDIM(StepSampler):
    """Steps that keep x̂ and ε̂: Euler's method for the ODE, or, for η > 0, with a share of fresh noise.

        z_s = α_s x̂ + σ_s √(1 − η² c) ε̂ + η σ_s √c ε,   c = 1 − exp(λ_t − λ_s)

    With η = 1 it is `Ancestral`.

    Args:
        steps: how many.
        grid: of the times.
        eta: η, in [0, 1].
        progress: whether a bar counts the steps, or its name.

    Raises ValueError where an argument is out of its range.

    References: Denoising Diffusion Implicit Models (Song, Meng, Ermon 2021), arXiv:2010.02502, equation 16.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta: expected a number in [0, 1], got {self.eta}")

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        x, (alpha_s, sigma_s) = denoise(z, t), sde.marginal(s)
        fresh = -(self.eta**2) * jnp.expm1(sde.log_snr(t) - sde.log_snr(s))
        mean = alpha_s * x + sigma_s * jnp.sqrt(1.0 - fresh) * _noise(x, z, sde, t)
        if self.eta == 0.0:
            return mean, state
        return mean + sigma_s * jnp.sqrt(fresh) * jax.random.normal(key, z.shape, z.dtype), state


@dataclass(frozen=True)
class Heun(StepSampler):
    """Heun's second-order method, two calls of the network a step; with churn, each step first goes back a little.

        z_s/α_s = z/α + (ρ_s − ρ) ½ (ε̂ + ε̂_s),   ρ = σ/α
        straight:  y_s = y + (u_s − u) ½ (v + v_s),   y = z/(α + σ),  u = σ/(α + σ),  v = ε̂ − x̂

        ρ̂ = (1 + γ) ρ,   γ = min(churn / steps, √2 − 1) where ρ lies in `churned`

    The first is EDM's, for steps that are even in a power of ρ. At pure noise ρ is infinite, so that even steps of time
    are lost there: the second, the ODE of flow matching, is for those.

    Args:
        steps: how many.
        grid: of the times.
        straight: whether the ODE is followed along u, in which paths of flow matching are straight.
        churn: how much noise is added again, over all steps.
        churned: the least and the largest ρ = σ/α at which it is.
        progress: whether a bar counts the steps, or its name.

    Raises ValueError where an argument is out of its range, or would do nothing.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, algorithms 1 and 2.
    """

    straight: bool = False
    churn: float = 0.0
    churned: tuple[float, float] = (0.0, math.inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(churn=self.churn)
        if not 0.0 <= self.churned[0] < self.churned[1]:
            raise ValueError(f"churned: expected two numbers, the first below the second, got {self.churned}")
        if self.churn == 0.0 and self.churned != (0.0, math.inf):
            raise ValueError(f"churned: expected a churn beside it, or it would do nothing, got {self.churned}")

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        if self.churn:
            z, t = self._back(key, sde, z, t)
        (alpha, sigma), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
        x = denoise(z, t)
        eps = _noise(x, z, sde, t)
        euler = alpha_s * x + sigma_s * eps  # along ρ and along u
        x_s = denoise(euler, s)
        eps_s = _noise(x_s, euler, sde, s)
        if not self.straight:
            return euler + (sigma_s - alpha_s * sigma / alpha) * 0.5 * (eps_s - eps), state
        whole, whole_s = alpha + sigma, alpha_s + sigma_s
        more = (sigma_s / whole_s - sigma / whole) * 0.5 * ((eps_s - x_s) - (eps - x))
        return euler + whole_s * more, state

    def _back(self, key: Array, sde: SDE, z: Array, t: Array) -> tuple[Array, Array]:
        ratio = lambda t: jnp.exp(-0.5 * sde.log_snr(t))
        share = min(self.churn / self.steps, math.sqrt(2.0) - 1.0)
        inside = (self.churned[0] <= ratio(t)) & (ratio(t) <= self.churned[1])
        back = jnp.where(inside, sde.time(sde.log_snr(t) - 2.0 * jnp.log1p(share)), t)
        added = jnp.sqrt(jnp.maximum(ratio(back) ** 2 - ratio(t) ** 2, 0.0))
        noise = jax.random.normal(key, z.shape, z.dtype)
        return sde.marginal(back)[0] * (z / sde.marginal(t)[0] + added * noise), back


@dataclass(frozen=True)
class _Multistep(StepSampler):
    """The base of samplers that extrapolate from the last steps."""

    order: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(order=self.order)
        if self.order > 3:
            raise ValueError(f"order: expected 1, 2 or 3, got {self.order}")

    def init(self, z: Array) -> State:
        """Return the last two values and the steps between them, of which there are none yet."""
        endless = jnp.full((), jnp.inf, z.dtype)
        return jnp.zeros_like(z), endless, jnp.zeros_like(z), endless


@dataclass(frozen=True)
class DPMSolver(_Multistep):
    """DPM-Solver++ of several steps: the ODE is linear in z/α against h = Δλ/2 but for x̂, which is extrapolated.

        z_s/α_s = e^{−h} z_t/α_t + ∫₀^h e^{τ−h} x̂(τ) dτ,   x̂(τ) ≈ x̂_t + τ D₁ + ½ τ² D₂

    D₁ and D₂ are the differences of the last x̂ against λ/2; the first steps do with fewer. One call of the network a
    step. With η > 0 it solves the SDE, with η = 1 that of `Ancestral`: h is (1 + η) Δλ/2 there, and noise is added.

    Args:
        steps: how many.
        grid: of the times.
        order: 1 to 3; 1 is DDIM.
        eta: η, at least 0.
        progress: whether a bar counts the steps, or its name.

    Raises ValueError where an argument is out of its range.

    References: DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu, Zhou, Bao, Chen,
    Li, Zhu 2022), arXiv:2211.01095.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(eta=self.eta)

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        (alpha, _), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
        step, x = (sde.log_snr(s) - sde.log_snr(t)) / 2, denoise(z, t)
        first, second = _differences(x, step, state, self.order)
        h = (1.0 + self.eta) * step
        phi1 = -jnp.expm1(-h)
        phi2 = 1.0 - phi1 / h  # of x̂'s slope over the step, and of its curvature
        phi3 = 1.0 - 2.0 * phi2 / h
        y = jnp.exp(-h) * z / alpha + phi1 * x + phi2 * first + 0.5 * phi3 * second
        state = (x, step, *state[:2])
        if self.eta == 0.0:
            return alpha_s * y, state
        noise = jnp.sqrt(-jnp.expm1(-2.0 * self.eta * step)) * jax.random.normal(key, z.shape, z.dtype)
        return alpha_s * y + sigma_s * noise, state


@dataclass(frozen=True)
class DEIS(_Multistep):
    """The Adams–Bashforth method for d(z/α) = ε̂ dρ, by the ε̂ of the last steps. One call of the network a step.

    Args:
        steps: how many.
        grid: of the times.
        order: 1 to 3; 1 is DDIM.
        progress: whether a bar counts the steps, or its name.

    Raises ValueError where an argument is out of its range.

    References: Fast Sampling of Diffusion Models with Exponential Integrator (Zhang, Chen 2023), arXiv:2204.13902, the
    variant ρAB.
    """

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t."""
        (alpha, sigma), (alpha_s, sigma_s) = sde.marginal(t), sde.marginal(s)
        step, eps = sigma_s / alpha_s - sigma / alpha, _noise(denoise(z, t), z, sde, t)
        first, second = _differences(eps, step, state, self.order)
        y = z / alpha + step * (eps + first / 2.0 + second / 6.0)
        return alpha_s * y, (eps, step, *state[:2])


def _differences(value: Array, step: Array, state: State, order: int) -> tuple[Array, Array]:
    """Return the first and second derivative of the polynomial through the last values, times the coming step and its
    square; zero where there was no step before."""
    last, one, before, two = state
    a, b = step / one, step / two  # both zero at first
    first = a * (value - last)
    if order == 1:
        return jnp.zeros_like(value), jnp.zeros_like(value)
    if order == 2:
        return first, jnp.zeros_like(value)
    earlier = b * (last - before)
    both = jnp.where(b == 0.0, 1.0, a + b)
    second = jnp.where(b == 0.0, 0.0, 2.0 * a * b / both * (first - earlier))
    return first + jnp.where(b == 0.0, 0.0, second / (2.0 * jnp.where(a == 0.0, 1.0, a))), second


def _noise(x: Array, z: Array, sde: SDE, t: Array) -> Array:
    alpha, sigma = sde.marginal(t)
    return (z - alpha * x) / sigma
