"""Several orders, one set of weights: a mixture, and so a distribution."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.autoregressive.autoregressive import Autoregressive
from probgen.autoregressive.orders import Order
from probgen.core import sequential
from probgen.distributions import Model
from probgen.distributions.heads import Head
from probgen.networks import MADE, Pixels


class _Positioned(eqx.Module):
    """A network that knows positions and their order, as one of places in that order."""

    network: Any
    order: Order = eqx.field(static=True)

    def __call__(self, values: Array, *context: Array) -> Array:
        return self.network(values[self.order.places], *context)[np.asarray(self.order)]

    def sequential(self) -> Any:
        return sequential(self.network)  # whose steps go by the order already


class OrderEnsemble(Model):
    """A uniform mixture of one MADE's models under several orders, which share its weights.

        p(x) = 1/K Σ_k p_k(x),   log p(x) = logsumexp_k Σ_i log p_k(x_i | what comes before it in order k) − log K

    Each order masks the same weights otherwise. Averaging probabilities of whole events keeps the sum at 1. Averaging
    the conditionals' logits, as some code does, has no such sum and reports likelihoods that are too good: for two bits
    that agree with probability 0.99 it sums to 1.67.

    Args:
        network: a `MADE`, whose own order does not matter.
        levels: how many integers a number takes.
        head: raw numbers [..., num_params] → distribution of scalars.
        event_shape: the shape of one event.
        orders: the K orders of the flat positions (`Order`).

    Raises ValueError where there are none, or one is no permutation of the event's positions.

    References: MADE (Germain et al. 2015), arXiv:1502.03509, section 4.2; A Deep and Tractable Density Estimator
    (Uria, Murray, Larochelle 2014), arXiv:1310.1757, where ensembles of orders are mixtures.

    >>> import jax, jax.numpy as jnp, probgen
    >>> orders = [Order.raster((4,)), Order.raster((4,)).reversed()]
    >>> model = probgen.autoregressive.made((4,), 2, hidden=(8,), orders=orders, key=jax.random.key(0))
    >>> every = jnp.array([[i >> b & 1 for b in range(4)] for i in range(16)])
    >>> float(jnp.exp(model.log_prob(every)).sum().round(4))
    1.0
    """

    pytree_data_fields = ("network",)
    pytree_aux_fields = ("head", "levels", "orders")

    def __init__(
        self, network: MADE, levels: int, head: Head, event_shape: Sequence[int], *, orders: Sequence[Sequence[int]]
    ):
        if not orders or not all(isinstance(order, Sequence | np.ndarray) for order in orders):
            raise ValueError(f"orders: expected one or more orders, got {orders!r}")
        self.network, self.levels, self.head = network, int(levels), head
        self.orders = tuple(Order(order) for order in orders)
        super().__init__(tuple(event_shape))
        self.models  # noqa: B018 (or the orders are refused)

    @property
    def models(self) -> tuple[Autoregressive, ...]:
        """The model under each order; all share the weights."""
        size = math.prod(self.event_shape)

        def one(order: Order) -> Autoregressive:
            network = Pixels(_Positioned(self.network.in_order(order), order), self.levels, (size,))
            return Autoregressive(network, self.head, self.event_shape, order=order)

        return tuple(one(order) for order in self.orders)

    @property
    def support(self) -> constraints.Constraint:
        """The models' support."""
        return self.models[0].support

    def log_prob_event(self, x: Array) -> Array:
        """Return the logsumexp over the orders."""
        log_probs = jnp.stack([model.log_prob_event(x) for model in self.models])
        return jax.nn.logsumexp(log_probs) - math.log(len(self.orders))

    def sample_event(self, key: Array) -> Array:
        """Draw in an order that is drawn at random."""
        which, how = jax.random.split(key)
        draws = [lambda model=model: model.sample_event(how) for model in self.models]
        return lax.switch(jax.random.randint(which, (), 0, len(draws)), draws)
