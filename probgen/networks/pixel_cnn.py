"""PixelCNN: one stack of causal convolutions over an image, with the blind spot."""

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_sizes
from probgen.networks.convolution import CausalConvolution, Channels, before
from probgen.networks.dropout import Dropout, refuse_dropout
from probgen.networks.mlp import Linear, each


class Maps(NamedTuple):
    """The numbers that steps have computed: the image and the inputs of each convolution, with margins; the features of
    the pixel at hand, and what the context adds."""

    image: Array
    layers: tuple[Array, ...]
    features: Array
    bound: Array | None


class _Block(eqx.Module):
    """h + 1×1(conv_B(1×1(h))), at half the width within."""

    inwards: Linear
    around: CausalConvolution
    outwards: Linear

    def __init__(self, channels: int, reach: int, *, key: Array):
        keys, half = jax.random.split(key, 3), max(1, channels // 2)
        self.inwards = Linear(channels, half, key=keys[0])
        self.around = CausalConvolution(half, half, before(reach, itself=True), key=keys[1])
        self.outwards = Linear(half, channels, scale=0.5, key=keys[2])

    def enter(self, h: Array) -> Array:
        return jax.nn.relu(each(self.inwards, jax.nn.relu(h)))

    def leave(self, h: Array, around: Array, dropout: Dropout) -> Array:
        return h + each(self.outwards, dropout(jax.nn.relu(around)))


class PixelCNN(eqx.Module):
    """Causal convolutions in one stack: at (r, c) raw numbers from what is above and to the left, but not all of it.

        h_1 = conv_A(x),   h_{l+1} = h_l + W₂ relu(conv_B(relu(W₁ relu(h_l))))

    A kernel of type A leaves out the pixel itself, one of type B does not. Stacked, they never see some pixels to the
    right in the rows above, however deep the stack is: the blind spot, which `GatedPixelCNN` has not.

    The channels of a pixel come one after another.

    Args:
        image_shape: (H, W, C).
        num_params: how many raw numbers a channel has.
        channels: F, the width of the stack.
        depth: how many residual blocks the stack has.
        first_reach: of the first kernel in pixels: it is 2 · first_reach + 1 wide.
        reach: of the other kernels.
        dropout: the rate in the blocks, in training.
        context_dim: the size of a context, if it takes one.
        key: draws the first weights.

    References: Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner, Kavukcuoglu 2016), arXiv:1601.06759.

    >>> import jax, jax.numpy as jnp
    >>> PixelCNN((4, 4, 1), 3, channels=8, depth=2, key=jax.random.key(0))(jnp.ones((4, 4, 1))).shape
    (4, 4, 1, 3)
    """

    first: CausalConvolution
    blocks: tuple[_Block, ...]
    context: Linear | None
    out: Channels
    dropout: Dropout
    image_shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_params: int,
        *,
        channels: int = 32,
        depth: int = 5,
        first_reach: int = 3,
        reach: int = 1,
        dropout: float = 0.0,
        context_dim: int | None = None,
        key: Array,
    ):
        check_sizes(channels=channels, first_reach=first_reach, reach=reach)
        check_sizes(0, depth=depth, context_dim=context_dim or 0)
        keys, (height, width, colours) = jax.random.split(key, depth + 3), image_shape
        self.first = CausalConvolution(colours, channels, before(first_reach, itself=False), key=keys[0])
        self.blocks = tuple(_Block(channels, reach, key=k) for k in keys[3:])
        self.context = Linear(context_dim, channels, key=keys[1]) if context_dim else None
        self.out = Channels(channels, colours, num_params, width=channels, key=keys[2])
        self.dropout, self.image_shape = Dropout(dropout), (int(height), int(width), int(colours))

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to one image, and to a context where it was built with `context_dim`."""
        bound = self._bound(context)
        h = self.first(x) if bound is None else self.first(x) + bound
        for block in self.blocks:
            h = block.leave(h, block.around(block.enter(h)), self.dropout)
        return self.out(h, x)

    def _bound(self, context: Array | None) -> Array | None:
        return None if context is None or self.context is None else self.context(context)

    def sequential(self) -> Self:
        """Return the network itself: a step computes the features of one pixel."""
        refuse_dropout(self.dropout)
        return self

    def init(self, context: Array | None = None) -> Maps:
        """Return the cache before the first step."""
        bias = self.first.linear.bias
        empty = lambda conv, colours: _with_margins(conv, self.image_shape[:2], colours, bias.dtype)
        layers = tuple(empty(block.around, len(block.inwards.bias)) for block in self.blocks)
        return Maps(empty(self.first, self.image_shape[2]), layers, jnp.zeros_like(bias), self._bound(context))

    def step(self, cache: Maps, value: Array, i: Array) -> tuple[Maps, Array]:
        """Return the next cache and raw numbers [num_params] of the i-th number in raster order, told the one
        before."""
        (_, width, colours), image = self.image_shape, cache.image
        row, column, channel = at_pixel(i, width, colours)
        image = put_before(image, self.first, value, i, width, colours)
        pixel = image[row + self.first.margins[0], column + self.first.margins[1]]
        cache = cache._replace(image=image)
        if colours == 1:
            cache = self._advance(cache, row, column)
        else:
            cache = jax.lax.cond(channel == 0, lambda: self._advance(cache, row, column), lambda: cache)
        return cache, self.out(cache.features, pixel)[channel]

    def _advance(self, cache: Maps, row: Array, column: Array) -> Maps:
        h, layers = self.first.at(cache.image, row, column), []
        h = h if cache.bound is None else h + cache.bound
        for block, seen in zip(self.blocks, cache.layers, strict=True):
            above, left, _ = block.around.margins
            seen = seen.at[row + above, column + left].set(block.enter(h))
            h = block.leave(h, block.around.at(seen, row, column), self.dropout)
            layers.append(seen)
        return cache._replace(layers=tuple(layers), features=h)


def at_pixel(i: Array, width: int, colours: int) -> tuple[Array, Array, Array]:
    """Return (row, column, channel) of the i-th number of an image in raster order."""
    return i // colours // width, i // colours % width, i % colours


def put_before(image: Array, conv: CausalConvolution, value: Array, i: Array, width: int, colours: int) -> Array:
    """Return the image, with the margins of a convolution, once the value before the i-th is known."""
    above, left, _ = conv.margins
    row, column, channel = at_pixel(jnp.maximum(i - 1, 0), width, colours)
    value = jnp.where(i > 0, value.reshape(()).astype(image.dtype), 0.0)
    return image.at[row + above, column + left, channel].set(value)


def _with_margins(conv: CausalConvolution, shape: tuple[int, int], colours: int, dtype: Any) -> Array:
    above, left, right = conv.margins
    return jnp.zeros((shape[0] + above, shape[1] + left + right, colours), dtype)
