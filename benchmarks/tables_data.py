"""The tables of `tables.py`: two of the UCI repository and one that is made on the spot, each with a label."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import probgen
from probgen.data import Table

_WINE = (
    "fixed_acidity volatile_acidity citric_acid residual_sugar chlorides free_so2 total_so2 density pH sulphates "
    "alcohol quality"
).split()
_SCHOOLS = (
    "preschool 4th 6th 8th 9th 10th 11th 12th high-school some-college vocational academic bachelors masters "
    "professional doctorate"
).split()
_CODED = ("categorical", "ordinal")


class Task(NamedTuple):
    """A table of the modelled columns, the column with the label, and `positive`, which says whether a code is one."""

    table: Table
    label: str
    positive: Callable[[np.ndarray], np.ndarray]


def wine() -> Task:
    """Red and white wine, its colour a category; rows that are there twice are once."""
    # as they were written, and not as float32 has them
    parts = [probgen.data.load(f"wine_{colour}").train.astype(str).astype(float) for colour in ("red", "white")]
    x = np.concatenate([np.column_stack([part, np.full(len(part), i)]) for i, part in enumerate(parts)])
    x[:, 10] = x[:, 10].round(1)  # a few are averages of tenths: unrounded, they are spikes of a density
    x = np.unique(x, axis=0)
    cells: dict[str, Any] = {name: x[:, i].tolist() for i, name in enumerate(_WINE)}
    cells["colour"] = [("red", "white")[int(i)] for i in x[:, -1]]
    return Task(Table.from_cells(cells), "quality", lambda code: code >= 3)  # 6 or better


def german() -> Task:
    """German credit: 24 columns of integers, and whether a debtor was good."""
    data = probgen.data.load("german_numeric")
    cells: dict[str, Any] = {f"x{i}": column.tolist() for i, column in enumerate(data.train.T)}
    cells["bad"] = data.train_labels.astype(bool).tolist()
    return Task(Table.from_cells(cells), "bad", lambda code: code == 1)


def census(rows: int = 6000) -> Task:
    """Workers as in a census: a count that is mostly 0, hours that are mostly 40, a column that names another one, and
    cells that are missing."""
    rng = np.random.default_rng(0)
    age = np.clip(np.rint(17 + rng.gamma(3.0, 7.5, rows)), 17, 90).astype(int)
    school = np.clip(np.rint(8.6 + 2.6 * rng.normal(size=rows) - 2 * (age < 22)), 0, 15).astype(int)
    sex = rng.uniform(size=rows) < 0.5
    married = rng.uniform(size=rows) < _sigmoid((age - 30) / 6)
    role = np.where(married, np.where(sex, 0, 1), np.where(age < 25, 2, rng.integers(2, 4, rows)))
    sector = np.where(rng.uniform(size=rows) < 0.65, 0, rng.integers(0, 5, rows))
    skill = school + 2.0 * rng.normal(size=rows)
    work = np.where(skill > 11, 0, np.where(skill > 9, 1, np.where(skill > 7, 2, 3 + (rng.uniform(size=rows) < 0.4))))
    hours = np.rint(40 + 9 * rng.normal(size=rows) + 3 * (work == 0) - 10 * (age < 22))
    hours = np.where(rng.uniform(size=rows) < 0.45, 40, np.clip(hours, 1, 99)).astype(int)
    wealth = 0.32 * (school - 9) + 0.05 * (np.minimum(age, 55) - 38) + 1.2 * married + 0.03 * (hours - 40)
    rich = rng.uniform(size=rows) < _sigmoid(wealth - 1.9)
    some = rng.uniform(size=rows) < np.where(rich, 0.2, 0.05)
    gain = np.where(some, 10 * np.rint(np.exp(rng.normal(np.where(rich, 8.9, 7.6), 0.6)) / 10), 0).astype(int)
    gone = rng.uniform(size=(rows, 2)) < 0.04
    words = lambda names, codes: [names[code] for code in codes]
    cells: dict[str, Any] = {
        "age": age.tolist(),
        "sector": words(("private", "own", "local", "state", "federal"), sector),
        "school": words(_SCHOOLS, school),
        "years": (school + 1).tolist(),
        "work": words(("manager", "office", "craft", "service", "labour"), work),
        "role": words(("husband", "wife", "child", "single"), role),
        "sex": words(("female", "male"), sex.astype(int)),
        "hours": hours.tolist(),
        "gain": gain.tolist(),
        "rich": rich.tolist(),
    }
    for column, mask in zip(("sector", "work"), gone.T, strict=True):
        cells[column] = [None if missing else value for value, missing in zip(cells[column], mask, strict=True)]
    table = Table.from_cells(cells)
    return Task(table.drop([c.name for c in table.columns if c.same_as]), "rich", lambda code: code == 1)


TASKS: dict[str, Callable[[], Task]] = {"wine": wine, "german": german, "census": census}


def complete(table: Table) -> Table:
    """The rows of which no cell is missing."""
    return table[table.observed.all(1)]


def features(table: Table, of: Table) -> np.ndarray:
    """Rows as vectors in which distances mean something: one-hot categories over √2, and numbers and ordinal codes in
    standard deviations of the rows `of`, logarithms where the column is heavy-tailed."""
    parts = []
    for column, x, reference in zip(table.columns, table.array.T, of.array.T, strict=True):
        if column.kind == "categorical":
            parts.append(np.eye(len(column.values))[x.astype(int)] / 2**0.5)
            continue
        x, reference = (np.log(y) if column.scale == "log" else y for y in (x, reference))
        parts.append(((x - reference.mean()) / (reference.std() or 1.0))[:, None])
    return np.concatenate(parts, 1)


def is_coded(column: Any) -> bool:
    """Whether a table has codes of a column, and not numbers."""
    return column.kind in _CODED


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
