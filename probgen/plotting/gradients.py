"""Pictures of gradient estimators: their variance, what it costs, and the learning that comes of it."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

_RANGE = 1e8  # of variances on one axis; what is smaller is rounding, and would squeeze the rest together
_WIDTH, _HEIGHT = 0.4, 0.055  # of a name, in fractions of the axes


def variance_against_cost(
    report: "xarray.Dataset", *, cost: Literal["evaluations", "seconds"] = "evaluations", ax: "Axes | None" = None
) -> "Axes":
    """Draw total variance V against cost c, one named point for each estimator of a `gradient_report`, on log axes.

    V = Σ_groups variance_total; along a trajectory, its geometric mean over steps. c is `evaluations` or `seconds` of
    one gradient. Along a light line V·c is constant: n independent gradients average to V/n at cost n·c, so a lower
    line is a better estimator. Crosses are biased: their `bias_z` is not below `bias_limit` everywhere. What no log
    axis holds is drawn at its edge, beside its value: at the bottom 0, and variances 10⁸ times below the largest; at
    the top what is not finite. An estimator that could not be measured has no point.

    Args:
        report: of `gradient_report`.
        cost: "evaluations" or "seconds".
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError for another `cost`.

    >>> import xarray
    >>> report = xarray.Dataset(
    ...     {
    ...         "variance_total": (("estimator", "group"), [[4.0, 1.0], [0.0, 0.0]]),
    ...         "bias_z": (("estimator", "group"), [[0.3, 1.2], [0.0, 0.0]]),
    ...         "evaluations": ("estimator", [1, 2]),
    ...         "bias_limit": 3.0,
    ...     },
    ...     {"estimator": ["score", "enumerate"], "group": ["loc", "scale"]},
    ... )
    >>> [text.get_text() for text in variance_against_cost(report).texts]
    ['score', 'enumerate: 0']
    """
    import matplotlib.pyplot as plt

    if cost not in ("evaluations", "seconds"):
        raise ValueError(f'cost: expected "evaluations" or "seconds", got {cost!r}')
    ax = plt.gca() if ax is None else ax
    report = report.isel(estimator=np.isfinite(np.asarray(report[cost], float)))
    costs, variance = np.asarray(report[cost], float), _variance(report)
    worst = report["bias_z"].max([dim for dim in report["bias_z"].dims if dim != "estimator"], skipna=False)
    limit = float(report["bias_limit"])
    biased = ~(np.asarray(worst) <= limit)  # not a number is no pass
    x_limits, y_limits = _limits(costs, variance)
    _constant_products(ax, x_limits, y_limits)
    ax.set(xscale="log", yscale="log", xlim=x_limits, ylim=y_limits)
    heights = np.clip(np.where(np.isfinite(variance), variance, np.inf), *y_limits)
    names = [_name(name, v, y) for name, v, y in zip(report["estimator"].values, variance, heights, strict=True)]
    for x, y, wrong in zip(costs, heights, biased, strict=True):
        ax.plot(x, y, "X" if wrong else "o", color="C3" if wrong else "C0", ms=7, clip_on=False)
    _write_beside(ax, names, costs, heights, ["C3" if wrong else "black" for wrong in biased])
    if cost == "evaluations":  # few and small: each by its number
        ax.set_xticks(np.unique(costs), [f"{x:g}" for x in np.unique(costs)])
        ax.set_xticks([], minor=True)
    ax.set_xlabel("evaluations of the density" if cost == "evaluations" else "seconds")
    ax.set_ylabel("total variance of a gradient")
    if biased.any():
        ax.plot([], [], "X", color="C3", label=f"biased: |z| > {limit:.1f}")
        ax.legend(loc="upper right", fontsize="small")
    return ax


def _variance(report: "xarray.Dataset") -> np.ndarray:
    """Return the total variance [estimators]; a group that is not a number makes the sum none."""
    total = report["variance_total"].sum("group", skipna=False)
    if "step" not in total.dims:
        return np.asarray(total)
    with np.errstate(divide="ignore"):
        return np.exp(np.log(np.asarray(total.transpose("step", "estimator"))).mean(0))


def _limits(costs: np.ndarray, variance: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the limits of both axes, with room for the names right of the points, and for points on the lower and
    upper edge."""
    room = max(np.log(costs.max() / costs.min()), 0.7)
    x_limits = costs.min() * np.exp(-0.2 * room), costs.max() * np.exp(0.8 * room)
    positive = variance[np.isfinite(variance) & (variance > 0)]
    if not len(positive):
        return x_limits, (0.1, 1.0)
    high = positive.max()
    return x_limits, (positive[positive * _RANGE >= high].min() / 5, high * 3)


def _constant_products(ax: "Axes", x_limits: tuple[float, float], y_limits: tuple[float, float]) -> None:
    """Draw lines of constant x·y, at equal ratios."""
    x, (low, high) = np.array(x_limits), np.array(x_limits) * np.array(y_limits)
    for product in np.geomspace(low, high, 10)[1:-1]:
        ax.plot(x, product / x, color="0.85", lw=0.8, zorder=0)


