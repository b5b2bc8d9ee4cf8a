"""Files of delimited text: CSV, TSV and their like."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from probgen.data.columns import Misfit, listed
from probgen.data.malformed import Refused

MISSING = ("", "?", "na", "n/a", "nan", "null", "none")  # in any case
DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_CODE = re.compile(r"[+-]?0\d+", re.ASCII)  # 007 is a name, whose zeros a number would lose
_GROUPED = re.compile(r"[+-]?\d{1,3}([,. ]\d{3})*([.,]\d+)?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


class Rows(NamedTuple):
    """The fields of a file as texts, by column, and the line of each row."""

    columns: dict[str, list[str]]
    lines: list[int]


def parse(
    text: str, *, delimiter: str | None, header: bool | None, missing: Collection[str], known: Collection[str] = ()
) -> Rows:
    """Return the fields of a delimited text.

    Args:
        text: of the file.
        delimiter: between fields; None for the first of tab, `;`, `|` and `,` that splits the first lines alike.
        header: whether the first row has names; None to find out: it has a text above numbers, or none but texts that
            do not occur below.
        missing: the texts, in lower case, that stand for a missing value.
        known: the names that the columns should have, by which a header is known.

    Raises ValueError where there are no rows, where rows differ in length, or where names repeat.
    """
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ValueError(f"delimiter must be one character; it is {delimiter!r}")
    rows, lines = _fields(text, delimiter or sniff(text))
    for row, line in zip(rows, lines):
        if len(row) != len(rows[0]):
            raise ValueError(f"line {line} has {len(row)} fields, and the first row has {len(rows[0])}")
    if header is None:
        header = not set(known).isdisjoint(rows[0]) if known else _has_header(rows, missing)
    names = [name or f"x{j}" for j, name in enumerate(rows[0] if header else [""] * len(rows[0]))]
    if repeats := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the columns have names that repeat: {repeats[0]!r}")
    if header:
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise ValueError("it has names of columns and no rows")
    return Rows(dict(zip(names, map(list, zip(*rows)))), lines)


def _fields(text: str, delimiter: str) -> tuple[list[list[str]], list[int]]:
    """Return the fields of the rows that are not empty, and the line in which each ends."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append([field.strip() for field in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    if not rows:
        raise ValueError("it has no rows")
    return rows, lines


def sniff(text: str) -> str:
    """Return the delimiter of a text: what splits its first lines into equally many fields, or at least the first."""
    head = "\n".join(text.split("\n", 20)[:20])
    fallback = ","
    for delimiter in "\t;|,":
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if row]
        except csv.Error:
            continue
        if max(widths, default=1) > 1:
            if len(set(widths)) == 1:
                return delimiter
            fallback = delimiter if widths[0] > 1 and fallback == "," else fallback
    return fallback


def _has_header(rows: Sequence[Sequence[str]], missing: Collection[str]) -> bool:
    """Return whether the first row has names, by the rows after it."""
    is_number = lambda text: _NUMBER.fullmatch(text) is not None
    is_missing = lambda text: text.lower() in missing
    first, columns = rows[0], list(zip(*rows[1:101]))
    for name, column in zip(first, columns):
        numeric = any(map(is_number, column)) and all(is_number(text) or is_missing(text) for text in column)
        if numeric and not is_number(name) and not is_missing(name):
            return True
    if any(is_number(name) or (name and is_missing(name)) for name in first):
        return False
    return len(set(first)) == len(first) and all(name not in column for name, column in zip(first, columns))


def values(name: str, texts: Sequence[str], *, dtype: str | None, missing: Collection[str]) -> list[Any]:
    """Return the values that a column's texts stand for, all of one type; None where they are missing.

    Args:
        name: of the column.
        texts: its fields.
        dtype: "float", "int", "bool" or "str" where it is known; None to find out.
        missing: the texts, in lower case, that stand for a missing value.

    Raises Misfit where a text is not of the type that is known, or that nearly all others have.
    """
    distinct = {text for text in set(texts) if text.lower() not in missing}
    if dtype is None:
        dtype = _dtype(name, texts, distinct)
    read = _READERS[dtype]
    known = {text: read(text) for text in distinct}
    if others := {text for text, value in known.items() if value is None}:
        row = next(row for row, text in enumerate(texts) if text in others)
        raise Misfit(name, row, f"expected {_MEANT[dtype]}, got {texts[row][:40]!r}{_hint(texts[row])}")
    return [known.get(text) for text in texts]


def _dtype(name: str, texts: Sequence[str], distinct: Collection[str]) -> str:
    """Return the type that texts have. Raises Misfit where nearly all of many are numbers, and one is not."""
    if all(text.lower() in _BOOLEANS for text in distinct) and distinct:
        return "bool"
    others = {text for text in distinct if not _NUMBER.fullmatch(text)}
    if not others and not any(_CODE.fullmatch(text) for text in distinct):
        return "int" if all(_INTEGER.fullmatch(text) for text in distinct) and distinct else "float"
    grouped = others and all(_GROUPED.fullmatch(text) for text in others)
    if grouped or (len(distinct) > 20 and 0 < len(others) < len(distinct) / 10):
        row = next(row for row, text in enumerate(texts) if text in others)
        others_are = "as nearly all others are" if not grouped else "as others are"
        raise Misfit(name, row, f"expected a number, {others_are}, got {texts[row][:40]!r}{_hint(texts[row])}")
    return "str"


def _hint(text: str) -> str:
    if _GROUPED.fullmatch(text):
        return ": thousands separators and decimal commas are not read"
    return " (a text for missing values goes into missing=)"


def _integer(text: str) -> int | None:
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 400 else None
    number = _float(text)
    return int(number) if number is not None and number.is_integer() else None


def _float(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


_READERS: dict[str, Callable[[str], Any]] = {
    "int": _integer,
    "float": _float,
    "bool": lambda text: _BOOLEANS.get(text.lower()),
    "str": lambda text: text,
}
_MEANT = {"int": "an integer", "float": "a number", "bool": "true or false"}


def check_dropped(drop: Collection[str], names: Collection[str]) -> None:
    """Raise Refused where a column that is to be left out is not there, or none would be left."""
    if unknown := [name for name in drop if name not in names]:
        raise Refused(f"drop: there is no column {unknown[0]!r}, only {listed(names)}")
    if set(names) <= set(drop):
        raise Refused("drop leaves no column")


def write(path: Path, cells: Mapping[str, Sequence[Any]]) -> None:
    """Write columns as a .csv or .tsv file, missing values as empty fields.

    Raises ValueError for another name, and where a text would be read as another one.
    """
    if path.suffix.lower() not in DELIMITERS:
        raise ValueError(f"path must end in {', '.join(DELIMITERS)}, .parquet, .feather or .arrow; it is {path}")
    for name, values in cells.items():
        if name != name.strip() or not name or "\r" in name or "\0" in name:
            raise ValueError(f"column {name!r}: the name would be read as another one; .parquet keeps it")
        for text in {value for value in values if isinstance(value, str)}:
            if text != text.strip() or text.lower() in MISSING or "\r" in text or "\0" in text:
                raise ValueError(
                    f"column {name!r}: {text!r} would be read as another text or as missing; .parquet keeps it"
                )
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=DELIMITERS[path.suffix.lower()], lineterminator="\n")
        writer.writerow(cells)
        writer.writerows(zip(*cells.values()))
