"""From one event to batches, by nested `vmap` (never by reshaping, which gathers sharded axes)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax


def _row_axes() -> list[Array]:
    """Return the index of this row along each axis that the functions below are mapping here, the outermost first."""
    found: list[Array] = []
    while True:
        try:
            found.append(lax.axis_index(_row_axis(len(found))))
        except NameError:  # no such axis is being mapped
            return found


def _row_axis(depth: int) -> str:
    return f"probgen.row{depth}"


def row_number() -> Array:
    """Return a number of 32 bits that tells apart the rows over which `vectorize` or `map_batch` is mapping; 0 outside.

    It is how randomness that was bound for a whole batch differs from row to row.

    >>> import jax.numpy as jnp
    >>> vectorize(lambda x: row_number(), 0)(jnp.zeros(3)).tolist()
    [0, 1, 2]
    """
    number = jnp.uint32(0)
    for index in _row_axes():  # the golden ratio spreads the rows of all axes evenly, so that none coincide
        number = number * jnp.uint32(0x9E3779B1) + index.astype(jnp.uint32)
    return number


def mapped_rows() -> int:
    """Return over how many rows `vectorize` and `map_batch` are mapping here: what one row takes in memory, they all
    do.

    >>> import jax.numpy as jnp
    >>> vectorize(lambda x: mapped_rows() + 0 * x, 0)(jnp.zeros((2, 3), int)).tolist()
    [[6, 6, 6], [6, 6, 6]]
    """
    return math.prod(lax.axis_size(_row_axis(depth)) for depth in range(len(_row_axes())))


def vectorize(function: Callable[[Array], Any], ndims: int) -> Callable[[Array], Any]:
    """Return a function of one event of rank `ndims` mapped over all leading axes of its argument.

    Args:
        function: of one event.
        ndims: the rank of an event.

    Raises ValueError, once it is called, where the argument has fewer axes.

    >>> import jax.numpy as jnp
    >>> vectorize(jnp.sum, 1)(jnp.ones((4, 3, 2))).shape
    (4, 3)
    """

    def mapped(x: Array) -> Any:
        x = jnp.asarray(x)
        if x.ndim < ndims:
            raise ValueError(f"an event has {ndims} axes, but x has shape {x.shape}")
        lead = x.shape[: x.ndim - ndims]
        if 0 in lead:
            return _no_rows(function, lead, _without(lead, x))
        one, outer = function, len(_row_axes())
        for axis in reversed(range(len(lead))):
            one = jax.vmap(one, axis_name=_row_axis(outer + axis))
        return one(x)

    return mapped


def map_batch(
    function: Callable[..., Any],
    owner: Any,
    batch_shape: tuple[int, ...],
    args: tuple[Array, ...],
    event_ndims: tuple[int, ...],
) -> Any:
    """Return `function(owner, *args)` for each element of a batch that the owner's leaves carry on their first axes.

    An argument has shape `[*sample, *batch, *event]`, its event of the rank given; the leading axes of all of them
    broadcast together and with `batch_shape`. The owner is shared along the sample axes, and along those of its own
    that are of size one.

    Args:
        function: of one element of the owner, and of one element's arguments.
        owner: any pytree, such as a model.
        batch_shape: the first axes of its leaves.
        args: arrays.
        event_ndims: the rank of one element of each.
    """
    leads = [x.shape[: x.ndim - n] for x, n in zip(args, event_ndims, strict=True)]
    lead = jnp.broadcast_shapes(batch_shape, *leads)
    full = [jnp.broadcast_to(x, lead + x.shape[x.ndim - n :]) for x, n in zip(args, event_ndims, strict=True)]
    if 0 in lead:
        return _no_rows(function, lead, _without(batch_shape, owner), *(_without(lead, x) for x in full))
    single = tuple(axis for axis, size in enumerate(batch_shape) if size == 1)
    owner = jax.tree.map(lambda leaf: jnp.squeeze(leaf, single), owner) if single else owner
    shared = {*range(len(lead) - len(batch_shape)), *(axis + len(lead) - len(batch_shape) for axis in single)}
    outer = len(_row_axes())
    for axis in reversed(range(len(lead))):
        in_axes = (None if axis in shared else 0, *[0] * len(full))
        function = jax.vmap(function, in_axes=in_axes, axis_name=_row_axis(outer + axis), axis_size=lead[axis])
    return function(owner, *full)


def _without(lead: tuple[int, ...], tree: Any) -> Any:
    """Return the shapes of what is in a tree, without their first axes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x)[len(lead) :], jnp.asarray(x).dtype), tree)


def _no_rows(function: Callable[..., Any], lead: tuple[int, ...], *one: Any) -> Any:
    """Return what `function` of one row says of no rows: `vmap` cannot tell, since it needs a row to map."""
    return jax.tree.map(lambda out: jnp.zeros(lead + out.shape, out.dtype), jax.eval_shape(function, *one))


def check_key(key: Any) -> None:
    """Raise ValueError for what is no key, such as the number of a seed.

    Args:
        key: one key, or the raw integers of one.
    """
    if not hasattr(key, "dtype"):
        raise ValueError(f"key: expected a jax.random.key, got {key!r}")


def split_key(key: Array, shape: tuple[int, ...]) -> Array:
    """Return keys of the given shape from one key; the old style of raw integers, which numpyro still hands out, is
    welcome.

    Args:
        key: one key.
        shape: of the keys; () gives the key itself.

    >>> import jax
    >>> split_key(jax.random.PRNGKey(0), (2, 3)).shape
    (2, 3)
    """
    check_key(key)
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    return jax.random.split(key, shape) if shape else key
