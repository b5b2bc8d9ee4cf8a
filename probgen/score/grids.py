"""Time grids: the times at which a sampler steps, from 1 (noise) to 0 (data)."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from probgen.core import check_positive
from probgen.score.sde import SDE


@dataclass(frozen=True)
class TimeGrid:
    """The base of grids. A subclass writes `log_snrs(low, high, share)`, or `__call__` where it goes by t."""

    def log_snrs(self, low: Array, high: Array, share: Array) -> Array:
        """Return the λ that are reached after shares of all steps, from `low` to `high`."""
        raise NotImplementedError(f"{type(self).__name__} has no log_snrs")

    def __call__(self, sde: SDE, steps: int) -> Array:
        """Return the times, [steps + 1], from 1 to 0."""
        share = jnp.linspace(0.0, 1.0, steps + 1)
        within = sde.time(self.log_snrs(sde.log_snr(1.0), sde.log_snr(0.0), share[1:-1]))
        return jnp.concatenate([jnp.ones(1), within, jnp.zeros(1)])


@dataclass(frozen=True)
class UniformTime(TimeGrid):
    """Equal steps of t.

    >>> from probgen.score import LinearLogSNR
    >>> UniformTime()(LinearLogSNR(), 4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    def __call__(self, sde: SDE, steps: int) -> Array:
        """Return the times, [steps + 1], from 1 to 0."""
        return jnp.linspace(1.0, 0.0, steps + 1)


@dataclass(frozen=True)
class UniformLogSNR(TimeGrid):
    """Equal steps of λ.

    References: DPM-Solver (Lu, Zhou, Bao, Chen, Li, Zhu 2022), arXiv:2206.00927, section 3.4.

    >>> from probgen.score import LinearBeta
    >>> sde = LinearBeta()
    >>> [round(float(step), 2) for step in jnp.diff(sde.log_snr(UniformLogSNR()(sde, 4)))]
    [4.79, 4.79, 4.79, 4.79]
    """

    def log_snrs(self, low: Array, high: Array, share: Array) -> Array:
        """Return λ, linear in the share."""
        return low + (high - low) * share


@dataclass(frozen=True)
class PowerNoise(TimeGrid):
    """Equal steps of (σ/α)^{1/ρ}.

    Args:
        rho: ρ; the larger it is, the more steps are spent at little noise.

    Raises ValueError where `rho` is not positive.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, equation 5.

    >>> from probgen.score import GeometricSigma
    >>> sde = GeometricSigma(0.01, 100.0)
    >>> [round(float(sigma), 2) for sigma in sde.marginal(PowerNoise()(sde, 2))[1]]
    [100.0, 4.12, 0.01]
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        check_positive(rho=self.rho)

    def log_snrs(self, low: Array, high: Array, share: Array) -> Array:
        """Return λ = −2 log(σ/α)."""
        first, last = jnp.exp(-0.5 * low / self.rho), jnp.exp(-0.5 * high / self.rho)
        return -2.0 * self.rho * jnp.log(first + (last - first) * share)
