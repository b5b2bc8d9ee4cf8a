"""Batches of an iterable of the user's, in its order or shuffled within windows."""

import itertools
from collections.abc import Iterable, Iterator

import jax

from probgen.core import check_sizes
from probgen.distributions.events import Data
from probgen.inference.training.sources import Batch, as_data, check_alike, concatenated, cut, kinds, shuffled


class ShuffledBatches:
    """An iterable of batches whose rows `fit` shuffles within windows, for batches that come in the order of a file,
    neighbours beside each other.

    `fit(model, ShuffledBatches(batches))` holds a window in memory as a whole, and makes batches of as many rows out of
    it; each epoch has another order, which the key of `fit` says.

    Args:
        batches: arrays, or tuples or dicts of them, N rows each, but for a shorter last one; `iter(batches)` begins
            anew each time.
        window: how many batches are shuffled together.

    Raises ValueError where that is not positive, or `batches` is no iterable.

    >>> import jax, numpy as np, probgen
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(0))
    >>> in_order = [np.random.default_rng(i).normal(i, 1.0, (50, 2)) for i in range(4)]
    >>> batches = ShuffledBatches(in_order, window=4)
    >>> result = probgen.fit(flow, batches, steps=8, key=jax.random.key(1), progress=False)
    >>> result.losses.shape
    (8,)
    """

    def __init__(self, batches: Iterable, *, window: int = 64):
        check_sizes(window=window)
        if not isinstance(batches, Iterable):
            raise ValueError(f"batches: expected an iterable of them, got a {type(batches).__name__}")
        self.batches, self.window = batches, window


class Iterated:
    """Batches as an iterable of the user's yields them, in its order or shuffled within windows of several, once more
    from its beginning in each epoch; the rows after the last whole batch of an epoch are left out."""

    rows: int | None = None
    epoch_steps: int | None = None

    def __init__(self, batches: Iterable, window: int = 1):
        self.source, self.window, self._begun = batches, window, iter(batches)
        self._peeked = [as_data(x) for x in itertools.islice(self._begun, 1)]
        if not self._peeked:
            raise ValueError("data: expected batches, got an iterable that has none")
        self.first = self._peeked[0]
        self.batch_size = _length(self.first, 0)
        self.layout = window

    def sample(self) -> Data:
        """Return the rows that are known before the others come."""
        return self.first

    def batches(self, step: int, seed: list[int]) -> Iterator[Batch]:
        """Yield the batches from a step on, without end."""
        number = 0
        for epoch in itertools.count():
            fresh: list[tuple[Data, int]] = []
            for data in cut(self._windows(epoch, seed, fresh), self.batch_size):
                if number >= step:
                    yield Batch(data, fresh.copy() if epoch == 0 else [])
                    fresh.clear()
                number += 1

    def _windows(self, epoch: int, seed: list[int], fresh: list[tuple[Data, int]]) -> Iterator[Data]:
        """Yield the windows of an epoch, and put the batches of each into `fresh`."""
        batches, start = self._epoch(epoch), 0
        for number in itertools.count():
            window = list(itertools.islice(batches, self.window))
            if not window:
                return
            fresh[:] = [(batch, start + i * self.batch_size) for i, batch in enumerate(window)]
            start += len(window) * self.batch_size
            yield window[0] if self.window == 1 else shuffled(concatenated(window), [*seed, epoch, number])

    def _epoch(self, epoch: int) -> Iterator[Data]:
        source = itertools.chain(self._peeked, map(as_data, self._begun)) if epoch == 0 else self._again(epoch)
        shorter = None
        for number, batch in enumerate(source):
            check_alike("batch", number, kinds(batch, 1), kinds(self.first, 1))
            length = _length(batch, number)
            if shorter is not None or length > self.batch_size:
                where = f"{length} in batch {number}" if shorter is None else f"{shorter} in batch {number - 1}"
                raise ValueError(f"data: expected {self.batch_size} rows in all batches but the last, got {where}")
            shorter = length if length < self.batch_size else None
            yield batch

    def _again(self, epoch: int) -> Iterator[Data]:
        there = False
        for x in self.source:
            there = True
            yield as_data(x)
        if not there:
            raise ValueError(
                f"data: expected batches that can be gone through again, got an iterator that has ended after {epoch} "
                "epoch: give an object whose __iter__ begins anew"
            )


def _length(batch: Data, number: int) -> int:
    lengths = {x.shape[:1] for x in jax.tree.leaves(batch)}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(f"data: expected arrays with one number of rows, got {sorted(lengths)} in batch {number}")
    return lengths.pop()[0]
