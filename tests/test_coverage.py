"""The probability integral transform, expected coverage and TARP against closed forms, and their pictures."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from probgen import combine, partition
from probgen.autoregressive import made
from probgen.distributions import BetaBinomial, ConditionalModel, Transformed
from probgen.evaluation import Coverage, expected_coverage, pit, pit_uniformity, rank_uniformity, tarp
from probgen.flows import real_nvp
from probgen.latent import LatentVariableModel
from probgen.mixtures import categorical_mixture, gaussian_mixture
from probgen.plotting import coverage_curve, pit_histogram, rank_histogram

KEY = jax.random.key(0)
NORMAL = dist.Normal(jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0])).to_event(1)

# θ ~ Normal(0, 1), x | θ ~ Normal(θ, 1): θ | x ~ Normal(x / 2, √½)
COUNT = 4000  # of data sets
PRIOR, SD = dist.Normal(0.0, 1.0), 0.5**0.5


MIXTURE = gaussian_mixture(2, components=3, key=jax.random.key(3))
CATEGORIES = categorical_mixture((2,), 3, components=2, key=KEY)
LATENT = LatentVariableModel(NORMAL, lambda z: dist.Normal(z, 1.0).to_event(1), lambda x: NORMAL)
FLOW = real_nvp(2, layers=2, hidden=(8,), key=KEY)


def moved(model):
    """Return a model away from its start, at which flows and networks do nothing."""
    params, rest = partition(model)
    keys = jax.random.split(KEY, len(params))
    move = lambda key, value: value + 0.5 * jax.random.normal(key, value.shape)
    return combine({path: move(key, params[path]) for key, path in zip(keys, params)}, rest)


def simulator(key, theta):
    return theta + jax.random.normal(key)


def posterior(shift=0.0, scale=1.0):
    return lambda x: dist.Normal(x / 2 + shift * SD, scale * SD)


# -- the transform


def test_of_independent_numbers_it_is_their_distribution_functions():
    x = NORMAL.sample(KEY, (50,))
    np.testing.assert_allclose(pit(NORMAL, x), stats.norm.cdf(x, [1.0, -2.0], [0.5, 3.0]), atol=1e-6)
    gamma = dist.Gamma(2.0, 0.5)
    x = stats.gamma(2.0, scale=2.0).rvs(50, random_state=0)
    np.testing.assert_allclose(pit(gamma, x), stats.gamma.cdf(x, 2.0, scale=2.0), atol=1e-5)
    grid = dist.Normal(jnp.zeros((2, 3)), 1.0).to_event(2)
    assert pit(grid, jnp.zeros((4, 2, 3)), batch_size=3).shape == (4, 2, 3)


def test_of_integers_it_lies_between_the_sums_below_and_up_to_them():
    poisson, few = dist.Poisson(jnp.array([0.5, 4.0])).to_event(1), BetaBinomial(2.0, 3.0, 10)
    for d, theirs in ((poisson, stats.poisson([0.5, 4.0])), (few, stats.betabinom(9, 2.0, 3.0))):
        x = d.sample(KEY, (1000,)).astype(int)
        u, low, high = np.asarray(pit(d, x, key=KEY, batch_size=1000)), theirs.cdf(x - 1), theirs.cdf(x)
        assert ((u >= low - 1e-6) & (u <= high + 1e-6)).all()
        assert stats.kstest(((u - low) / (high - low)).ravel(), "uniform").pvalue > 0.005


def test_of_an_autoregressive_model_it_is_that_of_its_conditionals():
    """Its intervals are those that the masses of all events give."""
    model = made((3,), 3, order=(2, 0, 1), key=KEY)
    events = np.array(list(itertools.product(range(3), repeat=3)))
    p = np.exp(np.asarray(jax.jit(model.log_prob)(events)))
    u = np.asarray(pit(model, events, key=KEY))
    before = ()
    for place in (2, 0, 1):
        for x, found in zip(events, u, strict=True):
            alike = (events[:, list(before)] == x[list(before)]).all(1)
            below, up_to = (p[alike & (events[:, place] < x[place] + i)].sum() / p[alike].sum() for i in (0, 1))
            assert below - 1e-5 <= found[place] <= up_to + 1e-5
        before = (*before, place)


def test_of_a_mixture_it_is_that_of_its_conditionals():
    """P(X_1 ≤ x_1 | x_0) by the integral of the density along the second axis."""
    x, grid = np.asarray(MIXTURE.sample(KEY, (5,))), jnp.linspace(-12.0, 12.0, 20_001)
    p = np.exp(
        jax.jit(jax.vmap(lambda first: MIXTURE.log_prob(jnp.stack([jnp.full(grid.shape, first), grid], 1))))(x[:, 0])
    )
    found = (p * (grid <= x[:, 1:])).sum(1) / p.sum(1)
    np.testing.assert_allclose(pit(MIXTURE, x)[:, 1], found, atol=2e-3)


def test_of_a_flow_it_is_that_of_its_base():
    flow = moved(FLOW)
    x = FLOW.sample(KEY, (20,))
    z = jax.jit(lambda flow: flow.bijector.inverse(x))(flow)
    np.testing.assert_allclose(pit(flow, x), stats.norm.cdf(z), atol=1e-5)
    number = Transformed(dist.Normal(0.0, 1.0), dist.transforms.ExpTransform())
    x = number.sample(KEY, (20,))
    np.testing.assert_allclose(pit(number, x), stats.lognorm.cdf(x, 1.0), atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [NORMAL, CATEGORIES, MIXTURE, FLOW],
    ids=lambda model: type(model).__name__,
)
def test_it_is_uniform_of_the_models_own_draws(model):
    x = jax.jit(lambda key: model.sample(key, (2000,)))(jax.random.key(5))
    u = pit(model, x, key=jax.random.key(6), batch_size=2000)
    found = pit_uniformity(u)
    assert found.p_ks.shape == (2,) and found.p_ks.min() > 0.005 and found.p_chi_square.min() > 0.005
    assert abs(stats.spearmanr(u[:, 0], u[:, 1]).statistic) < 3.5 / 2000**0.5


@pytest.mark.parametrize(
    "model",
    [
        real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY),
        ConditionalModel(gaussian_mixture(1, components=1, key=KEY), (3,), network=lambda c: c),
    ],
    ids=["flow", "network"],
)
def test_of_a_conditional_model_each_row_is_judged_at_its_context(model):
    model, contexts = moved(model), jax.random.normal(KEY, (1000, 3))
    x = jax.jit(lambda contexts: model(contexts).sample(jax.random.key(1)))(contexts)
    assert pit_uniformity(pit(model, (x, contexts), key=KEY, batch_size=1000)).p_ks.min() > 0.005
    elsewhere = pit(model, (x, contexts + 2.0), key=KEY, batch_size=1000)
    assert pit_uniformity(elsewhere).p_ks.min() < 1e-4


@pytest.mark.parametrize(("scale", "at_ends"), [(0.7, True), (1.4, False)])
def test_a_model_of_the_wrong_width_is_flagged(scale, at_ends):
    x = NORMAL.sample(KEY, (1000,))
    u = pit(dist.Normal(jnp.array([1.0, -2.0]), scale * jnp.array([0.5, 3.0])).to_event(1), x)
    assert (pit_uniformity(u).p_chi_square < 1e-6).all()
    assert (((u < 0.05) | (u > 0.95)).mean() > 0.1) == at_ends


def test_the_tests_of_uniformity_are_those_of_scipy():
    u = np.random.default_rng(0).uniform(size=(300, 2, 2))
    found = pit_uniformity(u, bins=10)
    for d, column in enumerate(u.reshape(300, 4).T):
        ks, chi = stats.kstest(column, "uniform"), stats.chisquare(np.histogram(column, 10, (0, 1))[0])
        assert (found.ks[d], found.p_ks[d]) == pytest.approx((ks.statistic, ks.pvalue))
        assert (found.chi_square[d], found.p_chi_square[d]) == pytest.approx((chi.statistic, chi.pvalue))
    many = pit_uniformity(np.random.default_rng(1).uniform(size=(50, 500)))
    assert stats.kstest(many.p_ks, "uniform").pvalue > 0.005


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)), np.zeros((3, 2)), "model: .* got a MultivariateNormal"),
        (LATENT, np.zeros((3, 2)), "model: .* got a LatentVariableModel"),
        (NORMAL, np.zeros((3, 3)), r"data: expected rows of shape \(2,\)"),
        (NORMAL, np.full((3, 2), np.nan), "data: expected finite"),
        (NORMAL, np.zeros((0, 2)), "data: expected at least one row"),
        (dist.Normal(jnp.zeros(2), 1.0), np.zeros((3, 2)), "model: expected batch shape"),
        (lambda x: x, np.zeros(3), "model: expected a distribution"),
    ],
)
def test_what_has_no_transform_is_refused(model, x, message):
    with pytest.raises(ValueError, match=message):
        pit(model, x, key=KEY)


def test_options_of_the_transform_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="key: the transform of integers is randomized"):
        pit(dist.Poisson(2.0), np.zeros(3, int))
    with pytest.raises(ValueError, match="batch_size"):
        pit(NORMAL, np.zeros((3, 2)), batch_size=0)
    for u in ([0.5, 1.2], [np.nan], []):
        with pytest.raises(ValueError, match=r"u: expected numbers in \[0, 1\]"):
            pit_uniformity(u)
    with pytest.raises(ValueError, match="bins"):
        pit_uniformity([0.5], bins=0)


# -- coverage of posteriors


@pytest.mark.parametrize("scale", [0.6, 1.5])
def test_regions_of_highest_density_hold_what_the_closed_form_says(scale):
    """θ* − x/2 ~ Normal(0, √½): a region of credibility c of Normal(x/2, s √½) holds it with 2 Φ(s z_c) − 1."""
    found = expected_coverage(posterior(scale=scale), PRIOR, simulator, num_datasets=COUNT, key=KEY)
    z = stats.norm.ppf((1 + found.nominal) / 2)
    np.testing.assert_allclose(found.found, 2 * stats.norm.cdf(scale * z) - 1, atol=4 * 0.5 / COUNT**0.5)
    assert found.nominal[[0, -1]].tolist() == found.found[[0, -1]].tolist() == [0.0, 1.0]


def test_a_truth_outside_of_the_support_is_in_no_region():
    """Of half the width, the posterior holds half of what it says."""
    prior, noise = dist.Uniform(0.0, 100.0), lambda key, theta: theta + jax.random.uniform(key, (), minval=-1.0)
    half = lambda x: dist.Uniform(x - 0.5, x + 0.5)
    found = expected_coverage(half, prior, noise, num_datasets=COUNT, key=KEY)
    np.testing.assert_allclose(found.found[:-1], found.nominal[:-1] / 2, atol=4 * 0.5 / COUNT**0.5)


def test_balls_about_random_points_hold_what_the_closed_form_says():
    """The credibility of the ball that ends at θ*, by q's distribution function in place of draws."""
    shift, scale, count = 0.8, 0.9, 200_000
    theta, r, noise = np.random.default_rng(0).normal(size=(3, count))
    x = theta + noise
    q, radius = stats.norm(x / 2 + shift * SD, scale * SD), np.abs(theta - r)
    credibility = np.sort(q.cdf(r + radius) - q.cdf(r - radius))
    found = tarp(posterior(shift, scale), PRIOR, simulator, num_datasets=COUNT, key=KEY)
    theirs = np.searchsorted(credibility, found.nominal[:-1], side="right") / count
    np.testing.assert_allclose(found.found[:-1], theirs, atol=4 * 0.5 * (COUNT**-0.5 + count**-0.5))


