"""Layers, encoder and decoder of a top-down hierarchy whose states are images, of several resolutions."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_sizes
from probgen.networks import Convolution, Linear, ResidualBlocks, Upsample
from probgen.networks.layers import normed

Size = tuple[int, int]


def _active(h: Array) -> Array:
    return jax.nn.silu(normed(h))


class _Pair(eqx.Module):
    """Two convolutions, the second of one pixel: φ(h/rms) → hidden → out."""

    into: Convolution
    out: Convolution

    def __init__(self, in_channels: int, hidden: int, out_channels: int, *, key: Array):
        k1, k2 = jax.random.split(key)
        self.into = Convolution(in_channels, hidden, key=k1)
        self.out = Convolution(hidden, out_channels, size=1, scale=0.01, key=k2)

    def __call__(self, *h: Array) -> Array:
        return self.out(jax.nn.silu(self.into(jnp.concatenate([_active(x) for x in h], -1))))


class ImageLayer(eqx.Module):
    """A layer of [H, W, latent_channels] numbers in a path of images h [H, W, F].

        r = P(h),   Δr = Q(h, e(x)),   h' = B(h + W z)

    P and Q are two convolutions each, B a residual block.

    Args:
        size: (H, W).
        channels: F, of h and of the features e(x).
        latent_channels: the numbers of z at each place.
        num_params: the raw numbers of each, as the path's head takes them.
        key: draws the first weights.
    """

    to_prior: _Pair
    to_residual: _Pair
    into: Convolution
    block: ResidualBlocks
    latent_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, size: Size, channels: int, latent_channels: int, num_params: int, *, key: Array):
        check_sizes(channels=channels, latent_channels=latent_channels, num_params=num_params)
        keys = jax.random.split(key, 4)
        out = latent_channels * num_params
        self.to_prior = _Pair(channels, channels, out, key=keys[0])
        self.to_residual = _Pair(2 * channels, channels, out, key=keys[1])
        self.into = Convolution(latent_channels, channels, size=1, key=keys[2])
        self.block = ResidualBlocks(channels, 1, key=keys[3])
        self.latent_shape = (*size, latent_channels)

    def prior(self, h: Array) -> Array:
        """Return the raw numbers of p(z | h), [H, W, latent_channels, num_params]."""
        return self.to_prior(h).reshape(*self.latent_shape, -1)

    def residual(self, h: Array, features: Array) -> Array:
        """Return what q's raw numbers have more."""
        return self.to_residual(h, features).reshape(*self.latent_shape, -1)

    def down(self, h: Array, z: Array) -> Array:
        """Return the state below."""
        return self.block(h + self.into(z))


class AsImage(eqx.Module):
    """A network whose output is reshaped.

    Args:
        network: any callable pytree.
        shape: of the output.
    """

    network: Any
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, *args: Array) -> Array:
        """Return the network's output in that shape."""
        return self.network(*args).reshape(self.shape)


class Enlarged(eqx.Module):
    """An image upsampled to a given size.

    Args:
        upsample: the module that does it.
        size: (H, W).
    """

    upsample: Upsample
    size: Size = eqx.field(static=True)

    def __call__(self, h: Array) -> Array:
        """Return the larger image."""
        return self.upsample(h, self.size)


class PyramidEncoder(eqx.Module):
    """A residual network of images which hands out its state after each block: features of each layer, from the top.

    A convolution of stride 2 leads to each resolution; the first image has half the size of x.

    Args:
        channels_in: of x.
        channels: F, of all states.
        layers: the blocks, and layers of latents, of each resolution from the finest.
        context_dim: the size of a context, which the first image sees, if it takes one.
        key: draws the first weights.

    Raises ValueError where it is called without the context that it takes, or with one that it does not.
    """

    into: Convolution
    context: Linear | None
    stages: tuple[ResidualBlocks, ...]
    smaller: tuple[Convolution, ...]

    def __init__(
        self, channels_in: int, *, channels: int, layers: Sequence[int], context_dim: int | None = None, key: Array
    ):
        in_key, context_key, *keys = jax.random.split(key, 2 + 2 * len(layers))
        self.into = Convolution(channels_in, channels, size=4, stride=2, key=in_key)
        self.context = Linear(context_dim, channels, key=context_key) if context_dim else None
        self.stages = tuple(ResidualBlocks(channels, n, key=k) for n, k in zip(layers, keys[::2], strict=True))
        self.smaller = tuple(Convolution(channels, channels, stride=2, key=k) for k in keys[1:-1:2])

    def __call__(self, x: Array, context: Array | None = None) -> tuple[Array, ...]:
        """Return the features of each stage from the top, [layers, H, W, F]."""
        h = self.into(x)
        if (context is None) != (self.context is None):
            raise ValueError(f"context: expected {'none' if self.context is None else 'one'}, got {context}")
        if self.context is not None and context is not None:
            h = h + self.context(context)
        found = []
        for stage, smaller in zip(self.stages, (*self.smaller, None), strict=True):
            h, features = stage.states(h)
            found.append(features[::-1])
            h = h if smaller is None else smaller(h)
        return tuple(found[::-1])


class PyramidDecoder(eqx.Module):
    """From the path's last image to the raw numbers of each pixel of x.

    Args:
        size: (H, W) of x.
        channels: F, of the path's states.
        num_numbers: the raw numbers of each pixel.
        key: draws the first weights.
    """

    larger: Upsample
    out: Convolution
    size: Size = eqx.field(static=True)

    def __init__(self, size: Size, channels: int, num_numbers: int, *, key: Array):
        k1, k2 = jax.random.split(key)
        self.larger = Upsample(channels, channels // 2 or 1, key=k1)
        self.out = Convolution(channels // 2 or 1, num_numbers, scale=0.1, key=k2)
        self.size = size

    def __call__(self, h: Array) -> Array:
        """Return [H, W, num_numbers]."""
        return self.out(_active(self.larger(_active(h), self.size)))
