"""Disentanglement: whether each known factor of the data is in one number of a code, and each number has one factor."""

from typing import Any, NamedTuple

import numpy as np

from probgen.core import as_numbers, check_sizes

_SWEEPS, _CLOSE = 1000, 1e-10  # of coordinate descent


_LEAST = 2  # rows of each value of a factor, in the mean


class Gaps(NamedTuple):
    """What `mig` found; `str` prints it.

    Attributes:
        score: the mean gap over factors, from 0 to 1.
        of_factors: the gap of each factor, [K].
        information: I(z_j; v_k) in nats, [D, K].
        entropies: H(v_k) in nats, [K].
    """

    score: float
    of_factors: np.ndarray
    information: np.ndarray
    entropies: np.ndarray

    def __str__(self) -> str:
        return f"MIG ≈ {self.score:.3f} (factors {', '.join(f'{gap:.3f}' for gap in self.of_factors)})"


def mig(codes: Any, factors: Any, *, bins: int = 20) -> Gaps:
    """Return the mutual information gap: how much more the best number of a code says of a factor than the second best,
    as a share of what there is to say.

        MIG = 1/K Σ_k (I(z_(1); v_k) − I(z_(2); v_k)) / H(v_k)

    Information is that of histograms, with `bins` of equal width for each number of the code. With few rows that is too
    large, by about (bins − 1)(values − 1) / 2N nats.

    Args:
        codes: z, [N, D] with D of at least 2, such as means of the posterior.
        factors: v, [N, K], integers or few different numbers, by which the data were made.
        bins: of equal width between the least and the largest.

    Raises ValueError where they are no such arrays, a factor is constant or has more values than half as many as there
    are rows, or some numbers are not finite.

    References: Isolating Sources of Disentanglement in Variational Autoencoders (Chen, Li, Grosse, Duvenaud 2018),
    arXiv:1802.04942; with histograms, Challenging Common Assumptions in the Unsupervised Learning of Disentangled
    Representations (Locatello et al. 2019), arXiv:1811.12359.

    >>> import numpy as np
    >>> factors = np.stack(np.meshgrid(range(4), range(5)), -1).reshape(-1, 2)
    >>> print(mig(-2.0 * factors, factors))
    MIG ≈ 1.000 (factors 1.000, 1.000)
    >>> print(mig(factors @ np.array([[1.0, 1.0], [1.0, 1.0]]), factors))  # both say the same
    MIG ≈ 0.000 (factors 0.000, 0.000)
    """
    check_sizes(2, bins=bins)
    z, v = _as_codes_and_factors(codes, factors)
    if z.shape[1] < 2:
        raise ValueError("codes: expected at least 2 numbers, between which there may be a gap, got 1")
    binned = [np.digitize(column, np.histogram_bin_edges(column, bins)[1:-1]) for column in z.T]
    values = [np.unique(column, return_inverse=True)[1] for column in v.T]
    if many := [k for k, column in enumerate(values) if _LEAST * (column.max() + 1) > len(column)]:
        count = values[many[0]].max() + 1
        raise ValueError(
            f"factors: expected few values of each, got {count} of factor {many[0]} in {len(v)} rows: bin it"
        )
    information = np.array([[_information(a, b) for b in values] for a in binned])
    entropies = np.array([_information(b, b) for b in values])
    second, first = np.sort(information, 0)[-2:]
    gaps = (first - second) / entropies
    return Gaps(float(gaps.mean()), gaps, information, entropies)


