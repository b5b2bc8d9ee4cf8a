"""All values of a discrete distribution, where they are few."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

MOST = 1 << 16  # numbers, in all the values that are enumerated at once


def levels(support: Any) -> tuple[int, int] | None:
    """Return (the least, how many) of the integers that one number of an event takes; None where they are not known."""
    if isinstance(support, constraints.independent):
        return levels(support.base_constraint)
    if support is constraints.boolean:
        return 0, 2
    if not isinstance(support, type(constraints.integer_interval(0, 1))):
        return None
    bounds = support.lower_bound, support.upper_bound
    if any(isinstance(bound, jax.core.Tracer) or np.ndim(bound) for bound in bounds):
        return None
    low, high = map(int, bounds)
    return low, high - low + 1


def number_of_events(d: dist.Distribution) -> int | None:
    """Return how many values an event of a distribution takes; None where that is not finite or not known."""
    try:
        found = levels(d.support)
    except (ValueError, jax.errors.ConcretizationTypeError):  # the support is not known, or its ends are traced
        return None
    return None if found is None else found[1] ** math.prod(d.event_shape)


def are_few(d: dist.Distribution) -> bool:
    """Return whether all values of an event have at most 65,536 numbers in all."""
    count = number_of_events(d)
    return count is not None and count * max(1, math.prod(d.event_shape)) <= MOST


def events_of(d: dist.Distribution) -> Array | None:
    """Return all values of an event, [n, *event_shape], the last number fastest; None where they are too many
    (`are_few`)."""
    count = number_of_events(d)
    if count is None or not are_few(d):
        return None
    low, base = levels(d.support)  # type: ignore[misc]
    places = base ** np.arange(math.prod(d.event_shape))[::-1]
    digits = np.arange(count)[:, None] // places % base + low
    return jnp.asarray(digits.reshape(count, *d.event_shape), jnp.int32)
