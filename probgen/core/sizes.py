"""Numbers that a caller chose: widths, numbers of layers, of levels, of components; bounds and intervals."""

import math
from typing import Any

import numpy as np


def check_sizes(least: int = 1, **sizes: Any) -> None:
    """Raise ValueError for the first of the named sizes that is no integer of at least `least`."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {size!r}")


def check_positive(**numbers: Any) -> None:
    """Raise ValueError for the first of the named numbers that is not finite and positive."""
    for name, number in numbers.items():
        if not (_is_finite(number) and number > 0):
            raise ValueError(f"{name}: expected a positive number, got {number!r}")


def check_interval(**intervals: Any) -> None:
    """Raise ValueError for the first of the named intervals that is no pair of finite numbers low < high."""
    for name, ends in intervals.items():
        pair = isinstance(ends, tuple | list) and len(ends) == 2 and all(map(_is_finite, ends))
        if not pair or not ends[0] < ends[1]:
            raise ValueError(f"{name}: expected two finite numbers low < high, got {ends!r}")


def _is_finite(number: Any) -> bool:
    return isinstance(number, int | float | np.number) and math.isfinite(number)
