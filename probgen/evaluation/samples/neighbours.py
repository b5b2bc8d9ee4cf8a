"""What nearest neighbours say of draws: precision and recall, density and coverage, and whether rows were memorized."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import check_sizes
from probgen.core.sizes import as_number
from probgen.evaluation.samples.rows import as_rows, nearest, rows_of_a_block, squared_distances
from probgen.evaluation.typicality.outlier_scores import auroc

_ROUNDING = 1e-5  # of squared distances, by which the k-th neighbour itself could fall out of the ball
_FEWEST = 5


class PrecisionRecall(NamedTuple):
    """Four shares of neighbourhoods; `str` prints them.

    Attributes:
        precision: of draws within the data's neighbourhoods.
        recall: of data within the draws' neighbourhoods.
        density: how many of the data's neighbourhoods a draw lies in, over k; 1 where both are of one distribution.
        coverage: of the data's neighbourhoods that hold a draw.
        se: the standard errors of the four over the rows that are averaged, the neighbourhoods being given.
        k: of the nearest neighbours.
        rows: how many there are of data, and of draws.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    se: tuple[float, float, float, float]
    k: int
    rows: tuple[int, int]

    def __str__(self) -> str:
        values = zip(("precision", "recall", "density", "coverage"), self[:4], self.se, strict=True)
        found = ", ".join(f"{name} {value:.3f} ± {se:.3f}" for name, value, se in values)
        return f"{found} (k = {self.k}, {self.rows[0]} rows, {self.rows[1]} draws)"


def precision_recall(data: Any, draws: Any, *, k: int = 5) -> PrecisionRecall:
    """Return how far draws lie within the data and data within the draws, by balls that reach to the k-th neighbour.

        B(a, A) = {x : |x − a| ≤ distance of a to its k-th nearest other row of A}
        precision = mean_y [y ∈ ∪_i B(x_i, X)],           recall = mean_x [x ∈ ∪_j B(y_j, Y)]
        density = 1/k mean_y #{i : y ∈ B(x_i, X)},        coverage = mean_i [B(x_i, X) holds a draw]

    Precision is low where draws are nothing like the data, recall where some of the data are never drawn. One outlier
    among the rows has a wide ball, which density and coverage suffer less from. Of two samples of one distribution and
    of N rows each, density is about 1 and coverage about 1 − 2^{−k}. Of images, take features and not pixels.

    Args:
        data: rows x, [N, *event], that the model was not trained on.
        draws: rows y, [M, *event]; M = N is what the figures are compared at.
        k: of the nearest neighbours, below N and M.

    Raises ValueError where events differ in shape, there are no more than k rows of either, numbers are not finite, or
    all rows of the data are the same.

    References: Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi, Karras, Laine,
    Lehtinen, Aila 2019), arXiv:1904.06991; density and coverage: Reliable Fidelity and Diversity Metrics for Generative
    Models (Naeem, Oh, Uh, Choi, Yoo 2020), arXiv:2002.09797.

    >>> import jax
    >>> data, draws = jax.random.normal(jax.random.key(0), (2, 300, 2))
    >>> print(precision_recall(data, 0.1 * draws))
    precision 1.000 ± 0.000, recall 0.083 ± 0.016, density 0.969 ± 0.014, coverage 0.103 ± 0.018
    (k = 5, 300 rows, 300 draws)
    """
    check_sizes(k=k)
    as_rows(fewest=k + 1, data=data)  # which differ among themselves
    _, (x, y) = as_rows(fewest=k + 1, data=data, draws=draws)
    radius_x, radius_y = _reach(x, k), _reach(y, k)
    holding, covered = (np.asarray(a) for a in _balls(x, radius_x, y))
    recalled = np.asarray(_balls(y, radius_y, x)[0]) > 0
    each = (holding > 0, recalled, holding / k, covered)
    values = [float(np.mean(a)) for a in each]
    precision, recall, density, coverage = values
    precision_se, recall_se, density_se, coverage_se = (float(np.std(a, ddof=1) / math.sqrt(len(a))) for a in each)
    se = precision_se, recall_se, density_se, coverage_se
    return PrecisionRecall(precision, recall, density, coverage, se, k, (len(x), len(y)))


