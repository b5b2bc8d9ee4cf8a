"""Functions among the leaves of a model: they are static, as everything is that is no array."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax


class Function(eqx.Module):
    """A function as a node without leaves: called, it is the function."""

    function: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)


def static_functions(tree: Any) -> Any:
    """Return a tree whose function leaves (a lambda, the activation in an `equinox.nn.MLP`) are static nodes, which
    `jax.jit` takes. What holds a network of the user's passes it through this one.

    Args:
        tree: any pytree.

    >>> import equinox as eqx, jax
    >>> net = eqx.nn.MLP(2, 1, 8, 1, key=jax.random.key(0))
    >>> all(eqx.is_array(leaf) for leaf in jax.tree.leaves(static_functions(net)))
    True
    """
    return jax.tree.map(lambda leaf: Function(leaf) if callable(leaf) else leaf, tree)
