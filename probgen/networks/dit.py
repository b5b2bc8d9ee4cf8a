"""A diffusion transformer: attention over the patches of an image, for score models."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import check_sizes
from probgen.networks.attention import attend, standardized
from probgen.networks.dropout import Dropout
from probgen.networks.images import as_image, check_image
from probgen.networks.layers import scan_layers
from probgen.networks.mlp import Linear, each
from probgen.networks.unet import ContextEmbedding


def grid_positions(rows: int, columns: int, width: int) -> np.ndarray:
    """Return sines and cosines of the places of a grid, [rows · columns, width]: half of them of the row, half of the
    column.

        (sin(ω_i r), cos(ω_i r), sin(ω_i c), cos(ω_i c))_i,   ω_i = 10000^(−4 i / width)

    >>> grid_positions(2, 3, 4)[4].round(3).tolist()
    [0.841, 0.54, 0.841, 0.54]
    """
    frequencies = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
    grid = np.indices((rows, columns)).reshape(2, -1, 1) * frequencies
    return np.concatenate([wave(angles) for angles in grid for wave in (np.sin, np.cos)], -1)


class _Block(eqx.Module):
    """x + g₁ ⊙ attention((1 + s₁) ⊙ n(x) + b₁), and the same of a dense network; s, b and g are of the context."""

    modulation: Linear
    inwards: Linear
    outwards: Linear
    up: Linear
    down: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, heads: int, *, key: Array):
        keys = jax.random.split(key, 4)
        self.modulation = Linear(width, 6 * width, scale=0.0, key=key)
        self.inwards, self.outwards = Linear(width, 3 * width, key=keys[0]), Linear(width, width, key=keys[1])
        self.up, self.down = Linear(width, 4 * width, key=keys[2]), Linear(4 * width, width, key=keys[3])
        self.heads = heads

    def __call__(self, x: Array, context: Array, dropout: Dropout) -> Array:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(self.modulation(context), 6)
        seen = (1.0 + scale_1) * standardized(x) + shift_1
        q, k, v = jnp.split(each(self.inwards, seen).reshape(len(x), 3 * self.heads, -1), 3, 1)
        x = x + gate_1 * dropout(each(self.outwards, attend(q, k, v).reshape(x.shape)))
        seen = (1.0 + scale_2) * standardized(x) + shift_2
        return x + gate_2 * dropout(each(self.down, jax.nn.gelu(each(self.up, seen))))


class DiT(eqx.Module):
    """A diffusion transformer: attention over the patches of an image, told the context: [H, W, C] → [H, W, K].

        x ← x + g₁ ⊙ A softmax(q kᵀ / √c) v,   x ← x + g₂ ⊙ W₂ gelu(W₁ ((1 + s₂) ⊙ n(x) + b₂))
        q, k, v = Q ((1 + s₁) ⊙ n(x) + b₁),   (s, b, g) = M e,   e = φ(V φ(U c)),   n(x) = (x − mean(x)) / sd(x)

    The context c (a noise level, a condition, or both) sets the scale, shift and gate of every block ("adaLN-zero"): M
    and with it the gates are 0 at the start, where the blocks are the identity. So is the last layer: the output
    starts at zero. Of its place a patch has sines and cosines of its row and column. The blocks are stacked and run as
    one scan, so that compile time does not grow with depth.

    Args:
        shape: (H, W, C) of an event.
        out_channels: K, how many numbers a pixel gets: C for a real image, C·L for logits of L levels, of one colour
            after another.
        context_dim: the size of the context c.
        patch: how many rows and columns a patch has, a divisor of H and W.
        width: of the vector that a patch has, a multiple of 4.
        depth: how many blocks.
        heads: of attention, a divisor of the width.
        dropout: the rate in the blocks, in training.
        key: draws the first weights.

    Raises ValueError where an argument is out of its range, patches do not fill the image, or the image or the context
    has another shape.

    References: Scalable Diffusion Models with Transformers (Peebles, Xie 2023), arXiv:2212.09748; An Image is Worth
    16x16 Words (Dosovitskiy et al. 2021), arXiv:2010.11929.

    >>> import jax, jax.numpy as jnp
    >>> net = DiT((4, 6, 1), 2, context_dim=3, patch=2, width=8, depth=1, heads=2, key=jax.random.key(0))
    >>> net(jnp.ones((4, 6, 1)), jnp.ones(3)).shape
    (4, 6, 2)
    """

    embedding: ContextEmbedding
    into: Linear
    blocks: _Block
    modulation: Linear
    out: Linear
    dropout: Dropout
    shape: tuple[int, int, int] = eqx.field(static=True)
    patch: int = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_channels: int,
        *,
        context_dim: int,
        patch: int = 2,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
        key: Array,
    ):
        self.shape = as_image(shape)
        check_sizes(out_channels=out_channels, context_dim=context_dim, patch=patch)
        check_sizes(width=width, depth=depth, heads=heads)
        if self.shape[0] % patch or self.shape[1] % patch:
            raise ValueError(f"patch: expected a divisor of the rows and columns {self.shape[:2]}, got {patch}")
        if width % 4:
            raise ValueError(f"width: expected a multiple of 4, for the sines and cosines of places, got {width}")
        if width % heads:
            raise ValueError(f"heads: expected a divisor of the width {width}, got {heads}")
        keys = jax.random.split(key, 4)
        self.embedding = ContextEmbedding(context_dim, width, key=keys[0])
        self.into = Linear(patch**2 * self.shape[2], width, key=keys[1])
        self.blocks = jax.vmap(lambda k: _Block(width, heads, key=k))(jax.random.split(keys[2], depth))
        self.modulation = Linear(width, 2 * width, scale=0.0, key=keys[3])
        self.out = Linear(width, patch**2 * out_channels, scale=0.0, key=keys[3])
        self.dropout, self.patch = Dropout(dropout), int(patch)

    def __call__(self, x: Array, context: Array) -> Array:
        """Apply the network to one image and a context vector."""
        check_image(x, self.shape)
        embedded = self.embedding(context)
        h = each(self.into, self._patches(jnp.asarray(x, self.out.bias.dtype)))
        h = h + jnp.asarray(grid_positions(*self._grid, h.shape[-1]), h.dtype)
        h, _ = scan_layers(lambda h, block: (block(h, embedded, self.dropout), None), h, self.blocks)
        shift, scale = jnp.split(self.modulation(embedded), 2)
        return self._image(each(self.out, (1.0 + scale) * standardized(h) + shift))

    @property
    def _grid(self) -> tuple[int, int]:
        return self.shape[0] // self.patch, self.shape[1] // self.patch

    def _patches(self, x: Array) -> Array:
        """Return the patches of an image one below another, [T, patch · patch · C]."""
        rows, columns = self._grid
        parts = x.reshape(rows, self.patch, columns, self.patch, -1).swapaxes(1, 2)
        return parts.reshape(rows * columns, -1)

    def _image(self, h: Array) -> Array:
        """Return the image of patches, the inverse of `_patches`."""
        parts = h.reshape(*self._grid, self.patch, self.patch, -1).swapaxes(1, 2)
        return parts.reshape(*self.shape[:2], -1)
