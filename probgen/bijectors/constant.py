"""Bijectors of other libraries inside our models: values, which do not learn and pass gradients on."""

from typing import Any

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints, transforms
from numpyro.distributions.transforms import Transform

from probgen.bijectors.base import Bijector
from probgen.bijectors.support import map_support
from probgen.core import given

_ONTO_REAL = (
    distrax.Linear,
    distrax.LowerUpperTriangularAffine,
    distrax.RationalQuadraticSpline,
    distrax.ScalarAffine,
    distrax.Shift,
    distrax.UnconstrainedAffine,
    transforms.AffineTransform,  # numpyro's own codomain takes any traced scale to be positive
)
_LINEAR = (
    transforms.AffineTransform,
    transforms.DiscreteCosineTransform,
    transforms.HaarTransform,
    transforms.IdentityTransform,
    transforms.LowerCholeskyAffine,
    transforms.PermuteTransform,
    transforms.RecursiveLinearTransform,
    transforms.ReshapeTransform,
)
_TransformInverse: Any = type(transforms.ExpTransform().inv)


def _parts(bijector: Any) -> list[tuple[Bijector, bool]]:
    """Return what a composition or a wrapper of bijectors applies, first to last, each with whether it is inverted;
    empty for others."""
    is_inverse = False
    if isinstance(bijector, Bijector):
        found = [bijector]
    elif isinstance(bijector, distrax.Chain) and not isinstance(bijector, _ONTO_REAL):
        found = list(reversed(bijector.bijectors))
    elif isinstance(bijector, transforms.ComposeTransform):
        found = list(bijector.parts)
    elif isinstance(bijector, distrax.Block):
        found = [bijector.bijector]
    elif isinstance(bijector, transforms.IndependentTransform):
        found = [bijector.base_transform]
    elif is_inverse := isinstance(bijector, distrax.Inverse | _TransformInverse):
        found = [bijector.bijector if isinstance(bijector, distrax.Inverse) else bijector.inv]
    else:
        found = []
    return [(as_bijector(part), is_inverse) for part in found]


def _codomain(bijector: Any) -> constraints.Constraint:
    """Return where a bijector that is no composition maps its domain to."""
    if isinstance(bijector, _ONTO_REAL):
        return constraints.real
    if isinstance(bijector, Transform):
        return bijector.codomain
    if isinstance(bijector, distrax.Sigmoid | distrax.GumbelCDF):
        return constraints.unit_interval
    if isinstance(bijector, distrax.Tanh):
        return constraints.interval(-1.0, 1.0)
    if isinstance(bijector, distrax.Lambda) and bijector._forward in (jnp.exp, jax.nn.softplus):
        return constraints.positive
    raise ValueError(f"codomain= is needed: {type(bijector).__name__} cannot say where it maps its domain to")


