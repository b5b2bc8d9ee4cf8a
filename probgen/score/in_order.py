"""A masked diffusion in one order: its network as a causal one."""

import math
from collections.abc import Sequence
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import static_functions
from probgen.score.masked_diffusion import MaskedDiffusion

_PLACES = 64  # of how many the network is called at once


class InOrder(eqx.Module):
    """The causal network of a masked diffusion's: at each place of an order it sees what comes before, and the rest
    masked.

        raw_i = network(x_{o_j} where j < i, L elsewhere)_{o_i}

    It is a network for `autoregressive.Autoregressive` in that order, which has an exact density, completions, steps,
    and whatever else that family has. One pass calls the masked diffusion's network for each place.

    Args:
        model: a `MaskedDiffusion`; of a conditional one its `model`.
        order: the flat positions, the first to be known first.

    Raises ValueError where `order` is no permutation of the event's positions.

    References: Autoregressive Diffusion Models (Hoogeboom et al. 2022), arXiv:2110.02037.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.score.masked_diffusion((3,), levels=2, width=8, depth=1, key=jax.random.key(0))
    >>> order = (2, 0, 1)
    >>> exact = probgen.autoregressive.Autoregressive(InOrder(model, order), model.head, (3,), order=order)
    >>> exact.log_prob(jnp.array([0, 1, 1])).round(3)
    Array(-2.079, dtype=float32)
    """

    network: Any
    levels: int = eqx.field(static=True)
    event_shape: tuple[int, ...] = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, model: MaskedDiffusion, order: Sequence[int]):
        size = math.prod(model.event_shape)
        self.order = tuple(map(int, order))
        if sorted(self.order) != list(range(size)):
            raise ValueError(f"order: expected a permutation of 0..{size - 1}, got {self.order}")
        self.network, self.levels, self.event_shape = static_functions(model.network), model.levels, model.event_shape

    def __call__(self, values: Array) -> Array:
        """Return the raw numbers of the places, [D, num_params], from the values there, [*event_shape]."""
        places = np.argsort(self.order)
        x = values.reshape(-1)[places]
        at = lambda i: self._raw(jnp.where(jnp.asarray(places) < i, x, self.levels), i)
        return lax.map(at, jnp.arange(x.size), batch_size=_PLACES)

    def sequential(self) -> Self:
        """Return the network itself: a step is one call of it."""
        return self

    def init(self) -> Array:
        """Return an event of which all is masked, [D]."""
        return jnp.full(len(self.order), self.levels)

    def step(self, cache: Array, value: Array, i: Array) -> tuple[Array, Array]:
        """Return the event with the value before place i, and the raw numbers of that place."""
        before = jnp.asarray(self.order)[jnp.maximum(i - 1, 0)]
        x = jnp.where(i > 0, cache.at[before].set(value.reshape(()).astype(cache.dtype)), cache)
        return x, self._raw(x, i)

    def _raw(self, x: Array, i: Array) -> Array:
        raw = self.network(x.reshape(self.event_shape)).reshape(x.size, -1)
        return raw[jnp.asarray(self.order)[i]]
