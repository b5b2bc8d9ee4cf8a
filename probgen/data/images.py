"""Images in a folder, read one by one."""

import os
from pathlib import Path

import numpy as np

from probgen.core import as_shape

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class ImageFolder:
    """The images in a folder and the folders in it, in the order of their paths: `images[i]` reads one from its file.

    `probgen.fit(model, images, batch_size=…)` reads them while it trains, so that memory need not hold them.

    Args:
        folder: with files of images, and others that do not count.
        event_shape: of an image: (height, width) or (height, width, 1) of grey levels, (height, width, 3) of colours.

    Attributes:
        paths: of the files.

    Raises ValueError for another shape and where there is no image, and from `images[i]` for a file that is no image of
    that height and width.

    >>> import tempfile, numpy as np
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(3):
    ...         Image.fromarray(np.full((8, 6, 3), i, np.uint8)).save(f"{folder}/{i}.png")
    ...     images = ImageFolder(folder, (8, 6, 3))
    ...     len(images), images[2].shape, images[2].dtype, int(images[2].max())
    (3, (8, 6, 3), dtype('uint8'), 2)
    """

    def __init__(self, folder: str | os.PathLike, event_shape: tuple[int, ...]):
        self.event_shape = as_shape(event_shape)
        if len(self.event_shape) not in (2, 3) or self.event_shape[2:] not in ((), (1,), (3,)):
            raise ValueError(
                f"event_shape: expected (height, width), or that with 1 or 3 channels, got {self.event_shape}"
            )
        files = Path(folder).rglob("*") if Path(folder).is_dir() else []
        self.paths = sorted(path for path in files if path.suffix.lower() in _SUFFIXES)
        if not self.paths:
            raise ValueError(f"folder: expected one with images ({', '.join(_SUFFIXES)}), got {os.fspath(folder)!r}")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        path = self.paths[index]
        mode = "RGB" if self.event_shape[2:] == (3,) else "L"
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert(mode))
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"folder: expected images, got {path}, which cannot be read ({error})") from error
        if pixels.shape[:2] != self.event_shape[:2]:
            expected, found = ("×".join(map(str, shape[:2])) for shape in (self.event_shape, pixels.shape))
            raise ValueError(f"folder: expected images of {expected}, got one of {found}, {path}")
        return pixels.reshape(self.event_shape)
