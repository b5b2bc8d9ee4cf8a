"""Pictures of calibration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from probgen.core import check_sizes

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
    bins = min(bins, num_draws + 1)
    edges = np.ceil(np.arange(bins + 1) * (num_draws + 1) / bins) - 0.5  # between ranks, so that none is on an edge
    _histograms(ax, "ranks", ranks, edges, labels)
    ax.set_xlabel(f"rank among {num_draws} draws")
    ax.set_ylabel("data sets")
    return ax


def pit_histogram(
    u: ArrayLike, *, bins: int = 20, labels: Sequence[str] | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw the histograms of a probability integral transform, one outline a column, over the band that holds 99 % of a
    calibrated one's.

    Heaps at both ends are a model that is too narrow, a heap in the middle one that is too wide, a slope a bias.

    Args:
        u: numbers in [0, 1], [N] or [N, *event], as `probgen.evaluation.pit` returns them.
        bins: how many.
        labels: a name for each column.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where there are not as many labels as columns, or numbers lie outside of [0, 1].

    References: Probabilistic forecasts, calibration and sharpness (Gneiting, Balabdaoui, Raftery 2007), Journal of the
    Royal Statistical Society B 69.

    >>> import numpy as np
    >>> pit_histogram(np.linspace(0.0, 1.0, 100)).get_ylabel()
    'rows'
    """
    import matplotlib.pyplot as plt

    check_sizes(bins=bins)
    ax = plt.gca() if ax is None else ax
    if not ((np.asarray(u) >= 0) & (np.asarray(u) <= 1)).all():
        raise ValueError("u: expected numbers in [0, 1], got some outside")
    _histograms(ax, "u", u, np.linspace(0.0, 1.0, bins + 1), labels)
    ax.set_xlabel("u")
    ax.set_ylabel("rows")
    return ax


def coverage_curve(
    nominal: ArrayLike, found: ArrayLike, num_datasets: int, *, label: str | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw the share of data sets whose truth lies within the region of each credibility, over the band that holds 99 %
    of a calibrated one's at each.

    Below the diagonal a posterior is overconfident, above it is too wide.

    Args:
        nominal: the credibilities in [0, 1], [K].
        found: the shares, [K], as `nominal` a property of what `probgen.evaluation.expected_coverage` returns.
        num_datasets: of how many data sets, which the band is of.
        label: of the line.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where the arrays are not of one length, or hold numbers outside of [0, 1].

    References: as `probgen.evaluation.expected_coverage`.

    >>> coverage_curve([0.0, 0.5, 1.0], [0.0, 0.4, 1.0], 100).get_xlabel()
    'credibility'
    """
    import matplotlib.pyplot as plt
    from scipy import stats

    nominal, found = np.asarray(nominal, float), np.asarray(found, float)
    if nominal.ndim != 1 or found.shape != nominal.shape:
        raise ValueError(f"found: expected shape [K] as nominal has, got {found.shape} beside {nominal.shape}")
    for name, share in (("nominal", nominal), ("found", found)):
        if not ((share >= 0) & (share <= 1)).all():
            raise ValueError(f"{name}: expected numbers in [0, 1], got some outside")
    ax = plt.gca() if ax is None else ax
    low, high = stats.binom.ppf([[0.005], [0.995]], num_datasets, nominal) / num_datasets
    ax.fill_between(nominal, low, high, color="0.9", lw=0)
    ax.plot([0, 1], [0, 1], color="0.6", lw=0.8)
    ax.plot(nominal, found, lw=1.2, label=label)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="credibility", ylabel="truths within")
    if label is not None:
        ax.legend()
    return ax


def _histograms(ax: "Axes", name: str, values: ArrayLike, edges: np.ndarray, labels: Sequence[str] | None) -> None:
    """Draw an outline for each column of values, over the band of uniform ones."""
    array = np.asarray(values)
    columns = array.reshape(len(array), -1).T
    names = [None] * len(columns) if labels is None else list(labels)
    if len(names) != len(columns):
        raise ValueError(f"labels: expected {len(columns)}, one for each column of {name}, got {len(names)}")
    share = np.diff(edges) / (edges[-1] - edges[0])
    middle, spread = len(array) * share, 2.576 * np.sqrt(len(array) * share * (1 - share))
    ax.stairs(middle + spread, edges, baseline=np.maximum(middle - spread, 0.0), fill=True, color="0.9")
    ax.stairs(middle, edges, color="0.6", lw=0.8, baseline=None)
    for column, label in zip(columns, names, strict=True):
        ax.stairs(np.histogram(column, edges)[0], edges, label=label, lw=1.2, baseline=None)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(bottom=0)
    if labels is not None:
        ax.legend()
