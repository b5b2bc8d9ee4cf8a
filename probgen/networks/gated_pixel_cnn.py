"""Gated PixelCNN: two stacks of causal convolutions, without a blind spot."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import check_sizes
from probgen.networks.convolution import CausalConvolution, Channels, box
from probgen.networks.dropout import Dropout, refuse_dropout
from probgen.networks.layers import scan_layers
from probgen.networks.mlp import Linear, each
from probgen.networks.pixel_cnn import at_pixel


class _Block(eqx.Module):
    """One layer of both stacks: v (all rows above) and h (this row to the left, and v), residual, gated."""

    vertical: CausalConvolution
    horizontal: CausalConvolution
    across: Linear
    vertical_out: Linear
    horizontal_out: Linear
    context: Linear | None

    def __init__(self, channels: int, reach: int, context_dim: int | None, *, key: Array):
        keys = jax.random.split(key, 6)
        left, around = range(reach + 1), range(-reach, reach + 1)
        self.vertical = CausalConvolution(channels, 2 * channels, box(left, around), key=keys[0])
        self.horizontal = CausalConvolution(channels, 2 * channels, box((0,), left), key=keys[1])
        self.across = Linear(2 * channels, 2 * channels, key=keys[2])
        self.vertical_out = Linear(channels, channels, scale=0.5, key=keys[3])
        self.horizontal_out = Linear(channels, channels, scale=0.5, key=keys[4])
        self.context = Linear(context_dim, 4 * channels, key=keys[5]) if context_dim else None

    def bind(self, context: Array | None) -> tuple[Array, Array] | tuple[float, float]:
        """Return what the context adds to the gates of each stack."""
        if context is None or self.context is None:
            return 0.0, 0.0
        for_v, for_h = jnp.split(self.context(context), 2)
        return for_v, for_h

    def rise(self, v: Array, above: Array, dropout: Dropout) -> Array:
        """Return the vertical stack's next layer, from this one and its gates."""
        return v + each(self.vertical_out, dropout(_gate(above)))

    def move(self, h: Array, left: Array, dropout: Dropout) -> Array:
        """Return the horizontal stack's next layer, from this one and its gates."""
        return h + each(self.horizontal_out, dropout(_gate(left)))

    def __call__(self, v: Array, h: Array, dropout: Dropout, context: Array | None) -> tuple[Array, Array]:
        for_v, for_h = self.bind(context)
        above = self.vertical(v)
        left = self.horizontal(h) + each(self.across, above) + for_h
        return self.rise(v, above + for_v, dropout), self.move(h, left, dropout)


def _gate(x: Array) -> Array:
    value, gate = jnp.split(x, 2, -1)
    return jnp.tanh(value) * jax.nn.sigmoid(gate)


class _Short(eqx.Module):
    """A shortcut: what a layer of the first half adds to one of the second."""

    vertical: Linear
    horizontal: Linear

    def __init__(self, channels: int, *, key: Array):
        keys = jax.random.split(key)
        self.vertical, self.horizontal = (Linear(channels, channels, scale=0.5, key=k) for k in keys)


class Rows(NamedTuple):
    """The numbers that steps have computed, each with `reach` rows above or columns to the left of it.

    `image`: the last rows; `v`: those of each layer's vertical stack; `across`: what that hands to this row's
    horizontal stack; `h`: this row of each layer's; `features` of the pixel at hand.
    """

    image: Array
    v: tuple[Array, ...]
    across: tuple[Array, ...]
    h: tuple[Array, ...]
    v_out: Array
    features: Array
    context: Array | None


