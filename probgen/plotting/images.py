"""Pictures of images."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from probgen.core import check_sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def image_grid(
    images: ArrayLike,
    *,
    columns: int | None = None,
    levels: int | None = None,
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw images [N, H, W] as one grid with a gap of a pixel, dark on light.

    Args:
        images: [N, H, W].
        columns: how many stand side by side; about √N by default.
        levels: fixes the range to 0..levels−1; by default it is the images' own.
        title: above the grid.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where there are no such images, or no columns.

    >>> import numpy as np
    >>> image_grid(np.zeros((4, 8, 8)), levels=17).get_images()[0].get_array().shape
    (19, 19)
    """
    import matplotlib.pyplot as plt

    images = np.asarray(images, float)
    if images.ndim != 3 or len(images) == 0:
        raise ValueError(f"images: expected [N, H, W] with N ≥ 1, got shape {images.shape}")
    count, height, width = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    check_sizes(columns=columns)
    rows = math.ceil(count / columns)
    high = images.max() if levels is None else levels - 1
    canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        canvas[top : top + height, left : left + width] = image
    ax = plt.gca() if ax is None else ax
    ax.imshow(canvas, cmap="gray_r", vmin=0 if levels else images.min(), vmax=max(high, 1e-9), interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title)
    return ax
