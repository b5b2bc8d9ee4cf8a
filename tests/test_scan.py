"""State-space models by numpyro's `scan`, with our distributions as emissions, against sums over time by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.handlers import seed, trace
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import log_density

from probgen import autoregressive, bijectors, flows, from_params, module
from probgen.distributions import Transformed

KEY, T, ROWS = jax.random.key(0), 3, 4
FLOW = flows.real_nvp(2, layers=2, hidden=(4,), context_dim=1, key=KEY)
MADE = autoregressive.made((3,), 3, hidden=(4,), context_dim=1, key=KEY)
EMISSIONS = {"flow": FLOW, "autoregressive": MADE}
DATA = {"flow": jax.random.normal(KEY, (T, 2)), "autoregressive": jnp.array([[0, 2, 1], [1, 1, 0], [2, 0, 2]])}
emissions = pytest.mark.parametrize("name", EMISSIONS)


def state_space(name, x=None):
    """z_t ~ Normal(z_{t−1}, 1), x_t ~ emission(z_t); the emission is the same at all times."""
    emission = module("emission", EMISSIONS[name])

    def step(z, x):
        z = numpyro.sample("z", dist.Normal(z, 1.0))
        return z, numpyro.sample("x", emission(z[None]), obs=x)

    return scan(step, jnp.array(0.0), x, length=T)[1]


@jax.jit
def by_hand(emission, z, x):
    before = jnp.concatenate([jnp.zeros(1), z[:-1]])
    return dist.Normal(before, 1.0).log_prob(z).sum() + emission(z[:, None]).log_prob(x).sum()


@emissions
def test_the_density_is_the_sum_over_time(name):
    emission, x, z = EMISSIONS[name], DATA[name], jnp.array([0.3, -1.0, 0.5])
    sites = trace(seed(state_space, KEY)).get_trace(name, x)
    assert sites["x"]["fn"].batch_shape == (T,) and sites["x"]["value"].shape == x.shape
    want = by_hand(emission, z, x)
    # x as data, and as a latent value, as MCMC would have it
    for args, values in (((name, x), {"z": z}), ((name,), {"z": z, "x": x})):
        got = jax.jit(lambda values, args=args: log_density(seed(state_space, KEY), args, {}, values)[0])(values)
        np.testing.assert_allclose(got, want, rtol=1e-5)


@emissions
def test_predictive_and_nuts_draw_series(name):
    x = DATA[name]
    params = {"emission$params": trace(seed(state_space, KEY)).get_trace(name)["emission$params"]["value"]}
    drawn = Predictive(state_space, params=params, num_samples=5)(KEY, name)
    assert drawn["x"].shape == (5, *x.shape) and drawn["z"].shape == (5, T)
    program = numpyro.handlers.substitute(state_space, data=params)
    mcmc = MCMC(NUTS(program), num_warmup=5, num_samples=5, progress_bar=False)
    mcmc.run(KEY, name, x)
    assert mcmc.get_samples()["z"].shape == (5, T) and np.isfinite(mcmc.get_samples()["z"]).all()


@emissions
def test_svi_learns_the_emission(name):
    x = DATA[name]
    guide = AutoNormal(numpyro.handlers.block(state_space, hide=["emission$params"]))
    svi = SVI(state_space, guide, optax.adam(1e-2), Trace_ELBO())
    result = svi.run(KEY, 20, name, x, progress_bar=False)
    learned = from_params(result.params, "emission", EMISSIONS[name])
    z = jnp.array([0.3, -1.0, 0.5])
    assert by_hand(learned, z, x) != by_hand(EMISSIONS[name], z, x)
    assert np.isfinite(result.losses).all()


def _flow(loc):
    return Transformed(dist.Normal(loc, 1.0), bijectors.Chain([bijectors.Sigmoid(), bijectors.Affine(0.2, 0.1)]))


WRAPPED = {
    "plate": lambda c: _flow(c).expand([ROWS]),
    "plate, along an axis of one": lambda c: _flow(c * jnp.ones(1)).expand([ROWS]),
    "event of events": lambda c: flows.real_nvp(2, layers=2, hidden=(4,), context_dim=1, key=KEY)(
        c * jnp.ones((3, 1))
    ).to_event(1),
    "plate of events": lambda c: _flow(c * jnp.ones(2)).expand([ROWS, 2]).to_event(1),
    "masked": lambda c: _flow(c * jnp.ones(2)).mask(jnp.array([True, False])),
    "masked plate of events": lambda c: _flow(c).expand([ROWS, 2]).to_event(1).mask(jnp.arange(ROWS) > 1),
    "masked events": lambda c: _flow(c).expand([2]).mask(jnp.array([True, False])).to_event(1),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_distributions_in_a_scan(name):
    make, carries = WRAPPED[name], jnp.array([0.0, 0.1, 0.2])
    one = make(jnp.array(0.0))

    def program(x=None):
        def step(c, x):
            return c + 0.1, numpyro.sample("x", make(c), obs=x)

        return scan(step, jnp.array(0.0), x, length=T)

    @jax.jit
    def facts():
        site = trace(seed(program, KEY)).get_trace()["x"]
        value, fn = site["value"], site["fn"]
        assert value.shape == (T, *one.shape()) and fn.batch_shape == (T, *one.batch_shape)
        assert jax.eval_shape(lambda: fn.sample(KEY, (2,))).shape == (2, T, *one.shape())
        want = jnp.stack([make(c).log_prob(x) for c, x in zip(carries, value, strict=True)])
        return fn.log_prob(value), log_density(program, (value,), {}, {})[0], want

    got, density, want = facts()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(density, want.sum(), rtol=1e-5)


def test_a_plate_within_a_scan():
    """A panel: the plate expands the emission, and the scan puts time in front of it."""
    x = jax.random.uniform(KEY, (T, ROWS))

    def program(x=None):
        def step(c, x):
            with numpyro.plate("rows", ROWS):
                return c + 0.1, numpyro.sample("x", _flow(c), obs=x)

        return scan(step, jnp.array(0.0), x, length=T)[1]

    want = _flow(0.1 * jnp.arange(T)[:, None]).log_prob(x).sum()
    np.testing.assert_allclose(jax.jit(lambda x: log_density(program, (x,), {}, {})[0])(x), want, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda x: log_density(program, (), {}, {"x": x})[0])(x), want, rtol=1e-5)
    assert Predictive(program, num_samples=2)(KEY)["x"].shape == (2, T, ROWS)
    mcmc = MCMC(NUTS(program), num_warmup=3, num_samples=3, progress_bar=False)
    mcmc.run(KEY)
    assert mcmc.get_samples()["x"].shape == (3, T, ROWS)
