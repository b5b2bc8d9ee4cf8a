"""Latents over latents: their programs, their evidence by enumeration; priors that are learned with the model."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

import probgen
from probgen.distributions import BoundedNormalHead, Conditional
from probgen.inference import objectives
from probgen.latent import (
    LatentVariableModel,
    VampPrior,
    flow_prior_vae,
    helmholtz_machine,
    hierarchical_vae,
    vamp_vae,
)
from probgen.networks import MLP

KEY = jax.random.key(0)
X = jnp.array(list(itertools.product([0, 1], repeat=3)))


def net(units=(2, 2)):
    params, rest = probgen.partition(helmholtz_machine((3,), units=units, key=KEY))
    moved = {
        name: value + 0.4 * jax.random.normal(jax.random.fold_in(KEY, i), value.shape)
        for i, (name, value) in enumerate(sorted(params.items()))
    }
    return probgen.combine(moved, rest)


@jax.jit
def evidence(model):
    """log p(x) of all x by all four bits."""
    one, two = (jnp.array(list(itertools.product([0, 1], repeat=n))) for n in (2, 2))
    upper = model.prior
    log_p = upper.latent_prior.log_prob(two)[:, None] + jax.vmap(lambda z: upper.likelihood(z).log_prob(one))(two)
    given = jax.vmap(lambda z: model.likelihood(z).log_prob(X))(one)
    return jax.nn.logsumexp(log_p[:, :, None] + given, (0, 1))


def test_a_belief_net_sums_to_one_and_its_weights_are_unbiased():
    model = net()
    np.testing.assert_allclose(jnp.exp(evidence(model)).sum(), 1, rtol=1e-5)
    weights = jax.jit(lambda m: m.log_weights(KEY, X, 20_000))(model)
    unbiased, error = jnp.exp(weights).mean(0), jnp.exp(weights).std(0) / np.sqrt(len(weights))
    np.testing.assert_array_less(abs(unbiased - jnp.exp(evidence(model))), 4.5 * error)


def test_a_hierarchys_program_has_a_site_for_each_layer():
    model = net(units=(3, 2, 2))
    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as guide:
        model.guide(X)
    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as program:
        model.program(X)
    shapes = {"z": (8, 3), "z2": (8, 2), "z3": (8, 2)}
    assert {name: guide[name]["value"].shape for name in shapes} == shapes
    assert {name: program[name]["value"].shape for name in shapes} == shapes
    plan = objectives.ELBO().plan(KEY, {}, model.program, model.guide, X)
    assert set(plan.choices) == set(shapes)


@pytest.mark.parametrize(
    "objective",
    [objectives.ELBO(2), objectives.WakeSleep(), objectives.ReweightedWakeSleep(5, 0.5)],
    ids=["ELBO", "wake-sleep", "reweighted"],
)
def test_a_belief_net_of_two_layers_learns_by_any_objective(objective):
    x = jnp.array([[1, 1, 0]] * 30 + [[0, 0, 1]] * 10)
    before = net()
    adam = optax.adam(2e-2)
    result = probgen.fit(
        before, x, objective=objective, optimizer=adam, steps=300, batch_size=20, key=KEY, progress=False
    )
    cost = lambda m: -jnp.mean(evidence(m)[jnp.sum(x * jnp.array([4, 2, 1]), -1)])
    assert cost(result.model) < cost(before) - 0.5


def test_the_bound_of_the_program_is_the_bound_of_the_model():
    model = hierarchical_vae((3,), 2, latent_dims=(3, 2, 2), hidden=(8,), components=0, key=KEY)
    objective = objectives.ELBO(num_particles=500)
    loss = jax.jit(lambda key: objective.loss(key, {}, lambda x: model.program(x), lambda x: model.guide(x), X))
    ours = jax.lax.map(loss, jax.random.split(KEY, 8))
    bounds = jax.jit(lambda m: m.log_weights(jax.random.key(1), X, 4000).sum(1))(model)
    assert abs(ours.mean() + bounds.mean()) < 4.5 * np.hypot(ours.std() / 8**0.5, bounds.std() / 4000**0.5)
    assert probgen.fit(model, X, steps=2, key=KEY, progress=False).losses.shape == (2,)


# -- priors


def posterior(key):
    return Conditional(MLP(2, 2, hidden=(4,), out_scale=1.0, key=key), BoundedNormalHead(), (1,))


def test_a_vamp_prior_is_the_posterior_mixed_and_learns_by_finite_differences():
    u, q = jnp.array([[0.3, 1.0], [1.5, 0.2], [0.9, 0.9]]), posterior(KEY)
    prior = VampPrior(u, interval=(0.0, 2.0))
    np.testing.assert_allclose(prior.pseudo_inputs, u, rtol=1e-5)
    z = jnp.linspace(-2, 2, 5)[:, None]

    @jax.jit
    def facts(prior, q):
        mixed = jax.nn.logsumexp(jax.vmap(lambda u: q(u).log_prob(z))(u), 0) - np.log(3)
        return prior(q).log_prob(z), mixed, prior(q).sample(KEY, (20_000,)), q(u).mean

    log_prob, mixed, draws, means = facts(prior, q)
    np.testing.assert_allclose(log_prob, mixed, rtol=1e-5)
    assert abs(draws.mean() - means.mean()) < 0.05
    likelihood = lambda z: dist.Normal(jnp.concatenate([z, -z], -1), 1.0).to_event(1)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), (VampPrior(u, interval=(0.0, 2.0)), q))
        model = LatentVariableModel(wide[0], likelihood, wide[1])
        params, rest = probgen.partition(model)
        x, key = jnp.array([[0.5, 1.5]]), jax.random.key(1)
        bound = jax.jit(lambda p: probgen.combine(p, rest).log_prob_bound(key, x).sum())
        grads = jax.jit(jax.grad(bound))(params)
        assert {"prior.raw", "prior.logits"} <= params.keys()
        for name, grad in grads.items():
            step = np.zeros(grad.size)
            step[0] = 1e-6
            step = step.reshape(grad.shape)
            slope = (bound({**params, name: params[name] + step}) - bound({**params, name: params[name] - step})) / 2e-6
            np.testing.assert_allclose(grad.ravel()[0], slope, rtol=1e-5, atol=1e-8)


def test_vamp_priors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="pseudo_inputs: expected numbers within"):
        VampPrior(jnp.array([[3.0]]), interval=(0.0, 2.0))
    with pytest.raises(ValueError, match="pseudo_inputs: the posterior takes no events"):
        VampPrior(jnp.zeros((4, 5)))(posterior(KEY))
    with pytest.raises(ValueError, match="data: expected at least 5 rows of shape"):
        vamp_vae((2, 2), 3, pseudo_inputs=5, latent_dim=2, hidden=(4,), data=jnp.zeros((9, 4), int), key=KEY)
    with pytest.raises(ValueError, match="latent_dims"):
        hierarchical_vae((2,), 3, latent_dims=(), key=KEY)


@pytest.mark.parametrize("recipe", [vamp_vae, flow_prior_vae])
def test_learned_priors_train_and_load(recipe, tmp_path):
    options = {vamp_vae: {"pseudo_inputs": 3}, flow_prior_vae: {"layers": 2, "width": 4}}[recipe]
    x, contexts = jax.random.randint(KEY, (12, 4), 0, 3), jax.random.normal(KEY, (12, 2))
    for context in (None, 2):
        model = recipe((4,), 3, latent_dim=3, hidden=(4,), context_dim=context, key=KEY, **options)
        data = x if context is None else (x, contexts)
        trained = probgen.fit(model, data, steps=2, batch_size=6, key=KEY, progress=False).model
        before, after = (probgen.partition(m)[0] for m in (model, trained))
        assert all((before[name] != after[name]).any() for name in before if "prior" in name)
        probgen.save(tmp_path / "model.safetensors", trained)
        loaded = probgen.load(tmp_path / "model.safetensors")
        at = lambda m, c=context: m if c is None else m(contexts)
        facts = jax.jit(lambda m, at=at: (at(m).log_prob_bound(KEY, x), at(m).sample(KEY)))
        (of_loaded, _), (of_trained, draws) = facts(loaded), facts(trained)
        np.testing.assert_array_equal(of_loaded, of_trained)
        assert draws.shape == ((4,) if context is None else (12, 4))
