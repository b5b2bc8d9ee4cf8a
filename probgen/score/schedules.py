"""Schedules: SDEs named by the formula of their log-SNR λ(t), or of what it follows from."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from probgen.core import as_number, check_positive
from probgen.score.sde import SDE, as_times, falls


class _CutOff(SDE):
    """The base of SDEs whose λ is a function of a number u, which t goes through evenly between two log-SNRs."""

    largest: float = eqx.field(static=True, converter=as_number, default=15.0)
    smallest: float = eqx.field(static=True, converter=as_number, default=-15.0)

    def __check_init__(self) -> None:
        if not falls((self.largest, self.smallest)):
            ends = f"{self.largest}, {self.smallest}"
            raise ValueError(f"largest, smallest: expected finite log-SNRs, the first above the second, got {ends}")

    @abc.abstractmethod
    def place(self, log_snr: ArrayLike) -> Array:
        """Return the u of a log-SNR."""

    @abc.abstractmethod
    def of_place(self, u: Array) -> Array:
        """Return the log-SNR at u."""

    def at(self, t: ArrayLike) -> Array:
        """Return u(t), from that of the largest log-SNR to that of the smallest."""
        first, last = self.place(self.largest), self.place(self.smallest)
        return first + (last - first) * as_times(t)

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t)."""
        return self.of_place(self.at(t))

    def time(self, log_snr: ArrayLike) -> Array:
        """Return the t in [0, 1] at which λ(t) is such; an end where it is beyond both."""
        first, last = self.place(self.largest), self.place(self.smallest)
        return jnp.clip((self.place(log_snr) - first) / (last - first), 0.0, 1.0)


class LinearLogSNR(_CutOff):
    """λ(t) = λ_max + (λ_min − λ_max) t, c = 1 (the interior does not change the bound, only its variance).

    Args:
        largest: λ_max, at the data.
        smallest: λ_min, at the noise.

    Raises ValueError where they do not fall.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, section 4.2.

    >>> LinearLogSNR(8.0, -6.0).log_snr(0.5).item()
    1.0
    """

    largest: float = eqx.field(static=True, converter=as_number, default=8.0)
    smallest: float = eqx.field(static=True, converter=as_number, default=-8.0)

    def place(self, log_snr: ArrayLike) -> Array:
        """Return u = −λ."""
        return -jnp.asarray(log_snr, float)

    def of_place(self, u: Array) -> Array:
        """Return −u."""
        return -u


class Cosine(_CutOff):
    """α = cos(π u / 2), σ = sin(π u / 2), c = 1: λ = −2 log tan(π u / 2), cut off at two log-SNRs.

    Even times are seldom at little noise, so that the bound of a model is a noisy estimate: of two numbers it had a
    standard deviation of 138 nats at one time, and of 23 with `LinearLogSNR` of the same ends, on which alone its mean
    depends. So it is `model.replace(sde=LinearLogSNR(15.0, -15.0))` whose bound is to be evaluated.

    Args:
        largest: λ at the data.
        smallest: λ at the noise.

    Raises ValueError where they do not fall.

    References: Improved Denoising Diffusion Probabilistic Models (Nichol, Dhariwal 2021), arXiv:2102.09672, of which it
    is the limit of many steps; in this form simple diffusion (Hoogeboom, Heek, Salimans 2023), arXiv:2301.11093.

    >>> alpha, sigma = Cosine().marginal(0.5)
    >>> round(float(alpha), 4), round(float(sigma), 4)
    (0.7071, 0.7071)
    """

    def place(self, log_snr: ArrayLike) -> Array:
        """Return u = 2/π arctan exp(−λ/2)."""
        return 2.0 / math.pi * jnp.arctan(jnp.exp(-0.5 * jnp.asarray(log_snr, float)))

    def of_place(self, u: Array) -> Array:
        """Return −2 log tan(π u / 2)."""
        return -2.0 * jnp.log(jnp.tan(0.5 * math.pi * u))


