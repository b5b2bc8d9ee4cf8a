"""How the cells of a table become the numbers of an event, and back."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.data.columns import Column
from probgen.tables.numbers import NumberHead, Numbers, is_rounded, number, of_columns, place

_CATEGORICAL = ("categorical", "ordinal")


def is_modelled(column: Column) -> bool:
    """Return whether a column says something that the others do not.

    Args:
        column: of a table.
    """
    return column.kind != "constant" and column.same_as is None


class Layout(NamedTuple):
    """Which columns are categories, and which are numbers; an event has a number for each of the D columns.

    Args:
        columns: those that are modelled, D.
        categories: the places of C₁ columns of categories.
        sizes: how many categories each has.
        places: of C₂ columns of numbers.
        numbers: what is known of those.
        feasible: an event [D]: the first categories, and numbers near their means.
    """

    columns: tuple[Column, ...]
    categories: np.ndarray
    sizes: np.ndarray
    places: np.ndarray
    numbers: Numbers
    feasible: np.ndarray

    @property
    def size(self) -> int:
        """D, how many columns there are."""
        return len(self.columns)

    @property
    def num_features(self) -> int:
        """How many numbers `features` returns."""
        return int(self.sizes.sum()) + self.numbers.size * (2 + self.numbers.atoms.shape[-1])

    def features(self, x: Array, known: Array) -> Array:
        """Return what a network sees of one event [D] of which some cells are known: one-hot categories, and z; zeros
        for the others."""
        codes, z = x[self.categories], self.numbers.standardized(x[self.places])
        hot = [jax.nn.one_hot(code, int(size)) for code, size in zip(codes, self.sizes)]
        shown = [part * known[int(i)] for part, i in zip(hot, self.categories)]
        atoms = (x[self.places][:, None] == self.numbers.atoms).astype(z.dtype)
        reals = jnp.concatenate([jnp.tanh(z)[:, None], jnp.clip(z, -8.0, 8.0)[:, None], atoms], -1)
        return jnp.concatenate([*shown, (reals * known[self.places][:, None]).reshape(-1)])

    def contain(self, x: Array) -> Array:
        """Return whether events [..., D] are rows of such a table."""
        codes = x[..., self.categories]
        of_codes = (codes == jnp.round(codes)) & (codes >= 0) & (codes < self.sizes)
        return of_codes.all(-1) & self.numbers.contain(x[..., self.places]).all(-1)


def layout_of(columns: tuple[Column, ...]) -> Layout:
    """Return the layout of the modelled ones of some columns.

    Args:
        columns: of a table.

    Raises ValueError where none is modelled.
    """
    return _layout_of(columns, jax.dtypes.canonicalize_dtype(float))


@functools.lru_cache(maxsize=64)
def _layout_of(columns: tuple[Column, ...], dtype: np.dtype) -> Layout:
    """Return `layout_of`, one for each dtype: JAX remembers a constant by identity, in the dtype of its first use."""
    kept = tuple(column for column in columns if is_modelled(column))
    if not kept:
        raise ValueError("columns: expected some that vary, and repeat no other, got none")
    is_category = np.array([column.kind in _CATEGORICAL for column in kept])
    categories, places = (np.flatnonzero(x).astype(np.int32) for x in (is_category, ~is_category))  # as JAX's are
    sizes = np.array([len(kept[i].values) for i in categories], int)
    numbers, feasible = of_columns(tuple(kept[i] for i in places)), np.zeros(len(kept), np.float32)
    with jax.ensure_compile_time_eval():  # whoever asks first may be tracing
        feasible[places] = np.asarray(numbers.cells(jnp.zeros(numbers.size)))
    return Layout(kept, categories, sizes, places, numbers, feasible)


class CellHead(NamedTuple):
    """Raw numbers [..., num_params] → the distribution of each cell of a row, independent of one another.

    Args:
        layout: of the columns.
        components: of the mixtures of logistics.
    """

    layout: Layout
    components: int

    @property
    def of_numbers(self) -> NumberHead:
        """The head of the columns of numbers."""
        return NumberHead(self.layout.numbers, self.components)

    @property
    def num_params(self) -> int:
        """The raw numbers for a whole row, how many there are."""
        return int(self.layout.sizes.sum()) + self.layout.numbers.size * self.of_numbers.num_params

    def log_prob(self, raw: Array, x: Array) -> Array:
        """Return log p of each cell of one row, [D]."""
        out = jnp.zeros(self.layout.size, raw.dtype)
        if len(self.layout.sizes):
            logits = self._logits(raw)
            codes = x[self.layout.categories].astype(int)[:, None]
            out = out.at[self.layout.categories].set(jnp.take_along_axis(logits, codes, -1)[:, 0])
        if self.layout.numbers.size:
            log_p = self.of_numbers.log_prob(self._of_numbers(raw), x[self.layout.places])
            out = out.at[self.layout.places].set(log_p)
        return out

    def sample(self, key: Array, raw: Array) -> Array:
        """Draw each cell of one row, [D]."""
        codes_key, numbers_key = jax.random.split(key)
        out = jnp.zeros(self.layout.size, raw.dtype)
        if len(self.layout.sizes):
            codes = jax.random.categorical(codes_key, self._logits(raw))
            out = out.at[self.layout.categories].set(codes.astype(raw.dtype))
        if self.layout.numbers.size:
            out = out.at[self.layout.places].set(self.of_numbers.sample(numbers_key, self._of_numbers(raw)))
        return out

    def _logits(self, raw: Array) -> Array:
        """Return log-probabilities of the categories, [C₁, the most that a column has], −∞ for those that it lacks."""
        sizes, most = self.layout.sizes, int(self.layout.sizes.max())
        starts, there = np.cumsum(sizes) - sizes, np.arange(most) < sizes[:, None]
        where = np.where(there, starts[:, None] + np.arange(most), 0).astype(np.int32)
        return jax.nn.log_softmax(jnp.where(there, raw[where], -jnp.inf))

    def _of_numbers(self, raw: Array) -> Array:
        return raw[int(self.layout.sizes.sum()) :].reshape(self.layout.numbers.size, -1)


def encoded(columns: tuple[Column, ...], array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the events [N, D] of rows, as float32, and which cells are observed, [N, D]; the others hold what is
    feasible.

    Args:
        columns: of the table.
        array: its numbers and codes [N, all columns], as float64, NaN where one is missing.

    Raises ValueError where the rows have another number of columns.
    """
    array = np.asarray(array, np.float64)
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise ValueError(f"array: expected rows of {len(columns)} columns, got shape {array.shape}")
    layout = layout_of(columns)
    kept = [i for i, column in enumerate(columns) if is_modelled(column)]
    cells = [x if c.kind in _CATEGORICAL else place(c, x) for c, x in zip(layout.columns, array[:, kept].T)]
    observed = ~np.isnan(array[:, kept])
    return np.where(observed, np.stack(cells, -1), layout.feasible).astype(np.float32), observed


