"""Columns of numbers: mixtures of logistics, on the grid to which a column was rounded, with values of their own."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import log1mexp
from probgen.data.columns import Column
from probgen.distributions.heads import mixture_parts, positive

_FINEST = 1 << 20  # steps in a standard deviation: a finer grid is none that float32 could see
_DECIMALS = 10  # of rounded numbers, which sums of float64 would add to
_NARROWEST = 1e-3  # of the scale of a logistic, in standard deviations, where numbers are not rounded
_OF_A_STEP = 0.05  # of that scale, in steps, where they are


class Numbers(NamedTuple):
    """What is known of C columns of numbers, each an array [C] (or [C, A]), all static.

    A cell is the standardized number z where the column is not rounded, and the place k on the column's grid where it
    is: x = offset + k · step.
    """

    rounded: np.ndarray
    logarithmic: np.ndarray
    step: np.ndarray
    offset: np.ndarray
    loc: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray
    coarse: np.ndarray
    atoms: np.ndarray

    @property
    def size(self) -> int:
        """C, how many columns there are."""
        return len(self.step)

    def standardized(self, cells: Array) -> Array:
        """Return z of cells [..., C]."""
        x = jnp.where(self.rounded, self.offset + cells * self.step, 1.0)
        log_x = jnp.log(jnp.where(self.logarithmic, jnp.maximum(x, 1e-30), 1.0))
        z = (jnp.where(self.logarithmic, log_x, x) - self.loc) / self.spread
        linear = (self.offset - self.loc) / self.spread + cells * (self.step / self.spread)
        return jnp.where(self.rounded, jnp.where(self.logarithmic, z, linear), cells)

    def cells(self, z: Array, apart: np.ndarray | int = 1) -> Array:
        """Return the cells in which numbers z [..., C] lie, of places that are so many steps apart."""
        y = self.loc + self.spread * z
        x = jnp.where(self.logarithmic, jnp.exp(jnp.where(self.logarithmic, y, 0.0)), y)
        linear = jnp.where(self.rounded, (self.loc - self.offset) / self.step, 0.0) + z * (self.spread / self.step)
        places = jnp.where(self.logarithmic, (x - self.offset) / self.step, linear)
        cells = jnp.where(self.rounded, jnp.round(places / apart) * apart, z)
        low, high = np.ceil(self.low / apart) * apart, np.floor(self.high / apart) * apart
        return jnp.clip(cells, np.where(self.rounded, low, self.low), np.where(self.rounded, high, self.high))

    def edges(self, cells: Array, apart: np.ndarray | int = 1) -> tuple[Array, Array, Array]:
        """Return the ends of each cell's bin in z, of places so many steps apart, and its width; the ends reach to ±∞
        at the bounds."""
        z, half = self.standardized(cells), self.step * apart / 2
        flat = 2 * half / self.spread
        x = self.offset + cells * self.step
        under, over = jnp.maximum(x - half, 1e-30), jnp.maximum(x + half, 1e-30)
        ends = ((jnp.log(jnp.where(self.logarithmic, end, 1.0)) - self.loc) / self.spread for end in (under, over))
        lower, upper = (jnp.where(self.logarithmic, end, z + side * flat / 2) for end, side in zip(ends, (-1, 1)))
        width = jnp.where(self.logarithmic, jnp.log(jnp.where(self.logarithmic, over / under, 1.0)) / self.spread, flat)
        first, last = cells - apart < self.low, cells + apart > self.high
        first |= self.logarithmic & (x - half <= 0)
        return jnp.where(first, -jnp.inf, lower), jnp.where(last, jnp.inf, upper), width

    def bins(self, cells: Array) -> tuple[Array, Array]:
        """Return the lower end of a part of each cell's bin in z, the whole of it but where it has no end, and its
        width; of what is not rounded z and 1."""
        z, flat = self.standardized(cells), self.step / self.spread
        x, half = self.offset + cells * self.step, self.step / 2
        under, over = jnp.maximum(x - half, x / 2), x + half
        there = self.logarithmic & (x > 0)
        ratio = jnp.log(jnp.where(there, over / under, 1.0)) / self.spread
        width = jnp.where(there, ratio, flat)
        lower = jnp.where(there, z - jnp.log(jnp.where(there, x / under, 1.0)) / self.spread, z - flat / 2)
        return jnp.where(self.rounded, lower, z), jnp.where(self.rounded, width, 1.0)

    def contain(self, cells: Array) -> Array:
        """Return whether cells lie within the bounds, and on the grid where there is one."""
        on_grid = jnp.where(self.rounded, cells == jnp.round(cells), True)
        return on_grid & (cells >= self.low) & (cells <= self.high)


def of_columns(columns: tuple[Column, ...]) -> Numbers:
    """Return what is known of some columns of numbers.

    Args:
        columns: none of them categorical, ordinal or constant.
    """
    most = max([len(column.atoms) for column in columns], default=0)
    facts = [_of_column(column, most) for column in columns]
    dtypes = (bool, bool, *[float] * 4, *[np.float32] * 4)
    shapes = (*[(len(facts),)] * 9, (len(facts), most))
    of_each = zip(*facts) if facts else [()] * len(dtypes)
    return Numbers(*(np.array(f, d).reshape(s) for f, d, s in zip(of_each, dtypes, shapes)))


def is_rounded(column: Column) -> bool:
    """Return whether a column's cells are places on a grid."""
    if column.step is None:
        return False
    coarse = column.spread if column.scale == "linear" else math.exp(column.loc) * math.expm1(column.spread)
    return coarse / column.step < _FINEST


