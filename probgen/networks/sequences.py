"""What networks of sequences share: values as vectors, and the shift that makes them causal."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.networks.mlp import Linear

Embed = Callable[[Array], Array]


class Embedding(eqx.Module):
    """A learned vector for each of the symbols 0..levels−1.

    Args:
        levels: how many symbols.
        width: of a vector.
        scale: standard deviation of the first vectors' numbers.
        key: draws the first vectors.

    >>> import jax
    >>> Embedding(5, 3, key=jax.random.key(0))(jax.numpy.array(4)).shape
    (3,)
    """

    table: Array

    def __init__(self, levels: int, width: int, *, scale: float = 1.0, key: Array):
        self.table = scale * jax.random.normal(key, (levels, width))

    def __call__(self, symbol: Array) -> Array:
        """Return the vector of one symbol, of shape () or (1,)."""
        return self.table[symbol.reshape(())]


class Previous(eqx.Module):
    """The inputs of a causal network of sequences: at place i the vector of the value before, and of the context.

        e_0 = s + C c,   e_i = embed(x_{i−1}) + C c

    Args:
        embed: any callable pytree, one value → [width] (`Embedding` of symbols, `Linear(1, width)` of reals), or an
            integer: so many symbols.
        width: of a vector.
        context_dim: the size of a context, if it takes one.
        scale: of the first vectors.
        key: draws the first weights.
    """

    embed: Embed
    start: Array
    context: Linear | None

    def __init__(
        self, embed: Embed | int, width: int, context_dim: int | None = None, *, scale: float = 1.0, key: Array
    ):
        embed_key, start_key, context_key = jax.random.split(key, 3)
        self.embed = Embedding(embed, width, scale=scale, key=embed_key) if isinstance(embed, int) else embed
        self.start = scale * jax.random.normal(start_key, (width,))
        self.context = Linear(context_dim, width, scale=scale, key=context_key) if context_dim else None

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Return the vectors [T, width] of a sequence [T, …]."""
        values = x.reshape(x.size, 1) if x.ndim == 1 else x
        inputs = jnp.concatenate([self.start[None], jax.vmap(self.embed)(values[:-1])])
        bound = self.bind(context)
        return inputs if bound is None else inputs + bound

    def bind(self, context: Array | None) -> Array | None:
        """Return what the context adds to every place."""
        return None if context is None or self.context is None else self.context(context)

    def step(self, value: Array, i: Array, bound: Array | None) -> Array:
        """Return the input of place i, told the value before."""
        first = jnp.where(i == 0, self.start, self.embed(value))
        return first if bound is None else first + bound
