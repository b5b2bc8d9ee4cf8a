"""Bijectors that act on each number by itself, of closed form."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.traits import Elementwise, Scalar
from probgen.core import as_float


class Affine(Elementwise):
    """y = exp(log_scale) · x + shift, elementwise on events of the shape of its parameters.

        log|det| = Σ log_scale

    Args:
        shift: an array of the event's shape, learned.
        log_scale: the same, or one that broadcasts with it.

    >>> import jax.numpy as jnp
    >>> Affine(jnp.ones(2), jnp.zeros(2)).forward(jnp.zeros(2))
    Array([1., 1.], dtype=float32)
    """

    shift: Array
    log_scale: Array
    is_constant_jacobian = increasing = True

    def __init__(self, shift: Array, log_scale: Array):
        self.shift, self.log_scale = jnp.broadcast_arrays(as_float(shift), as_float(log_scale))

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        return x * jnp.exp(self.log_scale) + self.shift, self.log_scale

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        return (y - self.shift) * jnp.exp(-self.log_scale), -self.log_scale


class Sigmoid(Scalar):
    """y = 1 / (1 + exp(−x)): ℝ → (0, 1).

        log dy/dx = −softplus(x) − softplus(−x)

    >>> import jax.numpy as jnp
    >>> Sigmoid().forward(jnp.zeros(2))
    Array([0.5, 0.5], dtype=float32)
    """

    codomain = constraints.unit_interval

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        return jax.nn.sigmoid(x), -jax.nn.softplus(x) - jax.nn.softplus(-x)

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        x = jnp.log(y) - jnp.log1p(-y)
        return x, jax.nn.softplus(x) + jax.nn.softplus(-x)


class Exp(Scalar):
    """y = exp(x): ℝ → (0, ∞).

        log dy/dx = x

    >>> import jax.numpy as jnp
    >>> Exp().forward(jnp.zeros(2))
    Array([1., 1.], dtype=float32)
    """

    codomain = constraints.positive

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        return jnp.exp(x), x

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        x = jnp.log(y)
        return x, -x


class Softplus(Scalar):
    """y = log(1 + exp(x)): ℝ → (0, ∞), linear far from zero where `Exp` is exponential.

        log dy/dx = −softplus(−x)

    >>> import jax.numpy as jnp
    >>> Softplus().inverse(Softplus().forward(jnp.array([-20.0, 30.0])))
    Array([-20.,  30.], dtype=float32)
    """

    codomain = constraints.positive

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        return jax.nn.softplus(x), -jax.nn.softplus(-x)

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        below = jnp.log(-jnp.expm1(-y))  # log of dy/dx = 1 − exp(−y)
        return y + below, -below


class Tanh(Scalar):
    """y = tanh(x): ℝ → (−1, 1).

        log dy/dx = 2 (log 2 − x − softplus(−2x))

    >>> import jax.numpy as jnp
    >>> Tanh().inverse(jnp.array([1.0, 0.0])).round(1)
    Array([8.7, 0. ], dtype=float32)
    """

    codomain = constraints.interval(-1.0, 1.0)

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        return jnp.tanh(x), 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x))

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        above, below = jnp.log1p(y), jnp.log1p(-y)
        return 0.5 * (above - below), -(above + below)


class GaussianCDF(Scalar):
    """y = Φ(x), the normal distribution function: ℝ → (0, 1).

        log dy/dx = −x² / 2 − log √(2π)

    >>> import jax.numpy as jnp
    >>> GaussianCDF().forward(jnp.zeros(2))
    Array([0.5, 0.5], dtype=float32)
    """

    codomain = constraints.unit_interval

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        return jax.scipy.special.ndtr(x), jax.scipy.stats.norm.logpdf(x)

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        x = jax.scipy.special.ndtri(y)
        return x, -jax.scipy.stats.norm.logpdf(x)


class Power(Elementwise):
    """y = x^p with p = exp(log_power) of positive numbers, elementwise on events of the shape of its parameter.

        log|det| = Σ log p + (p − 1) log x

    Args:
        log_power: an array of the event's shape, learned.

    >>> import jax.numpy as jnp
    >>> Power(jnp.log(jnp.array([2.0, 0.5]))).forward(jnp.array([3.0, 4.0])).round(4)
    Array([9., 2.], dtype=float32)
    """

    log_power: Array = eqx.field(converter=as_float)
    domain = codomain = constraints.positive
    increasing = True

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        return _power(x, self.log_power)

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        return _power(y, -self.log_power)


def _power(x: Array, log_power: Array) -> tuple[Array, Array]:
    log_x, power = jnp.log(x), jnp.exp(log_power)
    return jnp.exp(power * log_x), log_power + (power - 1.0) * log_x


class LeakyReLU(Elementwise):
    """y = x where x ≥ 0 and exp(log_slope) · x elsewhere, elementwise on events of the shape of its parameter.

        log|det| = Σ [x < 0] log_slope

    Args:
        log_slope: an array of the event's shape, learned.

    >>> import jax.numpy as jnp
    >>> LeakyReLU(jnp.log(jnp.array([0.5, 0.5]))).forward(jnp.array([-1.0, 1.0])).tolist()
    [-0.5, 1.0]
    """

    log_slope: Array = eqx.field(converter=as_float)
    increasing = True

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        log_slope = jnp.where(x < 0, self.log_slope, 0.0)
        return x * jnp.exp(log_slope), log_slope

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        log_slope = jnp.where(y < 0, self.log_slope, 0.0)
        return y * jnp.exp(-log_slope), -log_slope
