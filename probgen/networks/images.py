"""Convolutional networks of one image [H, W, C]: blocks at one resolution, from one to another, encoder and decoder."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_not_negative, check_sizes
from probgen.networks.convolution import Padding, convolve
from probgen.networks.dropout import Dropout
from probgen.networks.layers import normed, scan_layers
from probgen.networks.mlp import Linear, check_context, check_hidden

Activation = Callable[[Array], Array]


class Convolution(eqx.Module):
    """A convolution with zeros around the image, [H, W, C] → [⌈H / stride⌉, ⌈W / stride⌉, out_channels].

        y_{i,j} = Σ_{r,c} K_{r,c} x_{s i + r − a, s j + c − b} + bias

    a and b are such that the rows and columns that it sees beyond the image are half before and half behind it, the odd
    one behind.

    Args:
        in_channels: C.
        out_channels: of the output.
        size: how many rows and columns K has.
        stride: s.
        scale: of K ~ Normal(0, scale² / (size² C)); the bias starts at 0.
        key: draws K.

    >>> import jax, jax.numpy as jnp
    >>> Convolution(3, 4, stride=2, key=jax.random.key(0))(jnp.ones((7, 8, 3))).shape
    (4, 4, 4)
    """

    kernel: Array
    bias: Array
    stride: int = eqx.field(static=True)

    def __init__(
        self, in_channels: int, out_channels: int, *, size: int = 3, stride: int = 1, scale: float = 1.0, key: Array
    ):
        check_sizes(in_channels=in_channels, out_channels=out_channels, size=size, stride=stride)
        check_not_negative(scale=scale)
        dense = Linear(size * size * in_channels, out_channels, scale=scale, key=key)
        self.kernel, self.bias = dense.weight.T.reshape(size, size, in_channels, out_channels), dense.bias
        self.stride = int(stride)

    def __call__(self, x: Array) -> Array:
        """Apply the convolution to one image."""
        size, stride = self.kernel.shape[0], self.stride
        beyond = [max((math.ceil(n / stride) - 1) * stride + size - n, 0) for n in x.shape[:2]]
        padding: Padding = ((beyond[0] // 2, -(-beyond[0] // 2)), (beyond[1] // 2, -(-beyond[1] // 2)))
        return convolve(jnp.asarray(x, self.kernel.dtype), self.kernel, padding, stride) + self.bias


class _Block(eqx.Module):
    """h + K₂ * dropout(φ(K₁ * φ(h/rms(h)) + C c)), K₂ = 0 at the start."""

    into: Convolution
    context: Linear | None
    out: Convolution

    def __init__(self, channels: int, context_dim: int | None, *, key: Array):
        k1, k2, k3 = jax.random.split(key, 3)
        self.into = Convolution(channels, channels, key=k1)
        self.context = Linear(context_dim, channels, key=k2) if context_dim else None
        self.out = Convolution(channels, channels, scale=0.0, key=k3)

    def __call__(self, h: Array, context: Array | None, activation: Activation, dropout: Dropout) -> Array:
        inner = self.into(activation(normed(h)))
        if self.context is not None:
            inner = inner + self.context(context)  # type: ignore[arg-type]  # `ResidualBlocks` has looked
        return h + self.out(dropout(activation(inner)))


class ResidualBlocks(eqx.Module):
    """Equal residual blocks of images, at one resolution, which see a context if they take one: [H, W, F] → [H, W, F].

        h_{l+1} = h_l + K₂ * φ(K₁ * φ(h_l/rms(h_l)) + C c)

    The mean square is over the channels of a place. The blocks are the identity at the start. They are stacked and run
    as one scan, so that compile time does not grow with depth.

    Args:
        channels: F.
        depth: how many blocks.
        context_dim: the size of c, if there is one.
        activation: φ.
        dropout: the rate in the blocks, in training.
        key: draws the first weights.

    Raises ValueError where it is called without the context that it takes, or with one that it does not take.

    References: Identity Mappings in Deep Residual Networks (He, Zhang, Ren, Sun 2016), arXiv:1603.05027.

    >>> import jax, jax.numpy as jnp
    >>> blocks = ResidualBlocks(4, depth=3, context_dim=2, key=jax.random.key(0))
    >>> bool((blocks(jnp.ones((7, 7, 4)), jnp.ones(2)) == 1).all())
    True
    """

    blocks: _Block
    dropout: Dropout
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        depth: int,
        *,
        context_dim: int | None = None,
        activation: Activation = jax.nn.silu,
        dropout: float = 0.0,
        key: Array,
    ):
        check_sizes(channels=channels, depth=depth)
        check_sizes(0, context_dim=context_dim or 0)
        check_hidden((), activation)
        self.blocks = jax.vmap(lambda k: _Block(channels, context_dim, key=k))(jax.random.split(key, depth))
        self.dropout = Dropout(dropout)
        self.activation = activation

    def __call__(self, h: Array, context: Array | None = None) -> Array:
        """Apply the blocks to one image, and to a context where they were built with `context_dim`."""
        return self._states(h, context, kept=False)[0]

    def states(self, h: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Return the last image, and those after each block, [depth, H, W, F]."""
        return self._states(h, context, kept=True)

    def _states(self, h: Array, context: Array | None, *, kept: bool) -> tuple[Array, Any]:
        taken = self.blocks.context
        if (context is None) != (taken is None):
            raise ValueError(f"context: expected {'none' if taken is None else 'one'}, got {context}")
        if context is not None and taken is not None:
            check_context(context, taken)

        def one(h: Array, block: _Block) -> tuple[Array, Array | None]:
            h = block(h, context, self.activation, self.dropout)
            return h, h if kept else None

        return scan_layers(one, jnp.asarray(h, self.blocks.out.bias.dtype), self.blocks)


