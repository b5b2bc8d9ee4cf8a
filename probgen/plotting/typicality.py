"""Pictures of what is typical of a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def typical_set(
    costs: Mapping[str, ArrayLike],
    *,
    entropy: float | None = None,
    epsilon: float | None = None,
    bins: int = 40,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the histograms of −log p of a model's draws and of data, over the band |−log p − H| ≤ ε of the typical set.

    Each is a density: its area is 1, whatever the number of rows. Bins are the same for all.

    Args:
        costs: −log p of rows, [N] in nats, by name, such as "draws", "test rows" and "another data set".
        entropy: H, a line.
        epsilon: ε, the half width of the band around it.
        bins: over the range of all.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where there is nothing to draw, some numbers are not finite, or ε comes without H.

    References: Do Deep Generative Models Know What They Don't Know? (Nalisnick, Matsukawa, Teh, Gorur,
    Lakshminarayanan 2019), arXiv:1810.09136.

    >>> import numpy as np
    >>> ax = typical_set({"draws": np.arange(10.0), "data": np.arange(5.0)}, entropy=4.5, epsilon=2.0)
    >>> ax.get_legend_handles_labels()[1]
    ['draws', 'data', 'H = 4.5', 'H ± 2']
    """
    import matplotlib.pyplot as plt

    columns = {name: np.asarray(values, float) for name, values in costs.items()}
    for name, values in columns.items():
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ValueError(f"costs: expected finite numbers [N] of {name!r}, got shape {values.shape}")
    if not columns:
        raise ValueError("costs: expected at least one row of numbers, got none")
    if epsilon is not None and entropy is None:
        raise ValueError("epsilon: expected with the entropy that it is around, got no entropy")
    ax = plt.gca() if ax is None else ax
    edges = np.histogram_bin_edges(np.concatenate(list(columns.values())), bins)
    for name, values in columns.items():
        ax.stairs(np.histogram(values, edges, density=True)[0], edges, label=name, lw=1.2, baseline=None)
    if entropy is not None:
        ax.axvline(entropy, color="0.4", lw=0.8, label=f"H = {entropy:.4g}")
    if entropy is not None and epsilon is not None:
        ax.axvspan(entropy - epsilon, entropy + epsilon, color="0.9", zorder=0, label=f"H ± {epsilon:.4g}")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("−log p, nats")
    ax.set_ylabel("density")
    ax.legend(fontsize="small")
    return ax
