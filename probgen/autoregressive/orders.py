"""Orders: which number of an event is drawn when."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Self

import jax
import numpy as np
from jax import Array


class Order(tuple[int, ...]):
    """A permutation of the flat (row-major) positions of an event: the first is drawn first, and sees nothing.

    It is a tuple: static in a model, hashable, and kept by files.

    Args:
        positions: all of 0..D−1, the first to be drawn first.

    Raises ValueError where they are no permutation.

    >>> Order.serpentine((2, 3))
    Order(0, 1, 2, 5, 4, 3)
    >>> Order.raster((2, 1, 2), channels=(1, 0)).reversed()
    Order(2, 3, 0, 1)
    """

    def __new__(cls, positions: Iterable[int]) -> Self:
        """Make an order from the positions themselves."""
        order = tuple(positions)
        if not all(isinstance(i, int | np.integer) for i in order) or sorted(order) != list(range(len(order))):
            raise ValueError(f"order: expected a permutation of 0..{len(order) - 1}, got {order}")
        return super().__new__(cls, map(int, order))

    def __getnewargs__(self) -> Any:
        return (tuple(self),)

    def __repr__(self) -> str:
        return f"Order({', '.join(map(str, self))})"

    @classmethod
    def raster(cls, event_shape: Sequence[int], *, channels: Sequence[int] | None = None) -> Self:
        """Go row by row; with `channels`, those of a pixel (the last axis) come in that order: (2, 1, 0) is blue
        first."""
        positions = _positions(event_shape)
        return cls(positions.ravel() if channels is None else _channels_in(positions, channels).ravel())

    @classmethod
    def planes(cls, event_shape: Sequence[int], *, channels: Sequence[int] | None = None) -> Self:
        """Go channel by channel (the last axis), each in raster order."""
        positions = _positions(event_shape)
        positions = positions if channels is None else _channels_in(positions, channels)
        return cls(np.moveaxis(positions, -1, 0).ravel())

    @classmethod
    def serpentine(cls, event_shape: Sequence[int]) -> Self:
        """Go row by row, every other row from right to left, so that neighbours follow one another."""
        positions = _positions(event_shape)
        if positions.ndim < 2:
            raise ValueError(f"event_shape: expected rows and columns, got {tuple(event_shape)}")
        positions[1::2] = positions[1::2, ::-1]
        return cls(positions.ravel())

    @classmethod
    def columns(cls, event_shape: Sequence[int]) -> Self:
        """Go column by column, from left to right."""
        positions = _positions(event_shape)
        if positions.ndim < 2:
            raise ValueError(f"event_shape: expected rows and columns, got {tuple(event_shape)}")
        return cls(np.swapaxes(positions, 0, 1).ravel())

    @classmethod
    def random(cls, event_shape: Sequence[int], *, key: Array) -> Self:
        """Draw an order uniformly."""
        return cls(np.asarray(jax.random.permutation(key, math.prod(event_shape))))

    def reversed(self) -> Self:
        """Return the order with the last first."""
        return type(self)(self[::-1])

    @property
    def places(self) -> np.ndarray:
        """The place at which each position is drawn, [D]: the inverse permutation."""
        return np.argsort(np.asarray(self, int))

    @property
    def is_raster(self) -> bool:
        """Whether it changes nothing."""
        return tuple(self) == tuple(range(len(self)))


def _positions(event_shape: Sequence[int]) -> np.ndarray:
    return np.arange(math.prod(event_shape)).reshape(tuple(event_shape))


def _channels_in(positions: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    if sorted(channels) != list(range(positions.shape[-1])):
        raise ValueError(f"channels: expected a permutation of 0..{positions.shape[-1] - 1}, got {tuple(channels)}")
    return positions[..., list(channels)]
