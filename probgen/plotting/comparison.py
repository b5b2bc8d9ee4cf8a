"""Pictures of numbers beside each other, each with its error and its kind."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {"": "o", "=": "o", "≤": "<", "≈": "D"}  # the triangle points to where the truth may be


def forest(
    names: Sequence[str],
    values: ArrayLike,
    se: ArrayLike,
    *,
    signs: Sequence[str] | None = None,
    unit: str = "nats",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw numbers with their errors below each other, such as the rows of a `Comparison`, the first at the top.

    A thick line is ± 1 standard error, a thin one ± 1.96, and what they say is written to the right. An exact number
    is a disc, a bound a triangle that points to where the truth may be, an estimate an open diamond. Of models on the
    same rows, their differences to the first one have smaller errors than they have themselves.

    Args:
        names: of the rows, K.
        values: [K].
        se: their standard errors, [K].
        signs: "=" exact, "≤" a bound or "≈" an estimate, of each, as an `Evaluation` has it.
        unit: below the axis.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where there are not as many of each, numbers are not finite, an error is negative, or a sign is
    another.

    References: Visualization in Bayesian workflow (Gabry, Simpson, Vehtari, Betancourt, Gelman 2019), arXiv:1709.01449.

    >>> ax = forest(["flow", "VAE"], [2.5, 2.6], [0.01, 0.02], signs=["=", "≤"])
    >>> [text.get_text() for text in ax.texts]
    ['= 2.500 ± 0.010', '≤ 2.600 ± 0.020']
    """
    import matplotlib.pyplot as plt

    x, error, kinds = np.asarray(values, float), np.asarray(se, float), [""] * len(names) if signs is None else signs
    for name, array in (("values", x), ("se", error)):
        if array.shape != (len(names),) or not np.isfinite(array).all():
            raise ValueError(f"{name}: expected {len(names)} finite numbers, one a name, got shape {array.shape}")
    if not len(names) or len(kinds) != len(names) or not set(kinds) <= set(_MARKERS):
        raise ValueError(f'signs: expected "=", "≤" or "≈" for each of {len(names)} names, got {list(kinds)}')
    if (error < 0).any():
        raise ValueError(f"se: expected none below 0, got {error.min()}")
    ax = plt.gca() if ax is None else ax
    for row, (value, spread, sign) in enumerate(zip(x, error, kinds, strict=True)):
        ax.plot([value - 1.96 * spread, value + 1.96 * spread], [row, row], color="C0", lw=0.8)
        ax.plot([value - spread, value + spread], [row, row], color="C0", lw=2.4)
        ax.plot(value, row, _MARKERS[sign], color="C0", ms=5, mfc="white" if sign == "≈" else "C0")
        text, place = f"{sign} {value:.3f} ± {spread:.3f}".strip(), ax.get_yaxis_transform()
        ax.text(1.03, row, text, transform=place, va="center", fontsize="small", clip_on=False)
    ax.set_yticks(range(len(names)), list(names))
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel=unit)
    return ax
