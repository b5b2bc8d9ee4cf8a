"""Masked self-attention over sequences: a decoder transformer."""

import math
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import check_sizes
from probgen.networks.dropout import Dropout, refuse_dropout
from probgen.networks.layers import scan_layers
from probgen.networks.mlp import Linear, each
from probgen.networks.sequences import Embed, Previous


def standardized(x: Array) -> Array:
    """Return (x − mean(x)) / sd(x), over the last axis.

    >>> standardized(jnp.array([1.0, 3.0])).round(3).tolist()
    [-1.0, 1.0]
    """
    centred = x - jnp.mean(x, -1, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)


class LayerNorm(eqx.Module):
    """y = g ⊙ (x − mean(x)) / sd(x) + b over the last axis.

    References: Layer Normalization (Ba, Kiros, Hinton 2016), arXiv:1607.06450.
    """

    scale: Array
    shift: Array

    def __init__(self, width: int):
        self.scale, self.shift = jnp.ones(width), jnp.zeros(width)

    def __call__(self, x: Array) -> Array:
        """Apply the layer, at every place."""
        return standardized(x) * self.scale + self.shift


def rotate(x: Array, places: Array) -> Array:
    """Turn pairs of numbers of x [T, heads, size] by angles that grow with the place: rotary positions.

    The product of a query and a key then depends on the distance of their places.

    References: RoFormer (Su et al. 2021), arXiv:2104.09864.
    """
    half = x.shape[-1] // 2
    angles = places[:, None, None] * 10_000.0 ** (-jnp.arange(half) / half)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * jnp.cos(angles) - b * jnp.sin(angles), a * jnp.sin(angles) + b * jnp.cos(angles)], -1)


def attend(q: Array, k: Array, v: Array, sees: Array | None = None, dropout: Dropout | None = None) -> Array:
    """Return softmax(q kᵀ / √c) v of each head, [T, heads, c] of queries [T, heads, c] over keys [S, heads, c].

    Args:
        q: the queries.
        k: the keys.
        v: the values.
        sees: which keys a query sees, [T, S]; all of them by default.
        dropout: of the weights.
    """
    scores = jnp.einsum("thc,shc->hts", q, k) / math.sqrt(q.shape[-1])
    weights = jax.nn.softmax(scores if sees is None else jnp.where(sees, scores, -jnp.inf), -1)
    return jnp.einsum("hts,shc->thc", weights if dropout is None else dropout(weights), v)


class _Block(eqx.Module):
    """x + attention(norm(x)), and x + MLP(norm(x))."""

    norms: tuple[LayerNorm, LayerNorm]
    inwards: Linear
    outwards: Linear
    up: Linear
    down: Linear
    heads: int = eqx.field(static=True)
    rotary: bool = eqx.field(static=True)

    def __init__(self, width: int, heads: int, rotary: bool, layers: int, *, key: Array):
        keys, small = jax.random.split(key, 4), 1.0 / math.sqrt(2 * layers)
        self.norms = LayerNorm(width), LayerNorm(width)
        self.inwards, self.outwards = (
            Linear(width, 3 * width, key=keys[0]),
            Linear(width, width, scale=small, key=keys[1]),
        )
        self.up, self.down = Linear(width, 4 * width, key=keys[2]), Linear(4 * width, width, scale=small, key=keys[3])
        self.heads, self.rotary = heads, rotary

    def project(self, x: Array, places: Array) -> tuple[Array, Array, Array]:
        """Return queries, keys and values [T, heads, size] of the numbers at these places, [T, width]."""
        parts = jnp.split(each(self.inwards, self.norms[0](x)), 3, -1)
        q, k, v = (part.reshape(len(x), self.heads, -1) for part in parts)
        return (rotate(q, places), rotate(k, places), v) if self.rotary else (q, k, v)

    def finish(self, x: Array, q: Array, k: Array, v: Array, sees: Array, dropout: Dropout) -> Array:
        """Return the block's output [T, width] for queries [T, …] over keys [S, …]; `sees` [T, S]."""
        x = x + dropout(each(self.outwards, attend(q, k, v, sees, dropout).reshape(x.shape)))
        return x + dropout(each(self.down, jax.nn.gelu(each(self.up, self.norms[1](x)))))