@pytest.mark.parametrize("function", [expected_coverage, tarp])
def test_the_right_posterior_passes_and_a_biased_one_is_caught(function):
    p = lambda q: function(q, PRIOR, simulator, num_datasets=COUNT, key=KEY).uniformity.p_ks[0]
    assert p(posterior()) > 0.005 and p(posterior(0.8)) < 1e-6


def test_a_posterior_that_ignores_the_data_is_caught_by_references_that_do_not():
    ignorant = lambda x: PRIOR.expand((len(x),))
    for function in (expected_coverage, tarp):
        assert function(ignorant, PRIOR, simulator, num_datasets=COUNT, key=KEY).uniformity.p_ks[0] > 0.005
    at_data = lambda key, x: x
    caught = tarp(ignorant, PRIOR, simulator, reference=at_data, num_datasets=COUNT, key=KEY)
    right = tarp(posterior(), PRIOR, simulator, reference=at_data, num_datasets=COUNT, key=KEY)
    assert caught.uniformity.p_ks[0] < 1e-6 and right.uniformity.p_ks[0] > 0.005


def test_ties_are_broken_at_random():
    """All draws of a uniform posterior have one density: x says in which half of [0, 1] θ lies."""
    q = lambda x: dist.Uniform(x / 2, (x + 1) / 2)
    halves = lambda key, theta: jnp.floor(2 * theta)
    ranks = expected_coverage(q, dist.Uniform(0.0, 1.0), halves, num_datasets=COUNT, key=KEY).ranks
    assert rank_uniformity(ranks, 99).p_chi_square[0] > 0.005


