"""Targets: what a network says of z = α x + σ ε, and how the data x̂ and the noise ε̂ follow from it, and back."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from probgen.core import check_positive
from probgen.score.sde import coefficients


@dataclass(frozen=True)
class Target:
    """The base of targets. A subclass writes `data` and `noise`, of which neither goes by way of the other, and `of`.

    In numbers of finite precision x̂ and ε̂ are two things: x̂ says nothing of ε̂ where there is little noise, nor ε̂ of
    x̂ where there is much. A target of another is `two.of(one.data(out, z, λ), one.noise(out, z, λ), λ)`; `Velocity`,
    `FlowVelocity` and `Preconditioned` are well-conditioned at every λ both ways.
    """

    def data(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return x̂ where the network said `out`."""
        raise NotImplementedError(f"{type(self).__name__} has no data")

    def noise(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return ε̂ where the network said `out`."""
        raise NotImplementedError(f"{type(self).__name__} has no noise")

    def of(self, x: Array, eps: Array, log_snr: Array) -> Array:
        """Return what the network has to say for x̂ and ε̂."""
        raise NotImplementedError(f"{type(self).__name__} has no of")


@dataclass(frozen=True)
class Data(Target):
    """x̂ itself: ill-conditioned for ε̂ where there is little noise."""

    def data(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return x̂."""
        return out

    def noise(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return (z − α x̂) / σ."""
        alpha, sigma = coefficients(log_snr)
        return (z - alpha * out) / sigma

    def of(self, x: Array, eps: Array, log_snr: Array) -> Array:
        """Return x̂."""
        return x


@dataclass(frozen=True)
class Noise(Target):
    """ε̂, as in DDPM.

    References: Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239.
    """

    def data(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return (z − σ ε̂) / α."""
        alpha, sigma = coefficients(log_snr)
        return (z - sigma * out) / alpha

    def noise(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return ε̂."""
        return out

    def of(self, x: Array, eps: Array, log_snr: Array) -> Array:
        """Return ε̂."""
        return eps


@dataclass(frozen=True)
class Score(Target):
    """The score of data with noise, ∇ log p(z) = −ε̂ / σ."""

    def data(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return (z + σ² ∇ log p(z)) / α."""
        alpha, sigma = coefficients(log_snr)
        return (z + sigma**2 * out) / alpha

    def noise(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return −σ ∇ log p(z)."""
        return -coefficients(log_snr)[1] * out

    def of(self, x: Array, eps: Array, log_snr: Array) -> Array:
        """Return −ε̂ / σ."""
        return -eps / coefficients(log_snr)[1]


@dataclass(frozen=True)
class Velocity(Target):
    """v = α ε̂ − σ x̂: how z moves on the circle α² + σ² = 1.

    References: Progressive Distillation for Fast Sampling of Diffusion Models (Salimans, Ho 2022), arXiv:2202.00512.
    """

    def data(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return α z − σ v."""
        alpha, sigma = coefficients(log_snr)
        return alpha * z - sigma * out

    def noise(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return σ z + α v."""
        alpha, sigma = coefficients(log_snr)
        return sigma * z + alpha * out

    def of(self, x: Array, eps: Array, log_snr: Array) -> Array:
        """Return α ε̂ − σ x̂."""
        alpha, sigma = coefficients(log_snr)
        return alpha * eps - sigma * x


@dataclass(frozen=True)
class FlowVelocity(Target):
    """ε̂ − x̂: how x_u = (1 − u) x + u ε moves along its straight line, as in flow matching.

    References: Flow Matching for Generative Modeling (Lipman, Chen, Ben-Hamu, Nickel, Le 2023), arXiv:2210.02747.
    """

    def data(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return (z − σ (ε̂ − x̂)) / (α + σ)."""
        alpha, sigma = coefficients(log_snr)
        return (z - sigma * out) / (alpha + sigma)

    def noise(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return (z + α (ε̂ − x̂)) / (α + σ)."""
        alpha, sigma = coefficients(log_snr)
        return (z + alpha * out) / (alpha + sigma)

    def of(self, x: Array, eps: Array, log_snr: Array) -> Array:
        """Return ε̂ − x̂."""
        return eps - x


@dataclass(frozen=True)
class Preconditioned(Target):
    """F: what the best linear denoiser of data of scale s misses, at unit variance.

        x̂ = (α s² z + σ s √v F) / v,   ε̂ = (σ z − α s √v F) / v,   v = α² s² + σ²

    With s = 1 it is −v of `Velocity`.

    Args:
        scale: s, the standard deviation of the (centred) data.

    Raises ValueError where it is not positive.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, table 1; the same for the variance-preserving case.

    >>> Preconditioned().data(jnp.array(0.0), jnp.array(2.0), jnp.array(0.0)).round(3).item()
    1.4140000343322754
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive(scale=self.scale)

    def data(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return (α s² z + σ s √v F) / v."""
        alpha, sigma = coefficients(log_snr)
        root = self.root(log_snr)
        return alpha * self.scale**2 / root**2 * z + sigma * self.scale / root * out

    def noise(self, out: Array, z: Array, log_snr: Array) -> Array:
        """Return (σ z − α s √v F) / v."""
        alpha, sigma = coefficients(log_snr)
        root = self.root(log_snr)
        return sigma / root**2 * z - alpha * self.scale / root * out

    def of(self, x: Array, eps: Array, log_snr: Array) -> Array:
        """Return (σ x̂ / s − α s ε̂) / √v."""
        alpha, sigma = coefficients(log_snr)
        return (sigma / self.scale * x - alpha * self.scale * eps) / self.root(log_snr)

    def root(self, log_snr: Array) -> Array:
        """Return √v, the standard deviation of z."""
        alpha, sigma = coefficients(log_snr)
        return jnp.sqrt((alpha * self.scale) ** 2 + sigma**2)
