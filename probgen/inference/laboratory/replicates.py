"""Many gradients at one point: their moments, without keeping them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

Group = dict[str, Array]  # {param site: [P]}


class Moments(NamedTuple):
    """Of so many `gradients`: `mean` and `variance` by component; the mean `cosine` of single ones to a reference; `loss`
    and its variance.

    `events`: n / kurtosis about the reference, by component: how many gradients the mean rests on. A component that is
    moved by a rare value only has few, and its mean is no normal number.
    """

    gradients: Any
    mean: Group
    variance: Group
    events: Group
    cosine: Group
    loss: Array
    loss_variance: Array


def flat(gradient: dict[str, Any]) -> Group:
    """One vector for each param site."""
    return {name: jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)]) for name, tree in gradient.items()}


def replicate(
    loss_and_gradient: Callable[[Array], tuple[Array, Group]], key: Array, count: int, reference: Group | None = None
) -> Moments:
    """The moments of `count` independent gradients, in blocks on the device (Welford's update, block by block)."""
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
        n, mean, m2, powers, cosines = carry
        values, c = jax.vmap(one)(jax.random.split(jax.random.fold_in(key, index), block))
        block_mean = jax.tree.map(lambda x: x.mean(0), values)
        block_m2 = jax.tree.map(lambda x, m: jnp.sum((x - m) ** 2, 0), values, block_mean)
        total = n + block
        delta = jax.tree.map(lambda a, b: b - a, mean, block_mean)
        mean = jax.tree.map(lambda m, d: m + d * block / total, mean, delta)
        m2 = jax.tree.map(lambda a, b, d: a + b + d**2 * n * block / total, m2, block_m2, delta)
        power = lambda p: jax.tree.map(lambda x, r: jnp.mean((x - r) ** p, 0) / blocks, values[0], reference)
        powers = jax.tree.map(jnp.add, powers, (power(2), power(4)))
        return (total, mean, m2, powers, jax.tree.map(lambda s, x: s + x.mean(0) / blocks, cosines, c)), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shape, jax.ShapeDtypeStruct((), jnp.zeros(()).dtype)))
    start = (jnp.zeros(()), zeros, zeros, (zeros[0], zeros[0]), jax.tree.map(lambda x: jnp.zeros(()), shape))
    n, mean, m2, (second, fourth), cosines = lax.scan(update, start, jnp.arange(blocks))[0]
    variance = jax.tree.map(lambda x: x / (n - 1), m2)
    events = jax.tree.map(lambda s, f: n * jnp.where(f > 0, s**2 / jnp.where(f > 0, f, 1.0), 1.0), second, fourth)
    return Moments(blocks * block, mean[0], variance[0], events, cosines, mean[1], variance[1])


def _block(count: int, most: int) -> int:
    """The largest divisor of `count` that is no more than `most`."""
    return next(size for size in range(min(count, most), 0, -1) if count % size == 0)
