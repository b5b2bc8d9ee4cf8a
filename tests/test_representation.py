"""What codes say of data, against closed forms of normals, and figures of scikit-learn 1.9.1."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from probgen.data import toys
from probgen.evaluation import (
    Disentanglement,
    Gaps,
    Information,
    Probe,
    Surgery,
    dci,
    elbo_surgery,
    infonce,
    linear_probe,
    mig,
    neighbour_probe,
    nwj,
    sandwich,
)
from probgen.latent import LatentVariableModel, mutual_information, vae
from tests.test_latent import LIKELIHOOD, MARGINAL, NOISE, PRIOR, WEIGHT, Linear, Z, exact_posterior

KEY = jax.random.key(0)


# -- the surgery of the ELBO


def moved(shift, scale=1.0):
    """The exact posterior of the linear-Gaussian model, moved and widened."""
    exact = exact_posterior()
    posterior = Linear(exact.weight, exact.bias + shift, scale * exact.scale_tril)
    return LatentVariableModel(PRIOR, LIKELIHOOD, posterior)


X = MARGINAL.sample(jax.random.key(1), (1500,))
INFORMATION = 0.5 * float(jnp.linalg.slogdet(jnp.eye(Z) + WEIGHT.T @ WEIGHT / NOISE**2)[1])


def test_the_terms_sum_to_the_elbo():
    found = elbo_surgery(moved(jnp.zeros(Z)), X, key=KEY)
    assert abs(found.reconstruction - found.information - found.marginal_kl - found.elbo) < 1e-5
    # with the exact posterior the ELBO is log p(x), whatever is drawn
    np.testing.assert_allclose(found.elbo, np.asarray(MARGINAL.log_prob(X), float).mean(), atol=1e-5)
    np.testing.assert_allclose(found.se_elbo, np.std(MARGINAL.log_prob(X), ddof=1) / math.sqrt(1500), rtol=1e-4)
    other = elbo_surgery(vae((3,), 2, latent_dim=2, hidden=(4,), key=KEY), np.eye(3, dtype=np.uint8), key=KEY)
    assert abs(other.reconstruction - other.information - other.marginal_kl - other.elbo) < 1e-5


def test_each_term_is_its_closed_form():
    """q(z) of the exact posterior is the prior; moved, it is Normal(shift, I), and as informative."""
    exact = elbo_surgery(moved(jnp.zeros(Z)), X, key=KEY, batch_size=99)
    assert abs(exact.information - INFORMATION) < 4.5 * exact.se_information + 0.01 and exact.rows == 1500
    assert abs(exact.marginal_kl) < 0.05  # I of 1,500 rows is off by about exp(I) / 2N
    away = elbo_surgery(moved(jnp.array([1.0, -2.0])), X, key=KEY)
    np.testing.assert_allclose(away.information, exact.information, atol=1e-3)
    assert abs(away.marginal_kl - exact.marginal_kl - 2.5) < 4.5 * away.se_marginal_kl
    text = str(away)
    assert (
        isinstance(away, Surgery)
        and text.startswith(f"ELBO {away.elbo:.3f} ± ")
        and "(1500 rows, information ≤ 7.313)" in text
    )


def test_the_information_is_that_of_the_monitor():
    model = moved(jnp.zeros(Z), 3.0)
    found = elbo_surgery(model, X, key=KEY)
    assert abs(found.information - mutual_information(model, jax.random.key(7), X)) < 6.0 * found.se_information


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (MARGINAL, X, "model: expected one with latent_prior, encode and decode"),
        (moved(jnp.zeros(Z)), X[:, :2], "data: expected rows of shape"),
        (moved(jnp.zeros(Z)), X[:0], "data: expected at least one row"),
        (vae((3,), 2, latent_dim=2, hidden=(4,), context_dim=2, key=KEY), np.eye(3, dtype=int), "at a context"),
    ],
)
def test_what_has_no_elbo_is_refused(model, data, words):
    with pytest.raises(ValueError, match=words):
        elbo_surgery(model, data, key=KEY)


# -- bounds of information


def pairs(random, correlation, dim, rows, blocks=1):
    """log p(y_i | x_j) and log p(y_i) of correlated normals, [blocks, rows, rows] and [blocks, rows, 1]; and I."""
    x, noise = random.standard_normal((2, blocks, rows, dim))
    rest = math.sqrt(1 - correlation**2)
    y = correlation * x + rest * noise
    off = (y[:, :, None] - correlation * x[:, None]) / rest
    log_q = -0.5 * (off**2).sum(-1) - dim * math.log(rest)  # both without (2π)^(dim / 2)
    return log_q, -0.5 * (y**2).sum(-1)[..., None], -0.5 * dim * math.log(1 - correlation**2)


def test_bounds_hold_the_information_of_normals_between_them():
    log_q, log_p, truth = pairs(np.random.RandomState(0), 0.8, 2, 200, 20)
    assert truth < 1.1
    below, above = sandwich(log_q)
    again, nguyen = infonce(log_q - log_p), nwj(1 + log_q - log_p)
    np.testing.assert_allclose([below.nats, below.se_nats], [again.nats, again.se_nats])  # y alone changes nothing
    assert (below.sign, above.sign, nguyen.sign) == ("≥", "≤", "≥")
    for found in (below, above, nguyen):
        assert abs(found.nats - truth) < 4.5 * found.se_nats + 0.02 and found.rows == 200
    assert isinstance(above, Information) and below.nats < above.nats and str(above).startswith("I ≤ ")


def test_few_rows_cannot_see_much_information():
    log_q, log_p, truth = pairs(np.random.RandomState(1), 0.95, 6, 32, 50)
    assert truth > 6.9 > math.log(32)
    below, above = sandwich(log_q)
    assert below.nats <= math.log(32) and below.nats > 0.95 * math.log(32)
    assert above.nats > truth - 4.5 * above.se_nats
    assert nwj(1 + log_q - log_p).nats < truth + 4.5 * nwj(1 + log_q - log_p).se_nats


def test_a_bad_critic_only_loosens_the_lower_bounds():
    log_q, log_p, truth = pairs(np.random.RandomState(2), 0.8, 2, 100, 20)
    for critic in (0.5 * (log_q - log_p), 0.0 * log_q, -(log_q - log_p).clip(-3, 3)):
        assert infonce(critic).nats < truth and nwj(1 + critic).nats < truth


@pytest.mark.parametrize("bound", [infonce, lambda f: nwj(1 + f), lambda f: sandwich(f)[1]], ids=["nce", "nwj", "loo"])
def test_standard_errors_are_those_of_repetition(bound):
    """Rows are contrasts of each other: the spread of the terms alone would be off."""
    random = np.random.RandomState(3)
    found = [bound(log_q - log_p) for log_q, log_p, _ in (pairs(random, 0.8, 1, 60) for _ in range(400))]
    spread = np.std([one.nats for one in found])
    np.testing.assert_allclose(np.mean([one.se_nats for one in found]), spread, rtol=0.15)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (np.zeros((2, 3)), "got shape"),
        (np.zeros((1, 1)), "K of at least 2"),
        (np.zeros(3), "got shape"),
        (np.full((2, 2), np.nan), "finite numbers"),
        (np.full((2, 2), -np.inf), "finite numbers"),
    ],
)
def test_scores_that_are_no_matrix_are_refused(scores, words):
    for bound, name in ((infonce, "scores"), (nwj, "scores"), (sandwich, "log_q")):
        with pytest.raises(ValueError, match=f"{name}: expected.*{words}"):
            bound(scores)


def test_bounds_that_are_infinite_are_refused():
    with pytest.raises(ValueError, match="scores: expected at most 700"):
        nwj(np.array([[0.0, 800.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="log_q: expected each z to be possible under another row"):
        sandwich(np.where(np.eye(3, dtype=bool), 0.0, -np.inf))


# -- probes


def probed():
    random = np.random.RandomState(0)
    z, weight = random.standard_normal((300, 3)), random.standard_normal((3, 3))
    labels = (z @ weight + 0.5 * random.standard_normal((300, 3))).argmax(1)
    numbers = z @ [1.0, -1.0, 0.5] + random.standard_normal(300)
    return z, labels, numbers


def split(codes, targets):
    return (codes[:200], targets[:200]), (codes[200:], targets[200:])


def test_probes_score_as_those_of_scikit_learn():
    """LogisticRegression(C=1 / (0.01 N)), Ridge(0.5 N), KNeighborsClassifier(5), KNeighborsRegressor(5)."""
    z, labels, numbers = probed()
    found = linear_probe(*split(z, labels), penalty=0.01)
    np.testing.assert_allclose(found.score, 0.86)
    np.testing.assert_allclose(found.se, math.sqrt(0.86 * 0.14 / 100))
    np.testing.assert_allclose(linear_probe(*split(z, numbers), penalty=0.5).score, 0.6371031659339487, rtol=1e-9)
    np.testing.assert_allclose(neighbour_probe(*split(z, labels)).score, 0.82, atol=0.02)  # ties are broken otherwise
    np.testing.assert_allclose(neighbour_probe(*split(z, numbers)).score, 0.6385293474364953, rtol=1e-9)
    assert (
        isinstance(found, Probe)
        and found.chance == (labels[200:] == np.bincount(labels[:200]).argmax()).mean()
        and found.rows == 100
    )
    assert (
        str(found) == f"accuracy ≈ 0.8600 ± 0.0347 (100 held-out rows, {found.chance:.4f} by the most frequent label)"
    )


def test_probes_do_not_depend_on_what_they_should_not():
    z, labels, numbers = probed()
    turned = 5.0 * z @ np.linalg.qr(np.random.RandomState(1).standard_normal((3, 3)))[0] - 7.0
    for targets in (labels, numbers):
        assert neighbour_probe(*split(turned, targets), neighbours=1).score == pytest.approx(
            neighbour_probe(*split(z, targets), neighbours=1).score
        )
        assert linear_probe(*split(1000.0 * z + 5.0, targets)).score == pytest.approx(
            linear_probe(*split(z, targets)).score
        )
    named = linear_probe(*split(z, 10 * labels - 4))
    assert named == linear_probe(*split(z, labels))
    images = linear_probe(*split(z.reshape(300, 3, 1), labels))
    assert images == linear_probe(*split(z, labels))


def test_the_error_of_r_squared_is_that_of_repetition():
    random, found = np.random.RandomState(4), []
    for _ in range(200):
        z = random.standard_normal((400, 2))
        found.append(linear_probe(*split(z, z @ [1.0, 1.0] + random.standard_normal(400))))
    assert abs(np.mean([one.score for one in found]) - 2 / 3) < 0.02
    np.testing.assert_allclose(np.mean([one.se for one in found]), np.std([one.score for one in found]), rtol=0.2)


def test_useless_codes_have_no_score():
    random = np.random.RandomState(5)
    z, numbers = random.standard_normal((2000, 2)), random.standard_normal(2000)
    found = linear_probe((z[:1000], numbers[:1000]), (z[1000:], numbers[1000:]))
    assert abs(found.score) < 0.02 and found.measure == "R²" and found.chance == 0.0
    assert neighbour_probe((z[:1000], numbers[:1000]), (z[1000:], numbers[1000:]), neighbours=1).score < -0.5
    constant = np.ones((20, 1))
    labels = np.arange(20) % 2
    assert linear_probe((constant, labels), (constant, labels)).score == 0.5


def test_of_two_equal_counts_the_nearest_counts():
    codes, labels = np.array([[0.0], [1.0], [10.0]]), np.array([1, 0, 0])
    new = (np.array([[0.1], [0.9]]), np.array([1, 0]))
    assert neighbour_probe((codes, labels), new, neighbours=2).score == 1.0


@pytest.mark.parametrize(
    ("fitted", "held_out", "options", "words"),
    [
        (np.zeros(3), None, {}, r"fitted: expected \(codes, targets\)"),
        ((np.zeros((3, 1)), np.arange(2)), None, {}, "fitted: expected codes"),
        ((np.zeros((3, 1)), np.zeros((3, 1))), None, {}, "fitted: expected codes"),
        ((np.full((3, 1), np.nan), np.arange(3)), None, {}, "fitted: expected finite"),
        ((np.zeros((3, 1)), np.ones(3)), None, {}, "fitted: expected targets that differ"),
        ((np.zeros((3, 1)), np.arange(3)), (np.zeros((3, 2)), np.arange(3)), {}, "held_out: expected codes of 1"),
        ((np.zeros((3, 1)), np.arange(3)), (np.zeros((3, 1)), np.arange(3.0)), {}, "held_out: expected targets as"),
        ((np.zeros((3, 1)), np.arange(3.0)), (np.zeros((3, 1)), np.ones(3)), {}, "held_out: expected targets that"),
        ((np.zeros((3, 1)), np.arange(3)), None, {"penalty": -1.0}, "penalty"),
        ((np.zeros((3, 1)), np.arange(3)), None, {"neighbours": 0}, "neighbours"),
        ((np.zeros((3, 1)), np.arange(3)), None, {"neighbours": 4}, "neighbours: expected at most 3"),
    ],
)
def test_rows_that_cannot_be_probed_are_refused(fitted, held_out, options, words):
    held_out = fitted if held_out is None else held_out
    probes = [linear_probe] * ("neighbours" not in options) + [neighbour_probe] * ("penalty" not in options)
    for probe in probes:
        with pytest.raises(ValueError, match=words):
            probe(fitted, held_out, **options)


# -- disentanglement


def factors_and_codes():
    random = np.random.RandomState(0)
    random.standard_normal((300, 3)), random.standard_normal((3, 3)), random.standard_normal((300, 3))
    random.standard_normal(300), random.poisson(3, 50), random.poisson(4, 40)
    factors = np.stack([random.randint(4, size=400), random.randint(3, size=400)], 1)
    first = factors[:, 0] + 0.3 * random.standard_normal(400)
    second = factors[:, 0] - factors[:, 1] + 0.5 * random.standard_normal(400)
    return np.stack([first, second, random.standard_normal(400)], 1), factors


def test_scores_are_those_by_scikit_learn():
    """By mutual_info_score of 20 bins, and by Lasso(0.05) on standardized rows."""
    codes, factors = factors_and_codes()
    np.testing.assert_allclose(mig(codes, factors).of_factors, [0.51545684, 0.19334373], rtol=1e-6)
    np.testing.assert_allclose(mig(codes, factors).score, 0.35440028132044954)
    found = dci(codes, factors, penalty=0.05)
    weights = [[0.8623300039684827, 0.7435028035616053], [0.07104311593647337, 1.075410379438673], [0.0, 0.0]]
    np.testing.assert_allclose(found.importance, weights, atol=1e-8)
    np.testing.assert_allclose(found.r_squared, [0.9386720549576604, 0.7246600192529806], rtol=1e-7)
    np.testing.assert_allclose(found.disentanglement, 0.2792234032103116, rtol=1e-6)
    np.testing.assert_allclose(found.completeness, 0.5696479744275862, rtol=1e-6)
    np.testing.assert_allclose(found.informativeness, found.r_squared.mean())
    assert isinstance(found, Disentanglement) and str(found).startswith("disentanglement ≈ 0.279, completeness ≈ 0.570")
    assert isinstance(mig(codes, factors), Gaps) and str(mig(codes, factors)) == "MIG ≈ 0.354 (factors 0.515, 0.193)"


def grid():
    """All values of three factors, eight times, in no order."""
    rows = np.stack(np.meshgrid(range(3), range(4), range(5)), -1).reshape(-1, 3)
    return np.random.RandomState(0).permutation(np.tile(rows, (8, 1)))


def test_a_number_for_each_factor_is_one():
    factors = grid()
    useless = np.random.RandomState(1).standard_normal((len(factors), 1))
    codes = np.concatenate([factors[:, ::-1] * [3.0, -0.1, 1.0], useless], 1)
    found = dci(codes, factors)
    assert found.disentanglement > 0.98 and found.completeness > 0.98 and found.informativeness > 0.99
    assert mig(codes[:, :3], factors).score == pytest.approx(1.0)


def test_numbers_that_say_the_same_leave_no_gap_and_are_incomplete():
    factors = grid()
    codes = np.concatenate([factors, factors + 0.1 * np.random.RandomState(1).standard_normal(factors.shape)], 1)
    assert mig(np.concatenate([factors, factors], 1), factors).score == 0.0
    twice = dci(codes[:, [0, 1, 2, 3, 4, 5]], factors, penalty=1e-6)
    assert twice.disentanglement > 0.98


def test_mixed_factors_are_entangled():
    factors = grid()
    turn = np.linalg.qr(np.random.RandomState(1).standard_normal((3, 3)))[0]
    codes = (factors - factors.mean(0)) / factors.std(0) @ turn
    found = dci(codes, factors)
    assert found.disentanglement < 0.5 and found.completeness < 0.5 and found.informativeness > 0.99
    assert mig(codes, factors).score < 0.4


def test_what_says_nothing_counts_for_nothing():
    factors = grid()
    noise = np.random.RandomState(1).standard_normal((len(factors), 3))
    found = dci(noise, factors, penalty=0.5)
    assert found.importance.max() == 0.0 and found.disentanglement == 0.0 and found.completeness == 0.0
    assert abs(found.informativeness) < 0.05 and mig(noise, factors, bins=5).score < 0.05


def sprites():
    """Each image of known factors once, in no order, as rows of pixels."""
    factors = np.stack(np.meshgrid(*map(range, toys.SPRITE_FACTORS.values())), -1).reshape(-1, 5)
    factors = np.random.RandomState(0).permutation(factors)
    return np.asarray(toys.sprite_images(factors), float).reshape(len(factors), -1), factors


def test_factors_as_a_code_are_disentangled_wholly_and_noise_not_at_all():
    factors = sprites()[1]
    code = factors[:, [2, 0, 4, 1, 3]] * [-2.0, 1.0, 0.1, 5.0, 1.0] + 3.0
    assert mig(code, factors).score == pytest.approx(1.0) and dci(code, factors)[:2] == pytest.approx((1.0, 1.0))
    assert dci(code, factors).informativeness > 0.999
    noise = np.random.RandomState(1).standard_normal(factors.shape)
    assert mig(noise, factors).score < 0.01 and dci(noise, factors, penalty=0.1)[:2] == (0.0, 0.0)


def test_two_factors_turned_into_each_other_score_between():
    """By the closed form of the entropy of two shares, cos t and sin t; at 45° both say as much of each."""
    place = sprites()[1][:, 3:] / np.sqrt(5.25) - 3.5 / np.sqrt(5.25)  # with a variance of 1
    gaps = []
    for degrees in (0, 10, 20, 30, 45):
        cos, sin = np.cos(np.pi * degrees / 180), np.sin(np.pi * degrees / 180)
        code = place @ np.array([[cos, -sin], [sin, cos]])
        shares = np.array([cos, sin]) / (cos + sin)
        known = 1 - stats.entropy(shares, base=2)
        found = dci(code, place, penalty=1e-6)
        assert found[:2] == pytest.approx((known, known), abs=0.01)
        gaps.append(mig(code, place).score)
    assert gaps[0] == pytest.approx(1.0) and gaps[-1] == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(gaps) < 1e-9).all() and 0.1 < gaps[2] < gaps[1] < 0.9


def test_principal_components_of_images_score_between():
    images, factors = sprites()
    centred = images - images.mean(0)
    code = centred @ np.linalg.svd(centred, full_matrices=False)[2][:5].T
    noise = np.random.RandomState(1).standard_normal(code.shape)
    found, gap = dci(code, factors), mig(code, factors).score
    assert mig(noise, factors).score + 0.05 < gap < 0.5
    assert dci(noise, factors).disentanglement + 0.2 < found.disentanglement < 0.9
    assert 0.2 < found.informativeness < 0.5 and (found.r_squared[3:] > found.r_squared[:3].max()).all()  # of the place


@pytest.mark.parametrize(
    ("codes", "factors", "words"),
    [
        (np.zeros(4), np.zeros((4, 2)), r"codes: expected \[N, D\]"),
        (np.zeros((4, 2)), np.zeros(4), r"factors: expected \[N, K\]"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "at least 4 rows"),
        (np.zeros((5, 2)), np.eye(4, 2), "factors: expected 5 rows"),
        (np.zeros((4, 2)), np.ones((4, 2)), "factors: expected values that differ, got one value of factor 0"),
        (np.full((4, 2), np.inf), np.eye(4, 2), "codes: expected finite"),
        (np.zeros((4, 1)), np.eye(4, 2), "codes.*: expected at least 2"),
    ],
)
def test_factors_that_do_not_fit_are_refused(codes, factors, words):
    for score in (mig, dci):
        with pytest.raises(ValueError, match=words):
            score(codes, factors)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dci(np.eye(4), np.eye(4), penalty=0.0), "penalty"),
        (lambda: dci(np.eye(4), np.eye(4), held_out=1.0), "held_out"),
        (lambda: dci(np.eye(4), np.eye(4), held_out=0.1), "held_out: expected values that differ in the last 1 rows"),
        (lambda: dci(np.eye(4), np.eye(4, 1)), "factors: expected at least 2"),
        (lambda: mig(np.eye(4), np.eye(4), bins=1), "bins"),
    ],
)
def test_each_mistake_names_its_argument(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_factors_of_many_values_are_refused():
    z = np.random.default_rng(0).normal(size=(200, 2))
    with pytest.raises(ValueError, match="factors: expected few values of each, got 200 of factor 0 in 200 rows"):
        mig(z, z)
