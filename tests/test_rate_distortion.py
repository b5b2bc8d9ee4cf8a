"""Rate and distortion of a linear-Gaussian decoder against its closed form, along β and for a trained model."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from probgen.evaluation import RateDistortion, RateDistortionPoint, rate_distortion, rate_distortion_point
from probgen.latent import LatentVariableModel, vae
from probgen.plotting import latent_space, rate_distortion_plane
from tests.test_latent import LIKELIHOOD, MARGINAL, MEAN, NOISE, PRIOR, WEIGHT, D, Linear, Z, exact_posterior

KEY = jax.random.key(0)
X = np.asarray(MARGINAL.sample(jax.random.key(1), (16,)))


def cost(x, z):
    return -LIKELIHOOD(z).log_prob(x)


def curve(beta):
    """(R, D) of p(z) p(x | z)^β: Normal(m, S), S = (I + β WᵀW / σ²)⁻¹, m = β S Wᵀ(x − μ) / σ², in float64."""
    weight, off = np.asarray(WEIGHT, float), np.asarray(X - MEAN, float)
    s = np.linalg.inv(np.eye(Z) + beta * weight.T @ weight / NOISE**2)
    m = beta * off @ weight @ s / NOISE**2
    rate = 0.5 * (np.trace(s) + (m**2).sum(1) - Z - np.linalg.slogdet(s)[1])
    squares = ((off - m @ weight.T) ** 2).sum(1) + np.trace(weight @ s @ weight.T)
    return rate, squares / (2 * NOISE**2) + 0.5 * D * np.log(2 * np.pi * NOISE**2)


def test_the_curve_from_one_run_is_the_closed_form():
    betas = np.concatenate([[0.0], np.geomspace(0.02, 3.0, 70)])
    found = rate_distortion(KEY, PRIOR, cost, X[:4], betas=betas, chains=10_000, leapfrog=3)
    each = np.array([curve(beta) for beta in betas])[..., :4]  # [β, (R, D), rows]
    rate, distortion = each.mean(-1).T
    some = rate > 1.0  # of less, 2 % would be below the noise of 40,000 draws
    assert some.sum() > 30
    np.testing.assert_allclose(found.rate[some], rate[some], rtol=0.02)
    np.testing.assert_allclose(found.distortion[some], distortion[some], rtol=0.02)
    np.testing.assert_allclose(found.rate, rate, atol=0.02)
    assert abs(found.rate[0]) < 1e-6
    se = each[[40, -1]].std(-1, ddof=1).T / 2
    np.testing.assert_allclose([found.se_rate[[40, -1]], found.se_distortion[[40, -1]]], se, rtol=0.1)
    assert (
        isinstance(found, RateDistortion)
        and found.rows == 4
        and found.acceptance.shape == (70,)
        and 0.3 < found.acceptance[40:].mean() < 0.9
    )
    assert "(71 points, 4 rows)" in str(found) and "at β = 3" in str(found)


def test_at_one_rate_and_distortion_are_the_evidence():
    """By default β ends there; a single row has no standard error."""
    found = rate_distortion(KEY, PRIOR, cost, X[:1], batch_size=1, leapfrog=4)
    np.testing.assert_allclose(found.betas[[0, -1]], [0.0, 1.0])
    np.testing.assert_allclose(found.rate[-1] + found.distortion[-1], -MARGINAL.log_prob(X[0]), atol=0.05)
    assert np.isnan(found.se_rate).all() and len(found.rate) == 1001


def test_latent_numbers_may_be_positive():
    """With d = z the tilted exponential is one again: Exponential(1 + β)."""
    betas = np.linspace(0.0, 4.0, 60)
    prior, linear = dist.Exponential(jnp.ones(1)).to_event(1), lambda x, z: z.sum()
    found = rate_distortion(KEY, prior, linear, np.zeros((2, 1)), betas=betas, chains=10_000, leapfrog=3)
    np.testing.assert_allclose(found.distortion, 1 / (1 + betas), rtol=0.03)
    np.testing.assert_allclose(found.rate, np.log1p(betas) - betas / (1 + betas), atol=0.02)


def linear_model(posterior):
    return LatentVariableModel(PRIOR, LIKELIHOOD, posterior)


def test_a_model_with_the_exact_posterior_lies_on_the_curve_and_another_above():
    rate, distortion = (float(part.mean()) for part in curve(1.0))
    rows = np.tile(X, (50, 1))
    found = rate_distortion_point(linear_model(exact_posterior()), rows, key=KEY, batch_size=300)
    np.testing.assert_allclose(found.rate, rate, rtol=1e-4)  # the KL is in closed form
    assert abs(found.distortion - distortion) < 4.5 * found.se_distortion and found.rows == 800
    assert (
        isinstance(found, RateDistortionPoint)
        and found.kind == "exact"
        and str(found).startswith(f"rate = {found.rate:.3f}")
    )
    exact = exact_posterior()
    wide = Linear(exact.weight, exact.bias, 2.0 * exact.scale_tril)
    other = rate_distortion_point(linear_model(wide), rows, key=KEY)
    gap = Z * (2.0 - 0.5 - np.log(2.0))  # KL(q ‖ p(z | x))
    assert abs(other.rate + other.distortion - rate - distortion - gap) < 4.5 * other.se_distortion


def test_a_conditional_model_takes_its_contexts():
    model = vae((3,), 2, latent_dim=2, hidden=(4,), context_dim=2, key=KEY)
    x, contexts = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 1]]), np.eye(3, 2, dtype=np.float32)
    found = rate_distortion_point(model, (x, contexts), key=KEY)
    np.testing.assert_allclose(found.rate, jax.jit(lambda: model(contexts).kl(KEY, x))().mean(), rtol=1e-3)
    with pytest.raises(ValueError, match=r"data: expected \(x, context\)"):
        rate_distortion_point(model, x, key=KEY)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"betas": [0.1, 1.0]}, "betas: expected numbers that rise from 0"),
        ({"betas": [0.0, 1.0, 0.5]}, "betas: expected numbers that rise"),
        ({"betas": [0.0]}, "betas"),
        ({"betas": [0.0, np.inf]}, "betas"),
        ({"chains": 0}, "chains"),
        ({"leapfrog": 0}, "leapfrog"),
        ({"batch_size": 0}, "batch_size"),
        ({"data": X[:0]}, "data: expected rows"),
        ({"data": 1.0}, "data: expected rows"),
        ({"prior": dist.Bernoulli(0.5 * jnp.ones(2)).to_event(1)}, "prior: expected one of real numbers"),
        ({"prior": dist.Normal(jnp.zeros(2), 1.0)}, "prior: expected batch shape"),
        ({"distortion": lambda x, z: z}, r"distortion: expected one number .* shape \(2,\)"),
        ({"distortion": lambda x, z: jnp.nan * z.sum()}, "distortion: expected numbers, got NaN"),
        ({"distortion": 3.0}, "distortion: expected a function"),
    ],
)
def test_each_mistake_names_its_argument(options, words):
    parts = {"prior": PRIOR, "distortion": cost, "data": X[:2]} | options
    given = {"betas": [0.0, 0.5, 1.0]} | {name: parts.pop(name) for name in list(parts) if name not in _PARTS}
    with pytest.raises(ValueError, match=words):
        rate_distortion(KEY, parts["prior"], parts["distortion"], parts["data"], **given)


_PARTS = ("prior", "distortion", "data")


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (MARGINAL, X, "model: expected one with elbo_terms"),
        (linear_model(exact_posterior()), X[:, :2], "data: expected rows of shape"),
        (linear_model(exact_posterior()), X[:0], "data: expected at least one row"),
    ],
)
def test_a_point_needs_a_model_with_latents(model, data, words):
    with pytest.raises(ValueError, match=words):
        rate_distortion_point(model, data, key=KEY)


# -- pictures


def test_the_plane_has_the_curve_the_points_and_lines_of_one_elbo():
    points = {"a": (2.0, 3.0), "b": (1.0, 5.0)}
    ax = rate_distortion_plane([0.0, 1.0], [4.0, 2.0], label="decoder", points=points, elbo=True)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[4.0, 0.0], [2.0, 1.0]])
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [tuple(dot.get_xydata()[0]) for dot in dots] == [(3.0, 2.0), (5.0, 1.0)]
    assert [text.get_text() for text in ax.texts] == ["a", "b"] and len(ax.lines) == 5
    assert ax.get_xlabel() == "distortion" and ax.get_legend().get_texts()[0].get_text() == "decoder"


def test_codes_have_the_colours_of_their_labels_or_a_scale():
    z = np.random.RandomState(0).standard_normal((30, 2))
    ax = latent_space(z, np.arange(30) % 3, size=9.0)
    assert len(ax.collections) == 3 and ax.collections[0].get_sizes()[0] == 9.0
    np.testing.assert_allclose(ax.collections[1].get_offsets(), z[1::3])
    scale = latent_space(z, np.linspace(0.0, 1.0, 30), ax=ax.figure.add_subplot())
    np.testing.assert_allclose(scale.collections[0].get_array(), np.linspace(0.0, 1.0, 30))
    assert len(latent_space(z, ax=ax.figure.add_subplot()).collections) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rate_distortion_plane([0.0], [1.0, 2.0]), "distortion"),
        (lambda: rate_distortion_plane([0.0], [1.0], elbo=True), "elbo"),
        (lambda: latent_space(np.zeros((3, 3))), "codes"),
        (lambda: latent_space(np.zeros((3, 2)), [1, 2]), "values"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
