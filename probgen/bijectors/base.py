"""The bijector: two fused maps of one event, an `equinox.Module` and a `distrax.Bijector` at once."""

from typing import NoReturn

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.support import UnknownSupport, as_interval, is_real, map_interval, reaches, widen
from probgen.core import bind, vectorize


class Bijector(eqx.Module, distrax.Bijector):
    """An invertible map of events, base → data, with the log-determinant of its Jacobian.

        y = f(x),   log|det ∂f/∂x|

    A subclass writes `forward_event(x) -> (y, log_det)` and `inverse_event(y) -> (x, log_det)` for ONE event of rank
    `event_ndims_in`; this class maps them over leading axes, and derives the rest of distrax's methods. It states
    `event_ndims_in` (1 unless it says otherwise), `forward_shape` where the shape changes, and how a support is
    mapped. Weights are float arrays in its fields; everything else is static.

    Sources: the two-method contract is distrax's (DeepMind 2021).

    >>> import jax.numpy as jnp
    >>> class Double(Bijector):
    ...     event_ndims_in = 0
    ...
    ...     def forward_event(self, x):
    ...         return 2 * x, jnp.log(2.0)
    ...
    ...     def inverse_event(self, y):
    ...         return y / 2, -jnp.log(2.0)
    >>> Double().forward_and_log_det(jnp.ones(3))[1].shape
    (3,)
    """

    # distrax writes these four to the instance, which is a frozen module here; so they are facts of the class
    @property
    def event_ndims_in(self) -> int:
        """Rank of an event before `forward`."""
        return 1

    @property
    def event_ndims_out(self) -> int:
        """Rank of an event after `forward`."""
        return self.event_ndims_in

    @property
    def is_constant_jacobian(self) -> bool:
        """Whether the Jacobian is the same at every x."""
        return False

    @property
    def is_constant_log_det(self) -> bool:
        """Whether the log-determinant is the same at every x."""
        return self.is_constant_jacobian

    @property
    def domain(self) -> constraints.Constraint:
        """Where the bijector is defined: ℝᵈ, but for inverses and some of numpyro's transforms."""
        return constraints.real

    @property
    def codomain(self) -> constraints.Constraint:
        """Where all of the domain is mapped to."""
        return constraints.real

    def batch_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Batch axes that the bijector's own parameters add to an event of this shape: none, but for constants that
        hold a batched distrax bijector or numpyro transform."""
        return ()

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """The shape of its events, where its parameters are made for one and it keeps it; None where any will do."""
        return None

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        """(f(x), log|det ∂f/∂x|) of one event."""
        raise NotImplementedError(f"{type(self).__name__} has no forward direction")

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        """(f⁻¹(y), log|det ∂f⁻¹/∂y|) of one event."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse direction")

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """(y, log_det) for x with any leading axes."""
        self._require(jnp.shape(x))
        return vectorize(self.forward_event, self.event_ndims_in)(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """(x, log_det) for y with any leading axes."""
        self._require(jnp.shape(y))
        return vectorize(self.inverse_event, self.event_ndims_out)(y)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of an event after `forward`, from its shape before. Raises ValueError where it takes no such events."""
        return self._require(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of an event before `forward`, from its shape after. Raises ValueError where it takes no such events."""
        return self._require(shape)

    def _require(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        # parameters of another size might broadcast, and one log-scale would count once for three numbers
        own = self.event_shape
        if own is not None and len(shape) >= len(own) and shape[len(shape) - len(own) :] != own:
            raise ValueError(f"{type(self).__name__} takes events of shape {own}, got shape {shape}")
        return shape

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        """The support of f(x) where x has `support`; `UnknownSupport` (a ValueError) where it is not known.

        All of ℝᵈ goes to `codomain`; a scalar bijector, which rises or falls, also maps the ends of an interval.
        """
        if is_real(support):
            return widen(self.codomain, support.event_dim - self.event_ndims_in + self.event_ndims_out)
        if support is self.domain:
            return self.codomain
        interval, domain, codomain = map(as_interval, (support, self.domain, self.codomain))
        if self.event_ndims_in == 0 and interval and domain and codomain:
            return map_interval(self.forward, interval, domain, codomain).constraint()
        raise UnknownSupport(f"{type(self).__name__} cannot say where it maps the support {support}")

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        """The support of f⁻¹(y) where y has `support`; `UnknownSupport` (a ValueError) where it is not known."""
        if support is self.codomain:
            return self.domain
        interval, domain, codomain = map(as_interval, (support, self.domain, self.codomain))
        if interval and domain and codomain:
            whole = reaches(interval.lower, codomain.lower) and reaches(interval.upper, codomain.upper)
            if self.event_ndims_in == 0 or whole:
                return map_interval(self.inverse, interval, codomain, domain).constraint()
        raise UnknownSupport(f"{type(self).__name__} cannot say where its inverse maps the support {support}")

    def initialize(self, batch: Array, *, inverse: bool, context: Array | None = None) -> "tuple[Bijector, Array]":
        """(the bijector after it has seen a batch [N, *event], the batch mapped by it), as `ActNorm` needs it.

        This one stays what it is; bijectors made of others hand the batch on, each part seeing what reaches it.
        `inverse` is the direction in which the batch goes: True for data, in the density direction. With `context`
        [N, *context], each row has its own. `probgen.distributions.initialize` does it for whole models.
        """
        one = lambda b, x: b.inverse(x) if inverse else b.forward(x)
        if context is None:
            return self, one(self, batch)
        return self, jax.vmap(lambda c, x: one(bind(self, c), x))(context, batch)

    def same_as(self, other: distrax.Bijector) -> bool:
        """Whether two bijectors are the same object (distrax asks this when it compares distributions)."""
        return self is other


def apply(bijector: distrax.Bijector, x: Array, *, inverse: bool = False) -> tuple[Array, Array]:
    """(value, log_det) of ONE event, whose rank may exceed the bijector's; the log-determinant is a scalar."""
    y, log_det = bijector.inverse_and_log_det(x) if inverse else bijector.forward_and_log_det(x)
    change = bijector.event_ndims_out - bijector.event_ndims_in
    if y.ndim - x.ndim != (-change if inverse else change):
        refuse_batch(bijector)
    return y, jnp.sum(log_det)


def refuse_batch(bijector: Bijector) -> NoReturn:
    """Raise ValueError: a part of a bijector of one event has batch axes of its own."""
    inner = getattr(bijector, "bijector", bijector)
    raise ValueError(
        f"a part, {type(inner).__name__}, has parameters with batch axes, but parts act on one event: "
        "make their axes the event's, distrax.Block(part, 1), or compose with distrax.Chain"
    )
