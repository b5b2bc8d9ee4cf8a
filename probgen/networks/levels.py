"""Networks on integer events."""

from typing import Any

import equinox as eqx
from jax import Array

from probgen.networks.dropout import Dropout


class Pixels(eqx.Module):
    """A network of reals that takes integer events 0..levels−1: reshaped, and the levels spread over [−1, 1].

    With a key bound (`core.with_key`) numbers are dropped at the rate `dropout`.

    Args: `network`: reals of `shape` (and a context, if any) → anything; `levels`; `shape` that the network takes.

    >>> import jax.numpy as jnp
    >>> Pixels(lambda x: x, levels=3, shape=(4,))(jnp.array([[0, 1], [2, 2]])).tolist()
    [-1.0, 0.0, 1.0, 1.0]
    """

    network: Any
    levels: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dropout: Dropout

    def __init__(self, network: Any, levels: int, shape: tuple[int, ...], *, dropout: float = 0.0):
        if levels < 2:
            raise ValueError(f"levels: expected at least 2, got {levels}")
        self.network, self.levels, self.shape, self.dropout = network, int(levels), shape, Dropout(dropout)

    def __call__(self, x: Array, *context: Array) -> Array:
        """Apply the network to one event."""
        return self.network(self.dropout((2.0 / (self.levels - 1) * x - 1.0).reshape(self.shape)), *context)
