"""Where a loss draws its noise levels: from uniform t to λ, and the density of that."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_positive
from probgen.score.sde import SDE


@dataclass(frozen=True)
class NoiseLevels:
    """The base of distributions of λ. A subclass writes `__call__(sde, t) -> (λ, p(λ))`, λ falling in t."""

    def __call__(self, sde: SDE, t: Array) -> tuple[Array, Array]:
        """Return λ at uniform t, and its density."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")


@dataclass(frozen=True)
class OfSchedule(NoiseLevels):
    """λ(t) of the model's SDE: p(λ) = −1/λ'(t)."""

    def __call__(self, sde: SDE, t: Array) -> tuple[Array, Array]:
        """Return λ(t) and −1/λ'(t)."""
        return sde.log_snr(t), -1.0 / sde.log_snr_rate(t)


@dataclass(frozen=True)
class OfNormal(NoiseLevels):
    """log σ/α ~ Normal(mean, std²), whatever the SDE: λ = −2 log σ/α.

    On straight paths, where σ/α = u/(1 − u), it is the logit-normal distribution of times u.

    Args:
        mean: of log σ/α.
        std: of log σ/α, more than 0.

    Raises ValueError for others.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, table 1; of times, Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser
    et al. 2024), arXiv:2403.03206.

    >>> from probgen.score import LinearLogSNR
    >>> OfNormal(-1.0, 2.0)(LinearLogSNR(), jnp.array(0.5))[0].item()
    2.0
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise ValueError(f"mean: expected a finite number, got {self.mean}")
        check_positive(std=self.std)

    def __call__(self, sde: SDE, t: Array) -> tuple[Array, Array]:
        """Return λ at the quantile t of log σ/α, and its density."""
        inside = jnp.clip(t, 1e-6, 1.0 - 1e-6)  # the quantiles 0 and 1 are infinite
        n = jax.scipy.special.ndtri(inside)
        return -2.0 * (self.mean + self.std * n), jax.scipy.stats.norm.pdf(n) / (2.0 * self.std)