def place(column: Column, x: Any) -> Any:
    """Return the cells of numbers x [...] in the column's units, as float64; NaN stays NaN.

    Args:
        column: of numbers.
        x: what the table has.
    """
    if is_rounded(column):
        return np.round((x - column.offset) / _step(column))
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(x) if column.scale == "log" else x
    return (y - column.loc) / column.spread


def number(column: Column, cells: Any) -> Any:
    """Return the numbers in the column's units of cells [...]; it inverts `place`.

    Args:
        column: of numbers.
        cells: as float64.
    """
    if is_rounded(column):
        return np.round(column.offset + cells * _step(column), _DECIMALS)
    y = column.loc + column.spread * cells
    return np.exp(y) if column.scale == "log" else y


def _step(column: Column) -> float:
    return 1.0 if column.step is None else column.step


def _of_column(column: Column, most: int) -> tuple:
    rounded, log = is_rounded(column), column.scale == "log"
    bound = lambda end, none: none if end is None else float(place(column, end))
    low, high = bound(column.low, -np.inf), bound(column.high, np.inf)
    if rounded and column.kind == "positive":  # its bound is no number of its own
        low = math.floor(((column.low or 0.0) - column.offset) / _step(column) + 1e-6) + 1.0
    atoms = [float(place(column, x)) for x in column.atoms]
    padded = np.array([*atoms, *[np.nan] * (most - len(atoms))], np.float32)  # what no number equals
    step, offset = (column.step, column.offset) if rounded else (1.0, 0.0)
    coarse = column.coarse if rounded else 1
    return (rounded, rounded and log, step, offset, column.loc, column.spread, low, high, coarse, padded)


