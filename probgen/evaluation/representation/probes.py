"""Probes: how well simple predictors read something off codes, on rows that they were not fitted to."""

import math
from typing import Any, NamedTuple

import numpy as np

from probgen.core import as_numbers, check_not_negative, check_sizes

_BLOCK = 1 << 22  # distances that are held together


class Probe(NamedTuple):
    """How well a probe predicts held-out targets; `str` prints it.

    Attributes:
        score: the accuracy of labels, or R² of numbers.
        se: its standard error over the held-out rows.
        chance: the accuracy of always saying the most frequent label of the rows it was fitted to; 0 of numbers.
        measure: "accuracy" or "R²".
        rows: of the held-out ones.
    """

    score: float
    se: float
    chance: float
    measure: str
    rows: int

    def __str__(self) -> str:
        chance = f", {self.chance:.4f} by the most frequent label" if self.measure == "accuracy" else ""
        return f"{self.measure} ≈ {self.score:.4f} ± {self.se:.4f} ({self.rows} held-out rows{chance})"


def linear_probe(fitted: Any, held_out: Any, *, penalty: float = 1e-3) -> Probe:
    """Return how well a linear function of codes predicts held-out targets.

        labels: softmax regression, min 1/N Σ_n −log p(y_n | W z_n + b) + λ/2 |W|²
        numbers: ridge regression,  min 1/N Σ_n ½ (y_n − w·z_n − b)² + λ/2 |w|²

    Codes, and numbers to predict, are standardized by the rows that it is fitted to.

    Args:
        fitted: (codes [N, ...], targets [N]): integers are labels, floating-point numbers are numbers.
        held_out: (codes [M, ...], targets [M]), of other rows.
        penalty: λ.

    Raises ValueError where codes and targets do not fit, where the targets are constant, where codes are not finite, or
    λ is negative.

    References: Understanding Intermediate Layers Using Linear Classifier Probes (Alain, Bengio 2016), arXiv:1610.01644.

    >>> import numpy as np
    >>> z = np.random.RandomState(0).standard_normal((400, 3))
    >>> numbers = z @ [1.0, -2.0, 0.0]
    >>> print(linear_probe((z[:200], numbers[:200]), (z[200:], numbers[200:]), penalty=0.0))
    R² ≈ 1.0000 ± 0.0000 (200 held-out rows)
    >>> labels = (numbers > 0).astype(int)
    >>> linear_probe((z[:200], labels[:200]), (z[200:], labels[200:])).score > 0.95
    True
    """
    check_not_negative(penalty=penalty)
    (codes, targets), (others, truth) = _as_rows(fitted, held_out)
    mean, scale = codes.mean(0), codes.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    z, new = (codes - mean) / scale, (others - mean) / scale
    if targets.dtype.kind == "i":
        labels, numbers = np.unique(targets, return_inverse=True)
        weight = _softmax_regression(z, numbers, len(labels), penalty)
        return _accuracy(labels[(new @ weight[:-1] + weight[-1]).argmax(1)], truth, targets)
    y = targets - targets.mean()
    weight = np.linalg.lstsq(
        np.concatenate([z, math.sqrt(penalty * len(z)) * np.eye(z.shape[1])]),
        np.concatenate([y, np.zeros(z.shape[1])]),
        rcond=None,
    )[0]
    return _r_squared(new @ weight + targets.mean(), truth)


def _softmax_regression(z: np.ndarray, labels: np.ndarray, count: int, penalty: float) -> np.ndarray:
    """Return weights, and biases in the last row, [D + 1, labels]."""
    from scipy import optimize, special

    rows = np.concatenate([z, np.ones((len(z), 1))], 1)
    truth = np.eye(count)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(-1, count)
        held = np.concatenate([weight[:-1], np.zeros((1, count))])
        logits = special.log_softmax(rows @ weight, axis=1)
        slope = rows.T @ (np.exp(logits) - truth) / len(z) + penalty * held
        return -(truth * logits).sum() / len(z) + 0.5 * penalty * (held**2).sum(), slope.ravel()

    start = np.zeros(rows.shape[1] * count)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    return np.asarray(found.x).reshape(-1, count)