class Upsample(eqx.Module):
    """A convolution of an image that is twice as large, each number repeated, [H, W, C] → [H', W', out_channels].

    H' is 2 H or 2 H − 1, W' likewise, as the image had before it was halved.

    Args:
        in_channels: C.
        out_channels: of the output.
        key: draws the first weights.

    Raises ValueError where the image cannot become as large as is asked.

    >>> import jax, jax.numpy as jnp
    >>> Upsample(3, 4, key=jax.random.key(0))(jnp.ones((4, 4, 3)), (7, 8)).shape
    (7, 8, 4)
    """

    convolution: Convolution

    def __init__(self, in_channels: int, out_channels: int, *, key: Array):
        self.convolution = Convolution(in_channels, out_channels, key=key)

    def __call__(self, x: Array, size: tuple[int, int]) -> Array:
        """Apply it to one image, which becomes one of size (H', W')."""
        if halved(size) != x.shape[:2]:
            raise ValueError(f"size: expected twice {x.shape[:2]}, or one less, got {size}")
        return self.convolution(x.repeat(2, 0).repeat(2, 1)[: size[0], : size[1]])


class ImageEncoder(eqx.Module):
    """A residual network from an image to a vector, [H, W, C] → [out_dim], halving the image between its stages.

    A stage has `depth` residual blocks (`ResidualBlocks`); a convolution of stride 2 leads to the next. What the last
    one says of each place goes through one dense layer, which starts small.

    Args:
        shape: (H, W, C).
        out_dim: the length of the output.
        channels: of each stage; an odd size becomes (size + 1) / 2.
        depth: how many residual blocks a stage has.
        context_dim: the size of a context, if it takes one; every block sees it.
        activation: φ of the blocks.
        dropout: the rate in the blocks, in training.
        key: draws the first weights.

    Raises ValueError where an argument is out of its range, or the image has another shape.

    >>> import jax, jax.numpy as jnp
    >>> ImageEncoder((7, 7, 1), 5, channels=(4, 8, 8), key=jax.random.key(0))(jnp.ones((7, 7, 1))).shape
    (5,)
    """

    into: Convolution
    stages: tuple[ResidualBlocks, ...]
    down: tuple[Convolution, ...]
    out: Linear
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_dim: int,
        *,
        channels: Sequence[int] = (32, 64),
        depth: int = 1,
        context_dim: int | None = None,
        activation: Activation = jax.nn.silu,
        dropout: float = 0.0,
        key: Array,
    ):
        self.shape = as_image(shape)
        check_sizes(out_dim=out_dim)
        sizes = stage_sizes(self.shape, channels)
        in_key, out_key, *keys = jax.random.split(key, 2 * len(channels) + 2)
        stage = partial(ResidualBlocks, depth=depth, context_dim=context_dim, activation=activation, dropout=dropout)
        self.into = Convolution(self.shape[2], channels[0], key=in_key)
        self.stages = tuple(stage(c, key=k) for c, k in zip(channels, keys[::2], strict=True))
        pairs = zip(channels[:-1], channels[1:], keys[1::2], strict=False)
        self.down = tuple(Convolution(c, d, stride=2, key=k) for c, d, k in pairs)
        self.out = Linear(math.prod(sizes[-1]) * channels[-1], out_dim, scale=0.01, key=out_key)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to one image, and to a context where it was built with `context_dim`."""
        check_image(x, self.shape)
        h = self.stages[0](self.into(x), context)
        for down, stage in zip(self.down, self.stages[1:], strict=True):
            h = stage(down(h), context)
        return self.out(self.stages[-1].activation(normed(h)).reshape(-1))


class ImageDecoder(eqx.Module):
    """A residual network from a vector to an image, [in_dim] → [H, W, C]: an `ImageEncoder` backwards.

    A dense layer makes the smallest image. `Upsample` leads from a stage to the next, and a convolution, which starts
    small, makes the numbers of each pixel.

    Args:
        in_dim: the length of the input.
        shape: (H, W, C), the last being how many numbers a pixel has: of a head with p parameters, p for each colour.
        channels: of each stage of the encoder: the last of them is the decoder's first.
        depth: how many residual blocks a stage has.
        context_dim: the size of a context, if it takes one; every block sees it.
        activation: φ of the blocks.
        dropout: the rate in the blocks, in training.
        key: draws the first weights.

    Raises ValueError where an argument is out of its range.

    >>> import jax, jax.numpy as jnp
    >>> ImageDecoder(5, (7, 7, 2), channels=(4, 8, 8), key=jax.random.key(0))(jnp.ones(5)).shape
    (7, 7, 2)
    """

    into: Linear
    stages: tuple[ResidualBlocks, ...]
    up: tuple[Upsample, ...]
    out: Convolution
    sizes: tuple[tuple[int, int], ...] = eqx.field(static=True)

    def __init__(
        self,
        in_dim: int,
        shape: tuple[int, int, int],
        *,
        channels: Sequence[int] = (32, 64),
        depth: int = 1,
        context_dim: int | None = None,
        activation: Activation = jax.nn.silu,
        dropout: float = 0.0,
        key: Array,
    ):
        shape = as_image(shape)
        check_sizes(in_dim=in_dim)
        self.sizes = stage_sizes(shape, channels)[::-1]
        channels = tuple(channels)[::-1]
        in_key, out_key, *keys = jax.random.split(key, 2 * len(channels) + 2)
        stage = partial(ResidualBlocks, depth=depth, context_dim=context_dim, activation=activation, dropout=dropout)
        self.into = Linear(in_dim, math.prod(self.sizes[0]) * channels[0], key=in_key)
        self.stages = tuple(stage(c, key=k) for c, k in zip(channels, keys[::2], strict=True))
        pairs = zip(channels[:-1], channels[1:], keys[1::2], strict=False)
        self.up = tuple(Upsample(c, d, key=k) for c, d, k in pairs)
        self.out = Convolution(channels[-1], shape[2], scale=0.01, key=out_key)

    def __call__(self, z: Array, context: Array | None = None) -> Array:
        """Apply the network to a vector, and to a context where it was built with `context_dim`."""
        h = self.stages[0](self.into(z).reshape(*self.sizes[0], -1), context)
        for size, up, stage in zip(self.sizes[1:], self.up, self.stages[1:], strict=True):
            h = stage(up(h, size), context)
        return self.out(self.stages[-1].activation(normed(h)))


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """Return how large an image is after a convolution of stride 2."""
    return -(-size[0] // 2), -(-size[1] // 2)


def stage_sizes(shape: tuple[int, int, int], channels: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return (H, W) of each stage. Raises ValueError where `channels` are none."""
    if isinstance(channels, str) or not isinstance(channels, Sequence) or not channels:
        raise ValueError(f"channels: expected those of each stage, such as (32, 64), got {channels!r}")
    check_sizes(**{f"channels[{i}]": c for i, c in enumerate(channels)})
    sizes = [shape[:2]]
    for _ in channels[1:]:
        sizes.append(halved(sizes[-1]))
    return tuple(sizes)


def image_shape(event_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (H, W, C) of events [H, W] or [H, W, C]. Raises ValueError for others.

    >>> image_shape((8, 6))
    (8, 6, 1)
    """
    if len(event_shape) not in (2, 3):
        raise ValueError(f"event_shape: expected an image, [H, W] or [H, W, C], got {event_shape}")
    height, width, channels = (*event_shape, 1)[:3]
    return height, width, channels


def as_image(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the shape (H, W, C) of an image. Raises ValueError where it is none."""
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ValueError(f"shape: expected (H, W, C), got {shape!r}")
    check_sizes(**{f"shape[{i}]": n for i, n in enumerate(shape)})
    height, width, channels = map(int, shape)
    return height, width, channels


def check_image(x: Array, shape: tuple[int, int, int]) -> None:
    """Raise ValueError where an image has another shape."""
    if x.shape != shape:
        raise ValueError(f"x: expected an image of shape {shape}, got {x.shape}")