class NumberHead(NamedTuple):
    """Raw numbers [..., C, 1 + G + A + 3 K] → the distribution of each cell of C columns.

        P(x) = Σ_a π_a 1[x = a] + π₀ Σ_k w_k L_k(x) + π_g Σ_k w_k L_k^g(x)

    with A values of their own (atoms) and K logistics of which L_k is the mass in the bin of a rounded number, the end
    bins reaching to ±∞, or the density of z, cut off at the column's bounds. Where most numbers of some column are on a
    coarser grid, G = 1 and L_k^g is the mass in the bins of that grid, 0 off it.

    Args:
        numbers: of the columns.
        components: K.
    """

    numbers: Numbers
    components: int

    @property
    def grids(self) -> int:
        """G, 1 where a column has a coarser grid and 0 where none has."""
        return int((self.numbers.coarse > 1).any())

    @property
    def num_params(self) -> int:
        """1 + G + A + 3 K."""
        return 1 + self.grids + self.numbers.atoms.shape[-1] + 3 * self.components

    def log_prob(self, raw: Array, cells: Array) -> Array:
        """Return log P of cells [..., C]."""
        choice, log_weights, loc, scale = self._parts(raw)
        mixture = choice[..., 0] + jax.nn.logsumexp(log_weights + self._log_parts(cells, loc, scale), -1)
        if self.grids:
            coarse = self.numbers.coarse
            on_grid = (coarse > 1) & (jnp.mod(cells, coarse) == 0)
            parts = log_weights + self._log_masses(cells, loc, scale, coarse)
            rounder = jnp.where(on_grid, choice[..., 1], 0.0) + jax.nn.logsumexp(parts, -1)
            mixture = jnp.where(on_grid, jnp.logaddexp(rounder, mixture), mixture)
        if not self.numbers.atoms.shape[-1]:
            return mixture
        here = cells[..., None] == self.numbers.atoms
        atom = jnp.where(here, choice[..., 1 + self.grids :], -jnp.inf).max(-1)
        at_all = here.any(-1)
        both = jnp.logaddexp(jnp.where(at_all, atom, 0.0), mixture)
        # of a number that is not rounded the density says nothing at an atom, which has a mass
        return jnp.where(at_all, jnp.where(self.numbers.rounded, both, atom), mixture)

    def sample(self, key: Array, raw: Array) -> Array:
        """Draw cells [..., C]."""
        choice, log_weights, loc, scale = self._parts(raw)
        which_key, part_key, where_key = jax.random.split(key, 3)
        part = jax.random.categorical(part_key, log_weights)[..., None]
        loc, scale = (jnp.take_along_axis(x, part, -1)[..., 0] for x in (loc, scale))
        z = self._draw(where_key, loc, scale)
        cells, before = self.numbers.cells(z), 1 + self.grids
        if choice.shape[-1] == 1:
            return cells
        which = jax.random.categorical(which_key, choice)
        if self.grids:
            cells = jnp.where(which == 1, self.numbers.cells(z, self.numbers.coarse), cells)
        if not self.numbers.atoms.shape[-1]:
            return cells
        atoms = jnp.broadcast_to(jnp.nan_to_num(self.numbers.atoms), choice[..., before:].shape)
        atom = jnp.take_along_axis(atoms, jnp.maximum(which - before, 0)[..., None], -1)[..., 0]
        return jnp.where(which >= before, atom, cells)

    def _parts(self, raw: Array) -> tuple[Array, Array, Array, Array]:
        """Return log (π₀, π_g, π), log w, μ and s."""
        grid = (self.numbers.coarse > 1)[:, None][:, : self.grids]
        there = np.concatenate([np.ones((self.numbers.size, 1), bool), grid, ~np.isnan(self.numbers.atoms)], -1)
        choices = there.shape[-1]
        choice = jax.nn.log_softmax(jnp.where(there, raw[..., :choices], -jnp.inf))
        logits, loc, scale = mixture_parts(raw[..., choices:])
        of_a_step = np.where(self.numbers.logarithmic, 1e-5, _OF_A_STEP * self.numbers.step / self.numbers.spread)
        smallest: Any = np.where(self.numbers.rounded, np.minimum(of_a_step, 0.5), _NARROWEST)[:, None]
        return choice, jax.nn.log_softmax(logits), loc, positive(scale - 1.0, smallest)

    def _log_parts(self, cells: Array, loc: Array, scale: Array) -> Array:
        rounded, mass = self.numbers.rounded[:, None], self._log_masses(cells, loc, scale, 1)
        u = (jnp.where(rounded, 0.0, cells[..., None]) - loc) / scale
        density = -u - 2.0 * jax.nn.softplus(-u) - jnp.log(scale)
        low, high = (end[:, None] for end in self._cuts())
        inside = _log_mass(low, high, jnp.where(jnp.isfinite(high - low), high - low, jnp.inf), loc, scale)
        return jnp.where(rounded, mass, density - inside)

    def _log_masses(self, cells: Array, loc: Array, scale: Array, apart: Any) -> Array:
        """Return log masses of the parts in the bins of places so many steps apart, [..., C, K]."""
        lower, upper, width = (end[..., None] for end in self.numbers.edges(cells, apart))
        return _log_mass(lower, upper, width, loc, scale)

    def _cuts(self) -> tuple[Array, Array]:
        rounded = self.numbers.rounded
        return jnp.where(rounded, -jnp.inf, self.numbers.low), jnp.where(rounded, jnp.inf, self.numbers.high)

    def _draw(self, key: Array, loc: Array, scale: Array) -> Array:
        """Draw z of logistics, within the bounds of what is not rounded, by the inverse of their distribution."""
        low, high = self._cuts()
        ends = jax.nn.sigmoid((low - loc) / scale), jax.nn.sigmoid((high - loc) / scale)
        u = jax.random.uniform(key, loc.shape, minval=jnp.finfo(loc.dtype).tiny)
        q = jnp.clip(ends[0] + u * (ends[1] - ends[0]), 1e-7, 1 - 1e-7)
        return loc + scale * (jnp.log(q) - jnp.log1p(-q))


def _log_mass(lower: Array, upper: Array, width: Array, loc: Array, scale: Array) -> Array:
    """Return log(σ(b) − σ(a)) by σ(b) σ(−a) (1 − e^{a−b}), where an end may be infinite."""
    open_below, open_above = jnp.isneginf(lower), jnp.isposinf(upper)
    below = (jnp.where(open_below, 0.0, lower) - loc) / scale
    above = (jnp.where(open_above, 0.0, upper) - loc) / scale
    closed = ~(open_below | open_above)
    inner = log1mexp(jnp.where(closed, width, 1.0) / scale)
    return (
        jnp.where(open_above, 0.0, jax.nn.log_sigmoid(above))
        + jnp.where(open_below, 0.0, jax.nn.log_sigmoid(-below))
        + jnp.where(closed, inner, 0.0)
    )
