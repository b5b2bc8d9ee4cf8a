"""Autoregressive models against enumeration, a Markov chain and perturbation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax import Array

import probgen
from probgen import testing
from probgen.autoregressive import Autoregressive, gated_pixel_cnn, made
from probgen.distributions import BernoulliHead, CategoricalHead, NormalHead
from probgen.networks import MADE, MLP

KEY = jax.random.key(5)


class Chain(eqx.Module):
    """Logits of a Markov chain over 3 states: row 3 of the table starts it."""

    table: Array

    def __call__(self, x):
        return self.table[jnp.concatenate([jnp.array([3]), x[:-1]])]


TABLE = jax.random.normal(KEY, (4, 3))


def test_a_markov_chain_is_exact():
    model = Autoregressive(Chain(TABLE), CategoricalHead(3), (5,))
    x = jnp.array([0, 2, 1, 1, 0])
    steps = jax.nn.log_softmax(TABLE)
    want = sum(steps[before, now] for before, now in zip([3, 0, 2, 1, 1], x, strict=True))
    np.testing.assert_allclose(model.log_prob(x), want, rtol=1e-5)
    np.testing.assert_allclose(model.conditionals(x).log_prob(x).sum(), want, rtol=1e-5)


def test_draws_of_a_markov_chain_have_its_frequencies():
    model = Autoregressive(Chain(TABLE), CategoricalHead(3), (4,))
    draws, log_prob = jax.jit(lambda m: m.sample_and_log_prob(KEY, (20_000,)))(model)
    np.testing.assert_allclose(log_prob, model.log_prob(draws), rtol=1e-4, atol=1e-4)
    first, step = jax.nn.softmax(TABLE[3]), jax.nn.softmax(TABLE[:3])
    last = first @ step @ step @ step
    # a standard error is at most 0.0036; five of them
    np.testing.assert_allclose(np.bincount(draws[:, 0], minlength=3) / 20_000, first, atol=0.018)
    np.testing.assert_allclose(np.bincount(draws[:, 3], minlength=3) / 20_000, last, atol=0.018)


@pytest.mark.parametrize("order", [None, (2, 0, 1, 3)])
def test_orders_and_causality(order):
    model = made((2, 2), 3, hidden=(16,), order=order, key=KEY)
    testing.check_causal(model, jnp.array([[0, 1], [2, 0]]))
    every = jnp.stack(jnp.meshgrid(*[jnp.arange(3)] * 4), -1).reshape(-1, 2, 2)
    testing.check_normalized(model, every)


def test_another_order_than_the_networks_is_caught():
    network = MADE(3, 1, order=(2, 1, 0), hidden=(8,), out_scale=1.0, key=KEY)
    with pytest.raises(AssertionError, match="causality"):
        testing.check_causal(Autoregressive(network, BernoulliHead(), (3,)), jnp.array([0, 1, 0]))


def test_a_network_that_is_not_causal_is_caught():
    with pytest.raises(AssertionError, match="causality"):
        network = MLP(3, 3, hidden=(8,), out_scale=1.0, key=KEY)
        testing.check_causal(Autoregressive(network, BernoulliHead(), (3,)), jnp.array([0, 1, 0]))


@pytest.mark.parametrize("build", [
    lambda: made((3, 3), 4, hidden=(32,), key=KEY),
    lambda: gated_pixel_cnn((3, 3), 4, channels=8, blocks=2, key=KEY),
])  # fmt: skip
def test_still_causal_and_normalized_after_training_with_weight_decay(build):
    """A float mask among the leaves would be trained here, and report a wonderful, false likelihood."""
    x = jax.random.randint(KEY, (256, 3, 3), 0, 4)  # entropy: 9 log 4 = 12.48 nats
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    result = probgen.fit(build(), x, steps=200, batch_size=64, optimizer=optimizer, key=KEY, progress=False)
    testing.check_causal(result.model, x[0])
    fresh = jax.random.randint(jax.random.key(11), (2048, 3, 3), 0, 4)
    assert -result.model.log_prob(fresh).mean() > 9 * np.log(4)


def test_continuous_conditionals():
    """A product of normals whose network is masked; its draws carry gradients nowhere."""
    model = Autoregressive(MADE(2, 2, hidden=(8,), out_scale=1.0, key=KEY), NormalHead(), (2,))
    axis = jnp.linspace(-12, 12, 401)
    grid = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
    testing.check_normalized(model, grid, volume=float((axis[1] - axis[0]) ** 2))
    testing.check_samples(model, key=KEY)
    assert model.sample(KEY).dtype == jnp.float32 and not model.has_rsample


def test_binary_images_use_bernoullis_and_mixtures_are_ordinal():
    assert isinstance(made((4,), 2, key=KEY).conditionals(jnp.zeros(4, int)), dist.BernoulliLogits)
    model = gated_pixel_cnn((2, 2), 5, channels=4, blocks=1, components=2, key=KEY)
    every = jnp.stack(jnp.meshgrid(*[jnp.arange(5)] * 4), -1).reshape(-1, 2, 2)
    testing.check_normalized(model, every)


def test_one_position():
    model = made((1,), 3, hidden=(4,), key=KEY)
    testing.check_normalized(model, jnp.arange(3)[:, None])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="permutation"):
        Autoregressive(Chain(TABLE), CategoricalHead(3), (3,), order=(0, 0, 1))
    with pytest.raises(ValueError, match=r"expected an output of shape \(2, 3\)"):
        Autoregressive(MLP(2, 5, key=KEY), CategoricalHead(3), (2,)).log_prob(jnp.zeros(2, int))
    with pytest.raises(ValueError, match="height, width"):
        gated_pixel_cnn((8, 8, 1), 2, key=KEY)
