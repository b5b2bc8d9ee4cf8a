"""Causal convolutions: a position sees what comes before it in raster order, without masks and without blind spots."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.networks.dropout import Dropout
from probgen.networks.mlp import Linear


def neighbours(x: Array, rows: tuple[int, ...], columns: tuple[int, ...]) -> Array:
    """What lies `r` rows above and `c` columns to the left, zero outside: [H, W, C] → [H, W, rows · columns · C].

    A convolution is this and a matrix product. Written so, its gradient is fast on a CPU in a loop too, where that of
    a convolution is not (jax#12868), and a kernel has no entries that a mask would have to hold at zero.

    >>> import jax.numpy as jnp
    >>> neighbours(jnp.arange(1, 5).reshape(2, 2, 1), (0,), (1,))[..., 0]
    Array([[0, 1],
           [0, 3]], dtype=int32)
    """
    height, width, _ = x.shape
    top, bottom = max(*rows, 0), max(-min(rows), 0)
    left, right = max(*columns, 0), max(-min(columns), 0)
    padded = jnp.pad(x, ((top, bottom), (left, right), (0, 0)))
    parts = [padded[top - r : top - r + height, left - c : left - c + width] for r in rows for c in columns]
    return jnp.concatenate(parts, -1)


class CausalConvolution(eqx.Module):
    """A convolution over the given offsets: y = W · neighbours(x) + b, [H, W, C] → [H, W, out_channels].

    Args: `rows` above and `columns` to the left, such as (0, 1) and (−1, 0, 1); 0 is the position itself.

    >>> import jax, jax.numpy as jnp
    >>> CausalConvolution(3, 4, rows=(0, 1), columns=(-1, 0, 1), key=jax.random.key(0))(jnp.ones((8, 8, 3))).shape
    (8, 8, 4)
    """

    linear: Linear
    rows: tuple[int, ...] = eqx.field(static=True)
    columns: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, in_channels: int, out_channels: int, *, rows: tuple[int, ...], columns: tuple[int, ...], key: Array
    ):
        self.rows, self.columns = rows, columns
        self.linear = Linear(len(rows) * len(columns) * in_channels, out_channels, key=key)

    def __call__(self, x: Array) -> Array:
        """Apply the convolution to one image."""
        return pointwise(self.linear, neighbours(x, self.rows, self.columns))


def pointwise(linear: Linear, x: Array) -> Array:
    """A dense layer at every position of an image, [H, W, C] → [H, W, out]."""
    return x @ linear.weight.T + linear.bias


class _GatedBlock(eqx.Module):
    """One layer of both stacks: v (all rows above) and h (this row to the left, and v), residual, gated."""

    vertical: CausalConvolution
    horizontal: CausalConvolution
    across: Linear
    vertical_out: Linear
    horizontal_out: Linear
    context: Linear | None

    def __init__(self, channels: int, reach: int, context_dim: int | None, *, key: Array):
        keys = jax.random.split(key, 6)
        left = tuple(range(reach + 1))
        around = tuple(range(-reach, reach + 1))
        self.vertical = CausalConvolution(channels, 2 * channels, rows=left, columns=around, key=keys[0])
        self.horizontal = CausalConvolution(channels, 2 * channels, rows=(0,), columns=left, key=keys[1])
        self.across = Linear(2 * channels, 2 * channels, key=keys[2])
        self.vertical_out = Linear(channels, channels, scale=0.5, key=keys[3])
        self.horizontal_out = Linear(channels, channels, scale=0.5, key=keys[4])
        self.context = Linear(context_dim, 4 * channels, key=keys[5]) if context_dim else None

    def __call__(self, v: Array, h: Array, dropout: Dropout, context: Array | None) -> tuple[Array, Array]:
        above = self.vertical(v)
        left = self.horizontal(h) + pointwise(self.across, above)
        if self.context is not None and context is not None:
            for_v, for_h = jnp.split(self.context(context), 2)
            above, left = above + for_v, left + for_h
        v = v + pointwise(self.vertical_out, dropout(_gate(above)))
        return v, h + pointwise(self.horizontal_out, dropout(_gate(left)))


def _gate(x: Array) -> Array:
    value, gate = jnp.split(x, 2, -1)
    return jnp.tanh(value) * jax.nn.sigmoid(gate)


class GatedPixelCNN(eqx.Module):
    """Gated causal convolutions in two stacks: at (r, c), [H, W, num_params] numbers from all that is above and left.

        v_{l+1} = v_l + V_l gate(K_l * v_l),   h_{l+1} = h_l + H_l gate(k_l * h_l + A_l (K_l * v_l)),
        gate(a, b) = tanh(a) ⊙ σ(b)

    The first layer looks strictly above (v) and strictly left (h), so no later one has to mask anything. Each position
    starts from a learned vector of its own. The blocks are stacked and run as one scan.

    Args: `image_shape` (H, W, C); `num_params`; `channels` of each stack; `blocks`; `reach` of a kernel in pixels: it
    is reach + 1 high and 2 · reach + 1 wide; `dropout` in the blocks; `context_dim`. With blocks · reach + 1 < max(H,
    W) far pixels are out of sight.

    References: Conditional Image Generation with PixelCNN Decoders (van den Oord et al. 2016), arXiv:1606.05328.

    >>> import jax, jax.numpy as jnp
    >>> net = GatedPixelCNN((4, 4, 1), 3, channels=8, blocks=2, key=jax.random.key(0))
    >>> net(jnp.ones((4, 4, 1))).shape
    (4, 4, 3)
    """

    above: CausalConvolution
    left: CausalConvolution
    place: Array
    blocks: _GatedBlock
    hidden: Linear
    out: Linear
    dropout: Dropout

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_params: int,
        *,
        channels: int = 32,
        blocks: int = 5,
        reach: int = 1,
        dropout: float = 0.0,
        context_dim: int | None = None,
        key: Array,
    ):
        height, width, in_channels = image_shape
        keys = jax.random.split(key, 6)
        rows, around = tuple(range(1, reach + 1)), tuple(range(-reach, reach + 1))
        self.above = CausalConvolution(in_channels, channels, rows=rows, columns=around, key=keys[0])
        self.left = CausalConvolution(in_channels, channels, rows=(0,), columns=rows, key=keys[1])
        self.place = 0.1 * jax.random.normal(keys[2], (height, width, 2 * channels))
        block = lambda key: _GatedBlock(channels, reach, context_dim, key=key)
        self.blocks = jax.vmap(block)(jax.random.split(keys[3], blocks))
        self.hidden = Linear(2 * channels, channels, key=keys[4])
        self.out = Linear(channels, num_params, scale=0.1, key=keys[5])
        self.dropout = Dropout(dropout)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to one image, and to a context where it was built with `context_dim`."""
        at_v, at_h = jnp.split(self.place, 2, -1)
        stacks = self.above(x) + at_v, self.left(x) + at_h
        one = lambda stacks, block: (block(*stacks, self.dropout, context), None)
        stacks, _ = lax.scan(one, stacks, self.blocks)
        both = jnp.concatenate(stacks, -1)
        return pointwise(self.out, jax.nn.silu(pointwise(self.hidden, jax.nn.silu(both))))
