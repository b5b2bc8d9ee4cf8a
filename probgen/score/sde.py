"""Variance-preserving diffusions, each named by the formula of its log-SNR λ(t), 0 ≤ t ≤ 1 (data at 0, noise at 1)."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from probgen.core import check_positive


class VP(eqx.Module):
    """A variance-preserving SDE, given by its log signal-to-noise ratio λ(t), which falls from t = 0 to t = 1.

        dx = f(t) x dt + g(t) dw,   x_t | x ~ Normal(α x, σ² I),   α² = sigmoid(λ),  σ² = sigmoid(−λ)
        f = ½ λ' σ²,   g² = −λ' σ²

    so that α² + σ² = 1 at every t. A subclass writes `log_snr(t)`, differentiable in t.

    References: Score-Based Generative Modeling through SDEs (Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole 2021),
    arXiv:2011.13456; Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630.
    """

    def log_snr(self, t: ArrayLike) -> Array:
        """λ(t) = log α²/σ²."""
        raise NotImplementedError(f"{type(self).__name__} has no log_snr")

    def log_snr_rate(self, t: ArrayLike) -> Array:
        """λ'(t), negative."""
        t = jnp.asarray(t, float)
        return jax.jvp(self.log_snr, (t,), (jnp.ones_like(t),))[1]

    def marginal(self, t: ArrayLike) -> tuple[Array, Array]:
        """(α, σ) of x_t | x ~ Normal(α x, σ² I)."""
        return coefficients(self.log_snr(t))

    def drift(self, t: ArrayLike) -> Array:
        """f(t)."""
        return 0.5 * self.log_snr_rate(t) * jax.nn.sigmoid(-self.log_snr(t))

    def diffusion(self, t: ArrayLike) -> Array:
        """g(t)."""
        return jnp.sqrt(-self.log_snr_rate(t) * jax.nn.sigmoid(-self.log_snr(t)))


def coefficients(log_snr: ArrayLike) -> tuple[Array, Array]:
    """(α, σ) with α² + σ² = 1 and log α²/σ² = λ; finite, with finite gradients, at any λ.

    >>> alpha, sigma = coefficients(0.0)
    >>> float(alpha), float(sigma)
    (0.7071067690849304, 0.7071067690849304)
    """
    log_snr = jnp.asarray(log_snr, float)
    return jnp.exp(0.5 * jax.nn.log_sigmoid(log_snr)), jnp.exp(0.5 * jax.nn.log_sigmoid(-log_snr))


def falls(log_snr: Sequence[float]) -> bool:
    """Whether a pair (λ_max, λ_min) is finite and falls.

    >>> falls((7.0, -7.0)), falls((1.0, 1.0)), falls((math.inf, 0.0))
    (True, False, False)
    """
    return len(log_snr) == 2 and all(map(math.isfinite, log_snr)) and log_snr[0] > log_snr[1]


class LinearLogSNR(VP):
    """λ(t) = λ_max + (λ_min − λ_max) t, with fixed ends (the interior does not change the bound, only its variance).

    Args: `largest` λ_max, at the data; `smallest` λ_min, at the noise. Raises ValueError where they do not fall.

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
        """λ(t)."""
        return self.largest + (self.smallest - self.largest) * jnp.asarray(t, float)


class LinearBeta(VP):
    """λ(t) = −log(exp B(u) − 1), B(u) = β_min u + ½ (β_max − β_min) u²: the SDE with g² = β(u) linear in u.

    Time runs over u = u_min + (1 − u_min) t, since λ is infinite at u = 0.

    Args: `beta_min`, `beta_max` > 0; `u_min` in (0, 1). Raises ValueError for others.

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
        """λ(t)."""
        u = self.u_min + (1.0 - self.u_min) * jnp.asarray(t, float)
        b = self.beta_min * u + 0.5 * (self.beta_max - self.beta_min) * u**2
        return -b - jnp.log(-jnp.expm1(-b))  # −log expm1(b), finite for large b
