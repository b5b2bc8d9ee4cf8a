"""What moves the numbers of an event and changes none: permutations and reshapes."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.base import Bijector
from probgen.bijectors.support import UnknownSupport, as_interval
from probgen.core import check_sizes


class _Mover(Bijector):
    @property
    def is_constant_jacobian(self) -> bool:
        return True

    @property
    def moves_only(self) -> bool:
        return True

    def _no_log_det(self, x: Array) -> Array:
        return jnp.zeros((), jnp.promote_types(x.dtype, jnp.float32))


class Permute(_Mover):
    """y[i] = x[permutation[i]] along the last axis: an order that never learns.

    Args: `permutation`: integers, a permutation of 0..D−1. A tuple is static; an integer array is a leaf, for layers
    that are stacked and differ in it. Raises ValueError where a concrete permutation is none.

    >>> import jax.numpy as jnp
    >>> Permute((2, 0, 1)).forward(jnp.array([1.0, 2.0, 3.0]))
    Array([3., 1., 2.], dtype=float32)
    """

    permutation: Array | None
    order: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, permutation: tuple[int, ...] | Array):
        is_static = isinstance(permutation, tuple)
        if not isinstance(permutation, jax.core.Tracer):
            if not len(permutation) or sorted(int(i) for i in permutation) != list(range(len(permutation))):
                raise ValueError(f"permutation: expected the integers 0..{len(permutation) - 1}, got {permutation}")
        self.order = tuple(int(i) for i in permutation) if is_static else None
        self.permutation = None if is_static else jnp.asarray(permutation, jnp.int32)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._indices.shape

    @property
    def _indices(self) -> Array:
        return jnp.asarray(self.order) if self.permutation is None else self.permutation

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return x[self._indices], self._no_log_det(x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return y[jnp.argsort(self._indices)], self._no_log_det(y)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return _shared_ends(self, support)

    preimage = image


class Reverse(_Mover):
    """y[i] = x[D−1−i]: the permutation between coupling layers, cheaper than a gather.

    >>> import jax.numpy as jnp
    >>> Reverse().forward(jnp.array([1.0, 2.0]))
    Array([2., 1.], dtype=float32)
    """

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return x[::-1], self._no_log_det(x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self.forward_event(y)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return _shared_ends(self, support)

    preimage = image


class Reshape(_Mover):
    """An event of one shape as an event of another, in row-major order.

    Args: `shape_in`, `shape_out`: event shapes of equal size; otherwise ValueError.

    >>> import jax.numpy as jnp
    >>> Reshape((64,), (8, 8)).forward(jnp.zeros((5, 64))).shape
    (5, 8, 8)
    """

    shape_in: tuple[int, ...] = eqx.field(static=True)
    shape_out: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, shape_in: tuple[int, ...], shape_out: tuple[int, ...]):
        for name, shape in (("shape_in", shape_in), ("shape_out", shape_out)):
            for size in shape:
                check_sizes(0, **{name: size})
        if math.prod(shape_in) != math.prod(shape_out):
            raise ValueError(f"shape_out: expected {math.prod(shape_in)} numbers as in {shape_in}, got {shape_out}")
        self.shape_in, self.shape_out = tuple(shape_in), tuple(shape_out)

    @property
    def event_ndims_in(self) -> int:
        return len(self.shape_in)

    @property
    def event_ndims_out(self) -> int:
        return len(self.shape_out)

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return x.reshape(self.shape_out), self._no_log_det(x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return y.reshape(self.shape_in), self._no_log_det(y)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._exchange(shape, self.shape_in, self.shape_out)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._exchange(shape, self.shape_out, self.shape_in)

    def _exchange(self, shape: tuple[int, ...], old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
        if shape[len(shape) - len(old) :] != old:
            raise ValueError(f"Reshape expects events of shape {old}, got {shape}")
        return shape[: len(shape) - len(old)] + new

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return _shared_ends(self, support, len(self.shape_out) - len(self.shape_in))

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        return _shared_ends(self, support, len(self.shape_in) - len(self.shape_out))


def _shared_ends(bijector: Bijector, support: constraints.Constraint, extra: int = 0) -> constraints.Constraint:
    """The support of moved coordinates: the same, where all of them share it."""
    interval = as_interval(support)
    if interval is None or any(jnp.ndim(end) for end in interval[:2] if end is not None):
        raise UnknownSupport(f"{type(bijector).__name__} cannot say where it maps the support {support}")
    return interval._replace(event_dim=interval.event_dim + extra).constraint()
