"""Many rows or particles, block by block, so that memory does not grow with their number."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import mapped_rows

_BLOCK_NUMBERS = 1 << 22  # of the largest array that a block makes: 16 MB in float32
_NUMBERS, _FEWEST = 64, 8


def block_size(numbers_per_row: int) -> int:
    """Return how many rows make a block, where a function of one row makes an array of so many numbers."""
    return max(1, _BLOCK_NUMBERS // max(1, numbers_per_row))


def sum_over_rows(function: Callable[..., Any], rows: tuple[Array, ...], size: int) -> Any:
    """Return Σ function(*block) over blocks of `size` rows and what is left of them; `function` returns sums over its
    rows.

    >>> import jax.numpy as jnp
    >>> sum_over_rows(lambda x: x.sum(0), (jnp.ones((10, 2)),), 4)
    Array([10., 10.], dtype=float32)
    """
    count = len(rows[0])
    whole = count // size * size
    total = function(*(x[whole:] for x in rows)) if whole < count or not count else None
    if not whole:
        return total
    blocks = tuple(x[:whole].reshape(-1, size, *x.shape[1:]) for x in rows)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, *(x[0] for x in blocks)))
    add = lambda a, b: jax.tree.map(jnp.add, a, b)
    summed, _ = lax.scan(lambda so_far, block: (add(so_far, function(*block)), None), zero, blocks)
    return summed if total is None else add(summed, total)


def map_particles(function: Callable[..., Array], particles: tuple[Array, ...], value_size: int) -> Array:
    """Return `function` of each particle, stacked: all at once where they are few, else block by block.

    The gradient computes each block again, so that its memory does not grow with the particles either. A block holds
    64 numbers for each of the values that a particle sees (those of levels, or of a hidden layer), or 8 particles.

    >>> import jax.numpy as jnp
    >>> map_particles(lambda a, b: a + b, (jnp.arange(3), jnp.ones(3)), 1 << 30)
    Array([1., 2., 3.], dtype=float32)
    """
    size = _particles_of_a_block(value_size)
    if len(particles[0]) <= size:
        return jax.vmap(function)(*particles)
    one = jax.checkpoint(lambda particle: function(*particle))
    return lax.map(one, particles, batch_size=size)


def logsumexp_of_particles(function: Callable[..., Array], particles: tuple[Array, ...], value_size: int) -> Array:
    """Return log Σ_k exp function(particle k), in blocks as `map_particles`, of which nothing is kept but the sum.

    >>> import jax.numpy as jnp
    >>> jnp.exp(logsumexp_of_particles(jnp.log, (jnp.arange(1.0, 101.0),), 1 << 30)).round(2)
    Array(5050., dtype=float32)
    """
    count = len(particles[0])
    blocks = -(-count // _particles_of_a_block(value_size))
    if blocks == 1:
        return jax.nn.logsumexp(jax.vmap(function)(*particles), 0)
    size = -(-count // blocks)  # the first block has what the others leave
    first = count - (blocks - 1) * size
    others = tuple(x[first:].reshape(-1, size, *x.shape[1:]) for x in particles)
    of_block = jax.checkpoint(lambda *block: jax.nn.logsumexp(jax.vmap(function)(*block), 0))
    start = of_block(*(x[:first] for x in particles))
    total, _ = lax.scan(lambda so_far, block: (jnp.logaddexp(so_far, of_block(*block)), None), start, others)
    return total


def _particles_of_a_block(value_size: int) -> int:
    return max(_FEWEST, block_size(_NUMBERS * value_size * mapped_rows()))
