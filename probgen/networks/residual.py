"""What denoisers are made of: features of the noise level, and residual networks that take them as their context."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_sizes
from probgen.networks.dropout import Dropout
from probgen.networks.images import Convolution, ResidualBlocks, as_image, check_image
from probgen.networks.layers import normed
from probgen.networks.mlp import Linear, each


class NoiseEmbedding(eqx.Module):
    """A number s (a time, a log-SNR) as sines and cosines of it, and itself scaled to order one.

        (s / r, sin(ω_i s), cos(ω_i s))_i,   ω_i geometric from π / (2 r) to ω_max

    There is nothing to learn.

    Args:
        dim: the length of the output, odd.
        reach: r, the largest |s| of interest.
        fastest: ω_max.

    Raises ValueError where `dim` is even or below 5.

    References: Attention Is All You Need (Vaswani et al. 2017), arXiv:1706.03762; Denoising Diffusion Probabilistic
    Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239.

    >>> NoiseEmbedding(33)(0.0).shape
    (33,)
    """

    dim: int = eqx.field(static=True, default=33)
    reach: float = eqx.field(static=True, default=10.0)
    fastest: float = eqx.field(static=True, default=4.0)

    def __check_init__(self) -> None:
        if self.dim < 5 or self.dim % 2 == 0:
            raise ValueError(f"dim: expected an odd number of at least 5, got {self.dim}")

    def __call__(self, s: Array) -> Array:
        """Return the features of one number."""
        s = jnp.asarray(s, float)
        frequencies = jnp.geomspace(math.pi / (2 * self.reach), self.fastest, self.dim // 2)
        angles = frequencies * s
        return jnp.concatenate([s[None] / self.reach, jnp.sin(angles), jnp.cos(angles)])


class _Block(eqx.Module):
    """h + W₂ φ(W₁ h/rms(h) + C c), W₂ = 0 at the start."""

    into: Linear
    context: Linear
    out: Linear

    def __init__(self, width: int, hidden: int, context_dim: int, *, key: Array):
        k1, k2, k3 = jax.random.split(key, 3)
        self.into = Linear(width, hidden, key=k1)
        self.context = Linear(context_dim, hidden, key=k2)
        self.out = Linear(hidden, width, scale=0.0, key=k3)

    def __call__(self, h: Array, context: Array, activation: Callable, dropout: Dropout) -> Array:
        return h + self.out(dropout(activation(self.into(normed(h)) + self.context(context))))


class ResidualMLP(eqx.Module):
    """A residual network of vectors whose every block sees the context (a noise level, a condition, or both).

        h₀ = W x,   h_{l+1} = h_l + W₂ φ(W₁ h_l/rms(h_l) + C c),   y = V h_L/rms(h_L)

    The output starts at zero.

    Args:
        in_dim: the size of x.
        out_dim: the size of y.
        context_dim: the size of the context.
        width: of h.
        hidden: width within a block; `width` by default.
        depth: L, how many blocks.
        activation: φ.
        dropout: the rate in the blocks, in training.
        key: draws the first weights.

    References: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun 2016), arXiv:1512.03385.

    >>> import jax, jax.numpy as jnp
    >>> net = ResidualMLP(3, 2, context_dim=4, width=8, depth=1, key=jax.random.key(0))
    >>> net(jnp.ones(3), jnp.ones(4))
    Array([0., 0.], dtype=float32)
    """

    into: Linear
    blocks: tuple[_Block, ...]
    out: Linear
    dropout: Dropout
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        context_dim: int,
        width: int = 256,
        hidden: int | None = None,
        depth: int = 2,
        activation: Callable[[Array], Array] = jax.nn.silu,
        dropout: float = 0.0,
        key: Array,
    ):
        check_sizes(in_dim=in_dim, out_dim=out_dim, context_dim=context_dim, width=width, hidden=hidden or width)
        check_sizes(0, depth=depth)
        in_key, out_key, *keys = jax.random.split(key, depth + 2)
        self.into = Linear(in_dim, width, key=in_key)
        self.blocks = tuple(_Block(width, hidden or width, context_dim, key=k) for k in keys)
        self.out = Linear(width, out_dim, scale=0.0, key=out_key)
        self.dropout = Dropout(dropout)
        self.activation = activation

    def __call__(self, x: Array, context: Array) -> Array:
        """Apply the network to a vector and a context vector."""
        h = self.into(x)
        for block in self.blocks:
            h = block(h, context, self.activation, self.dropout)
        return self.out(normed(h))


class ResidualCNN(eqx.Module):
    """A residual network of images at their own resolution, whose every block sees the context: [H, W, C] → [H, W, K].

        h₀ = K₀ * x + b,   h_{l+1} = h_l + K₂ * φ(K₁ * φ(h_l/rms(h_l)) + C c),   y = V φ(h_L/rms(h_L))

    b has numbers of its own for each place, so that the network knows where it is. It suits small images, of which it
    sees as much as 4 L + 3 pixels are across; larger ones take a `UNet`. The output starts at zero.

    Args:
        shape: (H, W, C).
        out_channels: K, how many numbers a pixel gets.
        context_dim: the size of the context c.
        channels: of h.
        depth: L, how many blocks.
        activation: φ.
        dropout: the rate in the blocks, in training.
        key: draws the first weights.

    Raises ValueError where an argument is out of its range, or the image or the context has another shape.

    References: Identity Mappings in Deep Residual Networks (He, Zhang, Ren, Sun 2016), arXiv:1603.05027.

    >>> import jax, jax.numpy as jnp
    >>> net = ResidualCNN((5, 4, 1), 2, context_dim=3, channels=8, depth=1, key=jax.random.key(0))
    >>> net(jnp.ones((5, 4, 1)), jnp.ones(3)).shape
    (5, 4, 2)
    """

    into: Convolution
    places: Array
    blocks: ResidualBlocks
    out: Linear
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_channels: int,
        *,
        context_dim: int,
        channels: int = 32,
        depth: int = 3,
        activation: Callable[[Array], Array] = jax.nn.silu,
        dropout: float = 0.0,
        key: Array,
    ):
        self.shape = as_image(shape)
        check_sizes(out_channels=out_channels, context_dim=context_dim)
        into_key, place_key, blocks_key, out_key = jax.random.split(key, 4)
        self.into = Convolution(self.shape[2], channels, key=into_key)
        self.places = 0.1 * jax.random.normal(place_key, (*self.shape[:2], channels))
        self.blocks = ResidualBlocks(
            channels, depth, context_dim=context_dim, activation=activation, dropout=dropout, key=blocks_key
        )
        self.out = Linear(channels, out_channels, scale=0.0, key=out_key)

    def __call__(self, x: Array, context: Array) -> Array:
        """Apply the network to one image and a context vector."""
        check_image(x, self.shape)
        h = self.blocks(self.into(x) + self.places, context)
        return each(self.out, self.blocks.activation(normed(h)))
