"""A U-Net: a network of images for score models, from an image and a context to numbers of every pixel."""

import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import as_integer, check_sizes
from probgen.networks.attention import attend
from probgen.networks.dropout import Dropout
from probgen.networks.images import Convolution, as_image, check_image, stage_sizes
from probgen.networks.layers import normed
from probgen.networks.mlp import Linear, check_context, check_hidden, each

Activation = Callable[[Array], Array]


class ContextEmbedding(eqx.Module):
    """φ(V φ(U c)): what all layers of a network see of a context c.

    Args:
        context_dim: the size of c.
        width: of both layers.
        activation: φ.
        key: draws the first weights.
    """

    into: Linear
    out: Linear
    activation: Activation = eqx.field(static=True)

    def __init__(self, context_dim: int, width: int, *, activation: Activation = jax.nn.silu, key: Array):
        keys = jax.random.split(key)
        self.into, self.out = Linear(context_dim, width, key=keys[0]), Linear(width, width, key=keys[1])
        self.activation = activation

    def __call__(self, context: Array) -> Array:
        """Return the embedding of one context."""
        check_context(context, self.into)
        return self.activation(self.out(self.activation(self.into(context))))


class _Attention(eqx.Module):
    """h + A attention(Q n(h)) over all places of an image, A = 0 at the start."""

    inwards: Linear
    outwards: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, channels: int, heads: int, *, key: Array):
        self.inwards = Linear(channels, 3 * channels, key=key)
        self.outwards = Linear(channels, channels, scale=0.0, key=key)
        self.heads = heads

    def __call__(self, h: Array) -> Array:
        places = normed(h).reshape(-1, h.shape[-1])
        q, k, v = jnp.split(each(self.inwards, places).reshape(len(places), 3 * self.heads, -1), 3, 1)
        return h + each(self.outwards, attend(q, k, v).reshape(places.shape)).reshape(h.shape)


class _Block(eqx.Module):
    """S h + K₂ * dropout(φ((1 + s) ⊙ n(K₁ * φ(n(h))) + b)), (s, b) = F c, then attention; K₂ = F = 0 at the start."""

    into: Convolution
    film: Linear
    out: Convolution
    across: Linear | None
    attention: _Attention | None

    def __init__(self, in_channels: int, channels: int, context_dim: int, heads: int, *, key: Array):
        keys = jax.random.split(key, 4)
        self.into = Convolution(in_channels, channels, key=keys[0])
        self.film = Linear(context_dim, 2 * channels, scale=0.0, key=keys[1])
        self.out = Convolution(channels, channels, scale=0.0, key=keys[1])
        self.across = None if in_channels == channels else Linear(in_channels, channels, key=keys[2])
        self.attention = _Attention(channels, heads, key=keys[3]) if heads else None

    def __call__(self, h: Array, context: Array, activation: Activation, dropout: Dropout) -> Array:
        scale, shift = jnp.split(self.film(context), 2)
        inner = activation((1.0 + scale) * normed(self.into(activation(normed(h)))) + shift)
        h = (h if self.across is None else each(self.across, h)) + self.out(dropout(inner))
        return h if self.attention is None else self.attention(h)


