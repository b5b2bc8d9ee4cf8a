"""Data sets as ArviZ takes them, and weights as it smooths them. The one file that knows which ArviZ is installed."""

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray


def to_arviz(dataset: "xarray.Dataset", *, group: str = "gradients") -> Any:
    """Return a data set as a group of what ArviZ takes: an `arviz.InferenceData` for ArviZ 0.x, an `xarray.DataTree`
    for 1.x.

    Variables, coordinates and attributes are kept. With either, `to_arviz(dataset)["gradients"]["variance_total"]` is
    the variable.

    Args:
        dataset: such as a `gradient_report`.
        group: a Python name.

    Raises ValueError where `group` is none.

    References: ArviZ a unified library for exploratory analysis of Bayesian models in Python (Kumar, Carroll,
    Hartikainen, Martin 2019), doi:10.21105/joss.01143.

    >>> import xarray
    >>> report = xarray.Dataset({"snr": ("estimator", [0.2, 0.9])}, {"estimator": ["score", "leave-one-out"]})
    >>> float(to_arviz(report)["gradients"]["snr"].sel(estimator="leave-one-out"))
    0.9
    """
    if not group.isidentifier():  # a slash would nest, and a space would be out of reach as an attribute
        raise ValueError(f"group: expected a name such as 'gradients', got {group!r}")
    if _version() < 1:
        import arviz

        groups: dict[str, Any] = {group: dataset}
        return arviz.InferenceData(**groups)
    import xarray

    return xarray.DataTree.from_dict({group: dataset})


def smoothed_weights(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log weights [..., K] with their largest ones smoothed, up to a constant for each row, and Pareto k̂ of each
    row."""
    if _version() < 1:
        import arviz

        found = arviz.psislw(log_weights)
    else:
        from arviz_stats.base import array_stats

        found = array_stats.psislw(log_weights)
    return np.asarray(found[0]), np.asarray(found[1])


def _version() -> int:
    # by its version: 1.x still answers to InferenceData, with DataTree and a warning
    return int(importlib.metadata.version("arviz").split(".")[0])
