"""Of a masked diffusion: events of which some numbers are known, any of them."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from probgen.core import split_key
from probgen.distributions.delegate import Delegate


class Completion(Delegate):
    """p(x | those numbers of x̂ where a mask is True), over whole events: `MaskedDiffusion.given` makes it.

        log p ≥ E_σ Σ_i log p(x_{σ_i} | known, x_{σ_1}, …, x_{σ_{i−1}}),   −∞ where x differs from what is known

    σ runs through the unknown positions. It is the model's own in every order that begins with the known positions.

    Args:
        model: a `MaskedDiffusion`, called if conditional.
        x: x̂, [*batch, *event_shape].
        known: booleans of that shape, where they are known.
    """

    pytree_data_fields = ("x", "known")

    def __init__(self, model: Any, x: Array, known: Array):
        self.model, self.x, self.known = model, x, known
        lead = x.shape[: x.ndim - model.event_dim]
        super().__init__(jnp.broadcast_shapes(lead, model.batch_shape), model.event_shape)

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        value = self.model._as_events(value)
        return self.model.bound_after(key, self.x, self.known, value, num_particles=num_particles)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        keys = split_key(key, (*sample_shape, *self._batch_shape))
        return self.model.draw_after(keys, self.x, self.known)
