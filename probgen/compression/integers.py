"""Codes of integers, of which there is no end."""

import math

from probgen.core import check_sizes


def elias_gamma(n: int) -> str:
    """Return Elias's γ word of an integer, 2 ⌊log₂ n⌋ + 1 bits: as many zeros as n has bits after its first, then n.

    Args:
        n: at least 1.

    Raises ValueError where n is less.

    References: Universal Codeword Sets and Representations of the Integers (Elias 1975).

    >>> [elias_gamma(n) for n in (1, 2, 5)]
    ['1', '010', '00101']
    """
    check_sizes(n=n)
    return "0" * (int(n).bit_length() - 1) + format(int(n), "b")


def elias_delta(n: int) -> str:
    """Return Elias's δ word of an integer, log₂ n + 2 log₂ log₂ n + O(1) bits: the γ word of how many bits n has, then
    those after its first.

    Args:
        n: at least 1.

    Raises ValueError where n is less.

    References: Universal Codeword Sets and Representations of the Integers (Elias 1975).

    >>> [elias_delta(n) for n in (1, 2, 5)]
    ['1', '0100', '01101']
    """
    check_sizes(n=n)
    return elias_gamma(int(n).bit_length()) + format(int(n), "b")[1:]


def golomb(n: int, m: int) -> str:
    """Return Golomb's word of an integer, the best of all codes for a geometric one: ⌊n/m⌋ ones, a zero, and n mod m in
    ⌊log₂ m⌋ or one more bits.

    For P(n) = (1 − θ) θⁿ the best m is the least with θ^m + θ^{m+1} ≤ 1 (`golomb_size`).

    Args:
        n: at least 0.
        m: at least 1; a power of two makes it Rice's code.

    Raises ValueError where one is less.

    References: Run-Length Encodings (Golomb 1966); Optimal Source Codes for Geometrically Distributed Integer Alphabets
    (Gallager, Van Voorhis 1975).

    >>> [golomb(n, 3) for n in (0, 1, 2, 3)]
    ['00', '010', '011', '100']
    """
    check_sizes(0, n=n)
    check_sizes(m=m)
    quotient, rest = divmod(int(n), int(m))
    bits = (int(m) - 1).bit_length()
    short = 2**bits - int(m)  # so many remainders get one bit less
    tail = (rest, bits - 1) if rest < short else (rest + short, bits)
    return "1" * quotient + "0" + (format(tail[0], f"0{tail[1]}b") if tail[1] else "")


def golomb_size(theta: float) -> int:
    """Return the m of `golomb` that is best for P(n) = (1 − θ) θⁿ.

    Args:
        theta: θ, in (0, 1).

    Raises ValueError where it lies elsewhere.

    >>> golomb_size(0.9)
    7
    """
    if not 0.0 < theta < 1.0:
        raise ValueError(f"theta: expected a number between 0 and 1, got {theta}")
    return max(1, math.ceil(-math.log1p(theta) / math.log(theta)))
