"""Weights of noise levels in a loss: what ‖v − x̂‖² is multiplied by at λ."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from probgen.core import check_positive


@dataclass(frozen=True)
class Weight:
    """The base of weights. A subclass writes `__call__(log_snr, density)`.

    `density` is p(λ), at which the loss draws its noise levels, for weights that undo it.
    """

    def __call__(self, log_snr: Array, density: Array) -> Array:
        """Return w(λ)."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")


@dataclass(frozen=True)
class DataWeight(Weight):
    """w = 1: the error of x̂, as of a denoising autoencoder."""

    def __call__(self, log_snr: Array, density: Array) -> Array:
        """Return 1."""
        return jnp.ones_like(log_snr)


@dataclass(frozen=True)
class NoiseWeight(Weight):
    """w = e^λ: the error of ε̂, the "simple" loss; at uniform times also that of scores weighted by σ².

    References: Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239, equation 14.
    """

    def __call__(self, log_snr: Array, density: Array) -> Array:
        """Return e^λ."""
        return jnp.exp(log_snr)


@dataclass(frozen=True)
class LikelihoodWeight(Weight):
    """w = ½ e^λ / p(λ): that of the bound, wherever noise levels are drawn; likelihood weighting.

    References: Maximum Likelihood Training of Score-Based Diffusion Models (Song, Durkan, Murray, Ermon 2021),
    arXiv:2101.09258.
    """

    def __call__(self, log_snr: Array, density: Array) -> Array:
        """Return ½ e^λ / p(λ)."""
        return 0.5 * jnp.exp(log_snr) / density


@dataclass(frozen=True)
class MinSNRWeight(Weight):
    """w = min(e^λ, γ): the error of ε̂ where there is much noise, of x̂ where there is little.

    Args:
        gamma: γ, more than 0.

    Raises ValueError for another.

    References: Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al. 2023), arXiv:2303.09556.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        check_positive(gamma=self.gamma)

    def __call__(self, log_snr: Array, density: Array) -> Array:
        """Return min(e^λ, γ)."""
        return jnp.minimum(jnp.exp(log_snr), self.gamma)


@dataclass(frozen=True)
class EDMWeight(Weight):
    """w = e^λ + 1/s²: the error of the network F in a `RealDenoiser` of that scale.

    Args:
        scale: s, more than 0.

    Raises ValueError for another.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, table 1.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive(scale=self.scale)

    def __call__(self, log_snr: Array, density: Array) -> Array:
        """Return e^λ + 1/s²."""
        return jnp.exp(log_snr) + 1.0 / self.scale**2


@dataclass(frozen=True)
class VelocityWeight(Weight):
    """w = 1/u² = (1 + e^{λ/2})²: the error of the velocity ε − v of straight lines from data to noise.

    References: Flow Matching for Generative Modeling (Lipman, Chen, Ben-Hamu, Nickel, Le 2023), arXiv:2210.02747.
    """

    def __call__(self, log_snr: Array, density: Array) -> Array:
        """Return (1 + e^{λ/2})²."""
        return (1.0 + jnp.exp(0.5 * log_snr)) ** 2