def neighbour_probe(fitted: Any, held_out: Any, *, neighbours: int = 5) -> Probe:
    """Return how well the nearest codes predict held-out targets: by the most frequent label among them, or by the mean
    of their numbers.

    Of equally frequent labels that of the nearest counts. Distances are Euclidean in the codes as they are: how they
    are scaled is part of what is measured.

    Args:
        fitted: (codes [N, ...], targets [N]): integers are labels, floating-point numbers are numbers.
        held_out: (codes [M, ...], targets [M]), of other rows.
        neighbours: how many are asked, at most N.

    Raises ValueError where codes and targets do not fit, where the targets are constant, where codes are not finite, or
    where there are fewer rows than neighbours.

    References: Nearest Neighbor Pattern Classification (Cover, Hart 1967), IEEE Transactions on Information Theory 13.

    >>> import numpy as np
    >>> z = np.random.RandomState(0).standard_normal((400, 2))
    >>> ring = (np.linalg.norm(z, axis=1) > 1.2).astype(int)  # which no linear function knows
    >>> neighbour_probe((z[:200], ring[:200]), (z[200:], ring[200:])).score > 0.9
    True
    """
    check_sizes(neighbours=neighbours)
    (codes, targets), (others, truth) = _as_rows(fitted, held_out)
    if neighbours > len(codes):
        raise ValueError(f"neighbours: expected at most {len(codes)}, the fitted rows, got {neighbours}")
    size = max(1, _BLOCK // len(codes))
    blocks = [_nearest(codes, others[start : start + size], neighbours) for start in range(0, len(others), size)]
    nearest = np.concatenate(blocks)
    if targets.dtype.kind != "i":
        return _r_squared(targets[nearest].mean(1), truth)
    labels, numbers = np.unique(targets, return_inverse=True)
    votes = (numbers[nearest][..., None] == np.arange(len(labels))).astype(float)
    votes[:, 0] *= 1.5  # of two equal counts that of the nearest
    return _accuracy(labels[votes.sum(1).argmax(1)], truth, targets)


def _nearest(codes: np.ndarray, others: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of the nearest codes of each of the others, the nearest first, [M, count]."""
    middle = codes.mean(0)
    codes, others = codes - middle, others - middle
    squares = (codes**2).sum(1) - 2 * others @ codes.T
    near = np.argpartition(squares, count - 1, 1)[:, :count]
    order = np.argsort(np.take_along_axis(squares, near, 1), 1, kind="stable")
    return np.take_along_axis(near, order, 1)


def _accuracy(predicted: np.ndarray, truth: np.ndarray, fitted: np.ndarray) -> Probe:
    right = float((predicted == truth).mean())
    labels, counts = np.unique(fitted, return_counts=True)
    chance = float((truth == labels[counts.argmax()]).mean())
    return Probe(right, math.sqrt(right * (1 - right) / len(truth)), chance, "accuracy", len(truth))


def _r_squared(predicted: np.ndarray, truth: np.ndarray) -> Probe:
    """Return 1 − Σ e² / Σ t², with its standard error as a ratio of means."""
    error, total = (truth - predicted) ** 2, (truth - truth.mean()) ** 2
    ratio = error.mean() / total.mean()
    se = (error - ratio * total).std(ddof=1) / total.mean() / math.sqrt(len(truth))
    return Probe(float(1 - ratio), float(se), 0.0, "R²", len(truth))


def _as_rows(fitted: Any, held_out: Any) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    (codes, targets), (others, truth) = _as_pair("fitted", fitted), _as_pair("held_out", held_out)
    if codes.shape[1] != others.shape[1]:
        raise ValueError(f"held_out: expected codes of {codes.shape[1]} numbers as in fitted, got {others.shape[1]}")
    if targets.dtype != truth.dtype:
        raise ValueError("held_out: expected targets as in fitted, labels or numbers, got the other")
    if not np.ptp(targets) > 0:
        raise ValueError(f"fitted: expected targets that differ, got {targets[0]:g} in all rows")
    if truth.dtype.kind != "i" and not np.ptp(truth) > 0:
        raise ValueError(f"held_out: expected targets that differ, got {truth[0]:g} in all rows")
    return (codes, targets), (others, truth)


def _as_pair(name: str, pair: Any) -> tuple[np.ndarray, np.ndarray]:
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise ValueError(f"{name}: expected (codes, targets), got a {type(pair).__name__}")
    codes, targets = (np.asarray(as_numbers(name, x)) for x in pair)
    if targets.ndim != 1 or len(targets) < 2 or codes.shape[:1] != targets.shape or not codes.size:
        raise ValueError(
            f"{name}: expected codes [N, ...] and targets [N] of at least 2 rows, got shapes {codes.shape} and "
            f"{targets.shape}"
        )
    codes = codes.reshape(len(codes), -1).astype(np.float64)
    targets = targets.astype(np.int64 if targets.dtype.kind in "biu" else np.float64)
    if not np.isfinite(codes).all() or not np.isfinite(targets).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return codes, targets
