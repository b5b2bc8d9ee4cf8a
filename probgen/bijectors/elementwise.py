"""Bijectors that act on each number by itself."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.base import Bijector
from probgen.bijectors.support import as_interval, move_end


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
        self.shift, self.log_scale = jnp.broadcast_arrays(jnp.asarray(shift, float), jnp.asarray(log_scale, float))
        self.rank = self.shift.ndim

    @property
    def event_ndims_in(self) -> int:
        return self.rank

    @property
    def is_constant_jacobian(self) -> bool:
        return True

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return x * jnp.exp(self.log_scale) + self.shift, jnp.sum(self.log_scale)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return (y - self.shift) * jnp.exp(-self.log_scale), -jnp.sum(self.log_scale)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return _move_ends(self.forward, support) or super().image(support)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        return _move_ends(self.inverse, support) or super().preimage(support)


def _move_ends(increasing: Callable[[Array], Array], support: constraints.Constraint) -> constraints.Constraint | None:
    interval = as_interval(support)
    if interval is None:
        return None
    lower, upper = (move_end(increasing, end) for end in interval[:2])
    return interval._replace(lower=lower, upper=upper).constraint()


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
        # a value that rounded to 0 or 1 maps to the last finite logit, not to infinity
        y = jnp.clip(y, jnp.finfo(y.dtype).tiny, 1 - jnp.finfo(y.dtype).epsneg)
        x = jnp.log(y) - jnp.log1p(-y)
        return x, jax.nn.softplus(x) + jax.nn.softplus(-x)
