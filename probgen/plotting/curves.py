"""Pictures of training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from probgen.core import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curve(history: Any, *, label: str = "", smooth: int = 50, ax: "Axes | None" = None) -> "Axes":
    """Draw a `FitResult.history`: the smoothed training loss as a thin line, validation as a thick one.

    Losses are in bits/dim where the history has it, else in nats per datum; steps are on a logarithmic axis.

    Args:
        history: a `FitResult`, or its `history`.
        label: of the lines.
        smooth: the width of the running mean, in steps.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError for what is neither.

    >>> import xarray
    >>> history = xarray.Dataset({"train": ("step", [3.0, 2.0])}, {"step": [1, 2]})
    >>> learning_curve(history).get_ylabel()
    'nats per datum'
    """
    import matplotlib.pyplot as plt

    history = getattr(history, "history", None) if isinstance(history, tuple) else history
    if "train" not in getattr(history, "data_vars", ()):
        raise ValueError(f"history: expected a FitResult or its history, got {in_words(history)}")
    ax = plt.gca() if ax is None else ax
    suffix = "_bits_per_dim" if "train_bits_per_dim" in history else ""
    train = np.asarray(history["train" + suffix])
    width = max(1, min(smooth, len(train)))
    mean = np.convolve(train, np.ones(width) / width, mode="valid")
    (line,) = ax.plot(np.asarray(history["step"])[width - 1 :], mean, lw=0.8, alpha=0.5)
    if "validation" in history:
        steps = np.maximum(np.asarray(history["validation_step"]), 1)
        ax.plot(steps, np.asarray(history["validation" + suffix]), color=line.get_color(), lw=1.8, label=label or None)
    elif label:
        line.set_label(label)
    ax.set_xscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("bits/dim" if suffix else "nats per datum")
    return ax
