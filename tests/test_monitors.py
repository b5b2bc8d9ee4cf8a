"""What is watched of latent numbers, against the closed forms of a linear-Gaussian model."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array

from probgen.autoregressive import made
from probgen.latent import LatentVariableModel, active_units, kl_of_units, mutual_information, vae, vq_vae
from probgen.mixtures import gaussian_mixture

KEY = jax.random.key(0)
GAIN = jnp.array([[0.9, 0.2, 0.0], [0.0, 0.05, 0.0], [0.3, 0.0, 0.4]])
SCALE = jnp.array([0.5, 1.0, 0.7])
X = jax.random.normal(jax.random.key(1), (1500, 3))


class Linear(eqx.Module):
    """v → Normal(gain v, scale²)."""

    gain: Array
    scale: Array

    def __call__(self, v):
        return dist.Normal(v @ self.gain.T, self.scale).to_event(1)


class Moved(eqx.Module):
    """The same as a flow, whose mean is not known."""

    gain: Array
    scale: Array

    def __call__(self, v):
        to = dist.transforms.AffineTransform(v @ self.gain.T, self.scale)
        return dist.TransformedDistribution(dist.Normal(jnp.zeros(v.shape), 1.0), to).to_event(1)


def model(posterior=Linear, prior=None):
    prior = dist.Normal(jnp.zeros(3), 1.0).to_event(1) if prior is None else prior
    return LatentVariableModel(prior, Linear(jnp.eye(3), jnp.ones(3)), posterior(GAIN, SCALE))


def test_active_units_are_those_whose_means_vary():
    variances = np.var(X @ GAIN.T, 0)
    assert (variances > 0.01).tolist() == [True, False, True]
    assert active_units(model(), KEY, X) == 2 and active_units(model(), KEY, X, least=0.5) == 1
    with pytest.raises(NotImplementedError):
        _ = model(Moved).encode(X).mean
    assert active_units(model(Moved), KEY, X, least=0.03) == 2  # the noise of 64 draws is 1/64 in the second


def test_the_kl_of_each_unit_is_the_closed_form():
    mean, variance = X @ GAIN.T, SCALE**2
    each = 0.5 * (mean**2 + variance - 1 - jnp.log(variance)).mean(0)
    np.testing.assert_allclose(kl_of_units(model(), KEY, X), each, rtol=1e-4)
    with pytest.raises(ValueError, match="closed form"):
        kl_of_units(model(prior=gaussian_mixture(3, components=2, key=KEY)), KEY, X)


@pytest.mark.parametrize("posterior", [Linear, Moved])
def test_the_information_is_that_of_a_gaussian_channel(posterior):
    """x ~ N(0, I), z | x ~ N(A x, S): I = ½ log det(A Aᵀ + S) / det S."""
    noise = jnp.diag(SCALE**2)
    expected = 0.5 * (jnp.linalg.slogdet(GAIN @ GAIN.T + noise)[1] - jnp.linalg.slogdet(noise)[1])
    found = jax.jit(lambda key: mutual_information(model(posterior), key, X))(KEY)
    np.testing.assert_allclose(found, expected, atol=0.06)  # its standard error is 0.02


def test_a_conditional_model_is_watched_at_its_contexts():
    x, contexts = jax.random.randint(KEY, (9, 4), 0, 3), jnp.linspace(-1, 1, 9)[:, None]
    conditional = vae((4,), 3, latent_dim=2, hidden=(8,), context_dim=1, key=KEY)
    assert active_units(conditional, KEY, (x, contexts)).shape == ()
    expected = conditional(contexts).elbo_terms(KEY, x).kl_of_each.mean(0)
    np.testing.assert_allclose(kl_of_units(conditional, KEY, (x, contexts)), expected, rtol=1e-5)
    assert mutual_information(conditional, KEY, (x, contexts)) <= jnp.log(9)


@pytest.mark.parametrize(
    "other", [lambda: made((3,), 2, hidden=(4,), key=KEY), lambda: vq_vae((3,), 2, codes=2, hidden=(4,), key=KEY)]
)
def test_a_model_without_a_posterior_is_refused(other):
    for watched in (active_units, kl_of_units, mutual_information):
        with pytest.raises(ValueError, match="model: expected one with a posterior"):
            watched(other(), KEY, jnp.zeros((5, 3), int))


@pytest.mark.parametrize("watched", [active_units, kl_of_units, mutual_information])
def test_rows_that_are_none_are_refused(watched):
    for rows in (X[0], X[:0], X[:, :2]):
        with pytest.raises(ValueError, match=r"rows: expected \[N, 3\] of at least one row, got shape"):
            watched(model(), KEY, rows)
    with pytest.raises(ValueError, match=r"rows: expected numbers in .*, got some outside"):
        watched(vae((4,), 3, latent_dim=2, hidden=(8,), key=KEY), KEY, jnp.array([[0, 1, 2, 0], [0, 0, 3, 0]]))
    conditional = vae((4,), 3, latent_dim=2, hidden=(8,), context_dim=1, key=KEY)
    with pytest.raises(ValueError, match=r"rows: expected \(x, contexts\), got an array of shape \(2, 4\)"):
        watched(conditional, KEY, jnp.zeros((2, 4), int))