class Constant(Bijector):
    """A distrax bijector or a numpyro transform as a part of a model: its arrays are given, its structure static.

    It does not learn, and gradients flow through it: to the network whose output it was made of, as a transformer's
    are, or to a parameter of the program that it stands in.

    distrax's own objects change their tree structure with the type of their leaves, and do not know their codomain;
    both are settled here, at construction. A probgen bijector may be given too, and then nothing of it learns. Of
    chains, inverses and blocks the codomain follows from their parts.

    Args:
        bijector: a distrax bijector, a numpyro transform, or one of ours.
        codomain: the numpyro constraint that ℝᵈ is mapped to, needed where it is not known.

    Raises ValueError where the codomain is needed and missing.

    >>> import distrax, jax.numpy as jnp
    >>> Constant(distrax.Tanh()).codomain.upper_bound
    1.0
    >>> Constant(distrax.Lambda(jnp.sinh), codomain=constraints.real).forward(0.0)
    Array(0., dtype=float32)
    """

    structure: Any = eqx.field(static=True)
    ndims: tuple[int, int] = eqx.field(static=True)
    codomain_: constraints.Constraint | None = eqx.field(static=True)
    leaves: tuple[Array, ...] = given()

    def __init__(self, bijector: Any, *, codomain: constraints.Constraint | None = None):
        if codomain is None and not _parts(bijector):
            _codomain(bijector)  # or it is refused
        self.codomain_ = codomain
        foreign = isinstance(bijector, Transform)
        self.ndims = (
            (bijector.domain.event_dim, bijector.codomain.event_dim)
            if foreign
            else (bijector.event_ndims_in, bijector.event_ndims_out)
        )
        leaves, self.structure = jax.tree.flatten(bijector)
        self.leaves = tuple(jnp.asarray(leaf) for leaf in leaves)

    @property
    def bijector(self) -> Any:
        """The object that was given."""
        return jax.tree.unflatten(self.structure, self.leaves)

    @property
    def event_ndims_in(self) -> int:
        return self.ndims[0]

    @property
    def event_ndims_out(self) -> int:
        return self.ndims[1]

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return tuple(part for part, _ in _parts(self.bijector))

    @property
    def is_constant_jacobian(self) -> bool:
        return super().is_constant_jacobian if self.parts else self._says("is_constant_jacobian")

    @property
    def is_constant_log_det(self) -> bool:
        return super().is_constant_log_det if self.parts else self._says("is_constant_log_det")

    def _says(self, what: str) -> bool:
        inner = self.bijector
        return isinstance(inner, _LINEAR) if isinstance(inner, Transform) else bool(getattr(inner, what))

    @property
    def domain(self) -> constraints.Constraint:
        for part, inverted in self._steps()[:1]:
            return part.codomain if inverted else part.domain
        inner = self.bijector
        return inner.domain if isinstance(inner, Transform) and not isinstance(inner, _ONTO_REAL) else constraints.real

    @property
    def codomain(self) -> constraints.Constraint:
        if self.codomain_ is not None:
            return self.codomain_
        return self.image(self.domain) if self._steps() else _codomain(self.bijector)

    def _steps(self) -> list[tuple[Bijector, bool]]:
        with jax.ensure_compile_time_eval():  # what is constant stays known, even while jit traces
            return _parts(self.bijector) if self.codomain_ is None else []

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        if steps := self._steps():
            for part, inverted in steps:
                support = part.preimage(support) if inverted else part.image(support)
            return support
        moved = None if self.event_ndims_in else map_support(self.forward, support, self.domain, self.codomain)
        return moved or super().image(support)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        if steps := self._steps():
            for part, inverted in reversed(steps):
                support = part.image(support) if inverted else part.preimage(support)
            return support
        moved = None if self.event_ndims_in else map_support(self.inverse, support, self.codomain, self.domain)
        return moved or super().preimage(support)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self._both(x, inverse=False)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self._both(y, inverse=True)

    def _both(self, x: Array, *, inverse: bool) -> tuple[Array, Array]:
        bijector, x = self._of_one_dtype(x)
        inner = bijector.bijector
        if isinstance(inner, Transform):
            value = inner.inv(x) if inverse else inner(x)
            before, after = self.ndims[::-1] if inverse else self.ndims
            x = jnp.broadcast_to(x, value.shape[: value.ndim - after] + x.shape[x.ndim - before :])
            ends = (value, x) if inverse else (x, value)
            log_det = inner.log_abs_det_jacobian(*ends) * (-1 if inverse else 1)
        else:
            value, log_det = inner.inverse_and_log_det(x) if inverse else inner.forward_and_log_det(x)
        # some bijectors return one log-determinant for a whole batch
        return value, jnp.broadcast_to(log_det, value.shape[: value.ndim - self.ndims[0 if inverse else 1]])

    def batch_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._shapes("forward", event_shape)[0]

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._shapes("forward", shape)[1]

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._shapes("inverse", shape)[1]

    def _shapes(self, direction: str, event: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the batch axes that the parameters add to an event of this shape, and its shape on the other side."""
        inner, rank, back = self.bijector, len(event) + self.ndims[1] - self.ndims[0], "inverse"
        if direction == "inverse":
            rank, back = len(event) + self.ndims[0] - self.ndims[1], "forward"
        try:
            out = _shape(inner, direction, event)
            batch, other = out[: len(out) - rank], out[len(out) - rank :]
            again = other if other == event else _shape(inner, back, other)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{type(inner).__name__} takes no events of shape {event}: {error}") from None
        if again[len(again) - len(event) :] != event:  # the parameters would repeat an event's numbers
            raise ValueError(f"{type(inner).__name__} takes no events of shape {event}: it makes {other} of one")
        return batch, other


def _shape(bijector: Any, direction: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(bijector, Transform):
        return tuple(getattr(bijector, f"{direction}_shape")(shape))
    event = jax.ShapeDtypeStruct(shape, jnp.result_type(float))
    return tuple(jax.eval_shape(getattr(bijector, direction), event).shape)


def as_bijector(bijector: Any) -> Bijector:
    """Return a probgen bijector as it is, and a distrax bijector or a numpyro transform as a `Constant`.

    Args:
        bijector: one of ours, distrax's or numpyro's.
    """
    return bijector if isinstance(bijector, Bijector) else Constant(bijector)
