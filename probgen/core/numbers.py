"""Numbers that a caller hands over as data."""

from typing import Any

import jax
import numpy as np

from probgen.core.numerics import as_real


def check_numbers(*, positive: bool = False, **arrays: Any) -> None:
    """Raise ValueError for the first of the named arrays whose numbers are known, and not all finite, or not all
    positive where that is asked.

    Args:
        positive: whether they have to be.
        arrays: of numbers, by the names of the arguments.

    >>> check_numbers(positive=True, scale=[1.0, -2.0])
    Traceback (most recent call last):
    ValueError: scale: expected a positive number, got -2.0
    """
    for name, x in arrays.items():
        if isinstance(x, jax.core.Tracer):
            continue
        numbers = np.asarray(as_numbers(name, x))
        right = np.isfinite(numbers) & ((numbers > 0) | (not positive))
        if not right.all():
            expected = "a positive number" if positive else "finite numbers"
            raise ValueError(f"{name}: expected {expected}, got {numbers[~right][0]}")


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
        arrays = ": several arrays are a tuple" if any(getattr(part, "ndim", 0) for part in parts) else ""
        raise ValueError(
            f"{name}: expected numbers in rows of one length, got a ragged {type(x).__name__}{arrays}"
        ) from None
    if array.dtype.kind == "c":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.dtype == object or array.dtype.kind in "USMm":
        raise ValueError(f"{name}: expected numbers, got dtype {array.dtype}")
    return array
