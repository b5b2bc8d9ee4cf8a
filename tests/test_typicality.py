"""Entropy, typical sets and their test against closed forms and nominal error rates; scores of outliers."""

import io
import math
import zlib

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from matplotlib import image
from scipy import stats

from probgen.distributions import ConditionalModel, Transformed
from probgen.evaluation import (
    Area,
    DensityOfStates,
    Typicality,
    auroc,
    complexity_corrected,
    density_of_states,
    entropy,
    gradient_norms,
    in_typical_set,
    likelihood_ratio,
    perturbed,
    png,
    pointwise,
    typicality_test,
)
from probgen.latent import LatentVariableModel
from probgen.mixtures import histogram
from probgen.plotting import typical_set
from tests.test_latent import LIKELIHOOD, MARGINAL, PRIOR, D, Linear, Z

KEY = jax.random.key(0)
RANDOM = np.random.RandomState(0)


def normal(dim, scale=1.0):
    return Transformed(dist.Normal(jnp.zeros(dim)), distrax.Block(distrax.ScalarAffine(0.0, scale), 1))


# -- entropy and the typical set


def test_entropy_is_the_closed_form():
    found = entropy(normal(50, 3.0), num_draws=2000, key=KEY)
    assert found.kind == "exact" and found.rows == 2000 and str(found).startswith("= ")
    assert abs(found.nats - 50 * stats.norm(scale=3.0).entropy()) < 4.5 * found.se_nats
    np.testing.assert_allclose(found.se_nats, math.sqrt(25 / 2000), rtol=0.1)  # −log p has the variance D / 2


@pytest.mark.parametrize(
    "model",
    [
        dist.Gamma(2.0, 3.0),
        dist.Normal(jnp.zeros((2, 3)), 2.0).to_event(2),
        dist.MultivariateNormal(jnp.zeros(2), jnp.array([[1.0, 0.5], [0.5, 2.0]])),
        dist.Dirichlet(jnp.array([1.0, 2.0, 3.0])),
        dist.Categorical(jnp.array([0.2, 0.3, 0.5])),
        dist.Bernoulli(0.2).expand((8,)).to_event(1).mask(True),
    ],
    ids=lambda model: type(model).__name__,
)
def test_entropy_of_numpyros_own_is_that_which_numpyro_knows(model):
    found = entropy(model, num_draws=4000, batch_size=1000, key=KEY)
    truth = model.base_dist.entropy() if isinstance(model, dist.MaskedDistribution) else model.entropy()
    assert found.kind == "exact" and abs(found.nats - float(truth)) < 4.5 * found.se_nats


def test_entropy_of_a_bound_is_a_bound():
    wide = Linear(jnp.zeros((Z, D)), jnp.zeros(Z), 0.7 * jnp.eye(Z))
    model, truth = LatentVariableModel(PRIOR, LIKELIHOOD, wide), float(MARGINAL.entropy())
    found = entropy(model, num_draws=500, num_particles=10, batch_size=500, key=KEY)
    assert str(found).startswith("≤") and "10 particles" in str(found) and found.kind == "weights"
    assert found.nats > truth - 4.5 * found.se_nats


def test_the_typical_set_of_a_normal_is_its_annulus():
    model, ends = normal(100), stats.chi2(100)
    draws = np.asarray(model.sample(KEY, (2000,)))
    inside = in_typical_set(pointwise(model, draws), 100 * stats.norm.entropy(), epsilon=7.0)
    squares = (draws.astype(float) ** 2).sum(1)
    assert (inside == (abs(squares - 100) <= 14.0)).mean() > 0.999
    share = ends.cdf(114.0) - ends.cdf(86.0)
    assert abs(inside.mean() - share) < 4.5 * math.sqrt(share * (1 - share) / 2000)


# -- the test of a batch


@pytest.mark.parametrize(("rows", "size"), [(1000, 10), (100, 100), (200, 1)])
def test_the_size_of_the_test_is_nominal(rows, size):
    """p-values are uniform, for skewed log-likelihoods, many rows and few."""
    draw = lambda count: -RANDOM.chisquare(4, count) - 3000.0
    found = [
        typicality_test(draw(size), draw(rows), level=0.1, num_resamples=199, key=jax.random.key(i)) for i in range(250)
    ]
    rejected = np.mean([not result.typical for result in found])
    assert abs(rejected - 0.1) < 4.0 * math.sqrt(0.09 / 250)
    assert stats.kstest([result.p_value for result in found], "uniform").pvalue > 1e-3


