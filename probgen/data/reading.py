"""From a file on disk to a table, or to the parts of a data set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from probgen.data import array_files, columnar, delimited, pictures, texts
from probgen.data.columns import Column, Misfit
from probgen.data.datasets import Data
from probgen.data.table import Table

GIBIBYTE = 2**30


def read(
    path: str | Path,
    *,
    columns: Sequence[Column] | None = None,
    drop: Sequence[str] | None = None,
    missing: Sequence[str] | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    text: str | None = None,
    alphabet: str | None = None,
    size: tuple[int, int] | None = None,
    memmap: bool | None = None,
    max_bytes: int = GIBIBYTE,
) -> Table | Data:
    """Return what a file or a folder holds, described: a `Table` of a table, and `Data` of anything else.

    By the name's end:

    - .csv, .tsv: a table in delimited text; .parquet, .feather, .arrow: one in columns (by pyarrow, which
      `pip install 'probgen[tables]'` brings). The kind of each column is found from its values; `Table.describe` says
      it, and `Table.overrule` changes it.
    - .npy: an array [N, ...] as "train"; .npz: arrays named x or train, y, x_train, y_train, x_test, …, as parts.
      Nothing is ever unpickled. Integers from 0 are levels, so that a piano roll [N, T, P] of zeros and ones, or of
      booleans, has 2 of them.
    - .txt: a text.
    - a folder of PNG and JPEG files: pictures [N, H, W] or [N, H, W, 3] in the order of their names; folders in it are
      classes.

    Delimited and other text may be packed (.csv.gz). `delimiter` takes a file of any name as a table, `text` as a text.
    An option that does not apply to a file raises.

    Args:
        path: the file or folder.
        columns: of a table: `Table.columns` of one that the file has further rows of. A category that is not in them,
            or text where numbers were, is an error.
        drop: of a table: names of columns to leave out.
        missing: of delimited text: the fields that are missing values, in any case of letters, besides empty ones; by
            default ?, NA, N/A, NaN, null and None.
        header: of delimited text: whether the first row has the names; None to see whether it has a text above numbers,
            or none but texts that do not occur below.
        delimiter: of delimited text: the character between fields; None to see which of `,`, tab, `;` and `|` it is.
        encoding: of text; "utf-8" by default.
        text: of a text: "characters" (by default; one array of their places in the alphabet), "bytes" (one array), or
            "lines" (one row for each line that is not empty, such as a name, filled up with zeros, and their lengths,
            which count one zero).
        alphabet: of a text: `Data.alphabet` of one that it continues; another character is an error.
        size: of pictures: the (height, width) to bring all to; by default they must have one.
        memmap: of .npy: True leaves the array in the file.
        max_bytes: how much what is packed may hold when it is unpacked.

    Raises ValueError, one sentence that begins with the path, where the file is not what it should be: it names the
    line and the column of a table. OSError where it cannot be opened; ImportError where pyarrow is needed and missing.

    >>> _ = Path("people.csv").write_text("age,town,income\\n31,Bonn,2100.5\\n47,?,3900\\n22,Bonn,\\n")
    >>> people = read("people.csv", drop=["income"])
    >>> people
    3 rows: age (count), town (constant)
    >>> people.cells()["town"]
    ['Bonn', None, 'Bonn']
    >>> _ = Path("names.txt").write_text("emma\\nava\\n")
    >>> names = read("names.txt", text="lines")
    >>> names, names.alphabet
    (names.txt: train [2, 5] int32, train_lengths [2] int32, '\\naemv')
    """
    path = Path(path)
    given = {
        "columns": columns,
        "drop": drop,
        "missing": missing,
        "header": header,
        "delimiter": delimiter,
        "encoding": encoding,
        "text": text,
        "alphabet": alphabet,
        "size": size,
        "memmap": memmap,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if columns is not None and not all(isinstance(column, Column) for column in columns):
        raise ValueError("columns must be those of a table, table.columns")
    for name in ("drop", "missing"):
        if isinstance(given.get(name), str):
            raise ValueError(f"{name} must be a list of strings; it is {given[name]!r}")
    form = _format(path, given)
    if other := set(given) - set(form.options):
        raise ValueError(f"{min(other)} does not apply to {form.what}, as which {path} would be read")
    try:
        return form.read(path, max_bytes, **given)
    except OSError:
        raise
    except ValueError as error:
        raise ValueError(" ".join(f"{path}: {error}".split())) from None


class _Format(NamedTuple):
    what: str
    suffixes: tuple[str, ...]
    options: tuple[str, ...]
    read: Callable[..., Table | Data]


def _format(path: Path, given: Collection[str]) -> _Format:
    """Return as what a file is to be read. Raises ValueError or FileNotFoundError where that cannot be known."""
    if path.is_dir():
        return _FOLDER
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if "text" in given:
        return _TEXT
    if "delimiter" in given:
        return _DELIMITED
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    suffix = suffixes[0] if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])
    found = next((form for form in _FORMATS if suffix in form.suffixes), None)
    if found is None or (suffixes[-1:] == [".gz"] and found not in (_DELIMITED, _TEXT)):
        known = ", ".join(suffix for form in _FORMATS for suffix in form.suffixes)
        raise ValueError(
            f"path must be a folder or end in {known}, or .gz of text, or go with text= or delimiter=; it is {path}"
        )
    return found


def _delimited(
    path: Path,
    max_bytes: int,
    *,
    columns: Sequence[Column] | None = None,
    drop: Sequence[str] = (),
    missing: Sequence[str] = delimited.MISSING,
    header: bool | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> Table:
    text = texts.decoded(path, encoding=encoding, max_bytes=max_bytes)
    absent = {"", *(marker.lower() for marker in missing)}
    dtypes = {column.name: column.dtype for column in columns or ()}
    rows = delimited.parse(text, delimiter=delimiter, header=header, missing=absent, known=dtypes)
    delimited.check_dropped(drop, rows.columns)
    try:
        cells = {
            name: delimited.values(name, fields, dtype=dtypes.get(name), missing=absent)
            for name, fields in rows.columns.items()
            if name not in drop
        }
        return Table.from_cells(cells, columns=columns)
    except Misfit as error:
        raise ValueError(f"column {error.column!r}, line {rows.lines[error.row]}: {error.reason}") from None


def _columnar(
    path: Path, max_bytes: int, *, columns: Sequence[Column] | None = None, drop: Sequence[str] = ()
) -> Table:
    cells = columnar.read_columns(path, drop=drop, max_bytes=max_bytes)
    return Table.from_cells(cells, columns=columns)


def _npy(path: Path, max_bytes: int, *, memmap: bool = False) -> Data:
    return array_files.read_npy(path, memmap=memmap)


def _npz(path: Path, max_bytes: int) -> Data:
    return array_files.read_npz(path, max_bytes=max_bytes)


def _text(
    path: Path, max_bytes: int, *, text: str = "characters", encoding: str | None = None, alphabet: str | None = None
) -> Data:
    return texts.read_text(path, text=text, encoding=encoding, alphabet=alphabet, max_bytes=max_bytes)


def _folder(path: Path, max_bytes: int, *, size: tuple[int, int] | None = None) -> Data:
    return pictures.read_folder(path, size=size, max_bytes=max_bytes)


_TABLE_OPTIONS = ("columns", "drop")
_DELIMITED = _Format(
    "delimited text",
    tuple(delimited.DELIMITERS),
    (*_TABLE_OPTIONS, "missing", "header", "delimiter", "encoding"),
    _delimited,
)
_TEXT = _Format("text", (".txt",), ("text", "encoding", "alphabet"), _text)
_FOLDER = _Format("a folder of pictures", (), ("size",), _folder)
_FORMATS = (
    _DELIMITED,
    _Format("columns", columnar.SUFFIXES, _TABLE_OPTIONS, _columnar),
    _Format("an array", (".npy",), ("memmap",), _npy),
    _Format("arrays", (".npz",), (), _npz),
    _TEXT,
)
