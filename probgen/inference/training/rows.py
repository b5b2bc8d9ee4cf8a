"""Rows in the device's memory, out of which batches are drawn there, in a new order each epoch."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import check_sizes
from probgen.distributions.events import Data, as_arrays, widened
from probgen.inference.training.devices import Devices

CHUNK = 1024  # the most steps between two looks of the host
_SAMPLED = 1024  # rows whose bytes are summed up

Look = Callable[[Data, int], Any]


class Shuffled:
    """Batches of rows in the device's memory, as a loop of compiled steps draws them: all rows in each epoch, in an
    order of its own. It holds no rows."""

    def __init__(self, rows: int, batch_size: int, key: Array):
        self.rows, self.batch_size, self.key = rows, batch_size, key
        self.is_whole = batch_size == rows
        self.epoch_steps = rows // batch_size
        self.steps_of_an_order = CHUNK if self.is_whole else self.epoch_steps

    def start(self) -> Array:
        """Return an order to begin with."""
        return jnp.arange(self.rows)

    def ordered(self, order: Array, step: Array) -> Array:
        """Return the order, a new one where an epoch begins."""
        if self.is_whole:
            return order
        epoch, position = jnp.divmod(step, self.epoch_steps)

        def shuffled() -> Array:
            bits = jax.random.bits(jax.random.fold_in(self.key, epoch), (self.rows,))
            return jnp.argsort(bits).astype(order.dtype)  # one sort, where `random.permutation` takes several

        return lax.cond(position == 0, shuffled, lambda: order)

    def batch(self, order: Array, step: Array, data: Data) -> Data:
        """Return the batch of a step."""
        if self.is_whole:
            return widened(data)
        first = step % self.epoch_steps * self.batch_size
        chosen = lax.dynamic_slice(order, (first,), (self.batch_size,))
        return widened(jax.tree.map(lambda x: x.at[chosen].get(mode="promise_in_bounds"), data))


class InMemory:
    """The rows of a training, all of them arrays on the device.

    What a training asks of its rows, wherever they lie: `first`, those of one batch; `shapes` of all, their number
    `rows` and `epoch_steps`, how many batches they are, or None where that is not known; `description`, which those of
    other rows do not equal; `some` of them, all where `holds_all`; `check(look)` has `look(data, number of the
    first)` look at all. `batches` are for the loop; it gets what `take(step)` returns, which will do for
    `steps_until_next(step)` steps. As a context it is open.
    """

    holds_all = True

    def __init__(self, data: Any, batch_size: int | None):
        args, kwargs, self.rows = as_arrays("data", data)
        self.data: Data = (args, kwargs)
        self.batch_size = self.rows if batch_size is None else batch_size
        check_sizes(batch_size=self.batch_size)
        if self.batch_size > self.rows:
            raise ValueError(f"batch_size: expected 1 to {self.rows} (the rows of data), got {batch_size}")
        self.epoch_steps = self.rows // self.batch_size
        self.shapes: Data = jax.eval_shape(lambda data: data, self.data)

    def expect(self, total: int | None) -> None:
        """Do nothing: all rows are there, however many steps there are."""

    @property
    def some(self) -> Data:
        """All rows: those that are looked at on the host, which `holds_all` tells."""
        return self.data

    def __enter__(self) -> "InMemory":
        return self

    def __exit__(self, *error: Any) -> None:
        """Do nothing: there is nothing to close."""

    @property
    def first(self) -> Data:
        """The first batch."""
        return jax.tree.map(lambda x: x[: self.batch_size], self.data)

    @property
    def description(self) -> dict[str, str]:
        """Shapes, dtypes and checksums."""
        return described(self.data)

    def check(self, look: Look) -> None:
        """Have all rows looked at."""
        look(self.data, 0)

    def batches(self, key: Array, devices: Devices) -> Shuffled:
        """Return how the loop makes batches of them."""
        self.data = devices.everywhere(self.data)
        return Shuffled(self.rows, self.batch_size, key)

    def take(self, step: int) -> Data:
        """Return what the batches of the next steps are made of."""
        return self.data

    def steps_until_next(self, step: int) -> int:
        """Return for how many steps that will do."""
        return CHUNK


def described(data: Data) -> dict[str, str]:
    """Return shapes, dtypes and checksums of arrays, of which no more than a thousand rows are read."""
    args, kwargs = data
    arrays = {**{str(i): x for i, x in enumerate(args)}, **kwargs}
    leaves = [(f"array {name}{path}", x) for name, tree in arrays.items() for path, x in named_leaves(tree)]
    return {name: f"{kind_of(x)} with checksum {_checksum(x)}" for name, x in leaves}


def named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a tree by their paths."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield jax.tree_util.keystr(path), leaf


def kind_of(x: Any) -> str:
    """Return dtype and shape in words."""
    x = x if hasattr(x, "dtype") else np.asarray(x)
    return f"{x.dtype}{list(x.shape)}"


def _checksum(x: Any) -> int:
    """Return that of at most a thousand rows, evenly spread, the first and the last among them."""
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), _SAMPLED)).astype(int))
    return zlib.crc32(np.ascontiguousarray(x[rows]).tobytes())
