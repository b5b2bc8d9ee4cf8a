"""Flows trained on toys in the plane: densities that integrate to 1, and are better than the affine flow's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import probgen
from probgen import flows
from probgen.data import toys
from probgen.distributions import initialize

KEY = jax.random.key(0)
TRAIN, TEST = (toys.two_moons(key, 4000) for key in jax.random.split(jax.random.key(1)))
NETS = {"hidden": (32, 32), "key": KEY}

RECIPES = {
    "real_nvp": lambda: flows.real_nvp(2, layers=6, **NETS),
    "maf": lambda: flows.maf(2, layers=6, **NETS),
    "iaf": lambda: flows.iaf(2, layers=4, **NETS),
    "mixture_flow": lambda: flows.mixture_flow(2, components=8, **NETS),
    "nsf, couplings": lambda: flows.nsf(2, layers=4, **NETS),
    "nsf, autoregressive": lambda: flows.nsf(2, layers=2, passes=None, **NETS),
}


def trained(flow, steps, rate):
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))
    flow = initialize(flow, TRAIN)
    result = probgen.fit(flow, TRAIN, steps=steps, batch_size=128, optimizer=optimizer, key=KEY, progress=False)
    assert result.stopped == "finished"
    return result.model


def integral(flow, low=-7.0, high=7.0, cells=350):
    """Of the density over a square, by the midpoints of its cells."""
    width = (high - low) / cells
    axis = low + width * (jnp.arange(cells) + 0.5)
    grid = jnp.stack(jnp.meshgrid(axis, axis), -1)
    return float(jnp.sum(jnp.exp(jax.lax.map(flow.log_prob, grid)))) * width**2


@pytest.fixture(scope="module")
def affine_nats():
    return np.asarray(trained(flows.affine_flow(2, key=KEY), 300, 3e-2).log_prob(TEST))


def test_the_affine_flow_is_the_normal(affine_nats):
    mean, covariance = np.mean(TRAIN, 0), np.cov(TRAIN.T)
    away = np.asarray(TEST) - mean
    quadratic = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
    normal = -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * covariance)[1])
    assert affine_nats.mean() == pytest.approx(normal.mean(), abs=0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_a_trained_density_integrates_to_one_and_beats_the_affine_flow(name, affine_nats):
    # a few rows between the moons cost an IAF hundreds of nats each for the first thousand steps
    flow = trained(RECIPES[name](), 2000 if name == "iaf" else 800, 2e-3)
    assert integral(flow) == pytest.approx(1.0, abs=0.01)
    gain = np.asarray(jax.jit(lambda flow: flow.log_prob(TEST))(flow)) - affine_nats
    # about 0.9 nats are there to be gained, and the standard error is 0.02
    assert gain.mean() > 0.5