def test_a_model_that_is_likelier_on_its_training_rows_needs_validation_rows():
    draw, found = (lambda count: RANDOM.standard_normal(count)), []
    for i in range(200):
        batch, training, held_out = draw(50), draw(1000) + 1.0, draw(1000)
        options = {"level": 0.05, "num_resamples": 199, "key": jax.random.key(i)}
        with_both = typicality_test(batch, training, validation=held_out, **options)
        found.append((with_both.typical, typicality_test(batch, training, **options).typical))
    kept, lost = np.mean(found, 0)
    assert abs(kept - 0.95) < 4.0 * math.sqrt(0.0475 / 200) and lost < 0.05


def test_batches_too_likely_and_too_unlikely_are_atypical():
    training = stats.norm.logpdf(RANDOM.standard_normal((2000, 100))).sum(1)
    for scale, likelier in ((0.9, True), (1.1, False)):
        batch = stats.norm.logpdf(scale * RANDOM.standard_normal((50, 100))).sum(1)
        found = typicality_test(batch, training, key=KEY)
        assert not found.typical and found.p_value < 0.001 and found.likelier == likelier
        np.testing.assert_allclose(found.epsilon, abs(batch.mean() - training.mean()))
        assert str(found).startswith(f"not typical: ε = {found.epsilon:.3f} > ")
    assert (
        isinstance(found, Typicality)
        and found.rows == 50
        and abs(found.entropy - 100 * stats.norm.entropy()) < 4.5 * found.se_entropy
    )
    # sd of a mean of 50 is √(D / 2) / √50 = 1
    np.testing.assert_allclose(found.threshold, stats.norm.isf(0.005), rtol=0.1)
    impossible = typicality_test([-np.inf, -100.0], training, key=KEY)
    assert impossible.epsilon == np.inf and not impossible.typical


def test_the_threshold_and_the_p_value_agree():
    training = RANDOM.standard_normal(500)
    for gap in np.linspace(0.3, 0.7, 30):
        found = typicality_test(np.full(20, training.mean() + gap), training, level=0.05, num_resamples=399, key=KEY)
        assert found.typical == (found.p_value > 0.05)


@pytest.mark.parametrize(
    ("batch", "training", "options", "words"),
    [
        ([0.0], np.arange(19.0), {}, "training: expected one number for each of at least 20 rows"),
        ([], np.arange(20.0), {}, "batch: expected one number"),
        ([[0.0]], np.arange(20.0), {}, "batch: expected one number"),
        ([np.nan], np.arange(20.0), {}, "batch: expected numbers, got nan in row 0"),
        ([np.inf], np.arange(20.0), {}, "batch: expected log-likelihoods below ∞"),
        ([0.0], np.append(np.arange(20.0), -np.inf), {}, "training: expected finite numbers, got -inf in row 20"),
        ([0.0], np.ones(20), {}, "training: expected log-likelihoods that differ"),
        ([0.0], np.arange(20.0), {"validation": np.ones(20)}, "validation: expected log-likelihoods that differ"),
        ([0.0], np.arange(20.0), {"validation": np.ones(3)}, "validation: expected one number"),
        ([0.0], np.arange(20.0), {"level": 0.01, "num_resamples": 98}, "level: expected a number from"),
        ([0.0], np.arange(20.0), {"level": 1.0}, "level"),
        ([0.0], np.arange(20.0), {"num_resamples": 0}, "num_resamples"),
    ],
)
def test_what_cannot_be_tested_is_refused(batch, training, options, words):
    with pytest.raises(ValueError, match=words):
        typicality_test(batch, training, key=KEY, **options)


# -- the density of states


def test_states_have_the_density_of_scipy():
    statistics, new = RANDOM.standard_normal((300, 2)) * [1.0, 5.0], RANDOM.standard_normal((7, 2))
    kernels = [stats.gaussian_kde(column, "scott") for column in statistics.T]
    expected = -sum(np.log(kernel(column)) for kernel, column in zip(kernels, new.T))
    found = density_of_states(statistics)
    assert isinstance(found, DensityOfStates)
    np.testing.assert_allclose(found.scores(new), expected, rtol=1e-10)
    single = density_of_states(statistics[:, 0])
    np.testing.assert_allclose(single.scores(new[:, 0]), -np.log(kernels[0](new[:, 0])), rtol=1e-10)
    width = single.bandwidths[0]  # without row 3 among the kernels
    others = np.delete(statistics[:, 0], 3)
    alone = np.mean(stats.norm.pdf(statistics[3, 0], others, width))
    np.testing.assert_allclose(single.own_scores[3], -np.log(alone), rtol=1e-10)


def test_p_values_of_states_are_uniform_and_small_where_states_are_rare():
    draw = lambda count: np.stack([RANDOM.standard_normal(count), RANDOM.exponential(size=count)], 1)
    found = density_of_states(draw(1000))
    distance = stats.kstest(found.p_values(draw(1000)), "uniform").statistic
    assert distance < 1.95 * math.sqrt(2 / 1000)  # both samples have an error
    np.testing.assert_allclose(found.p_values([[9.0, 1.0], [0.0, -9.0]]), 1 / 1001)


