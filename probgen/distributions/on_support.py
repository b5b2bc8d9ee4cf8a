"""A flow on ℝᴰ, moved onto another support."""

import dataclasses
from typing import TypeVar, cast

import equinox as eqx
import jax
import numpy as np
from numpyro.distributions import biject_to, constraints

from probgen.bijectors import Constant
from probgen.bijectors.support import is_real
from probgen.core import recipe
from probgen.distributions.base import Distribution
from probgen.distributions.conditionals import ConditionalModel
from probgen.distributions.transformed import Transformed

Flow = TypeVar("Flow", Distribution, ConditionalModel)


@recipe
def on_support(flow: Flow, constraint: constraints.Constraint) -> Flow:
    """A flow pushed through numpyro's bijection from ℝᴰ onto `constraint`, which becomes its support.

        y = t(x),   x ~ flow,   log p(y) = log p_flow(t⁻¹(y)) − log|det ∂t/∂x|,   t = biject_to(constraint)

    The event takes the constraint's shape: D numbers give D positive ones, a simplex of D + 1, the Cholesky factor of
    a correlation matrix n×n where D = n(n−1)/2. NUTS, which moves in biject_to's coordinates, sees the flow's own.
    Where an edge of a closed support (a proportion of 0) is the image of no number, the density is NaN, and `fit`
    refuses such rows.

    Args:
        flow: a distribution on ℝᴰ, or a conditional of one.
        constraint: positive, unit_interval, interval(a, b), simplex, ordered_vector, positive_ordered_vector,
            corr_cholesky, lower_cholesky, l1_ball, independent(…), or any other that numpyro's `biject_to` knows. Its
            bounds are constants.

    Raises ValueError where there is no such bijection, the bounds are traced, the flow lives elsewhere than on ℝᴰ, or
    no member has D degrees of freedom.

    References: Stan Reference Manual, "Constraint Transforms" (Stan Development Team).

    >>> import jax
    >>> from numpyro.distributions import constraints
    >>> from probgen.flows import real_nvp
    >>> flow = on_support(real_nvp(3, layers=2, hidden=(8,), key=jax.random.key(0)), constraints.corr_cholesky)
    >>> flow.support, flow.sample(jax.random.key(1), (5,)).shape
    (CorrCholesky(), (5, 3, 3))
    """
    if isinstance(flow, ConditionalModel):
        return cast(Flow, dataclasses.replace(flow, model=on_support(flow.model, constraint), recipe=None))
    if not is_real(flow.support):
        raise ValueError(f"flow: expected a distribution on all of ℝᴰ, got one on {flow.support}")
    bijector = _onto(constraint)
    try:
        return cast(Flow, Transformed(flow, bijector))
    except ValueError as error:
        raise ValueError(
            f"constraint: {constraint} does not fit a flow of event shape {flow.event_shape}: {error}"
        ) from None


def on_edge(model: Distribution, x: np.ndarray) -> np.ndarray:
    """Return which of the events x [N, *event] lie on the edge of a closed support: bool [N]. numpyro's bijections send
    them to no number, though the support counts them in."""
    if not (isinstance(model, Transformed) and isinstance(model.bijector, Constant)):
        return np.zeros(len(x), bool)
    return ~np.isfinite(np.asarray(model.bijector.inverse(x))).reshape(len(x), -1).all(1)


def _onto(constraint: constraints.Constraint) -> Constant:
    bounds = jax.tree.leaves(constraint)
    if any(isinstance(bound, jax.core.Tracer) for bound in bounds):
        raise ValueError(
            f"constraint: expected constant bounds, since no gradient reaches them, got traced {constraint}"
        )
    try:
        bijector = biject_to(constraint)
    except NotImplementedError:
        raise ValueError(f"constraint: numpyro's biject_to knows no bijection from ℝᴰ onto {constraint}") from None
    # arrays cannot be static; where there are some, the constraint is one of intervals, which follow from the bijector
    return Constant(bijector, codomain=None if any(map(eqx.is_array, bounds)) else constraint)
