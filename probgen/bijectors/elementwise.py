"""Bijectors that act on each number by itself, of closed form."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.base import Bijector
from probgen.bijectors.support import as_interval, move_end, move_ends, reaches
from probgen.core import as_float


def inside_unit_interval(y: Array) -> Array:
    """y in (0, 1): a value that rounded to 0 or 1 is taken for the last number before it, so that its density stays
    finite; one beyond is NaN."""
    return _inside(y, 0.0, jnp.clip(y, jnp.finfo(y.dtype).tiny, 1 - jnp.finfo(y.dtype).epsneg), 1.0)


def _positive_number(y: Array) -> Array:
    return _inside(y, 0.0, jnp.maximum(y, jnp.finfo(y.dtype).tiny), jnp.inf)


def _inside(y: Array, low: float, clipped: Array, high: float) -> Array:
    return jnp.where((y >= low) & (y <= high), clipped, jnp.nan)


class Affine(Bijector):
    """y = exp(log_scale) · x + shift, elementwise on events of the shape of its parameters.

        log|det| = Σ log_scale

    Args: `shift`, `log_scale`: arrays of the event's shape, both learned.

    >>> import jax.numpy as jnp
    >>> Affine(jnp.ones(2), jnp.zeros(2)).forward(jnp.zeros(2))
    Array([1., 1.], dtype=float32)
    """

    shift: Array
    log_scale: Array
    rank: int = eqx.field(static=True)

    def __init__(self, shift: Array, log_scale: Array):
        self.shift, self.log_scale = jnp.broadcast_arrays(as_float(shift), as_float(log_scale))
        self.rank = self.shift.ndim

    @property
    def event_ndims_in(self) -> int:
        return self.rank

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shift.shape

    @property
    def is_constant_jacobian(self) -> bool:
        return True

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return x * jnp.exp(self.log_scale) + self.shift, jnp.sum(self.log_scale)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return (y - self.shift) * jnp.exp(-self.log_scale), -jnp.sum(self.log_scale)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return move_ends(lambda x: self.forward_event(x)[0], support) or super().image(support)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        return move_ends(lambda y: self.inverse_event(y)[0], support) or super().preimage(support)


class Sigmoid(Bijector):
    """y = 1 / (1 + exp(−x)): ℝ → (0, 1).

        log dy/dx = −softplus(x) − softplus(−x)

    >>> import jax.numpy as jnp
    >>> Sigmoid().forward(jnp.zeros(2))
    Array([0.5, 0.5], dtype=float32)
    """

    @property
    def event_ndims_in(self) -> int:
        return 0

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.unit_interval

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return jax.nn.sigmoid(x), -jax.nn.softplus(x) - jax.nn.softplus(-x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        y = inside_unit_interval(y)
        x = jnp.log(y) - jnp.log1p(-y)
        return x, jax.nn.softplus(x) + jax.nn.softplus(-x)


class Exp(Bijector):
    """y = exp(x): ℝ → (0, ∞).

        log dy/dx = x

    >>> import jax.numpy as jnp
    >>> Exp().forward(jnp.zeros(2))
    Array([1., 1.], dtype=float32)
    """

    @property
    def event_ndims_in(self) -> int:
        return 0

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.positive

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return jnp.exp(x), x

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        x = jnp.log(_positive_number(y))
        return x, -x


class Softplus(Bijector):
    """y = log(1 + exp(x)): ℝ → (0, ∞), linear far from zero where `Exp` is exponential.

        log dy/dx = −softplus(−x)

    >>> import jax.numpy as jnp
    >>> Softplus().inverse(Softplus().forward(jnp.array([-20.0, 30.0])))
    Array([-20.,  30.], dtype=float32)
    """

    @property
    def event_ndims_in(self) -> int:
        return 0

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.positive

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return jax.nn.softplus(x), -jax.nn.softplus(-x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        y = _positive_number(y)
        below = jnp.log(-jnp.expm1(-y))  # log of dy/dx = 1 − exp(−y)
        return y + below, -below


class Tanh(Bijector):
    """y = tanh(x): ℝ → (−1, 1).

        log dy/dx = 2 (log 2 − x − softplus(−2x))

    A value that rounded to ±1 is taken for the last number before it, so that its density stays finite.

    >>> import jax.numpy as jnp
    >>> Tanh().inverse(jnp.array([1.0, 0.0])).round(1)
    Array([8.7, 0. ], dtype=float32)
    """

    @property
    def event_ndims_in(self) -> int:
        return 0

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.interval(-1.0, 1.0)

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return jnp.tanh(x), 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x))

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        last = 1.0 - jnp.finfo(y.dtype).epsneg
        y = _inside(y, -1.0, jnp.clip(y, -last, last), 1.0)
        above, below = jnp.log1p(y), jnp.log1p(-y)
        return 0.5 * (above - below), -(above + below)


class GaussianCDF(Bijector):
    """y = Φ(x), the normal distribution function: ℝ → (0, 1).

        log dy/dx = −x² / 2 − log √(2π)

    >>> import jax.numpy as jnp
    >>> GaussianCDF().forward(jnp.zeros(2))
    Array([0.5, 0.5], dtype=float32)
    """

    @property
    def event_ndims_in(self) -> int:
        return 0

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.unit_interval

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return jax.scipy.special.ndtr(x), jax.scipy.stats.norm.logpdf(x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        x = jax.scipy.special.ndtri(inside_unit_interval(y))
        return x, -jax.scipy.stats.norm.logpdf(x)


class Power(Bijector):
    """y = x^p with p = exp(log_power) of positive numbers, elementwise on events of the shape of its parameter.

        log|det| = Σ log p + (p − 1) log x

    Args: `log_power`, an array of the event's shape, learned.

    >>> import jax.numpy as jnp
    >>> Power(jnp.log(jnp.array([2.0, 0.5]))).forward(jnp.array([3.0, 4.0])).round(4)
    Array([9., 2.], dtype=float32)
    """

    log_power: Array
    rank: int = eqx.field(static=True)

    def __init__(self, log_power: Array):
        self.log_power = as_float(log_power)
        self.rank = self.log_power.ndim

    @property
    def event_ndims_in(self) -> int:
        return self.rank

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.log_power.shape

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.positive

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.positive

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return _positive(lambda x: self.forward_event(x)[0], support) or super().image(support)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        return _positive(lambda y: self.inverse_event(y)[0], support) or super().preimage(support)

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return _power(x, self.log_power)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return _power(y, -self.log_power)


def _power(x: Array, log_power: Array) -> tuple[Array, Array]:
    log_x, power = jnp.log(_positive_number(x)), jnp.exp(log_power)
    return jnp.exp(power * log_x), jnp.sum(log_power + (power - 1.0) * log_x)


def _positive(increasing: Callable[[Array], Array], support: constraints.Constraint) -> constraints.Constraint | None:
    interval = as_interval(support)
    if interval is None or interval.lower is None:
        return None
    lower = 0.0 if reaches(interval.lower, 0.0) else move_end(increasing, interval.lower)
    return interval._replace(lower=lower, upper=move_end(increasing, interval.upper)).constraint()


class LeakyReLU(Bijector):
    """y = x where x ≥ 0 and exp(log_slope) · x elsewhere, elementwise on events of the shape of its parameter.

        log|det| = Σ [x < 0] log_slope

    Args: `log_slope`, an array of the event's shape, learned.

    >>> import jax.numpy as jnp
    >>> LeakyReLU(jnp.log(jnp.array([0.5, 0.5]))).forward(jnp.array([-1.0, 1.0])).tolist()
    [-0.5, 1.0]
    """

    log_slope: Array
    rank: int = eqx.field(static=True)

    def __init__(self, log_slope: Array):
        self.log_slope = as_float(log_slope)
        self.rank = self.log_slope.ndim

    @property
    def event_ndims_in(self) -> int:
        return self.rank

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.log_slope.shape

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return move_ends(lambda x: self.forward_event(x)[0], support) or super().image(support)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        return move_ends(lambda y: self.inverse_event(y)[0], support) or super().preimage(support)

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        log_slope = jnp.where(x < 0, self.log_slope, 0.0)
        return x * jnp.exp(log_slope), jnp.sum(log_slope)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        log_slope = jnp.where(y < 0, self.log_slope, 0.0)
        return y * jnp.exp(-log_slope), -jnp.sum(log_slope)
