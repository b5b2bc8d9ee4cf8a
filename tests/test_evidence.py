"""log p(x) by enumeration against NumPy; Pareto k̂ of posteriors that are exact and too narrow."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import genpareto

from probgen.evaluation import enumerated, pareto_k, smoothed_evidence
from probgen.latent import LatentVariableModel, VampPrior
from probgen.score import vp_score

KEY = jax.random.key(0)
WEIGHT, UPPER = jax.random.normal(KEY, (3, 4)), jax.random.normal(jax.random.key(1), (4, 2))
BITS = lambda size: np.array(list(itertools.product((0, 1), repeat=size)))
X = BITS(3)


def belief_net(weight):
    return lambda z: dist.Bernoulli(logits=z @ weight.T - 0.3).to_event(1)


def hierarchy():
    """z₂ (2 bits) → z₁ (4 bits) → x (3 bits)."""
    posterior = lambda size: lambda v: dist.Bernoulli(logits=jnp.zeros((*v.shape[:-1], size))).to_event(1)
    top = dist.Bernoulli(jnp.array([0.3, 0.6])).to_event(1)
    prior = LatentVariableModel(top, belief_net(UPPER), posterior(2))
    return LatentVariableModel(prior, belief_net(WEIGHT), posterior(4))


def log_bernoulli(x, logits):
    return (x * logits - np.logaddexp(0, logits)).sum(-1)


# -- enumeration


def test_the_sum_over_bits_is_that_of_numpy():
    probs, z = np.array([0.2, 0.5, 0.7, 0.9]), BITS(4)
    prior = dist.Bernoulli(jnp.asarray(probs)).to_event(1)
    joint = (z * np.log(probs) + (1 - z) * np.log1p(-probs)).sum(-1) + log_bernoulli(
        X[:, None], z @ np.asarray(WEIGHT).T - 0.3
    )
    found = enumerated(prior, lambda z: belief_net(WEIGHT)(z).log_prob(X))
    np.testing.assert_allclose(found, np.logaddexp.reduce(joint, 1), rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(found).sum(), 1.0, rtol=1e-5)


def test_a_hierarchy_is_summed_layer_by_layer():
    model, weight, upper = hierarchy(), np.asarray(WEIGHT), np.asarray(UPPER)
    z1, z2 = BITS(4), BITS(2)
    top = (z2 * np.log([0.3, 0.6]) + (1 - z2) * np.log([0.7, 0.4])).sum(-1)
    middle = np.logaddexp.reduce(top + log_bernoulli(z1[:, None], z2 @ upper.T - 0.3), 1)
    joint = middle + log_bernoulli(X[:, None], z1 @ weight.T - 0.3)

    @jax.jit
    def facts(model):
        found = enumerated(model.latent_prior, lambda z: model.decode(z).log_prob(X))
        return found, model.log_prob_bound(KEY, X, 2000)

    found, bound = facts(model)
    np.testing.assert_allclose(found, np.logaddexp.reduce(joint, 1), rtol=1e-5)
    assert (bound < found + 0.2).all()


def test_the_memory_of_a_sum_does_not_grow_with_the_values():
    def needs(bits):
        prior = dist.Bernoulli(0.5 * jnp.ones(bits)).to_event(1)
        log_likelihood = lambda z: jnp.log(jnp.ones((2000, bits)) @ (1.0 + z))
        return jax.jit(lambda: enumerated(prior, log_likelihood)).lower().compile().memory_analysis().temp_size_in_bytes

    assert needs(12) < needs(8) + 1e6  # of the values themselves; all terms of the sum would be 33 MB


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (dist.Bernoulli(0.5 * jnp.ones(13)).to_event(1), "at most 4096 values .* got 8192 values"),
        (dist.Poisson(jnp.ones(2)).to_event(1), "cannot be counted"),
        (dist.Normal(jnp.zeros(2), 1.0).to_event(1), "cannot be counted"),
        (dist.Bernoulli(0.5 * jnp.ones(3)), "batch shape"),
        (VampPrior(jnp.zeros((3, 2))), "such as a model's latent_prior, got a VampPrior"),
        (vp_score((2,), levels=2, width=8, depth=1, key=KEY), "a density of kind 'bound'"),
    ],
)
def test_what_cannot_be_enumerated_is_refused(prior, message):
    with pytest.raises(ValueError, match=f"prior: expected.*{message}"):
        enumerated(prior, lambda z: jnp.zeros(()))


# -- Pareto


def linear(posterior_scale):
    """x = z + noise: the posterior is Normal(x / 2, ½), in four numbers."""
    prior = dist.Normal(jnp.zeros(4), 1.0).to_event(1)
    posterior = lambda x: dist.Normal(x / 2, posterior_scale).to_event(1)
    return LatentVariableModel(prior, lambda z: dist.Normal(z, 1.0).to_event(1), posterior)


def test_k_is_small_for_a_good_posterior_and_large_for_one_far_too_narrow():
    x = 2**0.5 * jax.random.normal(KEY, (6, 4))
    k = lambda scale: pareto_k(linear(scale).log_weights(KEY, x, 10_000))
    assert (k(0.5**0.5) < 0.5).all() and (k(0.8) < 0.5).all()
    narrow = k(0.1)  # in one number, 1 − 0.1² / ½ = 0.98
    assert (narrow > 0.7).all() and abs(narrow.mean() - 0.98) < 0.2
    assert (pareto_k(np.full((50, 3), -2.0)) == -np.inf).all()


def test_k_is_the_shape_of_pareto_weights():
    weights = genpareto.rvs(np.array([0.2, 0.9]), size=(20_000, 2), random_state=0)
    np.testing.assert_allclose(pareto_k(np.log(weights)), [0.2, 0.9], atol=0.28)  # 3 (1 + k) / √tail


def test_the_smoothed_evidence_is_near_the_truth_and_steadier_than_the_mean():
    x = jnp.broadcast_to(jnp.ones(4), (200, 4))
    log_weights = linear(0.5).log_weights(KEY, x, 200)
    truth = dist.Normal(0.0, 2**0.5).log_prob(1.0) * 4
    smooth, plain = smoothed_evidence(log_weights), jax.nn.logsumexp(log_weights, 0) - np.log(200)
    np.testing.assert_allclose(smooth.mean(), truth, atol=0.1)
    assert np.std(smooth) < np.std(plain)
    # a tail as it should be is hardly moved, whatever the weights are multiplied with
    good = np.asarray(linear(0.8).log_weights(KEY, x[:3], 1000))
    np.testing.assert_allclose(smoothed_evidence(good), np.logaddexp.reduce(good, 0) - np.log(1000), atol=0.01)
    np.testing.assert_allclose(smoothed_evidence(good - 500), smoothed_evidence(good) - 500, rtol=1e-6)


@pytest.mark.parametrize(
    ("log_weights", "message"),
    [
        (np.zeros((24, 5)), "at least 25 particles on axis 0, got 24"),
        (np.float32(1.0), "at least 25"),
        (np.array([np.nan] * 30), "finite"),
        (np.array([-np.inf] + [0.0] * 30), "finite"),
    ],
)
def test_weights_that_cannot_be_judged_are_refused(log_weights, message):
    for function in (pareto_k, smoothed_evidence):
        with pytest.raises(ValueError, match=f"log_weights: expected.*{message}"):
            function(log_weights)
