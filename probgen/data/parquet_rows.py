"""Rows of a Parquet file that memory does not hold, by its row groups."""

import functools
import itertools
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from probgen.data.columnar import require_pyarrow
from probgen.data.malformed import parsing


class ParquetRows:
    """Rows of the numbers in a Parquet file: `rows[i]` reads one, of shape [D] for D columns.

    `probgen.fit(model, rows, batch_size=…)` reads whole row groups while it trains, so that memory need not hold more
    than a few of them: in each epoch the groups come in a new order, and those of some 64 MB are shuffled together. A
    group is what the writer of the file made it; some hundred thousand numbers are a good size.

    Args:
        path: of the file.
        columns: names of those to read, in this order; by default all.
        dtype: of the rows; by default one that holds the numbers of all columns. A continuous model needs floats.

    Attributes:
        columns: their names.
        row_groups: the rows of each group.

    Raises ValueError where the file is damaged or has no such columns, and where their values are no numbers or some
    are missing; ImportError without pyarrow.

    >>> import tempfile, pyarrow, pyarrow.parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pyarrow.table({"x": [0.5, 1.5, 2.5], "n": [1, 2, 3], "name": ["a", "b", "c"]})
    ...     pyarrow.parquet.write_table(table, f"{folder}/rows.parquet", row_group_size=2)
    ...     rows = ParquetRows(f"{folder}/rows.parquet", columns=("n", "x"))
    ...     len(rows), rows[2].tolist(), rows.row_groups
    (3, [3.0, 2.5], [range(0, 2), range(2, 3)])
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str] | None = None, *, dtype: Any = None):
        if (
            isinstance(columns, str)
            or not isinstance(columns, Sequence | None)
            or (columns is not None and not columns)
        ):
            raise ValueError(f"columns: expected a list of names, got {columns!r}")
        require_pyarrow()
        from pyarrow import parquet

        self.path, self.dtype = Path(path), None if dtype is None else np.dtype(dtype)
        if not self.path.is_file():
            raise ValueError(f"path: expected a file, got {os.fspath(path)!r}")
        with self._parsing():
            self._file = parquet.ParquetFile(self.path)
            names = self._file.schema_arrow.names
            sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self.columns = tuple(names if columns is None else columns)
        if missing := [name for name in self.columns if names.count(name) != 1]:
            raise ValueError(f"columns: expected names that the file has once, among {names}, got {missing[0]!r}")
        self._check_types()
        ends = np.cumsum([0, *sizes]).tolist()
        self.row_groups = [range(*both) for both in itertools.pairwise(ends)]
        self._ends, self._last = np.array(ends[1:]), (-1, np.empty(0))

    def __reduce__(self) -> tuple:
        return functools.partial(ParquetRows, dtype=self.dtype), (self.path, self.columns)  # the file is opened again

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> np.ndarray:
        return self.__getitems__([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> np.ndarray:
        """Return several rows [N, D], reading a group once where the numbers of its rows follow one another.

        Args:
            indices: numbers of rows, one or more; negative ones count from the end.

        Raises IndexError where there is no such row.
        """
        found = np.asarray(indices)
        if found.ndim != 1 or found.dtype.kind not in "iu" or not found.size:
            raise IndexError(f"expected numbers of rows, got {indices!r}")
        if not (-len(self) <= found.min() <= found.max() < len(self)):
            raise IndexError(f"expected rows of {len(self)}, got {found.min()} to {found.max()}")
        found = found % len(self)
        groups = np.searchsorted(self._ends, found, side="right")
        cuts = np.flatnonzero(np.diff(groups)) + 1
        runs = zip(np.split(groups, cuts), np.split(found, cuts))
        return np.concatenate([self._group(g[0])[i - self.row_groups[g[0]].start] for g, i in runs])

    @contextmanager
    def _parsing(self) -> Iterator[None]:
        try:
            with parsing():
                yield
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def _check_types(self) -> None:
        from pyarrow import types

        for name in self.columns:
            kind = self._file.schema_arrow.field(name).type
            if not any(check(kind) for check in (types.is_integer, types.is_floating, types.is_boolean)):
                raise ValueError(f"columns: expected numbers, got {kind} in {name!r}: name those to read")

    def _group(self, i: int) -> np.ndarray:
        """Return the rows of a group [N, D]; the last one is kept."""
        if self._last[0] != i:
            with self._parsing():
                table = self._file.read_row_group(i, columns=list(self.columns), use_threads=False)
            for name in self.columns:
                if table[name].null_count:
                    row = self.row_groups[i].start + table[name].is_null().to_pylist().index(True)
                    raise ValueError(f"{self.path}: expected no missing values, got one in row {row} of {name!r}")
            rows = np.stack([table[name].to_numpy() for name in self.columns], -1)
            self._last = i, rows if self.dtype is None else rows.astype(self.dtype)
        return self._last[1]
