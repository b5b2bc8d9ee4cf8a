"""The VAE of discrete codes against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import _integers

import probgen
from probgen.evaluation import enumerated
from probgen.inference import estimators, objectives
from probgen.latent import discrete_vae

KEY = jax.random.key(0)
X = jax.random.randint(KEY, (3, 2), 0, 3)


def stirred(codes):
    model = discrete_vae((2,), 3, latent_dim=2, codes=codes, hidden=(8,), components=0, key=KEY)
    params, rest = probgen.partition(model)
    keys = jax.random.split(KEY, len(params))
    moved = {p: v + 0.5 * jax.random.normal(k, v.shape) for k, (p, v) in zip(keys, params.items(), strict=True)}
    return probgen.combine(moved, rest)


@pytest.mark.parametrize("codes", [2, 3])
def test_the_bound_is_the_enumerated_one_and_lies_below_the_sum_over_codes(codes):
    model, x, z = stirred(codes), _integers((2,), 3)(), _integers((2,), codes)()

    @jax.jit
    def facts(model):
        log_q = model.encode(x).log_prob(z[:, None])
        joint = model.prior.log_prob(z)[:, None] + model.decode(z[:, None]).log_prob(x)
        evidence = enumerated(model.prior, lambda z: model.decode(z).log_prob(x))
        return evidence, jnp.sum(jnp.exp(log_q) * (joint - log_q), 0), model.log_weights(KEY, x, 20_000)

    evidence, bound, log_weights = facts(model)
    np.testing.assert_allclose(jax.nn.logsumexp(evidence), 0.0, atol=1e-5)
    np.testing.assert_array_less(abs(log_weights.mean(0) - bound), 4.5 * log_weights.std(0) / np.sqrt(20_000))
    assert (bound < evidence).all()


@pytest.mark.parametrize("codes", [2, 3])
def test_the_kl_is_that_of_the_enumeration(codes):
    model, z = stirred(codes), _integers((2,), codes)()

    @jax.jit
    def facts(model):
        log_q = model.encode(X).log_prob(z[:, None])
        return jnp.sum(jnp.exp(log_q) * (log_q - model.prior.log_prob(z)[:, None]), 0), model.elbo_terms(KEY, X)

    kl, terms = facts(model)
    np.testing.assert_allclose(terms.kl, kl, atol=1e-5)
    np.testing.assert_allclose(terms.kl_of_each.sum(-1), kl, atol=1e-5)


def test_a_line_goes_through_bits_and_through_no_other_codes():
    ends = stirred(2).interpolate(X[0], X[1], steps=3)[::2]
    means = stirred(2).encode(X[:2]).mean
    np.testing.assert_allclose(ends, jax.vmap(lambda z: stirred(2).likelihood(z).mean)(means), atol=1e-5)
    with pytest.raises(ValueError, match="interpolate: expected latent numbers that a line can go through"):
        stirred(3).interpolate(X[0], X[1])


@pytest.mark.parametrize("z", [[0, 3], [-1, 0], [0.5, 0.5]])
def test_codes_that_there_are_not_are_not_decoded(z):
    with pytest.raises(ValueError, match="got some outside"):
        stirred(3).decode(jnp.array(z))


@pytest.mark.parametrize("codes", [2, 3])
def test_the_gradient_of_leave_one_out_is_the_enumerated_one(codes):
    params, rest = probgen.partition(stirred(codes))
    path = max(path for path in params if "posterior" in path and "bias" in path)  # of the last layer
    at = params[path]

    def gradient(estimator, key, num):
        model = lambda v: probgen.combine({**params, path: v}, rest)
        objective = objectives.ELBO(num_particles=num)
        guide = lambda v: estimators.use(lambda x: model(v).guide(x, name=None), {"z": estimator})
        loss = lambda v: objective.loss(key, {}, lambda x: model(v).program(x, name=None), guide(v), X)
        return jax.grad(loss)(at)

    exact = jax.jit(lambda: gradient(estimators.Enumerate(), KEY, 1))()
    draws = jax.jit(jax.vmap(lambda key: gradient(estimators.LeaveOneOut(), key, 2)))(jax.random.split(KEY, 2000))
    assert jnp.abs(exact).max() > 0.01
    np.testing.assert_array_less(abs(draws.mean(0) - exact), 4.5 * draws.std(0) / np.sqrt(2000) + 1e-5)


def test_it_trains_at_contexts_and_keeps_in_a_file(tmp_path):
    model = discrete_vae((2,), 3, latent_dim=3, hidden=(8,), context_dim=1, key=KEY)
    x = jnp.repeat(jnp.array([[0, 0], [2, 2]]), 32, 0)
    result = probgen.fit(model, (x, jnp.ones((64, 1))), steps=60, key=KEY, progress=False)
    assert result.losses[-10:].mean() < result.losses[:10].mean()
    probgen.save(tmp_path / "model", result.model)
    again = probgen.load(tmp_path / "model")(jnp.ones(1))
    np.testing.assert_array_equal(again.log_prob_bound(KEY, x), result.model(jnp.ones(1)).log_prob_bound(KEY, x))
