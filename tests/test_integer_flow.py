"""Integer flows: bijections by enumeration, their slopes by hand, and what they learn."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import probgen
from probgen.distributions import CategoricalHead, DiscretizedLogisticHead
from probgen.flows import IntegerCoupling, IntegerFlow, IntegerLayers, integer_flow

KEY = jax.random.key(0)
ALL = jnp.array(list(itertools.product(range(5), repeat=3)))


def stirred(model):
    """The same model with larger weights: its first ones move nothing."""
    params, rest = probgen.partition(model)
    keys = iter(jax.random.split(jax.random.key(3), len(params)))
    return probgen.combine({name: v + jax.random.normal(next(keys), v.shape) for name, v in params.items()}, rest)


def test_layers_are_a_bijection_of_all_integers():
    flow = stirred(integer_flow((3,), 5, layers=3, hidden=(8,), key=KEY))

    @jax.jit
    def both(layers):
        there = jax.vmap(layers.forward)(ALL.astype(float))
        return there, jax.vmap(layers.inverse)(there)[0]

    there, back = both(flow.layers)
    assert len({tuple(row) for row in np.asarray(there).tolist()}) == len(ALL)
    np.testing.assert_array_equal(back, ALL)
    assert (np.asarray(there) != ALL).any(1).mean() > 0.5 and set(np.unique(there)) == set(range(5))
    assert flow.layers.depth == 3


class Always(eqx.Module):
    """A network that always says the same: a shift by t, in quarters of 8 levels."""

    t: jax.Array

    def __call__(self, seen):
        return self.t / 2


def fixed_shift(t):
    """Two numbers of 8 levels, the second moved by t, over logistics."""
    layer = IntegerCoupling(Always(t), jnp.array([0, 1]), 8)
    layers = IntegerLayers(jax.tree.map(lambda leaf: leaf[None], layer))
    raw = jnp.zeros((2, 2)).at[:, 0].set(jnp.array([-0.5, 0.5]))
    return IntegerFlow(layers, raw, DiscretizedLogisticHead(8))


@pytest.mark.parametrize("t", [0.3, -0.3, 1.2, 0.8])
def test_the_slope_is_that_of_the_line_to_the_neighbour_on_the_side_of_what_was_rounded(t):
    x, each = jnp.array([2, 4]), DiscretizedLogisticHead(8)(jnp.array([0.5, 0.0]))

    def log_prob(t):
        return fixed_shift(jnp.array([t])).log_prob(x)

    z = 4 - round(t)
    other = z + (1 if 4 - t > z else -1)
    expected = (each.log_prob(z) - each.log_prob(other)) * (1 if other > z else -1)  # z falls where t rises
    value, slope = jax.jit(jax.value_and_grad(log_prob))(t)
    np.testing.assert_allclose(slope, expected, rtol=1e-4)
    first = DiscretizedLogisticHead(8)(jnp.array([-0.5, 0.0])).log_prob(2)
    np.testing.assert_allclose(value, first + each.log_prob(z), rtol=1e-5)
    assert not IntegerFlow.unbiased


def test_what_one_number_says_of_another_is_learned():
    """x₂ = x₁ + a number of 3, on a ring of 8: log 8 + log 3 nats, of which independent numbers reach log 8 + log 8."""
    first, noise = jax.random.randint(KEY, (2, 4000), 0, jnp.array([[8], [3]]))
    x = jnp.stack([first, (first + 2 + noise) % 8], 1)
    model = integer_flow((2,), 8, layers=2, hidden=(64,), components=3, key=KEY)
    fit = probgen.fit(
        model, x, steps=1500, batch_size=100, key=jax.random.key(1), progress=False,
        optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, 1500)),
    )  # fmt: skip
    nats = -float(jax.jit(lambda m: m.log_prob(x).mean())(fit.model))
    assert math.log(24) - 0.01 < nats < math.log(24) + 0.25  # log 64 is 0.98 above


def test_draws_are_integers_of_the_model():
    flow = stirred(integer_flow((2, 2), 4, layers=2, hidden=(8,), key=KEY))
    x, log_p = jax.jit(lambda m: (m.sample(KEY, (20_000,)), m.log_prob(m.sample(KEY, (20_000,)))))(flow)
    assert x.shape == (20_000, 2, 2) and x.dtype == jnp.int32 and 0 <= int(x.min()) and int(x.max()) == 3
    rows, counts = np.unique(np.asarray(x).reshape(-1, 4), axis=0, return_counts=True)
    found = jnp.exp(jax.jit(lambda m: m.log_prob(jnp.asarray(rows.reshape(-1, 2, 2))))(flow))
    assert np.abs(counts / 20_000 - found).max() < 0.015 and np.isfinite(log_p).all()


def test_dropout_acts_in_training_alone():
    flow = stirred(integer_flow((4,), 5, layers=2, hidden=(16,), dropout=0.5, key=KEY))
    x = jnp.array([0, 1, 2, 3])
    a, b, c = (probgen.with_key(flow, jax.random.key(i)).log_prob(x) for i in (0, 1, 0))
    assert flow.layers.is_random and a == c and a != b


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: integer_flow((1,), 3, key=KEY), "at least 2 numbers"),
        (lambda: integer_flow((2,), 1, key=KEY), "levels: expected an integer of at least 2, got 1"),
        (lambda: integer_flow((2,), 3, layers=0, key=KEY), "layers: expected an integer of at least 1, got 0"),
        (
            lambda: fixed_shift(jnp.zeros(1)).replace(head=DiscretizedLogisticHead(7)),
            r"head: expected one of .* 0\.\.7",
        ),
        (
            lambda: IntegerFlow(fixed_shift(jnp.zeros(1)).layers, jnp.zeros((3, 8)), CategoricalHead(8)),
            "raw: expected numbers for each of 2 places",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
