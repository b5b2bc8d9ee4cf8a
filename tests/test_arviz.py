"""What ArviZ gets: groups of posteriors from everything that makes one, and ArviZ's own functions on them; PSIS."""

import importlib.metadata
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

import probgen
from probgen import fit
from probgen.bijectors import ActNorm
from probgen.distributions import Transformed
from probgen.evaluation import psis, to_arviz
from probgen.evaluation.posteriors import pareto_tail
from probgen.latent import LatentVariableModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arviz as az

OLD = int(importlib.metadata.version("arviz").split(".")[0]) < 1
KEY = jax.random.key(0)
X = np.asarray(1.0 + jax.random.normal(KEY, (12, 2)))  # mean | x ~ Normal(Σ x / 13, 1 / √13), of each column


def program(x, scale=1.0):
    with numpyro.plate("side", 2):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        numpyro.deterministic("twice", 2 * mean)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("x", dist.Normal(mean, scale).to_event(1), obs=x)


def guide(x, scale=1.0):
    loc, spread = numpyro.param("loc", jnp.zeros(2)), numpyro.param("spread", 0.3, constraint=dist.constraints.positive)
    with numpyro.plate("side", 2):
        numpyro.sample("mean", dist.Normal(loc, spread))


EXACT = X.sum(0) / 13, 13**-0.5
PARAMS = {"loc": jnp.asarray(EXACT[0]), "spread": jnp.asarray(EXACT[1])}
GROUPS = {"posterior", "posterior_predictive", "log_likelihood", "observed_data"}


def groups(found):
    return set(found.groups()) if OLD else set(found.children)


@pytest.fixture(scope="module")
def mcmc():
    found = MCMC(
        NUTS(program), num_warmup=100, num_samples=300, num_chains=2, progress_bar=False, chain_method="vectorized"
    )
    found.run(KEY, X, extra_fields=("potential_energy", "num_steps", "accept_prob"))
    return found


@pytest.fixture(scope="module")
def of_mcmc(mcmc):
    return to_arviz(mcmc, key=KEY)


@pytest.fixture(scope="module")
def of_draws():
    draws = {"mean": EXACT[0] + EXACT[1] * jax.random.normal(KEY, (1000, 2))}
    return to_arviz(draws, program=program, data=X, key=KEY)


def check(found, shape):
    """The groups of the program, against NumPy."""
    mean = np.asarray(found["posterior"]["mean"])
    assert mean.shape == (*shape, 2) and groups(found) >= GROUPS
    assert found["posterior"]["mean"].dims == ("chain", "draw", "side")
    np.testing.assert_allclose(found["posterior"]["twice"], 2 * mean, rtol=1e-6)
    log_p = found["log_likelihood"]["x"]
    assert log_p.dims == ("chain", "draw", "rows")
    right = -0.5 * ((X - mean[:, :, None]) ** 2).sum(-1) - np.log(2 * np.pi)
    np.testing.assert_allclose(log_p, right, rtol=1e-4)
    new = found["posterior_predictive"]["x"]
    assert new.dims == ("chain", "draw", "rows", "x_dim_1") and new.shape == (*shape, 12, 2)
    z = (np.asarray(new) - mean[:, :, None]).ravel()
    assert abs(z.mean()) < 5 / z.size**0.5 and abs(z.std() - 1) < 5 / z.size**0.5
    np.testing.assert_array_equal(found["observed_data"]["x"], X)
    assert found["observed_data"]["x"].dims == ("rows", "x_dim_1")


def check_posterior(found, draws):
    mean = np.asarray(found["posterior"]["mean"]).reshape(-1, 2)
    np.testing.assert_allclose(mean.mean(0), EXACT[0], atol=5 * EXACT[1] / draws**0.5)
    np.testing.assert_allclose(mean.std(0), EXACT[1], rtol=5 / draws**0.5)


def test_groups_of_mcmc(of_mcmc, mcmc):
    check(of_mcmc, (2, 300))
    check_posterior(of_mcmc, 200)
    stats = of_mcmc["sample_stats"]
    np.testing.assert_array_equal(stats["lp"], -mcmc.get_extra_fields(group_by_chain=True)["potential_energy"])
    assert stats["diverging"].dims == ("chain", "draw") and {"n_steps", "tree_depth", "acceptance_rate"} <= set(stats)
    assert "posterior_predictive" not in groups(to_arviz(mcmc))


