"""NumPy's files of arrays, of which nothing is unpickled, and the parts of a data set that they are."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from probgen.data.columns import listed
from probgen.data.datasets import Data, as_part
from probgen.data.malformed import Refused, check_size, parsing

_PARTS = {"train": "train", **dict.fromkeys(("valid", "validation", "val"), "validation"), "test": "test"}
_ROLES = {
    **dict.fromkeys(("x", "data", "images", "arr", "0"), ""),
    **dict.fromkeys(("y", "labels", "label"), "_labels"),
    "lengths": "_lengths",
}


def read_npy(path: Path, *, memmap: bool) -> Data:
    """Return an .npy file as the part "train".

    Args:
        path: the file.
        memmap: whether the array stays in the file, in the file's type.

    Raises ValueError where it is damaged, or no array of finite numbers with rows.
    """
    with open(path, "rb") as stream, parsing():
        _check_header(stream, path.stat().st_size)
        array = np.load(path, mmap_mode="r" if memmap else None, allow_pickle=False)
    return data(path.name, {"train": array}, keep=memmap)


def read_npz(path: Path, *, max_bytes: int) -> Data:
    """Return an .npz file, whose arrays are parts by their names: x or train, y_train or train_labels, x_test, ….

    Raises ValueError where it is damaged, holds more bytes than `max_bytes`, or arrays of other names.
    """
    arrays = {}
    with open(path, "rb") as stream, parsing(), zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        check_size(sum(member.file_size for member in members), max_bytes)
        parts = _parts([member.filename.removesuffix(".npy") for member in members])
        for part, member in zip(parts, members):
            with archive.open(member) as inner:
                _check_header(inner, member.file_size)
            with archive.open(member) as inner:
                arrays[part] = np.lib.format.read_array(inner, allow_pickle=False)
    return data(path.name, arrays)


def _check_header(stream: IO[bytes], size: int) -> None:
    """Raise Refused where an .npy file of `size` bytes is not the array of numbers that its header promises."""
    version = np.lib.format.read_magic(stream)
    if version > (2, 0):
        raise Refused("expected an array of numbers, got one with names of fields")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise Refused("an array of objects is a pickle, which can run any program: it is never loaded")
    if dtype.kind not in "biuf":
        raise Refused(f"expected an array of integers, reals or booleans, got dtype {dtype}")
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > size - stream.tell():
        raise Refused(
            f"it is truncated or corrupted: it has {size:,} bytes, too few for an array {list(shape)} of {dtype}"
        )


def _parts(names: Sequence[str]) -> list[str]:
    """Return the part that each name of an array means; the only one is "train". Raises Refused for other names."""
    if len(names) == 1:
        return ["train"]
    found: list[str] = []
    for name in names:
        words = re.findall(r"[a-z]+|\d+", name.lower())
        chosen = [_PARTS[word] for word in words if word in _PARTS] or ["train"]
        roles = [_ROLES[word] for word in words if word in _ROLES] or [""]
        part = chosen[0] + max(roles)
        if not words or set(words) - _PARTS.keys() - _ROLES.keys() or len(chosen) > 1 or part in found:
            raise Refused(
                "expected arrays named x, y, x_train, y_train, x_test, train, train_labels, train_lengths, validation, "
                f"test or the like, each part once; there are {listed(names)}"
            )
        found.append(part)
    if "train" not in found:
        raise Refused(f"expected an array named train or x; there are {listed(names)}")
    return found


def data(name: str, parts: Mapping[str, np.ndarray], *, keep: bool = False) -> Data:
    """Return arrays as a data set: their values and lengths are checked, and their number of levels counted.

    Integers from 0 have as many levels as the largest of all parts says; bytes beyond 127 have 256.

    Raises ValueError where a part is empty, not finite, or does not go with the others.
    """
    rows = {part: array for part, array in parts.items() if "_" not in part}
    for part, array in parts.items():
        _check(part, array, parts)
    arrays = list(rows.values())
    levels = None
    if all(array.dtype.kind in "biu" for array in arrays) and all(array.min() >= 0 for array in arrays):
        largest = max(int(array.max()) for array in arrays)
        levels = 256 if largest > 127 and all(array.dtype == np.uint8 for array in arrays) else max(largest + 1, 2)
    return Data(name, dict(parts) if keep else {part: as_part(array) for part, array in parts.items()}, levels)


def _check(part: str, array: np.ndarray, parts: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError where one part of a data set is no array of numbers with rows as the others have."""
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{part}: expected an array with rows, got shape {list(array.shape)}")
    beyond = np.iinfo(np.int32) if array.dtype.kind in "iu" else np.finfo(np.float32)
    if not (array.min() >= beyond.min and array.max() <= beyond.max):  # false for NaN
        raise ValueError(f"{part}: expected finite numbers from {beyond.min:g} to {beyond.max:g}, got others")
    rows = part.split("_")[0]
    if rows != part:
        if rows not in parts or array.shape != parts[rows].shape[:1] or array.dtype.kind not in "iu":
            raise ValueError(
                f"{part}: expected integers, one for each row of {rows}, got {list(array.shape)} {array.dtype}"
            )
    elif array.shape[1:] != parts["train"].shape[1:] or (array.dtype.kind == "f") != (parts["train"].dtype.kind == "f"):
        raise ValueError(f"{part}: expected rows as those of train, got {list(array.shape)} {array.dtype}")
