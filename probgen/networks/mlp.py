"""Dense networks of one event."""

import functools
import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import check_not_negative, check_positive, check_sizes
from probgen.networks.dropout import Dropout


class Linear(eqx.Module):
    """y = W x + b, with W ~ Normal(0, scale² / in_dim) and b = 0.

    Convolutions, attention, recurrent and residual networks start with it: from `spread` a gated PixelCNN learned more
    slowly (by 2.2 ± 0.4 nats after 300 steps), and the others no better (docs/autoregressive-on-data.md).

    Args:
        in_dim: length of the input.
        out_dim: length of the output.
        scale: of W.
        key: draws W.

    >>> import jax, jax.numpy as jnp
    >>> Linear(3, 2, key=jax.random.key(0))(jnp.ones(3)).shape
    (2,)
    """

    weight: Array
    bias: Array

    def __init__(self, in_dim: int, out_dim: int, *, scale: float = 1.0, key: Array):
        self.weight = _drawn(jax.random.normal, key, (out_dim, in_dim)) * (scale / math.sqrt(max(in_dim, 1)))
        self.bias = jnp.zeros(out_dim)

    def __call__(self, x: Array) -> Array:
        """Apply the layer to a vector."""
        return self.weight @ x + self.bias


def spread(in_dim: int, out_dim: int, *, key: Array) -> Linear:
    """Return a hidden layer at the start: W, b ~ Uniform(−1/√in_dim, 1/√in_dim), of standard deviation 1/√(3 in_dim).

    This is the rule of PyTorch's and Equinox's layers. Its variance is a third of that of Efficient BackProp (LeCun,
    Bottou, Orr, Müller 1998) and a sixth of that of He, Zhang, Ren, Sun 2015, arXiv:1502.01852, which keeps signals as
    large through many layers of rectifiers. Conditioners have two or three: at He's scale flows fit worse and overfit
    small tables sooner. The biases let units bend at different places where the inputs are few.

    >>> import jax, jax.numpy as jnp
    >>> layer = spread(4, 100, key=jax.random.key(0))
    >>> bool(jnp.abs(layer.weight).max() <= 0.5), bool(jnp.abs(layer.bias).max() <= 0.5)
    (True, True)
    """
    layer = Linear(in_dim, out_dim, scale=0.0, key=key)
    numbers = _drawn(jax.random.uniform, key, (out_dim, in_dim + 1)) * 2.0 - 1.0
    numbers = numbers / math.sqrt(max(in_dim, 1))
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (numbers[:, :-1], numbers[:, -1]))


def dense_layers(
    sizes: Sequence[int], *, gain: float | None = None, out_scale: float, key: Array
) -> tuple[Linear, ...]:
    """Return the layers between these widths at the start: hidden ones `spread` or of a gain, the last of
    `out_scale`."""
    *hidden, last = jax.random.split(key, len(sizes) - 1)
    make = spread if gain is None else functools.partial(Linear, scale=gain)
    layers = [make(i, o, key=k) for i, o, k in zip(sizes[:-2], sizes[1:-1], hidden, strict=True)]
    return (*layers, Linear(sizes[-2], sizes[-1], scale=out_scale, key=last))


def each(linear: Linear, x: Array) -> Array:
    """Apply a dense layer at every place, [..., in] → [..., out]."""
    return x @ linear.weight.T + linear.bias


def _drawn(draw: Callable[..., Array], key: Array, shape: tuple[int, int]) -> Array:
    """Draw random numbers. Each length that is drawn has to be compiled, for longer than a small model takes to train:
    the lengths are powers of two, which many layers share."""
    size = int(math.prod(shape))  # of a NumPy integer too, which has no bit_length
    return draw(key, (1 << (size - 1).bit_length(),))[:size].reshape(shape)


def check_context(context: Array, taken: Linear) -> None:
    """Raise ValueError where a context has another size than the layer takes that sees it."""
    if context.shape != (size := taken.weight.shape[-1:]):  # the last axis of a stack of layers, too
        raise ValueError(f"context: expected {size[0]} numbers, got shape {context.shape}")


def check_hidden(hidden: Sequence[int], activation: Callable[[Array], Array]) -> None:
    """Raise ValueError where `hidden` holds no widths or `activation` is no function."""
    widths = hidden if isinstance(hidden, Sequence) and not isinstance(hidden, str) else [0]
    if not all(isinstance(width, int | np.integer) and width >= 1 for width in widths):
        raise ValueError(f"hidden: expected a sequence of widths, such as (256, 256), got {hidden!r}")
    if not callable(activation):
        raise ValueError(f"activation: expected a function of arrays, such as jax.nn.relu, got {activation!r}")


class MLP(eqx.Module):
    """Linear layers with an activation between them; a context is appended to the input.

    The last layer starts small, so that a flow starts near the identity. A flow's conditioner fits better with small
    hidden weights, which `spread` says; a VAE with larger ones, those of He et al. 2015, `gain=2**0.5`.

    Args:
        in_dim: length of the input.
        out_dim: length of the output.
        hidden: widths of the hidden layers.
        activation: function between the layers.
        context_dim: length of a context vector, if it takes one.
        dropout: rate of dropout after each hidden layer.
        gain: g, for hidden W ~ Normal(0, g² / in) and b = 0 at the start; None for `spread`.
        out_scale: s, for the last layer's W ~ Normal(0, s² / in) and b = 0.
        key: draws the weights.

    Raises ValueError where one is out of its range.

    >>> import jax, jax.numpy as jnp
    >>> MLP(3, 2, hidden=(16,), context_dim=4, key=jax.random.key(0))(jnp.ones(3), jnp.ones(4)).shape
    (2,)
    """

    layers: tuple[Linear, ...]
    dropout: Dropout
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: Callable[[Array], Array] = jax.nn.silu,
        context_dim: int | None = None,
        dropout: float = 0.0,
        gain: float | None = None,
        out_scale: float = 0.01,
        key: Array,
    ):
        check_hidden(hidden, activation)
        check_positive(gain=1.0 if gain is None else gain)
        check_not_negative(out_scale=out_scale)
        check_sizes(0, in_dim=in_dim, context_dim=context_dim or 0)
        check_sizes(out_dim=out_dim)
        sizes = (in_dim + (context_dim or 0), *hidden, out_dim)
        self.layers = dense_layers(sizes, gain=gain, out_scale=out_scale, key=key)
        self.dropout = Dropout(dropout)
        self.activation = activation

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to a vector, and to a context where it was built with `context_dim`."""
        x = x if context is None else jnp.concatenate([x, context])
        for layer in self.layers[:-1]:
            x = self.dropout(self.activation(layer(x)))
        return self.layers[-1](x)
