"""Parts of an autoregressive model: the rest of an event whose beginning is known, and events of several lengths."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.core import map_batch, split_key
from probgen.distributions.base import Distribution

if TYPE_CHECKING:
    from probgen.autoregressive.autoregressive import Autoregressive


class Completion(Distribution):
    """p(x | the first `count` numbers in the order are those of x̂), over whole events: `Autoregressive.given` makes it.

        log p = Σ_{i > count} log p(x_{o_i} | x_{o_1}, …, x_{o_{i−1}}),   −∞ where x differs from x̂

    Args: `model`; `x` x̂ [*batch, *event_shape]; `count`.
    """

    pytree_data_fields = ("model", "x")
    pytree_aux_fields = ("count",)
    fused = True

    def __init__(self, model: "Autoregressive", x: Array, count: int):
        self.model, self.x, self.count = model, x, count
        super().__init__(x.shape[: x.ndim - model.event_dim], model.event_shape)

    @property
    def support(self) -> constraints.Constraint:
        """As the model's."""
        return self.model.support

    def _log_prob(self, value: Array) -> Array:
        def one(known: Array, x: Array) -> Array:
            order = self.model.in_order
            same = jnp.all(order(known)[: self.count] == order(x)[: self.count])
            return jnp.where(same, jnp.sum(self.model.log_probs_in_order(x)[self.count :]), -jnp.inf)

        return map_batch(one, self.x, self._batch_shape, (value,), (self.event_dim,))

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._sample_and_log_prob(key, sample_shape)[0]

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        keys = split_key(key, (*sample_shape, *self._batch_shape))
        one = lambda known, key: self.model.draw_event(key, known, self.count)
        return map_batch(one, self.x, self._batch_shape, (keys,), (0,))


class Ragged(Distribution):
    """Events of several lengths: the first `lengths` numbers in the model's order, padded to a whole event by zeros.

        log p(x | n) = Σ_{i ≤ n} log p(x_{o_i} | x_{o_1}, …, x_{o_{i−1}})

    An event with something else in its padding has a density of 0. A length that is random as well is another site of
    the program.

    Args: `model`: an `Autoregressive`; `lengths` [*batch]: integers 0..D. Raises ValueError where known lengths are
    others.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.autoregressive.made((3,), 2, key=jax.random.key(0))
    >>> words = Ragged(model, jnp.array([1, 3]))
    >>> words.log_prob(jnp.array([[1, 0, 0], [1, 0, 1]])).shape
    (2,)
    """

    pytree_data_fields = ("lengths", "model")

    def __init__(self, model: "Autoregressive", lengths: Array):
        self.model, self.lengths = model, jnp.asarray(lengths)
        size = len(model.order)
        if not jnp.issubdtype(self.lengths.dtype, jnp.integer):
            raise ValueError(f"lengths: expected integers, got {self.lengths.dtype}")
        if not isinstance(self.lengths, jax.core.Tracer) and not bool(
            jnp.all((self.lengths >= 0) & (self.lengths <= size))
        ):
            raise ValueError(f"lengths: expected 0..{size}, got {self.lengths}")
        super().__init__(self.lengths.shape, model.event_shape)

    @property
    def support(self) -> constraints.Constraint:
        """As the model's."""
        return self.model.support

    def _log_prob(self, value: Array) -> Array:
        def one(length: Array, x: Array) -> Array:
            kept = jnp.arange(x.size) < length
            log_prob = jnp.sum(jnp.where(kept, self.model.log_probs_in_order(x), 0.0))
            return jnp.where(jnp.all(kept | (self.model.in_order(x) == 0)), log_prob, -jnp.inf)

        return map_batch(one, self.lengths, self._batch_shape, (value,), (self.event_dim,))

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        keys = split_key(key, (*sample_shape, *self._batch_shape))

        def one(length: Array, key: Array) -> Array:
            kept = (self.model.order.places < length).reshape(self.event_shape)
            return jnp.where(kept, self.model.sample_event(key), 0)

        return map_batch(one, self.lengths, self._batch_shape, (keys,), (0,))
