"""Numbers that a caller chose: widths, numbers of layers, of levels, of components; bounds and intervals."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_sizes(least: int = 1, **sizes: Any) -> None:
    """Raise ValueError for the first of the named sizes that is no integer of at least `least`.

    Args:
        least: the least that a size may be.
        sizes: the numbers, by the names of the arguments.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {size!r}")


def as_integer(size: Any) -> Any:
    """Return a NumPy integer as Python's, which a static field holds; anything else as it is, for `check_sizes` to
    judge.

    Args:
        size: any object.
    """
    return int(size) if isinstance(size, np.integer) else size


def as_number(x: Any) -> Any:
    """Return a number of NumPy's or JAX's whose value is known, such as `x.std()`, as Python's, which a static field
    holds; anything else as it is, for a check to judge.

    Args:
        x: any object.

    >>> import jax.numpy as jnp
    >>> as_number(jnp.array(0.5)), as_number("0.5")
    (0.5, '0.5')
    """
    known = isinstance(x, np.number | np.ndarray | jax.Array) and not isinstance(x, jax.core.Tracer)
    return x.item() if known and x.ndim == 0 and jnp.issubdtype(x.dtype, np.number) else x


def as_shape(event_shape: Sequence[int], *, fewest: int = 1) -> tuple[int, ...]:
    """Return the shape of an event as a tuple.

    Args:
        event_shape: integers of at least 1.
        fewest: how many axes it has at least.

    Raises ValueError where it has fewer axes, or an axis of none.
    """
    known = isinstance(event_shape, Sequence | np.ndarray) and len(event_shape) >= fewest
    if not known or not all(isinstance(size, int | np.integer) and size >= 1 for size in event_shape):
        raise ValueError(f"event_shape: expected integers of at least 1, such as (28, 28), got {event_shape!r}")
    return tuple(map(int, event_shape))


def check_positive(**numbers: Any) -> None:
    """Raise ValueError for the first of the named numbers that is not finite and positive.

    Args:
        numbers: by the names of the arguments.
    """
    for name, number in numbers.items():
        if not (_is_finite(number) and number > 0):
            raise ValueError(f"{name}: expected a positive number, got {number!r}")


def check_not_negative(**numbers: Any) -> None:
    """Raise ValueError for the first of the named numbers that is not finite, or negative.

    Args:
        numbers: by the names of the arguments.
    """
    for name, number in numbers.items():
        if not (_is_finite(number) and number >= 0):
            raise ValueError(f"{name}: expected a number of at least 0, got {number!r}")


def check_interval(**intervals: Any) -> None:
    """Raise ValueError for the first of the named intervals that is no pair of finite numbers low < high.

    Args:
        intervals: by the names of the arguments.
    """
    for name, ends in intervals.items():
        pair = isinstance(ends, tuple | list) and len(ends) == 2 and all(map(_is_finite, ends))
        if not pair or not ends[0] < ends[1]:
            raise ValueError(f"{name}: expected two finite numbers low < high, got {ends!r}")


def _is_finite(number: Any) -> bool:
    return isinstance(number, int | float | np.number) and math.isfinite(number)
