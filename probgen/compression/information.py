"""Entropies of tables, in bits: what no code goes below."""

import numpy as np
from numpy.typing import ArrayLike

_MOST_OFF = 1e-6  # of a table's sum from 1


def as_table(name: str, p: ArrayLike) -> np.ndarray:
    """Return probabilities as float64, of any shape.

    Args:
        name: of the argument, for the error.
        p: at least 0, with sum 1.

    Raises ValueError where they are no distribution.
    """
    table = np.asarray(p, np.float64)
    if not table.size or not np.all(table >= 0) or not abs(table.sum() - 1.0) <= _MOST_OFF:
        raise ValueError(f"{name}: expected probabilities of sum 1, got {p!r}")
    return table


def entropy(p: ArrayLike) -> float:
    """Return H(p) = −Σ p log₂ p, in bits: the least mean length of a uniquely decodable code, but for one bit.

    Args:
        p: a table of probabilities, of any shape.

    Raises ValueError where they are no distribution.

    References: A Mathematical Theory of Communication (Shannon 1948).

    >>> entropy([0.5, 0.25, 0.25])
    1.5
    """
    return cross_entropy(p, p)


def cross_entropy(p: ArrayLike, q: ArrayLike) -> float:
    """Return −Σ p log₂ q, in bits: what symbols of p cost in the ideal code for q, H(p) + KL(p ‖ q).

    Args:
        p: a table of probabilities, of any shape.
        q: another one of that shape.

    Raises ValueError where one is no distribution, or they differ in shape.

    >>> cross_entropy([0.5, 0.5], [0.25, 0.75]).__round__(4)
    1.2075
    >>> cross_entropy([0.5, 0.5], [1.0, 0.0])
    inf
    """
    p, q = as_table("p", p), as_table("q", q)
    if p.shape != q.shape:
        raise ValueError(f"q: expected shape {p.shape}, as p has, got {q.shape}")
    with np.errstate(divide="ignore"):
        return float(-np.sum(p[p > 0] * np.log2(q[p > 0])) + 0.0)


def divergence(p: ArrayLike, q: ArrayLike) -> float:
    """Return KL(p ‖ q) = Σ p log₂ p/q, in bits: what it costs to code symbols of p in the ideal code for q.

    Args:
        p: a table of probabilities, of any shape.
        q: another one of that shape.

    Raises ValueError where one is no distribution, or they differ in shape.

    References: On Information and Sufficiency (Kullback, Leibler 1951).

    >>> divergence([0.5, 0.5], [0.5, 0.5])
    0.0
    """
    return cross_entropy(p, q) - entropy(p)


def conditional_entropy(joint: ArrayLike) -> float:
    """Return H(Y | X) = H(X, Y) − H(X), in bits: what Y costs where X is known.

    Args:
        joint: P(X, Y), X along the first axis.

    Raises ValueError where it is no joint distribution.

    >>> conditional_entropy([[0.5, 0.0], [0.25, 0.25]])
    0.5
    """
    joint = as_table("joint", joint)
    if joint.ndim < 2:
        raise ValueError(f"joint: expected a table of at least two axes, got shape {joint.shape}")
    return entropy(joint) - entropy(joint.reshape(len(joint), -1).sum(1))
