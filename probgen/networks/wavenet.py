"""Dilated causal convolutions over sequences."""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_sizes
from probgen.networks.dropout import Dropout, refuse_dropout
from probgen.networks.mlp import Linear, each
from probgen.networks.sequences import Embed, Previous


class _Layer(eqx.Module):
    """y = gate(W₀ h_{i−d} + W₁ h_i): residual and skip outputs; nobody reads the last layer's residual."""

    now: Linear
    before: Linear
    residual: Linear | None
    skip: Linear

    def __init__(self, channels: int, *, last: bool, key: Array):
        keys = jax.random.split(key, 4)
        self.now, self.before = (Linear(channels, 2 * channels, scale=0.7, key=k) for k in keys[:2])
        self.skip = Linear(channels, channels, scale=0.5, key=keys[2])
        self.residual = None if last else Linear(channels, channels, scale=0.5, key=keys[3])

    def __call__(self, h: Array, before: Array, dropout: Dropout) -> tuple[Array, Array]:
        value, gate = jnp.split(each(self.now, h) + each(self.before, before), 2, -1)
        y = dropout(jnp.tanh(value) * jax.nn.sigmoid(gate))
        return h if self.residual is None else h + each(self.residual, y), each(self.skip, y)


class WaveNet(eqx.Module):
    """Causal convolutions of two taps, dilated by 1, 2, 4, …: each layer doubles how far the network sees.

        h_{l+1,i} = h_{l,i} + R_l y,   y = tanh(a) ⊙ σ(b),   (a, b) = W_l h_{l,i} + V_l h_{l,i−d_l}

    The sequence is padded on the left by d_l zeros, so that no kernel has to be masked. The receptive field is
    1 + Σ_l d_l values, `receptive_field`. A step keeps for each layer a queue of the last d_l numbers.

    Args:
        embed: one value → [channels], or an integer: so many symbols.
        num_params: how many raw numbers a place has.
        channels: the width of the layers.
        layers: how many.
        cycle: dilations start again at 1 after so many layers.
        dropout: the rate in the layers, in training.
        context_dim: the size of a context, if it takes one.
        key: draws the first weights.

    References: WaveNet (van den Oord et al. 2016), arXiv:1609.03499; the queues: Fast WaveNet Generation Algorithm (Le
    Paine et al. 2016), arXiv:1611.09482.

    >>> import jax, jax.numpy as jnp
    >>> net = WaveNet(5, 5, channels=8, layers=3, key=jax.random.key(0))
    >>> net(jnp.array([0, 4, 2])).shape, net.receptive_field
    ((3, 5), 8)
    """

    previous: Previous
    layers: tuple[_Layer, ...]
    hidden: Linear
    out: Linear
    dropout: Dropout
    dilations: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        embed: Embed | int,
        num_params: int,
        *,
        channels: int = 64,
        layers: int = 8,
        cycle: int = 10,
        dropout: float = 0.0,
        context_dim: int | None = None,
        key: Array,
    ):
        check_sizes(channels=channels, layers=layers, cycle=cycle)
        check_sizes(0, context_dim=context_dim or 0)
        keys = jax.random.split(key, layers + 3)
        self.previous = Previous(embed, channels, context_dim, key=keys[0])
        self.layers = tuple(_Layer(channels, last=n == layers - 1, key=k) for n, k in enumerate(keys[3:]))
        self.hidden = Linear(channels, channels, key=keys[1])
        self.out = Linear(channels, num_params, scale=0.1, key=keys[2])
        self.dropout, self.dilations = Dropout(dropout), tuple(2 ** (n % cycle) for n in range(layers))

    @property
    def receptive_field(self) -> int:
        """The number of values before a place that it sees."""
        return 1 + sum(self.dilations)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to one sequence [T, …], and to a context where it was built with `context_dim`."""
        h, skips = self.previous(x, context), jnp.zeros(())
        for layer, dilation in zip(self.layers, self.dilations, strict=True):
            h, skip = layer(h, jnp.pad(h, ((dilation, 0), (0, 0)))[: len(h)], self.dropout)
            skips = skips + skip
        return self._read(skips)

    def _read(self, skips: Array) -> Array:
        return each(self.out, jax.nn.silu(each(self.hidden, jax.nn.silu(skips))))

    def sequential(self) -> Self:
        """Return the network itself: a step computes one number of each channel."""
        refuse_dropout(self.dropout)
        return self

    def init(self, context: Array | None = None) -> Any:
        """Return the cache before the first step: a queue for each layer, and what the context adds."""
        start = self.previous.start
        queues = tuple(jnp.zeros((dilation, len(start)), start.dtype) for dilation in self.dilations)
        return queues, self.previous.bind(context)

    def step(self, cache: Any, value: Array, i: Array) -> tuple[Any, Array]:
        """Return the next cache and raw numbers [num_params] of place i, told the value before."""
        (queues, bound), new, skips = cache, [], jnp.zeros(())
        h = self.previous.step(value, i, bound)
        for layer, queue in zip(self.layers, queues, strict=True):
            place = i % len(queue)
            before, queue = queue[place], queue.at[place].set(h)
            h, skip = layer(h, before, self.dropout)
            skips = skips + skip
            new.append(queue)
        return (tuple(new), bound), self._read(skips)