class Straight(_CutOff):
    """α = 1 − u, σ = u, the straight line from data to noise: λ = 2 log((1 − u)/u), cut off at two log-SNRs.

    It is the path of flow matching and of rectified flows.

    Even times are seldom at little noise, so that the bound of a model is a noisy estimate: of two numbers it had a
    standard deviation of 114 nats at one time, and of 23 with `LinearLogSNR` of the same ends, on which alone its mean
    depends. So it is `model.replace(sde=LinearLogSNR(15.0, -15.0))` whose bound is to be evaluated.

    Args:
        largest: λ at the data.
        smallest: λ at the noise.

    Raises ValueError where they do not fall.

    References: Flow Matching for Generative Modeling (Lipman, Chen, Ben-Hamu, Nickel, Le 2023), arXiv:2210.02747; Flow
    Straight and Fast (Liu, Gong, Liu 2023), arXiv:2209.03003.

    >>> alpha, sigma = Straight().marginal(0.5)
    >>> round(float(alpha), 4), round(float(sigma), 4)
    (0.5, 0.5)
    """

    def place(self, log_snr: ArrayLike) -> Array:
        """Return u = sigmoid(−λ/2)."""
        return jax.nn.sigmoid(-0.5 * jnp.asarray(log_snr, float))

    def of_place(self, u: Array) -> Array:
        """Return 2 log((1 − u)/u)."""
        return 2.0 * (jnp.log1p(-u) - jnp.log(u))

    def scale(self, t: ArrayLike) -> Array:
        """Return c(t) = √((1 − u)² + u²)."""
        u = self.at(t)
        return jnp.sqrt((1.0 - u) ** 2 + u**2)


class _LinearBetas(SDE):
    """The base of SDEs with a rate β(u) = β_min + (β_max − β_min) u; time runs over u = u_min + (1 − u_min) t."""

    beta_min: float = eqx.field(static=True, converter=as_number, default=0.1)
    beta_max: float = eqx.field(static=True, converter=as_number, default=20.0)
    u_min: float = eqx.field(static=True, converter=as_number, default=1e-3)

    def __check_init__(self) -> None:
        check_positive(beta_min=self.beta_min, beta_max=self.beta_max)
        if not 0 < self.u_min < 1:
            raise ValueError(f"u_min: expected a number in (0, 1), got {self.u_min}")

    def integral(self, t: ArrayLike) -> Array:
        """Return B(u) = β_min u + ½ (β_max − β_min) u², the integral of β from 0 to u(t)."""
        u = self.u_min + (1.0 - self.u_min) * as_times(t)
        return self.beta_min * u + 0.5 * (self.beta_max - self.beta_min) * u**2


class LinearBeta(_LinearBetas):
    """λ(t) = −log(exp B(u) − 1), c = 1, B(u) = β_min u + ½ (β_max − β_min) u²: the SDE with g² = β(u) linear in u.

    It is the "variance-preserving" SDE: α² = exp(−B), σ² = 1 − exp(−B). Time runs over u = u_min + (1 − u_min) t, since
    λ is infinite at u = 0.

    Args:
        beta_min: more than 0.
        beta_max: more than 0.
        u_min: in (0, 1), where time begins.

    Raises ValueError for others.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456, appendix C.

    >>> round(LinearBeta().log_snr(1.0).item(), 3)
    -10.05
    """

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t)."""
        b = self.integral(t)
        return -b - jnp.log(-jnp.expm1(-b))  # −log expm1(b), finite for large b


class SubLinearBeta(_LinearBetas):
    """α = exp(−B(u)/2), σ = 1 − exp(−B(u)), with `LinearBeta`'s B: its drift, and less noise (the "sub-VP" SDE).

        dx = −½ β x du + √(β (1 − exp(−2 B))) dw,   λ = −B − 2 log(1 − exp(−B))

    Args:
        beta_min: more than 0.
        beta_max: more than 0.
        u_min: in (0, 1), where time begins.

    Raises ValueError for others.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456, section 3.4.

    >>> alpha, sigma = SubLinearBeta().marginal(0.5)
    >>> round(float(1.0 - alpha**2 - sigma), 5)
    0.0
    """

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t)."""
        b = self.integral(t)
        return -b - 2.0 * jnp.log(-jnp.expm1(-b))

    def scale(self, t: ArrayLike) -> Array:
        """Return c(t) = √(exp(−B) + (1 − exp(−B))²)."""
        b = self.integral(t)
        return jnp.sqrt(jnp.exp(-b) + jnp.expm1(-b) ** 2)


