"""The contenders of `tables.py` that others made: CTGAN and TVAE of `ctgan`, the Gaussian copula of `copulas`.

None of them has a likelihood. Their draws are brought to the columns' grids, and between the least and the greatest
number that they were shown, as SDV does it.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from tables_data import is_coded
from tables_models import Fit, Fitted

from probgen.data import Table


def epochs_in(seconds: float, train: Callable[[int], Any], rows: int) -> int:
    """How many epochs take so many CPU-seconds, by a run of 200 batches of 500 and one of none: what the
    transformations cost is free."""
    took, few = [], max(1, 200 * 500 // rows)
    for epochs in (0, few):
        began = time.process_time()
        train(epochs)
        took.append(time.process_time() - began)
    return max(1, int(seconds * few / max(took[1] - took[0], 1e-3)))


def of_ctgan(name: str) -> Fit:
    """CTGAN or TVAE with its defaults, so many epochs as there is time for."""
    import ctgan
    import torch

    known: dict[tuple[str, ...], int] = {}

    def fit(train: Table, validation: Table, seconds: float, seed: int) -> Fitted:
        frame, options = pd.DataFrame(train.array, columns=train.names), {"enable_gpu": False}
        discrete = [column.name for column in train.columns if is_coded(column)]

        def run(epochs: int) -> Any:
            torch.manual_seed(seed)
            np.random.seed(seed)
            torch.set_num_threads(1)
            model = getattr(ctgan, name)(epochs=epochs, **options)
            model.fit(frame, discrete)
            return model

        if train.names not in known:
            known[train.names] = epochs_in(seconds, run, len(train))
        model = run(known[train.names])

        def sample(num: int, seed: int) -> Table:
            torch.manual_seed(seed)
            np.random.seed(seed)
            return as_table(train, np.array(model.sample(num)[list(train.names)], float))

        return Fitted(sample, None, f"{known[train.names]} epochs")

    return fit


def of_copulas(train: Table, validation: Table, seconds: float, seed: int) -> Fitted:
    """`copulas`' Gaussian copula, its margins chosen by it; a category is a number uniform on its share of [0, 1]."""
    from copulas.multivariate import GaussianMultivariate

    rng, cells, shares = np.random.default_rng(seed), train.array.copy(), {}
    for j, column in enumerate(train.columns):
        if is_coded(column):
            counts = np.bincount(cells[:, j].astype(int), minlength=len(column.values))
            shares[j] = np.concatenate([[0.0], np.cumsum(counts / counts.sum())])
            codes = cells[:, j].astype(int)
            cells[:, j] = shares[j][codes] + rng.uniform(size=len(codes)) * np.diff(shares[j])[codes]
    model = GaussianMultivariate(random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(pd.DataFrame(cells, columns=train.names))

    def sample(num: int, seed: int) -> Table:
        model.set_random_state(seed)
        drawn = np.array(model.sample(num)[list(train.names)], float)
        for j, edges in shares.items():
            drawn[:, j] = np.clip(np.searchsorted(edges, drawn[:, j], side="right") - 1, 0, len(edges) - 2)
        return as_table(train, drawn)

    return Fitted(sample, None, "its own end")


def as_table(train: Table, cells: np.ndarray) -> Table:
    """Draws as rows of a table, rounded as its columns are and within what it has."""
    for j, (column, seen) in enumerate(zip(train.columns, train.array.T, strict=True)):
        x = np.clip(cells[:, j], seen.min(), seen.max())
        if not is_coded(column) and column.step is not None:
            x = np.round(column.offset + np.rint((x - column.offset) / column.step) * column.step, 10)
        cells[:, j] = x
    return Table(train.columns, cells)