def test_a_mode_is_no_outlier_by_log_p_and_one_by_its_states():
    model, zeros = normal(64), jnp.zeros((1, 64))
    draws = model.sample(KEY, (500,))
    plain = dist.Normal(jnp.zeros(draws.shape[1]), 1.0).to_event(1)
    np.testing.assert_allclose(gradient_norms(plain, draws), jnp.linalg.norm(draws, axis=1), rtol=1e-5)
    states = lambda x: np.stack([pointwise(model, x), gradient_norms(model, x)], 1)
    np.testing.assert_allclose(gradient_norms(model, draws, batch_size=99), jnp.linalg.norm(draws, axis=1), rtol=1e-5)
    assert pointwise(model, zeros) > pointwise(model, draws).max()
    assert density_of_states(states(draws)).p_values(states(zeros))[0] < 0.01


@pytest.mark.parametrize(
    ("statistics", "words"),
    [
        (np.zeros((30, 2)), "got one value of statistic 0"),
        (np.zeros((19, 2)), "of at least 20 rows, got shape"),
        (np.zeros((30, 2, 2)), "got shape"),
        (np.append(np.arange(30.0), np.nan), "got nan in row 30"),
    ],
)
def test_states_that_say_nothing_are_refused(statistics, words):
    with pytest.raises(ValueError, match=f"statistics: expected.*{words}"):
        density_of_states(statistics)


def test_other_statistics_than_before_are_refused():
    found = density_of_states(RANDOM.standard_normal((30, 2)))
    for statistics in (np.zeros(3), np.zeros((3, 3)), np.zeros((0, 2))):
        with pytest.raises(ValueError, match=r"statistics: expected \[N, 2\]"):
            found.scores(statistics)
    with pytest.raises(ValueError, match="model: expected one of real numbers"):
        gradient_norms(histogram((2,), 4), jnp.zeros((3, 2), int))
    bound = LatentVariableModel(PRIOR, LIKELIHOOD, Linear(jnp.zeros((Z, D)), jnp.zeros(Z), 0.7 * jnp.eye(Z)))
    for model, words in [
        (bound, "expected one with an exact density, got a LatentVariableModel of kind 'weights'"),
        (dist.Normal(0.0, 1.0).mask(False), "expected one with a density, got one that is masked"),
        (dist.Normal(jnp.zeros(2), 1.0), r"expected batch shape \(\), got \(2,\)"),
        (ConditionalModel(normal(2), (3,), lambda c: jnp.zeros(0)), ".* call it with a context"),
        (3, "expected a distribution, .* got 3"),
    ]:
        with pytest.raises(ValueError, match=f"model: {words}"):
            gradient_norms(model, jnp.zeros((3, 2)))


# -- scores of outliers


def test_auroc_is_that_of_scipy_and_its_error_that_of_repetition():
    draw = lambda: (RANDOM.poisson(3.0, 60), RANDOM.poisson(4.0, 40))
    s, t = draw()
    found = auroc(s, t)
    np.testing.assert_allclose(found.value, stats.mannwhitneyu(t, s).statistic / (60 * 40))
    assert isinstance(found, Area)
    reversed_ = auroc(t, s)
    np.testing.assert_allclose([reversed_.value, reversed_.se], [1 - found.value, found.se])
    many = [auroc(*draw()) for _ in range(300)]
    spread = np.std([area.value for area in many])
    np.testing.assert_allclose(np.mean([area.se for area in many]), spread, rtol=0.2)
    random = np.random.RandomState(0)
    random.standard_normal((300, 3)), random.standard_normal((3, 3)), random.standard_normal((300, 3))
    random.standard_normal(300)
    # sklearn.metrics.roc_auc_score of scikit-learn 1.9.1
    np.testing.assert_allclose(auroc(random.poisson(3, 50), random.poisson(4, 40)).value, 0.6305)
    assert auroc([0.0, 1.0], [2.0, np.inf])[:2] == (1.0, 0.0)


