"""Whether one support lies within another, as far as is known."""

import jax
import numpy as np
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


def holds_at_a_glance(support: constraints.Constraint, rows: np.ndarray) -> bool:
    """Return whether a support is seen to hold all rows [N, *event] by the least and the largest of their numbers: an
    interval has all that lies between two of its own. False where that takes a look at each row.

    >>> from numpyro.distributions import constraints
    >>> rows = np.array([[0.2, 0.8], [0.5, 0.5]])
    >>> holds_at_a_glance(constraints.unit_interval, rows), holds_at_a_glance(constraints.unit_interval, 2 * rows)
    (True, False)
    >>> holds_at_a_glance(constraints.simplex, rows)
    False
    """
    interval = _integers(support) if support.is_discrete else as_interval(support)
    if interval is None or not _is_known(support) or not rows.size:
        return False
    ends = np.stack([np.full(rows.shape[1:], end, rows.dtype) for end in (rows.min(), rows.max())])
    return bool(np.asarray(support(ends)).all())


def differ(support: constraints.Constraint, other: constraints.Constraint) -> bool:
    """Return whether the supports of events of one shape are different sets, edges apart; of what is no interval,
    whether they are described differently.

    >>> from numpyro.distributions import constraints
    >>> differ(constraints.positive, constraints.nonnegative), differ(constraints.positive, constraints.real)
    (False, True)
    >>> differ(constraints.simplex, constraints.simplex), differ(constraints.simplex, constraints.ordered_vector)
    (False, True)
    """
    if support.is_discrete == other.is_discrete and _is_known(support) and _is_known(other):
        one, two = (_integers(s) if s.is_discrete else as_interval(s) for s in (support, other))
        if one and two:
            return is_beyond(one, two) or is_beyond(two, one)
    one_by_one, others = of_scalars(support), of_scalars(other)
    return one_by_one != others and repr(one_by_one) != repr(others)


def of_scalars(support: constraints.Constraint) -> constraints.Constraint:
    """Return the constraint of which a support is so many independent copies.

    >>> of_scalars(dist.Normal(0.0, 1.0).expand((2, 3)).to_event(2).support)
    Real()
    """
    return support.base_constraint if isinstance(support, constraints.independent) else support


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
