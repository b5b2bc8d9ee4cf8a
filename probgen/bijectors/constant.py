"""Bijectors of other libraries inside our models: values, not learned."""

from typing import Any

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform

from probgen.bijectors.base import Bijector
from probgen.core import Frozen

_ONTO_REAL = (
    distrax.DiagLinear,
    distrax.DiagPlusLowRankLinear,
    distrax.LowerUpperTriangularAffine,
    distrax.RationalQuadraticSpline,
    distrax.ScalarAffine,
    distrax.TriangularLinear,
    distrax.UnconstrainedAffine,
)


def _codomain(bijector: Any) -> constraints.Constraint:
    if isinstance(bijector, Bijector | Transform):
        return bijector.codomain
    if isinstance(bijector, distrax.Block):
        return _codomain(bijector._bijector)
    if isinstance(bijector, distrax.Sigmoid):
        return constraints.unit_interval
    if isinstance(bijector, distrax.Tanh):
        return constraints.interval(-1.0, 1.0)
    if isinstance(bijector, distrax.Lambda) and bijector._forward in (jnp.exp, jax.nn.softplus):
        return constraints.positive
    if isinstance(bijector, _ONTO_REAL):
        return constraints.real
    raise ValueError(f"codomain= is needed: {type(bijector).__name__} cannot say where it maps ℝᵈ to")


class Constant(Bijector):
    """A distrax bijector or a numpyro transform as a part of a model: its arrays are frozen, its structure static.

    distrax's own objects change their tree structure with the type of their leaves, and do not know their codomain;
    both are settled here, at construction. A probgen bijector may be given too, and is frozen as a whole.

    Args: `bijector`; `codomain`: the numpyro constraint that ℝᵈ is mapped to, needed where it is not known.
    Raises ValueError where it is needed and missing.

    >>> import distrax, jax.numpy as jnp
    >>> Constant(distrax.Tanh()).codomain.upper_bound
    1.0
    >>> Constant(distrax.Lambda(jnp.sinh), codomain=constraints.real).forward(0.0)
    Array(0., dtype=float32, weak_type=True)
    """

    leaves: Frozen
    structure: Any = eqx.field(static=True)
    ndims: tuple[int, int] = eqx.field(static=True)
    own_batch_ndims: int = eqx.field(static=True)
    codomain_: constraints.Constraint = eqx.field(static=True)

    def __init__(self, bijector: Any, *, codomain: constraints.Constraint | None = None):
        self.codomain_ = _codomain(bijector) if codomain is None else codomain
        foreign = isinstance(bijector, Transform)
        self.ndims = (
            (bijector.domain.event_dim, bijector.codomain.event_dim)
            if foreign
            else (bijector.event_ndims_in, bijector.event_ndims_out)
        )
        leaves, self.structure = jax.tree.flatten(bijector)
        self.leaves = Frozen(tuple(jnp.asarray(leaf) for leaf in leaves))
        self.own_batch_ndims = len(_batch_shape(bijector, self.ndims[0]))

    @property
    def bijector(self) -> Any:
        """The object that was given, its arrays behind `stop_gradient`."""
        return jax.tree.unflatten(self.structure, self.leaves.value)

    @property
    def event_ndims_in(self) -> int:
        return self.ndims[0]

    @property
    def event_ndims_out(self) -> int:
        return self.ndims[1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return _batch_shape(self.bijector, self.ndims[0]) if self.own_batch_ndims else ()

    @property
    def codomain(self) -> constraints.Constraint:
        return self.codomain_

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self._both(jnp.asarray(x), inverse=False)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self._both(jnp.asarray(y), inverse=True)

    def _both(self, x: Array, *, inverse: bool) -> tuple[Array, Array]:
        inner = self.bijector
        if isinstance(inner, Transform):
            value = inner.inv(x) if inverse else inner(x)
            ends = (value, x) if inverse else (x, value)
            log_det = inner.log_abs_det_jacobian(*ends) * (-1 if inverse else 1)
        else:
            value, log_det = inner.inverse_and_log_det(x) if inverse else inner.forward_and_log_det(x)
        # some bijectors return one log-determinant for a whole batch
        return value, jnp.broadcast_to(log_det, value.shape[: value.ndim - self.ndims[0 if inverse else 1]])

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._shape("forward", shape, self.ndims)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._shape("inverse", shape, self.ndims[::-1])

    def _shape(self, direction: str, shape: tuple[int, ...], ndims: tuple[int, int]) -> tuple[int, ...]:
        if isinstance(self.bijector, Transform):
            return getattr(self.bijector, f"{direction}_shape")(shape)
        if ndims[0] == ndims[1]:
            return shape
        out = jax.eval_shape(getattr(self.bijector, direction), jax.ShapeDtypeStruct(shape, jnp.result_type(float)))
        return out.shape[len(self.batch_shape) :]


def _batch_shape(bijector: Any, ndims: int) -> tuple[int, ...]:
    """The axes that a bijector's parameters add to one event."""
    if isinstance(bijector, Transform | Bijector):
        return getattr(bijector, "batch_shape", ())
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(bijector)]
    if not shapes or ndims:
        return ()
    out = jax.eval_shape(bijector.forward, jax.ShapeDtypeStruct((), jnp.result_type(float)))
    return out.shape


def as_bijector(bijector: Any) -> Bijector:
    """A probgen bijector as it is; a distrax bijector or a numpyro transform as a `Constant`."""
    return bijector if isinstance(bijector, Bijector) else Constant(bijector)
