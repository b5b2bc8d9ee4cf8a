"""Rows of which some cells are known, any of them."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from probgen.core import split_key
from probgen.distributions.delegate import Delegate


class Completed(Delegate):
    """p(x | those cells of x̂ where a mask is True), over whole rows: `AnyOrderTable.given` makes it.

        log p = log 1/M Σ_m Π_i p(x_{σ_{m,i}} | known, x_{σ_{m,1}}, …),   −∞ where x differs from what is known

    σ_m runs through the unknown columns. Its draws are imputations.

    Args:
        model: an `AnyOrderTable`.
        x: x̂, [*batch, D].
        known: booleans of that shape.
    """

    pytree_data_fields = ("x", "known")
    fused = False

    def __init__(self, model: Any, x: Array, known: Array):
        self.model, self.x, self.known = model, x, known
        super().__init__(jnp.broadcast_shapes(x.shape[:-1], model.batch_shape), model.event_shape)

    def _log_prob(self, value: Array) -> Array:
        same = jnp.all(~self.known | (self.x == value), -1)
        everything = jnp.ones(value.shape, bool)
        return jnp.where(same, self.model.log_prob_after(value, self.known, everything), -jnp.inf)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        keys = split_key(key, (*sample_shape, *self._batch_shape))
        return self.model.draw_after(keys, self.x, self.known)