def test_vectors_are_measured_in_the_priors_sds():
    scale = jnp.array([1.0, 1000.0])
    prior = dist.Normal(jnp.zeros(2), scale).to_event(1)
    of_vectors = lambda key, theta: theta + scale * jax.random.normal(key, (2,))
    q = lambda shift: lambda x: dist.Normal(x / 2 + jnp.array([shift, 0.0]), SD * scale).to_event(1)
    right, biased = (tarp(q(shift), prior, of_vectors, num_datasets=COUNT, key=KEY).uniformity for shift in (0.0, 1.0))
    assert right.p_ks[0] > 0.005 and biased.p_ks[0] < 1e-6
    assert expected_coverage(q(0.0), prior, of_vectors, num_datasets=COUNT, key=KEY).uniformity.p_ks[0] > 0.005


def test_what_is_printed():
    found = Coverage(np.arange(1000) % 100, 99)
    assert str(found).splitlines() == [
        "50 % regions hold 50.0 ± 1.6 % of the truths",
        "80 % regions hold 80.0 ± 1.3 % of the truths",
        "95 % regions hold 95.0 ± 0.7 % of the truths",
        "KS = 0.000 (p = 1, 1000 data sets)",
    ]
    np.testing.assert_allclose(found.nominal, found.found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"posterior": lambda x: dist.Normal(x[:, None], 1.0).to_event(1)}, "posterior: expected batch shape"),
        ({"posterior": lambda x: dist.Normal(x * jnp.nan, 1.0, validate_args=False)}, "posterior: .* are not finite"),
        ({"simulator": lambda key, theta: theta * jnp.inf}, "simulator: .* are not finite"),
        ({"num_datasets": 0}, "num_datasets"),
        ({"num_draws": 0}, "num_draws"),
    ],
)
def test_what_cannot_be_covered_is_refused(change, message):
    given = {
        "posterior": posterior(),
        "prior": PRIOR,
        "simulator": simulator,
        "num_datasets": COUNT,
        "key": KEY,
        **change,
    }
    for function in (expected_coverage, tarp):
        with pytest.raises(ValueError, match=message):
            function(**given)


