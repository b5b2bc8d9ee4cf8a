"""Where rows lie that are more than memory holds: files mapped into it, and indexable sources.

A source yields batches of NumPy arrays, `batches(step, seed)` those from a step on, as `(batch, blocks)`, where
`blocks` are the rows that were read for the first time, `(data, number of the first)`, to be looked at. `sample()` and
`layout` tell it from another one. It needs nothing of JAX, so that a thread can read ahead.
"""

import itertools
import mmap
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from probgen.core import as_numbers
from probgen.distributions.events import Data, count
from probgen.inference.training.rows import named_leaves

Kinds = tuple[tuple[str, str], ...]  # paths, and dtypes with shapes

_BLOCK_BYTES = 2**20  # read together
_WINDOW_BYTES = 2**26  # in memory together, their rows in a random order
_SAMPLED = 256  # rows by which one source is told from another


class Batch(NamedTuple):
    """A batch, or some of them, and what was read for the first time to make it."""

    data: Data
    blocks: list[tuple[Data, int]]


class Mapped:
    """Rows of arrays in files that are mapped into memory (`numpy.memmap`), alone or beside arrays in memory."""

    blocks: list[range] | None = None

    def __init__(self, data: Any):
        args = () if isinstance(data, dict) else data if isinstance(data, tuple) else (data,)
        self.arrays: Data = (args, data if isinstance(data, dict) else {})
        leaves = jax.tree.leaves(self.arrays)
        lengths = {np.shape(x)[:1] for x in leaves}
        if len(lengths) != 1 or lengths == {()}:
            raise ValueError(f"data: expected arrays with one number of rows, got {sorted(lengths)}")
        self.rows = lengths.pop()[0]
        self._maps = [getattr(x, "_mmap", None) for x in leaves if isinstance(x, np.memmap) and x.mode in ("r", "r+")]

    def read(self, ranges: list[range]) -> Data:
        """Return the rows of some ranges, in memory, one range after the other."""
        return jax.tree.map(lambda x: np.concatenate([x[r.start : r.stop] for r in ranges]), self.arrays)

    def forget(self) -> None:
        """Let go of what was read: the pages of a file count as memory of the process until then."""
        for file in self._maps:
            if file is not None:
                file.madvise(mmap.MADV_DONTNEED)


class Indexed:
    """Rows of a source with `len(source)` and `source[i]`, an array, or a tuple or dict of arrays, of one row; several
    at once by `source.__getitems__(numbers)` where it has that. It may say in `source.row_groups`, as ranges of rows,
    what is best read together."""

    def __init__(self, source: Any):
        self.source, self.rows = source, len(source)
        self.blocks: list[range] | None = [block for block in getattr(source, "row_groups", []) if block]
        self._several = getattr(source, "__getitems__", lambda numbers: (source[i] for i in numbers))
        self._kinds: Kinds | None = None

    def read(self, ranges: list[range]) -> Data:
        """Return the rows of some ranges, in memory, one range after the other."""
        numbers = list(itertools.chain(*ranges))
        rows = [as_data(row) for row in self._several(numbers)]
        self._kinds = self._kinds or kinds(rows[0])
        for number, row in zip(numbers, rows):
            check_alike("row", number, kinds(row), self._kinds)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def forget(self) -> None:
        """Do nothing: what was read is the source's."""


