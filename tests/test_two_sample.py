"""Tests of two samples against scikit-learn, POT, SciPy and all permutations; their p-values where nothing differs."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from probgen.evaluation import (
    classifier_test,
    energy_test,
    mmd_test,
    neural_classifier,
    sliced_wasserstein,
)
from probgen.evaluation.samples.sliced import directions_on_sphere
from probgen.evaluation.samples.two_sample import _gaussian, _kernel_sums

KEY = jax.random.key(0)
_RNG = np.random.default_rng(0)
X, Y = _RNG.normal(size=(60, 3)), 1.2 * _RNG.normal(size=(50, 3)) + 0.3


def normal(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape)


def integers(levels, *shape):
    return np.random.default_rng(1).integers(0, levels, shape)


def energy(x, y):
    return 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()


def mmd(x, y, bandwidth):
    k = lambda a, b: np.exp(-cdist(a, b, "sqeuclidean") / (2 * bandwidth**2))
    off = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    return off(k(x, x)) + off(k(y, y)) - 2 * k(x, y).mean()


# -- the statistics


def test_mmd_is_that_of_scikit_learn():
    """Found by `rbf_kernel` of scikit-learn 1.9.1."""
    assert mmd_test(X, Y, bandwidth=1.5, key=KEY).statistic == pytest.approx(0.022626959474091324, rel=1e-4)
    several = mmd_test(X, Y, bandwidth=(0.5, 2.0), key=KEY)
    assert several.statistic == pytest.approx(0.015090247242661548, rel=1e-4)


def test_the_default_bandwidth_is_the_median_distance():
    distances = cdist(np.concatenate([X, Y]), np.concatenate([X, Y]))
    median = np.median(distances[np.triu_indices(len(distances), 1)])
    assert mmd_test(X, Y, key=KEY).statistic == pytest.approx(mmd(X, Y, median), rel=1e-4)


def test_energy_is_that_of_scipy():
    assert energy_test(X, Y, key=KEY).statistic == pytest.approx(energy(X, Y), rel=1e-4)
    numbers = energy_test(X[:, 0], Y[:, 0], key=KEY).statistic
    assert numbers == pytest.approx(stats.energy_distance(X[:, 0], Y[:, 0]) ** 2, rel=1e-4)


def test_long_rows_go_through_products():
    x, y = normal(40, 100), normal(30, 100, seed=2) + 0.2
    assert energy_test(x, y, key=KEY).statistic == pytest.approx(energy(x, y), rel=1e-4)
    assert mmd_test(x, y, bandwidth=10.0, key=KEY).statistic == pytest.approx(mmd(x, y, 10.0), rel=1e-4)


def test_sliced_wasserstein_is_that_of_pot():
    """Found by `ot.sliced_wasserstein_distance` and `ot.wasserstein_1d` of POT 0.9.7, along the same directions."""
    assert sliced_wasserstein(X, Y, order=1, key=KEY).distance == pytest.approx(0.3653875617167076, rel=1e-4)
    assert sliced_wasserstein(X, Y, key=KEY).distance == pytest.approx(0.49221527739588944, rel=1e-4)
    for order, found in ((1, 0.49328684416998875), (2, 0.6682025039089138), (3.0, 0.8543609608464584)):
        along = sliced_wasserstein(X[:, 0], Y[:, 0], order=order, key=KEY)
        assert along.distance == pytest.approx(found, rel=1e-4) and along.se < 1e-6


def test_sliced_wasserstein_of_a_shift_is_known():
    shift = np.array([3.0, 0.0, 4.0])
    keys = jax.random.split(KEY, 30)
    found = [sliced_wasserstein(X, X + shift, num_directions=500, key=key) for key in keys]
    assert np.mean([f.distance for f in found]) == pytest.approx(5 / 3**0.5, rel=0.01)
    assert np.std([f.distance for f in found]) == pytest.approx(found[0].se, rel=0.4)
    along = np.abs(np.asarray(directions_on_sphere(keys[0], 500, 3)) @ shift)
    assert found[0].distance == pytest.approx((along**2).mean() ** 0.5, rel=1e-5)
    assert str(sliced_wasserstein(X, X, key=KEY)) == "≈ 0 ± 0 (sliced 2-Wasserstein, 200 directions)"


@pytest.mark.parametrize("function", [mmd_test, energy_test, sliced_wasserstein, classifier_test])
def test_events_of_any_shape_and_dtype_are_flattened(function):
    x, y = integers(256, 2, 40, 2, 3, 1).astype(np.uint8)
    flat = function(x.reshape(40, 6).astype(float), y.reshape(40, 6), key=KEY)
    assert function(x, jnp.asarray(y), key=KEY)[:2] == pytest.approx(flat[:2], rel=1e-5)


@pytest.mark.parametrize("function", [energy_test, sliced_wasserstein])
def test_where_the_origin_is_and_what_the_unit_is(function):
    there = function(X, Y, key=KEY)[0]
    assert function(X + 1e6, Y + 1e6, key=KEY)[0] == pytest.approx(there, rel=1e-4)
    for unit in (1e-30, 1e30):
        assert function(unit * X, unit * Y, key=KEY)[0] == pytest.approx(unit * there, rel=1e-5)
        assert mmd_test(unit * X, unit * Y, bandwidth=unit, key=KEY).statistic == pytest.approx(
            mmd(X, Y, 1.0), rel=1e-4
        )


def test_memory_does_not_grow_with_pairs():
    rows = jnp.zeros((20_000, 2))
    needs = _kernel_sums.lower(_gaussian, jnp.ones(1), rows, 10_000, 9, KEY).compile().memory_analysis()
    assert needs.temp_size_in_bytes < 1e8  # the kernel of all pairs is 1.6 GB


# -- the p-values


@pytest.mark.parametrize("rows", [normal(9, 2), integers(2, 9, 2) + 0.0])
def test_p_values_are_those_of_all_permutations(rows):
    """Of 4 and 5 rows there are 126; where rows are equal, many statistics are."""
    statistics = {"energy": energy, "mmd": partial(mmd, bandwidth=1.0)}
    exact = {}
    for name, statistic in statistics.items():
        chosen = [np.isin(np.arange(9), first) for first in itertools.combinations(range(9), 4)]
        all_of_them = np.array([statistic(rows[c], rows[~c]) for c in chosen])
        exact[name] = (all_of_them >= all_of_them[0] - 1e-9).mean()
    found = energy_test(rows[:4], rows[4:], num_permutations=4000, key=KEY)
    assert found.p_value == pytest.approx(exact["energy"], abs=4 * found.se_p_value + 1e-3)
    found = mmd_test(rows[:4], rows[4:], bandwidth=1.0, num_permutations=4000, key=KEY)
    assert found.p_value == pytest.approx(exact["mmd"], abs=4 * found.se_p_value + 1e-3)


TESTS = {
    "mmd": mmd_test,
    "energy": energy_test,
    "classifier": partial(classifier_test, classifier=partial(neural_classifier, hidden=(8,), steps=40)),
    "logistic": partial(classifier_test, classifier=partial(neural_classifier, hidden=(), steps=40)),
}


def p_values(test, shift, replicates, rows=(30, 40)):
    found = []
    for seed in range(replicates):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(rows[0], 2)), rng.normal(size=(rows[1], 2)) + shift
        found.append(test(x, y, num_permutations=199, key=jax.random.key(seed)).p_value)
    return np.array(found)


@pytest.mark.parametrize("name", ["mmd", "energy", "classifier"])
def test_p_values_are_uniform_where_nothing_differs_and_small_where_the_mean_does(name):
    p = p_values(TESTS[name], 0.0, 500)
    assert stats.kstest(p, "uniform").pvalue > 0.005
    assert abs((p <= 0.05).mean() - 0.05) < 3 * (0.05 * 0.95 / 500) ** 0.5
    assert (p_values(TESTS[name], 1.0, 30) <= 0.05).mean() > 0.75


def test_a_scale_is_seen_by_all_but_a_line():
    x, y = normal(2, 200, 2) * np.array([1.0, 2.0])[:, None, None]
    p = {name: test(x, y, key=KEY).p_value for name, test in TESTS.items()}
    assert p.pop("logistic") > 0.05 and max(p.values()) < 0.01


# -- classifiers


def test_the_classifier_is_the_logistic_regression_of_scikit_learn():
    """Found by `LogisticRegression(C=1 / (0.05 * 110), class_weight="balanced")` of scikit-learn 1.9.1 on standardized
    rows."""
    rows, labels = jnp.asarray(np.concatenate([X, Y]), jnp.float32), jnp.arange(110) < 60
    decide = neural_classifier(KEY, rows, labels, hidden=(), steps=2000, weight_decay=0.05)
    found = [0.05323565, -0.06067772, 0.1551832, -0.33371806]
    np.testing.assert_allclose(decide(rows[jnp.array([0, 30, 60, 100])]), found, atol=1e-4)


def test_the_accuracy_is_the_best_there_is():
    x, y = normal(2, 2000) + np.array([[0.0], [2.0]])
    found = classifier_test(x, y, key=KEY)
    assert found.statistic == pytest.approx(stats.norm.cdf(1.0), abs=3 * (0.84 * 0.16 / 2000) ** 0.5)
    assert found.rows == (1000, 1000) and found.p_value == pytest.approx(1 / 501)
    assert str(found).startswith("held-out accuracy = 0.8") and "p = 0.002 ± 0.002" in str(found)


def test_any_classifier_serves():
    perfect = lambda key, rows, labels: lambda rows: np.asarray(rows[:, 0] - jnp.median(rows[:, 0]))
    found = classifier_test(X[:50] + 100.0, Y, classifier=perfect, key=KEY)
    assert found.statistic == 1.0 and found.p_value == pytest.approx(1 / 501)
    constant = lambda key, rows, labels: lambda rows: jnp.ones(len(rows))
    found = classifier_test(X, Y[:20], classifier=constant, key=KEY)
    assert found.statistic == 0.5 and found.p_value == 1.0  # though three quarters of the rows are of x
    for wrong in (lambda rows: jnp.ones((len(rows), 1)), lambda rows: rows[:, 0] * jnp.nan):
        with pytest.raises(ValueError, match=r"classifier: expected finite log-odds of shape \(55,\)"):
            classifier_test(X, Y, classifier=lambda key, rows, labels, wrong=wrong: wrong, key=KEY)


def test_the_classifier_sees_nothing_of_what_is_held_out():
    seen = []

    def spy(key, rows, labels):
        seen.append((rows, labels))
        return lambda rows: seen.append((rows, None)) or rows[:, 0]

    classifier_test(X, Y, classifier=spy, held_out=0.3, key=KEY)
    (train, labels), (test, _) = seen
    assert len(train) == 42 + 35 and labels.sum() == 42 and len(test) == 18 + 15
    assert len(np.unique(np.concatenate([train, test]), axis=0)) == 110


def test_options_of_the_classifier_act():
    rows, labels = jnp.asarray(X, jnp.float32), jnp.asarray(X[:, 0] * X[:, 1] > 0)
    of = lambda **options: neural_classifier(KEY, rows, labels, **options)(rows)
    right = lambda log_odds: ((log_odds > 0) == labels).mean()
    assert right(of(steps=400)) > 0.9 > right(of(hidden=()))
    assert jnp.abs(of(weight_decay=1.0)).max() < 0.5 * jnp.abs(of()).max()
    many = jnp.asarray(normal(2000, 2), jnp.float32)  # in batches
    line = neural_classifier(KEY, many, many[:, 0] > 0, hidden=(), steps=100)(many)
    assert ((line > 0) == (many[:, 0] > 0)).mean() > 0.97
    for wrong in ({"hidden": (0,)}, {"steps": 0}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            of(**wrong)


# -- what cannot be judged


@pytest.mark.parametrize("function", [mmd_test, energy_test, sliced_wasserstein, classifier_test])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:, :2], r"y: expected events of shape \(3,\) as in x, got \(2,\)"),
        (X, Y[:0], "y: expected at least . rows"),
        (X, 1.0, "y: expected at least . rows"),
        (X, np.where(np.arange(50) == 7, np.nan, Y[:, 0])[:, None] + np.zeros(3), "y: expected finite .* row 7"),
        (X * np.inf, Y, "x: expected finite"),
        (np.ones((60, 3)), np.ones((50, 3)), "x, y: expected rows that differ, got 110 that are all the same"),
        (X[:, :0], Y[:, :0], "x: expected events of at least one number"),
        (X + 0j, Y, "x: expected real numbers"),
        ("abc", Y, "x: expected numbers"),
    ],
)
def test_samples_that_cannot_be_compared_are_refused(function, x, y, message):
    with pytest.raises(ValueError, match=message), np.errstate(invalid="ignore"):
        function(x, y, key=KEY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mmd_test(X[:1], Y, key=KEY), "x: expected at least 2 rows"),
        (lambda: energy_test(X, Y[:1], key=KEY), "y: expected at least 2 rows"),
        (lambda: classifier_test(X[:3], Y, key=KEY), "x: expected at least 4 rows"),
        (lambda: classifier_test(X, Y, held_out=0.99, key=KEY), "held_out: .*at least 2 rows of 60, got 0.99"),
        (lambda: classifier_test(X, Y, held_out=1, key=KEY), "held_out: expected a share"),
        (lambda: mmd_test(X, Y, bandwidth=0.0, key=KEY), "bandwidth: expected a positive"),
        (lambda: mmd_test(X, Y, bandwidth=(), key=KEY), "bandwidth: expected a number or several"),
        (lambda: mmd_test(np.eye(30)[0] * 5, np.zeros(30), key=KEY), "bandwidth: .* half of the pairs"),
        (lambda: mmd_test(X, Y, num_permutations=0, key=KEY), "num_permutations"),
        (lambda: energy_test(X, Y, num_permutations=2.5, key=KEY), "num_permutations"),
        (lambda: classifier_test(X, Y, num_permutations=0, key=KEY), "num_permutations"),
        (lambda: sliced_wasserstein(X, Y, num_directions=0, key=KEY), "num_directions"),
        (lambda: sliced_wasserstein(X, Y, order=0.5, key=KEY), "order: expected a number of at least 1, got 0.5"),
        (lambda: sliced_wasserstein(X, Y, order=np.inf, key=KEY), "order"),
    ],
)
def test_options_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_energy_distance_of_equal_samples_is_no_less_than_zero():
    a = np.repeat(np.random.default_rng(0).normal(size=300), 2)
    found = energy_test(a, a, key=jax.random.key(0))
    assert found.statistic == 0.0 and found.p_value == 1.0


@pytest.mark.parametrize("test", [energy_test, mmd_test, classifier_test])
def test_a_seed_is_no_key(test):
    with pytest.raises(ValueError, match=r"key: expected a jax\.random\.key, got 0"):
        test(np.arange(10.0), np.arange(10.0) + 1, key=0)


def test_a_bandwidth_and_a_classifier_are_what_they_are_called():
    x = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match="bandwidth: "):
        mmd_test(x, x + 1, bandwidth="median", key=jax.random.key(0))
    for wrong in ("svm", lambda key, rows, labels: None):
        with pytest.raises(ValueError, match="classifier: "):
            classifier_test(x, x + 1, classifier=wrong, key=jax.random.key(0))
