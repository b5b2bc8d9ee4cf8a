"""Three exact ways of drawing from a product of conditionals, with the same numbers from the same key.

Position i draws with a key of its own, so that its value is a function of the raw numbers of its conditional; what
differs is in what order, and how often, those are computed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import sequential

if TYPE_CHECKING:
    from probgen.autoregressive.autoregressive import Autoregressive


class Drawn(NamedTuple):
    """One event in the model's order: values [D], log-probabilities [D], and how many passes or steps it took."""

    values: Array
    log_probs: Array
    passes: Array


class Prefix(NamedTuple):
    """What is known beforehand, in the model's order: values [D], of which the first `length` count."""

    values: Array
    length: int


Draw = Callable[["Autoregressive", Array, Prefix], Drawn]


def _value(model: "Autoregressive", raw: Array, key: Array, known: Prefix, i: Array) -> tuple[Array, Array]:
    """(value, log-probability) at place i of the order."""
    here = model.head(raw.reshape(model.head.num_params))
    value = jnp.where(i < known.length, known.values[i], here.sample(jax.random.fold_in(key, i)))
    return value, here.log_prob(value)


def step_by_step(model: "Autoregressive", key: Array, known: Prefix) -> Drawn:
    """Position by position with a cache of what was computed before: the work of about one pass in all.

    A network without steps (`sequential()`) is evaluated anew for each position (`pass_by_pass`).
    """
    steps = sequential(model.network)
    if steps is None:
        return pass_by_pass(model, key, known)

    def one(carry: tuple[Any, Array], i: Array) -> tuple[tuple[Any, Array], tuple[Array, Array]]:
        cache, before = carry
        cache, raw = steps.step(cache, before[None], i)
        value, log_prob = _value(model, raw, key, known, i)
        return (cache, value), (value, log_prob)

    size = len(model.order)
    start = steps.init(), jnp.zeros((), known.values.dtype)
    _, (values, log_probs) = lax.scan(one, start, jnp.arange(size))
    return Drawn(values, log_probs, jnp.array(size))


def pass_by_pass(model: "Autoregressive", key: Array, known: Prefix) -> Drawn:
    """A whole pass of the network for each position: what needs nothing of the network, and is slow."""

    def one(x: Array, i: Array) -> tuple[Array, Array]:
        value, log_prob = _value(model, model.raw_in_order(x)[i], key, known, i)
        return x.at[i].set(value), log_prob

    size = len(model.order)
    values, log_probs = lax.scan(one, jnp.zeros_like(known.values), jnp.arange(size))
    return Drawn(values, log_probs, jnp.array(size))


def fixed_point(model: "Autoregressive", key: Array, known: Prefix) -> Drawn:
    """All positions at once from the last guess, with the noise frozen, until nothing changes.

    After n passes the first n positions are right, so it stops after at most D + 1 and often long before; the result is
    the one of `step_by_step`, except where rounding decides a tie.

    References: Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (Song, Meng, Liao, Ermon
    2021), arXiv:2002.03629; Predictive Sampling with Forecasting Autoregressive Models (Wiggers, Hoogeboom 2020),
    arXiv:2002.09928.
    """
    size = len(model.order)
    draw = jax.vmap(lambda raw, i: _value(model, raw, key, known, i))

    def one(state: tuple[Array, Drawn]) -> tuple[Array, Drawn]:
        _, (x, _, n) = state
        values, log_probs = draw(model.raw_in_order(x), jnp.arange(size))
        return jnp.any(values != x), Drawn(values, log_probs, n + 1)

    # D passes would do; the last only sees that nothing changes, and its log-probabilities are those of the values
    more = lambda state: state[0] & (state[1].passes < size + 1)
    start = Drawn(jnp.zeros_like(known.values), jnp.zeros(size), jnp.array(0))
    return lax.while_loop(more, one, (jnp.array(True), start))[1]
