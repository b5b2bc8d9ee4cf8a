"""Arithmetic coding: a whole sequence is one interval, and a number within it its code."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from probgen.compression.information import as_table
from probgen.core import check_sizes

_Conditional: TypeAlias = Callable[[Sequence[int]], ArrayLike]


def integer_cdf(p: ArrayLike, precision: int = 24) -> np.ndarray:
    """Return the distribution function of a table in whole numbers, F_0 = 0 < F_1 < … < F_n = 2^precision.

        F_i = ⌊c_i (2^P − n)⌋ + i,   c_i = p_0 + … + p_{i−1}

    So every symbol has at least 2^{−P}, a probability of 0 too, and what is lost is hardly anything: symbols of p cost
    KL(p ‖ F) more, at most about n 2^{−P} / ln 2 bits each.

    Args:
        p: the probability of each symbol, [n], with n below 2^P.
        precision: P, at most 32.

    Raises ValueError where that is no distribution, or has too many symbols.

    >>> integer_cdf([0.5, 0.5, 0.0], 8).tolist()
    [0, 127, 255, 256]
    """
    check_sizes(precision=precision)
    p = as_table("p", p)
    if p.ndim != 1 or precision > 32 or len(p) >= 2**precision:
        raise ValueError(
            f"p: expected fewer than 2^{precision} probabilities (and at most 32 bits), got shape {p.shape}"
        )
    below = np.concatenate([[0.0], np.cumsum(p)])
    cdf = np.floor(below / below[-1] * (2**precision - len(p))).astype(np.int64) + np.arange(len(p) + 1)
    return cdf


def arithmetic_encode(symbols: Sequence[int], conditional: _Conditional, *, precision: int = 24) -> str:
    """Return the bits of a sequence: fewer than −log₂ p(sequence) + 2, however long it is.

    Each symbol narrows an interval of [0, 1) to its part of it, so that the last has the width p(x_1) p(x_2 | x_1) …;
    the bits are the shortest binary fraction all of whose continuations lie within. In exact arithmetic, of whole
    numbers that grow: this is the theorem to look at. Long streams are a range coder's.

    Args:
        symbols: integers.
        conditional: what came before ↦ the probability of each next symbol.
        precision: of `integer_cdf`.

    Raises ValueError for a symbol that has no probability.

    References: Arithmetic Coding (Rissanen, Langdon 1979); Generalized Kraft Inequality and Arithmetic Coding
    (Rissanen 1976).

    >>> fair = lambda before: [0.5, 0.5]
    >>> bits = arithmetic_encode([0, 1, 1, 0], fair)
    >>> len(bits), arithmetic_decode(bits, fair, 4)
    (4, [0, 1, 1, 0])
    """
    low, width = 0, 1  # over 2^(precision · symbols so far)
    for i, symbol in enumerate(symbols):
        cdf = _cdf(symbols[:i], conditional, precision)
        if not 0 <= symbol < len(cdf) - 1:
            raise ValueError(f"symbols: expected integers from 0 to {len(cdf) - 2} at {i}, got {symbol}")
        low, width = (low << precision) + width * cdf[symbol], width * (cdf[symbol + 1] - cdf[symbol])
    whole = precision * len(symbols)
    length = whole - width.bit_length() + 1  # the least at which 2^-length is no more than the width
    while True:  # twice at most
        first = -((-low << length) >> whole)  # of the multiples of 2^-length, that at or above low
        if (first + 1) << whole <= (low + width) << length:
            return format(first, f"0{length}b") if length else ""
        length += 1


def arithmetic_decode(bits: str, conditional: _Conditional, length: int, *, precision: int = 24) -> list[int]:
    """Return the symbols of which `arithmetic_encode` made these bits; what follows them does not matter.

    Args:
        bits: of the characters 0 and 1.
        conditional: as in encoding.
        length: how many symbols they are.
        precision: as in encoding.

    Raises ValueError where the bits are none.
    """
    check_sizes(0, length=length)
    if set(bits) - {"0", "1"}:
        raise ValueError(f"bits: expected 0 and 1, got {bits!r}")
    value, of = int(bits or "0", 2), len(bits)  # value / 2^of
    low, width = 0, 1
    symbols: list[int] = []
    for i in range(length):
        cdf = _cdf(symbols, conditional, precision)
        # the last symbol whose part begins at or below the value
        at = ((value << (precision * (i + 1))) >> of) - (low << precision)
        symbol = int(np.searchsorted(np.array(cdf, object) * width, at, side="right")) - 1
        if not 0 <= symbol < len(cdf) - 1:
            raise ValueError("bits: they are no code of such symbols")
        low, width = (low << precision) + width * cdf[symbol], width * (cdf[symbol + 1] - cdf[symbol])
        symbols.append(symbol)
    return symbols


def _cdf(before: Sequence[int], conditional: _Conditional, precision: int) -> list[int]:
    cdf: list[int] = integer_cdf(conditional(before), precision).tolist()
    return cdf
