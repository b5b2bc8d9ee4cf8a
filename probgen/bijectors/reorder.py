"""What moves the numbers of an event and changes none: permutations and reshapes."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.bijectors.traits import Rearranging
from probgen.core import check_sizes


class Permute(Rearranging):
    """y[i] = x[permutation[i]] along the last axis: an order that never learns.

    Args:
        permutation: integers, a permutation of 0..D−1. A tuple is static; an integer array is a leaf, for layers that
            are stacked and differ in it.

    Raises ValueError where a concrete permutation is none.

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

    def move(self, x: Array) -> Array:
        return x[self._indices]

    def move_back(self, y: Array) -> Array:
        there = self._indices
        back = jnp.zeros_like(there).at[there].set(jnp.arange(there.size, dtype=there.dtype))  # a sort compiles longer
        return y[back]


class Reverse(Rearranging):
    """y[i] = x[D−1−i]: the permutation between coupling layers, cheaper than a gather.

    >>> import jax.numpy as jnp
    >>> Reverse().forward(jnp.array([1.0, 2.0]))
    Array([2., 1.], dtype=float32)
    """

    def move(self, x: Array) -> Array:
        return x[::-1]

    def move_back(self, y: Array) -> Array:
        return y[::-1]


class Reshape(Rearranging):
    """A reshape: an event of one shape as an event of another, in row-major order.

    Args:
        shape_in: the event's shape before.
        shape_out: its shape after, of equal size.

    Raises ValueError where the sizes differ.

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
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.shape_in, self.shape_out

    @property
    def event_ndims_in(self) -> int:
        return len(self.shape_in)

    @property
    def event_ndims_out(self) -> int:
        return len(self.shape_out)

    def move(self, x: Array) -> Array:
        return x.reshape(self.shape_out)

    def move_back(self, y: Array) -> Array:
        return y.reshape(self.shape_in)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._exchange(shape, self.shape_in, self.shape_out)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._exchange(shape, self.shape_out, self.shape_in)

    def _exchange(self, shape: tuple[int, ...], old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
        if shape[len(shape) - len(old) :] != old:
            raise ValueError(f"Reshape expects events of shape {old}, got {shape}")
        return shape[: len(shape) - len(old)] + new
