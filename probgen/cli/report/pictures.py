"""The figures of a report as PNG, by the pictures of `probgen.plotting`."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probgen.plotting import image_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
_PANELS = 4  # columns of a pair plot


def figure(width: float, height: float) -> "Figure":
    """Return an empty figure.

    Args:
        width: in inches.
        height: in inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(drawn: "Figure") -> bytes:
    """Return a figure as the bytes of a PNG.

    Args:
        drawn: the figure.
    """
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def of_axes(draw: Callable[["Axes"], Any], *, width: float = 6.4, height: float = 3.4) -> bytes:
    """Return one picture.

    Args:
        draw: it, on Axes.
        width: in inches.
        height: in inches.
    """
    drawn = figure(width, height)
    draw(drawn.add_subplot())
    return png(drawn)


def grids(images: Mapping[str, np.ndarray], levels: int, *, columns: int | None = None) -> bytes:
    """Return grids of images beside one another.

    Args:
        images: [N, H, W], by title.
        levels: of the integers that they are made of; 0 of reals.
        columns: of each grid.
    """
    drawn = figure(4.2 * len(images), 4.5 if columns is None else 2.6)
    for ax, (title, rows) in zip(drawn.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        image_grid(rows, levels=levels or None, columns=columns, title=title, ax=ax)
    return png(drawn)


def vectors(samples: Mapping[str, np.ndarray], names: Sequence[str]) -> bytes:
    """Return histograms of the first numbers of rows, and each two of them against one another.

    Args:
        samples: two of them, [N, D], by name.
        names: of the D numbers.
    """
    count = min(len(names), _PANELS)
    drawn = figure(1.2 + 1.9 * count, 1.0 + 1.9 * count)
    axes = drawn.subplots(count, count, squeeze=False, sharex="col")
    for (i, j), ax in np.ndenumerate(axes):
        if j > i:
            ax.set_axis_off()
        elif i == j:
            edges = np.histogram_bin_edges(np.concatenate([rows[:, i] for rows in samples.values()]), 30)
            for label, rows in samples.items():
                ax.stairs(np.histogram(rows[:, i], edges, density=True)[0], edges, label=label, lw=1.2)
            ax.set_yticks([])
        else:
            for rows in samples.values():
                ax.scatter(rows[:, j], rows[:, i], s=4, alpha=0.4, linewidths=0)
        if i == count - 1:
            ax.set_xlabel(names[j])
        if j == 0 < i:
            ax.set_ylabel(names[i])
    axes[0, 0].legend(fontsize="small")
    return png(drawn)


def means(data: np.ndarray, draws: np.ndarray) -> bytes:
    """Return the mean of each number among data and among draws, as points near the diagonal.

    Args:
        data: [N, D].
        draws: [M, D].
    """

    def draw(ax: "Axes") -> None:
        x, y = data.mean(0), draws.mean(0)
        ax.axline((x.mean(), x.mean()), slope=1, color="0.6", lw=0.8)
        ax.scatter(x, y, s=10, alpha=0.6, linewidths=0)
        ax.set(xlabel="mean of a number, test rows", ylabel="the same, draws")

    return of_axes(draw, width=4.2, height=4.0)


def bars(values: np.ndarray, *, label: str, unit: str) -> bytes:
    """Return bars, the highest first.

    Args:
        values: [D].
        label: of what they stand for.
        unit: of their height.
    """

    def draw(ax: "Axes") -> None:
        ax.bar(np.arange(1, len(values) + 1), np.sort(values)[::-1], width=0.8)
        ax.set(xlabel=label, ylabel=unit)

    return of_axes(draw, height=2.8)