def _name(name: str, variance: float, height: float) -> str:
    """Return what is written beside a point: the variance too, where the point is not at its height."""
    return str(name) if height == variance else f"{name}: {variance:.2g}"


def _write_beside(ax: "Axes", names: list[str], x: np.ndarray, y: np.ndarray, colors: list[str]) -> None:
    """Write names right of points, each joined to its own."""
    fraction = lambda value, low, high: np.log(value / low) / np.log(high / low)
    across, up = fraction(x, *ax.get_xlim()), fraction(y, *ax.get_ylim())
    for i, height in enumerate(_apart(across, up)):
        ax.annotate(
            names[i],
            (x[i], y[i]),
            (across[i] + 0.035, height),
            textcoords="axes fraction",
            va="center",
            fontsize="small",
            color=colors[i],
            arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.6, "shrinkA": 0, "shrinkB": 4},
        )


def _apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return heights [N] near y at which names that begin at x do not overlap: pairs push each other away, in their
    order."""
    rank = np.argsort(np.argsort(y, kind="stable"))
    above = np.where(np.abs(x[:, None] - x) < _WIDTH, np.sign(rank[:, None] - rank), 0)
    for _ in range(200):
        overlap = np.maximum(_HEIGHT - above * (y[:, None] - y), 0) * above
        y = np.clip(y + 0.25 * overlap.sum(1), 0.03, 0.97)
    return y


def variance_along(report: "xarray.Dataset", *, ax: "Axes | None" = None) -> "Axes":
    """Draw the total variance Σ_groups variance_total of each estimator along the steps of a trajectory, on a log axis.

    A variance of 0 leaves a gap, and an estimator of nothing else is named with ": 0".

    Args:
        report: of `gradient_report`, along a trajectory.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where the report is of one point.

    >>> import numpy as np, xarray
    >>> variance = ("step", "estimator", "group"), np.ones((3, 2, 1))
    >>> report = xarray.Dataset({"variance_total": variance}, {"step": [0, 5, 10], "estimator": ["score", "path"]})
    >>> len(variance_along(report).lines)
    2
    """
    import matplotlib.pyplot as plt

    if "step" not in report.dims:
        raise ValueError("report: expected one along a trajectory, with a dimension step, got one of a single point")
    ax = plt.gca() if ax is None else ax
    total = report["variance_total"].sum("group", skipna=False)
    for name in report["estimator"].values:
        values = np.asarray(total.sel(estimator=name))
        label = str(name) if (values != 0).any() else f"{name}: 0"
        ax.plot(np.asarray(report["step"]), np.where(values > 0, values, np.nan), ".-", lw=1, label=label)
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("total variance of a gradient")
    ax.legend(fontsize="small")
    return ax


def learning_bands(
    curves: ArrayLike,
    *,
    steps: ArrayLike | None = None,
    label: str = "",
    quantiles: tuple[float, float] = (0.25, 0.75),
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw curves [seeds, steps] as their median over seeds, in a band between two quantiles over seeds.

    The band is of the seeds and not of their median: by default half of the runs are inside it. A step at which some
    seed is not finite is left out: no run is dropped.

    Args:
        curves: [seeds, steps].
        steps: the horizontal axis, [steps]; 1, 2, … by default.
        label: of the line.
        quantiles: of the band, 0 ≤ low ≤ high ≤ 1.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where the shapes do not fit, or the quantiles are others.

    >>> import numpy as np
    >>> ax = learning_bands(np.array([[3.0, 1.0], [4.0, 2.0], [9.0, 2.5]]), label="score")
    >>> ax.lines[0].get_ydata()
    array([4., 2.])
    """
    import matplotlib.pyplot as plt

    curves = np.asarray(curves, float)
    if curves.ndim != 2 or 0 in curves.shape:
        raise ValueError(f"curves: expected [seeds, steps], at least one of each, got shape {curves.shape}")
    steps = np.arange(1, curves.shape[1] + 1) if steps is None else np.asarray(steps)
    if steps.shape != curves.shape[1:]:
        raise ValueError(f"steps: expected shape {curves.shape[1:]} beside curves {curves.shape}, got {steps.shape}")
    if not 0 <= quantiles[0] <= quantiles[1] <= 1:
        raise ValueError(f"quantiles: expected 0 ≤ low ≤ high ≤ 1, got {quantiles}")
    ax = plt.gca() if ax is None else ax
    curves = np.where(np.isfinite(curves), curves, np.nan)
    low, middle, high = np.quantile(curves, (quantiles[0], 0.5, quantiles[1]), axis=0)
    (line,) = ax.plot(steps, middle, lw=1.5, label=label or None)
    ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, lw=0)
    ax.set_xlabel("step")
    return ax
