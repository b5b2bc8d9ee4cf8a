"""Pictures of codes: what they cost and lose, and where they lie."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW = 10  # labels that have a colour and a line of the legend each


def rate_distortion_plane(
    rate: ArrayLike,
    distortion: ArrayLike,
    *,
    label: str = "",
    points: Mapping[str, tuple[float, float]] | None = None,
    elbo: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a rate–distortion curve, and trained models as points, which lie above or right of their decoder's curve.

    Args:
        rate: in nats, [T], such as the `rate` of a `RateDistortion`.
        distortion: [T].
        label: of the curve.
        points: (rate, distortion) of models, by name.
        elbo: whether a light line of constant rate + distortion goes through each point, along which models have the
            same ELBO; the distortion is in nats then.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where rates and distortions are not as many, or there are no points for the lines.

    References: Fixing a Broken ELBO (Alemi, Poole, Fischer, Dillon, Saurous, Murphy 2018), arXiv:1711.00464.

    >>> ax = rate_distortion_plane([0.0, 1.0, 2.0], [3.0, 1.0, 0.5], points={"VAE": (1.5, 1.2)})
    >>> [text.get_text() for text in ax.texts], len(ax.lines)
    (['VAE'], 2)
    """
    import matplotlib.pyplot as plt

    rates, distortions = np.asarray(rate, float), np.asarray(distortion, float)
    if rates.ndim != 1 or rates.shape != distortions.shape or not rates.size:
        raise ValueError(f"distortion: expected [T] as rate, got shapes {distortions.shape} and {rates.shape}")
    if elbo and not points:
        raise ValueError("elbo: expected points, through which the lines go, got none")
    ax = plt.gca() if ax is None else ax
    (curve,) = ax.plot(distortions, rates, lw=1.5, label=label or None)
    for i, (name, (r, d)) in enumerate((points or {}).items()):
        color = f"C{i + 1}"
        if elbo:
            ax.axline((d, r), slope=-1, color=color, lw=0.8, alpha=0.4)
        ax.plot(d, r, "o", color=color, ms=5)
        ax.annotate(name, (d, r), (5, 5), textcoords="offset points", fontsize="small", color=color)
    ax.set_xlabel("distortion")
    ax.set_ylabel("rate, nats")
    if label:
        ax.legend(handles=[curve], fontsize="small")
    return ax


def latent_space(
    codes: ArrayLike, values: ArrayLike | None = None, *, size: float = 4.0, ax: "Axes | None" = None
) -> "Axes":
    """Draw codes in the plane, coloured by a label or a number of each.

    Up to ten different integers are labels, with a colour and a line of the legend each; other values are a scale of
    colours with a bar. Both axes have one scale: distances are those of the codes.

    Args:
        codes: [N, 2], such as means of the posterior.
        values: labels or numbers, [N]; without them all points have one colour.
        size: of a point, in points squared.
        ax: where to draw; matplotlib's current Axes by default.

    Raises ValueError where codes are no [N, 2], or there are not as many values.

    >>> import numpy as np
    >>> ax = latent_space(np.random.RandomState(0).standard_normal((6, 2)), [0, 1, 2, 0, 1, 2])
    >>> ax.get_legend_handles_labels()[1]
    ['0', '1', '2']
    """
    import matplotlib.pyplot as plt

    z = np.asarray(codes, float)
    if z.ndim != 2 or z.shape[1] != 2 or not len(z):
        raise ValueError(f"codes: expected [N, 2], got shape {z.shape}; choose two numbers of more")
    of = None if values is None else np.asarray(values)
    if of is not None and of.shape != z.shape[:1]:
        raise ValueError(f"values: expected {len(z)}, one for each code, got shape {of.shape}")
    ax = plt.gca() if ax is None else ax

    def dots(rows: np.ndarray, **colours: Any) -> Any:
        return ax.scatter(rows[:, 0], rows[:, 1], s=size, alpha=0.7, linewidths=0, rasterized=True, **colours)

    if of is None:
        dots(z, color="C0")
    elif of.dtype.kind in "biu" and len(np.unique(of)) <= _FEW:
        for i, label in enumerate(np.unique(of)):
            dots(z[of == label], color=f"C{i}", label=str(label))
        ax.legend(fontsize="small", markerscale=2.0)
    else:
        ax.figure.colorbar(dots(z, c=of, cmap="viridis"), ax=ax)
    ax.set(aspect="equal", xlabel="z₁", ylabel="z₂")
    return ax