def test_what_only_one_of_them_needs_is_refused_by_it():
    q = lambda x: LATENT.expand((len(x),))
    with pytest.raises(ValueError, match="posterior: expected an exact density, got one of kind 'weights'; `tarp`"):
        expected_coverage(q, NORMAL, lambda key, theta: theta, num_datasets=3, num_draws=2, key=KEY)

    class Lost(dist.Normal):
        def log_prob(self, value):
            return value * jnp.nan

    with pytest.raises(ValueError, match="posterior: its log-density is NaN for 4000 of 4000 data sets"):
        expected_coverage(lambda x: Lost(x, 1.0), PRIOR, simulator, num_datasets=COUNT, key=KEY)
    for reference, message in (
        (lambda key, x: jnp.zeros(2), r"reference: expected a point of shape \(\), got \(2,\)"),
        (lambda key, x: x / 0.0, "reference: expected finite"),
    ):
        with pytest.raises(ValueError, match=message):
            tarp(posterior(), PRIOR, simulator, reference=reference, num_datasets=COUNT, key=KEY)


# -- pictures


def test_the_curve_is_drawn_over_the_binomial_band():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    found = Coverage(np.random.default_rng(0).integers(0, 100, 500), 99)
    assert coverage_curve(found.nominal, found.found, 500, label="right", ax=ax) is ax
    (band,), (diagonal, line) = ax.collections, ax.lines
    edges = band.get_paths()[0].vertices
    at_half = np.unique(edges[edges[:, 0] == 0.5, 1])
    np.testing.assert_allclose(at_half, stats.binom.ppf([0.005, 0.995], 500, 0.5) / 500)
    assert line.get_xydata().tolist() == np.stack([found.nominal, found.found], 1).tolist()
    assert (diagonal.get_ydata() == [0, 1]).all() and ax.get_legend().get_texts()[0].get_text() == "right"
    for nominal, shares, message in (
        ([0.0, 1.0], [0.5], r"found: expected shape \[K\]"),
        ([0.0, 2.0], [0.0, 1.0], "nominal: expected numbers in"),
        ([0.0, 1.0], [0.0, np.nan], "found: expected numbers in"),
    ):
        with pytest.raises(ValueError, match=message):
            coverage_curve(nominal, shares, 10, ax=ax)
    plt.close()


