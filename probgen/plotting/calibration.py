"""Pictures of calibration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def rank_histogram(
    ranks: ArrayLike,
    num_draws: int,
    *,
    bins: int = 20,
    labels: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the histograms of SBC ranks 0..L, one outline a column, over the band that holds 99 % of a calibrated one's.

    Heaps at both ends are an overconfident posterior, a heap in the middle one that is too wide, a slope a bias.

    Args:
        ranks: [N] or [N, D], as `probgen.evaluation.sbc_ranks` returns them.
        num_draws: L.
        bins: L + 1 at most.
        labels: a name for each column.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where there are not as many labels as columns.

    References: Validating Bayesian Inference Algorithms with Simulation-Based Calibration (Talts, Betancourt, Simpson,
    Vehtari, Gelman 2018), arXiv:1804.06788.

    >>> import numpy as np
    >>> rank_histogram(np.arange(200) % 100, 99).get_xlabel()
    'rank among 99 draws'
    """
    import matplotlib.pyplot as plt

    ax = plt.gca() if ax is None else ax
    array = np.asarray(ranks)
    columns = array.reshape(len(array), -1).T
    names = [None] * len(columns) if labels is None else list(labels)
    if len(names) != len(columns):
        raise ValueError(f"labels: expected {len(columns)}, one for each column of ranks, got {len(names)}")
    bins = min(bins, num_draws + 1)
    edges = np.ceil(np.arange(bins + 1) * (num_draws + 1) / bins) - 0.5  # between ranks, so that none is on an edge
    share = np.diff(edges) / (num_draws + 1)
    middle, spread = len(array) * share, 2.576 * np.sqrt(len(array) * share * (1 - share))
    ax.stairs(middle + spread, edges, baseline=np.maximum(middle - spread, 0.0), fill=True, color="0.9")
    ax.stairs(middle, edges, color="0.6", lw=0.8, baseline=None)
    for column, name in zip(columns, names, strict=True):
        ax.stairs(np.histogram(column, edges)[0], edges, label=name, lw=1.2, baseline=None)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(bottom=0)
    ax.set_xlabel(f"rank among {num_draws} draws")
    ax.set_ylabel("data sets")
    if labels is not None:
        ax.legend()
    return ax
