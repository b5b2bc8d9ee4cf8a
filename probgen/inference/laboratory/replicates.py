"""Many gradients at one point: their moments, without keeping them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import ndtri

Group = dict[str, Array]  # {param site: [P]}


class Moments(NamedTuple):
    """The moments of so many `gradients`: `mean` and `variance` by component; the `largest` distance of a component
    from the reference, and the mean `cosine` of single gradients to it, by group; `loss` and its variance."""

    gradients: Any
    mean: Group
    variance: Group
    largest: Group
    cosine: Group
    loss: Array
    loss_variance: Array


_RARE = 5.0  # times the largest gradient over N: what a value that was never drawn may hide (as in Bernstein's bound)


def flat(gradient: dict[str, Any]) -> Group:
    """Return one vector for each param site."""
    return {name: jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)]) for name, tree in gradient.items()}


def replicate(
    loss_and_gradient: Callable[[Array], tuple[Array, Group]], key: Array, count: int, reference: Group | None = None
) -> Moments:
    """Return the moments of `count` independent gradients, in blocks on the device (Welford's update, block by
    block)."""
    shape = jax.eval_shape(loss_and_gradient, key)[1]
    size = sum(x.size for x in shape.values())
    block = _block(count, max(1, min(1_000, 4_000_000 // max(size, 1))))
    blocks = count // block
    reference = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape) if reference is None else reference

    def cosine(gradient: Group) -> Group:
        inner = lambda g, r: jnp.vdot(g, r) / jnp.maximum(jnp.linalg.norm(g) * jnp.linalg.norm(r), 1e-30)
        return jax.tree.map(inner, gradient, reference)

    def one(key: Array) -> tuple[Any, Any]:
        loss, gradient = loss_and_gradient(key)
        return (gradient, loss), cosine(gradient)

    def update(carry: Any, index: Array) -> tuple[Any, None]:
        n, mean, m2, largest, cosines = carry
        values, c = jax.vmap(one)(jax.random.split(jax.random.fold_in(key, index), block))
        block_mean = jax.tree.map(lambda x: x.mean(0), values)
        block_m2 = jax.tree.map(lambda x, m: jnp.sum((x - m) ** 2, 0), values, block_mean)
        total = n + block
        delta = jax.tree.map(lambda a, b: b - a, mean, block_mean)
        mean = jax.tree.map(lambda m, d: m + d * block / total, mean, delta)
        m2 = jax.tree.map(lambda a, b, d: a + b + d**2 * n * block / total, m2, block_m2, delta)
        distance = jax.tree.map(lambda x, r: jnp.max(jnp.abs(x - r)), values[0], reference)
        largest = jax.tree.map(jnp.maximum, largest, distance)
        return (total, mean, m2, largest, jax.tree.map(lambda s, x: s + x.mean(0) / blocks, cosines, c)), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shape, jax.ShapeDtypeStruct((), jnp.zeros(()).dtype)))
    each = jax.tree.map(lambda x: jnp.zeros(()), shape)
    start = (jnp.zeros(()), zeros, zeros, each, each)
    n, mean, m2, largest, cosines = lax.scan(update, start, jnp.arange(blocks))[0]
    variance = jax.tree.map(lambda x: x / (n - 1), m2)
    return Moments(blocks * block, mean[0], variance[0], largest, cosines, mean[1], variance[1])


def _block(count: int, most: int) -> int:
    """Return the largest divisor of `count` that is no more than `most`."""
    return next(size for size in range(min(count, most), 0, -1) if count % size == 0)


def z_scores(moments: Moments, truth: Array, truth_variance: Array | np.ndarray | float, group: str) -> np.ndarray:
    """Return the means' distances from the truth in standard errors, widened by what rare values may hide."""
    mean, exact = np.asarray(moments.mean[group], float), np.asarray(truth, float)
    count = float(moments.gradients)
    variance = np.asarray(moments.variance[group], float) / count + np.asarray(truth_variance, float)
    hidden = _RARE * float(moments.largest[group]) / count
    rounding = 1e-6 * (1 + abs(float(moments.loss)) + np.abs(exact))  # an exact estimator differs by no more
    return (mean - exact) / (np.sqrt(variance + rounding**2) + hidden)


def limit(level: float, tests: int) -> float:
    """Return what the largest |z| of so many tests exceeds by chance with a probability of at most `level`
    (Bonferroni)."""
    return float(-ndtri(level / 2 / tests))
