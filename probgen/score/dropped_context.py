"""Networks that take a context, which training drops at a rate, so that they know what is without."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import Kind, check_functions, is_random, row_number, static_functions, with_key


class Conditioned(eqx.Module):
    """The base of what calls a network with a context, if there is one, after which a number says that it is there.

    A context is bound by `core.bind`. With `drop_context` a 1 follows it; without it there are zeros for both, so that
    a context of zeros is not mistaken for none. In training, where `core.with_key` has bound a key, each row loses its
    context at that rate.

    Args:
        network: any callable pytree that takes a context.
        context_dim: the size of the context, if there is one.
        drop_context: the rate, below 1, at which training drops it; the network's context is longer by one where it
            is not 0.
        context: the context and the number after it, once they are bound; `core.bind` sets them.
        key: the randomness of one training step; `core.with_key` sets it.

    Raises ValueError where `drop_context` is no rate, or there is no context to drop.

    References: Classifier-Free Diffusion Guidance (Ho, Salimans 2022), arXiv:2207.12598, algorithm 1.
    """

    name: ClassVar[str] = "network"
    network: Any = eqx.field(converter=static_functions)
    context_dim: int | None = eqx.field(static=True, default=None, kw_only=True)
    drop_context: float = eqx.field(static=True, default=0.0, kw_only=True)
    # `given`, in the words that a type checker reads kw_only from: subclasses add fields without defaults
    context: Array | None = eqx.field(metadata={"kind": Kind.GIVEN}, default=None, kw_only=True)
    key: Array | None = eqx.field(metadata={"kind": Kind.GIVEN}, default=None, kw_only=True)

    def __check_init__(self) -> None:
        check_functions("numbers", network=self.network)
        if not 0.0 <= self.drop_context < 1.0:
            raise ValueError(f"drop_context: expected a rate in [0, 1), got {self.drop_context}")
        if self.drop_context and self.context_dim is None:
            raise ValueError(f"drop_context: expected a context_dim beside it, got {self.drop_context} and None")

    def bind_context(self, context: Array) -> Self:
        """Return the same with its context filled in."""
        if self.context_dim is None:
            return self
        return self._with_context(jnp.append(context, 1.0) if self.drop_context else context)

    def without_context(self) -> Self:
        """Return that of all data, whatever their context. Raises ValueError where the network did not learn it."""
        if self.context_dim is None:
            raise ValueError(f"{self.name}: expected a conditional one, got one that takes no context")
        if not self.drop_context:
            raise ValueError(
                f"{self.name}: expected one that also learned from rows without their contexts, got one that never saw "
                "any; make and train the model with drop_context=0.1, say"
            )
        return self._with_context(jnp.zeros(self.context_dim + 1))

    def _with_context(self, context: Array) -> Self:
        return eqx.tree_at(lambda d: d.context, self, context, is_leaf=lambda x: x is None)

    @property
    def is_random(self) -> bool:
        """Whether training draws which contexts are dropped, or units of the network."""
        return self.drop_context > 0.0 or is_random(self.network)

    def bind_key(self, key: Array) -> Self:
        """Return the same with the randomness of one training step, of the network too."""
        own, inner = jax.random.split(key)
        parts = lambda d: (d.network, d.key)
        return eqx.tree_at(parts, self, (with_key(self.network, inner), own), is_leaf=lambda x: x is None)

    def _context_of_row(self) -> Array:
        """Return the context of one row, or zeros where this training step drops it."""
        if self.context is None:
            raise ValueError("this model is conditional: call the ConditionalModel with a context first")
        if self.key is None or not self.drop_context:
            return self.context
        row = jax.random.fold_in(self.key, row_number())
        return jnp.where(jax.random.bernoulli(row, self.drop_context), 0.0, self.context)


class DroppingContext(Conditioned):
    """A network of (x, context) as one of x alone, which learns with and without its context.

    Args:
        network: of (x, context), the context longer by one than `context_dim` where `drop_context` is not 0.
        context_dim: the size of the context.
        drop_context: the rate at which training drops it.
        context: the context, once it is bound; `core.bind` sets it.
        key: the randomness of one training step; `core.with_key` sets it.

    >>> from probgen.core import bind
    >>> network = DroppingContext(lambda x, c: c, context_dim=2, drop_context=0.1)
    >>> bind(network, jnp.zeros(2))(jnp.ones(1)).tolist(), network.without_context()(jnp.ones(1)).tolist()
    ([0.0, 0.0, 1.0], [0.0, 0.0, 0.0])
    """

    def __call__(self, x: Array) -> Array:
        """Apply the network to one event."""
        return self.network(x, self._context_of_row())
