"""How far importance weights can be trusted: Pareto k̂, and the evidence with its tail smoothed."""

import math
from typing import Any

import numpy as np

from probgen.evaluation.posteriors.pareto_tail import smoothed

_FEWEST = 25  # of which the largest fifth are a tail of five
_SAME = 1e-3  # nats: an exact posterior's weights differ by rounding, of which there is no tail to fit


def pareto_k(log_weights: Any) -> np.ndarray:
    """Return k̂ of each row: the shape of a generalized Pareto distribution fitted to the largest weights.

        P(w > u + t | w > u) ≈ (1 + k t / σ)^(−1/k)

    Weights have 1/k finite moments. Where k̂ is above min(1 − 1/log₁₀ K, 0.7), the mean of the weights is not to be
    trusted: the posterior that they were drawn from is too narrow somewhere. It is −∞ where all weights are the same
    to a thousandth, and ∞ where there is no tail to fit since the largest are too few.

    Args:
        log_weights: log w, [K, ...], in nats, such as `model.log_weights(key, x, K)`; at least 25, and better some
            hundreds.

    Raises ValueError where there are fewer or some are not finite.

    References: Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao, Gabry 2024), arXiv:1507.02646;
    as a judge of variational inference, Yes, but Did It Work? (Yao, Vehtari, Simpson, Gelman 2018), arXiv:1802.02538.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> proposals, prior = dist.Normal(0.0, jnp.array([1.2, 0.1])), dist.Normal(0.0, 1.0)
    >>> z = proposals.sample(jax.random.key(0), (10_000,))
    >>> pareto_k(prior.log_prob(z) - proposals.log_prob(z)) > 0.7
    array([False,  True])
    """
    return smoothed_weights(log_weights)[2]


def smoothed_evidence(log_weights: Any) -> np.ndarray:
    """Return log 1/K Σ w of each row with its largest weights replaced by quantiles of the Pareto distribution fitted
    to them.

    Less noisy than the plain mean, and no longer a bound: see `pareto_k` for where it can be trusted.

    Args:
        log_weights: log w, [K, ...], in nats, as for `pareto_k`.

    Raises ValueError as `pareto_k`.

    References: as `pareto_k`.

    >>> import numpy as np
    >>> smoothed_evidence(np.full((100, 2), -3.0))
    array([-3., -3.])
    """
    return smoothed_weights(log_weights)[1]


def largest_k(count: int) -> float:
    """Return what k̂ of so many weights may be, min(1 − 1/log₁₀ K, 0.7), for their mean to be trusted."""
    return min(1 - 1 / math.log10(count), 0.7)


def smoothed_weights(log_weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the log weights with their tails smoothed, [..., K], the smoothed evidence and k̂, [...]."""
    raw = np.moveaxis(np.asarray(log_weights, np.float64), 0, -1) if np.ndim(log_weights) else np.zeros(0)
    count = raw.shape[-1]
    if count < _FEWEST:
        raise ValueError(f"log_weights: expected at least {_FEWEST} particles on axis 0, got {count}")
    if not np.isfinite(raw).all():
        raise ValueError("log_weights: expected finite numbers, got NaN or infinity")
    smooth, k = smoothed(raw)
    return smooth, np.logaddexp.reduce(smooth, -1) - np.log(count), np.where(np.ptp(raw, -1) < _SAME, -np.inf, k)
