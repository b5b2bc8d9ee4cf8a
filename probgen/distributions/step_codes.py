"""How a product of conditionals is coded: place after place, in the very step that reads it, or by one pass."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.distributions.coding import Message, check_lanes, coded, over_lanes
from probgen.distributions.lifting import verb


def push_steps(d: Any, message: Message, x: np.ndarray, lengths: np.ndarray | None = None) -> None:
    """Write events [lanes, *event_shape] of what has `steps()` and `in_order(x)`, place after place, all lanes at a
    time: in the very step that reads them, since no other program gives the same probabilities to the last bit. Where
    the message does without, and the model has `conditionals(x)`, all places are written by one pass.

    Args:
        d: a product of conditionals, of batch shape () or (lanes,).
        message: to write to.
        x: the events.
        lengths: how many numbers of each lane count, [lanes]; all by default.
    """
    check_lanes(d)
    places = _places(d)
    values = _narrow(np.asarray(x)).reshape(message.lanes, -1)[:, places]
    if message.replays or not hasattr(d, "conditionals"):
        before, codes, cache = np.zeros_like(values[:, 0]), [], _start(d, np.arange(message.lanes))
        for i in range(_longest(places, lengths)):
            cache, here = _step(d, cache, before, i)
            codes.append(here)
            before = values[:, i]
    else:
        whole = _pass(d, jnp.asarray(x), places)
        codes = [jax.tree.map(lambda a, i=i: a[:, i], whole) for i in range(_longest(places, lengths))]
    for i in reversed(range(len(codes))):
        codes.pop().push(_of_those(message, lengths, i), values[:, i])


def pop_steps(d: Any, message: Message, lengths: np.ndarray | None = None) -> np.ndarray:
    """Read the events [lanes, *event_shape] that `push_steps` wrote; 0 beyond the lengths.

    Args:
        d: as it was there.
        message: to read.
        lengths: as they were there.
    """
    places = _places(d)
    values = np.zeros((message.lanes, len(places)), np.int32 if d.support.is_discrete else np.float64)
    before, cache = np.zeros_like(values[:, 0]), _start(d, np.arange(message.lanes))
    for i in range(_longest(places, lengths)):
        cache, here = _step(d, cache, before, i)
        read = here.pop(_of_those(message, lengths, i))
        before = values[:, i] = read if lengths is None else np.where(lengths > i, read, 0)
    x = np.zeros_like(values)
    x[:, places] = values
    return x.reshape(message.lanes, *d.event_shape)


@jax.jit
def _start(d: Any, lanes: Array) -> Any:
    return over_lanes(d, lambda d, _: d.steps().init(), lanes)


@jax.jit
def _step(d: Any, cache: Any, before: Array, i: Array) -> tuple[Any, Any]:
    """Return the caches of all lanes, and what codes the number at place i."""

    def one(d: Any, cache: Any, before: Array) -> tuple[Any, Any]:
        cache, here = d.steps().step(cache, before, i)
        return cache, coded(here, ())

    return over_lanes(d, one, cache, before)


@jax.jit
def _pass(d: Any, x: Array, places: Array) -> Any:
    """Return what codes all numbers of all lanes, [lanes, D, ...], in the order of the steps."""

    def one(d: Any, x: Array) -> Any:
        whole = coded(d.conditionals(x), d.event_shape)
        return jax.tree.map(lambda a: a.reshape(len(places), *a.shape[len(d.event_shape) :])[places], whole)

    return over_lanes(d, one, x)


def _places(d: Any) -> np.ndarray:
    """Return where in the event the i-th number of the order lies."""
    with jax.ensure_compile_time_eval():
        return np.asarray(d.in_order(jnp.arange(math.prod(d.event_shape)).reshape(d.event_shape)))


def _narrow(x: np.ndarray) -> np.ndarray:
    """Return numbers in the dtype in which they are read: programs of other dtypes are other programs."""
    return x.astype(np.float64 if np.issubdtype(x.dtype, np.floating) else np.int32)


def _longest(places: np.ndarray, lengths: np.ndarray | None) -> int:
    return len(places) if lengths is None else int(np.max(lengths, initial=0))


def _of_those(message: Message, lengths: np.ndarray | None, i: int) -> Message:
    return message if lengths is None else message.only(lengths > i)


class Stepwise:
    """A product of conditionals with `steps()` and `in_order(x)` (`core.Steps`), coded step by step."""

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write events [lanes, *event_shape]."""
        push_steps(self, message, x)

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read events [lanes, *event_shape]."""
        return pop_steps(self, message)
