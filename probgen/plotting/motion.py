"""Pictures of what moves points: a map of the plane, and paths over time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from probgen.core import check_sizes
from probgen.plotting.densities import box

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def warped_grid(
    forward: Callable[[np.ndarray], Any],
    *,
    low: float | tuple[float, float],
    high: float | tuple[float, float],
    lines: int = 13,
    points: int = 200,
    base: bool = True,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw where a map of the plane sends the lines of a grid: upright ones in the first colour, level ones in the
    second.

    Where lines crowd, the map makes a density higher, by its inverse determinant. What is not finite leaves a gap.

    Args:
        forward: [N, 2] → [N, 2], such as a bijector's.
        low: the lower left corner of the grid, a number or one for each axis.
        high: its upper right corner.
        lines: how many there are in each direction.
        points: how many each line is drawn through.
        base: whether the grid itself lies below, in grey.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where forward returns another shape, there are fewer than two lines or points, or the box is
    empty.

    >>> ax = warped_grid(lambda x: x + 0.3 * x[:, ::-1] ** 2, low=-2.0, high=2.0, lines=5)
    >>> len(ax.lines)
    20
    """
    import matplotlib.pyplot as plt

    check_sizes(2, lines=lines, points=points)
    left, right, bottom, top = box(low, high)
    x, y, along = np.linspace(left, right, lines), np.linspace(bottom, top, lines), np.linspace(0.0, 1.0, points)
    upright = np.stack(np.broadcast_arrays(x[:, None], bottom + (top - bottom) * along), -1)  # [lines, points, 2]
    level = np.stack(np.broadcast_arrays(left + (right - left) * along, y[:, None]), -1)
    grid = np.stack([upright, level]).astype(np.float32)
    sent = np.asarray(forward(grid.reshape(-1, 2)), float)
    if sent.shape != (grid.size // 2, 2):
        raise ValueError(f"forward: expected points of shape {(grid.size // 2, 2)}, got {sent.shape}")
    ax = plt.gca() if ax is None else ax
    if base:
        for line in grid.reshape(-1, points, 2):
            ax.plot(line[:, 0], line[:, 1], color="0.88", lw=0.6, zorder=0)
    for group, color in zip(np.where(np.isfinite(sent), sent, np.nan).reshape(grid.shape), ("C0", "C1"), strict=True):
        for line in group:
            ax.plot(line[:, 0], line[:, 1], color=color, lw=0.8)
    ax.set_aspect("equal")
    return ax


def trajectories(times: ArrayLike, paths: ArrayLike, *, ax: "Axes | None" = None) -> "Axes":
    """Draw paths, of an SDE or an ODE: numbers over time, or points that run through the plane, coloured by the time.

    A dot is where a path ends. What is not finite leaves a gap.

    Args:
        times: of the steps, [T], rising or falling: a sampler runs from noise at t = 1 to data at t = 0.
        paths: [N, T] or [N, T, 1] of numbers, or [N, T, 2] of points.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where the shapes do not fit, there are fewer than two times, or times are not finite.

    >>> import numpy as np
    >>> walks = np.random.RandomState(0).standard_normal((8, 50)).cumsum(1)
    >>> ax = trajectories(np.linspace(0.0, 1.0, 50), walks)
    >>> ax.get_xlabel(), len(ax.lines)
    ('t', 9)
    """
    import matplotlib.pyplot as plt

    t, x = np.asarray(times, float), np.asarray(paths, float)
    if t.ndim != 1 or len(t) < 2 or not np.isfinite(t).all():
        raise ValueError(f"times: expected two or more finite numbers [T], got shape {t.shape}: {t}")
    if x.ndim not in (2, 3) or not len(x) or x.shape[1] != len(t) or x.shape[2:] not in ((), (1,), (2,)):
        raise ValueError(f"paths: expected [N, {len(t)}], or [N, {len(t)}, 2] in the plane, got shape {x.shape}")
    ax = plt.gca() if ax is None else ax
    x = np.where(np.isfinite(x), x, np.nan)
    if x.shape[2:] == (2,):
        _through_the_plane(ax, t, x)
        return ax
    color = None
    for path in x.reshape(len(x), -1):
        (line,) = ax.plot(t, path, color=color, lw=0.7, alpha=0.6)
        color = line.get_color()
    ax.plot(np.full(len(x), t[-1]), x[:, -1].ravel(), "o", color=color, ms=2.5)
    ax.set(xlabel="t", ylabel="x")
    return ax


def _through_the_plane(ax: "Axes", t: np.ndarray, x: np.ndarray) -> None:
    """Draw each step of each path in the colour of its middle time, and a bar of colours."""
    from matplotlib.collections import LineCollection

    steps = np.stack([x[:, :-1], x[:, 1:]], 2)  # [N, T − 1, 2 ends, 2]
    middles = np.broadcast_to((t[:-1] + t[1:]) / 2, steps.shape[:2])
    drawn = LineCollection(list(steps.reshape(-1, 2, 2)), cmap="viridis", linewidths=0.7, alpha=0.7, rasterized=True)
    drawn.set(array=middles.ravel(), clim=(t.min(), t.max()))
    ax.add_collection(drawn)
    ax.figure.colorbar(drawn, ax=ax, label="t")
    ax.plot(x[:, -1, 0], x[:, -1, 1], "o", color="black", ms=2)
    ax.autoscale_view()
    ax.set_aspect("equal")
