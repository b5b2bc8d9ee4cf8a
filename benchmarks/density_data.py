"""The rows of `density.py`: real tables in fixed splits, prepared as it says, and the graph of the Sachs proteins."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

import probgen

NAMES = ("power", "wine_red", "wine_white", "parkinsons", "sachs")
PROTEINS = ("Raf", "Mek", "Plcg", "PIP2", "PIP3", "Erk", "Akt", "PKA", "PKC", "P38", "Jnk")
# The 20 conventional edges of K. Sachs et al., Science 308 (2005), figure 3A: the parents of each protein.
_PARENTS = {
    "Raf": "PKA PKC",
    "Mek": "PKA PKC Raf",
    "PIP2": "Plcg PIP3",
    "PIP3": "Plcg",
    "Erk": "PKA Mek",
    "Akt": "PKA Erk PIP3",
    "PKA": "PKC",
    "PKC": "Plcg PIP2",
    "P38": "PKA PKC",
    "Jnk": "PKA PKC",
}
SACHS_GRAPH = tuple(tuple(parent in _PARENTS.get(child, "").split() for parent in PROTEINS) for child in PROTEINS)

FEWEST, CLOSEST = 50, 0.98  # different numbers in a column that is kept, and correlation of two that are


class Rows(NamedTuple):
    """Standardized float32 rows [N, D] of each part."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load_rows(name: str) -> Rows:
    """The parts of a data set, always the same."""
    os.environ.setdefault("PROBGEN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    data = probgen.data.load(name)
    if name == "power":  # prepared and split as published
        return Rows(data.train, data.validation, data.test)
    random = np.random.RandomState(0)
    if name == "sachs":
        # 6 % of PKC and some of each protein lie on the detector's least, 1: noise of 5 % makes them a density
        smooth = lambda x: np.log(x.astype(float)) + 0.05 * random.standard_normal(x.shape)
        rest, test = smooth(data.train), smooth(data.validation)
        return _standardized(*probgen.data.holdout(rest, 1000), test)
    table = _continuous(data.train.astype(float))
    table = table + _rounding(table) * (random.random_sample(table.shape) - 0.5)
    rest, test = probgen.data.holdout(table, len(table) // 10)
    return _standardized(*probgen.data.holdout(rest, len(rest) // 10, seed=1), test)


def _continuous(table: np.ndarray) -> np.ndarray:
    """Without columns of few different numbers, and without the second of two that are nearly the same."""
    table = table[:, [len(np.unique(column)) >= FEWEST for column in table.T]]
    close = np.abs(np.corrcoef(table.T)) > CLOSEST
    kept: list[int] = []
    for i in range(table.shape[1]):
        if not close[i, kept].any():
            kept.append(i)
    return table[:, kept]


def _rounding(table: np.ndarray) -> np.ndarray:
    """The most frequent distance between neighbours among the frequent numbers of a column, [D]."""

    def of(column: np.ndarray) -> float:
        values, counts = np.unique(column, return_counts=True)
        # a few rows are given to one digit more: nine tenths of them decide
        order = np.argsort(-counts, kind="stable")
        frequent = np.sort(values[order[: 1 + np.searchsorted(np.cumsum(counts[order]), 0.9 * len(column))]])
        gaps, times = np.unique((np.diff(frequent) / column.std()).round(6), return_counts=True)
        return float(gaps[times.argmax()] * column.std())

    return np.array([of(column) for column in table.T])


def _standardized(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Rows:
    mean, sd = train.mean(0), train.std(0)
    return Rows(*(((part - mean) / sd).astype(np.float32) for part in (train, validation, test)))
