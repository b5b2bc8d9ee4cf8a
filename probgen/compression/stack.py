"""A stack of bits (ANS): constriction's, with its traps behind one door."""

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_WORD = np.dtype("<u4")  # in files, on every machine
_PRECISION = 24  # bits of a probability: each symbol has at least 2^-24
_START = (0x9E3779B9, 1)  # the state of an empty stack in two words, the low one anything: a draw is read off it
_SPARE = 64  # words that are taken from the seed at a time


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
