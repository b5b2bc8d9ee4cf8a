"""Memory does not grow with particles, rows or levels, as the compiler counts it; and the numbers stay the same."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probgen
from probgen.core import count_parameters
from probgen.distributions import in_blocks
from probgen.flows import on_levels, real_nvp
from probgen.latent import vae
from probgen.mixtures import EM, categorical_mixture
from probgen.score import vp_score

KEY = jax.random.key(0)


def working_bytes(function, *args):
    """What a compiled function needs beside its arguments and results."""
    return jax.jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_em_counts_in_blocks():
    model, step = categorical_mixture((64,), 64, components=4, key=KEY), lambda em, x: em.update(x, KEY)
    of_rows = lambda n: working_bytes(step, EM(model, shrinkage=2.0), jax.ShapeDtypeStruct((n, 64), jnp.int32))
    block = in_blocks.block_size(64 * 64)
    assert of_rows(20 * block) < 1.2 * of_rows(2 * block)


@pytest.mark.parametrize("count", [7, 1024, 2500])
def test_em_steps_are_those_of_all_rows_at_once(count):
    """Rows fewer than a block, a whole one, and two and a half."""
    start = categorical_mixture((64, 1), 64, components=4, key=KEY)
    x = jax.random.randint(jax.random.key(1), (count, 64, 1), 0, 64)
    new = start.em_step(x, 0.3, 2.0)
    joint = np.asarray(jax.vmap(start.log_joint)(x), np.float64)
    r = np.exp(joint - np.logaddexp.reduce(joint, 1)[:, None])
    one_hot = np.eye(64)[np.asarray(x)[..., 0]]
    counts = np.einsum("nk,ndl->kdl", r, one_hot, optimize=True) + 0.3 + 2.0 * one_hot.mean(0)
    np.testing.assert_allclose(new.logits, np.log(r.sum(0) + 1), rtol=1e-5)
    theta = (counts / counts.sum(-1, keepdims=True))[:, :, None]
    np.testing.assert_allclose(jax.nn.softmax(new.position_logits), theta, rtol=1e-4)


# -- particles

MODELS = {
    "conditional vae": lambda: vae((8,), 4, latent_dim=2, hidden=(64,), context_dim=1, key=KEY)(jnp.ones((3, 1))),
    "vaes of a batch": lambda: jax.vmap(lambda k: vae((8,), 4, latent_dim=2, hidden=(64,), key=k))(
        jax.random.split(KEY, 3)
    ),
    "dequantized flow": lambda: on_levels(real_nvp(8, layers=1, hidden=(64,), key=KEY), (8,), 4),
    "score": lambda: vp_score((8,), levels=4, width=64, depth=1, key=KEY),
}
X = jnp.arange(24).reshape(3, 8) % 4


@pytest.mark.parametrize("name", MODELS)
def test_bounds_of_many_particles(name, monkeypatch):
    """And their gradients, which are those of all particles at once.

    In float64: in float32 the posterior of one particle, between two levels, hangs on the last digit of its time.
    """
    with jax.enable_x64(True):
        params, rest = probgen.partition(MODELS[name]())
        params = {path: leaf + 0.1 for path, leaf in params.items()}

        def compiled():
            loss = lambda params, key: probgen.combine(params, rest).log_prob_bound(key, X, 260).sum()
            return jax.jit(jax.value_and_grad(loss)).lower(params, KEY).compile()

        at_once = compiled()
        monkeypatch.setattr(in_blocks, "_BLOCK_NUMBERS", 64 * X.size * 20)  # 20 particles of all rows to a block
        blocks = compiled()
        found, wanted = blocks(params, KEY), at_once(params, KEY)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-7), found, wanted)
    # 13 times, but for the keys, the weights, and the parameters' gradient
    assert 5 * blocks.memory_analysis().temp_size_in_bytes < at_once.memory_analysis().temp_size_in_bytes


def test_parameters_of_a_score_model_of_many_levels():
    """A layer from the width to 16 · 16 · 256 logits had 16.8 million."""
    count = lambda levels: count_parameters(vp_score((16, 16), levels=levels, depth=1, key=KEY))
    assert count(256) < 3e6
    assert count(1024) - count(256) == (1024 - 256) * (16 * 16 + 32)  # biases and features; no width in it


def test_a_bound_of_any_number_of_particles_takes_the_same_memory():
    """What grows are the keys, 8 bytes for each particle; kept weights would be 4 bytes for each row of each."""
    model, x = vae((784,), 2, latent_dim=4, hidden=(16,), components=0, key=KEY), jnp.zeros((100, 784), int)
    needs = lambda k: working_bytes(lambda m, key: m.log_prob_bound(key, x, k), model, KEY)
    few, many = needs(32), needs(3200)
    assert many - few < 3 * 8 * 3200 < 0.1 * 4 * 3200 * 100
    assert few < 1.2 * needs(16)


@pytest.mark.parametrize("particles", [8, 9, 24, 61])
def test_bounds_in_blocks_are_the_mean_of_the_weights(particles, monkeypatch):
    """Fewer than a block, one more than a block, whole blocks, and blocks that do not come out even."""
    model = jax.jit(lambda key: vae((8,), 4, latent_dim=2, hidden=(16,), key=key))(KEY)
    log_weights = jax.jit(lambda m: m.log_weights(KEY, X, particles))(model)
    monkeypatch.setattr(in_blocks, "_BLOCK_NUMBERS", 1)  # the fewest particles to a block, which is 8
    bound = jax.jit(lambda m: m.log_prob_bound(KEY, X, particles))(model)
    np.testing.assert_allclose(bound, np.logaddexp.reduce(log_weights, 0) - np.log(particles), rtol=1e-5)
