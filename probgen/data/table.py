"""Tables: columns that are described, and one array of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probgen.data import columnar, delimited, kinds
from probgen.data.columns import Column, Misfit, decode, encode, listed, plain
from probgen.data.datasets import holdout
from probgen.data.description import Description, describe


@dataclass(frozen=True, repr=False, eq=False)
class Table:
    """A table of rows with described columns; `read` makes one of a file.

    `len` counts the rows, and `table[rows]` are those of a slice, of indices or of a mask, so that
    `probgen.data.holdout` and `split` hold out rows of it.

    Args:
        columns: what is known of each column.
        array: [N, D], float64: numbers as they are, places in `Column.values` of what is ordinal, categorical or
            constant; NaN where a cell is missing.

    Raises ValueError where the array is not [N, D] for D columns, or two have the same name.

    >>> table = Table.from_cells({"age": [1, 2, None], "smokes": [True, False, True]})
    >>> table
    3 rows: age (ordinal), smokes (categorical)
    >>> table.array
    array([[ 0.,  1.],
           [ 1.,  0.],
           [nan,  1.]])
    """

    columns: tuple[Column, ...]
    array: np.ndarray

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or self.array.shape[1] != len(self.columns):
            raise ValueError(
                f"array: expected [N, {len(self.columns)}] for {len(self.columns)} columns, "
                f"got {list(self.array.shape)}"
            )
        names = self.names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"columns: expected a name for each, got {twice!r} twice")

    @classmethod
    def from_cells(cls, cells: Mapping[str, Sequence[Any]], *, columns: Sequence[Column] | None = None) -> Table:
        """Return the table of values by column, None or NaN where they are missing.

        Args:
            cells: the values by the column's name, as a dict or a pandas frame: numbers, booleans or strings.
            columns: of a table that they are further rows of; otherwise the kinds are found from the values.

        Raises ValueError where columns differ in length or from `columns`, or a value is not of its column.

        >>> train = Table.from_cells({"colour": ["red", "blue", "red"]})
        >>> Table.from_cells({"colour": ["blue", None]}, columns=train.columns).array.ravel()
        array([ 0., nan])
        """
        if not hasattr(cells, "items"):
            raise ValueError(f"cells must be a mapping of columns, or a frame; it is a {type(cells).__name__}")
        lengths = {name: len(column) for name, column in cells.items()}
        if not lengths or len(set(lengths.values())) > 1 or 0 in lengths.values():
            raise ValueError(f"cells must be columns of one length, at least 1; they have {lengths}")
        values = {name: plain(column) for name, column in cells.items()}
        if columns is not None:
            return _known(values, columns)
        found = [kinds.infer(name, column) for name, column in values.items()]
        kinds.refuse_texts(found, len(next(iter(values.values()))))
        return _made(found, values)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> Table:
        if isinstance(rows, str | int | np.integer):
            raise ValueError(
                f"rows: expected a slice, indices [rows] or a mask, got {rows!r}; a column is table.select([name])"
            )
        return replace(self, array=self.array[rows])

    def __repr__(self) -> str:
        return f"{len(self)} rows: " + ", ".join(f"{column.name} ({column.kind})" for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def observed(self) -> np.ndarray:
        """Which cells are not missing, [N, D], bool."""
        return ~np.isnan(self.array)

    def column(self, name: str) -> Column:
        """Return what is known of a column. Raises ValueError where there is none of that name."""
        return self.columns[self._place(name)]

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise ValueError(f"there is no column {name!r}, only {listed(self.names)}")
        return self.names.index(name)

    def select(self, names: Iterable[str]) -> Table:
        """Return the table of these columns, in this order. Raises ValueError where one is not there."""
        places = [self._place(name) for name in names]
        columns = [self.columns[place] for place in places]
        before = [{column.name for column in columns[:j]} for j in range(len(columns))]
        if all(column.same_as is None or column.same_as in names for column, names in zip(columns, before)):
            return Table(tuple(columns), self.array[:, places])
        return _made(columns, self.cells())

    def drop(self, names: Iterable[str]) -> Table:
        """Return the table without these columns. Raises ValueError where one is not there."""
        gone = {self._place(name) for name in names}
        return self.select([name for place, name in enumerate(self.names) if place not in gone])

    def overrule(self, **fields: Mapping[str, Any]) -> Table:
        """Return the table with what its user knows better of some columns; what else depends on it is found again.

        Args:
            **fields: by the column's name, its `kind`, `step`, `offset`, `low`, `high` or `scale`.

        Raises ValueError where there is no such column or field, or the values cannot be of that kind.

        >>> table = Table.from_cells({"share": [0.0, 0.25, 1.0], "rank": [1, 2, 3]})
        >>> table = table.overrule(
        ...     share={"kind": "bounded", "low": 0.0, "high": 1.0}, rank={"kind": "real", "step": None}
        ... )
        >>> table.column("share").kind, table.array[:, 1]
        ('bounded', array([1., 2., 3.]))
        """
        cells, columns = self.cells(), list(self.columns)
        for name, changes in fields.items():
            if not isinstance(changes, Mapping):
                raise ValueError(f"{name} must be a dict of fields, such as {{'kind': 'count'}}; it is {changes!r}")
            place = self._place(name)
            columns[place] = kinds.overruled(columns[place], cells[name], changes)
        return _made(columns, cells)

    def cells(self) -> dict[str, list[Any]]:
        """Return the values by column, in the types of the file; None where they are missing."""
        return {column.name: decode(column, self.array[:, j]) for j, column in enumerate(self.columns)}

    def describe(self) -> Description:
        """Return what the columns hold and what a model of the table does with them; its `str` is a table to print.

        >>> cells = {"area": [30.5, 41.0, 28.5, 35.5], "floor": [0, 3, 1, 2], "town": ["A", "A", "A", "A"]}
        >>> print(Table.from_cells(cells).describe())
        4 rows, 3 columns
        column  kind      range       distinct  step  missing  what is done with it
        area    positive  28.5 to 41  4         0.1   –        rounded: dequantized, or the probability of its step; ...
        floor   ordinal   0 to 3      4         –     –        4 levels in their order
        town    constant  A           1         –     –        left out: it has one value
        """
        return describe(self.columns, self.array)

    def split(self, *, test: float = 0.1, seed: int = 0) -> tuple[Table, Table]:
        """Return two tables of the rows, (the rest, a share held out), by `probgen.data.holdout`.

        Args:
            test: the share of the rows to hold out, between 0 and 1; at least one row.
            seed: which permutation.

        Raises ValueError where one of the two would be empty.
        """
        if not 0 < test < 1:
            raise ValueError(f"test must be a share between 0 and 1; it is {test}")
        rest, held_out = holdout(np.arange(len(self)), max(1, round(test * len(self))), seed=seed)
        return self[rest], self[held_out]

    def save(self, path: str | Path) -> None:
        """Write the table to a file, which is replaced if it is there.

        Args:
            path: ends in .csv or .tsv, or in .parquet, .feather or .arrow for pyarrow to write.

        Raises ValueError where the name ends otherwise; ImportError where pyarrow is needed and not there.
        """
        path = Path(path)
        if path.suffix.lower() in columnar.SUFFIXES:
            columnar.write(path, self.cells(), {column.name: column.dtype for column in self.columns})
        else:
            delimited.write(path, self.cells())


def _made(columns: Sequence[Column], cells: Mapping[str, Sequence[Any]]) -> Table:
    """Return the table of columns whose values are known, repeated columns found."""
    encoded = lambda columns: np.stack([encode(column, cells[column.name]) for column in columns], axis=1)
    columns = [column if column.same_as is None else _sorted(column) for column in columns]
    columns = kinds.repeated(columns, encoded(columns))
    return Table(tuple(columns), encoded(columns))


def _sorted(column: Column) -> Column:
    return column._replace(same_as=None, values=tuple(sorted(column.values)))


def _known(cells: Mapping[str, Sequence[Any]], columns: Sequence[Column]) -> Table:
    """Return further rows of known columns. Raises ValueError where they are not such rows."""
    names = [column.name for column in columns]
    if lacking := [name for name in names if name not in cells]:
        raise ValueError(f"expected columns {listed(names)}; there is no {lacking[0]!r}")
    if more := [name for name in cells if name not in names]:
        raise ValueError(f"expected columns {listed(names)}; {more[0]!r} is none of them (see drop=)")
    array = np.stack([encode(column, cells[column.name]) for column in columns], axis=1)
    for j, column in enumerate(columns):
        if column.same_as is not None:
            other = array[:, names.index(column.same_as)]
            for row in np.flatnonzero((array[:, j] != other) & ~(np.isnan(array[:, j]) & np.isnan(other))):
                raise Misfit(
                    column.name, int(row), f"expected what goes with {column.same_as!r}, which it repeats elsewhere"
                )
    return Table(tuple(columns), array)
