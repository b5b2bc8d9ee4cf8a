"""Whether a density integrates to 1: by the sum over all events, by quadrature, or by importance sampling."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist
from jax import Array

from probgen.core import check_distributions, check_positive, check_sizes, split_key
from probgen.distributions import ConditionalModel
from probgen.distributions.enumeration import are_few, events_of
from probgen.distributions.wrapped import kind_of
from probgen.evaluation.likelihood.quadrature import (
    Densities,
    Grid,
    fitted_to_integers,
    fitted_to_reals,
    free_numbers,
    unconstrained_draws,
)
from probgen.evaluation.posteriors.pareto import largest_k, pareto_k

_Z = 3.3  # of an interval: chance is beyond it once in a thousand
_TOLERANCE, _TOLERANCE_OF_DRAWS = 1e-3, 0.05
_POINTS = {1: 4096, 2: 512}  # in each number
_PARTICLES, _DRAWS, _FEWEST = 64, 100_000, 100
_SAME, _REPEATED = 1e-5, 100  # nats, and how often the largest weight was drawn


class Normalization(NamedTuple):
    """How much a density sums or integrates to, and what that says.

    Attributes:
        total: Σ p(x) or ∫ p(x) dx.
        low: of the interval that holds it.
        high: of the interval.
        tolerance: how far from 1 it may be.
        how: it was found, in words.
    """

    total: float
    low: float
    high: float
    tolerance: float
    how: str

    @property
    def passed(self) -> bool:
        """Whether the whole interval lies within the tolerance of 1."""
        return bool(self.low >= 1 - self.tolerance and self.high <= 1 + self.tolerance)

    @property
    def refuted(self) -> bool:
        """Whether all of the interval lies further from 1 than the tolerance."""
        return bool(self.high < 1 - self.tolerance or self.low > 1 + self.tolerance)

    def __str__(self) -> str:
        undecided = "not decided, the interval being too wide"
        said = "normalized" if self.passed else "not normalized" if self.refuted else undecided
        return (
            f"total ≈ {self.total:.5f} ({self.low:.5f} to {self.high:.5f}, {self.how}): {said}, "
            f"to within {self.tolerance:g}"
        )


def check_normalized(
    model: dist.Distribution,
    *,
    proposal: dist.Distribution | None = None,
    points: int | None = None,
    num_draws: int | None = None,
    num_particles: int | None = None,
    tolerance: float | None = None,
    key: Array | None = None,
) -> Normalization:
    """Return how much a density sums or integrates to, with an interval: `passed`, `refuted`, or not decided.

        Σ_x p(x)   or   ∫ p(x) dx   or   1/N Σ_n p(x_n) / q(x_n),   x_n ~ q

    A support of few integers is summed over. One or two real numbers are integrated by trapezoids in the coordinates of
    numpyro's `biject_to`, on a grid whose steps grow with the distance from the middle of some draws; its interval is
    how far the sums over every other point differ, what lies beyond its ends, and the part of the draws that lie in
    modes between the points. What is narrower than its steps and was not drawn, no grid sees. Anything else, and
    whatever has a `proposal`, is importance sampling, whose interval holds the truth 999 times in 1000; by default q is
    Student's t with the moments of draws, or for integers their frequencies mixed with uniform ones. Where Pareto's k̂
    is above its limit nothing is decided. What a proposal does not see, such as another mode, it cannot count.

    Of a density that is known by unbiased weights only, those are summed; of an estimate, the interval is as much wider
    as its tolerance says.

    Args:
        model: a distribution of batch shape (), ours or numpyro's; a conditional one at a context.
        proposal: q, over the model's events, with heavier tails than p.
        points: of the grid in each number, 4096 for one and 512 for two.
        num_draws: N, 100,000 by default, at least 1000.
        num_particles: weights of each event, where the density is known by weights, 64 by default.
        tolerance: how far from 1 the total may be: 0.001, or 0.05 by importance sampling.
        key: a `jax.random.key`; by default a fixed one.

    Raises ValueError where the model has batch axes, or a bound only; where its support is unknown, or of integers that
    have no end, and there is no proposal; and where an option would do nothing.

    References: the trapezoids in sinh, after Double Exponential Formulas for Numerical Integration (Takahasi, Mori
    1974), Publications of RIMS 9.

    >>> from probgen.mixtures import histogram
    >>> print(check_normalized(histogram((2,), 4)))
    total ≈ 1.00000 (1.00000 to 1.00000, the sum over 16 events): normalized, to within 0.001
    >>> check_normalized(dist.Cauchy(2.0, 0.1)).passed
    True
    """
    _check_model(model, proposal)
    _check_option("num_particles", num_particles, kind_of(model) == "weights", 2)
    few, free = are_few(model), free_numbers(model)
    by_draws = proposal is not None or not (few or free in _POINTS)
    _check_option("points", points, not (by_draws or few), 16)
    _check_option("num_draws", num_draws, by_draws, 1000)
    if tolerance is None:
        tolerance = _TOLERANCE_OF_DRAWS if by_draws else _TOLERANCE
    check_positive(tolerance=tolerance)
    values = Densities(model, _PARTICLES if num_particles is None else num_particles)
    key = jax.random.key(0) if key is None else key
    if by_draws:
        found = _by_draws(values, proposal, _DRAWS if num_draws is None else num_draws, key)
    elif few:
        found = _by_sum(values, key)
    else:
        found = _by_quadrature(values, _POINTS[free or 1] if points is None else points, key)
    total, error, how = found
    off = math.exp(getattr(model, "tolerance", 0.0))
    return Normalization(total, max(total - error, 0.0) / off, (total + error) * off, float(tolerance), how)


_Found = tuple[float, float, str]  # the total, how far it may be off, and how it was found


def _by_sum(values: Densities, key: Array) -> _Found:
    events = np.asarray(events_of(values.model))
    total = np.exp(values(key, events)).sum(1)
    return float(total.mean()), _error(total), f"the sum over {len(events)} events"


def _by_quadrature(values: Densities, points: int, key: Array) -> _Found:
    draw_key, key = split_key(key, (2,))
    draws = unconstrained_draws(values.model, draw_key)
    grid = Grid.around(draws, points)
    log_p = values.of_unconstrained(key, grid.points)
    cells = np.exp(log_p + grid.log_volume)
    missed = grid.missed(draws, _log_mean(values.of_unconstrained(key, draws)), _log_mean(log_p))
    error = grid.error(cells.mean(0)) + missed + _error(cells.sum(1))
    return float(cells.sum(1).mean()), error, f"quadrature, {cells.shape[1]} points"


def _by_draws(values: Densities, proposal: dist.Distribution | None, num_draws: int, key: Array) -> _Found:
    fit_key, draw_key, key = split_key(key, (3,))
    if proposal is None and not values.model.support.is_discrete:
        q = fitted_to_reals(values.model, fit_key)
        draws = q.sample(draw_key, (num_draws,))
        log_p = values.of_unconstrained(key, draws)
    else:
        q = fitted_to_integers(values.model, fit_key) if proposal is None else proposal
        draws = q.sample(draw_key, (num_draws,))
        log_p = values(key, draws)
    log_w = _log_mean(log_p) - np.asarray(q.log_prob(draws), np.float64)
    seen = np.isfinite(log_w)
    if seen.sum() < _FEWEST:
        raise ValueError(f"proposal: expected draws within the model's support, got {seen.sum()} of {num_draws}")
    k = _k_of_draws(np.where(seen, log_w, log_w[seen].min()))
    weights, how = np.exp(log_w), f"{num_draws} draws of a proposal, k̂ = {k:.2f}"
    return float(weights.mean()), _error(weights) if k < largest_k(num_draws) else math.inf, how


def _k_of_draws(log_weights: np.ndarray) -> float:
    """Return k̂; −∞ where the largest weights are one, as those of integers may be."""
    if np.sum(log_weights > log_weights.max() - _SAME) >= _REPEATED:
        return -math.inf
    return float(pareto_k(log_weights))


def _log_mean(log_p: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(log_p, 0) - math.log(len(log_p))


def _error(values: np.ndarray) -> float:
    """Return how far the mean of independent values may be off, where there are several."""
    return _Z * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _check_model(model: Any, proposal: Any) -> None:
    if isinstance(model, ConditionalModel):
        raise ValueError("model: expected a distribution, got a ConditionalModel: call it with one context")
    check_distributions("a flow", model=model)
    if model.batch_shape:
        raise ValueError(f"model: expected batch shape (), got {model.batch_shape}; use .to_event()")
    if kind_of(model) == "bound":
        raise ValueError(f"model: {type(model).__name__} has only a bound, which is below a density: see check_bound")
    if model.support is None:
        raise ValueError(f"model: expected a known support, got a {type(model).__name__} without one")
    if proposal is None:
        return
    check_distributions("a Student's t", proposal=proposal)
    if proposal.batch_shape or proposal.event_shape != model.event_shape:
        raise ValueError(
            f"proposal: expected batch shape () and event shape {model.event_shape}, got {proposal.batch_shape} and "
            f"{proposal.event_shape}"
        )
    if kind_of(proposal) != "exact" or proposal.support.is_discrete != model.support.is_discrete:
        raise ValueError("proposal: expected an exact density over events like the model's, integers or real numbers")


def _check_option(name: str, value: Any, serves: bool, least: int) -> None:
    """Raise ValueError for an option that would do nothing, or a number that is too small."""
    if value is None:
        return
    if not serves:
        raise ValueError(f"{name}: it would do nothing for this model, whose total is found in another way")
    check_sizes(least, **{name: value})