def test_groups_of_fit_and_its_history():
    result = probgen.fit(program, (X,), guide=guide, optimizer=optax.adam(0.05), steps=400, key=KEY, progress=False)
    found = to_arviz(result, guide=guide, data=X, num_draws=2000, key=KEY)
    check(found, (1, 2000))
    np.testing.assert_array_equal(found["history"]["train"], result.losses)
    np.testing.assert_allclose(np.asarray(found["posterior"]["mean"]).mean((0, 1)), EXACT[0], atol=0.1)


def test_groups_of_svi_by_hand():
    svi = SVI(program, guide, optax.adam(0.05), Trace_ELBO())
    result = svi.run(KEY, 400, X, progress_bar=False)
    found = to_arviz(result, program=program, guide=guide, data=X, num_draws=500, key=KEY)
    check(found, (1, 500))
    assert found["history"]["train"].dims == ("step",)
    np.testing.assert_array_equal(found["history"]["train"], result.losses)
    assert groups(to_arviz(result)) == {"history"}
    keywords = to_arviz(result, program=program, guide=guide, data={"x": X, "scale": 1.0}, num_draws=500, key=KEY)
    np.testing.assert_array_equal(keywords["log_likelihood"]["x"], found["log_likelihood"]["x"])


def test_groups_of_predictive(of_draws):
    check(of_draws, (1, 1000))
    check_posterior(of_draws, 1000)
    draws = Predictive(guide, params=PARAMS, num_samples=400)(KEY, X)
    new = Predictive(numpyro.handlers.uncondition(program), draws)(KEY, X)
    found = to_arviz({**draws, "x": new["x"]}, program=program, data=X)
    check(found, (1, 400))
    np.testing.assert_array_equal(found["posterior_predictive"]["x"][0], new["x"])
    alone = to_arviz({"x": new["x"]}, group="posterior_predictive")
    assert groups(alone) == {"posterior_predictive"}
    assert groups(to_arviz(draws)) == {"posterior"}


def test_a_model_with_latent_variables_brings_its_guide():
    model = probgen.latent.vae((2,), 2, latent_dim=1, hidden=(4,), key=KEY)
    x = (X > 1).astype(int)
    result = probgen.fit(model, x, steps=3, key=KEY, progress=False)
    found = to_arviz(result, data=x, num_draws=50, key=KEY)
    assert groups(found) == GROUPS | {"history"}
    assert found["log_likelihood"]["x"].shape == (1, 50, 12)
    assert groups(to_arviz(result)) == {"history"}


