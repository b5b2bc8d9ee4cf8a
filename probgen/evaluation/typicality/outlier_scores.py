"""Scores of single rows that are larger for outliers, and how well a score tells them apart."""

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import as_numbers, check_functions, check_sizes, split_key
from probgen.evaluation.typicality.typical_set import as_column


def likelihood_ratio(log_likelihoods: Any, background: Any) -> np.ndarray:
    """Return how much likelier each row is under a background model, in nats, [N].

        s(x) = log p₀(x) − log p(x)

    The background model is trained as the model is, on rows of which part of the numbers are replaced by noise
    (`perturbed`): it knows what all images have in common, such as large even areas, and the ratio is left with what
    the model alone knows. Larger for outliers: it is −LLR of the paper.

    Args:
        log_likelihoods: log p(x) of rows, [N], in nats, such as `pointwise` returns; of −∞ the score is ∞.
        background: log p₀(x) of the same rows, [N].

    Raises ValueError where there are not as many, some are NaN, or some of the background's not finite.

    References: Likelihood Ratios for Out-of-Distribution Detection (Ren, Liu, Fertig, Snoek, Poplin, DePristo, Dillon,
    Lakshminarayanan 2019), arXiv:1906.02845.

    >>> likelihood_ratio([-80.0, -60.0], [-100.0, -60.0])
    array([-20.,   0.])
    """
    own, other = as_column("log_likelihoods", log_likelihoods), as_column("background", background, finite=True)
    if len(own) != len(other):
        raise ValueError(f"background: expected {len(own)} numbers, one for each row, got {len(other)}")
    return other - own


def perturbed(key: Array, x: Any, *, levels: int, rate: float = 0.2) -> Array:
    """Return rows of integers, each of which is replaced with the probability `rate` by one from 0..levels−1, all with
    the same probability: what a background model is trained on.

    Args:
        key: a `jax.random.key`.
        x: integers 0..levels−1, of any shape.
        levels: how many values there are, at least 2.
        rate: from 0 to 1.

    Raises ValueError where x holds no such integers, or a number is out of its range.

    References: as `likelihood_ratio`.

    >>> import jax, jax.numpy as jnp
    >>> bool(abs(perturbed(jax.random.key(0), jnp.zeros(10_000, int), levels=2, rate=0.2).mean() - 0.1) < 0.01)
    True
    """
    check_sizes(2, levels=levels)
    if not 0 < rate <= 1:
        raise ValueError(f"rate: expected a number above 0 and at most 1, got {rate!r}")
    values = jnp.asarray(as_numbers("x", x))
    if not jnp.issubdtype(values.dtype, jnp.integer) or not bool(((values >= 0) & (values < levels)).all()):
        raise ValueError(f"x: expected integers in 0..{levels - 1}, got {values.dtype} up to {values.max()}")
    where_key, key = split_key(key, (2,))
    noise = jax.random.randint(key, values.shape, 0, levels, jnp.int32)
    return jnp.where(jax.random.uniform(where_key, values.shape) < rate, noise, values)


def complexity_corrected(
    log_likelihoods: Any, data: Any, *, compress: Callable[[np.ndarray], bytes] | None = None
) -> np.ndarray:
    """Return how much more each row costs under the model than in a compressor that knows nothing of the data, in nats,
    [N].

        s(x) = −log p(x) − L(x),   L(x) = 8 log 2 · bytes

    Simple rows are likely under any model: L takes that away. What a compressor adds to each row, such as a header,
    shifts all scores alike.

    Args:
        log_likelihoods: log p(x) of rows, [N], in nats, such as `pointwise` returns; of −∞ the score is ∞.
        data: x, the same rows, [N, ...], of integers.
        compress: a row → its bytes; by default `png`. A codec of a general model is
            `probgen.compression.Codec(model).encode` of one row, a file compressor `lambda row: zlib.compress(row)`.

    Raises ValueError where there are not as many rows as log-likelihoods, or some of those are NaN, where what
    `compress` returns is no bytes, or where there is no PNG of a row.

    References: Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models (Serrà,
    Álvarez, Gómez, Slizovskaia, Núñez, Luque 2020), arXiv:1909.11480.

    >>> import numpy as np
    >>> even, noise = np.zeros((8, 8), int), np.random.RandomState(0).randint(256, size=(8, 8))
    >>> even, noise = complexity_corrected([-50.0, -60.0], np.stack([even, noise]))
    >>> print((even - noise > 300).item())
    True
    """
    compress = png if compress is None else compress
    check_functions("bytes", compress=compress)
    own, rows = as_column("log_likelihoods", log_likelihoods), np.asarray(as_numbers("data", data))
    if rows.shape[:1] != own.shape:
        raise ValueError(f"data: expected {len(own)} rows, one for each log-likelihood, got shape {rows.shape}")
    codes = [compress(row) for row in rows]
    if wrong := [code for code in codes if not isinstance(code, bytes)]:
        raise ValueError(f"compress: expected bytes of one row, got a {type(wrong[0]).__name__}")
    return -own - 8 * math.log(2) * np.array([len(code) for code in codes])


