"""What is bound into a model at call time: one context, or the randomness of one training step."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpyro.distributions as dist
from jax import Array

from probgen.core.functions import static_functions
from probgen.core.leaves import Frozen, given


class Contextual(eqx.Module):
    """A network of `(x, context)` as a function of x alone, once `bind` has given it the context.

    Args:
        network: any callable pytree of `(x, context)`.
        context: the context, once it is bound; `bind` sets it.

    >>> import jax.numpy as jnp
    >>> net = Contextual(lambda x, c: x + c)
    >>> bind(net, jnp.ones(2))(jnp.zeros(2))
    Array([1., 1.], dtype=float32)
    """

    network: Any = eqx.field(converter=static_functions)
    context: Array | None = given(default=None)

    def bind_context(self, context: Array) -> "Contextual":
        """Return the same network with its context filled in."""
        return Contextual(self.network, context)

    @property
    def bound(self) -> Array:
        """The context. Raises ValueError where none is bound."""
        if self.context is None:
            raise ValueError("this model is conditional: call the ConditionalModel with a context first")
        return self.context

    def __call__(self, x: Array) -> Array:
        """Apply the network to x and the bound context."""
        return self.network(x, self.bound)

    def sequential(self) -> Any:
        """Return the network's steps, which begin with the bound context; None where it has none."""
        steps = sequential(self.network)
        return None if steps is None else Contextual(steps, self.bound)

    def init(self) -> Any:
        """Return the cache before the first step."""
        return self.network.init(self.bound)

    def step(self, cache: Any, value: Array, i: Array) -> tuple[Any, Array]:
        """Take one step of the network's."""
        return self.network.step(cache, value, i)


def sequential(network: Any) -> Any:
    """Return a causal network evaluated position by position, or None where it cannot be.

    What a network's method `sequential()` returns has `init(*context) -> cache` and `step(cache, value, i) -> (cache,
    raw)`, which is told the value before position i (any for i = 0), and returns the raw numbers of position i that the
    whole network gives.

    Args:
        network: any callable pytree.
    """
    make = getattr(network, "sequential", None)
    return None if make is None else make()


def _rebind(model: Any, method: str, new: Callable[[Any], Any]) -> Any:
    has = lambda node: hasattr(type(node), method)
    return jax.tree.map(lambda node: new(node) if has(node) else node, model, is_leaf=has)


def bind(model: Any, context: Array) -> Any:
    """Give one context (without batch axes) to every node of the model that takes one.

    A node takes a context if it has a method `bind_context(context)` that returns the node with it.

    Args:
        model: any pytree, such as a model.
        context: one context, [*context].
    """
    return _rebind(model, "bind_context", lambda node: node.bind_context(context))


def is_conditional(model: Any) -> bool:
    """Return whether any node of the model takes a context.

    Args:
        model: any pytree, such as a model.
    """
    takes = lambda node: hasattr(type(node), "bind_context")
    return any(takes(node) for node in jax.tree.leaves(model, is_leaf=takes))


def is_random(model: Any) -> bool:
    """Return whether training the model needs randomness of its own, such as dropout.

    Args:
        model: any pytree, such as a model.
    """
    nodes = jax.tree.leaves(model, is_leaf=lambda node: hasattr(type(node), "bind_key"))
    return any(getattr(node, "is_random", True) for node in nodes if hasattr(type(node), "bind_key"))


def with_key(model: Any, key: Array) -> Any:
    """Return the model with randomness bound: every node with a method `bind_key(key)` gets a key of its own.

    Densities take no key; dropout reads the one that was bound here, and is the identity without.

    Args:
        model: any pytree, such as a model.
        key: the randomness of one training step.
    """
    counter = iter(range(2**31))
    return _rebind(model, "bind_key", lambda node: node.bind_key(jax.random.fold_in(key, next(counter))))


def with_keys(layers: Any, key: Array) -> Any:
    """Return equal layers, each with a key of its own.

    Args:
        layers: any pytree whose arrays have the layers on axis 0.
        key: the randomness of one training step.
    """
    return jax.vmap(with_key)(layers, jax.random.split(key, jax.tree.leaves(layers)[0].shape[0]))


def has_update(model: Any) -> bool:
    """Return whether a training loop has to call `model.update(batch, key) -> model` after each step.

    Only the model itself is asked: what a part within it sees of a batch (a layer of a flow, the base under it) only
    the model can say, so its `update` hands that on. Parts under `Frozen` stay as they are on purpose.

    Args:
        model: any model.

    Raises ValueError where a part has an `update` and the model has none, for its state would silently stay as it is.

    >>> import jax
    >>> from probgen.mixtures import EM, categorical_mixture
    >>> model = categorical_mixture((2,), 3, components=2, key=jax.random.key(0))
    >>> has_update(model), has_update(EM(model))
    (False, True)
    """
    has = lambda node: hasattr(type(node), "update") and getattr(node, "has_update", True)
    updates = lambda node: isinstance(node, eqx.Module | dist.Distribution) and has(node)
    if updates(model):
        return True
    stop = lambda node: updates(node) or isinstance(node, Frozen)
    for path, node in jtu.tree_leaves_with_path(model, is_leaf=stop):
        if updates(node):
            where = jtu.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"the part {where!r} is a {type(node).__name__}, which has state and an `update`, but nobody calls it: "
                f"give {type(model).__name__} an update(batch, key) that hands on what this part sees of a batch"
            )
    return False
