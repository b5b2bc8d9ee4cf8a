"""Whether the credible regions of amortized posteriors hold the truth as often as they say."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from probgen.core import split_key
from probgen.distributions.wrapped import kind_of
from probgen.evaluation.calibration.ranks import Uniformity, draws_beside_truths, rank_uniformity
from probgen.inference.simulation import Simulator

_SHOWN = (0.5, 0.8, 0.95)


class Coverage(NamedTuple):
    """How often regions of each credibility held the truth; `str` prints three of them and a test.

    Attributes:
        ranks: how many of L draws the region has to take in before it reaches the truth, [N] integers: uniform on 0..L
            where the posterior is calibrated, so that `probgen.plotting.rank_histogram` draws them.
        num_draws: L.
    """

    ranks: np.ndarray
    num_draws: int

    @property
    def nominal(self) -> np.ndarray:
        """The credibilities, j / (L + 1) for j = 0..L+1."""
        return np.arange(self.num_draws + 2) / (self.num_draws + 1)

    @property
    def found(self) -> np.ndarray:
        """The share of data sets whose truth lies within the region of each credibility, [L + 2]."""
        counts = np.bincount(self.ranks, minlength=self.num_draws + 1)
        return np.concatenate([[0.0], counts.cumsum() / len(self.ranks)])

    @property
    def uniformity(self) -> Uniformity:
        """The tests of the ranks, `rank_uniformity` of one column."""
        return rank_uniformity(self.ranks, self.num_draws)

    def __str__(self) -> str:
        lines = []
        for level in _SHOWN:
            share = float(np.interp(level, self.nominal, self.found))
            se = math.sqrt(share * (1 - share) / len(self.ranks))
            lines.append(f"{100 * level:g} % regions hold {100 * share:.1f} ± {100 * se:.1f} % of the truths")
        test = self.uniformity
        return "\n".join([*lines, f"KS = {test.ks[0]:.3f} (p = {test.p_ks[0]:.3g}, {len(self.ranks)} data sets)"])


def expected_coverage(
    posterior: Callable[[Array], dist.Distribution],
    prior: dist.Distribution,
    simulator: Simulator,
    *,
    num_datasets: int = 500,
    num_draws: int = 99,
    key: Array,
) -> Coverage:
    """Return how often the regions of highest posterior density hold the truth.

        θ* ~ prior,   x ~ simulator(θ*),   θ_1 … θ_L ~ q(θ | x),   rank = #{l : q(θ_l | x) > q(θ* | x)}

    The region of credibility j / (L + 1) holds θ* where rank < j. A posterior that is too narrow has found < nominal,
    one that is too wide has more; a θ* outside of its support is in no region but the whole. A posterior that ignores x
    and returns the prior passes. Ties are broken at random.

    Args:
        posterior: data [N, *context] → a distribution of batch shape [N], such as `npe` returns, with an exact density.
        prior: as for `npe`.
        simulator: as for `npe`.
        num_datasets: N.
        num_draws: L.
        key: a `jax.random.key`.

    Raises ValueError where the posterior's shape is not the prior's, its density is not exact, or simulations or draws
    are not finite, or densities NaN.

    References: A Trust Crisis In Simulation-Based Inference? Your Posterior Approximations Can Be Unfaithful (Hermans,
    Delaunoy, Rozet, Wehenkel, Begy, Louppe 2022), arXiv:2110.06581.

    >>> import jax
    >>> prior = dist.Normal(0.0, 1.0)  # θ | x ~ Normal(x / 2, √½)
    >>> simulator = lambda key, theta: theta + jax.random.normal(key)
    >>> narrow = lambda x: dist.Normal(x / 2, 0.5)
    >>> print(expected_coverage(narrow, prior, simulator, key=jax.random.key(0)))
    50 % regions hold 36.6 ± 2.2 % of the truths
    80 % regions hold 64.6 ± 2.1 % of the truths
    95 % regions hold 86.2 ± 1.5 % of the truths
    KS = 0.172 (p = 2.1e-13, 500 data sets)
    """
    draw_key, tie_key = split_key(key, (2,))
    theta, _, q, draws = draws_beside_truths(posterior, prior, simulator, num_datasets, num_draws, draw_key)
    if kind_of(q) != "exact":
        raise ValueError(
            f"posterior: expected an exact density, got one of kind {kind_of(q)!r}; `tarp` needs nothing but draws"
        )
    within = _within(q, theta)
    known = jnp.where(within.reshape(-1, *(1,) * len(prior.event_shape)), theta, draws[0])
    truth, others = jnp.where(within, q.log_prob(known), -jnp.inf), q.log_prob(draws)
    if lost := int((jnp.isnan(truth) | jnp.isnan(others).any(0)).sum()):
        raise ValueError(f"posterior: its log-density is NaN for {lost} of {num_datasets} data sets")
    return Coverage(np.asarray(_ranks(tie_key, -truth, -others)), num_draws)


def _within(q: dist.Distribution, theta: Array) -> Array:
    """Return which of θ [N, *event] lie within the support of the posterior, outside of which a density may be
    anything."""
    try:
        support: Any = q.support
    except (ValueError, NotImplementedError):  # it is not known
        return jnp.ones(len(theta), bool)
    return jnp.broadcast_to(support(theta), len(theta))


def tarp(
    posterior: Callable[[Array], dist.Distribution],
    prior: dist.Distribution,
    simulator: Simulator,
    *,
    reference: Callable[[Array, Array], Array] | None = None,
    num_datasets: int = 500,
    num_draws: int = 99,
    key: Array,
) -> Coverage:
    """Return how often balls about random points hold the truth, of posteriors that can only be drawn from (TARP).

        θ* ~ prior,   x ~ simulator(θ*),   θ_1 … θ_L ~ q(θ | x),   r ~ reference(x)
        rank = #{l : |θ_l − r| < |θ* − r|}

    The ball about r that has credibility j / (L + 1) holds θ* where rank < j. Distances are of numbers over their sd in
    the prior's draws. Where `reference` depends on x, all posteriors but the right one fail for some of them; where it
    does not, one that ignores x and returns the prior passes. `expected_coverage` needs fewer data sets.

    Args:
        posterior: data [N, *context] → a distribution of batch shape [N], such as `npe` returns.
        prior: as for `npe`.
        simulator: as for `npe`.
        reference: `(key, x [*context]) -> r [*event]`; by default a draw from the prior.
        num_datasets: N.
        num_draws: L.
        key: a `jax.random.key`.

    Raises ValueError where the posterior's or the reference's shape is not the prior's, or simulations, draws or
    references are not finite.

    References: Sampling-Based Accuracy Testing of Posterior Estimators for General Inference (Lemos, Coogan, Hezaveh,
    Perreault-Levasseur 2023), arXiv:2302.03026.

    >>> import jax
    >>> prior = dist.Normal(0.0, 1.0)  # θ | x ~ Normal(x / 2, √½)
    >>> simulator = lambda key, theta: theta + jax.random.normal(key)
    >>> biased = lambda x: dist.Normal(x / 2 + 0.5, 0.5**0.5)
    >>> print(tarp(biased, prior, simulator, key=jax.random.key(0)))
    50 % regions hold 55.4 ± 2.2 % of the truths
    80 % regions hold 79.8 ± 1.8 % of the truths
    95 % regions hold 95.4 ± 0.9 % of the truths
    KS = 0.118 (p = 1.6e-06, 500 data sets)
    """
    draw_key, reference_key, tie_key = split_key(key, (3,))
    theta, x, _, draws = draws_beside_truths(posterior, prior, simulator, num_datasets, num_draws, draw_key)
    if reference is None:
        points = prior.sample(reference_key, (num_datasets,))
    else:
        points = jax.vmap(reference)(split_key(reference_key, (num_datasets,)), x)
    if points.shape != theta.shape:
        raise ValueError(f"reference: expected a point of shape {prior.event_shape}, got {points.shape[1:]}")
    if not jnp.isfinite(points).all():
        raise ValueError("reference: expected finite points, got NaN or infinity")
    return Coverage(np.asarray(_ranks(tie_key, *_distances(points, theta, draws))), num_draws)


@jax.jit
def _distances(points: Array, theta: Array, draws: Array) -> tuple[Array, Array]:
    """Return the squared distances of the truths [N] and of the draws [L, N] to points [N, *event]."""
    sd = jnp.std(theta, 0)
    of = lambda x: ((x - points) / jnp.where(sd > 0, sd, 1.0)).reshape(*x.shape[: x.ndim - theta.ndim + 1], -1)
    return jnp.sum(of(theta) ** 2, -1), jnp.sum(of(draws) ** 2, -1)


@jax.jit
def _ranks(key: Array, truth: Array, draws: Array) -> Array:
    """Return how many of the draws' values [L, N] lie below the truth's [N], ties in random order."""
    ties = (draws == truth).sum(0)
    return (draws < truth).sum(0) + jax.random.randint(key, ties.shape, 0, ties + 1)
