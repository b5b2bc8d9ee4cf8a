"""Numbers that a caller hands over as data."""

from typing import Any

import jax
import numpy as np

from probgen.core.numerics import as_real


def as_numbers(name: str, x: Any) -> np.ndarray | jax.Array:
    """Return an array of numbers out of what a user has: an array of any library, a list.

    JAX's arrays come back as they are.

    Args:
        name: of the argument, for errors.
        x: the numbers.

    Raises ValueError where they are no real numbers, or rows of several lengths, or where a NumPy array masks some of
    them: the mask would be lost, and what it hides would count.

    >>> as_numbers("x", [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(x, jax.Array):
        return as_real(name, x)
    parts = x if isinstance(x, list | tuple) else [x]
    masked = sum(int(np.ma.getmaskarray(part).sum()) for part in parts if isinstance(part, np.ma.MaskedArray))
    if masked:
        raise ValueError(
            f"{name}: expected numbers that all count, got a masked array with {masked} masked: drop those rows, or "
            "fill them and mask their sites in a program, numpyro.handlers.mask"
        )
    try:
        array = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name}: expected numbers in rows of one length, got a ragged {type(x).__name__}") from None
    if array.dtype.kind == "c":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.dtype == object or array.dtype.kind in "USMm":
        raise ValueError(f"{name}: expected numbers, got dtype {array.dtype}")
    return array
