"""Sizes that a caller chose: widths, numbers of layers, of levels, of components."""

from typing import Any

import numpy as np


def check_sizes(least: int = 1, **sizes: Any) -> None:
    """Raise ValueError for the first of the named sizes that is no integer of at least `least`."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {size!r}")
