"""The autoregressive distribution: one causal network, one head, one order."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.autoregressive.orders import Order
from probgen.autoregressive.partial import Completion
from probgen.autoregressive.sampling import Draw, Drawn, step_by_step, steps_of
from probgen.core import Contextual, Prefix, Steps, as_shape, check_instances, vectorize
from probgen.distributions import ConditionalModel, Model, lifted, verb
from probgen.distributions.heads import Head
from probgen.distributions.integer_heads import BernoulliHead, CategoricalHead
from probgen.distributions.step_codes import Stepwise
from probgen.networks import with_output_bias


class Autoregressive(Stepwise, Model):
    """A product of conditionals, p(x) = Π_i p(x_{o_i} | x_{o_1}, …, x_{o_{i−1}}), in an order o.

    The network sees the event rearranged, its first number at the first place in raster order, so that any network that
    is causal in raster order serves any order. A density takes one pass of it; how a draw is made is `draw`.

    Args:
        network: any callable pytree, one event → raw numbers [*event_shape, head.num_params] (or of that size), those
            at a place depending only on the places before it. What is not causal has no right likelihood:
            `probgen.testing.check_causal` finds out. With a method `sequential()` (`probgen.core.sequential`) it is
            evaluated step by step.
        head: raw numbers [..., num_params] → distribution of scalars.
        event_shape: the shape of one x.
        order: the flat positions, the first to be drawn first; raster order by default (`Order`).
        draw: `step_by_step`, `pass_by_pass` or `fixed_point`: the same draws from the same key, at other costs.
            `model.replace(draw=…)` changes it.

    Raises ValueError where `order` is no permutation, the network's output has another size, or a value that is known
    (not traced) lies outside the support.

    References: MADE (Germain et al. 2015), arXiv:1502.03509; Pixel Recurrent Neural Networks (van den Oord,
    Kalchbrenner, Kavukcuoglu 2016), arXiv:1601.06759.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.distributions import BernoulliHead
    >>> from probgen.networks import MADE
    >>> model = Autoregressive(MADE(3, 1, key=jax.random.key(0)), BernoulliHead(), (3,))
    >>> model.log_prob(model.sample(jax.random.key(1), (5,))).shape
    (5,)
    """

    pytree_data_fields = ("network",)
    pytree_aux_fields = ("head", "order", "draw")
    fused = True

    def __init__(
        self,
        network: Callable[[Array], Array],
        head: Head,
        event_shape: Sequence[int],
        *,
        order: Sequence[int] | None = None,
        draw: Draw = step_by_step,
        validate_args: bool | None = None,
    ):
        check_instances(network=network, head=head)
        event_shape = as_shape(event_shape)
        size = math.prod(event_shape)
        self.network, self.head, self.draw = network, head, draw
        self.order = Order(range(size) if order is None else order)
        if len(self.order) != size:
            raise ValueError(f"order: expected a permutation of 0..{size - 1}, got one of {len(self.order)} positions")
        super().__init__(event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The head's support, at every position."""
        support = self.head(jnp.zeros((*self.event_shape, self.head.num_params))).support
        return constraints.independent(support, self.event_dim)

    @verb
    def conditionals(self, x: Array) -> dist.Distribution:
        """Return the distribution of every position given those before it in x [..., *event_shape]; its batch shape is
        x's.

        Their entropies are a map of what the model is unsure of, their `log_prob(x)` is what each number costs.

        >>> import jax, jax.numpy as jnp, probgen
        >>> model = probgen.autoregressive.made((3,), 2, key=jax.random.key(0))
        >>> model.conditionals(jnp.zeros((5, 3), int)).batch_shape
        (5, 3)
        """
        return self.head(self.raw(self._as_events(x)))

    def steps(self) -> Steps:
        """Return the conditionals one place of the order after another, `init()` and `step(cache, before, i)`: what
        drawing, and coding, go through."""
        return steps_of(self)

    @verb
    def given(self, x: Array, mask: Any) -> Completion:
        """Return the distribution of whole events of which those numbers of x are known where `mask` is True.

        It is exact, and so only where the known positions come first in the model's order.

        Args:
            x: events, [..., *event_shape]; what is unknown may be anything.
            mask: booleans, [*event_shape].

        Raises ValueError where some other position comes before a known one: such conditionals take an order-agnostic
        model, trained over many orders.

        >>> import jax, jax.numpy as jnp, probgen
        >>> model = probgen.autoregressive.made((3,), 2, key=jax.random.key(0))
        >>> rest = model.given(jnp.array([1, 0, 0]), jnp.array([True, False, False]))
        >>> rest.sample(jax.random.key(1), (4,))[:, 0]
        Array([1, 1, 1, 1], dtype=int32)
        """
        count = self.prefix(mask)
        return Completion(self, self.fill(x, mask), count)

    def fill(self, x: Array, mask: Any) -> Array:
        """Return x, its unknown numbers replaced by some in the support: they may be NaN or −1, and count for
        nothing."""
        x = jnp.asarray(x)
        return self._as_events(jnp.where(jnp.asarray(mask), x, jnp.asarray(self.support.feasible_like(x), x.dtype)))

    def prefix(self, mask: Any) -> int:
        """Return how many numbers a mask says are known; raise ValueError where they are not the first in the order."""
        known = np.asarray(mask)
        if known.dtype != bool or known.shape != self.event_shape:
            raise ValueError(f"mask: expected booleans of shape {self.event_shape}, got {known.dtype}{known.shape}")
        known = known.ravel()[list(self.order)]
        count = int(known.sum())
        if not known[:count].all():
            first, late = self.order[int(np.argmin(known))], self.order[int(np.flatnonzero(known)[-1])]
            raise ValueError(
                f"mask: position {first} is unknown but comes before the known position {late} in the model's order, "
                "so the conditional is no product of this model's; it takes an order-agnostic one, trained over orders"
            )
        return count

    def initialized(self, batch: Array, context: Array | None = None) -> Self:
        """Return the model with its last biases set from a batch, as `distributions.initialize` says, whatever the
        contexts."""
        if not isinstance(self.head, BernoulliHead | CategoricalHead):
            raise ValueError(f"head: expected a Bernoulli or categorical one, got a {type(self.head).__name__}")
        values, head = jax.vmap(self.in_order)(self._as_events(batch)), self.head
        raw = lambda places: head.raw_of(values.reshape(-1, places))
        return self.replace(network=with_output_bias(self.network, raw))

    # -- one event

    def log_prob_event(self, x: Array) -> Array:
        """Return the sum of the conditionals' log-probabilities."""
        return jnp.sum(self.log_probs_in_order(x))

    def sample_event(self, key: Array) -> Array:
        """Draw one event."""
        return self._draw_event(key)[0]

    @property
    def value_dtype(self) -> Any:
        """The dtype of drawn numbers."""
        one = lambda: self.head(jnp.zeros(self.head.num_params)).sample(jax.random.key(0))
        return jax.eval_shape(one).dtype

    def in_order(self, x: Array) -> Array:
        """Return the numbers of one event as they are drawn, [D]."""
        flat = x.reshape(-1)
        return flat if self.order.is_raster else flat[np.asarray(self.order)]

    def raw_in_order(self, values: Array) -> Array:
        """Return the raw numbers [D, head.num_params] of the places of the order, from the values there, [D]."""
        raw, shape = self.network(values.reshape(self.event_shape)), (*self.event_shape, self.head.num_params)
        if raw.size != math.prod(shape):
            raise ValueError(f"network: expected an output of shape {shape}, got {raw.shape}")
        return raw.reshape(values.size, -1)

    def _draw_event(self, key: Array, x: Array | None = None, count: int = 0) -> tuple[Array, Array]:
        values = jnp.zeros(len(self.order), self.value_dtype)
        known = Prefix(values if x is None else self.in_order(x).astype(values.dtype), count)
        drawn: Drawn = self.draw(self, key, known)
        return self._by_position(drawn.values).reshape(self.event_shape), jnp.sum(drawn.log_probs[count:])

    # -- one event, or many, at one context, or many

    @lifted("event")
    def raw(self, x: Array) -> Array:
        """Return the raw numbers of every position of events, [..., *event_shape, head.num_params]."""
        raw = self.raw_in_order(self.in_order(x))
        return self._by_position(raw).reshape(*self.event_shape, self.head.num_params)

    @lifted("event")
    def log_probs_in_order(self, x: Array) -> Array:
        """Return what each number of events costs, [..., D], as they are drawn."""
        values = self.in_order(x)
        return self.head(self.raw_in_order(values)).log_prob(values)

    @lifted("event", "event")
    def log_prob_after(self, known: Array, x: Array, *, count: int) -> Array:
        """Return log p(x | its first `count` numbers); −∞ where those are not the ones of `known`."""
        same = jnp.all(self.in_order(known)[:count] == self.in_order(x)[:count])
        return jnp.where(same, jnp.sum(self.log_probs_in_order(x)[count:]), -jnp.inf)

    @lifted("keys", "event")
    def draw_after(self, key: Array, known: Array, *, count: int) -> tuple[Array, Array]:
        """Draw events whose first `count` numbers are those of `known`, and return them and log p of what was drawn;
        there is a key for each."""
        return self._draw_event(key, known, count)

    @lifted(0, "event")
    def log_prob_up_to(self, length: Array, x: Array) -> Array:
        """Return log p of the first `length` numbers; −∞ where one of the others is not 0."""
        kept = jnp.arange(x.size) < length
        log_prob = jnp.sum(jnp.where(kept, self.log_probs_in_order(x), 0.0))
        return jnp.where(jnp.all(kept | (self.in_order(x) == 0)), log_prob, -jnp.inf)

    @lifted("keys", 0)
    def draw_up_to(self, key: Array, length: Array) -> Array:
        """Draw events of which all but the first `length` numbers are 0; there is a key for each."""
        kept = (self.order.places < length).reshape(self.event_shape)
        return jnp.where(kept, self.sample_event(key), 0)

    def _by_position(self, values: Array) -> Array:
        return values if self.order.is_raster else values[self.order.places]

    def _as_events(self, value: Array) -> Array:
        value = super()._as_events(value)
        is_integer = isinstance(self.support.base_constraint, type(constraints.integer_interval(0, 1)))
        if is_integer and jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"value: the model is over integers, got dtype {value.dtype}")
        inside = self.support(value) if value.size else jnp.array(True)
        if not isinstance(inside, jax.core.Tracer) and not inside.all():
            raise ValueError(f"value: expected numbers in {self.support.base_constraint}, got some outside")
        return value

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._sample_and_log_prob(key, sample_shape)[0]

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        keys = jax.random.split(key, sample_shape) if sample_shape else key
        return _draws(self, keys)


@eqx.filter_jit  # once for all draws of equal models: each loop of each draw would be compiled again otherwise
def _draws(model: Autoregressive, keys: Array) -> tuple[Array, Array]:
    return vectorize(model._draw_event, 0)(keys)


def model_of(
    network: Callable[..., Array],
    head: Head,
    event_shape: Sequence[int],
    *,
    order: Sequence[int] | None,
    context_dim: int | None,
) -> Autoregressive | ConditionalModel:
    """Return the model of a network, which takes a context beside the event where there is a `context_dim`."""
    if not context_dim:
        return Autoregressive(network, head, event_shape, order=order)
    return ConditionalModel(Autoregressive(Contextual(network), head, event_shape, order=order), (context_dim,))
