"""Pictures of densities on the line and in the plane, and of draws from them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from probgen.core import check_interval, check_sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def density_curve(
    log_prob: Callable[[np.ndarray], Any],
    *,
    low: float,
    high: float,
    points: int = 400,
    label: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw p(x) of x on the line from `low` to `high`; several may be drawn over each other.

    Args:
        log_prob: [N] → [N], such as a distribution's.
        low: the left end.
        high: the right end.
        points: how many x, at equal distances, both ends among them.
        label: of the line.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where log_prob returns another shape or NaN, or low < high does not hold.

    >>> import numpyro.distributions as dist
    >>> ax = density_curve(dist.Normal(0.0, 1.0).log_prob, low=-3.0, high=3.0, points=7)
    >>> print(ax.lines[0].get_ydata()[:4].round(3))
    [0.004 0.054 0.242 0.399]
    """
    import matplotlib.pyplot as plt

    check_sizes(2, points=points)
    left, right, _, _ = box(low, high)
    x = np.linspace(left, right, points)
    p = np.exp(_numbers(log_prob, x.astype(np.float32)))
    ax = plt.gca() if ax is None else ax
    ax.plot(x, p, lw=1.2, label=label or None)
    ax.margins(x=0.0)
    ax.set_ylim(bottom=0.0)
    ax.set(xlabel="x", ylabel="density")
    if label:
        ax.legend(fontsize="small")
    return ax


def density(
    log_prob: Callable[[np.ndarray], Any],
    *,
    low: float | tuple[float, float],
    high: float | tuple[float, float],
    cells: int = 200,
    darkest: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw p(x) of x in the plane, one value for the middle of each of `cells` × `cells` cells, dark where it is high.

    Args:
        log_prob: [N, 2] → [N], such as a distribution's.
        low: the lower left corner of the box, a number or one for each axis.
        high: its upper right corner.
        cells: how many there are along each axis.
        darkest: the density that is drawn black, by default the 99.5 % quantile over the cells, so that a needle does
            not leave the rest white.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where log_prob returns another shape or NaN, or the box is empty.

    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> normal = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    >>> density(normal.log_prob, low=-3.0, high=(3.0, 4.0), cells=50).get_images()[0].get_array().shape
    (50, 50)
    """
    import matplotlib.pyplot as plt

    check_sizes(cells=cells)
    left, right, bottom, top = box(low, high)
    middles = (np.arange(cells) + 0.5) / cells
    x, y = np.meshgrid(left + (right - left) * middles, bottom + (top - bottom) * middles)
    p = np.exp(_numbers(log_prob, np.stack([x.ravel(), y.ravel()], 1).astype(np.float32))).reshape(cells, cells)
    black = np.quantile(p, 0.995) if darkest is None else darkest
    ax = plt.gca() if ax is None else ax
    ax.imshow(p, origin="lower", extent=(left, right, bottom, top), vmin=0.0, vmax=max(black, 1e-30), cmap="Blues")
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    return ax


def samples(
    x: ArrayLike,
    *,
    low: float | tuple[float, float],
    high: float | tuple[float, float],
    size: float = 1.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw points of the plane, [N, 2], in the box from `low` to `high`, beside or over a `density`.

    Args:
        x: points, [N, 2].
        low: the lower left corner of the box, a number or one for each axis.
        high: its upper right corner.
        size: of a point, in points squared.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where x is no [N, 2], or the box is empty.

    >>> import numpy as np
    >>> samples(np.zeros((100, 2)), low=-3.0, high=3.0).collections[0].get_offsets().shape
    (100, 2)
    """
    import matplotlib.pyplot as plt

    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x: expected points [N, 2], got shape {x.shape}")
    ax = plt.gca() if ax is None else ax
    left, right, bottom, top = box(low, high)
    ax.scatter(x[:, 0], x[:, 1], s=size, color="C0", alpha=0.5, linewidths=0, rasterized=True)
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    return ax


def box(low: float | tuple[float, float], high: float | tuple[float, float]) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top.

    Args:
        low: the lower left corner, a number or one for each axis.
        high: the upper right corner.

    Raises ValueError where the box is empty.
    """
    (left, bottom), (right, top) = np.broadcast_to(low, 2).tolist(), np.broadcast_to(high, 2).tolist()
    for ends in ((left, right), (bottom, top)):
        check_interval(**{"(low, high)": ends})
    return float(left), float(right), float(bottom), float(top)


def _numbers(log_prob: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    """Return log p of each x."""
    values = np.asarray(log_prob(x))
    if values.shape != x.shape[:1]:
        raise ValueError(f"log_prob: expected one number for each of {len(x)} points, got shape {values.shape}")
    if np.isnan(values).any():
        raise ValueError(f"log_prob: expected numbers, got NaN for {x[np.isnan(values)][0]}")
    return values
