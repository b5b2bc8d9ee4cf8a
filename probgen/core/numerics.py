"""Functions of logarithms that stay finite, with finite gradients, at the ends."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def logmeanexp(x: Array, axis: int = 0) -> Array:
    """Return the log of the mean of exp(x) along an axis.

    Args:
        x: any array.
        axis: the axis that is averaged over.
    """
    return jax.nn.logsumexp(x, axis) - math.log(x.shape[axis])


def as_real(name: str, x: Any) -> Array:
    """Return numbers as an array.

    Args:
        name: of the argument, for errors.
        x: numbers.

    Raises ValueError for complex ones, whose imaginary part would be dropped.

    >>> as_real("x", [1, 2])
    Array([1, 2], dtype=int32)
    """
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise ValueError(f"{name}: expected real numbers, got dtype {x.dtype}")
    return x


def as_float(x: Any) -> Array:
    """Return numbers as floats: those that are keep their precision, integers and booleans get the default one.

    Args:
        x: numbers.

    Raises ValueError for complex ones.

    >>> as_float(2), as_float(jnp.ones((), jnp.bfloat16))
    (Array(2., dtype=float32), Array(1, dtype=bfloat16))
    """
    x = as_real("x", x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) and not x.weak_type else x.astype(float)


def log1mexp(x: Array) -> Array:
    """Return log(1 − exp(−x)) for x > 0, accurate at both ends (Mächler 2012).

    Args:
        x: positive numbers.

    >>> log1mexp(1e-6).round(1)
    Array(-13.8, dtype=float32)
    """
    x = jnp.asarray(x, float)
    near = x < math.log(2.0)
    # both branches see arguments at which they and their gradients are finite
    small = jnp.log(-jnp.expm1(-jnp.where(near, jnp.maximum(x, jnp.finfo(x.dtype).tiny), 1.0)))
    large = jnp.log1p(-jnp.exp(-jnp.where(near, 1.0, x)))
    return jnp.where(near, small, large)
