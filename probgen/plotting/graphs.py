"""Pictures of what depends on what: a graph, and the zeros of a Jacobian."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from probgen.core import Dependence

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def graph(adjacency: ArrayLike, *, names: Sequence[str] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw a directed acyclic graph, parents above children: each variable stands at the length of its longest path.

    Args:
        adjacency: [D, D], true at (i, j) where j is a parent of i.
        names: of the variables, their numbers by default.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where the graph has a cycle, or where there are not D names.

    >>> graph([[0, 0, 0], [1, 0, 0], [1, 1, 0]], names="ABC").get_title()
    '3 edges'
    """
    import matplotlib.pyplot as plt

    ax = plt.gca() if ax is None else ax
    dependence = Dependence.of_graph(adjacency)
    labels, places = _names(names, dependence.dim), _places(dependence)
    box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "C0"}
    texts = [ax.text(x, y, label, ha="center", va="center", fontsize="small", bbox=box)
             for label, (x, y) in zip(labels, places, strict=True)]  # fmt: skip
    # bent, so that an edge does not run through what stands in line between its ends
    style = {"arrowstyle": "-|>", "color": "0.5", "shrinkA": 0, "shrinkB": 1, "connectionstyle": "arc3,rad=0.12"}
    for child, parent in np.argwhere(dependence.matrix):
        ends = {"patchA": texts[parent].get_bbox_patch(), "patchB": texts[child].get_bbox_patch()}
        ax.annotate("", places[child], places[parent], arrowprops={**style, **ends})
    ax.set(xlim=(-1.2, 1.2), ylim=(places[:, 1].min() - 0.5, 0.5), title=f"{int(dependence.matrix.sum())} edges")
    ax.set_axis_off()
    return ax


def jacobian_zeros(
    jacobian: ArrayLike,
    *,
    adjacency: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw where a Jacobian is zero: white cells; the others are the darker the larger, on a logarithmic scale.

    Args:
        jacobian: [D, D] of ∂z_i/∂x_j, or [N, D, D] of several points, of which the largest absolute values count.
        adjacency: [D, D]: a frame is drawn around each edge (i, j) from the parent j to i and around the diagonal, and
            the title says how many numbers outside of the frames are not zero.
        names: of the variables.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where the shapes differ, where there are not D names, or numbers are not finite.

    >>> import numpy as np
    >>> ax = jacobian_zeros(np.tril(np.ones((3, 3))), adjacency=[[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> ax.get_title()
    '6 of 9 are not zero, 1 outside of the graph'
    """
    import matplotlib.pyplot as plt

    size = magnitudes(jacobian)
    edges = None if adjacency is None else np.asarray(adjacency, bool)
    if edges is not None and edges.shape != size.shape:
        raise ValueError(f"adjacency: expected the jacobian's shape {size.shape}, got {edges.shape}")
    labels, ax = _names(names, len(size)), plt.gca() if ax is None else ax
    draw_magnitudes(ax, size)
    ax.set_xticks(range(len(size)), labels, rotation=90, fontsize="small")
    ax.set_yticks(range(len(size)), labels, fontsize="small")
    ax.set(xlabel="x", ylabel="z", title=f"{int((size > 0).sum())} of {size.size} are not zero")
    if edges is not None:
        _frame(ax, size, edges)
    return ax


def magnitudes(jacobian: ArrayLike) -> np.ndarray:
    """Return absolute values [D, D], the largest over points.

    Args:
        jacobian: [D, D] or [N, D, D].

    Raises ValueError for another shape, or numbers that are not finite.
    """
    size = np.abs(np.asarray(jacobian, float))
    if size.ndim == 3 and len(size):
        size = size.max(0)
    if size.ndim != 2 or size.shape[0] != size.shape[1]:
        raise ValueError(f"jacobian: expected [D, D] or [N, D, D], got shape {np.shape(jacobian)}")
    if not np.isfinite(size).all():
        raise ValueError("jacobian: expected finite numbers, got NaN or infinity")
    return size


def draw_magnitudes(ax: "Axes", size: np.ndarray) -> None:
    """Draw numbers on a logarithmic scale of four decades, zeros white.

    Args:
        ax: where to draw.
        size: [H, W], none negative.
    """
    logs = np.log10(np.where(size > 0, size, np.nan))
    top = np.nanmax(logs, initial=-1.0)
    ax.imshow(logs, cmap="Blues", vmin=top - 4, vmax=top)


def _frame(ax: "Axes", size: np.ndarray, adjacency: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    inside = adjacency | np.eye(len(size), dtype=bool)
    for i, j in np.argwhere(inside):
        ax.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="C3", lw=0.8))
    ax.set_title(f"{ax.get_title()}, {int((size[~inside] > 0).sum())} outside of the graph")


def _places(dependence: Dependence) -> np.ndarray:
    """Return where each variable stands, [D, 2]: its level from the top, evenly spaced in it; who is alone, left or
    right."""
    places = np.zeros((dependence.dim, 2))
    for level, group in enumerate(dependence.groups):
        across = np.linspace(-0.9, 0.9, len(group)) if len(group) > 1 else 0.4 * (-1) ** level
        places[list(group), 0], places[list(group), 1] = across, -level
    return places


def _names(names: Sequence[str] | None, dim: int) -> list[str]:
    labels = list(map(str, range(dim))) if names is None else list(names)
    if len(labels) != dim:
        raise ValueError(f"names: expected {dim}, got {len(labels)}")
    return labels
