"""Rows of two samples on one origin and scale, and the distances between them, block by block."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import as_numbers
from probgen.distributions.in_blocks import block_size

_SHORT = 16  # numbers of a row up to which differences are taken one by one: products would cancel


def as_rows(*, fewest: int, **samples: Any) -> tuple[float, tuple[Array, ...]]:
    """Return (scale, the samples as flat rows [N, D]), all less their common mean and over their common scale, which
    keeps what single precision has of them.

    What is equal before is equal after: doubles are rounded to singles where another sample is of singles.

    Args:
        fewest: how many rows each has to have.
        samples: arrays [N, *event], by the names of the arguments.

    Raises ValueError where events differ in shape, rows are too few, numbers are not finite, or all rows are the same.
    """
    arrays = {name: _checked(name, x, fewest) for name, x in samples.items()}
    (first, one), *others = arrays.items()
    for name, x in others:
        if x.shape[1:] != one.shape[1:]:
            raise ValueError(f"{name}: expected events of shape {one.shape[1:]} as in {first}, got {x.shape[1:]}")
    single = any(x.dtype == np.float32 for x in arrays.values())
    kept = [x.astype(np.float32) if single and x.dtype == np.float64 else x for x in arrays.values()]
    flat = [x.reshape(len(x), -1).astype(np.float64) for x in kept]
    count = sum(map(len, flat))
    mean = sum(x.sum(0) for x in flat) / count
    for x in flat:
        x -= mean
    if all((x == flat[0][0]).all() for x in flat):
        raise ValueError(f"{', '.join(arrays)}: expected rows that differ, got {count} that are all the same")
    scale = max(float(np.abs(x).max()) for x in flat)
    for x in flat:
        x /= scale
    return scale, tuple(jnp.asarray(x, float) for x in flat)


def _checked(name: str, x: Any, fewest: int) -> np.ndarray:
    array = np.asarray(as_numbers(name, x))
    if not array.ndim or len(array) < fewest:
        raise ValueError(f"{name}: expected at least {fewest} rows, [N, *event], got shape {array.shape}")
    if not array[0].size:
        raise ValueError(f"{name}: expected events of at least one number, got shape {array.shape[1:]}")
    if array.dtype not in (np.float32, np.float64) and array.dtype.kind not in "iub":
        array = array.astype(np.float32)  # of half a single's precision, such as bfloat16
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity in row {row}")
    return array


def squared_distances(row: Array, rows: Array) -> Array:
    """Return |row − rows_j|², [M], of one row [D] and others [M, D]; under `vmap` long rows go through one product of
    matrices."""
    if rows.shape[1] <= _SHORT:
        return jnp.sum((row - rows) ** 2, -1)
    products = jnp.matmul(rows, row, precision="highest")
    return jnp.maximum(jnp.sum(row**2) + jnp.sum(rows**2, -1) - 2 * products, 0.0)


def rows_of_a_block(rows: Array) -> int:
    """Return how many rows are compared with all of the others at a time."""
    return block_size(len(rows) * min(rows.shape[1], _SHORT))


@jax.jit
def nearest(x: Array, y: Array) -> Array:
    """Return the distance of each row of x to the nearest of y, [N]; 0 for a copy."""

    def of(row: Array) -> Array:
        closest = y[jnp.argmin(squared_distances(row, y))]
        return jnp.sqrt(jnp.sum((row - closest) ** 2))

    return lax.map(of, x, batch_size=rows_of_a_block(y))
