"""Codes of symbols: prefix-free words as the leaves of a trie, and how long they have to be."""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from probgen.compression.information import as_table
from probgen.core import check_sizes

Trie: TypeAlias = "int | tuple[Trie, Trie] | None"
"""A code as a binary tree: a symbol, the pair of what follows on 0 and on 1, or None where no word goes."""


@dataclass(frozen=True)
class PrefixCode:
    """A code of the symbols 0..n−1 of which no word begins another, so that a stream of words is read without gaps.

    Args:
        words: of each symbol, of the characters 0 and 1. The empty word is the code of a source of one symbol.

    Raises ValueError where a word is made of something else, or begins another one.

    >>> code = PrefixCode(("0", "10", "11"))
    >>> code.encode([0, 2, 1]), code.decode("01110")
    ('01110', [0, 2, 1])
    >>> code.trie
    (0, (1, 2))
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        words = tuple(self.words)
        if not words or not all(isinstance(word, str) and set(word) <= {"0", "1"} for word in words):
            raise ValueError(f"words: expected words of 0 and 1, got {self.words!r}")
        object.__setattr__(self, "words", words)
        if (pair := _clash(words)) is not None:
            raise ValueError(f"words: {pair[0]!r} begins {pair[1]!r}, so that they are not prefix-free")

    @property
    def lengths(self) -> tuple[int, ...]:
        """The bits of each word."""
        return tuple(map(len, self.words))

    def expected_length(self, p: ArrayLike) -> float:
        """Return Σ p_i l_i, in bits a symbol.

        Args:
            p: the probability of each symbol, [n].

        Raises ValueError where that is no distribution of the code's symbols.
        """
        p = as_table("p", p)
        if p.shape != (len(self.words),):
            raise ValueError(f"p: expected a probability for each of {len(self.words)} words, got shape {p.shape}")
        return float(p @ np.asarray(self.lengths))

    def encode(self, symbols: Iterable[int]) -> str:
        """Return the words of symbols one after another. Raises ValueError for a symbol without a word."""
        symbols = list(symbols)
        if bad := [s for s in symbols if not 0 <= s < len(self.words)]:
            raise ValueError(f"symbols: expected integers from 0 to {len(self.words) - 1}, got {bad[0]}")
        return "".join(self.words[s] for s in symbols)

    def decode(self, bits: str) -> list[int]:
        """Return the symbols of words one after another. Raises ValueError where the bits are none, or end within
        one."""
        symbols: list[int] = []
        node = self.trie
        if isinstance(node, int):
            raise ValueError("bits: the code has one symbol, of no bits, so that they do not tell how many there are")
        for i, bit in enumerate(bits):
            if bit not in "01":
                raise ValueError(f"bits: expected 0 and 1, got {bit!r}")
            child = node[int(bit)] if isinstance(node, tuple) else None
            if child is None:
                raise ValueError(f"bits: no word goes on as they do at {i}")
            node = child
            if isinstance(node, int):
                symbols.append(node)
                node = self.trie
        if node is not self.trie:
            raise ValueError("bits: they end within a word")
        return symbols

    @cached_property
    def trie(self) -> Trie:
        """The binary tree of the words: a leaf is its symbol, a branch the pair of what follows on 0 and on 1, None
        where no word goes."""

        def below(members: list[tuple[str, int]], depth: int) -> "Trie":
            if not members:
                return None
            if len(members[0][0]) == depth:  # which no other begins with
                return members[0][1]
            zeros, ones = ([m for m in members if m[0][depth] == side] for side in "01")
            return below(zeros, depth + 1), below(ones, depth + 1)

        return below([(word, i) for i, word in enumerate(self.words)], 0)


def _clash(words: Sequence[str]) -> tuple[str, str] | None:
    """Return two words of which the first begins the second. In order, such a word is followed by one of them."""
    ordered = sorted(words)
    return next((pair for pair in itertools.pairwise(ordered) if pair[1].startswith(pair[0])), None)


def is_prefix_free(words: Sequence[str]) -> bool:
    """Return whether no word begins another one.

    Args:
        words: of the characters 0 and 1.

    >>> is_prefix_free(["0", "10", "11"]), is_prefix_free(["0", "01"])
    (True, False)
    """
    return _clash(words) is None


def kraft_sum(lengths: Iterable[int]) -> Fraction:
    """Return Σ 2^{−l_i}, exactly: at most 1 for a uniquely decodable code, and a prefix-free one has such lengths then.

    Args:
        lengths: the bits of each word.

    References: A Device for Quantizing, Grouping, and Coding Amplitude Modulated Pulses (Kraft 1949); Two Inequalities
    Implied by Unique Decipherability (McMillan 1956).

    >>> kraft_sum([1, 2, 2]), kraft_sum([1, 1, 2])
    (Fraction(1, 1), Fraction(5, 4))
    """
    return sum((Fraction(1, 2**length) for length in lengths), Fraction(0))


def canonical(lengths: Sequence[int]) -> PrefixCode:
    """Return the prefix-free code of given lengths whose words are in order, by length and then by symbol: lengths are
    all that has to be written down of it.

    Args:
        lengths: the bits of each word.

    Raises ValueError where their Kraft sum is more than 1: no code has them.

    References: Generating a Canonical Prefix Encoding (Schwartz, Kallick 1964).

    >>> canonical([2, 1, 2]).words
    ('10', '0', '11')
    """
    if not lengths or (total := kraft_sum(lengths)) > 1:
        raise ValueError(f"lengths: expected some with a Kraft sum of at most 1, got {float(total) if lengths else 0}")
    words, at, before = [""] * len(lengths), 0, 0
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        at <<= lengths[i] - before
        words[i] = format(at, f"0{lengths[i]}b") if lengths[i] else ""
        at, before = at + 1, lengths[i]
    return PrefixCode(tuple(words))


def shannon(p: ArrayLike) -> PrefixCode:
    """Return Shannon's code, l_i = ⌈−log₂ p_i⌉: H ≤ Σ p_i l_i < H + 1.

    Args:
        p: the probability of each symbol, [n], more than 0.

    Raises ValueError where they are no distribution, or one is 0.

    References: A Mathematical Theory of Communication (Shannon 1948), §9.

    >>> shannon([0.5, 0.3, 0.2]).lengths
    (1, 2, 3)
    """
    # by the exact binary fraction of each, since a logarithm may round up where p is a power of two
    return canonical([_bits_of(Fraction(float(x))) for x in _positive(p)])


def _bits_of(p: Fraction) -> int:
    """Return ⌈−log₂ p⌉, the least l with 2^{−l} ≤ p."""
    length = max(0, p.denominator.bit_length() - p.numerator.bit_length() - 1)
    while Fraction(1, 2**length) > p:
        length += 1
    return length


def shannon_fano(p: ArrayLike) -> PrefixCode:
    """Return Fano's code: symbols in order of probability are halved where the two sides are most alike, and each half
    again.

    It is not always the best, and within a bit of the entropy.

    Args:
        p: the probability of each symbol, [n], more than 0.

    Raises ValueError where they are no distribution, or one is 0.

    References: The Transmission of Information (Fano 1949), MIT technical report 65.

    >>> shannon_fano([0.35, 0.17, 0.17, 0.16, 0.15]).lengths
    (2, 2, 2, 3, 3)
    """
    p = _positive(p)
    words = [""] * len(p)

    def split(symbols: np.ndarray) -> None:
        if len(symbols) < 2:
            return
        sums = np.cumsum(p[symbols])
        first = 1 + int(np.argmin(np.abs(2 * sums[:-1] - sums[-1])))
        for bit, side in (("0", symbols[:first]), ("1", symbols[first:])):
            for i in side:
                words[i] += bit
            split(side)

    split(np.argsort(-p, kind="stable"))
    return PrefixCode(tuple(words))


def huffman(p: ArrayLike) -> PrefixCode:
    """Return Huffman's code: no other code of symbols is shorter in the mean. Its words are canonical.

        H ≤ Σ p_i l_i < H + 1,   and < H + p_max + 0.086

    The two least likely are joined until one is left. A symbol of probability 0 has a word, too.

    Args:
        p: the probability of each symbol, [n].

    Raises ValueError where they are no distribution.

    References: A Method for the Construction of Minimum-Redundancy Codes (Huffman 1952); Variations on a Theme by
    Huffman (Gallager 1978).

    >>> huffman([0.35, 0.17, 0.17, 0.16, 0.15]).lengths
    (1, 3, 3, 3, 3)
    """
    p = _vector(p)
    lengths = np.zeros(len(p), int)
    heap: list[tuple[float, int, Any]] = [(float(x), i, [i]) for i, x in enumerate(p)]
    heapq.heapify(heap)
    numbers = itertools.count(len(p))  # of two that are equally likely, the older goes first
    while len(heap) > 1:
        (one, _, left), (other, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (one + other, next(numbers), left + right))
    return canonical(lengths.tolist())


def blocks(p: ArrayLike, size: int) -> np.ndarray:
    """Return the probabilities of all blocks of independent symbols, [n^size], the last symbol varying fastest.

    Huffman's code of them takes less than H + 1/size bits a symbol.

    Args:
        p: the probability of each symbol, [n].
        size: how many symbols a block has.

    Raises ValueError where they are no distribution.

    >>> p = [0.9, 0.1]
    >>> [round(huffman(blocks(p, size)).expected_length(blocks(p, size)) / size, 3) for size in (1, 2, 4)]
    [1.0, 0.645, 0.493]
    """
    check_sizes(size=size)
    p = _vector(p)
    table = np.ones(1)
    for _ in range(size):
        table = np.outer(table, p).ravel()
    return table


def _vector(p: ArrayLike) -> np.ndarray:
    table = as_table("p", p)
    if table.ndim != 1:
        raise ValueError(f"p: expected a probability for each symbol, got shape {table.shape}")
    return table


def _positive(p: ArrayLike) -> np.ndarray:
    table = _vector(p)
    if not table.all():
        raise ValueError(f"p: expected probabilities of more than 0, got 0 for symbol {int(np.argmin(table))}")
    return table
