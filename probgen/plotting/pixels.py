"""Pictures of the pixels of a model of images: what each depends on, when it is drawn, how open it is."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from probgen.core import check_positive
from probgen.plotting.graphs import draw_magnitudes, magnitudes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def receptive_field(
    jacobian: ArrayLike,
    shape: tuple[int, int],
    pixel: tuple[int, int],
    *,
    order: Iterable[int | Sequence[int]] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw on which pixels one pixel, the cross, depends: the darker the more, on a logarithmic scale.

    Args:
        jacobian: [D, D] of ∂z_i/∂x_j, positions row by row; or whether i depends on j, as `probgen.testing.influence`
            returns it; or [N, D, D] of several points, of which the largest absolute values count.
        shape: (H, W), of D = H·W pixels.
        pixel: (row, column).
        order: in which pixels are drawn, as `order_map` has it: those before the pixel on which it does not depend, as
            in a blind spot, are grey; others on which it does, though it must not, have a red frame.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where shapes do not fit, numbers are not finite, the pixel is outside, or the order is of others.

    References: Conditional Image Generation with PixelCNN Decoders (van den Oord, Kalchbrenner, Vinyals, Espeholt,
    Graves, Kavukcuoglu 2016), arXiv:1606.05328, has the blind spot.

    >>> import numpy as np
    >>> receptive_field(np.tri(9, k=-1), (3, 3), (1, 1), order=range(9)).get_title()
    'depends on 4 of 4 before it'
    """
    import matplotlib.pyplot as plt

    count, size = _count(shape), magnitudes(jacobian)
    if len(size) != count:
        raise ValueError(f"jacobian: expected {count} rows and columns for shape {tuple(shape)}, got {size.shape}")
    row, column = pixel
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise ValueError(f"pixel: expected (row, column) inside of {tuple(shape)}, got {tuple(pixel)}")
    field, others = size[row * shape[1] + column].reshape(shape), np.ones(shape, bool)
    others[row, column] = False
    seen, steps = (field > 0) & others, None if order is None else _steps(order, shape)
    ax = plt.gca() if ax is None else ax
    draw_magnitudes(ax, field)
    ax.plot(column, row, "x", color="C1", ms=7, mew=2)
    if steps is None:
        title = f"depends on {seen.sum()} of {others.sum()}"
    else:
        before = (steps < steps[row, column]) & others
        title = f"depends on {(seen & before).sum()} of {before.sum()} before it"
        title += f", and on {(seen & ~before).sum()} others" * bool((seen & ~before).any())
        _mark(ax, before & ~seen, fill=True, facecolor="0.9", zorder=0.5)
        _mark(ax, seen & ~before, fill=False, edgecolor="C3", lw=1.0)
    ax.set(xticks=[], yticks=[], title=title)
    return ax


def order_map(
    order: Iterable[int | Sequence[int]], shape: tuple[int, int], *, numbers: bool = True, ax: "Axes | None" = None
) -> "Axes":
    """Draw at which step each pixel is drawn, the first being 1, as colours and numbers.

    Args:
        order: the positions, row by row, in which they are drawn, such as a `probgen.autoregressive.Order`; a group in
            place of a position is drawn in one step, as in the `groups` of a `Dependence`.
        shape: (H, W).
        numbers: whether the steps are written in the cells; else there is a bar of colours.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where the order has not each of the H·W positions once.

    >>> ax = order_map([0, 1, 2, 5, 4, 3], (2, 3))
    >>> [text.get_text() for text in ax.texts]
    ['1', '2', '3', '6', '5', '4']
    """
    import matplotlib.pyplot as plt

    _count(shape)
    steps = _steps(order, shape)
    ax = plt.gca() if ax is None else ax
    image = ax.imshow(steps, cmap="viridis", vmin=1, vmax=max(steps.max(), 2))
    ax.set(xticks=[], yticks=[])
    if not numbers:
        ax.figure.colorbar(image, ax=ax, label="step")
        return ax
    cell = 72 / ax.figure.dpi * min(ax.bbox.width / shape[1], ax.bbox.height / shape[0])  # in points
    for (i, j), step in np.ndenumerate(steps):
        color = "black" if step > 0.6 * steps.max() else "white"
        ax.text(j, i, str(step), ha="center", va="center", color=color, fontsize=min(9.0, 0.45 * cell))
    return ax


def entropy_map(nats: ArrayLike, *, high: float | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw the entropy of each pixel, or what it costs, in bits = nats / ln 2; the title is the sum.

    Args:
        nats: [H, W], such as the `entropy()` or the −log p of an autoregressive model's conditionals.
        high: the bits of the lightest colour, so that several maps have one scale; by default their largest.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where the numbers are not [H, W] and finite, or `high` is not positive.

    >>> import numpy as np
    >>> entropy_map(np.full((2, 2), np.log(2.0))).get_title()
    '4.0 bits in all'
    """
    import matplotlib.pyplot as plt

    bits = np.asarray(nats, float) / math.log(2)
    if bits.ndim != 2 or not bits.size or not np.isfinite(bits).all():
        raise ValueError(f"nats: expected finite numbers [H, W], got shape {bits.shape}")
    if high is not None:
        check_positive(high=high)
    ax = plt.gca() if ax is None else ax
    low, top = min(bits.min(), 0.0), max(bits.max(), 1e-9) if high is None else high
    image = ax.imshow(bits, cmap="magma", vmin=low, vmax=top, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label="bits")
    ax.set(xticks=[], yticks=[], title=f"{bits.sum():.1f} bits in all")
    return ax


def _count(shape: tuple[int, int]) -> int:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape: expected (H, W), got {tuple(shape)}")
    return shape[0] * shape[1]


def _steps(order: Iterable[int | Sequence[int]], shape: tuple[int, int]) -> np.ndarray:
    """Return the step at which each position is drawn, from 1 on, [H, W]."""
    groups = [np.atleast_1d(group) for group in order]
    steps = [(i, step) for step, group in enumerate(groups, 1) for i in group]
    count = _count(shape)
    if sorted(i for i, _ in steps) != list(range(count)):
        raise ValueError(f"order: expected each of the positions 0..{count - 1} once, got {len(steps)} of them")
    return np.array([step for _, step in sorted(steps)]).reshape(shape)


def _mark(ax: "Axes", cells: np.ndarray, **style: Any) -> None:
    from matplotlib.patches import Rectangle

    for i, j in np.argwhere(cells):
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1.0, 1.0, **style))
