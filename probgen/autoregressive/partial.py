"""Of an autoregressive model: with a context, an event whose beginning is known, events of several lengths."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import bind, map_batch, split_key
from probgen.distributions import Distribution, Given

if TYPE_CHECKING:
    from probgen.autoregressive.autoregressive import Autoregressive


class Conditioned(Given):
    """A conditional autoregressive model with its context [*batch, *context]: what a model without one can do, too."""

    model: "Autoregressive"

    def conditionals(self, x: Array) -> dist.Distribution:
        """As `Autoregressive.conditionals`, each context with its x [..., *event_shape]."""
        return self.model.head(self._map("raw", (self._as_events(x),), (self.event_dim,)))

    def given(self, x: Array, mask: Any) -> "Completion":
        """As `Autoregressive.given`, each context with its x [*batch, *event_shape]."""
        count, x = self.model.prefix(mask), self.model.fill(x, mask)
        batch = jnp.broadcast_shapes(x.shape[: x.ndim - self.event_dim], self._context_batch)
        context = jnp.broadcast_to(self.context, batch + self.context.shape[len(self._context_batch) :])
        return Completion(self.model, jnp.broadcast_to(x, batch + self.event_shape), count, context=context)


def _map_known(function: Callable[..., Any], of: Any, known: Array, value: Array, event_ndims: int) -> Any:
    """`function(model, known, value)` over the batch of what is known, with its context if there is one."""

    def one(parts: tuple[Array, Array | None], value: Array) -> Any:
        known, context = parts
        return function(of.model if context is None else bind(of.model, context), known, value)

    return map_batch(one, (known, of.context), of._batch_shape, (value,), (event_ndims,))


class Completion(Distribution):
    """p(x | the first `count` numbers in the order are those of x̂), over whole events: `Autoregressive.given` makes it.

        log p = Σ_{i > count} log p(x_{o_i} | x_{o_1}, …, x_{o_{i−1}}),   −∞ where x differs from x̂

    Args: `model`; `x` x̂ [*batch, *event_shape]; `count`; `context` [*batch, *context] of a conditional model.
    """

    pytree_data_fields = ("context", "model", "x")
    pytree_aux_fields = ("count",)
    fused = True

    def __init__(self, model: "Autoregressive", x: Array, count: int, *, context: Array | None = None):
        self.model, self.x, self.count, self.context = model, x, count, context
        super().__init__(x.shape[: x.ndim - model.event_dim], model.event_shape)

    def _map(self, function: Callable[..., Any], value: Array, event_ndims: int) -> Any:
        """`function(model, x̂, value)` for each x̂ with its context."""
        return _map_known(function, self, self.x, value, event_ndims)

    @property
    def support(self) -> constraints.Constraint:
        """As the model's."""
        return self.model.support

    def _log_prob(self, value: Array) -> Array:
        def one(model: "Autoregressive", known: Array, x: Array) -> Array:
            same = jnp.all(model.in_order(known)[: self.count] == model.in_order(x)[: self.count])
            return jnp.where(same, jnp.sum(model.log_probs_in_order(x)[self.count :]), -jnp.inf)

        return self._map(one, value, self.event_dim)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._sample_and_log_prob(key, sample_shape)[0]

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        keys = split_key(key, (*sample_shape, *self._batch_shape))
        return self._map(lambda model, known, key: model.draw_event(key, known, self.count), keys, 0)


class Ragged(Distribution):
    """Events of several lengths: the first `lengths` numbers in the model's order, padded to a whole event by zeros.

        log p(x | n) = Σ_{i ≤ n} log p(x_{o_i} | x_{o_1}, …, x_{o_{i−1}})

    An event with something else in its padding has a density of 0. A length that is random as well is another site of
    the program.

    Args: `model`: an `Autoregressive`, or a conditional one that was called; `lengths` [*batch]: integers 0..D. Raises
    ValueError where known lengths are others, or known values lie outside of the model's support.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.autoregressive.made((3,), 2, key=jax.random.key(0))
    >>> words = Ragged(model, jnp.array([1, 3]))
    >>> words.log_prob(jnp.array([[1, 0, 0], [1, 0, 1]])).shape
    (2,)
    """

    pytree_data_fields = ("context", "lengths", "model")

    def __init__(self, model: "Autoregressive | Conditioned", lengths: Array):
        lengths, self.context = jnp.asarray(lengths), None
        if isinstance(model, Conditioned):
            model, contexts, lead = model.model, model.context, model.batch_shape
            batch = jnp.broadcast_shapes(lengths.shape, lead)
            self.context = jnp.broadcast_to(contexts, batch + contexts.shape[len(lead) :])
            lengths = jnp.broadcast_to(lengths, batch)
        if not hasattr(model, "order"):
            raise ValueError(
                f"model: expected an autoregressive model, called if conditional, got {type(model).__name__}"
            )
        if not jnp.issubdtype(lengths.dtype, jnp.integer):
            raise ValueError(f"lengths: expected integers, got {lengths.dtype}")
        size = len(model.order)
        if not isinstance(lengths, jax.core.Tracer):
            known = np.asarray(lengths)
            if np.any((known < 0) | (known > size)):
                raise ValueError(f"lengths: expected 0..{size}, got {known}")
        self.model, self.lengths = model, lengths
        super().__init__(lengths.shape, model.event_shape)

    def _map(self, function: Callable[..., Any], value: Array, event_ndims: int) -> Any:
        """`function(model, length, value)` for each length with its context."""
        return _map_known(function, self, self.lengths, value, event_ndims)

    @property
    def support(self) -> constraints.Constraint:
        """As the model's."""
        return self.model.support

    def _log_prob(self, value: Array) -> Array:
        def one(model: "Autoregressive", length: Array, x: Array) -> Array:
            kept = jnp.arange(x.size) < length
            log_prob = jnp.sum(jnp.where(kept, model.log_probs_in_order(x), 0.0))
            return jnp.where(jnp.all(kept | (model.in_order(x) == 0)), log_prob, -jnp.inf)

        return self._map(one, self.model._as_events(value), self.event_dim)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        keys = split_key(key, (*sample_shape, *self._batch_shape))

        def one(model: "Autoregressive", length: Array, key: Array) -> Array:
            kept = (model.order.places < length).reshape(self.event_shape)
            return jnp.where(kept, model.sample_event(key), 0)

        return self._map(one, keys, 0)
