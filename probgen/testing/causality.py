"""The laws of autoregressive models."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.testing.law import require


def influence(model: Any, x: Array) -> np.ndarray:
    """Return which numbers move which conditionals of an autoregressive model, [D, D] of booleans: [i, j] is True where
    changing number j moves the conditional of number i.

    Each number is changed in turn, to the least or the largest of x; positions are flat. A row is the receptive field
    of a position, and what it misses a blind spot.

    Args:
        model: an `Autoregressive`.
        x: one event in its support.

    Raises ValueError where x is no event of the model.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.autoregressive.made((3,), 4, hidden=(8,), key=jax.random.key(0))
    >>> influence(model, jnp.array([0, 3, 1])).astype(int)
    array([[0, 0, 0],
           [1, 0, 0],
           [1, 1, 0]])
    """
    _require_one(model)
    known = np.asarray(x)
    if known.shape != model.event_shape:
        raise ValueError(f"x: expected one event of shape {model.event_shape}, got {known.shape}")
    least, largest = known.min(), known.max()
    other = np.where(known == largest, least, largest) if largest > least else known + 1
    eye = np.eye(known.size, dtype=bool).reshape(known.size, *known.shape)
    same, *changed = np.asarray(_raw(model, jnp.asarray(np.concatenate([known[None], np.where(eye, other, known)]))))
    moved: np.ndarray = np.any(np.abs(changed - same) > 1e-5 * (1 + np.abs(same)), axis=-1).T
    return moved


def _require_one(model: Any) -> None:
    if not hasattr(model, "raw") or model.batch_shape:
        kind = type(model).__name__
        raise ValueError(f"model: expected an Autoregressive, or a conditional one with a single context, got a {kind}")


@eqx.filter_jit
def _raw(model: Any, events: Array) -> Array:
    return model.raw(events).reshape(len(events), events[0].size, -1)


def check_causal(model: Any, x: Array) -> None:
    """Check that the conditionals of an autoregressive model depend only on what comes before.

    Every position is changed in turn, and no conditional at it or before it in the order may move. Without this law a
    likelihood means nothing.

    Args:
        model: an `Autoregressive` of integers or reals.
        x: one event in its support.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.autoregressive.made((3,), 4, hidden=(8,), key=jax.random.key(0))
    >>> check_causal(model, jnp.array([0, 3, 1]))
    """
    moved, order = influence(model, x), np.asarray(model.order)
    for place, position in enumerate(order):
        before = [int(p) for p in order[: place + 1] if moved[p, position]]
        require("causality", not before, f"changing position {position} moves the conditionals at {before}")
