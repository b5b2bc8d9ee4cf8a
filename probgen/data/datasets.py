"""Data sets by name, and holding out a part of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from probgen.data.catalogue import DATASETS
from probgen.data.files import FOLDER_VARIABLE


@dataclass(frozen=True, repr=False, eq=False)
class Data:
    """The parts of a data set as NumPy arrays: integers as int32, reals as float32.

    Attributes:
        name: what `load` was asked for.
        parts: the arrays by part: "train", "validation", "test" with one row per datum, labels [N] as "train_labels",
            "test_labels", lengths [N] of rows that are filled up as "train_lengths". A data set without a published
            split has all its rows in "train".
        levels: the data are integers 0..levels-1; None for reals.
        columns: the names of the columns of a table, where they are known.
        alphabet: of a text; the code `i` is the character `alphabet[i]`.
        classes: the names of the labels, where they are known.
    """

    name: str
    parts: Mapping[str, np.ndarray]
    levels: int | None = None
    columns: tuple[str, ...] = ()
    alphabet: str = ""
    classes: tuple[str, ...] = ()

    def __getitem__(self, part: str) -> np.ndarray:
        if part not in self.parts:
            raise KeyError(f"{self.name} has no part {part!r}, only {', '.join(self.parts)}; see probgen.data.holdout")
        return self.parts[part]

    @property
    def train(self) -> np.ndarray:
        """The rows to train on."""
        return self["train"]

    @property
    def validation(self) -> np.ndarray:
        """The rows to choose by, where the split is published; otherwise see `holdout`."""
        return self["validation"]

    @property
    def test(self) -> np.ndarray:
        """The rows to report on."""
        return self["test"]

    @property
    def train_labels(self) -> np.ndarray:
        """The classes of the training rows, [N]."""
        return self["train_labels"]

    @property
    def test_labels(self) -> np.ndarray:
        """The classes of the test rows, [N]."""
        return self["test_labels"]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{part} {list(array.shape)} {array.dtype}" for part, array in self.parts.items())
        return f"{self.name}: {shapes}"


def load(name: str) -> Data:
    """Return a data set by its name, which is one of `DATASETS`.

    "optdigits" comes with the package. The files of all others are looked for in the folder that the environment
    variable `PROBGEN_DATA` names; those with a public address and a published checksum are downloaded otherwise, once,
    into the user's cache.

    Images are [N, H, W] without a channel axis. "power" is prepared as in its paper (see `formats.power`);
    "tinyshakespeare" is one array of characters, "names" has one row per name, ended by zeros (its length counts one
    of them); all other tables are raw.

    Args:
        name: such as "optdigits", "mnist", "binarized_mnist", "fashion_mnist", "power", "tinyshakespeare", "names",
            "sachs" or "wine_red".

    Raises ValueError where there is no data set of that name, or a file is truncated, corrupted or another one;
    FileNotFoundError where the files are neither here nor to be downloaded, and says where to get them.

    >>> digits = load("optdigits")
    >>> digits
    optdigits: train [3823, 8, 8] int32, train_labels [3823] int32,
        test [1797, 8, 8] int32, test_labels [1797] int32
    >>> digits.levels, int(digits.train.min()), int(digits.train.max())
    (17, 0, 16)
    """
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}; it is {name!r}")
    entry = DATASETS[name]
    failure = None
    for place in entry.places:
        try:
            parts = place.parts()
        except ConnectionError as error:
            failure = error
            continue
        if parts is not None:
            parts = {part: as_part(array) for part, array in parts.items()}
            return Data(name, parts, entry.levels, entry.columns, entry.alphabet)
    raise FileNotFoundError(
        f"{name} is not on this machine{' and could not be downloaded' if failure else ''}: put "
        f"{' or '.join(map(str, entry.places))} into the folder that the environment variable {FOLDER_VARIABLE} names; "
        f"it comes from {entry.origin} (licence: {entry.licence})"
    ) from failure


def holdout(x: np.ndarray, size: int = 500, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return two parts of the rows of `x`, (the rest, `size` rows held out), by a permutation that never changes.

    The permutation is that of `numpy.random.RandomState(seed)`, a stream that NumPy has frozen; it depends on the
    number of rows and the seed alone, so that images and their labels are split alike. Many data sets are ordered
    (optdigits by writer), so that their last rows are not like the others.

    Args:
        x: the rows, [N, ...].
        size: how many rows to hold out, 1..N−1.
        seed: which permutation.

    Raises ValueError where `size` leaves one of the parts empty.

    >>> train, validation = holdout(load("optdigits").train)
    >>> train.shape, validation.shape
    ((3323, 8, 8), (500, 8, 8))
    """
    if not 0 < size < len(x):
        raise ValueError(f"size must be between 1 and {len(x) - 1} for {len(x)} rows; it is {size}")
    order = np.random.RandomState(seed).permutation(len(x))
    return x[order[size:]], x[order[:size]]


def as_part(array: np.ndarray) -> np.ndarray:
    """Return an array as a part of a data set has it: integers and booleans as int32, reals as float32."""
    return array.astype(np.int32 if array.dtype.kind in "biu" else np.float32)