class _Exploding(SDE):
    """The base of SDEs with α = 1, the "variance-exploding" ones, whose σ(t) rises from one number to another."""

    sigma_min: float = eqx.field(static=True, converter=as_number)
    sigma_max: float = eqx.field(static=True, converter=as_number)

    def __check_init__(self) -> None:
        check_positive(sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_max: expected more than sigma_min={self.sigma_min}, got {self.sigma_max}")

    def scale(self, t: ArrayLike) -> Array:
        """Return c(t) = √(1 + σ²)."""
        return jnp.exp(-0.5 * jax.nn.log_sigmoid(self.log_snr(t)))


class GeometricSigma(_Exploding):
    """σ(t) = σ_min (σ_max / σ_min)^t, α = 1.

    A score model starts its draws from Normal(0, (1 + σ_max²) I), the marginal of data of unit variance.

    Args:
        sigma_min: more than 0, at the data.
        sigma_max: more than `sigma_min`, at the noise.

    Raises ValueError where 0 < `sigma_min` < `sigma_max` does not hold.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456, appendix C.

    >>> alpha, sigma = GeometricSigma(0.01, 100.0).marginal(0.5)
    >>> round(float(alpha), 4), round(float(sigma), 4)
    (1.0, 1.0)
    """

    sigma_min: float = eqx.field(static=True, converter=as_number, default=0.01)
    sigma_max: float = eqx.field(static=True, converter=as_number, default=50.0)

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t) = −2 log σ(t)."""
        return -2.0 * (math.log(self.sigma_min) + math.log(self.sigma_max / self.sigma_min) * as_times(t))

    def time(self, log_snr: ArrayLike) -> Array:
        """Return the t in [0, 1] at which λ(t) is such; an end where it is beyond both."""
        t = (-0.5 * jnp.asarray(log_snr, float) - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)
        return jnp.clip(t, 0.0, 1.0)


class PowerSigma(_Exploding):
    """σ(t) = (σ_min^{1/ρ} + t (σ_max^{1/ρ} − σ_min^{1/ρ}))^ρ, α = 1: the noise levels of EDM.

    A score model starts its draws from Normal(0, (1 + σ_max²) I), the marginal of data of unit variance.

    Args:
        sigma_min: more than 0, at the data.
        sigma_max: more than `sigma_min`, at the noise.
        rho: ρ, more than 0; the larger it is, the more of the time is spent at little noise.

    Raises ValueError where 0 < `sigma_min` < `sigma_max` and 0 < `rho` do not hold.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, equation 5.

    >>> round(float(PowerSigma().marginal(0.5)[1]), 3)
    2.515
    """

    sigma_min: float = eqx.field(static=True, converter=as_number, default=0.002)
    sigma_max: float = eqx.field(static=True, converter=as_number, default=80.0)
    rho: float = eqx.field(static=True, converter=as_number, default=7.0)

    def __check_init__(self) -> None:
        check_positive(rho=self.rho)

    @property
    def _ends(self) -> tuple[float, float]:
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t) = −2 log σ(t)."""
        low, high = self._ends
        return -2.0 * self.rho * jnp.log(low + (high - low) * as_times(t))

    def time(self, log_snr: ArrayLike) -> Array:
        """Return the t in [0, 1] at which λ(t) is such; an end where it is beyond both."""
        low, high = self._ends
        t = (jnp.exp(-0.5 * jnp.asarray(log_snr, float) / self.rho) - low) / (high - low)
        return jnp.clip(t, 0.0, 1.0)
