"""Whether two samples are of one distribution: kernel and energy tests, by permutation."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import as_numbers, check_key, check_positive, check_sizes, split_key
from probgen.evaluation.samples.rows import as_rows, rows_of_a_block, squared_distances

_FOR_MEDIAN = 1000  # rows, of which the median distance is taken
_ROUNDING = 1e-6  # of the kernel's mean: statistics that differ by less are ties


class TwoSample(NamedTuple):
    """What a test of two samples found; `str` prints it.

    Attributes:
        statistic: what was measured, by `name`.
        p_value: the chance of as much or more where both samples are of one distribution, (1 + #) / (1 + B).
        name: of the statistic.
        rows: how many each sample has, or held-out rows of each where a part is held out.
        num_permutations: B.
    """

    statistic: float
    p_value: float
    name: str
    rows: tuple[int, int]
    num_permutations: int

    @property
    def se_p_value(self) -> float:
        """The standard error of the p-value, which comes of B random permutations."""
        return math.sqrt(self.p_value * (1 - self.p_value) / (1 + self.num_permutations))

    def __str__(self) -> str:
        return (
            f"{self.name} = {self.statistic:.4g}, p = {self.p_value:.3g} ± {self.se_p_value:.1g} "
            f"({self.rows[0]} and {self.rows[1]} rows, {self.num_permutations} permutations)"
        )


def mmd_test(
    x: Any, y: Any, *, bandwidth: float | Sequence[float] | None = None, num_permutations: int = 500, key: Array
) -> TwoSample:
    """Return the unbiased squared maximum mean discrepancy of two samples, and its p-value by permutation.

        MMD² = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) − 2 mean_{i,j} k(x_i, y_j)
        k(a, b) = mean_σ exp(−|a − b|² / 2σ²)

    It may be negative; its expectation is 0 where both distributions are the same, and only there. The p-value is exact
    at any number of rows: under the null the rows could have been labelled in any way. The kernel is computed once and
    block by block; all permutations of the labels are one product with it.

    Args:
        x: one sample, [N, *event].
        y: the other, [M, *event].
        bandwidth: σ in the data's unit, or several; by default the median distance of the rows of both (of 1,000 of
            them at random where there are more).
        num_permutations: B; the p-value is at least 1 / (1 + B).
        key: a `jax.random.key`.

    Raises ValueError where events differ in shape, a sample has fewer than 2 rows, numbers are not finite, all rows are
    the same, or the median distance is 0 and no bandwidth is given.

    References: A Kernel Two-Sample Test (Gretton, Borgwardt, Rasch, Schölkopf, Smola 2012), JMLR 13.

    >>> import jax
    >>> x, y = jax.random.normal(jax.random.key(0), (2, 100, 3))
    >>> print(mmd_test(x, y + 1.0, key=jax.random.key(1)))
    MMD² = 0.2436, p = 0.002 ± 0.002 (100 and 100 rows, 500 permutations)
    """
    check_sizes(num_permutations=num_permutations)
    scale, (x, y) = as_rows(fewest=2, x=x, y=y)
    median_key, key = split_key(key, (2,))
    if bandwidth is None:
        widths = jnp.array([_median_distance(median_key, jnp.concatenate([x, y]))])
    else:
        given = np.ravel(np.asarray(as_numbers("bandwidth", bandwidth), float))
        if not len(given):
            raise ValueError("bandwidth: expected a number or several, got none")
        for width in given:
            check_positive(bandwidth=float(width))
        widths = jnp.asarray(given / scale, x.dtype)
    n, m = len(x), len(y)
    statistics, rounding = _permuted(_gaussian, widths, x, y, (n * (n - 1), m * (m - 1)), num_permutations, key)
    return _tested("MMD²", statistics, rounding, (n, m))


def energy_test(x: Any, y: Any, *, num_permutations: int = 500, key: Array) -> TwoSample:
    """Return the energy distance of two samples, in the data's unit, and its p-value by permutation.

        E = 2/NM Σ_{i,j} |x_i − y_j| − 1/N² Σ_{i,j} |x_i − x_j| − 1/M² Σ_{i,j} |y_i − y_j|

    It is at least 0, has no bandwidth to choose, and is what MMD² is with the kernel −|a − b|. Of single numbers its
    root is what SciPy calls `energy_distance`. The p-value is exact, as that of `mmd_test`. Scale columns of different
    units first.

    Args:
        x: one sample, [N, *event].
        y: the other, [M, *event].
        num_permutations: B; the p-value is at least 1 / (1 + B).
        key: a `jax.random.key`.

    Raises ValueError where events differ in shape, a sample has fewer than 2 rows, numbers are not finite, or all rows
    are the same.

    References: Energy statistics: A class of statistics based on distances (Székely, Rizzo 2013), Journal of
    Statistical Planning and Inference 143.

    >>> import jax
    >>> x, y = jax.random.normal(jax.random.key(0), (2, 100, 3))
    >>> bool(energy_test(x, y, key=jax.random.key(1)).p_value > 0.05)
    True
    """
    check_sizes(num_permutations=num_permutations)
    check_key(key)
    scale, (x, y) = as_rows(fewest=2, x=x, y=y)
    n, m = len(x), len(y)
    statistics, rounding = _permuted(_minus_distance, jnp.ones(1), x, y, (n**2, m**2), num_permutations, key)
    # of equal samples what is left is rounding
    return _tested("energy distance", scale * np.maximum(statistics, 0.0), scale * rounding, (n, m))


@partial(jax.jit, static_argnums=(1, 2, 3))
def permuted_labels(key: Array, count: int, first: int, num_permutations: int) -> Array:
    """Return booleans [1 + B, count] of which `first` are True: the first ones, and then any.

    Those are True whose random bits are the least, for a sort of bits alone is ten times as fast as `permutation`.

    Args:
        key: a `jax.random.key`.
        count: how many rows there are.
        first: how many are of the first sample.
        num_permutations: B.
    """

    def permuted(key: Array) -> Array:
        bits = jax.random.bits(key, (count,))
        return bits < jnp.sort(bits)[first]

    as_they_are = jnp.arange(count) < first
    return jnp.vstack([as_they_are, lax.map(permuted, split_key(key, (num_permutations,)))])


def permutation_p_value(statistics: np.ndarray, rounding: float = 0.0) -> float:
    """Return (1 + #{b : T_b ≥ T_0}) / (1 + B) of T_0, the statistic, and T_1 … T_B, of permuted labels.

    Args:
        statistics: [1 + B].
        rounding: by how much ties may differ.
    """
    return float((statistics >= statistics[0] - rounding).mean())


def _tested(name: str, statistics: np.ndarray, rounding: float, rows: tuple[int, int]) -> TwoSample:
    p_value = permutation_p_value(statistics, rounding)
    return TwoSample(float(statistics[0]), p_value, name, rows, len(statistics) - 1)


_Kernel = Callable[[Array, Array], Array]  # of squared distances and bandwidths


def _gaussian(squared: Array, widths: Array) -> Array:
    return jnp.mean(jnp.exp(-squared[..., None] / (2 * widths**2)), -1)


def _minus_distance(squared: Array, widths: Array) -> Array:
    return -jnp.sqrt(squared)


def _permuted(
    kernel: _Kernel, widths: Array, x: Array, y: Array, pairs: tuple[int, int], num_permutations: int, key: Array
) -> tuple[np.ndarray, float]:
    """Return the statistic of the labels as they are and of B permutations, [1 + B], and its rounding error.

    With s_i = 1 for rows of the first sample and 0 for others, sums of k over pairs are sᵀKs and sᵀK1. `pairs` is what
    the sums within each sample are divided by.
    """
    n, m = len(x), len(y)
    labels, sums, totals = _kernel_sums(kernel, widths, jnp.concatenate([x, y]), n, num_permutations, key)
    s, ks, k1 = (np.asarray(a, np.float64) for a in (labels, sums, totals))
    within, touching = np.einsum("ib,ib->b", s, ks), k1 @ s
    others = k1.sum() - 2 * touching + within
    statistics = within / pairs[0] + others / pairs[1] - 2 * (touching - within) / (n * m)
    return statistics, _ROUNDING * abs(k1.sum()) / (n + m) ** 2


@partial(jax.jit, static_argnums=(0, 3, 4))
def _kernel_sums(
    kernel: _Kernel, widths: Array, rows: Array, first: int, num_permutations: int, key: Array
) -> tuple[Array, Array, Array]:
    """Return the labels s [N, 1 + B], K s, and K 1 [N], for the kernel K of all rows without its diagonal."""
    labels = permuted_labels(key, len(rows), first, num_permutations).T.astype(rows.dtype)

    def of(i: Array) -> tuple[Array, Array]:
        k = kernel(squared_distances(rows[i], rows), widths).at[i].set(0.0)
        return jnp.matmul(k, labels, precision="highest"), k.sum()

    return labels, *lax.map(of, jnp.arange(len(rows)), batch_size=rows_of_a_block(rows))


def _median_distance(key: Array, rows: Array) -> Array:
    """Return the median distance of pairs of rows. It is drawn from both samples alike, whatever the labels."""
    median = _median_of_some(key, rows)
    if not median > 0:
        raise ValueError("bandwidth: expected a number, as half of the pairs of rows are equal and have no distance")
    return median


@jax.jit
def _median_of_some(key: Array, rows: Array) -> Array:
    some = jax.random.permutation(key, rows)[:_FOR_MEDIAN]
    distances = jnp.sqrt(jax.vmap(lambda row: squared_distances(row, some))(some))
    return jnp.median(distances[jnp.triu_indices(len(some), 1)])
