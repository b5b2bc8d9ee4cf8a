"""Memory does not grow with particles, rows or levels, as the compiler counts it; and the numbers stay the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probgen
from probgen.core import count_parameters
from probgen.distributions import EM, CategoricalMixture, mixture
from probgen.distributions.rows import block_size
from probgen.latent import vae
from probgen.score import vp_score

KEY = jax.random.key(0)


def working_bytes(function, *args):
    """What a compiled function needs beside its arguments and results."""
    return jax.jit(function).lower(*args).compile().memory_analysis().temp_size_in_bytes


def test_em_counts_in_blocks():
    model, step = mixture((64,), 64, components=4, key=KEY), lambda em, x: em.update(x, KEY)
    of_rows = lambda n: working_bytes(step, EM(model, shrinkage=2.0), jax.ShapeDtypeStruct((n, 64), jnp.int32))
    block = block_size(64 * 64)
    assert of_rows(20 * block) < 1.2 * of_rows(2 * block)


@pytest.mark.parametrize("count", [7, 1024, 2500])
def test_em_steps_are_those_of_all_rows_at_once(count):
    """Rows fewer than a block, a whole one, and two and a half."""
    start = mixture((64, 1), 64, components=4, key=KEY)
    x = jax.random.randint(jax.random.key(1), (count, 64, 1), 0, 64)
    new = start.em_step(x, 0.3, 2.0)
    joint = np.asarray(jax.vmap(start.log_joint)(x), np.float64)
    r = np.exp(joint - np.logaddexp.reduce(joint, 1)[:, None])
    one_hot = np.eye(64)[np.asarray(x)[..., 0]]
    counts = np.einsum("nk,ndl->kdl", r, one_hot, optimize=True) + 0.3 + 2.0 * one_hot.mean(0)
    np.testing.assert_allclose(new.logits, np.log(r.sum(0) + 1), rtol=1e-5)
    theta = (counts / counts.sum(-1, keepdims=True))[:, :, None]
    np.testing.assert_allclose(jax.nn.softmax(new.position_logits), theta, rtol=1e-4)
