"""From one event to batches, by nested `vmap` (never by reshaping, which gathers sharded axes)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def vectorize(function: Callable[[Array], Any], ndims: int) -> Callable[[Array], Any]:
    """Map a function of one event of rank `ndims` over all leading axes of its argument.

    >>> import jax.numpy as jnp
    >>> vectorize(jnp.sum, 1)(jnp.ones((4, 3, 2))).shape
    (4, 3)
    """

    def mapped(x: Array) -> Any:
        x = jnp.asarray(x)
        if x.ndim < ndims:
            raise ValueError(f"an event has {ndims} axes, but x has shape {x.shape}")
        one = function
        for _ in range(x.ndim - ndims):
            one = jax.vmap(one)
        return one(x)

    return mapped


def map_batch(
    function: Callable[..., Any],
    owner: Any,
    batch_shape: tuple[int, ...],
    args: tuple[Array, ...],
    event_ndims: tuple[int, ...],
) -> Any:
    """`function(owner, *args)` for each element of a batch that the owner's leaves carry on their first axes.

    An argument has shape `[*sample, *batch, *event]`, its event of the rank given; the leading axes of all of them
    broadcast together and with `batch_shape`. The sample axes are mapped with the owner shared.
    """
    leads = [x.shape[: x.ndim - n] for x, n in zip(args, event_ndims, strict=True)]
    lead = jnp.broadcast_shapes(batch_shape, *leads)
    full = [jnp.broadcast_to(x, lead + x.shape[x.ndim - n :]) for x, n in zip(args, event_ndims, strict=True)]
    for axis in reversed(range(len(lead))):
        shared = axis < len(lead) - len(batch_shape)
        function = jax.vmap(function, in_axes=(None if shared else 0, *[0] * len(full)))
    return function(owner, *full)


def split_key(key: Array, shape: tuple[int, ...]) -> Array:
    """Keys of the given shape from one key; the old style of raw integers, which numpyro still hands out, is welcome.

    >>> import jax
    >>> split_key(jax.random.PRNGKey(0), (2, 3)).shape
    (2, 3)
    """
    if not hasattr(key, "dtype"):
        raise ValueError(f"key: expected a jax.random.key, got {key!r}")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    return jax.random.split(key, shape) if shape else key
