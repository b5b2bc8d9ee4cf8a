"""Networks of other libraries, or of no library: a plain function of its params and its inputs."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jax import Array


class WithParams(eqx.Module):
    """x ↦ function(params, x): any network that is a function of a tree of arrays, as one of ours.

    It serves wherever a network does: the floats of `params` learn, and `save` writes them by their paths. Equinox's
    modules need no wrapper.

    - Flax: `graph, params = flax.nnx.split(module, flax.nnx.Param)`, then
      `WithParams(lambda params, x: flax.nnx.merge(graph, params)(x), params.to_pure_dict())`;
    - Haiku: `WithParams(lambda params, x: network.apply(params, None, x), network.init(key, x))`, of what
      `haiku.transform` returns.

    Args:
        function: `function(params, *inputs)` of one event, without randomness and state.
        params: a tree of arrays.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.distributions import Conditional, NormalHead
    >>> line = WithParams(lambda params, x: params["w"] @ x + params["b"], {"w": jnp.ones((2, 3)), "b": jnp.zeros(2)})
    >>> Conditional(line, NormalHead(), ())(jnp.ones(3)).loc
    Array(3., dtype=float32)
    """

    function: Callable[..., Array] = eqx.field(static=True)
    params: Any

    def __call__(self, *inputs: Array) -> Array:
        """Return function(params, *inputs)."""
        return self.function(self.params, *inputs)
