"""Supports as the bijectors need them: an elementwise interval with its two ends, or nothing that we can map."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import constraints


class UnknownSupport(ValueError):
    """Raised where a bijector cannot say where it maps a support."""


class Interval(NamedTuple):
    """An elementwise support: its ends, None where it is unbounded, and how many event axes it covers."""

    lower: Any
    upper: Any
    event_dim: int

    def constraint(self) -> constraints.Constraint:
        """The numpyro constraint of this interval."""
        if self.lower is None and self.upper is None:
            base = constraints.real
        elif self.upper is None:
            base = constraints.greater_than(self.lower)
        elif self.lower is None:
            base = constraints.less_than(self.upper)
        else:
            base = constraints.interval(self.lower, self.upper)
        return constraints.independent(base, self.event_dim) if self.event_dim else base


def as_interval(support: constraints.Constraint) -> Interval | None:
    """The interval of an elementwise continuous support, or None where it is of another kind."""
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


def move_end(increasing: Callable[[Array], Array], end: Any) -> Any:
    """Where an increasing function maps an end of an interval; None stays None, and infinity becomes it."""
    if end is None:
        return None
    with jax.ensure_compile_time_eval():  # a constant's end is known, even while jit traces
        moved = increasing(jnp.asarray(end, float))
    known = not isinstance(moved, jax.core.Tracer)
    return None if known and np.all(np.isinf(np.asarray(moved))) else moved


def is_real(support: constraints.Constraint) -> bool:
    """Whether a support is all of ℝᵈ."""
    interval = as_interval(support)
    return interval is not None and interval.lower is None and interval.upper is None


def widen(support: constraints.Constraint, event_dim: int) -> constraints.Constraint:
    """A support as the support of an event of rank `event_dim`."""
    extra = event_dim - support.event_dim
    return constraints.independent(support, extra) if extra > 0 else support