def test_a_bound_and_names_with_slashes():
    """A program that observes a model with a bound alone."""
    normal = lambda scale: lambda z: dist.Normal(z, scale).to_event(1)
    model = LatentVariableModel(dist.Normal(jnp.zeros(2), 1.0).to_event(1), normal(1.0), normal(0.5**0.5))

    def shifted(x):
        shift = numpyro.sample("shift/of all", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows/all", len(x)):
            probgen.observe("x", model, x + shift)

    found = to_arviz({"shift/of all": jnp.zeros(20)}, program=shifted, data=X)
    assert found["posterior"]["shift.of all"].shape == (1, 20)  # a slash would nest it
    assert found["log_likelihood"]["x"].dims == ("chain", "draw", "rows.all")
    assert (np.asarray(found["log_likelihood"]["x"]) < 0).all()


# -- ArviZ's own functions


def test_arviz_summarizes(of_mcmc, of_draws):
    for found, ess in ((of_mcmc, 100), (of_draws, 500)):
        table = az.summary(found, var_names=["mean"])
        assert list(table.index) == ["mean[0]", "mean[1]"]
        np.testing.assert_allclose(table["mean"].astype(float), EXACT[0], atol=0.06)
        assert (table["ess_bulk"].astype(float) > ess).all()


def test_arviz_cross_validates(of_draws, of_mcmc):
    """Leave-one-out of a conjugate model is known: x_n | others ~ Normal(Σ others / 12, 1 + 1/12)."""
    others = (X.sum(0) - X) / 12
    right = dist.Normal(others, (1 + 1 / 12) ** 0.5).log_prob(X).sum()
    for found in (of_draws, of_mcmc):
        loo = az.loo(found)
        np.testing.assert_allclose(loo.elpd_loo if OLD else loo.elpd, right, atol=0.3)
    wrong = to_arviz({"mean": of_draws["posterior"]["mean"].values[0]}, program=program, data=(X, 3.0), key=KEY)
    table = az.compare({"wrong": wrong, "right": of_draws})
    assert list(table.index) == ["right", "wrong"]


def test_arviz_plots(of_mcmc):
    import matplotlib

    matplotlib.use("Agg")
    az.plot_trace(of_mcmc, var_names=["mean"])
    az.plot_forest(of_mcmc, var_names=["mean"])
    (az.plot_ppc if OLD else az.plot_ppc_dist)(of_mcmc)
    matplotlib.pyplot.close("all")


# -- Pareto-smoothed importance sampling


def wrong_guide(shift, spread):
    def guide(x, scale=1.0):
        with numpyro.plate("side", 2):
            numpyro.sample("mean", dist.Normal(EXACT[0] + shift, spread))

    return guide


@pytest.mark.parametrize(("shift", "spread"), [(0.4, 1.3), (0.0, 0.9)])
def test_a_wrong_guide_is_corrected(shift, spread):
    found = psis(program, wrong_guide(shift * EXACT[1], spread * EXACT[1]), X, num_draws=4000, key=KEY)
    mean, se = found.expectation(lambda draw: draw["mean"])
    assert found.trusted and (np.abs(mean - EXACT[0]) < 4 * se).all() and (se < 0.02).all()
    variance, se = found.expectation(lambda draw: (draw["mean"] - EXACT[0]) ** 2)
    assert (np.abs(variance - EXACT[1] ** 2) < 4 * se).all() and (se < 0.006).all()
    again = found.resample(KEY, 4000)["mean"]
    np.testing.assert_allclose(again.mean(0), EXACT[0], atol=0.03)
    np.testing.assert_allclose(again.std(0), EXACT[1], rtol=0.1)
    covariance = np.eye(12) + 1  # of x, whose mean is integrated out
    evidence = dist.MultivariateNormal(jnp.zeros(12), covariance).log_prob(X.T).sum()
    np.testing.assert_allclose(found.log_evidence, evidence, atol=0.05)
    np.testing.assert_allclose(found.weights.sum(), 1.0)
    assert 25 < found.effective_size <= 4000 and f"k̂ = {found.pareto_k:.2f} (below 0.70)" in str(found)


def test_the_exact_posterior_needs_no_correction():
    found = psis(program, guide, X, params=PARAMS, num_draws=500, key=KEY)
    assert found.trusted and found.effective_size > 499


@pytest.mark.skipif(not OLD, reason="what ArviZ 1.x smooths are minus the logarithms")
@pytest.mark.parametrize("count", [25, 300, 5000])
def test_tails_are_smoothed_as_arviz_does(count):
    raw = np.random.default_rng(count).standard_t(3, (4, count)) * np.array([[0.01], [0.5], [2.0], [20.0]])
    right, k = az.psislw(raw)
    found = pareto_tail.smoothed(raw)
    np.testing.assert_allclose(found[0] - np.logaddexp.reduce(found[0], -1)[:, None], right, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found[1], k, rtol=1e-9)


def test_a_guide_that_is_far_too_narrow_is_not_trusted():
    found = psis(program, wrong_guide(0.0, 0.05), X, num_draws=4000, key=KEY)
    assert found.pareto_k > 0.7 and not found.trusted and "not to be trusted" in str(found)


def test_automatic_guides_are_corrected():
    """Of a positive number, whose guide is a normal of its logarithm."""

    def gamma(x):
        rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
        numpyro.sample("x", dist.Poisson(rate).expand((4,)).to_event(1), obs=x)

    x = jnp.array([3, 1, 2, 4])
    log_rate = {"auto_loc": jnp.log(jnp.array([2.2])), "auto_scale": jnp.array([0.4])}
    of_sites = {"rate_auto_loc": log_rate["auto_loc"][0], "rate_auto_scale": log_rate["auto_scale"][0]}
    for auto, params in ((AutoNormal(gamma), of_sites), (AutoDiagonalNormal(gamma), log_rate)):
        found = psis(gamma, auto, x, params=params, num_draws=4000, key=KEY)
        mean, se = found.expectation(lambda draw: draw["rate"])
        assert found.trusted and list(found.draws) == ["rate"] and abs(mean - 12 / 5) < 4 * se < 0.1
    draws = found.resample(KEY, 100)
    assert to_arviz(draws, program=gamma, data=x)["posterior"]["rate"].shape == (1, 100)


def with_learned_place(x):
    with numpyro.plate("side", 2):
        numpyro.sample("mean", dist.Normal(numpyro.param("loc", jnp.zeros(2)), EXACT[1]))


def test_what_was_trained_brings_its_guide_and_params():
    """A FitResult, the result of SVI, and the params by themselves are the same draws."""
    result = fit(program, X, guide=with_learned_place, steps=200, learning_rate=0.05, key=KEY, progress=False)
    found = psis(result, data=X, num_draws=100, key=KEY)
    assert found.trusted
    for params in (result, result.params):
        again = psis(program, with_learned_place, X, params=params, num_draws=100, key=KEY)
        np.testing.assert_array_equal(again.weights, found.weights)
    model = fit(normal_flow(), X, steps=1, key=KEY, progress=False)
    alone = fit(no_latent_site, X, steps=1, key=KEY, progress=False)
    for call, message in (
        (lambda: psis(model, data=X, key=KEY), "program: expected the FitResult of a numpyro program, got"),
        (lambda: psis(result, with_learned_place, X, key=KEY), "guide: a FitResult brings its own; give the data as"),
        (lambda: psis(result, data=X, params=result, key=KEY), "params: a FitResult brings its own"),
        (lambda: psis(program, data=X, key=KEY), "guide: expected one that draws the program's latent sites, got none"),
        (lambda: psis(alone, data=X, key=KEY), "guide: expected one that draws"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def no_latent_site(x):
    with numpyro.plate("rows", len(x)):
        numpyro.sample("x", dist.Normal(numpyro.param("loc", jnp.zeros(2)), 1.0).to_event(1), obs=x)


def normal_flow():
    return Transformed(dist.Normal(jnp.zeros(2), 1.0), ActNorm(2))


def lacking(x):
    numpyro.sample("other", dist.Normal(0.0, 1.0))


def in_parts(x):
    with numpyro.plate("rows", 12, subsample_size=4) as i:
        numpyro.sample("x", dist.Normal(numpyro.sample("mean", dist.Normal(0.0, 1.0)), 1.0).expand((4,)), obs=x[i, 0])


ONE = lambda x: numpyro.sample("mean", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psis(program, lacking, X, key=KEY), r"draws no \['mean'\] and draws \['other'\], which the program"),
        (lambda: psis(program, guide, X, key=KEY), "params: expected a value of the param site 'loc'"),
        (lambda: psis(in_parts, ONE, X, key=KEY), "plate 'rows' takes a part of its rows"),
        (lambda: psis(lambda x: None, lambda x: None, X, key=KEY), "program: expected latent sites, got none"),
        (lambda: psis(program, guide, X, params=PARAMS, num_draws=24, key=KEY), "num_draws: expected an integer of at"),
        (lambda: psis(program, guide, X * np.nan, params=PARAMS, key=KEY), "infinite weights of 2000 of 2000 draws"),
        (lambda: psis(dist.Normal(0.0, 1.0), guide, X, key=KEY), "program: expected a function"),
        (lambda: to_arviz(3), "result: expected MCMC, a result of SVI or fit, draws .* got 3"),
        (lambda: to_arviz({}), "result: expected arrays with one number of draws"),
        (lambda: to_arviz({"a": np.zeros(3), "b": np.zeros(4)}), r"one number of draws on axis 0, got {'a': \(3,\)"),
        (lambda: to_arviz({"a": np.zeros(3)}, data=X), "data: it would do nothing for draws without a program"),
        (lambda: to_arviz({"mean": np.zeros((3, 2))}, program=program, data=X, num_draws=3), "num_draws: it would do"),
        (lambda: to_arviz({"other": np.zeros(3)}, program=program, data=X), r"got none of \['mean'\]"),
    ],
)
def test_what_cannot_be_exported_or_corrected_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_options_that_would_do_nothing_are_refused(mcmc):
    result = SVI(program, guide, optax.adam(0.05), Trace_ELBO()).run(KEY, 2, X, progress_bar=False)
    for found, options in (
        (mcmc, {"num_draws": 3}),
        (mcmc, {"guide": guide}),
        (mcmc, {"group": "posterior"}),
        (result, {"data": X}),
        (result, {"key": KEY}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: it would do nothing"):
            to_arviz(found, **options)
    with pytest.raises(ValueError, match="program, key: a guide's draws need"):
        to_arviz(result, guide=guide, data=X, program=program)
