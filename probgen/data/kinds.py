"""What kind of column values are: numbers that are rounded or not, counts, codes, categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probgen.core.rounding import ENOUGH, grid
from probgen.data.columns import CODED, KINDS, Column, dtype_of, numbers

FEW = 20  # integers with at most so many consecutive values are ordinal
_COARSER = (2, 3, 4, 5, 6, 10, 12, 20, 50, 100, 1000)  # steps apart, where most numbers are rounder than all are
_MANY_NUMBERS, _WORTH = 100, 0.2  # how many numbers, and nats of each, before that is believed
_FARTHEST = 1 << 20  # steps that are counted from 0: float32 has all integers up to 2²⁴
_OVERRULED = ("kind", "step", "offset", "low", "high", "scale")


def infer(name: str, values: Sequence[Any]) -> Column:
    """Return what kind of column the values (None where they are missing) are.

    Booleans and strings are categorical. Integers are ordinal where they are few and fill their grid, or are few and
    far apart, as codes are; counts where none is negative; otherwise real. Floats are ordinal where they are two,
    positive or real. Numbers on a grid have its step. A scale is logarithmic where all numbers are positive and the
    skewness falls by half there.

    Raises Misfit where values have several types, or are no finite numbers.
    """
    dtype = dtype_of(name, values)
    present = [value for value in values if value is not None]
    distinct = tuple(sorted(set(present)))
    missing = len(values) - len(present)
    if dtype in ("bool", "str"):
        return Column(name, "categorical" if len(distinct) > 1 else "constant", dtype, distinct, missing=missing)
    x = numbers(name, values)
    if len(distinct) < 2:
        return Column(name, "constant", dtype, distinct, missing=missing)
    x = x[~np.isnan(x)]
    step, offset = grid(x)
    scale = "log" if is_heavy_tailed(x) else "linear"
    kind, low = _kind_of_numbers(x, step, scale)
    if kind == "ordinal":
        return Column(name, kind, dtype, distinct, missing=missing)
    return _standardized(Column(name, kind, dtype, (), step, offset, low, None, scale, missing=missing), x)


def _kind_of_numbers(x: np.ndarray, step: float | None, scale: str) -> tuple[str, float | None]:
    """Return the kind, and the lower bound, of numbers that are not all the same."""
    low, high = x.min(), x.max()
    if len(x) >= ENOUGH and ((x == low) | (x == high)).all():
        return "ordinal", None
    if (x == np.rint(x)).all() and step is not None:
        count = len(np.unique(x))
        span = round((high - low) / step) + 1
        codes = span >= 10 * count and len(x) >= 10 * count
        if count <= FEW and (span == count or codes):
            return "ordinal", None
        if scale == "log":
            return "positive", 0.0
        if low >= 0:
            return "count", float(low) if low > high - low else 0.0
        return "real", None
    return ("positive", 0.0) if low > 0 else ("real", None)


def is_heavy_tailed(x: np.ndarray) -> bool:
    """Return whether numbers [N] are positive, skewed to the right, and much less so on a logarithmic scale."""
    if x.min() <= 0:
        return False
    skewed = skewness(x)
    return skewed > 1.5 and abs(skewness(np.log(x))) < skewed / 2


def skewness(x: np.ndarray) -> float:
    """Return the third standardized moment of numbers [N]; 0 where all are the same."""
    deviation = (x - x.mean()) / (x.std() or 1.0)
    return float((deviation**3).mean())


def _standardized(column: Column, x: np.ndarray) -> Column:
    y = np.log(x) if column.scale == "log" else x
    column = column._replace(loc=float(y.mean()), spread=float(y.std()) or 1.0)
    if column.step is None:
        return column._replace(atoms=atoms(x), coarse=1)
    coarse, offset = coarse_grid(x, column.step, column.offset)
    offset = _near(x, coarse * column.step, offset)
    as_round = np.rint((x - offset) / column.step) % coarse == 0
    return column._replace(atoms=atoms(x[as_round]), coarse=coarse, offset=offset)


def _near(x: np.ndarray, step: float, offset: float) -> float:
    """Return where steps are counted from: the least number where float32 could not count them from the offset."""
    places = np.rint((x - offset) / step)
    return offset + float(places.min()) * step if np.abs(places).max() > _FARTHEST else offset


def coarse_grid(x: np.ndarray, step: float, offset: float) -> tuple[int, float]:
    """Return how many steps apart most of numbers [N] lie, and where those are counted from; 1 where they lie anywhere.

    A share q on every m-th step is worth about q log m − H(q) nats a number; it has to be there below the median and
    above it, so that no mode is taken for a grid.
    """
    if len(x) < _MANY_NUMBERS:
        return 1, offset
    places = np.rint((x - offset) / step).astype(np.int64)
    low, best, found = places.min(), _WORTH, (1, offset)
    halves = [part for part in (places[x <= np.median(x)], places[x > np.median(x)]) if len(part)]
    for m in (m for m in _COARSER if np.ptp(places) >= 10 * m):
        first = low + int(np.bincount((places - low) % m).argmax())
        q = min(float(np.mean((part - first) % m == 0)) for part in halves)
        worth = q * np.log(m) + sum(p * np.log(p) for p in (q, 1 - q) if p > 0)
        if q > 1 / m and worth > best:
            best, found = worth, (m, offset + int(first % m) * step)
    return found


def atoms(x: np.ndarray) -> tuple[float, ...]:
    """Return which of numbers [N] have a chance of their own: at most eight, in a hundredth of the rows each, and five
    times as many as the median of the twenty distinct numbers around them.

    Where they are not rounded either, a density would grow without bound there.
    """
    values, counts = np.unique(x, return_counts=True)
    often = np.flatnonzero(counts >= max(5, 0.01 * len(x)))
    around = np.array([np.median(counts[max(0, i - 10) : i + 11]) for i in often])
    often = often[counts[often] >= 5 * around]
    most = often[np.argsort(-counts[often], kind="stable")[:8]]
    return tuple(values[np.sort(most)].tolist())


def overruled(column: Column, values: Sequence[Any], fields: Mapping[str, Any]) -> Column:
    """Return the column with some of its fields as the user says, and the others to match.

    Raises ValueError where the values cannot be of that kind.
    """
    if unknown := set(fields) - set(_OVERRULED):
        raise ValueError(f"column {column.name!r}: expected fields of {', '.join(_OVERRULED)}, got {min(unknown)!r}")
    kind = fields.get("kind", column.kind)
    if kind not in KINDS:
        raise ValueError(f"column {column.name!r}: kind must be one of {', '.join(KINDS)}; it is {kind!r}")
    if kind in CODED:
        return _coded(column, kind, values, fields)
    if column.dtype == "str":
        raise ValueError(f"column {column.name!r}: kind must be {' or '.join(CODED)} for text; it is {kind!r}")
    x = numbers(column.name, values)
    x = x[~np.isnan(x)]
    new = column
    if kind != column.kind:
        step, offset = grid(x) if len(x) else (None, 0.0)
        low = {"positive": 0.0, "count": min(0.0, float(x.min(initial=0.0)))}.get(kind)
        new = Column(column.name, kind, column.dtype, (), step, offset, low, missing=column.missing)
    new = new._replace(**fields)
    if "step" in fields and "offset" not in fields:
        new = new._replace(offset=_offset(x, new.step))
    if problem := _not_numbers(new) or _misfit(new, x):
        raise ValueError(f"column {column.name!r}: {problem}")
    return _standardized(new, x) if len(x) else new


def _offset(x: np.ndarray, step: Any) -> float:
    """Return where steps are to be counted from so that the least number is on one, 0 within the error of float32."""
    if not isinstance(step, int | float) or step <= 0 or not len(x):
        return 0.0
    place = float(x.min()) / step
    return 0.0 if abs(place - round(place)) < 1e-3 else (place - np.floor(place)) * step


def _coded(column: Column, kind: str, values: Sequence[Any], fields: Mapping[str, Any]) -> Column:
    if set(fields) - {"kind"}:
        raise ValueError(f"column {column.name!r}: {min(set(fields) - {'kind'})!r} does not apply to kind {kind!r}")
    distinct = tuple(sorted({value for value in values if value is not None}))
    if kind == "constant" and len(distinct) > 1:
        raise ValueError(f"column {column.name!r}: kind 'constant' needs one value; there are {len(distinct)}")
    return Column(column.name, kind, column.dtype, distinct, missing=column.missing)


def _not_numbers(column: Column) -> str | None:
    """Return which of a column's fields is no finite number, or None."""
    for name in ("step", "offset", "low", "high"):
        value = getattr(column, name)
        if value is None and name != "offset":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            return f"{name} must be a number; it is {value!r}"
    return None


