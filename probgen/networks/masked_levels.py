"""Networks on integer events of which some numbers are masked."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from probgen.core import as_integer, check_sizes, static_functions
from probgen.networks.integers import place


class MaskedLevels(eqx.Module):
    """A network of reals that takes integers 0..L, of which L stands for a masked number.

        x_d ↦ (v_d, 1) where it is known, v_d evenly in [−1, 1];   (0, 0) where it is masked

    Args:
        network: reals of `shape` with twice as many in the last axis (and a context, if any) → anything.
        levels: L, how many integers, at least 2.
        shape: of the event as the network takes it, (D,) or (H, W, C); an event of another shape is reshaped.
        embedding: the share of known numbers → features that are put before the context, for a network that has
            none or wants to be told; none by default.

    >>> MaskedLevels(lambda x: x, levels=3, shape=(3,))(jnp.array([0, 3, 2])).tolist()
    [-1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    """

    network: Any = eqx.field(converter=static_functions)
    levels: int = eqx.field(static=True, converter=as_integer)
    shape: tuple[int, ...] = eqx.field(static=True)
    embedding: Callable[[Array], Array] | None = eqx.field(converter=static_functions, default=None)

    def __check_init__(self) -> None:
        check_sizes(2, levels=self.levels)

    def __call__(self, x: Array, *context: Array) -> Array:
        """Apply the network to one event."""
        x = x.reshape(self.shape)
        known = x < self.levels
        values = jnp.where(known, place(x, self.levels), 0.0)
        if self.embedding is not None:
            context = (jnp.concatenate([self.embedding(jnp.mean(known, dtype=values.dtype)), *context]),)
        return self.network(jnp.concatenate([values, known.astype(values.dtype)], -1), *context)
