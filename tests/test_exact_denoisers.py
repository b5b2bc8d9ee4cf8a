"""Exact denoisers of normals and mixtures against numerical integration and automatic derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probgen.score import Data, GaussianDenoiser, GaussianMixtureDenoiser, coefficients

WEIGHTS = np.array([1.0, 2.0, 0.5])
LOC = np.array([[-1.0, 0.5], [1.0, 0.0], [0.3, -0.8]])
SCALE = np.array([[0.3, 0.5], [0.2, 0.4], [0.6, 0.25]])
ROOT = np.array([[[0.3, 0.0], [0.2, 0.4]], [[0.5, 0.0], [-0.3, 0.2]], [[0.4, 0.0], [0.0, 0.4]]])
FORMS = ["one normal", "one normal, full", "mixture", "mixture, full"]


def make(form):
    """The denoiser, and the density of its data at points [..., 2], by its formula."""
    full, one = "full" in form, "one" in form
    covariance = ROOT @ ROOT.transpose(0, 2, 1) if full else np.stack([np.diag(s**2) for s in SCALE])
    weights = np.eye(3)[0] if one else WEIGHTS / WEIGHTS.sum()

    def density(x):
        off = x[..., None, :] - LOC
        square = jnp.einsum("...kd,kde,...ke->...k", off, np.linalg.inv(covariance), off)
        return (jnp.exp(-0.5 * square) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))) @ weights

    if one:
        how = {"covariance": jnp.asarray(covariance[0])} if full else {"scale": jnp.asarray(SCALE[0])}
        return GaussianDenoiser(jnp.asarray(LOC[0]), **how), density
    how = {"covariance": jnp.asarray(covariance)} if full else {"scale": jnp.asarray(SCALE)}
    return GaussianMixtureDenoiser(jnp.asarray(WEIGHTS), jnp.asarray(LOC), **how), density


@pytest.mark.parametrize("form", FORMS)
def test_the_mean_and_the_density_are_those_of_numerical_integration(form):
    with jax.enable_x64(True):
        denoiser, density = make(form)
        side = jnp.linspace(-4.0, 4.0, 401)
        x = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), -1)
        z = jnp.array([0.4, -0.3])
        for log_snr in (-6.0, 0.0, 3.0):
            alpha, sigma = coefficients(log_snr)
            joint = density(x) * jnp.exp(-0.5 * jnp.sum((z - alpha * x) ** 2, -1) / sigma**2) / (2 * jnp.pi * sigma**2)
            mean = jnp.sum(joint[..., None] * x, (0, 1)) / joint.sum()
            np.testing.assert_allclose(denoiser(z, log_snr), mean, atol=1e-8)
            np.testing.assert_allclose(denoiser.log_prob(z, log_snr), jnp.log(joint.sum() * 0.02**2), atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_score_and_noise_are_derivatives_of_the_density(form):
    with jax.enable_x64(True):
        denoiser, _ = make(form)
        z = jnp.array([0.4, -0.3])
        for log_snr in (-20.0, 1.0, 20.0):
            score = jax.grad(denoiser.log_prob)(z, log_snr)
            np.testing.assert_allclose(denoiser.score(z, log_snr), score, rtol=1e-9)
            np.testing.assert_allclose(denoiser.noise(z, log_snr), -coefficients(log_snr)[1] * score, rtol=1e-9)
            np.testing.assert_allclose(
                Data().noise(denoiser(z, log_snr), z, log_snr), denoiser.noise(z, log_snr), rtol=1e-6
            )


@pytest.mark.parametrize("form", FORMS)
def test_no_digits_are_lost_at_either_end(form):
    """In float32, where (z − α x̂) / σ has none left: at λ = 40, of a noise of 2e-9."""
    z = np.array([0.4, -0.3])
    with jax.enable_x64(True):
        exact = make(form)[0]
        expected = {s: [np.asarray(f(z, s)) for f in (exact, exact.score, exact.noise)] for s in (-60.0, 40.0)}
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), exact)
    for log_snr, values in expected.items():
        found = [f(jnp.asarray(z), log_snr) for f in (single, single.score, single.noise)]
        for value, wanted in zip(found, values, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=2e-5)
    for log_snr in (-170.0, 170.0, 300.0):
        for f in (single, single.score, single.noise, single.log_prob):
            assert jnp.isfinite(f(jnp.asarray(z), log_snr)).all()


def test_an_event_of_any_shape_is_that_of_its_numbers():
    denoiser, z = make("mixture, full")[0], jnp.array([0.4, -0.3])
    column = GaussianMixtureDenoiser(denoiser.weights, denoiser.loc[..., None], covariance=denoiser.covariance)
    np.testing.assert_allclose(column(z[:, None], 0.0)[:, 0], denoiser(z, 0.0), rtol=1e-6)
    number = GaussianMixtureDenoiser(jnp.ones(2), jnp.array([-1.0, 1.0]), jnp.array(0.5))
    alpha, sigma = coefficients(0.0)
    expected = jnp.tanh(alpha * 0.3 / (alpha**2 * 0.25 + sigma**2))
    side = 0.3 - alpha * jnp.array([-1.0, 1.0])
    means = jnp.array([-1.0, 1.0]) + alpha * 0.25 * side / (alpha**2 * 0.25 + sigma**2)
    np.testing.assert_allclose(
        number(jnp.array(0.3), 0.0), 0.5 * (means @ jnp.array([1 - expected, 1 + expected])), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianDenoiser(jnp.zeros(2)), "scale, covariance: expected one of them, got neither"),
        (lambda: GaussianDenoiser(jnp.zeros(1), jnp.ones(1), covariance=jnp.eye(1)), "got both"),
        (lambda: GaussianMixtureDenoiser(jnp.ones(2), jnp.zeros((3, 1)), jnp.array(1.0)), "weights, loc"),
        (lambda: GaussianMixtureDenoiser(jnp.ones(2), jnp.zeros((2, 1)), covariance=jnp.eye(1)[None]), "covariance"),
        (
            lambda: GaussianMixtureDenoiser(-jnp.ones(2), jnp.zeros((2, 1)), jnp.array(1.0)),
            "weights: expected positive",
        ),
        (lambda: GaussianDenoiser(jnp.zeros(2), jnp.array([1.0, 0.0])), "scale: expected a positive number, got 0.0"),
        (lambda: GaussianDenoiser(0.0, -1.0), "scale: expected a positive number, got -1.0"),
        (
            lambda: GaussianMixtureDenoiser(jnp.ones(2), jnp.zeros((2, 1)), -jnp.ones((2, 1))),
            "scale: expected",
        ),
        (lambda: GaussianDenoiser(jnp.zeros(2), covariance=-jnp.eye(2)), "covariance: expected a positive definite"),
        (lambda: GaussianDenoiser(jnp.zeros(2), covariance=jnp.array([[1, 1.0], [0, 1]])), "covariance: expected"),
        (lambda: GaussianDenoiser(jnp.zeros(2), jnp.ones(3))(jnp.zeros(2), 0.0), "scale: expected the event's shape"),
        (lambda: GaussianDenoiser(0.0, covariance=jnp.eye(2))(jnp.zeros(3), 0.0), r"covariance: expected \[3, 3\]"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
