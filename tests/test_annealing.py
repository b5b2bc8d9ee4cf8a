"""Annealed importance sampling against evidences in closed form: unbiased with few temperatures, tight with many."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from probgen.evaluation import ais
from probgen.latent import LatentVariableModel, VampPrior
from tests.test_latent import LIKELIHOOD, MARGINAL, PRIOR, D, Z, exact_posterior

KEY = jax.random.key(0)


def annealed(key, x, start=None, **options):
    return ais(key, PRIOR, lambda z: LIKELIHOOD(z).log_prob(x), start=start, **options)


def test_a_linear_gaussian_evidence_is_held_between_two_bounds():
    z = PRIOR.sample(KEY, (8,))
    x = LIKELIHOOD(z).sample(jax.random.key(1))
    exact = MARGINAL.log_prob(x)
    keys = jax.random.split(jax.random.key(2), 8)
    below = jax.jit(jax.vmap(lambda key, x: annealed(key, x)))(keys, x)
    above = jax.jit(jax.vmap(lambda key, x, z: annealed(key, x, z)))(keys, x, z)
    for found in (below, above):
        error = found.log_weights.std(-1) / 4.0  # of 16 chains
        np.testing.assert_array_less(abs(found.log_evidence - exact), 4.5 * error + 0.01)
        assert abs((found.log_evidence - exact).mean()) < 0.05 and error.max() < 0.1
    assert 0.5 < below.acceptance[:, 300:].mean() < 0.85  # the lengths are tuned to two thirds


@pytest.mark.parametrize("temperatures", [1, 3])
def test_weights_are_unbiased_however_few_the_temperatures(temperatures):
    x = MARGINAL.sample(KEY)
    found = annealed(jax.random.key(1), x, chains=20_000, temperatures=temperatures)
    ratio = jnp.exp(found.log_weights - MARGINAL.log_prob(x))
    assert abs(ratio.mean() - 1.0) < 4.5 * ratio.std() / np.sqrt(len(ratio))


def test_weights_of_the_way_back_are_unbiased():
    """With a single temperature their variance would be infinite: the harmonic mean."""
    x = MARGINAL.sample(KEY)
    starts = exact_posterior()(x).sample(jax.random.key(2), (4000,))
    back = jax.jit(jax.vmap(lambda key, z: annealed(key, x, z, chains=1, temperatures=20).log_weights[0]))
    ratio = jnp.exp(MARGINAL.log_prob(x) - back(jax.random.split(jax.random.key(3), 4000), starts))
    assert abs(ratio.mean() - 1.0) < 4.5 * ratio.std() / np.sqrt(len(ratio))


def test_latent_numbers_may_be_positive():
    """A Poisson count of a gamma rate is negative binomial."""
    a, b, x = 3.0, 1.5, 4.0
    found = jax.jit(lambda key: ais(key, dist.Gamma(a, b), lambda z: dist.Poisson(z).log_prob(x), temperatures=500))(
        KEY
    )
    exact = dist.GammaPoisson(a, b).log_prob(x)
    assert abs(found.log_evidence - exact) < 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chains": 0}, "chains"),
        ({"temperatures": 0}, "temperatures"),
        ({"leapfrog": 1.5}, "leapfrog"),
        ({"start": jnp.zeros(Z + 1)}, "start: expected one event"),
        ({"start": [0.0] * (Z + 1)}, "start: expected one event"),
        ({"start": "0"}, "start: expected numbers"),
        ({"start": jnp.full(Z, jnp.nan)}, "start: expected an event within the prior's support .* got .*nan"),
    ],
)
def test_each_mistake_names_its_argument(options, words):
    with pytest.raises(ValueError, match=words):
        annealed(KEY, jnp.zeros(D), **options)


def normal_at_zero(z):
    return dist.Normal(z, 1.0).log_prob(0.0).sum()


NORMAL = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
RATES = dist.Exponential(jnp.ones(2)).to_event(1)


@pytest.mark.parametrize("start", [jnp.array([-1.0, 2.0]), jnp.array([0.0, 2.0])], ids=["outside", "edge"])
def test_a_start_within_the_support_is_needed(start):
    with pytest.raises(ValueError, match="start: expected an event within the prior's support"):
        ais(KEY, RATES, normal_at_zero, start=start)


def test_a_start_may_be_a_list_of_integers_or_traced():
    of = lambda start: ais(KEY, NORMAL, normal_at_zero, chains=1, temperatures=1, leapfrog=1, start=start).log_evidence
    for found in (jax.eval_shape(lambda: of([1, 1])), jax.eval_shape(of, jnp.ones(2))):
        assert found.shape == () and found.dtype == jnp.zeros(()).dtype


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (dist.Normal, "prior: expected an instance"),
        (dist.Normal(jnp.zeros(2), 1.0), "prior: expected batch shape"),
        (VampPrior(jnp.zeros((3, 2))), "such as a model's latent_prior, got a VampPrior"),
        (dist.Bernoulli(0.5 * jnp.ones(2)).to_event(1), "prior: expected one of real numbers, .*enumerated"),
        (LatentVariableModel(PRIOR, LIKELIHOOD, exact_posterior()), "prior: expected an exact density"),
    ],
)
def test_priors_are_distributions_of_one_event(prior, words):
    with pytest.raises(ValueError, match=words):
        ais(KEY, prior, normal_at_zero)


@pytest.mark.parametrize(
    ("log_likelihood", "start", "words"),
    [
        (lambda z: dist.Normal(z, 1.0).log_prob(0.0), None, r"one number for one z and one x, got an array .* \(2,\)"),
        (lambda z: jnp.nan * z.sum(), None, "got NaN at 2 of 2 draws from the prior"),
        (lambda z: jnp.log(z).sum(), jnp.zeros(2), "expected a finite number at start"),
    ],
)
def test_likelihoods_are_single_numbers(log_likelihood, start, words):
    with pytest.raises(ValueError, match=f"log_likelihood: expected.*{words}" if start is None else words):
        ais(KEY, NORMAL, log_likelihood, chains=2, temperatures=2, leapfrog=1, start=start)
