"""Three exact ways of drawing from a product of conditionals, with the same numbers from the same key.

Position i draws with a key of its own, so that its value is a function of the raw numbers of its conditional; what
differs is in what order, and how often, those are computed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax

from probgen.core import Prefix, Steps, draw, draw_value, sequential


class Ordered(Protocol):
    """The protocol of a model that is drawn from (`Autoregressive`)."""

    network: Any
    head: Any
    order: Any

    @property
    def value_dtype(self) -> Any:
        """The dtype of drawn numbers."""
        ...

    def raw_in_order(self, values: Array) -> Array:
        """Return the raw numbers of all places, from the values there."""
        ...


class Drawn(NamedTuple):
    """One event in the model's order: values [D], log-probabilities [D], and how many passes or steps it took."""

    values: Array
    log_probs: Array
    passes: Array


Draw = Callable[[Ordered, Array, Prefix], Drawn]


class CachedSteps(eqx.Module):
    """The steps of a network that keeps what it computed before: the work of about one pass in all."""

    network: Any
    head: Any = eqx.field(static=True)

    def init(self) -> Any:
        """Return the network's cache."""
        return self.network.init()

    def step(self, cache: Any, before: Array, i: Array) -> tuple[Any, dist.Distribution]:
        """Take one step of the network's, and return its cache and the head's distribution."""
        cache, raw = self.network.step(cache, before[None], i)
        return cache, self.head(raw.reshape(self.head.num_params))


class WholePasses(eqx.Module):
    """A whole pass of the network for each step, which needs nothing of the network, and is slow."""

    model: Ordered

    def init(self) -> Array:
        """Return an event without its values."""
        return jnp.zeros(len(self.model.order), self.model.value_dtype)

    def step(self, cache: Array, before: Array, i: Array) -> tuple[Array, dist.Distribution]:
        """Return the cache and the conditional at place i, of the values that are there by now."""
        values = jnp.where(jnp.arange(len(cache)) == i - 1, before, cache)
        return values, self.model.head(self.model.raw_in_order(values)[i])


def steps_of(model: Ordered) -> Steps:
    """Return the steps of a model, one place of its order after another; those of its network where it has some."""
    network = sequential(model.network)
    return WholePasses(model) if network is None else CachedSteps(network, model.head)


def step_by_step(model: Ordered, key: Array, known: Prefix) -> Drawn:
    """Draw position by position with a cache of what was computed before: the work of about one pass in all.

    A network without steps (`sequential()`) is evaluated anew for each position (`pass_by_pass`).

    Args:
        model: the model, or one at its context.
        key: the randomness of one draw.
        known: the first numbers, where they are known.
    """
    return Drawn(*draw(steps_of(model), key, known), jnp.array(len(model.order)))


def pass_by_pass(model: Ordered, key: Array, known: Prefix) -> Drawn:
    """Draw by a whole pass of the network for each position, which needs nothing of the network, and is slow.

    Args:
        model: the model, or one at its context.
        key: the randomness of one draw.
        known: the first numbers, where they are known.
    """
    return Drawn(*draw(WholePasses(model), key, known), jnp.array(len(model.order)))


def fixed_point(model: Ordered, key: Array, known: Prefix) -> Drawn:
    """Draw all positions at once from the last guess, with the noise frozen, until nothing changes.

    After n passes the first n positions are right, so it stops after at most D + 1 and often long before; the result is
    the one of `step_by_step`, except where rounding decides a tie.

    Args:
        model: the model, or one at its context.
        key: the randomness of one draw.
        known: the first numbers, where they are known.

    References: Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song, Meng, Liao, Ermon
    2021), arXiv:2002.03629; Predictive Sampling with Forecasting Autoregressive Models (Wiggers, Hoogeboom 2020),
    arXiv:2002.09928.
    """
    size = len(model.order)
    at = jax.vmap(lambda raw, i: draw_value(model.head(raw.reshape(model.head.num_params)), key, known, i))

    def one(state: tuple[Array, Drawn]) -> tuple[Array, Drawn]:
        _, (x, _, n) = state
        values, log_probs = at(model.raw_in_order(x), jnp.arange(size))
        return jnp.any(values != x), Drawn(values, log_probs, n + 1)

    # D passes would do; the last only sees that nothing changes, and its log-probabilities are those of the values
    more = lambda state: state[0] & (state[1].passes < size + 1)
    start = Drawn(jnp.zeros_like(known.values), jnp.zeros(size), jnp.array(0))
    return lax.while_loop(more, one, (jnp.array(True), start))[1]
