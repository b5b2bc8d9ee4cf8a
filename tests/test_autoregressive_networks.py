"""Laws of the networks of autoregressive models: causality, reach, and that steps with a cache are the whole pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probgen import testing
from probgen.autoregressive import (
    Order,
    char_rnn,
    fixed_point,
    gated_pixel_cnn,
    made,
    pass_by_pass,
    pixel_cnn,
    pixel_cnn_pp,
    step_by_step,
    transformer,
    wavenet,
)
from probgen.core import sequential
from probgen.networks import GatedPixelCNN, PixelCNN, Transformer, WaveNet
from probgen.networks.attention import rotate

KEY = jax.random.key(5)
IMAGE = (3, 4)
MODELS = {
    "made": lambda **c: made((6,), 3, hidden=(24,), direct=True, order=Order.random((6,), key=KEY), key=KEY, **c),
    "char_rnn": lambda **c: char_rnn(6, 3, width=8, layers=2, key=KEY, **c),
    "wavenet": lambda **c: wavenet(6, 3, channels=8, layers=4, cycle=3, key=KEY, **c),
    "transformer": lambda **c: transformer(6, 3, width=8, heads=2, layers=2, key=KEY, **c),
    "transformer, rotary": lambda **c: transformer(6, 3, width=8, heads=2, layers=2, rotary=True, key=KEY, **c),
    "pixel_cnn": lambda **c: pixel_cnn(IMAGE, 3, channels=8, depth=2, first_reach=2, key=KEY, **c),
    "pixel_cnn, colour": lambda **c: pixel_cnn((2, 2, 3), 3, channels=8, depth=1, key=KEY, **c),
    "gated_pixel_cnn": lambda **c: gated_pixel_cnn(
        IMAGE, 3, channels=8, depth=2, reach=2, order=Order.serpentine(IMAGE), key=KEY, **c
    ),
}
# the slow one to compile has its law of steps here, and those of distributions in the registry
COLOUR = {"pixel_cnn_pp, colour": lambda: pixel_cnn_pp((3, 2, 2), 4, channels=4, depth=2, components=2, key=KEY)}
CONDITIONAL = [name for name in MODELS if ", " not in name]


def _strong(model):
    """Weights two and a half times as large, so that what is seen shows."""
    return model.replace(network=jax.tree.map(lambda leaf: 2.5 * leaf if leaf.ndim > 1 else leaf, model.network))


@functools.cache
def model(name):
    return _strong((MODELS | COLOUR)[name]())


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@functools.partial(jax.jit, static_argnums=1)
def _sample(model, count):
    return model.sample_and_log_prob(KEY, (count,))


@jax.jit
def _log_prob(model, x):
    return model.log_prob(x)


@functools.cache
def events(name):
    return _sample(model(name), 4)[0]


def test_a_conditional_sees_what_comes_before_it_and_nothing_else(name):
    testing.check_causal(model(name), events(name)[0])
    moved = np.mean([testing.influence(model(name), x) for x in events(name)], 0) > 0
    order = np.asarray(model(name).order)
    seen = moved[order][:, order]
    if name != "wavenet" and "pixel_cnn" not in name:
        np.testing.assert_array_equal(seen, np.tril(np.ones_like(seen), -1))


@pytest.mark.parametrize("name", MODELS | COLOUR)
def test_cached_steps_give_the_conditionals_of_the_whole_pass(name):
    @jax.jit
    def both(model, x):
        values, steps = model.in_order(x), sequential(model.network)

        def one(carry, i):
            cache, before = carry
            cache, raw = steps.step(cache, before[None], i)
            return (cache, values[i]), raw.reshape(-1)

        start = (steps.init(), jnp.zeros((), values.dtype))
        return jax.lax.scan(one, start, jnp.arange(len(values)))[1], model.raw_in_order(values)

    raw, whole = both(model(name), events(name)[0])
    np.testing.assert_allclose(raw, whole, rtol=1e-5, atol=1e-5 * float(jnp.abs(whole).max()))


def test_three_ways_of_drawing_draw_the_same(name):
    drawn = [_sample(model(name).replace(draw=how), 30) for how in (step_by_step, pass_by_pass, fixed_point)]
    for x, log_prob in drawn:  # a tie that rounding decides would show as one row of 30
        assert np.mean(np.all((x == drawn[0][0]).reshape(30, -1), 1)) >= 29 / 30
        np.testing.assert_allclose(log_prob, _log_prob(model(name), x), rtol=1e-4, atol=1e-4)


def test_a_batch_is_each_row_alone(name):
    alone = [_log_prob(model(name), row) for row in events(name)]
    np.testing.assert_allclose(_log_prob(model(name), events(name)), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_context_moves_every_conditional_and_draws_by_steps(name):
    conditional = MODELS[name](context_dim=2)
    bound = jax.jit(lambda c: c(jnp.array([[1.0, 0.0], [0.0, 1.0]])))(conditional)
    draws, log_prob = _sample(bound, 4)
    np.testing.assert_allclose(log_prob, _log_prob(bound, draws), rtol=1e-4, atol=1e-4)
    of_both = _log_prob(bound, jnp.broadcast_to(draws[:, :1], draws.shape))
    assert np.all(of_both[:, 0] != of_both[:, 1])


@pytest.mark.parametrize(
    "build",
    [
        lambda: wavenet(3, 4, channels=4, layers=2, key=KEY),
        lambda: transformer(3, 4, width=4, heads=2, layers=1, key=KEY),
        lambda: char_rnn(3, 4, width=4, key=KEY),
        lambda: pixel_cnn((1, 2, 2), 3, channels=4, depth=1, key=KEY),
        lambda: pixel_cnn_pp((2, 2), 3, channels=4, depth=2, components=2, key=KEY),
    ],
)
def test_it_sums_to_one(build):
    model = _strong(build())
    levels = model.support.base_constraint.upper_bound + 1
    grid = jnp.stack(jnp.meshgrid(*[jnp.arange(levels)] * len(model.order)), -1)
    testing.check_normalized(model, grid.reshape(-1, *model.event_shape))


# -- what is particular to one network


def _seen(network, shape, at):
    """Where in the input the output at a place depends on, by derivatives."""
    x = jax.random.normal(KEY, shape)
    return np.any(np.asarray(jax.jit(jax.grad(lambda x: network(x)[at].sum()))(x)) != 0, -1)


def test_the_receptive_field_of_a_wavenet():
    network = WaveNet(lambda x: jnp.tile(x, 8), 2, channels=8, layers=3, key=KEY)
    seen = _seen(network, (20, 1), 19)
    assert network.receptive_field == 8 and seen.sum() == 8 and seen[11:19].all()


def test_a_wavenet_starts_its_dilations_again():
    assert WaveNet(2, 1, layers=5, cycle=3, channels=4, key=KEY).dilations == (1, 2, 4, 1, 2)


def test_a_pixel_cnn_has_a_blind_spot_and_a_gated_one_has_not():
    """However deep: a pixel r rows up is seen no further than r columns to the right."""
    before = np.arange(81).reshape(9, 9) < 8 * 9 + 2
    masked = PixelCNN((9, 9, 1), 1, channels=8, depth=12, first_reach=1, key=KEY)
    seen = _seen(masked, (9, 9, 1), (8, 2))
    blind = np.array([[c - 2 > 8 - r for c in range(9)] for r in range(9)])
    np.testing.assert_array_equal(seen, before & ~blind)
    gated = GatedPixelCNN((9, 9, 1), 1, channels=8, depth=8, key=KEY)
    np.testing.assert_array_equal(_seen(gated, (9, 9, 1), (8, 2)), before)


def test_rotary_positions_are_relative():
    """A layer of attention without learned positions sees only distances."""
    q, k = jax.random.normal(KEY, (2, 1, 1, 8))
    score = lambda i, j: jnp.sum(rotate(q, jnp.array([i])) * rotate(k, jnp.array([j])))
    np.testing.assert_allclose(score(7, 3), score(104, 100), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Transformer(2, 1, length=4, width=10, heads=4, key=KEY), "heads"),
        (lambda: Transformer(2, 1, length=4, width=6, heads=2, rotary=True, key=KEY), "heads"),
        (lambda: Transformer(2, 1, length=4, width=8, heads=2, key=KEY)(jnp.zeros(5, int)), "at most 4"),
        (lambda: GatedPixelCNN((3, 3, 1), 1, depth=3, shortcuts=True, key=KEY), "even"),
        (lambda: pixel_cnn((3, 3, 1, 1), 2, key=KEY), "height, width"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