def _information(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mutual information of two columns of small integers, in nats."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1 / len(a))
    independent = table.sum(1, keepdims=True) * table.sum(0)
    some = table > 0
    return float((table[some] * np.log(table[some] / independent[some])).sum())


class Disentanglement(NamedTuple):
    """What `dci` found; `str` prints it.

    Attributes:
        disentanglement: from 0 to 1: whether a number of the code is about one factor alone.
        completeness: from 0 to 1: whether a factor is in one number alone.
        informativeness: R² of held-out rows, the mean over factors.
        importance: R_jk, how much number j counts for factor k, [D, K].
        of_codes: the disentanglement of each number, [D]; 0 of one that counts for nothing.
        of_factors: the completeness of each factor, [K]; 0 of one for which nothing counts.
        r_squared: of each factor, [K].
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    of_codes: np.ndarray
    of_factors: np.ndarray
    r_squared: np.ndarray

    def __str__(self) -> str:
        return (
            f"disentanglement ≈ {self.disentanglement:.3f}, completeness ≈ {self.completeness:.3f}, "
            f"informativeness ≈ {self.informativeness:.3f} (R² of held-out rows)"
        )


def dci(codes: Any, factors: Any, *, penalty: float = 0.01, held_out: float = 0.25) -> Disentanglement:
    """Return disentanglement, completeness and informativeness, by a lasso from codes to each factor.

        w_k = argmin 1/2N Σ_n (v_nk − w·z_n)² + λ |w|₁,   R_jk = |w_jk|
        D = Σ_j ρ_j (1 − H_K(R_j· / Σ_k R_jk)),   ρ_j = Σ_k R_jk / Σ_jk R_jk
        C = 1/K Σ_k (1 − H_D(R_·k / Σ_j R_jk))

    H_K is the entropy to the base K. Codes and factors are standardized. A lasso is what the paper uses beside random
    forests: it sees what is linear in the code, and factors have to be numbers in order.

    Args:
        codes: z, [N, D] with D of at least 2, such as means of the posterior.
        factors: v, [N, K] with K of at least 2, by which the data were made.
        penalty: λ.
        held_out: the share of the rows, the last ones, of which R² is taken; the rows should be in no order.

    Raises ValueError where they are no such arrays, a factor is constant, some numbers are not finite, or an option is
    out of its range.

    References: A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood, Williams 2018),
    International Conference on Learning Representations.

    >>> import numpy as np
    >>> factors = np.random.RandomState(0).standard_normal((400, 2))
    >>> print(dci(factors[:, ::-1], factors))
    disentanglement ≈ 1.000, completeness ≈ 1.000, informativeness ≈ 1.000 (R² of held-out rows)
    >>> print(dci(factors @ np.array([[1.0, 1.0], [1.0, -1.0]]), factors).disentanglement < 0.05)  # turned by 45°
    True
    """
    if not 0 < held_out < 1 or not penalty > 0:
        raise ValueError(
            f"{'penalty' if 0 < held_out < 1 else 'held_out'}: expected a positive λ and a share between 0 and 1, got "
            f"{penalty!r} and {held_out!r}"
        )
    z, v = _as_codes_and_factors(codes, factors)
    if min(z.shape[1], v.shape[1]) < 2:
        raise ValueError(f"codes and factors: expected at least 2 of each, got {z.shape[1]} and {v.shape[1]}")
    first = len(z) - max(1, int(held_out * len(z)))
    weights, r_squared = _lasso_of_all(z, v, first, penalty)
    importance = np.abs(weights)
    of_codes, of_factors = _focus(importance), _focus(importance.T)
    total = importance.sum()
    share = importance.sum(1) / total if total > 0 else np.zeros(len(importance))
    return Disentanglement(
        float(share @ of_codes), float(of_factors.mean()), float(r_squared.mean()), importance, of_codes, of_factors,
        r_squared,
    )  # fmt: skip


def _lasso_of_all(z: np.ndarray, v: np.ndarray, first: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights [D, K] from standardized codes to standardized factors, fitted to the first rows, and R² of
    the others [K]."""
    middle = lambda x: (x[:first].mean(0), np.where(x[:first].std(0) > 0, x[:first].std(0), 1.0))
    (z_mean, z_scale), (v_mean, v_scale) = middle(z), middle(v)
    z, v = (z - z_mean) / z_scale, (v - v_mean) / v_scale
    gram, moments = z[:first].T @ z[:first] / first, z[:first].T @ v[:first] / first
    weights = np.stack([_lasso(gram, moment, penalty) for moment in moments.T], 1)
    left, held = ((v - z @ weights)[first:] ** 2).sum(0), ((v[first:] - v[first:].mean(0)) ** 2).sum(0)
    if (same := np.ptp(v[first:], axis=0) == 0).any():
        raise ValueError(
            f"held_out: expected values that differ in the last {len(v) - first} rows, got one of {same.argmax()}"
        )
    return weights, 1 - left / held


def _lasso(gram: np.ndarray, moments: np.ndarray, penalty: float) -> np.ndarray:
    """Return argmin ½ wᵀ G w − mᵀ w + λ |w|₁ by coordinate descent."""
    weights, slopes = np.zeros(len(moments)), moments.copy()
    for _ in range(_SWEEPS):
        largest = 0.0
        for j, scale in enumerate(gram.diagonal()):
            if scale > 0:
                pull = slopes[j] + scale * weights[j]
                moved = np.sign(pull) * max(abs(pull) - penalty, 0.0) / scale - weights[j]
                weights[j] += moved
                slopes -= moved * gram[j]
                largest = max(largest, abs(moved))
        if largest < _CLOSE:
            break
    return weights


def _focus(importance: np.ndarray) -> np.ndarray:
    """Return 1 − the entropy of each row's shares, to the base of their number; 0 of a row of zeros."""
    from scipy.special import xlogy

    total = importance.sum(1, keepdims=True)
    shares = importance / np.where(total > 0, total, 1.0)
    return np.where(total[:, 0] > 0, 1 + xlogy(shares, shares).sum(1) / np.log(importance.shape[1]), 0.0)


def _as_codes_and_factors(codes: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
    z, v = np.asarray(as_numbers("codes", codes), float), np.asarray(as_numbers("factors", factors), float)
    for name, x in (("codes", z), ("factors", v)):
        if x.ndim != 2 or len(x) < 4 or not x.size:
            raise ValueError(f"{name}: expected [N, {'D' if x is z else 'K'}] of at least 4 rows, got shape {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    if len(z) != len(v):
        raise ValueError(f"factors: expected {len(z)} rows, as codes has, got {len(v)}")
    if (same := np.ptp(v, axis=0) == 0).any():
        raise ValueError(f"factors: expected values that differ, got one value of factor {same.argmax()}")
    return z, v
