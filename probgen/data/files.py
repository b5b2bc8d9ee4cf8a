"""Finding data files, and refusing those that are not what they should be."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]
Read = Callable[[Arrays], dict[str, np.ndarray]]

FOLDER_VARIABLE = "PROBGEN_DATA"
_UNREADABLE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Array:
    """The form that an array must have: `[N, *shape]`, integers 0..levels−1, or finite reals where `levels` is None."""

    shape: tuple[int, ...] = ()
    levels: int | None = None

    def problem(self, value: np.ndarray) -> str | None:
        """Return what is wrong with `value`, or None."""
        if value.ndim != 1 + len(self.shape) or value.shape[1:] != self.shape or len(value) == 0:
            return f"has shape {list(value.shape)}, not {self}"
        if value.dtype.kind not in ("iu" if self.levels else "iuf"):
            return f"has dtype {value.dtype}"
        if self.levels is None:
            return None if np.isfinite(value).all() else "has values that are not finite"
        if value.min() < 0 or value.max() >= self.levels:
            return f"has values outside 0..{self.levels - 1}"
        return None

    def __str__(self) -> str:
        return f"[{', '.join(['N', *map(str, self.shape)])}]"


@dataclass(frozen=True)
class Npz:
    """An .npz file in `$PROBGEN_DATA` (or in `folder`) with the arrays of `layout`; `read` makes the parts of them."""

    name: str
    layout: Mapping[str, Array]
    read: Read
    folder: Path | None = None

    def parts(self) -> dict[str, np.ndarray] | None:
        """Return the parts of the data set, or None where the file is missing.

        Raises ValueError where the file is truncated, corrupted or another one.
        """
        folder = self.folder or data_folder()
        if folder is None or not (folder / self.name).is_file():
            return None
        path = folder / self.name
        try:
            with open(path, "rb") as stream:
                archive = np.load(stream, allow_pickle=False)
                # An .npy file loads as a bare array, which has no `.files`.
                if missing := set(self.layout) - set(getattr(archive, "files", ())):
                    raise ValueError(f"it has no array {min(missing)!r}")
                arrays = {name: archive[name] for name in self.layout}
        except _UNREADABLE as error:
            raise ValueError(f"{path} is truncated, corrupted or another file: {error}") from error
        _check(arrays, self.layout, str(path))
        return self.read(arrays)

    def __str__(self) -> str:
        return f"{self.name} (arrays {', '.join(f'{name} {array}' for name, array in self.layout.items())})"


@dataclass(frozen=True)
class File:
    """A public file: its name below `$PROBGEN_DATA`; its address and its SHA-256 where both are known."""

    name: str
    url: str | None = None
    sha256: str | None = None

    def path(self) -> Path | None:
        """Return where the file is, downloading it once into the cache of the user; None where it is not to be had.

        Raises ConnectionError where the download fails, ValueError where the bytes are not those that were published.
        """
        folder = data_folder()
        if folder is not None and (folder / self.name).is_file():
            return self._verified(folder / self.name)
        if self.url is None or self.sha256 is None:
            return None
        import pooch

        cache = Path(pooch.os_cache("probgen")) / self.name
        try:
            return Path(pooch.retrieve(self.url, known_hash=self.sha256, fname=cache.name, path=cache.parent))
        except OSError as error:  # what `requests` raises, too
            raise ConnectionError(f"{self.url} could not be downloaded: {error}") from error
        except ValueError as error:
            raise ValueError(f"{self.url} does not give the file that was published: its SHA-256 differs") from error

    def _verified(self, path: Path) -> Path:
        with open(path, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if self.sha256 not in (None, found):
            raise ValueError(f"{path} is truncated, corrupted or another file: its SHA-256 is {found}")
        return path


@dataclass(frozen=True)
class Originals:
    """The files as they were published, one array in each: `files` by the array's name, `decode` from bytes."""

    files: Mapping[str, File]
    decode: Callable[[bytes], np.ndarray]
    layout: Mapping[str, Array]
    read: Read

    def parts(self) -> dict[str, np.ndarray] | None:
        """Return the parts of the data set, or None where the files are neither here nor to be downloaded.

        Raises ConnectionError where a download fails, ValueError where a file is truncated, corrupted or another one.
        """
        paths = {name: file.path() for name, file in self.files.items()}
        arrays = {name: self._decoded(path) for name, path in paths.items() if path is not None}
        if len(arrays) < len(paths):
            return None
        _check(arrays, self.layout, ", ".join(map(str, paths.values())))
        return self.read(arrays)

    def _decoded(self, path: Path) -> np.ndarray:
        try:
            return self.decode(path.read_bytes())
        except _UNREADABLE as error:
            raise ValueError(f"{path} is truncated, corrupted or another file: {error}") from error

    def __str__(self) -> str:
        return ", ".join(file.name for file in self.files.values())


def data_folder() -> Path | None:
    """Return the folder that the environment variable `PROBGEN_DATA` names, or None where it is not set.

    Raises FileNotFoundError where it names something that is no folder.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{FOLDER_VARIABLE} must name a folder, and {folder!r} is none")
    return Path(folder)


def _check(arrays: Arrays, layout: Mapping[str, Array], where: str) -> None:
    for name, expected in layout.items():
        if problem := expected.problem(arrays[name]):
            raise ValueError(f"{where} holds other data than expected: {name} {problem}")