class UNet(eqx.Module):
    """A U-Net whose every block sees the context (a noise level, a condition, or both): [H, W, C] → [H, W, K].

        h ↦ S h + K₂ * φ((1 + s) ⊙ n(K₁ * φ(n(h))) + b),   (s, b) = F e,   e = φ(V φ(U c)),   n(h) = h/rms(h)

    The mean square is over the channels of a place; S is the identity where the number of channels stays. On the way
    down each stage has `depth` blocks, and a convolution of stride 2 leads to the next; two blocks are in the middle;
    on the way up each of as many blocks sees, beside the image, what a block on the way down said, and a dense layer
    leads from a stage to the next, each number repeated. The output starts at zero.

    Args:
        shape: (H, W, C) of an event, of any size: an odd one becomes (size + 1) / 2.
        out_channels: K, how many numbers a pixel gets: C for a real image, C·L for logits of L levels, of one colour
            after another.
        context_dim: the size of the context c.
        channels: of each stage.
        depth: how many blocks a stage has on each of the two ways.
        attention: which stages attend over all their places, after each block and between the two in the middle;
            counted as `channels` are, the last being −1. () for none.
        heads: of attention, a divisor of the channels there; 1 by default.
        activation: φ.
        dropout: the rate in the blocks, in training.
        key: draws the first weights.

    Raises ValueError where an argument is out of its range or would do nothing, or the image or the context has another
    shape.

    References: U-Net (Ronneberger, Fischer, Brox 2015), arXiv:1505.04597; Denoising Diffusion Probabilistic Models (Ho,
    Jain, Abbeel 2020), arXiv:2006.11239; Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol 2021),
    arXiv:2105.05233; Root Mean Square Layer Normalization (Zhang, Sennrich 2019), arXiv:1910.07467.

    >>> import jax, jax.numpy as jnp
    >>> net = UNet((7, 7, 1), 2, context_dim=3, channels=(4, 8), key=jax.random.key(0))
    >>> net(jnp.ones((7, 7, 1)), jnp.ones(3)).shape
    (7, 7, 2)
    """

    embedding: ContextEmbedding
    into: Convolution
    down: tuple[tuple[_Block, ...], ...]
    smaller: tuple[Convolution, ...]
    middle: tuple[_Block, _Block]
    larger: tuple[Linear, ...]
    up: tuple[tuple[_Block, ...], ...]
    out: Convolution
    dropout: Dropout
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_channels: int,
        *,
        context_dim: int,
        channels: Sequence[int] = (32, 64, 64),
        depth: int = 1,
        attention: Sequence[int] = (-1,),
        heads: int | None = None,
        activation: Activation = jax.nn.silu,
        dropout: float = 0.0,
        key: Array,
    ):
        self.shape = as_image(shape)
        stage_sizes(self.shape, channels)
        check_sizes(out_channels=out_channels, context_dim=context_dim, depth=depth)
        check_hidden((), activation)
        heads_of = _heads_of(channels, attention, heads)
        keys = iter(jax.random.split(key, 2 * len(channels) * (depth + 1) + 3))
        width = 4 * channels[0]

        def blocks(in_channels: Sequence[int], channels: int, heads: int) -> tuple[_Block, ...]:
            return tuple(_Block(n, channels, width, heads, key=next(keys)) for n in in_channels)

        pairs = list(itertools.pairwise(channels))
        self.embedding = ContextEmbedding(context_dim, width, activation=activation, key=next(keys))
        self.into = Convolution(self.shape[2], channels[0], key=next(keys))
        self.down = tuple(blocks([c] * depth, c, heads) for c, heads in zip(channels, heads_of, strict=True))
        self.smaller = tuple(Convolution(c, d, stride=2, key=next(keys)) for c, d in pairs)
        last = channels[-1]
        self.middle = blocks([last], last, heads_of[-1])[0], blocks([last], last, 0)[0]
        self.larger = tuple(Linear(d, c, key=next(keys)) for c, d in pairs)
        self.up = tuple(blocks([2 * c] * depth, c, heads) for c, heads in zip(channels, heads_of, strict=True))
        self.out = Convolution(channels[0], out_channels, scale=0.0, key=next(keys))
        self.dropout = Dropout(dropout)

    def __call__(self, x: Array, context: Array) -> Array:
        """Apply the network to one image and a context vector."""
        check_image(x, self.shape)
        activation = self.embedding.activation
        embedded, said = self.embedding(context), []
        h = self.into(x)
        for stage, blocks in enumerate(self.down):
            h = self.smaller[stage - 1](h) if stage else h
            for block in blocks:
                h = block(h, embedded, activation, self.dropout)
                said.append(h)
        for block in self.middle:
            h = block(h, embedded, activation, self.dropout)
        for stage in reversed(range(len(self.up))):
            for block in self.up[stage]:
                h = jnp.concatenate([h, said.pop()], -1)
                h = block(h, embedded, activation, self.dropout)
            if stage:
                height, width = said[-1].shape[:2]
                h = each(self.larger[stage - 1], h).repeat(2, 0).repeat(2, 1)[:height, :width]
        return self.out(activation(normed(h)))


def _heads_of(channels: Sequence[int], attention: Sequence[int], heads: int | None) -> list[int]:
    """Return how many heads each stage has, 0 where it does not attend."""
    count = len(channels)
    stages = attention if isinstance(attention, Sequence) and not isinstance(attention, str) else [None]
    if not all(isinstance(s, int) and not isinstance(s, bool) and -count <= s < count for s in stages):
        raise ValueError(f"attention: expected stages from {-count} to {count - 1}, such as (-1,), got {attention!r}")
    attending = {s % count for s in stages}  # type: ignore[operator]  # they are integers
    if len(attending) < len(stages):
        raise ValueError(f"attention: expected each stage once, got {attention!r}")
    if heads is None:
        return [int(stage in attending) for stage in range(count)]
    check_sizes(heads=heads)
    if not attending:
        raise ValueError(f"heads: expected none where no stage attends, got {heads}")
    for stage in attending:
        if channels[stage] % heads:
            raise ValueError(f"heads: expected a divisor of the {channels[stage]} channels of a stage, got {heads}")
    return [as_integer(heads) if stage in attending else 0 for stage in range(count)]