class Transformer(eqx.Module):
    """A decoder transformer: every place attends to all places before it, in each layer.

        h ← h + A softmax(q kᵀ / √c) v,   h ← h + W₂ gelu(W₁ norm(h)),   q, k, v = Q norm(h) where only j ≤ i is seen

    e_i is the vector of x_{i−1}. The receptive field is unlimited after one layer, and the parameters do not grow with
    the length, but for learned positions. A step keeps the keys and values of all places before (a KV cache).

    Args:
        embed: one value → [width], or an integer: so many symbols.
        num_params: how many raw numbers a place has.
        length: of the longest sequence.
        width: of the vector that a place has.
        heads: of attention, a divisor of the width; with `rotary` their size is even.
        layers: how many blocks.
        rotary: whether positions are turned into the queries and keys (RoPE), and not learned.
        dropout: the rate in the blocks, in training.
        context_dim: the size of a context, if it takes one.
        key: draws the first weights.

    Raises ValueError where `heads` do not divide the width, or a sequence is longer.

    References: Attention Is All You Need (Vaswani et al. 2017), arXiv:1706.03762; norms first: On Layer Normalization
    in the Transformer Architecture (Xiong et al. 2020), arXiv:2002.04745.

    >>> import jax, jax.numpy as jnp
    >>> Transformer(5, 5, length=3, width=8, heads=2, layers=1, key=jax.random.key(0))(jnp.array([0, 4, 2])).shape
    (3, 5)
    """

    previous: Previous
    places: Array | None
    blocks: _Block
    norm: LayerNorm
    out: Linear
    dropout: Dropout
    length: int = eqx.field(static=True)

    def __init__(
        self,
        embed: Embed | int,
        num_params: int,
        *,
        length: int,
        width: int = 128,
        heads: int = 4,
        layers: int = 4,
        rotary: bool = False,
        dropout: float = 0.0,
        context_dim: int | None = None,
        key: Array,
    ):
        check_sizes(length=length, width=width, heads=heads, layers=layers)
        check_sizes(0, context_dim=context_dim or 0)
        if width % heads or (rotary and width // heads % 2):
            raise ValueError(f"heads: expected a divisor of the width {width}{', even' * rotary}, got {heads}")
        keys = jax.random.split(key, 4)
        self.previous = Previous(embed, width, context_dim, scale=0.02, key=keys[0])
        self.places = None if rotary else 0.02 * jax.random.normal(keys[1], (length, width))
        block = lambda key: _Block(width, heads, rotary, layers, key=key)
        self.blocks = jax.vmap(block)(jax.random.split(keys[2], layers))
        self.norm, self.out = LayerNorm(width), Linear(width, num_params, scale=0.1, key=keys[3])
        self.dropout, self.length = Dropout(dropout), int(length)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to one sequence [T, …], and to a context where it was built with `context_dim`."""
        if len(x) > self.length:
            raise ValueError(f"x: expected at most {self.length} places, got {len(x)}")
        h, places = self.previous(x, context), jnp.arange(len(x))
        h = self.dropout(h if self.places is None else h + self.places[: len(x)])
        sees = places[:, None] >= places[None, :]
        one = lambda h, block: (block.finish(h, *block.project(h, places), sees, self.dropout), None)
        h, _ = scan_layers(one, h, self.blocks)
        return each(self.out, self.norm(h))

    def sequential(self) -> Self:
        """Return the network itself: a step attends to what earlier ones kept."""
        refuse_dropout(self.dropout)
        return self

    def init(self, context: Array | None = None) -> Any:
        """Return the cache before the first step: keys and values of every layer, and what the context adds."""
        width, dtype = self.previous.start.shape[-1], self.previous.start.dtype
        layers, heads = len(self.blocks.up.bias), self.blocks.heads
        empty = tuple(jnp.zeros((self.length, heads, width // heads), dtype) for _ in range(layers))
        return empty, empty, self.previous.bind(context)

    def step(self, cache: Any, value: Array, i: Array) -> tuple[Any, Array]:
        """Return the next cache and raw numbers [num_params] of place i, told the value before."""
        (keys, values, bound), new = cache, []
        h = self.previous.step(value, i, bound)[None]
        h = h if self.places is None else h + self.places[i]
        sees = (jnp.arange(self.length) <= i)[None]
        for layer, (k, v) in enumerate(zip(keys, values, strict=True)):  # not a scan, which would copy the caches
            block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], self.blocks)
            q, k_here, v_here = block.project(h, i[None])
            k, v = (lax.dynamic_update_slice_in_dim(a, b, i, 0) for a, b in ((k, k_here), (v, v_here)))
            h = block.finish(h, q, k, v, sees, self.dropout)
            new.append((k, v))
        return (tuple(k for k, _ in new), tuple(v for _, v in new), bound), each(self.out, self.norm(h))[0]
