"""A masked network evaluated group by group, in the work of about one pass."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.networks.mlp import Linear

CHUNK = 8  # groups whose earlier inputs are summed by one large product; only inputs within a chunk are summed singly


class Cache(NamedTuple):
    """The numbers that steps have seen: those that enter each layer, and the sums of those of earlier chunks.

    `entering[l]`: [steps · width_l]; `sums[l]`: [CHUNK, width_{l+1}], and last those of the direct weights, if any.
    """

    entering: tuple[Array, ...]
    sums: tuple[Array, ...]
    from_context: Array | None


class Rows(NamedTuple):
    """A layer with its units in the places of their steps: weight [steps, width, …], bias [steps, width]."""

    weight: Array
    bias: Array


class MaskedSteps(eqx.Module):
    """A `MADE` as `init(context) -> cache` and `step(cache, value, i) -> (cache, raw)`.

    Units are computed once, in the step at which all that they see is known. A step sums over the inputs of its own
    chunk of steps, and the first of a chunk over all earlier ones at once for the whole chunk, as blocked triangular
    solves do: the work is that of about one pass, and most of it in large products.

    The weights of layer l are [steps, width_{l+1}, steps · width_l]: a step's units are padded to one number.
    `direct`: those from the inputs to the outputs, [steps, width_L, steps · width_0].
    """

    layers: tuple[Rows, ...]
    context: Rows | None
    direct: Array | None
    activation: Callable[[Array], Array] = eqx.field(static=True)
    num_params: int = eqx.field(static=True)
    chunk: int = eqx.field(static=True)

    @classmethod
    def arrange(
        cls,
        layers: Sequence[tuple[Linear, np.ndarray]],
        levels: Sequence[np.ndarray],
        context: Linear | None,
        direct: tuple[Array, np.ndarray] | None,
        activation: Callable[[Array], Array],
        num_params: int,
    ) -> "MaskedSteps":
        """Arrange the layers of a `MADE` with their masks by the steps of the units of the input and of each layer."""
        groups = int(levels[-1].max()) + 1
        chunk = min(CHUNK, groups)
        slots = [_slots(level, -(-groups // chunk) * chunk) for level in levels]
        arranged = tuple(
            Rows(_arranged(layer.weight, mask, before, after), _placed(layer.bias, after))
            for (before, after), (layer, mask) in zip(itertools.pairwise(slots), layers, strict=True)
        )
        straight = None if direct is None else _arranged(*direct, slots[0], slots[-1])
        shift = None
        if context is not None:
            shift = Rows(_placed(context.weight, slots[1]), _placed(context.bias, slots[1]))
        return cls(arranged, shift, straight, activation, num_params, chunk)

    def init(self, context: Array | None = None) -> Cache:
        """Return the cache before the first step."""
        entering = tuple(jnp.zeros(layer.weight.shape[-1], layer.weight.dtype) for layer in self.layers)
        sums = tuple(jnp.zeros((self.chunk, weight.shape[1]), weight.dtype) for weight in self._weights)
        shift = None if self.context is None or context is None else self.context.weight @ context + self.context.bias
        return Cache(entering, sums, shift)

    def step(self, cache: Cache, value: Array, i: Array) -> tuple[Cache, Array]:
        """Return the next cache and raw numbers [width, num_params] of group i, told the values [width] of group i − 1
        (any for i = 0)."""
        within = i % self.chunk
        value = jnp.where(i > 0, value, 0.0).astype(cache.entering[0].dtype)
        entering = [_put(cache.entering[0], value, i - 1), *cache.entering[1:]]
        sums = lax.cond(within == 0, lambda: self._sum_earlier(tuple(entering), i), lambda: cache.sums)
        for n, layer in enumerate(self.layers):
            out = sums[n][within] + layer.bias[i] + self._sum_within(layer.weight, entering[n], i)
            if n == 0 and cache.from_context is not None:
                out = out + cache.from_context[i]
            if n < len(self.layers) - 1:
                entering[n + 1] = _put(entering[n + 1], self.activation(out), i)
        if self.direct is not None:
            out = out + sums[-1][within] + self._sum_within(self.direct, entering[0], i)
        return Cache(tuple(entering), sums, cache.from_context), out.reshape(-1, self.num_params)

    @property
    def _weights(self) -> list[Array]:
        return [layer.weight for layer in self.layers] + ([] if self.direct is None else [self.direct])

    def _sum_earlier(self, entering: tuple[Array, ...], i: Array) -> tuple[Array, ...]:
        entering = entering if self.direct is None else (*entering, entering[0])
        rows = [lax.dynamic_slice_in_dim(weight, i, self.chunk) for weight in self._weights]
        return tuple((x @ w.reshape(-1, len(x)).T).reshape(self.chunk, -1) for x, w in zip(entering, rows, strict=True))

    def _sum_within(self, weight: Array, x: Array, i: Array) -> Array:
        width = len(x) // len(weight) * self.chunk
        start = i // self.chunk * width
        row = lax.dynamic_slice(weight, (i, 0, start), (1, weight.shape[1], width))[0]
        return lax.dynamic_slice_in_dim(x, start, width) @ row.T


def _put(x: Array, value: Array, i: Array) -> Array:
    return lax.dynamic_update_slice_in_dim(x, value, i * len(value), 0)


def _slots(levels: np.ndarray, steps: int) -> np.ndarray:
    """Return the numbers of the units of each level, padded by -1, [steps, width]."""
    groups = [np.flatnonzero(levels == level) for level in range(steps)]
    slots = np.full((steps, max(map(len, groups))), -1)
    for level, group in enumerate(groups):
        slots[level, : len(group)] = group
    return slots


def _arranged(weight: Array, mask: np.ndarray, before: np.ndarray, after: np.ndarray) -> Array:
    return _placed(jnp.pad(jnp.where(mask, weight, 0.0), ((0, 0), (0, 1)))[:, before.ravel()], after)


def _placed(rows: Array, slots: np.ndarray) -> Array:
    """Return rows [units, …] in the places of their steps, [steps, width, …]; zero where a place is empty."""
    return jnp.pad(rows, ((0, 1), *[(0, 0)] * (rows.ndim - 1)))[slots]
