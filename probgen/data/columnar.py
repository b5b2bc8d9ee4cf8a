"""Parquet, Feather and Arrow files, through pyarrow."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from probgen.data.delimited import check_dropped
from probgen.data.malformed import Refused, check_size, parsing

SUFFIXES = (".parquet", ".feather", ".arrow")
_CELL = 8  # bytes of a cell in memory, at least


def read_columns(path: Path, *, drop: Collection[str], max_bytes: int) -> dict[str, list[Any]]:
    """Return the columns of a file as values of Python, None where they are missing.

    Args:
        path: the file.
        drop: names of columns to leave out.
        max_bytes: how large the columns may be in memory.

    Raises ValueError where the file is damaged, larger than that, or has columns of other values than a table holds;
    ImportError without pyarrow.
    """
    require_pyarrow()
    with open(path, "rb") as stream, parsing():
        table = _parquet(stream, max_bytes) if path.suffix.lower() == ".parquet" else _ipc(stream, max_bytes)
        names = table.column_names
        if repeats := {name for name in names if names.count(name) > 1}:
            raise Refused(f"the columns have names that repeat: {min(repeats)!r}")
        check_dropped(drop, names)
        return {name: _values(name, table[name]) for name in names if name not in drop}


def require_pyarrow() -> None:
    """Raise ImportError where it is not installed."""
    try:
        importlib.import_module("pyarrow")
    except ImportError:
        raise ImportError(
            f"{', '.join(SUFFIXES)} files need pyarrow, which is not there: pip install 'probgen[tables]'"
        ) from None


def _parquet(stream: BinaryIO, max_bytes: int) -> Any:
    """Return the table of a Parquet file; its footer says the sizes before anything is read."""
    from pyarrow import parquet

    file = parquet.ParquetFile(stream)
    facts = file.metadata
    sizes = [facts.row_group(i).total_byte_size for i in range(facts.num_row_groups)]
    check_size(max(sum(sizes), facts.num_rows * facts.num_columns * _CELL), max_bytes)
    return file.read(use_threads=False)


def _ipc(stream: BinaryIO, max_bytes: int) -> Any:
    """Return the table of an Arrow or Feather file, batch by batch as long as they are not too large."""
    import pyarrow

    file = pyarrow.ipc.open_file(stream)
    batches, size = [], 0
    for i in range(file.num_record_batches):
        batches.append(file.get_batch(i))
        size += max(batches[-1].nbytes, batches[-1].num_rows * len(file.schema) * _CELL)
        check_size(size, max_bytes)
    table = pyarrow.Table.from_batches(batches, file.schema)
    table.validate(full=True)
    return table


def _values(name: str, column: Any) -> list[Any]:
    """Return a column's values. Raises Refused where a table does not hold such."""
    from pyarrow import types

    of = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_decimal(of):
        return [None if value is None else float(value) for value in column.to_pylist()]
    text = types.is_string(of) or types.is_large_string(of)
    if not (text or any(check(of) for check in (types.is_integer, types.is_floating, types.is_boolean, types.is_null))):
        raise Refused(f"column {name!r}: expected numbers, booleans or strings, got {of} (see drop=)")
    return column.to_pylist()


def write(path: Path, cells: Mapping[str, Sequence[Any]], dtypes: Mapping[str, str]) -> None:
    """Write columns of given types ("float", "int", "bool", "str") as a Parquet or Arrow file.

    Raises ImportError without pyarrow.
    """
    require_pyarrow()
    import pyarrow
    from pyarrow import feather, parquet

    types = {"float": pyarrow.float64(), "int": pyarrow.int64(), "bool": pyarrow.bool_(), "str": pyarrow.string()}
    table = pyarrow.table({name: pyarrow.array(values, types[dtypes[name]]) for name, values in cells.items()})
    save = parquet.write_table if path.suffix.lower() == ".parquet" else feather.write_feather
    save(table, str(path))