@pytest.mark.parametrize("shape", [(9, 7), (5, 6, 3), (1, 1)])
def test_a_png_is_one(shape):
    pixels = RANDOM.randint(256, size=shape)
    pixels[: shape[0] // 2] = 7
    smooth = np.clip(np.add.outer(np.arange(60), np.arange(50)), 0, 255)
    for expected in (pixels, smooth, smooth[::-1].astype(np.uint8)):
        shown = image.imread(io.BytesIO(png(expected)))
        np.testing.assert_array_equal(np.round(255 * shown), expected)
    assert len(png(smooth)) < 250  # 3,000 pixels: filters leave zeros


def test_complexity_is_taken_off_in_nats():
    rows = np.stack([np.zeros((8, 8), int), RANDOM.randint(256, size=(8, 8))])
    found = complexity_corrected([-10.0, -np.inf], rows)
    np.testing.assert_allclose(found[0], 10.0 - 8 * math.log(2) * len(png(rows[0])))
    assert found[1] == np.inf
    by_zlib = complexity_corrected([-10.0, -20.0], rows, compress=lambda row: zlib.compress(row.tobytes()))
    np.testing.assert_allclose(by_zlib[1], 20.0 - 8 * math.log(2) * len(zlib.compress(rows[1].tobytes())))


def test_perturbed_rows_change_at_the_rate():
    x = jnp.full((100, 200), 3, jnp.uint8)
    found = perturbed(KEY, x, levels=5, rate=0.3)
    assert abs((found != 3).mean() - 0.3 * 4 / 5) < 4.5 * math.sqrt(0.24 * 0.76 / 20_000)
    assert set(np.unique(found)) == {0, 1, 2, 3, 4} and jnp.issubdtype(found.dtype, jnp.integer)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: entropy(3, key=KEY), "model: expected a distribution, .* got 3"),
        (lambda: entropy(ConditionalModel(normal(2), (3,), lambda c: jnp.zeros(0)), key=KEY), "call it with a context"),
        (lambda: entropy(dist.Normal(jnp.zeros(2), 1.0), key=KEY), r"model: expected batch shape \(\), got \(2,\)"),
        (lambda: entropy(dist.ImproperUniform(dist.constraints.real, (), ()), key=KEY), "model: .* improper"),
        (lambda: entropy(normal(2), num_draws=0, key=KEY), "num_draws"),
        (lambda: entropy(normal(2), num_particles=2, key=KEY), "num_particles"),
        (lambda: in_typical_set([0.0], 1.0, epsilon=-1.0), "epsilon"),
        (lambda: in_typical_set([np.nan], 1.0, epsilon=1.0), "log_likelihoods: expected numbers"),
        (lambda: likelihood_ratio([0.0, 1.0], [0.0]), "background: expected 2 numbers"),
        (lambda: likelihood_ratio([0.0], [-np.inf]), "background: expected finite"),
        (lambda: perturbed(KEY, [0, 5], levels=5), r"x: expected integers in 0\.\.4"),
        (lambda: perturbed(KEY, [0.5], levels=5), "x: expected integers"),
        (lambda: perturbed(KEY, [0], levels=1), "levels"),
        (lambda: perturbed(KEY, [0], levels=2, rate=0.0), "rate"),
        (lambda: complexity_corrected([0.0], np.zeros((2, 8, 8), int)), "data: expected 1 rows"),
        (lambda: complexity_corrected([0.0], np.zeros((1, 8, 8))), r"image: expected integers in 0\.\.255"),
        (lambda: complexity_corrected([0.0], np.zeros((1, 8), int)), "another compress"),
        (lambda: complexity_corrected([0.0], np.zeros((1, 8, 8), int), compress=len), "compress: expected bytes"),
        (lambda: png(np.full((2, 2), 256)), r"image: expected integers in 0\.\.255"),
        (lambda: auroc([0.0], [1.0, 2.0]), "inliers: expected one number for each of at least 2"),
        (lambda: auroc([0.0, 1.0], [np.nan, 2.0]), "outliers: expected numbers"),
    ],
)
def test_each_mistake_names_its_argument(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# -- pictures


def test_the_picture_of_a_typical_set():
    draws, data = RANDOM.standard_normal(100), RANDOM.standard_normal(50) + 3.0
    ax = typical_set({"draws": draws, "data": data}, entropy=0.5, epsilon=1.0, bins=10)
    first, second, band = ax.patches
    for patch, values in ((first, draws), (second, data)):
        heights, edges, _ = patch.get_data()
        assert len(heights) == 10 and edges[0] == min(draws.min(), data.min())
        np.testing.assert_allclose((heights * np.diff(edges)).sum(), 1.0)
        np.testing.assert_allclose(heights * len(values) * np.diff(edges), np.histogram(values, edges)[0])
    assert band.get_x() == -0.5 and band.get_width() == 2.0
    np.testing.assert_allclose(ax.lines[0].get_xdata(), 0.5)
    assert ax.get_legend_handles_labels()[1] == ["draws", "data", "H = 0.5", "H ± 1"]


@pytest.mark.parametrize(
    ("costs", "options", "words"),
    [
        ({}, {}, "costs"),
        ({"a": [np.inf]}, {}, "costs: expected finite numbers .* of 'a'"),
        ({"a": [1.0]}, {"epsilon": 1.0}, "epsilon"),
    ],
)
def test_a_typical_set_that_cannot_be_drawn_is_refused(costs, options, words):
    with pytest.raises(ValueError, match=words):
        typical_set(costs, **options)
