"""AutoFlow and flows in programs: against conjugate posteriors, and wherever numpyro takes a guide."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.reparam import NeuTraReparam

import probgen
from probgen.bijectors import Affine, Coupling
from probgen.distributions import Transformed
from probgen.flows import real_nvp
from probgen.inference import AutoFlow, estimators, objectives
from probgen.networks import MLP

KEY = jax.random.key(0)
RECIPE = functools.partial(real_nvp, layers=2, hidden=(16,), inverse=False)

# a linear regression: its posterior is Gaussian and correlated
X = jax.random.normal(jax.random.key(1), (30, 3)) @ jnp.array([[1.0, 0.9, 0.0], [0.0, 0.5, 0.0], [0.3, 0.0, 1.0]])
Y = X @ jnp.array([1.0, -2.0, 0.5]) + jax.random.normal(jax.random.key(2), (30,))
COVARIANCE = jnp.linalg.inv(jnp.eye(3) / 4 + X.T @ X)
MEAN = COVARIANCE @ X.T @ Y


def regression(x, y=None):
    weights = numpyro.sample("weights", dist.Normal(0.0, 2.0).expand([3]).to_event(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(x @ weights, 1.0), obs=y)


PRIORS = {
    "scale": dist.LogNormal(0.5, 0.3),
    "shares": dist.Dirichlet(jnp.array([4.0, 6.0, 10.0])),
    "share": dist.Beta(5.0, jnp.array([3.0, 2.0])),
}


def constrained():
    """Independent sites on other supports: the prior is the posterior."""
    numpyro.sample("scale", PRIORS["scale"])
    numpyro.sample("shares", PRIORS["shares"])
    with numpyro.plate("two", 2):
        numpyro.sample("share", PRIORS["share"])


def adam(steps, rate=0.02):
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def svi_run(model, guide, *args, steps, rate=0.02, objective=None):
    svi = SVI(model, guide, adam(steps, rate), objective or Trace_ELBO(8))
    return svi.run(KEY, steps, *args, progress_bar=False)


def draws_of(guide, params):
    return jax.jit(lambda params: guide.sample_posterior(jax.random.key(3), params, sample_shape=(4000,)))(params)


@pytest.fixture(scope="module")
def trained():
    """A guide of the regression, and its params."""
    guide = AutoFlow(regression, RECIPE, key=KEY)
    return guide, svi_run(regression, guide, X, Y, steps=1500).params


def close_to_the_posterior(weights, tolerance=0.1):
    """Mean within `tolerance` posterior sds, covariance within `tolerance` on the scale of correlations."""
    sd = jnp.sqrt(jnp.diag(COVARIANCE))
    np.testing.assert_allclose((weights.mean(0) - MEAN) / sd, 0.0, atol=tolerance)
    np.testing.assert_allclose((jnp.cov(weights.T) - COVARIANCE) / jnp.outer(sd, sd), 0.0, atol=tolerance)


# -- what it finds


def test_svi_finds_the_conjugate_posterior(trained):
    guide, params = trained
    draws = draws_of(guide, params)
    close_to_the_posterior(draws["weights"])


def test_fit_with_sticking_the_landing_finds_it_too():
    """Where the flow can be the posterior, the gradient's variance ends near zero, and so does the loss's."""
    guide = AutoFlow(regression, RECIPE, key=KEY)
    sticking = estimators.use(guide, {"_auto_latent": estimators.StickingTheLanding()})
    result = probgen.fit(
        regression, (X, Y), guide=sticking, objective=objectives.ELBO(8), optimizer=adam(1500), steps=1500, key=KEY,
        progress=False,
    )  # fmt: skip
    close_to_the_posterior(draws_of(guide, result.params)["weights"])
    assert np.std(result.losses[-100:]) * len(X) < 0.1


def test_supports_are_the_sites_own():
    guide = AutoFlow(constrained, RECIPE, init_loc_fn=numpyro.infer.init_to_uniform, key=KEY)
    params = svi_run(constrained, guide, steps=1000).params
    draws = draws_of(guide, params)
    assert (draws["scale"] > 0).all() and ((draws["share"] > 0) & (draws["share"] < 1)).all()
    np.testing.assert_allclose(draws["shares"].sum(-1), 1.0, rtol=1e-5)
    for name, prior in PRIORS.items():  # a mean of 4000 draws has a standard error of 0.016 sd
        sd = jnp.sqrt(prior.variance)
        np.testing.assert_allclose((draws[name].mean(0) - prior.mean) / sd, 0.0, atol=0.15)
        np.testing.assert_allclose(draws[name].std(0) / sd, 1.0, atol=0.15)


def test_it_starts_narrow_at_the_initial_location():
    where = numpyro.infer.init_to_value(values={"weights": jnp.array([3.0, -1.0, 5.0])})
    guide = AutoFlow(regression, RECIPE, init_loc_fn=where, init_scale=0.05, key=KEY)
    start = Predictive(guide, params={}, num_samples=2000)(KEY, X, Y)["weights"]
    np.testing.assert_allclose(start.mean(0), [3.0, -1.0, 5.0], atol=0.01)
    np.testing.assert_allclose(start.std(0), 0.05, atol=0.01)


# -- wherever numpyro takes a guide


def test_a_fresh_guide_with_the_params_is_the_guide(trained):
    guide, params = trained
    assert set(params) == {"auto_flow$params"}
    fresh = AutoFlow(regression, RECIPE, key=jax.random.key(9))  # other weights, another start
    first = Predictive(fresh, params=params, num_samples=5)(KEY, X, Y)  # sets it up, within a traced loop
    again = Predictive(fresh, params=params, num_samples=5)(KEY, X, Y)
    one = Predictive(guide, params=params, num_samples=5)(KEY, X, Y)
    np.testing.assert_allclose(again["weights"], one["weights"], rtol=1e-5)
    assert first["weights"].shape == (5, 3)
    x = jax.random.normal(KEY, (10, 3))
    densities = [jax.jit(lambda flow: flow.log_prob(x))(g.get_posterior(params)) for g in (guide, fresh)]
    np.testing.assert_allclose(*densities, rtol=1e-5)


def test_predictive_of_the_model_draws_from_the_posterior(trained):
    guide, params = trained
    draws = Predictive(regression, guide=guide, params=params, num_samples=4000)(KEY, X)["y"]
    assert draws.shape == (4000, 30)
    expected = jnp.sqrt(1 + jnp.einsum("ni,ij,nj->n", X, COVARIANCE, X))
    np.testing.assert_allclose((draws.mean(0) - X @ MEAN) / expected, 0.0, atol=0.1)
    np.testing.assert_allclose(draws.std(0) / expected, 1.0, atol=0.06)


def test_neutra_samples_the_posterior(trained):
    guide, params = trained
    neutra = NeuTraReparam(guide, params)
    mcmc = MCMC(NUTS(neutra.reparam(regression)), num_warmup=200, num_samples=6000, progress_bar=False)
    mcmc.run(KEY, X, Y)
    latent = mcmc.get_samples()["auto_shared_latent"]
    np.testing.assert_allclose(jnp.cov(latent.T), jnp.eye(3), atol=0.2)  # what the flow is there for
    close_to_the_posterior(neutra.transform_sample(latent)["weights"])


def test_the_posterior_is_an_exact_density(trained):
    guide, params = trained
    flow = guide.get_posterior(params)
    x, log_prob = jax.jit(lambda flow: flow.sample_and_log_prob(KEY, (1000,)))(flow)
    np.testing.assert_allclose(jax.jit(lambda flow, x: flow.log_prob(x))(flow, x), log_prob, atol=1e-3)
    gap = log_prob - dist.MultivariateNormal(MEAN, COVARIANCE).log_prob(x)
    assert abs(gap.mean()) < 0.02 and gap.std() < 0.15  # the KL divergence, and its spread


def test_medians_and_quantiles(trained):
    guide, params = trained
    sd = jnp.sqrt(jnp.diag(COVARIANCE))
    np.testing.assert_allclose((guide.median(params)["weights"] - MEAN) / sd, 0.0, atol=0.1)
    low, high = guide.quantiles(params, [0.16, 0.84])["weights"]
    np.testing.assert_allclose((high - low) / (2 * sd), 0.994, atol=0.1)


# -- what it costs


def test_no_draw_is_inverted(monkeypatch):
    def refuse(*args):
        raise AssertionError("inverted")

    monkeypatch.setattr(Coupling, "inverse_event", refuse)
    guide = AutoFlow(regression, RECIPE, key=KEY)
    result = svi_run(regression, guide, X, Y, steps=2)
    probgen.fit(regression, (X, Y), guide=guide, objective=objectives.ELBO(2), steps=2, key=KEY, progress=False)
    guide.sample_posterior(KEY, result.params, sample_shape=(3,))
    with numpyro.handlers.seed(rng_seed=0):  # as `sample_posterior` draws: expanded, auxiliary
        with numpyro.handlers.substitute(data=result.params), numpyro.handlers.trace() as trace:
            guide._sample_latent(sample_shape=(4,))
    site = trace["_auto_latent"]
    assert site["infer"]["is_auxiliary"] and site["value"].shape == (4, 3)
    log_prob = site["fn"].log_prob(site["value"], site["intermediates"])
    monkeypatch.undo()
    np.testing.assert_allclose(log_prob, jax.jit(site["fn"].log_prob)(site["value"]), atol=1e-3)


def test_one_compilation_serves_all_steps_and_data():
    guide = AutoFlow(regression, RECIPE, key=KEY)
    svi = SVI(regression, guide, optax.adam(1e-3), Trace_ELBO())
    state = jax.jit(svi.init)(KEY, X, Y)
    traced = []

    @jax.jit
    def update(state, x, y):
        traced.append(True)
        return svi.update(state, x, y)

    for i in range(3):
        state, loss = update(state, X + i, Y)
        assert jnp.isfinite(loss)
    assert len(traced) == 1


# -- one number, and what is wrong


def affine(dim, *, key):
    return Transformed(dist.Normal(jnp.zeros(dim), 1.0).to_event(1), Affine(jnp.zeros(dim), jnp.zeros(dim)))


def one_number(y=2.0):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(z, 1.0), obs=y)


def test_one_latent_number():
    guide = AutoFlow(one_number, affine, key=KEY)
    draws = guide.sample_posterior(KEY, svi_run(one_number, guide, steps=600).params, sample_shape=(4000,))["z"]
    np.testing.assert_allclose([draws.mean(), draws.std()], [1.0, 0.5**0.5], atol=0.08)
    with pytest.raises(ValueError, match="recipe: the program has 1 latent number, and dim: a coupling needs"):
        svi_run(one_number, AutoFlow(one_number, RECIPE, key=KEY), steps=1)


class NoPath(dist.Normal):
    has_rsample = False


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (functools.partial(RECIPE, context_dim=2), "expected it to return a Transformed, got ConditionalModel"),
        (lambda dim, *, key: RECIPE(dim + 1, key=key), r"expected batch shape \(\) and event shape \(3,\)"),
        (lambda dim, *, key: Transformed(NoPath(jnp.zeros(dim), 1.0), affine(dim, key=key).bijector), "gradients"),
    ],
)
def test_recipes_that_make_no_guide(recipe, message):
    with pytest.raises(ValueError, match=f"recipe: .*{message}"):
        svi_run(regression, AutoFlow(regression, recipe, key=KEY), X, Y, steps=1)


def test_scales_that_are_none():
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="init_scale: expected a positive number"):
            AutoFlow(regression, RECIPE, init_scale=scale, key=KEY)


def test_a_base_that_learns_is_no_base_for_neutra():
    def recipe(dim, *, key):
        return Transformed(affine(dim, key=key), Affine(jnp.zeros(dim), jnp.zeros(dim)))

    guide = AutoFlow(one_number, recipe, key=KEY)
    params = svi_run(one_number, guide, steps=1).params
    assert any(path.startswith("flow.base.") for path in params["auto_flow$params"])
    with pytest.raises(NotImplementedError, match="the base of this flow learns"):
        guide.get_base_dist()


# -- flows at the sites of programs


def test_an_amortized_posterior_teaches_its_encoder():
    """z ~ Normal(0, I₂), x | z ~ Normal(A z, ½): the exact posterior is linear in x."""
    loadings = jax.random.normal(jax.random.key(4), (5, 2))
    data = jax.random.normal(jax.random.key(5), (512, 2)) @ loadings.T
    data = data + 0.5 * jax.random.normal(jax.random.key(6), (512, 5))
    conditional = real_nvp(2, layers=2, hidden=(16,), context_dim=3, key=jax.random.key(7))
    encoder = MLP(5, 3, hidden=(16,), out_scale=1.0, key=jax.random.key(8))

    def model(x):
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            numpyro.sample("x", dist.Normal(z @ loadings.T, 0.5).to_event(1), obs=x)

    def guide(x):
        q, network = probgen.module("q", conditional), probgen.module("encoder", encoder)
        with numpyro.plate("rows", len(x)):
            numpyro.sample("z", q(jax.vmap(network)(x)))

    result = svi_run(model, guide, data, steps=1500, rate=0.01, objective=objectives.ELBO())
    start = probgen.partition(encoder)[0]
    assert all((leaf != start[path]).any() for path, leaf in result.params["encoder$params"].items())
    q = probgen.from_params(result.params, "q", conditional)
    learned = probgen.from_params(result.params, "encoder", encoder)
    draws = jax.jit(lambda q, learned: q(jax.vmap(learned)(data)).sample(KEY, (500,)))(q, learned)
    covariance = jnp.linalg.inv(jnp.eye(2) + loadings.T @ loadings / 0.25)
    sd = jnp.sqrt(jnp.diag(covariance))
    error = (draws.mean(0) - data @ loadings @ covariance / 0.25) / sd
    assert jnp.sqrt((error**2).mean()) < 0.25  # in posterior sds; 0.045 of it is from 500 draws
    np.testing.assert_allclose(draws.std(0).mean(0) / sd, 1.0, atol=0.1)


def test_a_trained_flow_is_a_prior_for_nuts():
    """A flow trained on a correlated Gaussian, then z₁ is observed with noise: the posterior is known."""
    mean, covariance = jnp.array([1.0, -1.0]), jnp.array([[1.0, 0.8], [0.8, 1.0]])
    rows = dist.MultivariateNormal(mean, covariance).sample(KEY, (4000,))
    prior = probgen.fit(
        RECIPE(2, key=KEY), rows, steps=800, batch_size=256, optimizer=adam(800, 0.01), key=KEY, progress=False
    ).model

    def program():
        z = numpyro.sample("z", prior)
        numpyro.sample("y", dist.Normal(z[0], 0.5), obs=2.0)

    mcmc = MCMC(NUTS(program), num_warmup=300, num_samples=2000, progress_bar=False)
    mcmc.run(KEY)
    gain = covariance[:, 0] / (covariance[0, 0] + 0.25)
    exact_sd = jnp.sqrt(jnp.diag(covariance - jnp.outer(gain, covariance[0])))
    draws = mcmc.get_samples()["z"]
    np.testing.assert_allclose((draws.mean(0) - (mean + gain * (2.0 - mean[0]))) / exact_sd, 0.0, atol=0.15)
    np.testing.assert_allclose(draws.std(0) / exact_sd, 1.0, atol=0.1)


def test_a_bayesian_flow_has_the_posterior_of_its_weights():
    """An affine flow with a random shift is a Gaussian with an unknown mean."""
    rows = 3.0 + jax.random.normal(jax.random.key(5), (40, 2))
    flow = affine(2, key=KEY)

    def program(x):
        drawn = probgen.random_module(
            "flow", flow, lambda path, leaf: dist.Normal(0.0, 1.0) if "shift" in path else None
        )
        with numpyro.plate("rows", len(x)):
            numpyro.sample("x", drawn, obs=x)

    guide = AutoFlow(program, RECIPE, key=KEY)
    params = svi_run(program, guide, rows, steps=1000).params
    (name, draws), *_ = guide.sample_posterior(KEY, params, sample_shape=(4000,)).items()
    assert name == "flow.bijector.shift"
    np.testing.assert_allclose((draws.mean(0) - rows.sum(0) / 41) * 41**0.5, 0.0, atol=0.1)
    np.testing.assert_allclose(draws.std(0) * 41**0.5, 1.0, atol=0.1)


def test_a_bayesian_real_nvp_under_an_autoflow_improves():
    flow = real_nvp(2, layers=2, hidden=(4,), key=KEY)

    def program(x):
        drawn = probgen.random_module("flow", flow, dist.Normal(0.0, 0.3))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("x", drawn, obs=x)

    rows = 3.0 + 0.5 * jax.random.normal(jax.random.key(5), (40, 2))
    guide = AutoFlow(program, RECIPE, init_scale=0.01, key=KEY)
    losses = svi_run(program, guide, rows, steps=300, rate=0.01).losses
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 50
