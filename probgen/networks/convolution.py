"""Convolutions over images, and causal ones: a place sees what comes before it in raster order, by padding and not by
masks."""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from probgen.networks.layers import keep
from probgen.networks.mlp import Linear, each

Offsets = tuple[tuple[int, int], ...]
Padding = tuple[tuple[int, int], tuple[int, int]]


def box(rows: Sequence[int], columns: Sequence[int]) -> Offsets:
    """Return all offsets of these rows above and columns to the left.

    >>> box((0, 1), (-1, 0))
    ((0, -1), (0, 0), (1, -1), (1, 0))
    """
    return tuple((int(r), int(c)) for r in rows for c in columns)


def before(reach: int, *, itself: bool) -> Offsets:
    """Return the offsets within reach that come before a pixel in raster order, as a masked kernel has them: type A, or
    with `itself`, type B.

    >>> before(1, itself=False)
    ((0, 1), (1, -1), (1, 0), (1, 1))
    """
    return box((0,), range(0 if itself else 1, reach + 1)) + box(range(1, reach + 1), range(-reach, reach + 1))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def convolve(x: Array, kernel: Array, padding: Padding, stride: int = 1) -> Array:
    """Return y_{i,j} = Σ_{r,c} x̃_{s i + r, s j + c} K_{r,c}, x̃ with zeros around it: [H, W, C] and [h, w, C, F] →
    [H', W', F].

    On a CPU a convolution inside of a loop takes up to a hundred times as long as outside, unless its layout is NHWC,
    HWIO, NHWC (jax#12868). Its derivative is written in the layouts whose transposes have that one, over a batch of
    images too: a gradient is fast, and what of it is slow is a tangent inside of a loop.

    Args:
        x: one image.
        kernel: K.
        padding: of x̃, rows (above, below) and columns (left, right).
        stride: s.

    >>> import jax.numpy as jnp
    >>> image, kernel = jnp.arange(1.0, 5.0).reshape(2, 2, 1), jnp.array([1.0, 10.0]).reshape(1, 2, 1, 1)
    >>> convolve(image, kernel, ((0, 0), (1, 0)))[..., 0]
    Array([[10., 21.],
           [30., 43.]], dtype=float32)
    """
    return _convolve(x[None], kernel, padding, stride, ("NHWC", "HWIO", "NHWC"))[0]


@functools.partial(convolve.defjvp, symbolic_zeros=True)
def _(padding: Padding, stride: int, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> Any:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = keep(convolve(x, kernel, padding, stride))
    dy = jnp.zeros_like(y)
    if not isinstance(dx, SymbolicZero):
        dy += _convolve(dx[None], kernel.swapaxes(2, 3), padding, stride, ("NHWC", "HWOI", "NHWC"))[0]
    if not isinstance(dkernel, SymbolicZero):  # its transpose sums over the images as an image's channels are summed
        images, taps = x.transpose(2, 0, 1)[..., None], dkernel.transpose(2, 0, 1, 3)
        dy += _convolve(images, taps, padding, stride, ("CHWN", "IHWO", "HWNC"))[..., 0, :]
    return y, dy


def _convolve(x: Array, kernel: Array, padding: Padding, stride: int, layout: tuple[str, str, str]) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=layout)


