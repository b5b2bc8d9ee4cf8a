"""Folders of pictures, those of each class in a folder of its own or all in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probgen.data.datasets import Data
from probgen.data.malformed import check_size, parsing

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
_GREY, _COLOURED = ("L", "1"), ("RGB", "RGBA", "P", "LA", "CMYK", "YCbCr")


def read_folder(path: Path, *, size: tuple[int, int] | None, max_bytes: int) -> Data:
    """Return the PNG and JPEG files of a folder as the part "train": [N, H, W], or [N, H, W, 3] where one is coloured.

    They are in the order of their names, with 256 levels, or 2 where all are black and white. Folders in the folder are
    classes: "train_labels" are the places of their names in `Data.classes`. Other files are passed over.

    Args:
        path: the folder.
        size: (H, W) to bring all pictures to; None where they have one size.
        max_bytes: how large the pictures may be in all.

    Raises ValueError where there are none, one is damaged, or they differ in size or are too large.
    """
    if size is not None and (len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size)):
        raise ValueError(f"size must be (height, width), each at least 1; it is {size!r}")
    files, labels, classes = _found(path)
    modes, sizes = zip(*(_facts(file) for file in files))
    for file, (width, height) in zip(files, sizes):
        check_size(3 * width * height, max_bytes)
        if size is None and (width, height) != sizes[0]:
            first = f"{sizes[0][1]}×{sizes[0][0]}"
            raise ValueError(
                f"{file.name} is {height}×{width}, and {files[0].name} {first}: size= brings all to one size"
            )
    height, width = size or sizes[0][::-1]
    coloured = any(mode in _COLOURED for mode in modes)
    shape = (len(files), height, width, 3) if coloured else (len(files), height, width)
    check_size(int(np.prod(shape, dtype=object)), max_bytes)
    binary = set(modes) == {"1"} and size is None
    images = np.empty(shape, np.int32)
    for i, file in enumerate(files):
        images[i] = _pixels(file, "RGB" if coloured else "L", (width, height))
    parts = {"train": images // 255 if binary else images}
    if classes:
        parts["train_labels"] = np.array(labels, np.int32)
    return Data(path.resolve().name, parts, 2 if binary else 256, classes=classes)


def _found(path: Path) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Return the pictures, the label of each, and the names of the classes, of which a folder may have none."""
    files, folders = _inside(path)
    labels: list[int] = []
    if files and folders:
        raise ValueError(f"expected pictures or folders of classes, got both: {files[0].name} and {folders[0].name}")
    for label, folder in enumerate(folders):
        inside, deeper = _inside(folder)
        if deeper or not inside:
            raise ValueError(
                f"expected pictures in {folder.name}, got {f'a folder {deeper[0].name}' if deeper else 'none'}"
            )
        files += inside
        labels += [label] * len(inside)
    if not files:
        raise ValueError(f"there are no pictures in it ({', '.join(SUFFIXES)})")
    return files, labels, tuple(folder.name for folder in folders)


def _inside(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the pictures and the folders in a folder, by their names; what is hidden is passed over."""
    visible = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in visible if entry.suffix.lower() in SUFFIXES and entry.is_file()]
    return files, [entry for entry in visible if entry.is_dir()]


def _opened(file: Path) -> Image.Image:
    from PIL import Image

    return Image.open(file, formats=("PNG", "JPEG"))


def _facts(file: Path) -> tuple[str, tuple[int, int]]:
    """Return the mode and the size (width, height) that a picture's header says."""
    try:
        with parsing(), _opened(file) as image:
            mode, size = image.mode, image.size
            image.verify()  # the checksums of a PNG file
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None
    if mode not in _GREY + _COLOURED:
        raise ValueError(f"{file.name}: expected 8 bits in each channel, got a picture of mode {mode}")
    return mode, size


def _pixels(file: Path, mode: str, size: tuple[int, int]) -> np.ndarray:
    """Return the bytes of a picture, [H, W] or [H, W, 3]; what is transparent is as opaque."""
    try:
        with parsing(), _opened(file) as image:
            # A palette's transparency is a warning unless it becomes a channel first.
            pixels = (image.convert("RGBA") if image.mode == "P" else image).convert(mode)
            return np.asarray(pixels if pixels.size == size else pixels.resize(size))
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None
