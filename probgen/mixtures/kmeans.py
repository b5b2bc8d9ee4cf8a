"""k-means, as a start of mixtures."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import as_numbers, split_key
from probgen.distributions.in_blocks import block_size, sum_over_rows


def kmeans_plus_plus(x: Array, k: int, *, key: Array) -> Array:
    """Return k rows that lie far apart, [k, D], the start of k-means: each is drawn by its squared distance to those
    before it.

        P(c_j = x_n) ∝ min_{i<j} |x_n − c_i|²

    The expected sum of squares of these centers is within a factor 8 (2 + log k) of the best. One pass over the rows
    for each center, in memory for N numbers.

    Args:
        x: rows, [N, D].
        k: how many, 1 ≤ k ≤ N.
        key: draws them.

    Raises ValueError where x has no such shape, holds NaN or infinity, or has fewer than k different rows (inside
    `jit`, where that cannot be known, centers then repeat).

    References: k-means++: The Advantages of Careful Seeding (Arthur, Vassilvitskii 2007), SODA.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.repeat(jnp.array([[0.0], [5.0], [9.0]]), 100, 0)
    >>> sorted(kmeans_plus_plus(x, 3, key=jax.random.key(0)).ravel().tolist())
    [0.0, 5.0, 9.0]
    """
    centers, different = _plus_plus(_checked(x, k), k, split_key(key, ()))
    if not isinstance(different, jax.core.Tracer) and int(different) < k:
        raise ValueError(f"x: expected at least {k} different rows for k = {k}, got {int(different)}")
    return centers


def kmeans(x: Array, k: int, *, steps: int = 10, key: Array) -> tuple[Array, Array]:
    """Return centers [k, D] and the nearest of them for each row, [N], by k-means++ and Lloyd's iterations.

        c_j ← mean of {x_n : j = argmin_i |x_n − c_i|},   which never raises Σ_n min_j |x_n − c_j|²

    A center that is nearest to no row stays where it is. Distances are computed block by block. Scale columns of
    different units first.

    Args:
        x: rows, [N, D].
        k: how many, 1 ≤ k ≤ N.
        steps: how many of Lloyd's iterations.
        key: draws the start.

    Raises ValueError as `kmeans_plus_plus`.

    References: Least squares quantization in PCM (Lloyd 1982); the start as `kmeans_plus_plus`.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.array([[0.0], [1.0], [8.0], [10.0]])
    >>> centers, labels = kmeans(x, 2, key=jax.random.key(0))
    >>> sorted(centers.ravel().tolist()), bool(labels[0] == labels[1])
    ([0.5, 9.0], True)
    """
    return _lloyd(jnp.asarray(as_numbers("x", x), float), kmeans_plus_plus(x, k, key=key), steps)


def _checked(x: Array, k: int) -> Array:
    x = jnp.asarray(as_numbers("x", x), float)
    if x.ndim != 2:
        raise ValueError(f"x: expected rows [N, D], got shape {x.shape}")
    if not 1 <= k <= len(x):
        raise ValueError(f"k: expected 1 to {len(x)} (the rows of x), got {k}")
    if not isinstance(x, jax.core.Tracer) and not bool(jnp.isfinite(x).all()):
        raise ValueError("x: expected finite numbers, got NaN or infinity")
    return x


@partial(jax.jit, static_argnums=1)
def _plus_plus(x: Array, k: int, key: Array) -> tuple[Array, Array]:
    """Return the centers, and how many of them are different rows."""
    first, *_ = keys = jax.random.split(key, k)

    def choose(nearest: Array, key: Array) -> tuple[Array, tuple[Array, Array]]:
        # Gumbel noise on the logarithms: a cumulative sum over a million rows would round the small ones away
        center = x[jax.random.categorical(key, jnp.log(nearest))]
        return jnp.minimum(nearest, jnp.sum((x - center) ** 2, -1)), (center, jnp.max(nearest) > 0)

    center = x[jax.random.randint(first, (), 0, len(x))]
    _, (more, is_new) = lax.scan(choose, jnp.sum((x - center) ** 2, -1), keys[1:])
    return jnp.concatenate([center[None], more]), 1 + jnp.sum(is_new)


@partial(jax.jit, static_argnums=2)
def _lloyd(x: Array, centers: Array, steps: int) -> tuple[Array, Array]:
    size = block_size(centers.size)

    def improve(centers: Array, _: None) -> tuple[Array, None]:
        def sums(block: Array) -> tuple[Array, Array]:
            chosen = jax.nn.one_hot(_nearest(block, centers), len(centers), dtype=x.dtype)
            return chosen.sum(0), chosen.T @ block

        counts, totals = sum_over_rows(sums, (x,), size)
        return jnp.where(counts[:, None] > 0, totals / jnp.maximum(counts, 1)[:, None], centers), None

    centers, _ = lax.scan(improve, centers, None, length=steps)
    return centers, lax.map(lambda row: _nearest(row, centers), x, batch_size=size)


def _nearest(x: Array, centers: Array) -> Array:
    return jnp.argmin(jnp.sum((x[..., None, :] - centers) ** 2, -1), -1)