class CausalConvolution(eqx.Module):
    """A convolution over the given offsets: y_{i,j} = Σ_{r,c} W_{r,c} x_{i−r, j−c} + b, [H, W, C] →
    [H, W, out_channels].

    Args:
        in_channels: C.
        out_channels: of the output.
        offsets: (rows above, columns to the left) of what it sees, such as `box((0, 1), (-1, 0, 1))`; (0, 0) is the
            place itself.
        key: draws the first weights.

    >>> import jax, jax.numpy as jnp
    >>> CausalConvolution(3, 4, box((0, 1), (-1, 0, 1)), key=jax.random.key(0))(jnp.ones((8, 8, 3))).shape
    (8, 8, 4)
    """

    linear: Linear
    offsets: Offsets = eqx.field(static=True)

    def __init__(self, in_channels: int, out_channels: int, offsets: Offsets, *, key: Array):
        pairs = isinstance(offsets, tuple) and all(isinstance(o, tuple) and len(o) == 2 for o in offsets)
        whole = pairs and all(isinstance(i, int) for o in offsets for i in o)
        if not whole or not offsets or len(set(offsets)) < len(offsets) or min(offsets)[0] < 0:
            expected = "different pairs (rows above, from 0; columns to the left)"
            raise ValueError(f"offsets: expected {expected}, got {offsets!r}")
        self.offsets = offsets
        self.linear = Linear(len(offsets) * in_channels, out_channels, key=key)

    def __call__(self, x: Array) -> Array:
        """Apply the convolution to one image."""
        above, left, right = self.margins
        rows, columns = np.transpose(self.offsets)
        taps = self.linear.weight.T.reshape(len(rows), x.shape[-1], -1)
        box_of_them = jnp.zeros((above + 1, left + 1 + right, *taps.shape[1:]), taps.dtype)
        kernel = box_of_them.at[above - rows, left - columns].set(taps)
        return convolve(jnp.asarray(x, taps.dtype), kernel, ((above, 0), (left, right))) + self.linear.bias

    @property
    def margins(self) -> tuple[int, int, int]:
        """The rows above, the columns to the left and the columns to the right that it sees, how many of each."""
        rows, columns = zip(*self.offsets, strict=True)
        return max(rows), max(*columns, 0), max(-min(columns), 0)

    def at(self, padded: Array, row: Array | int, column: Array) -> Array:
        """Return its output [out_channels] at one place of an image that has the `margins` around it."""
        above, left, right = self.margins
        window = lax.dynamic_slice(padded, (row, column, 0), (above + 1, left + right + 1, padded.shape[-1]))
        return self.linear(jnp.concatenate([window[above - r, left - c] for r, c in self.offsets]))

    def last_row(self, rows: Array) -> Array:
        """Return its output [W, out_channels] in the last of these rows, which are the `margins` above it and
        itself."""
        above, left, right = self.margins
        padded, width = jnp.pad(rows, ((0, 0), (left, right), (0, 0))), rows.shape[1]
        return each(self.linear, jnp.concatenate([padded[above - r, left - c :][:width] for r, c in self.offsets], -1))


class Channels(eqx.Module):
    """Raw numbers of the channels of a pixel, one after another, from features of it, which see the pixels before it.

        y_c = W_c silu(V silu(f) + Σ_{c'<c} U_{c,c'} x_{c'}) + b_c

    Args:
        features: how many.
        channels: C.
        num_params: of each channel.
        width: of the hidden layer.
        key: draws the first weights.
    """

    hidden: Linear
    from_channels: Array | None
    out: Linear

    def __init__(self, features: int, channels: int, num_params: int, *, width: int, key: Array):
        keys = jax.random.split(key, 3)
        self.hidden = Linear(features, width, key=keys[0])
        pairs = channels * (channels - 1) // 2
        self.from_channels = jax.random.normal(keys[1], (pairs, width)) if pairs else None
        self.out = jax.vmap(lambda k: Linear(width, num_params, scale=0.1, key=k))(jax.random.split(keys[2], channels))

    def __call__(self, features: Array, pixel: Array) -> Array:
        """Return raw numbers [..., C, num_params] of [..., F] and [..., C]."""
        hidden = each(self.hidden, jax.nn.silu(features))
        outputs = [jax.nn.silu(hidden)]
        if self.from_channels is not None:
            rows = jnp.split(self.from_channels, np.cumsum(range(1, pixel.shape[-1] - 1)))  # of channel 1, 2, …
            outputs += [jax.nn.silu(hidden + pixel[..., : len(u)] @ u) for u in rows]
        raw = [each(jax.tree.map(lambda leaf, n=n: leaf[n], self.out), h) for n, h in enumerate(outputs)]
        return jnp.stack(raw, -2)