def test_the_histograms_have_a_band_and_an_outline_for_each_column():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    u = np.random.default_rng(0).uniform(size=(500, 2))
    assert pit_histogram(u, bins=10, labels=["first", "second"], ax=ax) is ax
    band, _, *outlines = [patch.get_data() for patch in ax.patches]
    np.testing.assert_array_equal(outlines[1].values, np.histogram(u[:, 1], 10, (0, 1))[0])
    np.testing.assert_allclose(band.values, 50 + 2.576 * 45**0.5)
    assert len(outlines) == 2 and ax.get_xlim() == (0.0, 1.0)
    with pytest.raises(ValueError, match="labels: expected 2, one for each column of u, got 1"):
        pit_histogram(u, labels=["one"], ax=ax)
    with pytest.raises(ValueError, match="u: expected numbers in"):
        pit_histogram([0.5, 1.5], ax=ax)
    with pytest.raises(ValueError, match="bins"):
        pit_histogram(u, bins=0, ax=ax)
    plt.close()
    _, ax = plt.subplots()
    assert rank_histogram(np.arange(500) % 100, 99, ax=ax).get_xlabel() == "rank among 99 draws"
    plt.close()


def test_what_is_no_posterior_prior_or_ranks_is_refused():
    prior, simulator = dist.Normal(0.0, 1.0), lambda key, theta: theta + jax.random.normal(key)
    with pytest.raises(ValueError, match="posterior: expected a function that returns a distribution, got one of an"):
        expected_coverage(lambda x: x, prior, simulator, num_datasets=5, key=jax.random.key(0))
    with pytest.raises(ValueError, match="prior: expected"):
        expected_coverage(lambda x: prior, "p", simulator, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"u: expected numbers in \[0, 1\], got an array of shape"):
        pit_uniformity(0.5)
    for ranks, message in (("ab", "ranks: "), ([], "ranks: expected .N. or .N, D. of at least one row")):
        with pytest.raises(ValueError, match=message):
            rank_uniformity(ranks, 9)
    with pytest.raises(ValueError, match="num_draws: expected an integer"):
        rank_uniformity([1, 2], 9.5)