def _misfit(column: Column, x: np.ndarray) -> str | None:
    """Return what is wrong with numbers as such a column, or None."""
    low, high, step, kind = column.low, column.high, column.step, column.kind
    if column.scale not in ("linear", "log") or (column.scale == "log" and (x <= 0).any()):
        return f"scale must be 'linear', or 'log' where all numbers are positive; it is {column.scale!r}"
    if step is not None and step <= 0:
        return f"step must be positive or None; it is {step}"
    if step is not None and (np.abs((x - column.offset) / step - np.rint((x - column.offset) / step)) > 1e-3).any():
        return f"step {step:.10g} and offset {column.offset:.10g} must give all numbers, as offset + k·step"
    if kind == "bounded" and (low is None or high is None or not low < high):
        return f"kind 'bounded' needs low and high, low < high; they are {low} and {high}"
    if kind in ("positive", "count") and low is None:
        return f"kind {kind!r} has a low; it is None"
    if kind != "bounded" and high is not None:
        return f"kind {kind!r} has no high; it is {high}"
    if kind == "real" and low is not None:
        return "kind 'real' has no low; 'positive' and 'bounded' have"
    if kind == "count" and (x != np.rint(x)).any():
        return "kind 'count' needs integers"
    if kind == "positive" and (x <= low).any():
        return f"kind 'positive' needs numbers above {low:.10g}; the least is {x.min():.10g}"
    if (low is not None and (x < low).any()) or (high is not None and (x > high).any()):
        return f"expected numbers from {low} to {high}; there are {x.min():.10g} to {x.max():.10g}"
    return None


