"""A schedule that learns: its ends by the bound, its interior by the variance of the bound's estimate."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from probgen.core import as_number, check_sizes
from probgen.score.sde import SDE, as_times, falls


class LearnedLogSNR(SDE):
    """λ(t) = λ_max − (λ_max − λ_min) (g(t) − g(0)) / (g(1) − g(0)), c = 1, with a monotone g and ends that learn.

        g(t) = t + Σ_k w_k sigmoid(a_k (t − c_k)),   w, a > 0

    The bound depends on the ends alone, and they are trained on it. The interior is trained on E d² of the bound's
    diffusion term d, whose mean it leaves as it is: on its variance. It starts (almost) linear.

    Args:
        largest: λ_max, where it starts.
        smallest: λ_min, where it starts.
        units: how many sigmoids g has.

    Raises ValueError where the ends do not fall.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, appendix H.

    >>> [round(float(x), 2) for x in LearnedLogSNR(8.0, -6.0).log_snr(jnp.array([0.0, 0.5, 1.0]))]
    [8.0, 1.0, -6.0]
    """

    smallest: Array
    log_fall: Array  # log(λ_max − λ_min)
    log_weights: Array
    log_slopes: Array
    centres: Array

    def __init__(self, largest: float = 8.0, smallest: float = -8.0, *, units: int = 16):
        largest, smallest = as_number(largest), as_number(smallest)
        if not falls((largest, smallest)):
            raise ValueError(
                f"largest, smallest: expected finite log-SNRs, the first above the second, got {largest}, {smallest}"
            )
        check_sizes(units=units)
        self.smallest, self.log_fall = jnp.asarray(smallest, float), jnp.log(jnp.asarray(largest - smallest, float))
        self.centres = (jnp.arange(units) + 0.5) / units
        self.log_weights = jnp.full((units,), -5.0)
        self.log_slopes = jnp.full((units,), jnp.log(2.0 * units))

    def log_snr(self, t: ArrayLike) -> Array:
        """Return λ(t)."""
        first, last = self._rising(0.0), self._rising(1.0)
        share = (self._rising(t) - first) / (last - first)
        return self.smallest + jnp.exp(self.log_fall) * (1.0 - share)

    def _rising(self, t: ArrayLike) -> Array:
        t = as_times(t)[..., None]
        return t[..., 0] + jax.nn.sigmoid(jnp.exp(self.log_slopes) * (t - self.centres)) @ jnp.exp(self.log_weights)

    def with_interior_held(self) -> "LearnedLogSNR":
        """Return the same schedule, of which only the ends have gradients."""
        where = lambda sde: (sde.log_weights, sde.log_slopes, sde.centres)
        return eqx.tree_at(where, self, lax.stop_gradient(where(self)))

    def with_ends_held(self) -> "LearnedLogSNR":
        """Return the same schedule, of which only the interior has gradients."""
        where = lambda sde: (sde.smallest, sde.log_fall)
        return eqx.tree_at(where, self, lax.stop_gradient(where(self)))
