"""Supports as the bijectors need them: an elementwise interval with its two ends, or nothing that we can map."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import constraints

ROUNDING = 2.0**-21  # of float32: ends that differ by less are the same


class UnknownSupport(ValueError):
    """Raised where a bijector cannot say where it maps a support."""


class Interval(NamedTuple):
    """An elementwise support: its ends, None where it is unbounded, and how many event axes it covers."""

    lower: Any
    upper: Any
    event_dim: int

    def constraint(self) -> constraints.Constraint:
        """Return the numpyro constraint of this interval."""
        if self.lower is None and self.upper is None:
            base = constraints.real
        elif self.upper is None:
            base = constraints.greater_than(self.lower)
        elif self.lower is None:
            base = constraints.less_than(self.upper)
        else:
            base = constraints.interval(self.lower, self.upper)
        return constraints.independent(base, self.event_dim) if self.event_dim else base


REAL = Interval(None, None, 0)


def as_interval(support: constraints.Constraint) -> Interval | None:
    """Return the interval of an elementwise continuous support, or None where it is of another kind."""
    if isinstance(support, constraints.independent):
        inner = as_interval(support.base_constraint)
        return inner and inner._replace(event_dim=support.event_dim)
    if support is constraints.real:
        return Interval(None, None, 0)
    if isinstance(support, constraints.greater_than):
        return Interval(support.lower_bound, None, 0)
    if isinstance(support, constraints.less_than):
        return Interval(None, support.upper_bound, 0)
    if isinstance(support, constraints.interval):
        return Interval(support.lower_bound, support.upper_bound, 0)
    return None


def map_support(
    function: Callable[[Array], Array],
    support: constraints.Constraint,
    source: constraints.Constraint,
    target: constraints.Constraint,
    *,
    shape: tuple[int, ...] = (),
    increasing: bool | None = None,
) -> constraints.Constraint | None:
    """Return the image of an interval under an elementwise monotone function, rising or falling, from `source` onto
    `target`, on events of a shape; None where one of the three is no interval.

    Two ends within the source are mapped and put in order, whichever way the function goes. Where one of them is an
    end of the source, the direction tells with which end of the target it changes places. Where `increasing` does not
    say, the function is asked; UnknownSupport where that is not known, since numbers of the function are traced, or
    where it differs between the numbers of an event. Ends may be traced, or be arrays.
    """
    interval, start, onto = map(as_interval, (support, source, target))
    if interval is None or start is None or onto is None:
        return None
    at_lower, at_upper = reaches(interval.lower, start.lower), reaches(interval.upper, start.upper)
    whole = lambda end: function(jnp.broadcast_to(end, jnp.broadcast_shapes(jnp.shape(end), shape)))
    if at_lower and at_upper:
        lower, upper = onto.lower, onto.upper
    elif not at_lower and not at_upper:
        ends = [_at(whole, end) for end in interval[:2]]
        lower, upper = (_end(_at(first, *ends)) for first in (jnp.minimum, jnp.maximum))
    else:
        inner = move_end(whole, interval.upper if at_lower else interval.lower)
        if increasing is None:
            increasing = _rises(whole, start if _is_traced(interval) else interval)
        lower, upper = (onto.lower, inner) if at_lower == increasing else (inner, onto.upper)
    return interval._replace(lower=lower, upper=upper).constraint()


def _rises(function: Callable[[Array], Array], interval: Interval) -> bool:
    """Return whether a monotone function rises, which it is asked at two points of the interval."""
    slope = _at(lambda near, far: function(far) - function(near), *_two_points(interval))
    if not isinstance(slope, jax.core.Tracer):
        if np.all(np.asarray(slope) > 0):
            return True
        if np.all(np.asarray(slope) < 0):
            return False
    raise UnknownSupport(f"whether the bijector rises or falls is not known on {interval.constraint()}")


def _is_traced(interval: Interval) -> bool:
    return any(isinstance(end, jax.core.Tracer) for end in interval[:2])


def _two_points(interval: Interval) -> tuple[Any, Any]:
    lower, upper = interval[:2]
    if lower is None and upper is None:
        return -1.0, 1.0
    if lower is not None and upper is not None:
        return (2 * lower + upper) / 3, (lower + 2 * upper) / 3
    step = 1 + abs(upper if lower is None else lower) / 16  # steps at which exponentials neither overflow nor vanish
    return (upper - 2 * step, upper - step) if lower is None else (lower + step, lower + 2 * step)


def reaches(end: Any, full: Any) -> bool:
    """Return whether an end of an interval is at, or beyond, that of the whole domain, as far as can be known."""
    if end is None or end is full:
        return True
    if full is None:
        return False
    end, full = _numbers(end), _numbers(full)
    return end is not None and full is not None and bool(np.all(np.abs(end - full) <= ROUNDING * np.abs(full)))


def _numbers(end: Any) -> np.ndarray | None:
    """Return an end as numbers, or None where it is traced."""
    return None if isinstance(end, jax.core.Tracer) else np.asarray(end, float)


def require_within(support: constraints.Constraint, domain: constraints.Constraint, name: str) -> None:
    """Raise ValueError where a support is known not to lie in the domain of a bijector of that name: where both are
    intervals, and an end of numbers (not traced) lies outside by more than rounding."""
    inner, outer = as_interval(support), as_interval(domain)
    if inner and outer and is_beyond(inner, outer):
        raise ValueError(f"{name} is defined on {domain}, but what it is given lives on {support}")


def is_beyond(inner: Interval, outer: Interval) -> bool:
    """Return whether an end of one interval is known to lie outside the other by more than rounding."""
    return any(_beyond(*ends) for ends in zip(inner[:2], outer[:2], (-1.0, 1.0), strict=True))


def _beyond(end: Any, limit: Any, sign: float) -> bool:
    if limit is None:
        return False
    numbers, limits = _numbers(sign * jnp.inf if end is None else end), _numbers(limit)
    if numbers is None or limits is None:
        return False
    try:
        return bool(np.any(sign * (numbers - limits) > ROUNDING * np.abs(limits)))
    except ValueError:  # shapes that do not broadcast are told elsewhere
        return False


def move_end(increasing: Callable[[Array], Array], end: Any) -> Any:
    """Return where an increasing function maps an end of an interval; None stays None, and infinity becomes it."""
    return None if end is None else _end(_at(increasing, end))


def _at(function: Callable[..., Array], *points: Any) -> Array:
    with jax.ensure_compile_time_eval():  # a constant's value is known, even while jit traces
        return function(*(jnp.asarray(point, float) for point in points))


def _end(moved: Array) -> Array | None:
    known = not isinstance(moved, jax.core.Tracer)
    return None if known and np.all(np.isinf(np.asarray(moved))) else moved


def covers(support: constraints.Constraint, domain: constraints.Constraint) -> bool:
    """Return whether both are intervals, and the first is known to reach both ends of the second."""
    inner, outer = as_interval(support), as_interval(domain)
    return bool(inner and outer and all(map(reaches, inner[:2], outer[:2])))


def inside(x: Array, support: constraints.Constraint) -> Array:
    """Return x strictly within an interval: a value that rounded to an end is taken for the last number before it; one
    beyond is NaN. What is no interval, or has no ends, holds all x."""
    interval, inner = as_interval(support) or REAL, x
    beyond: Any = False
    if interval.lower is not None:
        inner, beyond = jnp.maximum(inner, _next(interval.lower, jnp.inf, x.dtype)), x < interval.lower
    if interval.upper is not None:
        inner, beyond = jnp.minimum(inner, _next(interval.upper, -jnp.inf, x.dtype)), beyond | (x > interval.upper)
    return x if inner is x else jnp.where(beyond, jnp.nan, inner)


def _next(end: Any, toward: float, dtype: Any) -> Any:
    """Return the number next to an end; next to 0, the least that is not flushed to 0."""
    xp = jnp if isinstance(end, jax.core.Tracer) else np
    end, least = xp.asarray(end, dtype), np.copysign(jnp.finfo(dtype).tiny, toward)
    return xp.where(end == 0, least, xp.nextafter(end, xp.asarray(toward, dtype))).astype(dtype)


def is_real(support: constraints.Constraint) -> bool:
    """Return whether a support is all of ℝᵈ."""
    interval = as_interval(support)
    return interval is not None and interval.lower is None and interval.upper is None


def widen(support: constraints.Constraint, event_dim: int) -> constraints.Constraint:
    """Return a support as the support of an event of rank `event_dim`."""
    extra = event_dim - support.event_dim
    return constraints.independent(support, extra) if extra > 0 else support
