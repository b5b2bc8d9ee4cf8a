"""Whether one support lies within another, as far as is known."""

import jax
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.support import Interval, as_interval, is_beyond, is_real
from probgen.distributions.wrapped import family

_OPEN = (type(constraints.dependent), constraints.cat, type(constraints.complex))  # of which nothing is known here


def leaves(support: constraints.Constraint | None, other: constraints.Constraint | None) -> bool:
    """Return whether a support is known not to lie within another: where one is of integers and the other of reals,
    where both are intervals, and where all of ℝᵈ meets a set with less in it, such as the simplex.

    >>> from numpyro.distributions import constraints
    >>> leaves(constraints.real, constraints.positive), leaves(constraints.positive, constraints.real)
    (True, False)
    >>> (
    ...     leaves(constraints.nonnegative_integer, constraints.boolean),
    ...     leaves(constraints.real_vector, constraints.simplex),
    ... )
    (True, True)
    """
    if not (_is_known(support) and _is_known(other)):
        return False
    if support.is_discrete != other.is_discrete:  # type: ignore[union-attr]
        return True
    inner, outer = (_integers(s) if s.is_discrete else as_interval(s) for s in (support, other))  # type: ignore[union-attr]
    if inner and outer:
        return is_beyond(inner, outer)
    return outer is None and not other.is_discrete and is_real(support)  # type: ignore[union-attr,arg-type]


def draws_outside(q: dist.Distribution, p: dist.Distribution) -> bool:
    """Return whether one distribution is known to draw what lies outside of another's support. A point mass says ℝ of
    itself, wherever its point lies, and is not asked.

    >>> draws_outside(dist.Normal(0.0, 1.0), dist.Gamma(1.0, 1.0)), draws_outside(dist.Delta(1.0), dist.Gamma(1.0, 1.0))
    (True, False)
    """
    if isinstance(family(q), dist.Delta):
        return False
    try:
        drawn, wanted = q.support, p.support
    except (ValueError, NotImplementedError, jax.errors.ConcretizationTypeError):
        return False  # of what is not known nothing can be said
    return leaves(drawn, wanted)


def check_within(name: str, value: Array, d: dist.Distribution) -> None:
    """Raise ValueError where numbers (not traced) are known to lie outside of a distribution's support.

    >>> import jax.numpy as jnp
    >>> check_within("z", jnp.array([0, 1]), dist.Bernoulli(0.5).expand((2,)).to_event())
    >>> check_within("z", jnp.array([0, 2]), dist.Bernoulli(0.5).expand((2,)).to_event())
    Traceback (most recent call last):
        ...
    ValueError: z: expected numbers in IndependentConstraint(Boolean(), 1), got some outside
    """
    if isinstance(value, jax.core.Tracer):
        return
    try:
        support = d.support
    except (ValueError, NotImplementedError, jax.errors.ConcretizationTypeError):
        return
    if not _is_known(support) or not value.size:
        return
    inside = support(value)
    if not isinstance(inside, jax.core.Tracer) and not inside.all():
        raise ValueError(f"{name}: expected numbers in {support}, got some outside")


def _is_known(support: constraints.Constraint | None) -> bool:
    if isinstance(support, constraints.independent):
        return _is_known(support.base_constraint)
    return type(support).__module__ == constraints.__name__ and not isinstance(support, _OPEN)


def _integers(support: constraints.Constraint) -> Interval | None:
    """Return the ends of a support of integers; None where it is of another kind."""
    if isinstance(support, constraints.independent):
        return _integers(support.base_constraint)
    if support is constraints.boolean:
        return Interval(0, 1, 0)
    if isinstance(support, constraints.integer_interval):
        return Interval(support.lower_bound, support.upper_bound, 0)
    if isinstance(support, constraints.integer_greater_than):
        return Interval(support.lower_bound, None, 0)
    return None
