"""Pictures of densities in the plane and of draws from them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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

    Raises ValueError where log_prob returns another shape.

    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> normal = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    >>> density(normal.log_prob, low=-3.0, high=(3.0, 4.0), cells=50).get_images()[0].get_array().shape
    (50, 50)
    """
    import matplotlib.pyplot as plt

    ax = plt.gca() if ax is None else ax
    left, right, bottom, top = _box(low, high)
    middles = (np.arange(cells) + 0.5) / cells
    x, y = np.meshgrid(left + (right - left) * middles, bottom + (top - bottom) * middles)
    values = np.asarray(log_prob(np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)))
    if values.shape != (cells**2,):
        raise ValueError(f"log_prob: expected one number for each of {cells**2} points, got shape {values.shape}")
    p = np.exp(values).reshape(cells, cells)
    black = np.quantile(p, 0.995) if darkest is None else darkest
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

    Raises ValueError where x is no [N, 2].

    >>> import numpy as np
    >>> samples(np.zeros((100, 2)), low=-3.0, high=3.0).collections[0].get_offsets().shape
    (100, 2)
    """
    import matplotlib.pyplot as plt

    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"x: expected points [N, 2], got shape {x.shape}")
    ax = plt.gca() if ax is None else ax
    left, right, bottom, top = _box(low, high)
    ax.scatter(x[:, 0], x[:, 1], s=size, color="C0", alpha=0.5, linewidths=0, rasterized=True)
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    return ax


def _box(low: float | tuple[float, float], high: float | tuple[float, float]) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top."""
    (left, bottom), (right, top) = np.broadcast_to(low, 2), np.broadcast_to(high, 2)
    return float(left), float(right), float(bottom), float(top)
