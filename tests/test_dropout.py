"""Dropout: its rate, its independence, its gradient, and what its random numbers cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probgen
from probgen.core import vectorize
from probgen.networks import Dropout, Transformer
from probgen.networks.layers import scan_layers

KEY = jax.random.key(0)


def kept(rate, shape, key=KEY):
    """The mask of every row of ones, all of whose numbers are equal."""
    return np.asarray(vectorize(Dropout(rate).bind_key(key), 1)(jnp.ones(shape))) > 0


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_rate_and_expectation(rate):
    mask = kept(rate, (64, 4096))
    error = np.sqrt(rate * (1 - rate) / mask.size)
    assert abs(mask.mean() - (1 - rate)) < 4.5 * error  # 1 false alarm in 150,000
    # and of every row, and of every place over the rows, as wide as a binomial's
    for axis in (0, 1):
        z = (mask.mean(axis) - (1 - rate)) / np.sqrt(rate * (1 - rate) / mask.shape[axis])
        assert abs(z.var() - 1) < 5 * np.sqrt(2 / z.size) + 0.2 / np.sqrt(rate * (1 - rate) * mask.shape[axis])
    y = Dropout(rate).bind_key(KEY)(jnp.ones(4))
    assert set(np.unique(y)) <= {0.0, np.float32(1 / (1 - rate))}


def test_masks_of_rows_places_and_keys_are_independent():
    a, b = kept(0.5, (64, 4096)), kept(0.5, (64, 4096), jax.random.key(1))
    pairs = {
        "keys": (a, b),
        "rows": (a[1:], a[:-1]),
        "rows apart": (a[32:], a[:-32]),
        **{f"places {n} apart": (a[:, n:], a[:, :-n]) for n in (1, 2, 16, 64, 1024)},
        "a row and the next, shifted": (a[1:, 1:], a[:-1, :-1]),
        "three rows": (a[2:] ^ a[1:-1], a[:-2]),
        "three places": (a[:, 2:] ^ a[:, 1:-1], a[:, :-2]),
    }
    for name, (x, y) in pairs.items():
        z = (np.mean(x == y) - 0.5) * 2 * np.sqrt(x.size)
        assert abs(z) < 4.5, name
    # all 16 patterns of four numbers, by Pearson's χ² of 15 degrees of freedom
    counts = np.bincount((a.reshape(-1, 4) @ [1, 2, 4, 8]).astype(int), minlength=16)
    assert np.sum((counts - counts.mean()) ** 2 / counts.mean()) < 50


def test_gradient_sees_the_mask_of_the_value():
    """Also where `scan_layers` computes it a second time."""
    drop, weights = Dropout(0.5).bind_key(KEY), 0.1 * jax.random.normal(KEY, (3, 8, 8))
    one = lambda h, w: (drop(jnp.tanh(h @ w)) + h, None)
    scanned = lambda x: scan_layers(one, x, weights)[0].sum()

    def looped(x):
        for w in weights:
            x, _ = one(x, w)
        return x.sum()

    x = jax.random.normal(jax.random.key(1), (5, 8))
    value, gradient = jax.jit(jax.value_and_grad(scanned))(x)
    expected, wanted = jax.jit(jax.value_and_grad(looped))(x)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-5)
    mask = drop(x) / x
    np.testing.assert_allclose(jax.grad(lambda x: drop(x).sum())(x), mask, rtol=1e-6)


def calls(jaxpr, name):
    """The equations of a primitive, in loops and functions within too."""
    found = []
    for equation in jaxpr.eqns:
        found += [equation] if equation.primitive.name == name else []
        for inner in jax.core.jaxprs_in_params(equation.params):
            found += calls(inner, name)
    return found


def test_a_step_draws_two_words_a_row_and_never_twice():
    """A word of threefry for each number cost a third of a transformer's step, and as much again in the gradient."""
    net = Transformer(5, 5, length=6, width=8, heads=2, layers=2, dropout=0.2, key=KEY)
    params, rest = probgen.partition(net)
    x = jnp.zeros((4, 6), jnp.int32)

    def loss(params, key):
        net = probgen.with_key(probgen.combine(params, rest), key)
        return vectorize(net, 1)(x).sum()

    drawn = {}
    for name, function in (("value", loss), ("gradient", jax.grad(loss))):
        drawn[name] = calls(jax.make_jaxpr(function)(params, KEY).jaxpr, "random_bits")
    assert all(equation.outvars[0].aval.size <= 2 * len(x) for equation in drawn["gradient"])
    assert len(drawn["gradient"]) == len(drawn["value"]) == 4  # the input, and three in the body of the layers


def test_new_keys_trace_nothing():
    traced = []

    @jax.jit
    def masked(key, x):
        traced.append(1)
        return Dropout(0.5).bind_key(key)(x)

    one, again, other = (masked(jax.random.key(seed), jnp.ones(64)) for seed in (0, 0, 1))
    assert len(traced) == 1
    assert (one == again).all() and (one != other).any()
