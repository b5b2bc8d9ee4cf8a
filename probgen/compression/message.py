"""The message that a codec writes: what distributions write to a stack of bits, so many events side by side."""

import copy
import functools
import math
from contextlib import AbstractContextManager, nullcontext
from decimal import Context, Decimal
from typing import Any, Self

import jax
import numpy as np
from numpy.typing import ArrayLike

from probgen.compression.stack import Stack

_STEPS = 2.0**7  # of the grid in a standard deviation, at most; what is finer is chance
_AT_ONCE = 8  # bits of chance that are coded together
_FARTHEST = 2.0**53  # steps of the grid that double precision counts
_OF_A_NAT, _NATS = 128, 32  # steps of a portable log-probability, and where these end: 24 bits are 17 nats


class Message:
    """What is written of so many events side by side: a `Stack`, and the lanes that are in use.

    Args:
        stack: to write to, or to read.
        lanes: how many events go side by side.
        rows: how many of these lanes are in use, the first ones.
        width: of the grid that real latents lie on; a power of two, so that they are exact.
        portable: whether log-probabilities are rounded to steps of 1/128 nat, so that programs and machines that differ
            in the last digits of double precision read the same; then nothing real is written.
        replays: whether what is written runs the reader's own program, and no whole pass of the model.
    """

    def __init__(
        self, stack: Stack, lanes: int, rows: int, width: float, *, portable: bool = False, replays: bool = True
    ):
        self.stack, self.lanes, self.width = stack, lanes, width
        self.portable, self.replays = portable, replays
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
        self._check_reals()
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
        self._check_reals()
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
        rows = log_p[self.active].reshape(-1, log_p.shape[-1]).astype(np.float64)
        return _rounded(rows) if self.portable else np.exp(rows)

    def _check_reals(self) -> None:
        if self.portable:
            raise ValueError(
                "portable: this model's latent numbers are real, which no rounding makes the same: leave it out"
            )

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


def precision(portable: bool) -> AbstractContextManager[Any]:
    """Return what to compute in: double precision where messages are portable.

    Args:
        portable: as of `Message`.
    """
    return jax.enable_x64(True) if portable else nullcontext()


def _rounded(log_p: np.ndarray) -> np.ndarray:
    """Return the probabilities of log-probabilities, rounded to steps of 1/128."""
    if np.any(np.isnan(log_p)):
        raise ValueError("log_p: expected numbers, got NaN")
    return _exponentials()[np.rint(np.clip(-log_p, 0, _NATS) * _OF_A_NAT).astype(np.int64)]


@functools.cache
def _exponentials() -> np.ndarray:
    """Return exp(−k / 128) for each k, to the last bit: those of NumPy and of C depend on the processor."""
    exact = Context(prec=40)
    return np.array([float(exact.exp(Decimal(-k) / _OF_A_NAT)) for k in range(_OF_A_NAT * _NATS + 1)])