def refuse_texts(columns: Sequence[Column], rows: int) -> None:
    """Raise ValueError where strings are no categories: they are many, and most occur once or twice."""
    found = [column for column in columns if column.dtype == "str" and len(column.values) > FEW]
    found = [column for column in found if 2 * len(column.values) > rows - column.missing]
    if found:
        first = f"{found[0].name!r} has {len(found[0].values)} in {rows} rows"
        names = ", ".join(repr(column.name) for column in found)
        raise ValueError(
            f"expected categories or numbers, got names or texts, too many to be categories ({first}); "
            f"drop=[{names}] leaves them out"
        )


def repeated(columns: Sequence[Column], array: np.ndarray) -> tuple[Column, ...]:
    """Return the columns, those that repeat an earlier one saying so.

    A column repeats another where the numbers are equal, or where both have codes, each five times or more on average,
    which go together one to one; its values are then put in the order of the other's, so that their codes are equal.
    """
    found: list[Column] = []
    for j, column in enumerate(columns):
        matches = (
            _matched(other, array[:, i], column, array[:, j])
            for i, other in enumerate(found)
            if other.same_as is None and _may_match(other, column)
        )
        found.append(next((match for match in matches if match is not None), column))
    return tuple(found)


def _may_match(one: Column, other: Column) -> bool:
    """Return whether columns look alike before their cells are compared."""
    if (one.kind in CODED) != (other.kind in CODED) or "constant" in (one.kind, other.kind):
        return False
    return (one.missing, one.loc, one.spread, len(one.values)) == (
        other.missing,
        other.loc,
        other.spread,
        len(other.values),
    )


def _matched(other: Column, theirs: np.ndarray, column: Column, mine: np.ndarray) -> Column | None:
    """Return the column as one that repeats the other, or None where it does not."""
    if np.array_equal(theirs, mine, equal_nan=True) and column.values == other.values:
        return column._replace(same_as=other.name)
    count, seen = len(column.values), ~np.isnan(mine)
    if not count or seen.sum() < 5 * count or not np.array_equal(np.isnan(theirs), ~seen):
        return None
    together = theirs[seen] * count + mine[seen]
    if len(np.unique(together[:1000])) > count:  # most columns differ at once
        return None
    pairs = np.unique(together).astype(int)
    codes = pairs % count
    if len(pairs) != count or len(np.unique(codes)) != count:
        return None
    return column._replace(same_as=other.name, values=tuple(column.values[code] for code in codes.tolist()))
