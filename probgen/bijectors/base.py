"""The bijector: two fused maps of one event, an `equinox.Module` and a `distrax.Bijector` at once."""

from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.support import UnknownSupport, covers, is_real, widen
from probgen.core import DensityKind, as_float, as_real, bind, vectorize, weakest


class Bijector(eqx.Module, distrax.Bijector):
    """An invertible map of events, base → data, with the log-determinant of its Jacobian.

        y = f(x),   log|det ∂f/∂x|

    A subclass writes `forward_event(x) -> (y, log_det)` and `inverse_event(y) -> (x, log_det)` for ONE event of rank
    `event_ndims_in`; this class maps them over leading axes, and derives the rest of distrax's methods. It states
    `event_ndims_in` (1 unless it says otherwise), `forward_shape` where the shape changes, and how a support is
    mapped. Weights are float arrays in its fields; everything else is static. What acts number by number is a `Scalar`
    or an `Elementwise`, and what only moves numbers a `Rearranging`: these know most of it themselves.

    Sources: the two-method contract is distrax's (DeepMind 2021).

    >>> import jax.numpy as jnp
    >>> class Shear(Bijector):
    ...     def forward_event(self, x):
    ...         return x.at[1].add(x[0]), jnp.zeros(())
    ...
    ...     def inverse_event(self, y):
    ...         return y.at[1].add(-y[0]), jnp.zeros(())
    >>> Shear().forward_and_log_det(jnp.ones((3, 2)))[1].shape
    (3,)
    """

    # distrax writes these four to the instance, which is a frozen module here; so they are facts of the class
    @property
    def event_ndims_in(self) -> int:
        """The rank of an event before `forward`."""
        return 1

    @property
    def event_ndims_out(self) -> int:
        """The rank of an event after `forward`."""
        return self.event_ndims_in

    @property
    def parts(self) -> "tuple[Bijector, ...]":
        """The bijectors that it is made of, of which it has what they all have; none where it is not."""
        return ()

    @property
    def is_constant_jacobian(self) -> bool:
        """Whether the Jacobian is the same at every x."""
        return bool(self.parts) and all(part.is_constant_jacobian for part in self.parts)

    @property
    def is_constant_log_det(self) -> bool:
        """Whether the log-determinant is the same at every x."""
        return self.is_constant_jacobian or (bool(self.parts) and all(part.is_constant_log_det for part in self.parts))

    @property
    def kind(self) -> DensityKind:
        """The kind of its log-determinant: "exact", or "estimate" where it is one within `tolerance`, as its parts'
        are."""
        return weakest(*(part.kind for part in self.parts))

    @property
    def tolerance(self) -> float:
        """The number of nats by which the log-determinant of an estimate may be off: the sum of the parts'."""
        return sum(part.tolerance for part in self.parts)

    @property
    def domain(self) -> constraints.Constraint:
        """The set on which the bijector is defined: ℝᵈ, but for inverses and some of numpyro's transforms."""
        return constraints.real

    @property
    def codomain(self) -> constraints.Constraint:
        """The set that all of the domain is mapped to."""
        return constraints.real

    def batch_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the batch axes that the bijector's own parameters add to an event of this shape: none, but for
        constants that hold a batched distrax bijector or numpyro transform."""
        return ()

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        """The shape of its events, where its parameters are made for one and it keeps it; None where any will do."""
        return None

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        """Return (f(x), log|det ∂f/∂x|) of one event."""
        raise NotImplementedError(f"{type(self).__name__} has no forward direction")

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        """Return (f⁻¹(y), log|det ∂f⁻¹/∂y|) of one event."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse direction")

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Return (y, log_det) for x of any real dtype, with any leading axes."""
        self._require(jnp.shape(x))
        bijector, x = self._of_one_dtype(x)
        return vectorize(bijector.forward_event, self.event_ndims_in)(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Return (x, log_det) for y of any real dtype, with any leading axes."""
        self._require(jnp.shape(y))
        bijector, y = self._of_one_dtype(y)
        return vectorize(bijector.inverse_event, self.event_ndims_out)(y)

    @property
    def moves_only(self) -> bool:
        """Whether it only moves the numbers of an event, so that integers stay integers."""
        return bool(self.parts) and all(part.moves_only for part in self.parts)

    def _of_one_dtype(self, x: Array) -> tuple["Bijector", Array]:
        """Return the bijector and x with floats of the widest kind among them, of 32 bits at least: loops over the
        parts of an event carry one kind, and a log-determinant in half precision would be worth nothing."""
        if self.moves_only:
            return self, as_real("x", x)
        x, dtypes = as_float(x), [leaf.dtype for leaf in jax.tree.leaves(self) if _is_float(leaf)]
        dtype = jnp.result_type(x.dtype, jnp.float32, *dtypes)
        if all(own == dtype for own in dtypes):
            return self, x.astype(dtype)
        return jax.tree.map(lambda leaf: leaf.astype(dtype) if _is_float(leaf) else leaf, self), x.astype(dtype)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an event after `forward`, from its shape before. Raises ValueError where it takes no such
        events."""
        return self._require(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an event before `forward`, from its shape after. Raises ValueError where it takes no such
        events."""
        return self._require(shape)

    def _require(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        # parameters of another size might broadcast, and one log-scale would count once for three numbers
        own = self.event_shape
        if own is not None and len(shape) >= len(own) and shape[len(shape) - len(own) :] != own:
            raise ValueError(f"{type(self).__name__} takes events of shape {own}, got shape {shape}")
        return shape

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        """Return the support of f(x) where x has `support`; raise `UnknownSupport` (a ValueError) where it is not
        known.

        All of the domain goes to `codomain`; what becomes of less, the traits know (`Scalar` and its neighbours).
        """
        if is_real(support) or support is self.domain or covers(support, self.domain):
            return widen(self.codomain, support.event_dim - self.event_ndims_in + self.event_ndims_out)
        raise UnknownSupport(f"{type(self).__name__} cannot say where it maps the support {support}")

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        """Return the support of f⁻¹(y) where y has `support`; raise `UnknownSupport` (a ValueError) where it is not
        known."""
        if support is self.codomain or covers(support, self.codomain):
            return widen(self.domain, support.event_dim - self.event_ndims_out + self.event_ndims_in)
        raise UnknownSupport(f"{type(self).__name__} cannot say where its inverse maps the support {support}")

    def initialize(self, batch: Array, *, inverse: bool, context: Array | None = None) -> "tuple[Bijector, Array]":
        """Return the bijector after it has seen a batch, as `ActNorm` needs it, and the batch mapped by it.

        This one stays what it is; bijectors made of others hand the batch on, each part seeing what reaches it.
        `probgen.distributions.initialize` does it for whole models.

        Args:
            batch: rows [N, *event].
            inverse: the direction in which the batch goes: True for data, in the density direction.
            context: [N, *context], of each row, where the bijector takes one.
        """
        one = lambda b, x: b.inverse(x) if inverse else b.forward(x)
        if context is None:
            return self, one(self, batch)
        return self, jax.vmap(lambda c, x: one(bind(self, c), x))(context, batch)

    def same_as(self, other: distrax.Bijector) -> bool:
        """Return whether two bijectors have the same structure and the same numbers, as far as those are known (traced
        ones are the same only where they are one object)."""
        if self is other:
            return True
        own: Any = jax.tree.structure(self)
        if not isinstance(other, Bijector) or own != jax.tree.structure(other):
            return False
        return all(_same(a, b) for a, b in zip(jax.tree.leaves(self), jax.tree.leaves(other), strict=True))

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return isinstance(other, Bijector) and self.same_as(other)

    def __hash__(self) -> int:
        return hash(jax.tree.structure(self))

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            found = object.__getattribute__(self, name)
            if isinstance(found, MethodType) and found.__self__ is self and not name.startswith("__"):
                return _Method(found.__func__, self)
            return found

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if (
            cls.__qualname__ == "tfp_compatible_bijector.<locals>.TFPCompatibleBijector"
        ):  # what `distrax.to_tfp` makes of our class
            as_theirs: Any = cls
            as_theirs.__setattr__ = object.__setattr__
            as_theirs.inverse_and_log_det = lambda self, y: as_theirs.__getattr__(self, "inverse_and_log_det")(y)


class _Method(eqx.Module):
    """A method of a bijector: a pytree, as equinox's are, and hashable, so that plain `jax.jit` takes it. It is the
    same only for one object: what `jit` compiled with the numbers of one bijector never serves another."""

    function: Callable[..., Any] = eqx.field(static=True)
    owner: Bijector

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self.owner, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(MethodType(self.function, self.owner), name)  # its name, its docstring, its signature

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return isinstance(other, _Method) and self.function is other.function and self.owner is other.owner

    def __hash__(self) -> int:
        return hash((self.function, id(self.owner)))


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer) or jnp.shape(a) != jnp.shape(b):
        return False
    with jax.ensure_compile_time_eval():
        return jnp.result_type(a) == jnp.result_type(b) and bool(jnp.all(a == b))


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def apply(bijector: distrax.Bijector, x: Array, *, inverse: bool = False) -> tuple[Array, Array]:
    """Return (value, log_det) of ONE event, whose rank may exceed the bijector's; the log-determinant is a scalar."""
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
