"""What is known of a column of a table, and the way from its values to numbers and back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from probgen.core.rounding import EXACT

KINDS = ("real", "positive", "bounded", "count", "ordinal", "categorical", "constant")
CODED = ("ordinal", "categorical", "constant")  # kinds of which a table holds places in `values`, not numbers
DTYPES = {"bool": bool, "int": int, "float": float, "str": str}  # a bool is an int, too
LARGEST = float(np.finfo(np.float32).max)  # models compute in float32


class Column(NamedTuple):
    """What a column of a table holds, in plain values only, so that a recipe or a JSON file can keep it.

    A standardized column has the numbers (y − loc) / spread, where y = x on a linear scale and y = log x on a
    logarithmic one.

    Args:
        name: the column's name.
        kind: "real", "positive" (above `low`), "bounded" (from `low` to `high`), "count" (integers from `low`),
            "ordinal" (few values, in order), "categorical" (values without an order) or "constant" (one value).
        dtype: of the file's values, which decoding gives back: "float", "int", "bool" or "str".
        values: the distinct values of an ordinal, categorical or constant column; a table holds their places
            0..K−1. They are sorted, but in a column that repeats another one: its codes are those of the other.
        step: of numbers that are rounded: they are offset + k·step for integers k. None where they are not rounded.
        offset: where the steps are counted from.
        low: the lower bound of a positive, bounded or count column.
        high: the upper bound of a bounded column.
        scale: "log" where the logarithms of a heavy-tailed column are what to model, otherwise "linear".
        loc: the mean of the observed numbers, or of their logarithms.
        spread: their standard deviation; 1 where that is 0.
        missing: how many cells were missing where the kinds were found.
        same_as: an earlier column which this one repeats, equal or one to one: the table's numbers in both are equal.
        atoms: numbers that come far more often than their neighbours, such as the 0 of what most rows have none of.
        coarse: most numbers are offset + k·coarse·step: whole ones among halves, tens among amounts.

    >>> Column("age", "count", "int", step=1.0, low=0.0).missing
    0
    """

    name: str
    kind: str
    dtype: str
    values: tuple[Any, ...] = ()
    step: float | None = None
    offset: float = 0.0
    low: float | None = None
    high: float | None = None
    scale: str = "linear"
    loc: float = 0.0
    spread: float = 1.0
    missing: int = 0
    same_as: str | None = None
    atoms: tuple[float, ...] = ()
    coarse: int = 1


class Misfit(ValueError):
    """A cell that cannot be what it should; whoever knows the file says the line, and not the row."""

    def __init__(self, column: str, row: int, reason: str):
        super().__init__(f"column {column!r}, row {row}: {reason}")
        self.column, self.row, self.reason = column, row, reason


def dtype_of(name: str, values: Sequence[Any]) -> str:
    """Return the one type of a column's values, None aside: integers among floats are floats.

    Raises Misfit at the first value that is of another type than those before it, or of none that a table holds.
    """
    found = {_dtype(of) for of in set(map(type, values)) - {type(None)}}
    if found <= {"int", "float"}:
        return "int" if found == {"int"} else "float"
    if len(found) == 1 and "" not in found:
        return found.pop()
    before = ""
    for row, value in enumerate(values):
        dtype = before if value is None else _dtype(type(value))
        if not dtype and value is not None:
            raise Misfit(name, row, f"expected numbers, booleans or strings, got {type(value).__name__} (see drop=)")
        if before and dtype != before and {dtype, before} != {"int", "float"}:
            raise Misfit(name, row, f"expected {before} as in the rows before, got {dtype} {shown(value)}")
        before = dtype
    return before


def _dtype(of: type) -> str:
    return next((name for name, base in DTYPES.items() if issubclass(of, base)), "")


def plain(values: Sequence[Any]) -> list[Any]:
    """Return values of NumPy or Python as Python's, None where they are None or NaN."""
    values = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if any(issubclass(of, np.generic) for of in set(map(type, values))):
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
    return [None if value != value else value for value in values] if float in set(map(type, values)) else values


def numbers(name: str, values: Sequence[Any]) -> np.ndarray:
    """Return values as numbers [N], NaN where they are missing.

    Raises Misfit where one is infinite or beyond float32, or an integer that float64 does not hold.
    """
    try:
        array = np.array(values, np.float64)  # None is NaN
    except OverflowError:  # an integer beyond 1e308
        array = np.array([np.inf if value is not None and abs(value) > EXACT else 0.0 for value in values])
    for row in np.flatnonzero(np.abs(array) > LARGEST).tolist():
        raise Misfit(name, row, f"expected a number up to 3e38, got {shown(values[row])} (see missing= and drop=)")
    for row in np.flatnonzero(np.abs(array) > EXACT).tolist():
        if isinstance(values[row], int):
            raise Misfit(
                name, row, f"expected integers up to 2**53, got {shown(values[row])}; is it a name? (see drop=)"
            )
    return array


def encode(column: Column, values: Sequence[Any]) -> np.ndarray:
    """Return a column's values as the numbers [N] that a table holds, NaN where they are missing.

    Raises Misfit at the first value that the column cannot hold.
    """
    found = dtype_of(column.name, values)
    first = next((row for row, value in enumerate(values) if value is not None), None)
    if first is not None and found != column.dtype and {found, column.dtype} != {"int", "float"}:
        raise Misfit(column.name, first, f"expected {column.dtype}, got {found} {shown(values[first])}")
    if column.kind in CODED:
        places: dict[Any, float] = {value: place for place, value in enumerate(column.values)}
        places[None] = np.nan
        if unknown := set(values) - places.keys():
            row = next(row for row, value in enumerate(values) if value in unknown)
            expected = f"expected one of {listed(column.values)}, got {shown(values[row])}, which is unknown"
            raise Misfit(column.name, row, expected)
        return np.array([places[value] for value in values], np.float64)
    array = numbers(column.name, values)
    if column.dtype == "int":
        for row in np.flatnonzero(~np.isnan(array) & (array != np.rint(array))).tolist():
            raise Misfit(column.name, row, f"expected an integer, got {shown(values[row])}")
    return array


def decode(column: Column, array: np.ndarray) -> list[Any]:
    """Return the values that numbers [N] of a table stand for, in the column's dtype; None where they are missing.

    Raises ValueError where they are infinite, or no places in the column's values.
    """
    of = DTYPES[column.dtype]
    seen = array[~np.isnan(array)]
    if column.kind in CODED:
        if not np.isin(seen, np.arange(len(column.values))).all():
            raise ValueError(
                f"column {column.name!r}: expected places 0..{len(column.values) - 1} of its values, got others"
            )
        return [None if x != x else column.values[int(x)] for x in array.tolist()]
    if np.isinf(seen).any():
        raise ValueError(f"column {column.name!r}: expected finite numbers")
    if column.dtype == "int":
        return [None if x != x else round(x) for x in array.tolist()]
    return [None if x != x else of(x) for x in array.tolist()]


def shown(value: Any) -> str:
    """Return a value as an error shows it."""
    if isinstance(value, int) and value.bit_length() > 1000:  # whose digits Python may refuse to write
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def listed(values: Collection[Any], most: int = 8) -> str:
    """Return values as an error lists them: the first, and how many there are if there are more."""
    first = ", ".join(shown(value) for value in list(values)[:most])
    return f"{first}, … ({len(values)} in all)" if len(values) > most else first
