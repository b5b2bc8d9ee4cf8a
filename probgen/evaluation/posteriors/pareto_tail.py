"""The largest of importance weights, replaced by quantiles of the generalized Pareto distribution that fits them.

After Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao, Gabry 2024), arXiv:1507.02646, and A New and
Efficient Estimation Method for the Generalized Pareto Distribution (Zhang, Stephens 2009), Technometrics 51.
"""

import math

import numpy as np

_FEWEST = 5  # of a tail that is fitted
_PRIOR_SHAPE, _PRIOR_SCALE = 10, 3  # of k, worth ten weights at ½; of θ, in upper quartiles


def smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log weights [..., K] with their tails smoothed, and k̂ [...]; ∞ where there is no tail to fit."""
    rows = np.asarray(log_weights, np.float64)
    found = [_smoothed_row(row) for row in rows.reshape(-1, rows.shape[-1])]
    smooth, k = np.stack([row for row, _ in found]), np.array([k for _, k in found])
    return smooth.reshape(rows.shape), k.reshape(rows.shape[:-1])


def _smoothed_row(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    count, top = len(log_weights), log_weights.max()
    size = math.ceil(min(count / 5, 3 * math.sqrt(count)))
    order = np.argsort(log_weights)
    cut = max(log_weights[order[-size - 1]] - top, math.log(np.finfo(float).tiny))
    tail = order[-size:][log_weights[order[-size:]] - top > cut]  # without what ties with the cut
    if len(tail) < _FEWEST:
        return log_weights, math.inf
    k, scale = _fitted(np.exp(log_weights[tail] - top) - math.exp(cut))
    if not math.isfinite(k):
        return log_weights, math.inf
    middles = (np.arange(len(tail)) + 0.5) / len(tail)
    beyond = -np.log1p(-middles) if abs(k) < 1e-12 else np.expm1(-k * np.log1p(-middles)) / k
    smooth = log_weights.copy()
    smooth[tail] = top + np.minimum(np.log(math.exp(cut) + scale * beyond), 0.0)
    return smooth, k


def _fitted(x: np.ndarray) -> tuple[float, float]:
    """Return (k, σ) of numbers x > 0 that rise: the posterior mean of θ = −k/σ, on a grid of its quasi-prior."""
    count = len(x)
    size = 30 + int(math.sqrt(count))
    quartile = x[int(count / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - np.sqrt(size / (np.arange(size) + 0.5))) / (_PRIOR_SCALE * quartile)
    with np.errstate(invalid="ignore", divide="ignore"):
        shape = np.log1p(-theta[:, None] * x).mean(1)
        log_likelihood = count * (np.log(-theta / shape) - shape - 1)
        weights = np.exp(log_likelihood - np.logaddexp.reduce(log_likelihood))
    mean = np.sum(theta * weights)
    k = float(np.log1p(-mean * x).mean())
    return (count * k + _PRIOR_SHAPE / 2) / (count + _PRIOR_SHAPE), -k / mean
