"""The quantile function of a histogram: rising straight lines between equally spaced values."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.support import widen
from probgen.bijectors.traits import Elementwise
from probgen.core import as_numbers, vectorize

Ends = float | tuple[Any, ...]


def _static(end: Any) -> Ends:
    """Return an end as numbers that a static field can hold."""
    array = np.asarray(end, float)
    return float(array) if array.ndim == 0 else tuple(_static(part) for part in array)


class PiecewiseLinear(Elementwise):
    """The inverse of the CDF of a histogram with B bins of equal width w = (high − low) / B, for each coordinate.

        F(y) = Σ_{i<j} m_i + m_j (y − low − j w) / w   in bin j,   y = F⁻¹(x): (0, 1)^D → [low, high]^D
        log dF/dy = log m_j − log w,   m = softmax(logits)

    Pushed through it, uniform numbers have the density of the histogram. Outside [low, high] F is 0 or 1, and the
    logarithm of its derivative −∞, with gradients of zero.

    Args:
        logits: of the bins' masses m, [*event, B], learned.
        low: the left end of the first bin: a number, or an array that broadcasts to the event's shape; static.
        high: the right end of the last bin, as `low`.

    Raises ValueError where an end does not broadcast, or where low ≥ high.

    References: Neural Importance Sampling (Müller, McWilliams, Rousselle, Gross, Novák 2019), arXiv:1808.03856, where
    a coupling's transformer is this.

    >>> import jax.numpy as jnp
    >>> quantile = PiecewiseLinear(jnp.log(jnp.array([[0.25, 0.75]])), low=0.0, high=10.0)
    >>> quantile.forward(jnp.array([0.25])).round(4), quantile.forward(jnp.array([0.5])).round(4)
    (Array([5.], dtype=float32), Array([6.6667], dtype=float32))
    """

    logits: Array
    low: Ends = eqx.field(static=True)
    high: Ends = eqx.field(static=True)
    parameter_axes = 1
    closed = increasing = True
    domain = constraints.unit_interval

    def __init__(self, logits: Array, low: Any = 0.0, high: Any = 1.0):
        self.logits, self.low, self.high = jnp.asarray(logits, float), _static(low), _static(high)
        if self.logits.ndim < 1 or not self.logits.shape[-1]:
            raise ValueError(f"logits: expected [*event, bins] with at least one bin, got shape {self.logits.shape}")
        event = self.logits.shape[:-1]
        for name, end in (("low", np.asarray(self.low)), ("high", np.asarray(self.high))):
            fits = end.ndim <= len(event) and all(a in (1, b) for a, b in zip(end.shape[::-1], event[::-1]))
            if not fits or not np.isfinite(end).all():
                raise ValueError(f"{name}: expected finite numbers for events of shape {event}, got {end}")
        if not np.all(np.asarray(self.low) < np.asarray(self.high)):
            raise ValueError(f"low: expected less than high = {self.high}, got {self.low}")

    @property
    def bins(self) -> int:
        """The number of bins of each coordinate."""
        return self.logits.shape[-1]

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.interval(
            *(end if isinstance(end, float) else np.asarray(end) for end in (self.low, self.high))
        )

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        low, high, width = self._grid(x)
        left, mass, log_mass = self._masses()
        j = jnp.sum(left[..., 1:] <= x[..., None], -1)
        j = jnp.where(x <= 0, 0, jnp.where(x >= 1, self.bins - 1, j))  # whatever rounding does to the sums
        # the right half of the last bin is measured from its right end, so that 1 goes to `high` to the last bit
        last = (j == self.bins - 1) & (2.0 * x >= 1.0 + jnp.minimum(_at(left, j), 1.0))
        # no uniform number lies in a bin narrower than float rounding, and dividing by its mass might be dividing by 0
        part = jnp.where(last, 1.0 - x, x - _at(left, j)) / jnp.maximum(_at(mass, j), jnp.finfo(mass.dtype).eps)
        part = _within(part, 0.0, 1.0)
        y = _within(jnp.where(last, high - width * part, low + width * (j + part)), low, high)
        return y, jnp.log(width) - _at(log_mass, j)

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        low, high, width = self._grid(y)
        left, mass, log_mass = self._masses()
        t, j = self._place(y)
        rest = _within((high - y) / width, 0.0, self.bins)
        x = jnp.where(rest < 0.5, 1.0 - _at(mass, j) * rest, _at(left, j) + _at(mass, j) * (t - j))
        x = _within(x, 0.0, 1.0)
        log_density = jnp.where((low <= y) & (y <= high), _at(log_mass, j) - jnp.log(width), -jnp.inf)
        return x, jnp.where(jnp.isnan(y), jnp.nan, log_density)

    def counted(self, y: Array, smoothing: float = 0.0) -> "PiecewiseLinear":
        """Return the same bins with the masses of greatest likelihood, in closed form, from rows of data.

            m_j = (n_j + smoothing) / (N + B · smoothing)

        An empty bin without smoothing keeps the least mass that a float can have.

        Args:
            y: the rows, [N, *event].
            smoothing: pseudo-counts of each bin.

        Raises ValueError where a row has another shape or lies outside [low, high], or where smoothing < 0.

        >>> import jax.numpy as jnp
        >>> jnp.exp(PiecewiseLinear(jnp.zeros(2)).counted(jnp.array([0.1, 0.7, 0.8, 1.0])).logits)
        Array([1., 3.], dtype=float32)
        """
        y, event = jnp.asarray(as_numbers("y", y), float), self.event_shape
        if y.ndim != 1 + self.rank or y.shape[1:] != event or not len(y):
            raise ValueError(f"y: expected rows of shape {event}, got an array of shape {y.shape}")
        if smoothing < 0:
            raise ValueError(f"smoothing: expected at least 0, got {smoothing}")
        outside = ~np.asarray(widen(self.codomain, self.rank)(y))
        if outside.any():
            row = int(np.argmax(outside))
            raise ValueError(f"y: row {row}, {y[row]}, lies outside low = {self.low} to high = {self.high}")
        columns = vectorize(lambda y: self._place(y)[1], self.rank)(y).reshape(len(y), -1).T
        counts = jax.vmap(lambda column: jnp.bincount(column, length=self.bins))(columns) + smoothing
        logits = jnp.log(jnp.maximum(counts, jnp.finfo(y.dtype).tiny)).reshape(self.logits.shape)
        return PiecewiseLinear(logits, self.low, self.high)

    def _masses(self) -> tuple[Array, Array, Array]:
        """Return F at the left end of each bin, the bins' masses, and their logarithms, all [*event, B]."""
        mass = jax.nn.softmax(self.logits)
        left = jnp.cumsum(mass, -1)[..., :-1]
        return jnp.pad(left, [(0, 0)] * self.rank + [(1, 0)]), mass, jax.nn.log_softmax(self.logits)

    def _grid(self, like: Array) -> tuple[Array, Array, Array]:
        """Return low, high and the width of a bin, in the precision of the values."""
        dtype = jnp.result_type(like, self.logits)
        low, high = np.asarray(self.low), np.asarray(self.high)
        return jnp.asarray(low, dtype), jnp.asarray(high, dtype), jnp.asarray((high - low) / self.bins, dtype)

    def _place(self, y: Array) -> tuple[Array, Array]:
        """Return where y lies, counted in bins from low, and its bin."""
        low, _, width = self._grid(y)
        t = _within((y - low) / width, 0.0, self.bins)
        return t, jnp.clip(t.astype(jnp.int32), 0, self.bins - 1)


def _within(x: Array, low: Any, high: Any) -> Array:
    """Return x held in [low, high]; at the ends themselves the derivative is 1, and not the half of `jnp.clip`."""
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


def _at(values: Array, j: Array) -> Array:
    return jnp.take_along_axis(values, j[..., None], -1)[..., 0]
