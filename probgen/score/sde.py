"""Linear SDEs from data (t = 0) to noise (t = 1): the base, of which the schedules are members."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike

from probgen.bijectors.inversion import invert_increasing


class SDE(eqx.Module):
    """A linear SDE, given by its log signal-to-noise ratio λ(t), which falls from t = 0 to t = 1, and its scale c(t).

        dx = f(t) x dt + g(t) dw,   x_t | x ~ Normal(α x, σ² I),   α² = c² sigmoid(λ),  σ² = c² sigmoid(−λ)
        f = c'/c + ½ λ' sigmoid(−λ),   g² = −λ' σ²

    so that λ = log α²/σ² and c² = α² + σ². The bound of a score model depends on λ alone, and a denoiser sees x_t / c:
    schedules can be swapped after training, by `model.replace(sde=…)`. A subclass writes `log_snr(t)`, and `scale(t)`
    where the variance is not preserved (c = 1); both differentiable in t, λ finite and falling on all of [0, 1], its
    ends included; and `time(log_snr)` where a search for it is too slow. Its numbers are static fields: an array in a
    field would learn.

    References: Score-Based Generative Modeling through SDEs (Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole 2021),
    arXiv:2011.13456; Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, section 5.1.
    """

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t) = log α²/σ². Raises ValueError where t is not in [0, 1] and its numbers are known: not under
        `jit`."""
        raise NotImplementedError(f"{type(self).__name__} has no log_snr")

    def scale(self, t: ArrayLike) -> Array:
        """Return c(t) = √(α² + σ²)."""
        return jnp.ones_like(as_times(t))

    def log_snr_rate(self, t: ArrayLike) -> Array:
        """Return λ'(t), negative."""
        t = as_times(t)
        return jax.jvp(self.log_snr, (t,), (jnp.ones_like(t),))[1]

    def marginal(self, t: ArrayLike) -> tuple[Array, Array]:
        """Return (α, σ) of x_t | x ~ Normal(α x, σ² I). Raises ValueError where t is not in [0, 1] and its numbers are
        known: not under `jit`."""
        t = as_times(t)
        alpha, sigma = coefficients(self.log_snr(t))
        return self.scale(t) * alpha, self.scale(t) * sigma

    def drift(self, t: ArrayLike) -> Array:
        """Return f(t)."""
        t = as_times(t)
        growth = jax.jvp(lambda t: jnp.log(self.scale(t)), (t,), (jnp.ones_like(t),))[1]
        return growth + 0.5 * self.log_snr_rate(t) * jax.nn.sigmoid(-self.log_snr(t))

    def diffusion(self, t: ArrayLike) -> Array:
        """Return g(t)."""
        return self.marginal(t)[1] * jnp.sqrt(-self.log_snr_rate(t))

    def time(self, log_snr: ArrayLike) -> Array:
        """Return the t in [0, 1] at which λ(t) is such, [...]; an end where it is beyond both."""
        log_snr = jnp.asarray(log_snr, float)
        rising = lambda t: -self.log_snr(t)
        inside = jnp.clip(-log_snr, rising(0.0), rising(1.0))
        return invert_increasing(rising, inside, jnp.zeros_like(log_snr), jnp.ones_like(log_snr))

    def prior(self, event_shape: tuple[int, ...]) -> dist.Distribution:
        """Return Normal(0, c(1)² I), from which draws start."""
        return dist.Normal(0.0, self.scale(1.0)).expand(event_shape).to_event(len(event_shape))

    def prior_mismatch(self, x: Array) -> Array:
        """Return KL(q(x_1 | x) ‖ prior) of one event, in nats: what the bound pays for a signal that is left at t = 1.

        ½ Σ_d sigmoid(λ) (x_d² − 1) + softplus(λ),   λ = λ(1)
        """
        log_snr = self.log_snr(1.0)
        # σ² − 1 = −α², −log σ² = softplus(λ), at unit scale
        return 0.5 * jnp.sum(jax.nn.sigmoid(log_snr) * (x**2 - 1.0) + jax.nn.softplus(log_snr))


def as_times(t: ArrayLike) -> Array:
    """Return times as an array. Raises ValueError where their numbers are known, and one is not in [0, 1].

    Args:
        t: times, [...].
    """
    t = jnp.asarray(t, float)
    if not isinstance(t, jax.core.Tracer) and not bool(jnp.all((t >= 0.0) & (t <= 1.0))):
        raise ValueError(f"t: expected times in [0, 1], from data to noise, got {t.tolist()}")
    return t


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


def posterior(x: Array, z: Array, alpha: Array, less_noise: tuple[Array, Array], rise: Array) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of z_s given z_t and data x, of the process that adds the noise.

        q(z_s | z_t, x) = Normal(α_s (z_t (1 − c) / α_t + c x), c σ_s²),   c = 1 − exp(λ_t − λ_s)

    Args:
        x: the data, or what is expected of them.
        z: z_t.
        alpha: α_t.
        less_noise: (α_s, σ_s).
        rise: λ_s − λ_t.
    """
    (alpha_s, sigma_s), c = less_noise, -jnp.expm1(-rise)
    return alpha_s * (z * (1.0 - c) / alpha + c * x), jnp.sqrt(c) * sigma_s


def falls(log_snr: Any) -> bool:
    """Return whether something is a pair of numbers (λ_max, λ_min) that is finite and falls.

    >>> falls((7.0, -7.0)), falls((1.0, 1.0)), falls((math.inf, 0.0)), falls(7.0)
    (True, False, False, False)
    """
    if not isinstance(log_snr, tuple | list) or len(log_snr) != 2:
        return False
    largest, smallest = log_snr
    return all(isinstance(x, int | float) and math.isfinite(x) for x in log_snr) and largest > smallest


def check_falls(sde: SDE) -> None:
    """Raise ValueError where the log-SNR of an SDE is not finite, or does not fall, at nine times of [0, 1].

    Args:
        sde: any; one whose numbers are not known yet passes.
    """
    with jax.ensure_compile_time_eval():
        values = jax.vmap(sde.log_snr)(jnp.linspace(0.0, 1.0, 9))
    if isinstance(values, jax.core.Tracer):
        return
    if not np.isfinite(values).all():  # (under jit what jnp says of known numbers is not known)
        raise ValueError(f"sde: expected a finite log-SNR on [0, 1], got {values.tolist()}; cut it off near its ends")
    if not (np.diff(values) < 0).all():
        raise ValueError(f"sde: expected a log-SNR that falls from t = 0 to 1, got {values.tolist()}")