def decoded(columns: tuple[Column, ...], x: np.ndarray) -> np.ndarray:
    """Return rows [N, all columns] of numbers and codes, as float64, from events [N, D].

    Args:
        columns: of the table.
        x: events.
    """
    layout, x = layout_of(columns), np.asarray(x, np.float64)
    found = {c.name: cells if c.kind in _CATEGORICAL else number(c, cells) for c, cells in zip(layout.columns, x.T)}
    for column in columns:
        if column.kind == "constant":
            found[column.name] = np.full(len(x), 0.0 if column.values else np.nan)  # one value, or none was seen
        elif column.same_as is not None:
            found[column.name] = found[column.same_as]
    return np.stack([found[column.name] for column in columns], -1)


def log_units(columns: tuple[Column, ...], array: np.ndarray) -> np.ndarray:
    """Return log |dz/dx| [N], summed over the observed numbers of each row that are not rounded: what makes a density
    of events one in the table's own units.

    Args:
        columns: of the table.
        array: its numbers and codes [N, all columns], NaN where one is missing.
    """
    total = np.zeros(len(array))
    for column, x in zip(columns, np.asarray(array, np.float64).T):
        if is_modelled(column) and column.kind not in _CATEGORICAL and not is_rounded(column):
            free = ~np.isnan(x) & ~np.isin(x, column.atoms)
            log_x = np.log(np.where(free, x, 1.0)) if column.scale == "log" else 0.0
            total -= np.where(free, np.log(column.spread) + log_x, 0.0)
    return total
