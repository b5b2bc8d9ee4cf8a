"""What is evaluated position by position: one protocol, and the loops over it."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax


class Steps(Protocol):
    """A product of conditionals one factor at a time: a cache of what came before, and a distribution at each place."""

    def init(self) -> Any:
        """Return the cache before the first step."""
        ...

    def step(self, cache: Any, before: Array, i: Array) -> tuple[Any, dist.Distribution]:
        """Return (the new cache, the distribution of the scalar at place i), given the value before it (any for i =
        0)."""
        ...


class Prefix(NamedTuple):
    """The numbers of an event that are known beforehand, the first of them.

    Args:
        values: [D], of which the first `length` count.
        length: how many are known.
    """

    values: Array
    length: int


def draw_value(here: dist.Distribution, key: Array, known: Prefix, i: Array) -> tuple[Array, Array]:
    """Return (value, log-probability) at place i: what is known there, or a draw by the place's own key.

    Args:
        here: the distribution of the scalar at place i.
        key: of the whole event.
        known: the first numbers, where they are known.
        i: the place.
    """
    value = jnp.where(i < known.length, known.values[i], here.sample(jax.random.fold_in(key, i)))
    return value, here.log_prob(value)


def draw(steps: Steps, key: Array, known: Prefix) -> tuple[Array, Array]:
    """Draw values [D], each place in turn from its distribution unless it is known, and return them and their
    log-probabilities [D].

    Args:
        steps: of a model.
        key: the randomness of one event.
        known: the first numbers, where they are known; its `values` say what D and the dtype are.

    >>> import jax, jax.numpy as jnp
    >>> class Walk:
    ...     def init(self):
    ...         return jnp.array(0.0)
    ...
    ...     def step(self, cache, before, i):
    ...         return before, dist.Normal(before, 1.0)
    >>> values, log_probs = draw(Walk(), jax.random.key(0), Prefix(jnp.array([2.0, 0.0, 0.0]), 1))
    >>> values.shape, values[0].item()
    ((3,), 2.0)
    """

    def one(carry: tuple[Any, Array], i: Array) -> tuple[tuple[Any, Array], tuple[Array, Array]]:
        cache, here = steps.step(*carry, i)
        value, log_prob = draw_value(here, key, known, i)
        return (cache, value), (value, log_prob)

    start = steps.init(), jnp.zeros((), known.values.dtype)
    return lax.scan(one, start, jnp.arange(len(known.values)))[1]
