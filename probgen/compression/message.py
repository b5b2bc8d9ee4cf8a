"""The message that a codec writes: a stack of bits (ANS), and what distributions write to it."""

import copy
import hashlib
import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

_WORD = np.dtype("<u4")  # in files, on every machine
_PRECISION = 24  # bits of a probability: each symbol has at least 2^-24
_START = (0x9E3779B9, 1)  # the state of an empty stack in two words, the low one anything: a draw is read off it
_SPARE = 64  # words that are taken from the seed at a time
_STEPS = 2.0**7  # of the grid in a standard deviation, at most; what is finer is chance
_AT_ONCE = 8  # bits of chance that are coded together
_FARTHEST = 2.0**53  # steps of the grid that double precision counts


class Stack:
    """A stack of symbols by their probabilities: an asymmetric numeral system, constriction's, its traps behind one
    door.

    What is pushed costs −log₂ p bits for each symbol, and 32 to 64 for the whole stack; what is popped gives them back.
    Below what was pushed lie bits that are no one's, the same on every machine, so that symbols can be popped off an
    empty stack, as bits-back coding does: `borrowed` says how many of them it took.

    Args:
        data: bytes that `finish` returned; an empty stack by default.

    Raises ValueError where these are no whole words.

    References: Asymmetric Numeral Systems (Duda 2013), arXiv:1311.2540; Practical Lossless Compression with Latent
    Variables using Bits Back Coding (Townsend, Bird, Barber 2019), arXiv:1901.04866.

    >>> stack = Stack()
    >>> stack.push([1, 0], [[0.25, 0.75], [0.5, 0.5]])
    >>> reader = Stack(stack.finish())
    >>> reader.pop([[0.25, 0.75], [0.5, 0.5]]).tolist(), reader.is_empty
    ([1, 0], True)
    """

    def __init__(self, data: bytes | None = None) -> None:
        if data is not None and (len(data) % _WORD.itemsize or len(data) < 2 * _WORD.itemsize):
            raise ValueError(f"data: expected whole words of 4 bytes, two at least, got {len(data)} bytes")
        words = np.array(_START, _WORD) if data is None else np.frombuffer(data, _WORD)
        self._coder = _ans(words)
        self._below, self._least = 0, 0  # words of the seed that lie in it; the fewest words that there were
        self._reads = data is not None
        self.widths: set[float] = set()  # of the grids on which something was written
        self.information = 0.0  # −log₂ p of what was pushed, less that of what was popped

    def push(self, symbols: ArrayLike, p: ArrayLike) -> None:
        """Write symbols [N] of 0..n−1 by rows of probabilities [N, n], which need no sum of 1; the first is popped
        first.

        Args:
            symbols: integers.
            p: the probabilities of each.

        Raises ValueError where a symbol is none of its row's, or a row is no distribution.
        """
        p, symbols = _tables(p), np.asarray(symbols)
        if not np.issubdtype(symbols.dtype, np.integer) or symbols.shape != p.shape[:1]:
            raise ValueError(f"symbols: expected integers [{len(p)}], got {symbols.dtype} of shape {symbols.shape}")
        if np.any((symbols < 0) | (symbols >= p.shape[1])):
            raise ValueError(f"symbols: expected integers from 0 to {p.shape[1] - 1}, got others")
        if p.size and p.shape[1] > 1:  # what is certain takes no bits
            self._coder.encode_reverse(np.ascontiguousarray(symbols, np.int32), _categorical(), p)
            self.information += _information(symbols, p)

    def pop(self, p: ArrayLike) -> np.ndarray:
        """Return the symbols [N] on top, int32, whose rows of probabilities [N, n] these are.

        Args:
            p: as they were pushed.
        """
        p = _tables(p)
        if not p.size or p.shape[1] == 1:
            return np.zeros(len(p), np.int32)
        self._reserve(_most_words(len(p)))
        found = np.asarray(self._coder.decode(_categorical(), p), np.int32)
        self._after()
        self.information -= _information(found, p)
        return found

    def push_normal(self, k: np.ndarray, loc: np.ndarray, scale: np.ndarray, window: int) -> None:
        """Write integers k [N] within ±window by normal distributions of which both ends have the tails.

        Args:
            k: integers.
            loc: the means, [N], float64.
            scale: the standard deviations, above 0.
            window: the largest integer.
        """
        if k.size:
            self._coder.encode_reverse(np.ascontiguousarray(k, np.int32), _normal(window), *_pairs(loc, scale))
            self.information += _information_of_normals(k, loc, scale)

    def pop_normal(self, loc: np.ndarray, scale: np.ndarray, window: int) -> np.ndarray:
        """Return the integers on top, that `push_normal` wrote with the same arguments."""
        if not loc.size:
            return np.zeros(0, np.int32)
        self._reserve(_most_words(loc.size))
        found = np.asarray(self._coder.decode(_normal(window), *_pairs(loc, scale)), np.int32)
        self._after()
        self.information -= _information_of_normals(found, loc, scale)
        return found

    def stir(self, words: int) -> None:
        """Exchange the topmost words for others that look like chance, by an exclusive or; once more gives them back.

        What a symbol of little probability leaves on top is no chance: popped as it is, it would be another such one.

        Args:
            words: how many, below the two of the state.
        """
        self._reserve(words)
        top = np.array(self._coder.get_compressed())
        words = min(words, len(top) - 2)
        top[len(top) - 2 - words : -1] ^= _seed(0, words + 1)  # all but the last: the state stays as large
        self._coder = _ans(top)
        self._least = min(self._least, len(top) - 2 - words)

    def finish(self) -> bytes:
        """Return all that was written, and of the seed what of it was popped."""
        words = np.asarray(self._coder.get_compressed())
        return words[self._least :].astype(_WORD).tobytes()

    @property
    def borrowed(self) -> int:
        """The bits of the seed that were popped: what bits-back coding has to begin with."""
        return 32 * (self._below - self._least)

    @property
    def is_empty(self) -> bool:
        """Whether all that was written was read: what lies there is the beginning of the seed, and nothing else."""
        words = np.asarray(self._coder.get_compressed())
        return len(words) >= 2 and np.array_equal(words, np.concatenate([_seed(0, len(words) - 2)[::-1], _START]))

    def _reserve(self, needed: int) -> None:
        """Put so much of the seed below that there are so many words under the state; of a reader, see that all is
        there."""
        self._check()
        if not self._reads and self._coder.num_words() - 2 < needed:
            words, more = np.asarray(self._coder.get_compressed()), max(needed, _SPARE)
            self._coder = _ans(np.concatenate([_seed(self._below, more)[::-1], words]))
            self._below, self._least = self._below + more, self._least + more

    def _check(self) -> None:
        if self._reads and self._coder.num_words() < 2:  # what was written has a state of two words, to its end
            raise ValueError("more was read than was written: the file is damaged, or of another model")

    def _after(self) -> None:
        self._check()
        self._least = min(self._least, self._coder.num_words() - 2)


