"""The data of the command line: a data set by its name, or a file of one's own, split once and for all."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from probgen import data as datasets
from probgen.data import Data, Table

_FEWEST = 20  # rows of a table
_WINDOW = 128  # characters of a text that are one row


class Split(NamedTuple):
    """Rows of integers 0..levels−1 (0 levels: of reals), split into three: each x [N, ...], or (x, what comes along).

    Along come the labels 0..classes−1, [N]; or, of `ragged` rows, their lengths [N] before they are filled up.
    """

    name: str
    train: Any
    validation: Any
    test: Any
    levels: int
    classes: int | None = None
    ragged: bool = False
    alphabet: str = ""
    columns: tuple[str, ...] = ()
    test_labels: np.ndarray | None = None

    @property
    def rows(self) -> int:
        """The number of rows to train on."""
        return len(jax.tree.leaves(self.train)[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return jax.tree.leaves(self.train)[0].shape[1:]


class TableSplit(NamedTuple):
    """Rows of a table, split into three."""

    name: str
    train: Table
    validation: Table
    test: Table


def add_data_option(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the option of which data.

    Args:
        parser: of the command.
        name: of the option; without dashes it is the last argument.
    """
    optional = {} if name.startswith("-") else {"nargs": "?"}
    text = "name of a data set, a file (.csv, .parquet, .npy, .npz, .txt, …) or a folder of pictures"
    parser.add_argument(name, default="optdigits", help=f"{text} (default optdigits)", **optional)  # type: ignore[arg-type]
    parser.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="leave a column of a table out")
    parser.add_argument(
        "--text", choices=("characters", "bytes", "lines"), help="how a .txt file is read (default characters)"
    )


def load_split(
    name: str,
    context: str | None = None,
    *,
    columns: Any = None,
    text: str | None = None,
    drop: Sequence[str] = (),
    all_rows: bool = False,
) -> Split | TableSplit:
    """Return the split of a data set, or of a file or folder.

    Args:
        name: of a data set, or a path.
        context: "labels", where the classes of rows come along; of a table, one of its columns.
        columns: of the table that a model is of, whose further rows the file has.
        text: how a text is read.
        drop: columns of a table to leave out.
        all_rows: whether all rows of a file are to test on, and to train on as well.

    Raises ValueError where there is no such context, OSError where there is neither such a data set nor such a file.
    """
    if name in datasets.DATASETS or not Path(name).exists():
        if text or all_rows or drop:
            option = "--text" if text else "--all-rows" if all_rows else "--drop"
            raise ValueError(f"{option}: {name} is a data set and no file")
        return load_rows(name, context)
    of_table = {} if columns is None or text or Path(name).suffix in (".npy", ".npz") else {"columns": columns}
    found = datasets.read(name, **of_table, text=text, drop=list(drop) or None)
    if isinstance(found, Data) and found.levels is None and found.train.ndim == 2:
        cells = {f"x{i}": column.tolist() for i, column in enumerate(found.train.T)}
        found = Table.from_cells(cells, columns=columns)
    if isinstance(found, Data):
        split = _of_parts(_in_windows(found), context)
        if not all_rows:
            return split
        whole = jax.tree.map(lambda *parts: np.concatenate(parts), split.train, split.validation, split.test)
        return split._replace(train=whole, test=whole, test_labels=None)
    if context is not None:
        found.column(context)
    if all_rows:
        return TableSplit(name, found, found, found)
    if len(found) < _FEWEST:
        raise ValueError(
            f"{name}: expected at least {_FEWEST} rows to train on and hold out, got {len(found)}; "
            "evaluate --all-rows takes any number"
        )
    rest, test = found.split(test=0.1)
    train, validation = rest.split(test=0.1)
    return TableSplit(name, train, validation, test)


def alphabet_of(name: str) -> str:
    """Return the characters of the symbols of a data set, or of a text. Raises ValueError where there are none.

    Args:
        name: of a data set.
    """
    alphabet = getattr(datasets.DATASETS.get(name), "alphabet", "")
    if not alphabet:
        raise ValueError(f"--data: expected a text, or the name of a data set that has an alphabet, got {name}")
    return alphabet


def load_rows(name: str, context: str | None = None) -> Split:
    """Return a data set by its name, split once and for all; beside its rows are their labels, or their lengths.

    Where no test rows are published, a tenth is held out.

    Args:
        name: of the data set.
        context: "labels", or nothing.

    Raises ValueError where it has no such context.
    """
    try:
        data = datasets.load(name)
    except ValueError as error:
        if name in datasets.DATASETS:
            raise
        known = ", ".join(datasets.DATASETS)
        raise ValueError(f"{name} is no file, and none of the data sets {known}") from error
    return _of_parts(_in_windows(data), context)


def _of_parts(data: Data, context: str | None) -> Split:
    if context is not None and (context != "labels" or "train_labels" not in data.parts):
        raise ValueError(f"--context: {data.name} has no {context} beside its rows")
    ragged = context is None and "train_lengths" in data.parts
    classes = 1 + max(int(data[part].max()) for part in data.parts if part.endswith("_labels")) if context else None

    def part(name: str) -> Any:
        if ragged:
            return data[name], data[f"{name}_lengths"]
        return (data[name], data[f"{name}_labels"]) if classes else data[name]

    train, count = part("train"), len(data.train)
    labels = data.parts.get("test_labels")
    if "test" in data.parts:
        test = part("test")
    else:
        train, test = _held_out(train, count // 10)
        labels = None
    train, validation = _held_out(train, min(500, count // 4))
    return Split(
        data.name, train, validation, test, data.levels or 0, classes, ragged, data.alphabet, data.columns, labels
    )


def _held_out(rows: Any, size: int) -> tuple[Any, Any]:
    rest, held = datasets.holdout(np.arange(len(jax.tree.leaves(rows)[0])), size=size)
    return jax.tree.map(lambda x: x[rest], rows), jax.tree.map(lambda x: x[held], rows)


def _in_windows(data: Data) -> Data:
    """Return a text, arrays of characters, as rows of so many; of a file, its last tenth is the test part."""
    if data.train.ndim != 1 or data.levels is None:
        return data
    if len(data.train) < 20 * _WINDOW:
        raise ValueError(f"{data.name}: expected at least {20 * _WINDOW:,} characters, got {len(data.train):,}")
    parts = {part: x[: len(x) // _WINDOW * _WINDOW].reshape(-1, _WINDOW) for part, x in data.parts.items()}
    if "test" not in parts:
        cut = len(parts["train"]) - len(parts["train"]) // 10
        parts = {"train": parts["train"][:cut], "test": parts["train"][cut:]}
    return Data(data.name, parts, data.levels, (), data.alphabet)
