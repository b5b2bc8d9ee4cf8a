"""Of an autoregressive model: an event whose beginning is known, events of several lengths."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import Steps, split_key
from probgen.distributions import verb
from probgen.distributions.coding import Message, over_lanes
from probgen.distributions.delegate import Delegate
from probgen.distributions.step_codes import pop_steps, push_steps


class Completion(Delegate):
    """p(x | the first `count` numbers in the order are those of x̂), over whole events: `Autoregressive.given` makes it.

        log p = Σ_{i > count} log p(x_{o_i} | x_{o_1}, …, x_{o_{i−1}}),   −∞ where x differs from x̂

    Args:
        model: an `Autoregressive`, called if conditional.
        x: x̂, [*batch, *event_shape].
        count: how many numbers are known.
    """

    pytree_data_fields = ("x",)
    pytree_aux_fields = ("count",)

    def __init__(self, model: Any, x: Array, count: int):
        self.model, self.x, self.count = model, x, count
        lead = x.shape[: x.ndim - model.event_dim]
        super().__init__(jnp.broadcast_shapes(lead, model.batch_shape), model.event_shape)

    def _log_prob(self, value: Array) -> Array:
        return self.model.log_prob_after(self.x, value, count=self.count)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._sample_and_log_prob(key, sample_shape)[0]

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        keys = split_key(key, (*sample_shape, *self._batch_shape))
        return self.model.draw_after(keys, self.x, count=self.count)


class Ragged(Delegate):
    """Events of several lengths: the first `lengths` numbers in the model's order, padded to a whole event by zeros.

        log p(x | n) = Σ_{i ≤ n} log p(x_{o_i} | x_{o_1}, …, x_{o_{i−1}})

    An event with something else in its padding has a density of 0. A length that is random as well is another site of
    the program. Without lengths it waits for them as a context: `ConditionalModel(Ragged(model), ())` is what `fit` and
    `evaluate` take with (x, lengths).

    Args:
        model: an `Autoregressive`, or a conditional one that was called.
        lengths: integers 0..D, [*batch]; without them the model is conditional on them.

    Raises ValueError where known lengths are others, or known values lie outside of the model's support.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.autoregressive.made((3,), 2, key=jax.random.key(0))
    >>> words = Ragged(model, jnp.array([1, 3]))
    >>> words.log_prob(jnp.array([[1, 0, 0], [1, 0, 1]])).shape
    (2,)
    """

    pytree_data_fields = ("lengths",)
    fused = False

    def __init__(self, model: Any, lengths: Array | None = None):
        if not hasattr(model, "order"):
            raise ValueError(
                f"model: expected an autoregressive model, called if conditional, got {type(model).__name__}"
            )
        self.model, self.lengths = model, None if lengths is None else _checked(lengths, len(model.order))
        lead = () if self.lengths is None else self.lengths.shape
        super().__init__(jnp.broadcast_shapes(lead, model.batch_shape), model.event_shape)

    def bind_context(self, context: Array) -> "Ragged":
        """Return the same model, of the lengths that are the context."""
        return Ragged(self.model, context)

    def _log_prob(self, value: Array) -> Array:
        return self.model.log_prob_up_to(self._known(), self.model._as_events(value))

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self.model.draw_up_to(split_key(key, (*sample_shape, *self._batch_shape)), self._known())

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write as many numbers of events [lanes, *event_shape] as there are; the lengths are known to the reader."""
        model, lengths = _by_lane(self, message.lanes)
        size = math.prod(self.event_shape)
        if np.any((lengths < 0) | (lengths > size)):
            raise ValueError(f"lengths: expected 0..{size}, got {lengths}")
        values = np.asarray(jax.vmap(self.in_order)(jnp.asarray(x)))
        if np.any((values != 0) & (np.arange(size) >= lengths[:, None]) & message.active[:, None]):
            raise ValueError("x: expected zeros beyond the lengths of the rows, got others")
        push_steps(model, message, x, lengths)

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read events [lanes, *event_shape] of these lengths."""
        model, lengths = _by_lane(self, message.lanes)
        return pop_steps(model, message, lengths)

    def steps(self) -> Steps:
        """Return the model's conditionals, one place after another."""
        return self.model.steps()

    def in_order(self, x: Array) -> Array:
        """Return the numbers of one event as the model goes through them, [D]."""
        return self.model.in_order(x)

    def _known(self) -> Array:
        if self.lengths is None:
            raise ValueError("this model is conditional: call ConditionalModel(Ragged(model), ()) with lengths first")
        return self.lengths


def _by_lane(d: Any, lanes: int) -> tuple[Any, np.ndarray]:
    """Return what has the steps, and the length of each lane's event."""
    if isinstance(d, Ragged):
        return d.model, np.broadcast_to(np.asarray(d._known()), (lanes,))
    return d, np.asarray(over_lanes(d, lambda one, _: one._known(), jnp.arange(lanes)))


def _checked(lengths: Array, size: int) -> Array:
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths: expected integers, got {lengths.dtype}")
    if not isinstance(lengths, jax.core.Tracer):
        known = np.asarray(lengths)
        if np.any((known < 0) | (known > size)):
            raise ValueError(f"lengths: expected 0..{size}, got {known}")
    return lengths