class Message:
    """What is written of so many events side by side: a `Stack`, and the lanes that are in use.

    Args:
        stack: to write to, or to read.
        lanes: how many events go side by side.
        rows: how many of these lanes are in use, the first ones.
        width: of the grid that real latents lie on; a power of two, so that they are exact.
    """

    def __init__(self, stack: Stack, lanes: int, rows: int, width: float):
        self.stack, self.lanes, self.width = stack, lanes, width
        self.active = np.arange(lanes) < rows

    def only(self, mask: np.ndarray) -> Self:
        """Return the same message, with those lanes in use, [lanes], of the ones that are."""
        new = copy.copy(self)
        new.active = self.active & mask
        return new

    def on_grid(self, width: float) -> Self:
        """Return the same message, its latents on another grid.

        Args:
            width: a power of two.
        """
        new = copy.copy(self)
        new.width = width
        return new

    def stir(self, bits: int) -> None:
        """Make the bits on top chance, of which a posterior takes about so many for each lane; once more undoes it."""
        self.stack.stir(int(self.active.sum()) * bits // 32 + 1)

    def push_symbols(self, symbols: np.ndarray, log_p: ArrayLike) -> None:
        """Write symbols [lanes, ...] of 0..n−1 by log-probabilities [lanes, ..., n]."""
        symbols = np.asarray(symbols)[self.active].reshape(-1)
        self.stack.push(symbols, self._probabilities(log_p))

    def pop_symbols(self, log_p: ArrayLike) -> np.ndarray:
        """Read symbols; 0 in lanes that are not in use."""
        log_p = np.asarray(log_p)
        symbols = np.zeros(log_p.shape[:-1], np.int32)
        symbols[self.active] = self.stack.pop(self._probabilities(log_p)).reshape(-1, *symbols.shape[1:])
        return symbols

    def push_numbers(self, numbers: np.ndarray, where: np.ndarray) -> None:
        """Write integers of at least 0, of which little is known, [lanes, ...] where that is True (Elias γ)."""
        for number in np.asarray(numbers)[self.active][np.asarray(where)[self.active]][::-1]:
            self._push_number(int(number))

    def pop_numbers(self, where: np.ndarray) -> np.ndarray:
        """Read such integers; 0 elsewhere."""
        where = np.asarray(where)
        found = np.zeros(where.shape, np.int64)
        rows = found[self.active]
        rows[where[self.active]] = [self._pop_number() for _ in range(int(where[self.active].sum()))]
        found[self.active] = rows
        return found

    def push_normals(self, z: np.ndarray, loc: ArrayLike, scale: ArrayLike) -> None:
        """Write reals [lanes, ...] of the grid by normal distributions.

        Of each the window around the mean is coded, by which a posterior's draws lie near it; beyond it, what is
        further by a code of integers. Of a normal much wider than the grid, the last bits are coded as chance.
        """
        self.stack.widths.add(self.width)
        k = np.rint(np.asarray(z, np.float64)[self.active].reshape(-1) / self.width).astype(np.int64)
        for here, bits, window, mean, spread in reversed(self._groups(loc, scale)):
            middle = np.rint(mean).astype(np.int64)
            off = (k[here] >> bits) - middle
            beyond = np.abs(off) - window
            self._push_chance(k[here] & ((1 << bits) - 1), bits)
            for number in beyond[beyond >= 0][::-1]:
                self._push_number(int(number))
            self.stack.push_normal(np.clip(off, -window, window), mean - middle, spread, window)

    def pop_normals(self, loc: ArrayLike, scale: ArrayLike) -> np.ndarray:
        """Read reals of the grid, 0 in lanes that are not in use."""
        z = np.zeros(np.shape(loc))
        k = np.zeros(int(self.active.sum()) * math.prod(z.shape[1:]), np.int64)
        for here, bits, window, mean, spread in self._groups(loc, scale):
            off = self.stack.pop_normal(mean - np.rint(mean), spread, window).astype(np.int64)
            beyond = np.abs(off) == window
            off[beyond] += np.sign(off[beyond]) * np.array([self._pop_number() for _ in range(beyond.sum())], np.int64)
            k[here] = ((np.rint(mean).astype(np.int64) + off) << bits) + self._pop_chance(len(off), bits)
        z[self.active] = (k * self.width).reshape(-1, *z.shape[1:])
        return z

    def _groups(self, loc: ArrayLike, scale: ArrayLike) -> list[tuple[np.ndarray, int, int, np.ndarray, np.ndarray]]:
        """Return those numbers of the lanes in use that are coded alike: which, how many of their last bits are chance,
        half the window, and their means and scales in steps of what is left."""
        loc, scale = (np.asarray(a, np.float64)[self.active].reshape(-1) / self.width for a in (loc, scale))
        if not np.all(np.isfinite(loc)) or not np.all(scale > 0) or not np.all(np.isfinite(scale)):
            raise ValueError("a latent number has a normal distribution without finite mean or positive scale")
        if np.any(np.abs(loc) + 64 * scale > _FARTHEST):
            raise ValueError(f"a latent number is too far away for a grid of width {self.width}: choose a wider one")
        bits = np.maximum(np.floor(np.log2(scale / _STEPS)), 0).astype(np.int64)
        wide = np.exp2(np.maximum(np.ceil(np.log2(8.0 * scale / np.exp2(bits) + 2.0)), 2)).astype(np.int64)
        groups = []
        for b, window in sorted(set(zip(bits.tolist(), wide.tolist(), strict=True))):
            here = (bits == b) & (wide == window)
            middle_of_bin = (2.0**b - 1) / 2
            groups.append((here, b, window, (loc[here] - middle_of_bin) / 2**b, scale[here] / 2**b))
        return groups

    def _push_chance(self, numbers: np.ndarray, bits: int) -> None:
        """Write integers below 2^bits, all as likely."""
        for first in reversed(range(0, bits, _AT_ONCE)):
            count = min(_AT_ONCE, bits - first)
            self.stack.push((numbers >> first) & ((1 << count) - 1), np.ones((len(numbers), 1 << count)))

    def _pop_chance(self, size: int, bits: int) -> np.ndarray:
        found = np.zeros(size, np.int64)
        for first in range(0, bits, _AT_ONCE):
            count = min(_AT_ONCE, bits - first)
            found |= self.stack.pop(np.ones((size, 1 << count))).astype(np.int64) << first
        return found

    def _probabilities(self, log_p: ArrayLike) -> np.ndarray:
        log_p = np.asarray(log_p)
        return np.exp(log_p[self.active].reshape(-1, log_p.shape[-1]).astype(np.float64))

    def _push_number(self, number: int) -> None:
        bits = format(number + 1, "b")
        self.stack.push([int(b) for b in "0" * (len(bits) - 1) + bits], np.full((2 * len(bits) - 1, 2), 0.5))

    def _pop_number(self) -> int:
        bit, zeros, number = (lambda: int(self.stack.pop([[0.5, 0.5]])[0])), 0, 1
        while not bit():
            zeros += 1
            if zeros > 62:
                raise ValueError("a number without end was read: the file is damaged, or of another model")
        for _ in range(zeros):
            number = 2 * number + bit()
        return number - 1


def _ans(words: np.ndarray) -> Any:
    import constriction

    return constriction.stream.stack.AnsCoder(np.ascontiguousarray(words, np.uint32))


def _categorical() -> Any:
    import constriction

    return constriction.stream.model.Categorical(perfect=False)  # each symbol with at least 2^-24, as `integer_cdf`


def _normal(window: int) -> Any:
    import constriction

    return constriction.stream.model.QuantizedGaussian(-window, window)


def _tables(p: ArrayLike) -> np.ndarray:
    """Return rows of probabilities as constriction reads them right: float64, in C order (it takes others for it)."""
    p = np.ascontiguousarray(p, dtype=np.float64)
    if p.ndim != 2 or not p.shape[1]:
        raise ValueError(f"p: expected [N, n], a row of probabilities for each symbol, got shape {p.shape}")
    if not np.all(np.isfinite(p)) or np.any(p < 0) or not np.all(p.sum(1) > 0):
        raise ValueError("p: expected rows of finite numbers of at least 0, and one of them more")
    return p


def _information(symbols: np.ndarray, p: np.ndarray) -> float:
    here = p[np.arange(len(p)), symbols]
    return float(np.sum(np.log2(p.sum(1)) - np.log2(np.maximum(here, np.finfo(float).tiny))))


def _information_of_normals(k: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> float:
    """Return −log₂ of densities, for steps of 1."""
    nats = 0.5 * ((k - loc) / scale) ** 2 + np.log(scale * math.sqrt(2 * math.pi))
    return float(nats.sum()) / math.log(2)


def _pairs(loc: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(loc, np.float64), np.ascontiguousarray(scale, np.float64)


def _most_words(symbols: int) -> int:
    """Return how many words popping these symbols may take."""
    return symbols * _PRECISION // 32 + 2


def _seed(first: int, count: int) -> np.ndarray:
    """Return so many words of bits that are no one's, from the first on."""
    data = hashlib.shake_256(b"probgen").digest(4 * (first + count))
    return np.frombuffer(data, _WORD)[first:].astype(np.uint32)