class Windows:
    """Batches of rows that can be read by their numbers, in a new order each epoch: blocks of neighbouring rows are
    read in a random order, and the rows of some 64 MB of blocks, a window, are shuffled together. The rows after the
    last whole batch of an epoch are left out."""

    def __init__(self, source: Mapped | Indexed, batch_size: int):
        self.source, self.rows, self.batch_size = source, source.rows, batch_size
        if self.rows == 0:
            raise ValueError("data: expected at least one row, got none")
        if batch_size > self.rows:
            raise ValueError(f"batch_size: expected 1 to {self.rows} (the rows of data), got {batch_size}")
        self.epoch_steps: int | None = self.rows // batch_size
        self.first = source.read([range(batch_size)])
        row_bytes = max(1, sum(x.nbytes for x in jax.tree.leaves(self.first)) // len(jax.tree.leaves(self.first)[0]))
        block = max(1, _BLOCK_BYTES // row_bytes)
        apart = [range(start, min(start + block, self.rows)) for start in range(0, self.rows, block)]
        self.blocks = source.blocks or apart
        self.window = max(1, _WINDOW_BYTES // (max(map(len, self.blocks)) * row_bytes))
        self.layout = zlib.crc32(np.array([*map(len, self.blocks), self.window]).tobytes())

    def sample(self) -> Data:
        """Return some rows at equal distances, the first and the last among them."""
        places = np.unique(np.linspace(0, self.rows - 1, min(self.rows, _SAMPLED)).astype(int)).tolist()
        found = self.source.read([range(i, i + 1) for i in places])
        self.source.forget()
        return found

    def batches(self, step: int, seed: list[int]) -> Iterator[Batch]:
        """Yield the batches from a step on, without end."""
        steps = self.rows // self.batch_size
        begun, position = divmod(step, steps)
        seen: set[int] = set()
        for epoch in itertools.count(begun):
            fresh: list[tuple[Data, int]] = []
            windows = self._windows([*seed, epoch], position * self.batch_size, seen, fresh)
            for batch in itertools.islice(cut(windows, self.batch_size), steps - position):
                yield Batch(batch, fresh.copy())
                fresh.clear()
            position = 0

    def _windows(self, seed: list[int], skip: int, seen: set[int], fresh: list[tuple[Data, int]]) -> Iterator[Data]:
        """Yield the windows of an epoch in their order, without the first `skip` rows, and add to `fresh` those of its
        blocks that were not `seen` before."""
        turns = np.random.default_rng([*seed, 0]).permutation(len(self.blocks))
        for i in range(0, len(turns), self.window):
            ranges = [self.blocks[turn] for turn in turns[i : i + self.window]]
            ends = list(itertools.accumulate(map(len, ranges)))
            if skip >= ends[-1]:
                skip -= ends[-1]
                continue
            window = self.source.read(ranges)
            self.source.forget()
            for of, end in zip(ranges, ends):
                if of.start not in seen:
                    seen.add(of.start)
                    fresh.append((_part(window, end - len(of), end), of.start))
            yield shuffled(window, [*seed, 1 + i], skip)
            skip = 0


def shuffled(window: Data, seed: list[int], skip: int = 0) -> Data:
    """Return the rows of a window in a random order, without the first of them."""
    order = np.random.default_rng(seed).permutation(count(window))[skip:]
    return jax.tree.map(lambda x: np.take(x, order, axis=0), window)


def cut(windows: Iterator[Data], size: int) -> Iterator[Data]:
    """Yield batches of the rows of consecutive windows; fewer at the end are left out."""
    over: list[Data] = []  # fewer rows than a batch has
    for window in windows:
        length, start = count(window), 0
        while start < length:
            stop = min(start + size - sum(map(count, over)), length)
            over.append(_part(window, start, stop))
            if sum(map(count, over)) == size:
                yield concatenated(over)
                over = []
            start = stop


def concatenated(parts: list[Data]) -> Data:
    """Return the rows of some batches, one after the other."""
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _part(data: Data, start: int, stop: int) -> Data:
    return jax.tree.map(lambda x: x[start:stop], data)


def as_data(x: Any) -> Data:
    """Return a row or a batch, an array or a tuple or dict of them, as NumPy arrays of our own: a source may fill the
    same buffer again for the next one."""
    args = () if isinstance(x, dict) else x if isinstance(x, tuple) else (x,)
    is_list = lambda x: isinstance(x, list)
    arrays = (args, x if isinstance(x, dict) else {})
    return jax.tree.map(lambda x: np.array(as_numbers("data", x)), arrays, is_leaf=is_list)


def kinds(data: Data, axis: int = 0) -> Kinds:
    """Return dtypes and shapes of all arrays, from an axis on."""
    return tuple((path, f"{x.dtype}{list(x.shape[axis:])}") for path, x in named_leaves(data))


def check_alike(what: str, number: int, own: Kinds, first: Kinds) -> None:
    """Raise ValueError where a row or a batch has other kinds of arrays than the first."""
    if own != first:
        there, here = (", ".join(kind for _, kind in found) for found in (first, own))
        raise ValueError(f"data: expected each {what} like the first, {there}, got {here} in {what} {number}")
