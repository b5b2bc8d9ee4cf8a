"""The histogram of real numbers, and the bijector that it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import MCMC, NUTS

import probgen
from probgen.bijectors import PiecewiseLinear
from probgen.distributions import ConditionalModel
from probgen.flows import histogram_flow

KEY = jax.random.key(0)


def test_it_is_numpys_histogram():
    x = np.asarray(jax.random.normal(KEY, (5000, 2)) * jnp.array([1.0, 3.0])).clip(-10, 10)
    flow = histogram_flow(2, low=-10.0, high=10.0, bins=37, data=x, smoothing=0.0)
    log_prob = jax.jit(lambda m, x: m.log_prob(x))
    for d in range(2):
        density, edges = np.histogram(x[:, d], bins=37, range=(-10, 10), density=True)
        middles = jnp.asarray((edges[1:] + edges[:-1]) / 2)[:, None]
        one = histogram_flow(1, low=-10.0, high=10.0, bins=37, data=x[:, d : d + 1], smoothing=0.0)
        np.testing.assert_allclose(jnp.exp(log_prob(one, middles)), density, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(log_prob(flow, x).mean(), _plug_in(x, 37), rtol=1e-5)
    draws = jax.jit(lambda m: m.sample(KEY, (100_000,)))(flow)
    assert flow.support(draws).all()
    again = histogram_flow(2, low=-10.0, high=10.0, bins=37, data=draws, smoothing=0.0)
    np.testing.assert_allclose(jax.nn.softmax(again.bijector.logits), jax.nn.softmax(flow.bijector.logits), atol=0.01)


def _plug_in(x, bins):
    counts = [np.histogram(column, bins=bins, range=(-10, 10))[0] for column in x.T]
    return sum(float((c[c > 0] * np.log(c[c > 0] / len(x) * bins / 20)).sum() / len(x)) for c in counts)


def test_counting_is_the_maximum_that_gradients_reach():
    x = jax.random.beta(KEY, 2.0, 5.0, (1000, 1))
    counted = histogram_flow(1, low=0.0, high=1.0, bins=8, data=x, smoothing=0.0)
    trained = probgen.fit(
        histogram_flow(1, low=0.0, high=1.0, bins=8), x, steps=800, optimizer=optax.adam(0.05), key=KEY, progress=False
    ).model
    log_prob = jax.jit(lambda m: m.log_prob(x))
    best, found = log_prob(counted).mean(), log_prob(trained).mean()
    assert best - 1e-3 < found <= best + 1e-5
    smooth = histogram_flow(1, low=0.0, high=1.0, bins=8, data=x, smoothing=1e6)
    np.testing.assert_allclose(log_prob(smooth), 0.0, atol=1e-2)


def unchecked(flow):
    """As numpyro evaluates it where validation is off."""
    return flow.replace(_validate_args=False, base=dist.Uniform(jnp.zeros(2), 1.0, validate_args=False).to_event(1))


def test_outside_and_at_the_ends():
    flow = histogram_flow(2, low=0.0, high=(1.0, 2.0), bins=3, data=jnp.array([[0.1, 0.1], [0.9, 1.9]]))
    density = jax.jit(lambda x: unchecked(flow).log_prob(x))
    outside = jnp.array([[-0.1, 1.0], [0.5, 2.1], [jnp.inf, 1.0], [-1e30, 1e30]])
    ends = jnp.array([[0.0, 0.0], [1.0, 2.0], [1 / 3, 2 / 3]])
    assert (density(outside) == -jnp.inf).all() and np.isfinite(density(ends)).all()
    assert np.isnan(density(jnp.array([jnp.nan, 1.0])))
    params, rest = probgen.partition(flow)
    loss = lambda params, x: unchecked(probgen.combine(params, rest)).log_prob(x)
    gradients = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), (None, 0)))(params, jnp.concatenate([outside, ends]))
    assert all(np.isfinite(gradient).all() for gradient in jax.tree.leaves(gradients))
    assert not np.any(gradients[1][: len(outside)])
    with pytest.warns(UserWarning, match="Out-of-support"):
        assert flow.replace(_validate_args=True).log_prob(outside[0]) == -jnp.inf
    with pytest.raises(ValueError, match="row 1 lies outside the model's support"):
        probgen.fit(flow, jnp.array([[0.5, 0.5], [0.5, 3.0]]), steps=1, key=KEY, progress=False)


def test_extreme_logits_and_quantiles_stay_in_the_interval():
    quantile = PiecewiseLinear(jnp.array([-1e5, 0.0, -1e5, 50.0, -1e30, 49.0, -1e5]), low=-3.0, high=11.0)
    u = jnp.concatenate([jnp.linspace(0.0, 1.0, 10_001), jnp.array([1e-38, 1 - 6e-8])])

    @jax.jit
    def facts(quantile, u):
        y, forward = quantile.forward_and_log_det(u)
        gradients = jax.vmap(jax.grad(lambda q, u: sum(q.forward_and_log_det(u)), (0, 1)), (None, 0))(quantile, u)
        return y, forward, quantile.inverse_and_log_det(y), gradients

    y, forward, (back, inverse), gradients = facts(quantile, u)
    assert (jnp.diff(y[:10_001]) >= 0).all() and ((y >= -3.0) & (y <= 11.0)).all()
    np.testing.assert_allclose(back, u, atol=1e-6)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((forward, inverse, gradients)))


def test_supports_are_mapped():
    quantile = PiecewiseLinear(jnp.log(jnp.array([1.0, 3.0])), low=0.0, high=2.0)
    unit = dist.constraints.interval
    assert str(quantile.image(unit(0.0, 1.0))) == str(unit(0.0, 2.0)) == str(quantile.codomain)
    inner = quantile.image(unit(0.25, 1.0))
    np.testing.assert_allclose([inner.lower_bound, inner.upper_bound], [1.0, 2.0])
    np.testing.assert_allclose(quantile.preimage(unit(0.0, 1.0)).upper_bound, 0.25)
    with pytest.raises(ValueError, match="PiecewiseLinear is defined on"):
        quantile.image(dist.constraints.real)
    traced = jax.jit(lambda u: quantile.image(unit(0.0 * u, u)).upper_bound)
    np.testing.assert_allclose(traced(1.0), 2.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"low": 1.0, "high": 1.0}, "low: expected less than high"),
        ({"low": (0.0, 0.0, 0.0), "high": 1.0}, r"low: expected finite numbers for events of shape \(2,\)"),
        ({"low": 0.0, "high": jnp.inf}, "high: expected finite"),
        ({"low": 0.0, "high": 1.0, "bins": 0}, "bins: expected an integer of at least 1"),
        ({"low": 0.0, "high": 1.0, "data": jnp.array([[0.5, 1.5]])}, "row 0.*outside"),
        ({"low": 0.0, "high": 1.0, "data": jnp.ones((4, 3))}, r"rows of shape \(2,\)"),
        ({"low": 0.0, "high": 1.0, "data": jnp.ones((4, 2)), "smoothing": -1.0}, "smoothing"),
        ({"low": 0.0, "high": 1.0, "context_dim": 3}, "key"),
    ],
)
def test_histograms_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        histogram_flow(2, **arguments)


def test_a_histogram_given_a_context():
    c = jax.random.uniform(KEY, (3000, 1))
    x = c + 0.1 * jax.random.uniform(jax.random.key(1), (3000, 1))
    flow = histogram_flow(1, low=0.0, high=1.2, bins=24, data=x, context_dim=1, hidden=(32,), key=KEY)
    model = probgen.fit(flow, (x, c), steps=400, optimizer=optax.adam(1e-2), key=KEY, progress=False).model
    log_prob = jax.jit(lambda model: model(c).log_prob(x).mean())
    assert log_prob(model) > log_prob(flow) + 1.0
    draws, inside = jax.jit(lambda d: (d.sample(KEY, (1000,)), d.support(d.sample(KEY, (1000,)))))(
        model(jnp.array([0.5]))
    )
    assert abs(draws.mean() - 0.55) < 0.03 and inside.all()


def test_a_histogram_as_a_prior_inside_nuts():
    prior = histogram_flow(1, low=0.0, high=1.0, bins=4, data=jnp.array([[0.1], [0.6], [0.7], [0.9]]))

    def program():
        p = numpyro.sample("p", prior)
        numpyro.sample("x", dist.Binomial(10, p[0]), obs=7)

    mcmc = MCMC(NUTS(program), num_warmup=100, num_samples=500, progress_bar=False)
    mcmc.run(KEY)
    p = jnp.linspace(1e-4, 1 - 1e-4, 2000)
    weights = jax.jit(lambda p: jnp.exp(prior.log_prob(p[:, None]) + dist.Binomial(10, p).log_prob(7)))(p)
    assert abs(float(mcmc.get_samples()["p"].mean() - (p * weights).sum() / weights.sum())) < 0.04  # 4 s.e.


@pytest.mark.parametrize(
    "make",
    [
        lambda x: histogram_flow(2, low=-20.0, high=(20.0, np.float32(20.0)), data=x),
        lambda x: histogram_flow(2, low=-20.0, high=20.0, data=x, context_dim=1, key=KEY),
    ],
)
def test_a_file_needs_neither_the_data_nor_like(tmp_path, make):
    x = jax.random.normal(KEY, (50, 2))
    model = make(x)
    probgen.save(tmp_path / "m", model)
    loaded = probgen.load(tmp_path / "m")
    at = (lambda m: m(jnp.ones(1))) if isinstance(model, ConditionalModel) else lambda m: m
    log_prob = jax.jit(lambda m: at(m).log_prob(x))
    np.testing.assert_array_equal(log_prob(loaded), log_prob(model))