@partial(jax.jit, static_argnums=1)
def _reach(x: Array, k: int) -> Array:
    """Return the squared distance of each row to its k-th nearest other one, and a little more."""
    others = lambda i: squared_distances(x[i], x).at[i].set(jnp.inf)
    kth = lambda i: -lax.top_k(-others(i), k)[0][-1] * (1 + _ROUNDING)
    return lax.map(kth, jnp.arange(len(x)), batch_size=rows_of_a_block(x))


@jax.jit
def _balls(centers: Array, radii: Array, rows: Array) -> tuple[Array, Array]:
    """Return in how many balls each row lies, and whether each ball holds a row."""

    def of(total: Array, center: tuple[Array, Array]) -> tuple[Array, Array]:
        point, radius = center
        within = squared_distances(point, rows) <= radius
        return total + within, within.any()

    return lax.scan(of, jnp.zeros(len(rows), int), (centers, radii))


class Memorization(NamedTuple):
    """How near draws lie to the training rows, beside rows held out; `str` prints it.

    Attributes:
        nearer: the chance that a draw is nearer to its nearest training row than a held-out row is to its own; ties
            count half.
        se: its standard error.
        p_value: the chance of as much or more where draws are like held-out rows (Mann–Whitney, one-sided).
        share: of draws that are nearer than the nearest held-out rows, the share `quantile` of them.
        quantile: as above.
        copies: how many draws are equal to a training row, in single precision.
        rows: how many there are of training rows, of held-out ones, and of draws.
    """

    nearer: float
    se: float
    p_value: float
    share: float
    quantile: float
    copies: int
    rows: tuple[int, int, int]

    def __str__(self) -> str:
        return (
            f"nearer to training rows than held-out rows are with probability {self.nearer:.3f} ± {self.se:.3f} "
            f"(p = {self.p_value:.3g}); {100 * self.share:.1f} % nearer than the nearest {100 * self.quantile:g} % of "
            f"{self.rows[1]}; {self.copies} of {self.rows[2]} draws are copies"
        )


def memorization(train: Any, held_out: Any, draws: Any, *, quantile: float = 0.05) -> Memorization:
    """Return whether draws are nearer to the training rows than they should be, a test of data-copying.

        d(a) = min_n |a − train_n|,   nearer = P(d(draw) < d(held-out)) + ½ P(d(draw) = d(held-out))

    Of a model that draws from the distribution of the data, `nearer` is ½ and `share` is `quantile`. Above is a model
    that copies, below one that misses the data. Where it copies some of the training rows and misses others, the two
    cancel in `nearer`, and `share` tells. Distances are those of the numbers as they are: of images, take features too.

    Args:
        train: the rows that the model was trained on, [N, *event].
        held_out: rows of the same distribution that it has not seen, [H, *event].
        draws: of the model, [M, *event].
        quantile: of the held-out rows' distances, in (0, 1), below which the draws are counted as `share`.

    Raises ValueError where events differ in shape, there are fewer than 5 rows of a kind, numbers are not finite, or
    all rows are the same.

    References: A Non-Parametric Test to Detect Data-Copying in Generative Models (Meehan, Chaudhuri, Dasgupta 2020),
    arXiv:2004.05675, here of the whole space in place of its cells.

    >>> import jax, jax.numpy as jnp
    >>> train, held_out, draws = jax.random.normal(jax.random.key(0), (3, 200, 2))
    >>> print(memorization(train, held_out, draws.at[:50].set(train[:50])))
    nearer to training rows than held-out rows are with probability 0.576 ± 0.029 (p = 0.00415);
    26.0 % nearer than the nearest 5 % of 200; 50 of 200 draws are copies
    """
    from scipy import stats

    quantile = as_number(quantile)
    if not isinstance(quantile, float) or not 0 < quantile < 1:
        raise ValueError(f"quantile: expected a number in (0, 1), got {quantile!r}")
    _, (x, held, y) = as_rows(fewest=_FEWEST, train=train, held_out=held_out, draws=draws)
    theirs, ours = np.asarray(nearest(held, x)), np.asarray(nearest(y, x))
    same = np.ptp(np.concatenate([theirs, ours])) == 0  # of integers of few values: all rows have a copy
    p_value = 1.0 if same else float(stats.mannwhitneyu(ours, theirs, alternative="less").pvalue)
    nearer, se = auroc(ours, theirs)[:2]
    share = float((ours < np.quantile(theirs, quantile, method="inverted_cdf")).mean())
    return Memorization(nearer, se, p_value, share, quantile, int((ours == 0).sum()), (len(x), len(held), len(y)))
