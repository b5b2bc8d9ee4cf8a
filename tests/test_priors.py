"""Learned priors against quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from test_latent import LIKELIHOOD, MARGINAL, PRIOR, exact_posterior

import probgen
from probgen.distributions import Conditional, NormalHead
from probgen.flows import affine_flow
from probgen.latent import LatentVariableModel, Resampled, VampPrior, vamp_vae
from probgen.networks import MLP
from probgen.score import vp_score

KEY = jax.random.key(0)
GRID = jnp.linspace(-8, 8, 4001)


def normal(dim=1):
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)


def exact_log_prob(prior):
    """On the grid, with Z by quadrature."""
    log_pi = prior.proposal.log_prob(GRID[:, None])
    a = jax.nn.sigmoid(jax.vmap(prior.acceptance)(GRID[:, None])[:, 0])
    total = jnp.trapezoid(a * jnp.exp(log_pi), GRID)
    last = (1 - total) ** (prior.truncation - 1)
    return log_pi + jnp.log(a * (1 - last) / total + last), total


@pytest.mark.parametrize(("shift", "truncation"), [(0.0, 100), (-3.0, 5), (-6.0, 100), (4.0, 3)])
def test_its_density_is_that_of_quadrature(shift, truncation):
    prior = Resampled(normal(), lambda z: shift + 2.0 * jnp.sin(3.0 * z) - z, truncation=truncation, num_samples=4096)
    log_p, _ = exact_log_prob(prior)
    assert abs(jnp.trapezoid(jnp.exp(log_p), GRID) - 1) < 1e-3
    got = jax.jit(lambda p: p.log_prob_estimate(KEY, GRID[:, None]))(prior)
    likely = log_p > -8
    assert (abs(got - log_p)[likely] < prior.tolerance).all()
    assert abs(jnp.trapezoid(jnp.exp(got), GRID) - 1) < prior.tolerance
    draws = jax.jit(lambda p: p.sample(KEY, (50_000,)))(prior)[:, 0]
    for f in (lambda z: z, jnp.square, lambda z: jnp.sin(3.0 * z)):
        want = jnp.trapezoid(jnp.exp(log_p) * f(GRID), GRID)
        assert abs(f(draws).mean() - want) < 4.5 * f(draws).std() / np.sqrt(50_000) + 1e-3


@pytest.mark.parametrize("proposal", [normal(2), affine_flow(2, key=KEY)], ids=["normal", "flow"])
def test_its_gradient_is_that_of_the_same_noise(proposal):
    """Finite differences, in every parameter: Z is a function of them."""
    with jax.enable_x64(True):
        prior = Resampled(proposal, MLP(2, 1, hidden=(4,), out_scale=1.0, key=KEY), num_samples=16, truncation=4)
        params, rest = probgen.partition(prior)
        params = {path: p.astype("float64") + 0.1 for path, p in params.items()}
        z = jax.random.normal(KEY, (3, 2))
        f = jax.jit(lambda params: probgen.combine(params, rest).log_prob_estimate(KEY, z).sum())
        for path, slope in jax.grad(f)(params).items():
            step = 1e-6 * np.ones_like(params[path])
            moved = f(params | {path: params[path] + step}) - f(params | {path: params[path] - step})
            np.testing.assert_allclose(slope.sum(), moved / 2e-6, rtol=1e-5, atol=1e-7)


def test_extremes_stay_finite():
    for logit in (-1e4, -80.0, 0.0, 80.0, 1e4):
        f = lambda logit: Resampled(normal(), lambda z: logit + 0 * z).log_prob_estimate(KEY, jnp.ones(1))
        value, slope = jax.value_and_grad(f)(logit)
        np.testing.assert_allclose(value, normal().log_prob(jnp.ones(1)), atol=1e-2)  # all are accepted alike
        assert np.isfinite(slope)


def test_a_model_with_it_is_an_estimate_and_learns():
    prior = Resampled(PRIOR, MLP(2, 1, hidden=(4,), key=KEY), num_samples=64)
    parts = (probgen.core.Frozen(part) for part in (LIKELIHOOD, exact_posterior()))  # the prior alone learns
    model = LatentVariableModel(prior, *parts)
    assert model.kind == "estimate" and model.tolerance == prior.tolerance
    x = MARGINAL.sample(KEY, (50,)) + 1.0
    estimate = jax.jit(lambda m: m.log_prob_estimate(KEY, x))
    assert estimate(model).shape == (50,)
    with pytest.raises(NotImplementedError, match="log_prob_estimate"):
        model.log_prob_bound(KEY, x)
    result = probgen.fit(model, x, steps=60, optimizer=optax.adam(0.03), key=KEY, progress=False)
    assert estimate(result.model).mean() > estimate(model).mean() + 0.1


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="truncation: expected an integer of at least 2"):
        Resampled(normal(), jnp.sum, truncation=1)
    with pytest.raises(ValueError, match="num_samples: expected"):
        Resampled(normal(), jnp.sum, num_samples=0)
    with pytest.raises(ValueError, match=r"proposal: expected batch shape \(\)"):
        Resampled(dist.Normal(jnp.zeros(2), 1.0), jnp.sum)
    with pytest.raises(ValueError, match="acceptance: expected one number"):
        Resampled(normal(2), lambda z: z).log_prob_estimate(KEY, jnp.zeros(2))
    with pytest.raises(ValueError, match="proposal: expected a distribution, such as a normal, got a VampPrior"):
        Resampled(VampPrior(jnp.zeros((3, 1))), jnp.sum)


@pytest.mark.parametrize(
    ("at", "interval", "words"),
    [
        (jnp.nan, None, "pseudo_inputs: expected finite numbers, got nan to nan"),
        (jnp.nan, (0.0, 1.0), "pseudo_inputs: expected numbers within"),
        (0.0, (0.0, 0.0), r"interval: expected two finite numbers low < high, got \(0.0, 0.0\)"),
        (0.0, (1.0, 0.0), "interval: expected two finite numbers low < high"),
        (0.0, 1.0, "interval: expected two finite numbers low < high, got 1.0"),
    ],
)
def test_pseudo_inputs_are_numbers_within_an_interval(at, interval, words):
    with pytest.raises(ValueError, match=words):
        VampPrior(jnp.full((2, 2), at), interval=interval)


def test_one_level_has_no_interval():
    with pytest.raises(ValueError, match="levels: expected an integer of at least 2, got 1"):
        vamp_vae((2,), 1, key=KEY)


def test_latent_diffusion_has_the_modes_that_a_normal_prior_misses():
    """A score model as the prior, trained with encoder and decoder by one bound; of data whose density is known."""
    centers = jnp.array([[-2.0, 0.0, 1.0], [2.0, 1.0, 0.0]])
    data = dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(centers, 0.3).to_event(1))
    x, held_out = data.sample(KEY, (2000,)), data.sample(jax.random.key(1), (500,))

    def trained(prior):
        keys = jax.random.split(jax.random.key(2))
        likelihood, posterior = (
            Conditional(MLP(n, 2 * m, hidden=(16,), out_scale=0.1, key=key), NormalHead(), (m,))
            for n, m, key in ((2, 3, keys[0]), (3, 2, keys[1]))
        )
        model, adam = (
            LatentVariableModel(prior, likelihood, posterior),
            optax.adam(optax.cosine_decay_schedule(1e-2, 600)),
        )
        return probgen.fit(model, x, steps=600, batch_size=200, optimizer=adam, key=KEY, progress=False).model

    found = {}
    for name, prior in {"normal": normal(2), "score": vp_score((2,), width=32, depth=2, steps=16, key=KEY)}.items():
        model = trained(prior)
        found[name] = jax.jit(lambda m: m.log_prob_bound(KEY, held_out, 64))(model).mean()
        assert found[name] < data.log_prob(held_out).mean() + 0.05
        draws = jax.jit(lambda m: m.sample(KEY, (2000,)))(model)
        found[name, "between"] = jnp.mean(abs(draws[:, 0]) < 1.0)
    assert found["score"] > found["normal"] + 0.2
    assert found["score", "between"] < 0.02 < 0.1 < found["normal", "between"]
