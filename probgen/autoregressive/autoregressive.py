"""The autoregressive distribution: one causal network, one head."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.core import vectorize
from probgen.distributions import Model
from probgen.distributions.heads import Head


class Autoregressive(Model):
    """A product of conditionals, p(x) = Π_i p(x_{o_i} | x_{o_1}, …, x_{o_{i−1}}), in an order o.

    A density takes one pass of the network, a draw one pass for each number.

    Args:
        network: any callable pytree, one event → raw numbers [*event_shape, head.num_params] (or of that size), those
        at a
            position depending only on the positions before it. What is not causal has no right likelihood:
            `probgen.testing.check_causal` finds out.
        head: raw numbers [..., num_params] → distribution of scalars.
        event_shape: of one x.
        order: the flat positions, the first to be drawn first; raster order by default. The network's must be the same.

    Raises ValueError where `order` is no permutation or the network's output has another size.

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
    pytree_aux_fields = ("head", "order")
    fused = True

    def __init__(
        self,
        network: Callable[[Array], Array],
        head: Head,
        event_shape: tuple[int, ...],
        *,
        order: Sequence[int] | None = None,
        validate_args: bool | None = None,
    ):
        size = math.prod(event_shape)
        self.network, self.head = network, head
        self.order = tuple(range(size)) if order is None else tuple(int(i) for i in order)
        if sorted(self.order) != list(range(size)):
            raise ValueError(f"order: expected a permutation of 0..{size - 1}, got {self.order}")
        super().__init__(tuple(event_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The head's, at every position."""
        support = self.head(jnp.zeros((*self.event_shape, self.head.num_params))).support
        return constraints.independent(support, self.event_dim)

    def conditionals(self, x: Array) -> dist.Distribution:
        """The distribution of every position given those before it in x [..., *event_shape]; its batch shape is x's.

        >>> import jax, jax.numpy as jnp, probgen
        >>> model = probgen.autoregressive.made((3,), 2, key=jax.random.key(0))
        >>> model.conditionals(jnp.zeros((5, 3), int)).batch_shape
        (5, 3)
        """
        return self.head(vectorize(self.raw, self.event_dim)(x))

    def log_prob_event(self, x: Array) -> Array:
        """The sum of the conditionals' log-probabilities."""
        return jnp.sum(self.conditionals(x).log_prob(x))

    def sample_event(self, key: Array) -> Array:
        """Position by position."""
        return self._draw_event(key)[0]

    def raw(self, x: Array) -> Array:
        """The network's output for one event, [*event_shape, head.num_params]."""
        raw, shape = self.network(x), (*self.event_shape, self.head.num_params)
        if raw.size != math.prod(shape):
            raise ValueError(f"network: expected an output of shape {shape}, got {raw.shape}")
        return raw.reshape(shape)

    def _draw_event(self, key: Array) -> tuple[Array, Array]:
        def step(i: Array, so_far: tuple[Array, Array]) -> tuple[Array, Array]:
            x, log_prob = so_far
            position = order[i]
            raw = self.raw(x.reshape(self.event_shape)).reshape(x.size, -1)
            here = self.head(raw[position])
            value = here.sample(jax.random.fold_in(key, i))
            return x.at[position].set(value), log_prob + here.log_prob(value)

        order = jnp.array(self.order, int)
        one = jax.eval_shape(lambda: self.head(jnp.zeros(self.head.num_params)).sample(jax.random.key(0)))
        start = jnp.zeros(order.size, one.dtype), jnp.zeros(())
        x, log_prob = lax.fori_loop(0, order.size, step, start)
        return x.reshape(self.event_shape), log_prob

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        keys = jax.random.split(key, sample_shape) if sample_shape else key
        return vectorize(self._draw_event, 0)(keys)
