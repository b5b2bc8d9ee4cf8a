"""Rows that are read while training goes on: stacks of batches, one on the device and the next one on its way."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import check_sizes
from probgen.distributions.events import Data, as_arrays, widened
from probgen.inference.training.devices import Devices
from probgen.inference.training.iterated import Iterated, ShuffledBatches
from probgen.inference.training.rows import CHUNK, InMemory, Look, Shuffled, described
from probgen.inference.training.sources import Batch, Indexed, Mapped, Windows

_STACK_BYTES = 2**24  # of batches that go to the device together
_STACK_STEPS = 128  # batches, at most: the first step waits for as many


class Stack(NamedTuple):
    """Batches of some steps, the first of which is `first`."""

    first: Array
    batches: Data


class Stacked:
    """Batches that come in stacks, as a loop of compiled steps sees them: they have their order already."""

    steps_of_an_order = CHUNK

    def start(self) -> Array:
        """Return no order."""
        return jnp.zeros(0, jnp.int32)

    def ordered(self, order: Array, step: Array) -> Array:
        """Return it."""
        return order

    def batch(self, order: Array, step: Array, data: Stack) -> Data:
        """Return the batch of a step."""
        pick = lambda x: lax.dynamic_index_in_dim(x, step - data.first, keepdims=False)
        return widened(jax.tree.map(pick, data.batches))


class Streamed:
    """The rows of a training, read by a thread ahead of the steps, which `InMemory` says the protocol of. They are
    looked at when they are first read."""

    holds_all = False

    def __init__(self, source: Windows | Iterated):
        self.source, self.rows, self.batch_size = source, source.rows, source.batch_size
        self.epoch_steps = source.epoch_steps
        self.first: Data = _arrays(source.first, 0)
        self.shapes: Data = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.rows or self.batch_size, *x.shape[1:]), x.dtype), self.first
        )
        self._dtypes = jax.tree.map(lambda x: x.dtype, self.first)
        size = sum(x.nbytes for x in jax.tree.leaves(self.first))
        self._steps = int(np.clip(_STACK_BYTES // max(1, size), 1, _STACK_STEPS))
        self._total: int | None = None
        self._looks: list[Look] = []
        self._stack: Stack | None = None
        self._begin = 0
        self._batches: Iterator[Batch] = iter(())
        self._next: Future[Batch] | None = None

    def expect(self, total: int | None) -> None:
        """Read no more than so many steps take, where that is known."""
        self._total, self._steps = total, self._steps if total is None else min(self._steps, total)

    @property
    def some(self) -> Data:
        """The first batch."""
        return self.first

    def __enter__(self) -> "Streamed":
        self._reader = ThreadPoolExecutor(1, "probgen reads")
        return self

    def __exit__(self, *error: Any) -> None:
        """Wait for what is being read."""
        self._reader.shutdown(cancel_futures=True)

    @property
    def description(self) -> dict[str, str]:
        """How many rows there are, what some of them are, and in which blocks they are shuffled."""
        return {"rows": str(self.rows), **described(self.source.sample()), "order": str(self.source.layout)}

    def check(self, look: Look) -> None:
        """Have the first batch looked at, and the others when they come."""
        look(self.first, 0)
        self._looks.append(look)

    def batches(self, key: Array, devices: Devices) -> Stacked:
        """Return how the loop makes batches of them."""
        self._seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
        self._devices = devices
        return Stacked()

    def take(self, step: int) -> Stack:
        """Return the stack with the batch of a step; steps come in their order."""
        if self._stack is None or step >= self._begin + self._steps:
            if self._next is None:
                self._batches = self.source.batches(step, self._seed)
                self._next = self._reader.submit(self._read)
            data, blocks = self._next.result()
            more = self._total is None or step + self._steps < self._total
            self._next = self._reader.submit(self._read) if more else None
            self._look_at(blocks)
            self._begin, self._stack = step, Stack(jnp.int32(step), self._devices.stacked(data))
        return self._stack

    def _look_at(self, blocks: list[tuple[Data, int]]) -> None:
        """Look at blocks all at once; where something is wrong, one after the other, to know in which row."""
        if not blocks:
            return
        together = jax.tree.map(lambda *parts: np.concatenate(parts), *(block for block, _ in blocks))
        try:
            self._look(together, 0)
        except ValueError:
            for block, first in blocks:
                self._look(block, first)
            raise

    def _look(self, data: Data, first: int) -> None:
        arrays = _arrays(data, first)
        for look in self._looks:
            look(arrays, first)

    def _read(self) -> Batch:
        """Return the batches of the next steps, as one of NumPy arrays: this is what the thread does."""
        batches = list(itertools.islice(self._batches, self._steps))
        stack = lambda dtype, *leaves: np.stack(leaves).astype(dtype, copy=False)
        data = jax.tree.map(stack, self._dtypes, *(batch.data for batch in batches))
        return Batch(data, [block for batch in batches for block in batch.blocks])

    def steps_until_next(self, step: int) -> int:
        """Return for how many steps a stack will do."""
        within = self._stack is not None and step < self._begin + self._steps
        return self._begin + self._steps - step if within else self._steps


def _arrays(data: Data, first: int) -> Data:
    return as_arrays("data", data[1] or data[0], first=first)[:2]


def as_rows(data: Any, batch_size: int | None) -> InMemory | Streamed:
    """Return the rows of `fit`, in memory or read on the way."""
    if any(isinstance(x, np.memmap) for x in jax.tree.leaves(data)):
        return Streamed(Windows(Mapped(data), _given(batch_size)))
    if hasattr(data, "columns") and isinstance(getattr(data, "array", None), np.ndarray):
        raise ValueError("data: a table goes in as its rows: model, rows = probgen.tables.rows_of(model, table)")
    taken = isinstance(data, str | bytes | list | tuple | Mapping | range) or hasattr(data, "__array__")
    if not taken and hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return Streamed(Windows(Indexed(data), _given(batch_size)))
    if isinstance(data, ShuffledBatches) or (not taken and isinstance(data, Iterable)):
        if batch_size is not None:
            raise ValueError("batch_size: the batches of an iterable have their own")
        how = (data.batches, data.window) if isinstance(data, ShuffledBatches) else (data,)
        return Streamed(Iterated(*how))
    return InMemory(data, batch_size)


def _given(batch_size: int | None) -> int:
    if batch_size is None:
        raise ValueError("batch_size: expected rows of a step, for data that are read on the way, got None")
    check_sizes(batch_size=batch_size)
    return batch_size


Rows = InMemory | Streamed
Batches = Shuffled | Stacked
