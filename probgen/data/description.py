"""What the columns of a table hold, and what a model of it does with them, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from probgen.data.columns import CODED, Column
from probgen.data.kinds import skewness

ONE_HOT = 16  # categories up to which one is a vector of zeros and a one; more are embedded


class Described(NamedTuple):
    """A column in words: its name, kind, range, number of distinct values, step, missing cells, and what is done."""

    name: str
    kind: str
    range: str
    distinct: int
    step: str
    missing: str
    plan: str


@dataclass(frozen=True)
class Description:
    """The columns of a table in words, `columns`, and its number of rows; `str` of it is a table to print."""

    rows: int
    columns: tuple[Described, ...]

    def __str__(self) -> str:
        head = ("column", "kind", "range", "distinct", "step", "missing", "what is done with it")
        cells = [head, *(tuple(map(str, column)) for column in self.columns)]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
        return "\n".join([f"{self.rows} rows, {len(self.columns)} columns", *lines])


def describe(columns: Sequence[Column], array: np.ndarray) -> Description:
    """Return the columns [N, D] of a table in words."""
    described = [_described(column, array[:, j]) for j, column in enumerate(columns)]
    return Description(len(array), tuple(described))


def _described(column: Column, x: np.ndarray) -> Described:
    seen = x[~np.isnan(x)]
    absent = len(x) - len(seen)
    share = f"{absent} ({absent / len(x):.0%})" if absent else "–"
    step = "–" if column.step is None else f"{column.step:g}"
    distinct = len(np.unique(seen))
    return Described(column.name, column.kind, _range(column, seen), distinct, step, share, _plan(column, x, seen))


def _range(column: Column, seen: np.ndarray) -> str:
    if column.kind not in CODED:
        return f"{seen.min():.10g} to {seen.max():.10g}" if len(seen) else "–"
    shown = [str(value) if len(str(value)) <= 12 else f"{str(value)[:11]}…" for value in column.values]
    if column.kind == "ordinal" and len(shown) > 1 and column.same_as is None:
        return f"{shown[0]} to {shown[-1]}"
    return ", ".join(shown[:3]) + ", …" * (len(shown) > 3) or "–"


def _plan(column: Column, x: np.ndarray, seen: np.ndarray) -> str:
    """Return what a model does with a column, and why."""
    if column.same_as is not None:
        return f"left out: it repeats {column.same_as!r}"
    if column.kind == "constant":
        return "left out: it has one value" if column.values else "left out: all of it is missing"
    parts = [_coded(column) if column.kind in CODED else _number(column, seen)]
    if len(seen) < len(x):
        parts.append("a cell may be missing")
    if _repeats(column, seen):
        parts.append("its few numbers repeat: a density can be a spike at each, a probability of values cannot")
    if _counts_rows(column, x):
        parts.append("it counts the rows: if it only names them, drop it")
    return "; ".join(parts)


def _coded(column: Column) -> str:
    if column.kind == "ordinal":
        return f"{len(column.values)} levels in their order"
    return f"one of {len(column.values)} categories, {'one-hot' if len(column.values) <= ONE_HOT else 'embedded'}"


def _number(column: Column, seen: np.ndarray) -> str:
    parts = []
    if column.step is not None:
        parts.append("rounded: dequantized, or the probability of its step")
        if column.coarse > 1:
            parts.append(f"most are on steps of {column.coarse * column.step:g}")
    if column.scale == "log":
        skewed = (
            f"skewness {skewness(seen):.1f}, of its log {skewness(np.log(seen)):.1f}" if (seen > 0).all() else "skewed"
        )
        parts.append(f"heavy-tailed ({skewed}): its logarithm")
    if column.kind == "bounded":
        parts.append(f"between {column.low:.10g} and {column.high:.10g}")
    elif column.low is not None:
        parts.append(f"above {column.low:.10g}" if column.kind == "positive" else f"{column.low:.10g} or more")
    return "; ".join([*parts, "standardized"])


def _repeats(column: Column, seen: np.ndarray) -> bool:
    """Return whether numbers repeat that have no step, or one that is too small for them to repeat so often."""
    distinct = len(np.unique(seen))
    room = np.inf if column.step is None else np.ptp(seen) / column.step if len(seen) else 0.0
    return column.kind not in CODED and len(seen) > 10 * distinct and room > 100 * distinct


def _counts_rows(column: Column, x: np.ndarray) -> bool:
    return column.kind not in CODED and len(x) > 1 and bool((np.diff(x) == 1).all())