class GatedPixelCNN(eqx.Module):
    """Gated causal convolutions in two stacks: at (r, c) raw numbers from all that is above and to the left.

        v_{l+1} = v_l + V_l gate(K_l * v_l),   h_{l+1} = h_l + H_l gate(k_l * h_l + A_l (K_l * v_l)),
        gate(a, b) = tanh(a) ⊙ σ(b)

    The first layer looks strictly above (v) and strictly left (h), so no later one has to mask anything. Each position
    starts from a learned vector of its own. The blocks are stacked and run as one scan. A step computes one place of h,
    and the first of a row the whole row of v.

    Args:
        image_shape: (H, W, C).
        num_params: how many raw numbers a channel has.
        channels: F, the width of each stack.
        depth: L; with depth · reach + 1 < max(H, W) far pixels are out of sight.
        reach: of a kernel in pixels: it is reach + 1 high and 2 · reach + 1 wide.
        shortcuts: whether layer l of the first half of the blocks is handed on to layer L − l of the second, as in
            PixelCNN++.
        dropout: the rate in the blocks, in training.
        context_dim: the size of a context, if it takes one.
        key: draws the first weights.

    Raises ValueError where shortcuts are asked of an odd number of blocks.

    References: Conditional Image Generation with PixelCNN Decoders (van den Oord et al. 2016), arXiv:1606.05328;
    PixelCNN++ (Salimans, Karpathy, Chen, Kingma 2017), arXiv:1701.05517.

    >>> import jax, jax.numpy as jnp
    >>> net = GatedPixelCNN((4, 4, 1), 3, channels=8, depth=2, key=jax.random.key(0))
    >>> net(jnp.ones((4, 4, 1))).shape
    (4, 4, 1, 3)
    """

    above: CausalConvolution
    left: CausalConvolution
    place: Array
    blocks: _Block
    shortcuts: _Short | None
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
        reach: int = 1,
        shortcuts: bool = False,
        dropout: float = 0.0,
        context_dim: int | None = None,
        key: Array,
    ):
        check_sizes(channels=channels, depth=depth, reach=reach)
        check_sizes(0, context_dim=context_dim or 0)
        if shortcuts and depth % 2:
            raise ValueError(f"depth: expected an even number with shortcuts, got {depth}")
        height, width, colours = image_shape
        keys, short_key = jax.random.split(key, 5), jax.random.fold_in(key, 1)
        rows, around = range(1, reach + 1), range(-reach, reach + 1)
        self.above = CausalConvolution(colours, channels, box(rows, around), key=keys[0])
        self.left = CausalConvolution(colours, channels, box((0,), rows), key=keys[1])
        self.place = 0.1 * jax.random.normal(keys[2], (height, width, 2 * channels))
        self.blocks = jax.vmap(lambda k: _Block(channels, reach, context_dim, key=k))(jax.random.split(keys[3], depth))
        short = jax.vmap(lambda k: _Short(channels, key=k))
        self.shortcuts = short(jax.random.split(short_key, depth // 2)) if shortcuts else None
        self.out = Channels(2 * channels, colours, num_params, width=channels, key=keys[4])
        self.dropout, self.image_shape = Dropout(dropout), (int(height), int(width), int(colours))

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to one image, and to a context where it was built with `context_dim`."""
        at_v, at_h = jnp.split(self.place, 2, -1)
        stacks = self.above(x) + at_v, self.left(x) + at_h
        depth = len(self.blocks.across.bias)

        def up(stacks: tuple[Array, Array], block: _Block) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            return block(*stacks, self.dropout, context), stacks

        def down(stacks: tuple[Array, Array], at: tuple[_Block, _Short, tuple[Array, Array]]) -> tuple:
            block, short, (v, h) = at
            stacks = stacks[0] + each(short.vertical, v), stacks[1] + each(short.horizontal, h)
            return block(*stacks, self.dropout, context), None

        if self.shortcuts is None:
            stacks, _ = scan_layers(lambda s, b: (up(s, b)[0], None), stacks, self.blocks)
        else:
            first, second = (jax.tree.map(lambda leaf, n=n: leaf[n], self.blocks) for n in _halves(depth))
            stacks, kept = scan_layers(up, stacks, first)
            backwards = jax.tree.map(lambda leaf: leaf[::-1], kept)
            stacks, _ = scan_layers(down, stacks, (second, self.shortcuts, backwards))
        return self.out(jnp.concatenate(stacks, -1), x)

    # -- step by step

    def sequential(self) -> Self:
        """Return the network itself: a step computes one place."""
        refuse_dropout(self.dropout)
        return self

    def init(self, context: Array | None = None) -> Rows:
        """Return the cache before the first step."""
        (_, width, colours), channels, dtype = self.image_shape, len(self.above.linear.bias), self.place.dtype
        reach, layers = self.above.margins[0], len(self.blocks.across.bias)
        row = jnp.zeros((width, channels), dtype)
        return Rows(
            image=jnp.zeros((reach + 1, reach + width, colours), dtype),
            v=(jnp.zeros((reach + 1, width, channels), dtype),) * layers,
            across=(jnp.zeros((width, 2 * channels), dtype),) * layers,
            h=(jnp.zeros((reach + width, channels), dtype),) * layers,
            v_out=row,
            features=jnp.zeros(2 * channels, dtype),
            context=context,
        )

    def step(self, cache: Rows, value: Array, i: Array) -> tuple[Rows, Array]:
        """Return the next cache and raw numbers [num_params] of the i-th number in raster order, told the one
        before."""
        (_, width, colours), reach = self.image_shape, self.above.margins[0]
        row, column, channel = at_pixel(i, width, colours)
        _, last, of = at_pixel(jnp.maximum(i - 1, 0), width, colours)
        value = jnp.where(i > 0, value.reshape(()).astype(cache.image.dtype), 0.0)
        cache = cache._replace(image=cache.image.at[-1, reach + last, of].set(value))
        cache = lax.cond((column == 0) & (channel == 0), lambda: self._next_row(cache, row), lambda: cache)
        if colours == 1:
            cache = self._next_pixel(cache, row, column)
        else:
            cache = lax.cond(channel == 0, lambda: self._next_pixel(cache, row, column), lambda: cache)
        pixel = jnp.where(jnp.arange(colours) < channel, cache.image[-1, reach + column], 0.0)
        return cache, self.out(cache.features, pixel)[channel]

    def _layers(self) -> list[tuple[_Block, _Short | None]]:
        count = len(self.blocks.across.bias)
        at = lambda tree, n: jax.tree.map(lambda leaf: leaf[n], tree)
        shorts = [None if self.shortcuts is None or n < count // 2 else at(self.shortcuts, n - count // 2)
                  for n in range(count)]  # fmt: skip
        return [(at(self.blocks, n), short) for n, short in enumerate(shorts)]

    def _next_row(self, cache: Rows, row: Array) -> Rows:
        """Return the cache with the vertical stack of a row, all of its columns at once, from the rows above."""
        reach = self.above.margins[0]
        image = jnp.where(row > 0, _push(cache.image, jnp.zeros_like(cache.image[0])), cache.image)
        v = self.above.last_row(image[:, reach:]) + self.place[row, :, : cache.v_out.shape[-1]]
        stacks: list[Array] = []
        across: list[Array] = []
        inputs: list[Array] = []
        for n, (block, short) in enumerate(self._layers()):
            if short is not None:
                v = v + each(short.vertical, inputs[len(cache.v) - 1 - n])
            inputs.append(v)
            stacks.append(_push(cache.v[n], v))
            for_v, _ = block.bind(cache.context)
            above = block.vertical.last_row(stacks[n])
            across.append(each(block.across, above))
            v = block.rise(v, above + for_v, self.dropout)
        return cache._replace(image=image, v=tuple(stacks), across=tuple(across), v_out=v)

    def _next_pixel(self, cache: Rows, row: Array, column: Array) -> Rows:
        """Return the cache with the horizontal stack of one place."""
        h = self.left.at(cache.image[-1:], 0, column) + self.place[row, column, cache.v_out.shape[-1] :]
        rows: list[Array] = []
        inputs: list[Array] = []
        for n, (block, short) in enumerate(self._layers()):
            if short is not None:
                h = h + each(short.horizontal, inputs[len(cache.h) - 1 - n])
            inputs.append(h)
            rows.append(cache.h[n].at[self.above.margins[0] + column].set(h))
            _, for_h = block.bind(cache.context)
            left = block.horizontal.at(rows[n][None], 0, column) + cache.across[n][column] + for_h
            h = block.move(h, left, self.dropout)
        return cache._replace(h=tuple(rows), features=jnp.concatenate([cache.v_out[column], h]))


def _halves(depth: int) -> tuple[slice, slice]:
    return slice(None, depth // 2), slice(depth // 2, None)


def _push(rows: Array, row: Array) -> Array:
    """Return the rows moved up by one, and a new last one."""
    return jnp.concatenate([rows[1:], row[None]])
