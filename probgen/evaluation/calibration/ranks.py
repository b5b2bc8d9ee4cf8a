"""Whether posteriors mean what they say: simulation-based calibration."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpy.typing import ArrayLike

from probgen.core import as_numbers, check_distributions, check_functions, check_sizes, in_words, split_key
from probgen.inference.simulation import Simulator, simulate

Quantities = Callable[[Array, Array], Array]


class Uniformity(NamedTuple):
    """Tests of D columns of ranks, each [D]; `str` prints them.

    Attributes:
        chi_square: χ² over the bins.
        p_chi_square: the probability of as much, or more, where the posterior is calibrated.
        ks: the Kolmogorov–Smirnov distance.
        p_ks: the same probability, of that.
        bins: how many there are.
    """

    chi_square: np.ndarray
    p_chi_square: np.ndarray
    ks: np.ndarray
    p_ks: np.ndarray
    bins: int

    def __str__(self) -> str:
        rows = zip(self.chi_square, self.p_chi_square, self.ks, self.p_ks, strict=True)
        return "\n".join(
            f"{d}: χ² = {chi:.1f} over {self.bins} bins (p = {p:.3g}), KS = {ks:.3f} (p = {q:.3g})"
            for d, (chi, p, ks, q) in enumerate(rows)
        )


def sbc_ranks(
    posterior: Callable[[Array], dist.Distribution],
    prior: dist.Distribution,
    simulator: Simulator,
    *,
    num_datasets: int = 500,
    num_draws: int = 99,
    quantities: Quantities | None = None,
    key: Array,
) -> Array:
    """Return where the truth stands among draws of the posterior of its own data, [N, D] integers: simulation-based
    calibration.

        θ* ~ prior,   x ~ simulator(θ*),   θ_1 … θ_L ~ q(θ | x),   rank_d = #{l : θ_l,d < θ*_d}

    With the exact posterior each rank is uniform on 0..L. Heaps at both ends are an overconfident posterior, a heap in
    the middle is one that is too wide, a slope is a bias. A posterior that ignores x and returns the prior passes too,
    unless `quantities` depend on x, such as the log-likelihood.

    Args:
        posterior: data [N, *context] → a distribution of batch shape [N], such as `npe` returns.
        prior: as for `npe`.
        simulator: as for `npe`.
        num_datasets: N.
        num_draws: L.
        quantities: `(theta, x) -> [D]`, whose ranks are taken instead of those of θ itself.
        key: a `jax.random.key`.

    Raises ValueError where the posterior's shape is not the prior's, or simulations or draws are not finite.

    References: Validating Bayesian Inference Algorithms with Simulation-Based Calibration (Talts, Betancourt, Simpson,
    Vehtari, Gelman 2018), arXiv:1804.06788; on quantities of the data: Simulation-Based Calibration Checking for
    Bayesian Computation (Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman, Vehtari 2022), arXiv:2211.02383.

    >>> import jax
    >>> prior = dist.Normal(0.0, 1.0)  # θ | x ~ Normal(x / 2, √½)
    >>> simulator = lambda key, theta: theta + jax.random.normal(key)
    >>> ranks = sbc_ranks(lambda x: dist.Normal(x / 2, 0.5**0.5), prior, simulator, key=jax.random.key(0))
    >>> ranks.shape, bool(rank_uniformity(ranks, 99).p_ks[0] > 0.01)
    ((500, 1), True)
    """
    theta, x, _, draws = draws_beside_truths(posterior, prior, simulator, num_datasets, num_draws, key)
    of = (lambda theta, x: jnp.ravel(theta)) if quantities is None else quantities
    values = jax.vmap(of)
    truth = values(theta, x)
    return (jax.vmap(values, (0, None))(draws, x) < truth).sum(0)


def draws_beside_truths(
    posterior: Callable[[Array], dist.Distribution],
    prior: dist.Distribution,
    simulator: Simulator,
    num_datasets: int,
    num_draws: int,
    key: Array,
) -> tuple[Array, Array, dist.Distribution, Array]:
    """Return θ* [N, *event], data x [N, *context], the posterior q of all of them, and L draws of each, [L, N, *event].

    Raises ValueError as `sbc_ranks`.
    """
    check_sizes(num_datasets=num_datasets, num_draws=num_draws)
    check_distributions("a prior", prior=prior)
    check_functions("a distribution of θ", posterior=posterior)
    check_functions("data", simulator=simulator)
    simulation_key, draw_key = split_key(key, (2,))
    theta, x = simulate(simulator, prior, num_datasets, key=simulation_key)
    q = posterior(x)
    if not isinstance(q, dist.Distribution):
        raise ValueError(f"posterior: expected a function that returns a distribution, got one of {in_words(q)}")
    if q.batch_shape != (num_datasets,) or q.event_shape != prior.event_shape:
        raise ValueError(
            f"posterior: expected batch shape ({num_datasets},) and event shape {prior.event_shape} for as many data "
            f"sets, got {q.batch_shape} and {q.event_shape}"
        )
    draws = q.sample(draw_key, (num_draws,))
    lost = int((~jnp.isfinite(draws)).reshape(*draws.shape[:2], -1).any((0, 2)).sum())
    if lost:
        raise ValueError(f"posterior: the draws for {lost} of {num_datasets} data sets are not finite")
    return theta, x, q, draws


def rank_uniformity(ranks: ArrayLike, num_draws: int, *, bins: int = 20) -> Uniformity:
    """Test whether ranks are uniform on 0..L, by χ² over bins of as equal size as may be, and by Kolmogorov and
    Smirnov.

        χ² = Σ_b (n_b − e_b)² / e_b,   KS = max_r |F̂(r) − F(r)|

    The p-values are asymptotic; KS's is conservative, for ranks are discrete. D p-values are D chances of a small one.

    Args:
        ranks: integers, [N] or [N, D].
        num_draws: L.
        bins: at most L + 1, and at most N/5 are taken.

    Raises ValueError where ranks lie outside 0..L.

    >>> import numpy as np
    >>> print(rank_uniformity(np.arange(1000) % 100, 99))
    0: χ² = 0.0 over 20 bins (p = 1), KS = 0.000 (p = 1)
    """
    from scipy import stats

    check_sizes(num_draws=num_draws, bins=bins)
    array = np.asarray(as_numbers("ranks", ranks))
    if not array.ndim or not array.size:
        raise ValueError(f"ranks: expected [N] or [N, D] of at least one row, got shape {array.shape}")
    columns = array.reshape(len(array), -1)
    if not np.issubdtype(array.dtype, np.integer) or columns.min() < 0 or columns.max() > num_draws:
        raise ValueError(f"ranks: expected integers in 0..{num_draws}, got {array.dtype} up to {columns.max()}")
    bins = max(1, min(bins, num_draws + 1, len(columns) // 5))
    levels = np.arange(num_draws + 1)
    counts = np.stack([np.bincount(column, minlength=num_draws + 1) for column in columns.T])
    bin_of = levels * bins // (num_draws + 1)
    in_bins = np.stack([np.bincount(bin_of, weights=count, minlength=bins) for count in counts])
    expected = len(columns) * np.bincount(bin_of, minlength=bins) / (num_draws + 1)
    chi_square = ((in_bins - expected) ** 2 / expected).sum(1)
    ks = np.abs(counts.cumsum(1) / len(columns) - (levels + 1) / (num_draws + 1)).max(1)
    return Uniformity(
        chi_square,
        stats.chi2.sf(chi_square, max(bins - 1, 1)),
        ks,
        stats.kstwo.sf(ks, len(columns)),
        bins,
    )
