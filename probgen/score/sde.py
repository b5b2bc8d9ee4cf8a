"""Linear SDEs from data (t = 0) to noise (t = 1), each named by the formula of its log-SNR λ(t)."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from probgen.core import check_positive


class SDE(eqx.Module):
    """A linear SDE, given by its log signal-to-noise ratio λ(t), which falls from t = 0 to t = 1, and its scale c(t).

        dx = f(t) x dt + g(t) dw,   x_t | x ~ Normal(α x, σ² I),   α² = c² sigmoid(λ),  σ² = c² sigmoid(−λ)
        f = c'/c + ½ λ' sigmoid(−λ),   g² = −λ' σ²

    so that λ = log α²/σ² and c² = α² + σ². The bound of a score model depends on λ alone, and a denoiser sees x_t / c:
    schedules can be swapped after training, by `model.replace(sde=…)`. A subclass writes `log_snr(t)`, and `scale(t)`
    where the variance is not preserved (c = 1); both differentiable in t, λ finite and falling on all of [0, 1], its
    ends included. Its numbers are static fields: an array in a field would learn.

    References: Score-Based Generative Modeling through SDEs (Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole 2021),
    arXiv:2011.13456; Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, section 5.1.
    """

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t) = log α²/σ²."""
        raise NotImplementedError(f"{type(self).__name__} has no log_snr")

    def scale(self, t: ArrayLike) -> Array:
        """Return c(t) = √(α² + σ²)."""
        return jnp.ones_like(jnp.asarray(t, float))

    def log_snr_rate(self, t: ArrayLike) -> Array:
        """Return λ'(t), negative."""
        t = jnp.asarray(t, float)
        return jax.jvp(self.log_snr, (t,), (jnp.ones_like(t),))[1]

    def marginal(self, t: ArrayLike) -> tuple[Array, Array]:
        """Return (α, σ) of x_t | x ~ Normal(α x, σ² I)."""
        alpha, sigma = coefficients(self.log_snr(t))
        return self.scale(t) * alpha, self.scale(t) * sigma

    def drift(self, t: ArrayLike) -> Array:
        """Return f(t)."""
        t = jnp.asarray(t, float)
        growth = jax.jvp(lambda t: jnp.log(self.scale(t)), (t,), (jnp.ones_like(t),))[1]
        return growth + 0.5 * self.log_snr_rate(t) * jax.nn.sigmoid(-self.log_snr(t))

    def diffusion(self, t: ArrayLike) -> Array:
        """Return g(t)."""
        return self.marginal(t)[1] * jnp.sqrt(-self.log_snr_rate(t))


def coefficients(log_snr: ArrayLike) -> tuple[Array, Array]:
    """Return (α, σ) with α² + σ² = 1 and log α²/σ² = λ; finite, with finite gradients, at any λ.

    Args:
        log_snr: λ, [...].

    >>> alpha, sigma = coefficients(0.0)
    >>> float(alpha), float(sigma)
    (0.7071067690849304, 0.7071067690849304)
    """
    log_snr = jnp.asarray(log_snr, float)
    return jnp.exp(0.5 * jax.nn.log_sigmoid(log_snr)), jnp.exp(0.5 * jax.nn.log_sigmoid(-log_snr))


def falls(log_snr: Sequence[float]) -> bool:
    """Return whether a pair (λ_max, λ_min) is finite and falls.

    >>> falls((7.0, -7.0)), falls((1.0, 1.0)), falls((math.inf, 0.0))
    (True, False, False)
    """
    return len(log_snr) == 2 and all(map(math.isfinite, log_snr)) and log_snr[0] > log_snr[1]


def check_falls(sde: SDE) -> None:
    """Raise ValueError where the log-SNR of an SDE is not finite, or does not fall, at nine times of [0, 1].

    Args:
        sde: any; one whose numbers are not known yet passes.
    """
    with jax.ensure_compile_time_eval():
        values = jax.vmap(sde.log_snr)(jnp.linspace(0.0, 1.0, 9))
    if isinstance(values, jax.core.Tracer):
        return
    if not jnp.isfinite(values).all():
        raise ValueError(f"sde: expected a finite log-SNR on [0, 1], got {values.tolist()}; cut it off near its ends")
    if not (jnp.diff(values) < 0).all():
        raise ValueError(f"sde: expected a log-SNR that falls from t = 0 to 1, got {values.tolist()}")


class LinearLogSNR(SDE):
    """λ(t) = λ_max + (λ_min − λ_max) t, c = 1 (the interior does not change the bound, only its variance).

    Args:
        largest: λ_max, at the data.
        smallest: λ_min, at the noise.

    Raises ValueError where they do not fall.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, section 4.2.

    >>> LinearLogSNR(8.0, -8.0).log_snr(0.5).item()
    0.0
    """

    largest: float = eqx.field(static=True, default=8.0)
    smallest: float = eqx.field(static=True, default=-8.0)

    def __check_init__(self) -> None:
        if not falls((self.largest, self.smallest)):
            ends = f"{self.largest}, {self.smallest}"
            raise ValueError(f"largest, smallest: expected finite log-SNRs, the first above the second, got {ends}")

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t)."""
        return self.largest + (self.smallest - self.largest) * jnp.asarray(t, float)


class GeometricSigma(SDE):
    """σ(t) = σ_min (σ_max / σ_min)^t, α = 1: the "variance-exploding" SDE.

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

    sigma_min: float = eqx.field(static=True, default=0.01)
    sigma_max: float = eqx.field(static=True, default=50.0)

    def __check_init__(self) -> None:
        check_positive(sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_max: expected more than sigma_min={self.sigma_min}, got {self.sigma_max}")

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t) = −2 log σ(t)."""
        return -2.0 * (math.log(self.sigma_min) + math.log(self.sigma_max / self.sigma_min) * jnp.asarray(t, float))

    def scale(self, t: ArrayLike) -> Array:
        """Return c(t) = √(1 + σ²)."""
        return jnp.exp(-0.5 * jax.nn.log_sigmoid(self.log_snr(t)))


class LinearBeta(SDE):
    """λ(t) = −log(exp B(u) − 1), c = 1, B(u) = β_min u + ½ (β_max − β_min) u²: the SDE with g² = β(u) linear in u.

    Time runs over u = u_min + (1 − u_min) t, since λ is infinite at u = 0.

    Args:
        beta_min: more than 0.
        beta_max: more than 0.
        u_min: in (0, 1), where time begins.

    Raises ValueError for others.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456, appendix C.

    >>> round(LinearBeta().log_snr(1.0).item(), 3)
    -10.05
    """

    beta_min: float = eqx.field(static=True, default=0.1)
    beta_max: float = eqx.field(static=True, default=20.0)
    u_min: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self) -> None:
        check_positive(beta_min=self.beta_min, beta_max=self.beta_max)
        if not 0 < self.u_min < 1:
            raise ValueError(f"u_min: expected a number in (0, 1), got {self.u_min}")

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t)."""
        u = self.u_min + (1.0 - self.u_min) * jnp.asarray(t, float)
        b = self.beta_min * u + 0.5 * (self.beta_max - self.beta_min) * u**2
        return -b - jnp.log(-jnp.expm1(-b))  # −log expm1(b), finite for large b
