"""Precision, recall, density, coverage and memorization against `prdc`, scikit-learn, NumPy and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from probgen.evaluation import memorization, precision_recall
from probgen.evaluation.samples.rows import nearest

_RNG = np.random.default_rng(0)
X, Y, Z = _RNG.normal(size=(60, 3)), 1.2 * _RNG.normal(size=(50, 3)) + 0.3, _RNG.normal(size=(40, 3))


def brute(x, y, k):
    """The four figures by NumPy, and how many balls hold each draw."""
    radius = lambda a: np.sort(cdist(a, a), 1)[:, k]
    in_data, in_draws = cdist(y, x) <= radius(x), cdist(x, y) <= radius(y)
    return in_data.any(1).mean(), in_draws.any(1).mean(), in_data.sum(1).mean() / k, in_data.any(0).mean()


# -- precision and recall


def test_the_four_figures_are_those_of_prdc():
    """Found by `compute_prdc` of prdc 0.2."""
    found = precision_recall(X, Y, k=5)
    assert found[:4] == pytest.approx((0.84, 1.0, 0.756, 0.8), rel=1e-4)
    assert (found.k, found.rows) == (5, (60, 50)) and found.se[1] == 0.0
    assert found.se[0] == pytest.approx((0.84 * 0.16 / 49) ** 0.5)
    assert str(found).startswith("precision 0.840 ± 0.052, recall 1.000 ± 0.000, density 0.756 ± ")


@pytest.mark.parametrize("dim", [1, 2, 16, 17, 200])
def test_the_four_figures_are_those_of_numpy(dim):
    rng = np.random.default_rng(dim)
    x, y = rng.normal(size=(80, dim)), 0.9 * rng.normal(size=(60, dim)) + 0.1
    for k in (1, 4):
        assert precision_recall(x, y, k=k)[:4] == pytest.approx(brute(x, y, k), abs=1e-6)
    assert precision_recall(x + 1e5, y + 1e5)[:4] == pytest.approx(brute(x, y, 5), abs=1e-6)


def test_what_is_expected_of_one_distribution():
    """Coverage 1 − Π_{i=1..k} (N − i) / (2N − i), whatever the distribution (Naeem et al.); density 1."""
    count, k, found = 50, 3, []
    for seed in range(100):
        x, y = np.random.default_rng(seed).normal(size=(2, count, 2))
        found.append(precision_recall(x, y, k=k)[:4])
    mean, se = np.mean(found, 0), np.std(found, 0) / 10
    i = np.arange(1, k + 1)
    assert mean[3] == pytest.approx(1 - np.prod((count - i) / (2 * count - i)), abs=3.5 * se[3])
    assert mean[2] == pytest.approx(1.0, abs=3.5 * se[2]) and mean[0] == pytest.approx(mean[1], abs=4 * se[0])


@pytest.mark.parametrize("dim", [2, 300])
def test_copies_lie_in_the_balls_on_whose_edge_they_are(dim):
    x = np.random.default_rng(dim).normal(size=(200, dim))
    assert precision_recall(x, x, k=5)[:4] == pytest.approx((1.0, 1.0, 6 / 5, 1.0))


def test_modes_that_are_missed_cost_recall_and_draws_outside_cost_precision():
    centers = np.array([[-10.0, 0.0], [10.0, 0.0]])
    data, missed, beside = np.random.default_rng(1).normal(size=(3, 200, 2))
    data, missed, beside = data + centers[np.arange(200) % 2], missed + centers[0], beside + np.array([0.0, 50.0])
    found = precision_recall(data, missed)
    assert found.precision > 0.95 and found.recall < 0.55 and found.coverage < 0.55
    assert precision_recall(data, beside)[:4] == (0.0, 0.0, 0.0, 0.0)
    collapsed = precision_recall(data, np.full((200, 2), data[0]))
    assert collapsed.precision == 1.0 and collapsed.recall == pytest.approx(1 / 200)


# -- memorization


def test_distances_to_the_nearest_row():
    for dim in (2, 40):
        x, y = np.split(np.random.default_rng(1).normal(size=(160, dim)), [70])
        np.testing.assert_allclose(nearest(jnp.asarray(x), jnp.asarray(y)), cdist(x, y).min(1), rtol=1e-5)


def test_the_chance_to_be_nearer_is_the_area_that_scikit_learn_finds():
    """Found by `roc_auc_score` and `NearestNeighbors` of scikit-learn 1.9.1."""
    found = memorization(X, Z, Y)
    assert found.nearer == pytest.approx(0.46, rel=1e-4)
    ours, theirs = cdist(Y, X).min(1), cdist(Z, X).min(1)
    assert found.p_value == pytest.approx(stats.mannwhitneyu(ours, theirs, alternative="less").pvalue, rel=1e-4)
    assert found.share == (ours < np.sort(theirs)[1]).mean() and found.copies == 0
    half = memorization(X, Z, Y, quantile=0.5)
    assert half.share == (ours < np.sort(theirs)[19]).mean() and half.rows == (60, 40, 50)


def test_its_error_and_p_values_where_nothing_is_copied_and_where_a_fifth_is():
    found, copied = [], []
    for seed in range(500):
        train, held_out, draws = np.random.default_rng(seed).normal(size=(3, 40, 2))
        found.append(memorization(train, held_out, draws))
        if seed < 50:
            draws[:12] = train[:12] + 0.01
            copied.append(memorization(train, held_out, draws))
    p = np.array([f.p_value for f in found])
    assert stats.kstest(p, "uniform").pvalue > 0.005
    assert abs((p <= 0.05).mean() - 0.05) < 3 * (0.05 * 0.95 / 500) ** 0.5
    # given the training rows
    nearer = np.array([f.nearer for f in found])
    assert nearer.mean() == pytest.approx(0.5, abs=0.01)
    assert np.std(nearer) == pytest.approx(np.mean([f.se for f in found]), rel=0.15)
    assert np.mean([f.share for f in found]) == pytest.approx(2 / 41, abs=0.01)  # below the second of 40
    assert np.mean([f.p_value < 0.05 for f in copied]) > 0.7


@pytest.mark.parametrize("dim", [3, 100])
def test_copies_are_counted_in_single_and_double_precision(dim):
    rng = np.random.default_rng(dim)
    train, held_out = rng.normal(size=(2, 300, dim)) * 0.1 + 5.0
    draws = jnp.asarray(rng.normal(size=(50, dim)), jnp.float32).at[:20].set(train[:20])
    found = memorization(train, held_out, draws)
    assert found.copies == 20 and found.share == 0.4
    assert memorization(train, held_out, train[:20] + 1e-5).copies == 0
    assert "20 of 50 draws are copies" in str(found)


def test_rows_of_few_values_all_have_copies():
    bits = np.random.default_rng(1).integers(0, 2, (3, 200, 2))
    found = memorization(*bits)
    assert (found.nearer, found.se, found.p_value, found.share, found.copies) == (0.5, 0.0, 1.0, 0.0, 200)


# -- what cannot be judged


@pytest.mark.parametrize("function", [precision_recall, lambda x, y: memorization(x, Z, y)])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:, :2], r"draws: expected events of shape \(3,\) as in (data|train), got \(2,\)"),
        (X, Y[:4], "draws: expected at least . rows"),
        (X[:4], Y, "(data|train): expected at least . rows"),
        (X, Y * np.nan, "draws: expected finite"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(function, x, y, message):
    with pytest.raises(ValueError, match=message):
        function(x, y)


def test_options_that_make_no_sense_are_refused():
    for k in (0, 2.0):
        with pytest.raises(ValueError, match="k: expected an integer"):
            precision_recall(X, Y, k=k)
    with pytest.raises(ValueError, match="draws: expected at least 51 rows"):
        precision_recall(X, Y, k=50)
    same = np.ones((60, 3))
    with pytest.raises(ValueError, match="data: expected rows that differ"):
        precision_recall(same, Y)
    with pytest.raises(ValueError, match="train, held_out, draws: expected rows that differ, got 180"):
        memorization(same, same, same)
    for quantile in (0.0, 1.0, 1, "all"):
        with pytest.raises(ValueError, match="quantile: expected a number in"):
            memorization(X, Z, Y, quantile=quantile)