def png(image: Any) -> bytes:
    """Return an image as a PNG file, as small as Pillow makes it.

    Args:
        image: integers 0..255, [H, W], or [H, W, 3] of red, green and blue.

    Raises ValueError where it is none.

    References: Portable Network Graphics Specification, third edition (W3C 2025).

    >>> import numpy as np
    >>> png(np.zeros((8, 8), int))[:4]
    b'\\x89PNG'
    """
    from PIL import Image

    pixels = np.asarray(as_numbers("image", image))
    fits = pixels.ndim == 2 or pixels.shape[2:] == (3,)
    if not (fits and pixels.size and pixels.dtype.kind in "biu" and pixels.min() >= 0 and pixels.max() <= 255):
        raise ValueError(
            f"image: expected integers in 0..255, [H, W] or [H, W, 3], got {pixels.dtype} of shape {pixels.shape}; "
            "another compress serves what is no image"
        )
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", optimize=True)
    return file.getvalue()


class Area(NamedTuple):
    """The area under the curve of true against false alarms; `str` prints it.

    Attributes:
        value: from 0 to 1; ½ is chance.
        se: its standard error.
        inliers: how many there are.
        outliers: how many there are.
    """

    value: float
    se: float
    inliers: int
    outliers: int

    def __str__(self) -> str:
        return f"AUROC ≈ {self.value:.4f} ± {self.se:.4f} ({self.inliers} inliers, {self.outliers} outliers)"


def auroc(inliers: Any, outliers: Any) -> Area:
    """Return the probability that an outlier has a larger score than an inlier, which is the area under the ROC curve.

        A = 1/(M N) Σ_m Σ_n [s_m < t_n] + ½ [s_m = t_n],   SE² = Var_m(A_m) / M + Var_n(A_n) / N

    A_m and A_n are the shares of the others on the right side of one score. Of log p, for which outliers should have
    less, it is `auroc(-inliers, -outliers)`; below ½ there, the model likes outliers better. Where all are apart the
    standard error is 0, which says nothing of rarer rows.

    Args:
        inliers: scores s of rows like the data, [M], at least 2.
        outliers: scores t of others, [N], at least 2.

    Raises ValueError where there are fewer, or some are NaN.

    References: Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves (DeLong,
    DeLong, Clarke-Pearson 1988), Biometrics 44.

    >>> print(auroc([0.0, 1.0, 2.0, 3.0], [1.0, 4.0, 5.0]))
    AUROC ≈ 0.7917 ± 0.2231 (4 inliers, 3 outliers)
    """
    from scipy.stats import rankdata

    s, t = as_column("inliers", inliers, fewest=2), as_column("outliers", outliers, fewest=2)
    ranks = rankdata(np.concatenate([s, t]))
    of_inliers = 1 - (ranks[: len(s)] - rankdata(s)) / len(t)
    of_outliers = (ranks[len(s) :] - rankdata(t)) / len(s)
    variance = of_inliers.var(ddof=1) / len(s) + of_outliers.var(ddof=1) / len(t)
    return Area(float(of_outliers.mean()), math.sqrt(variance), len(s), len(t))
