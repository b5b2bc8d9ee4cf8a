"""How the latents of a top-down path are coded: layer after layer, all lanes at a time."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.distributions.coding import Message, coded, over_lanes

Features = tuple[Array, ...] | None  # of x, for each stage [lanes, layers, …]; None for the prior


def push_layers(d: Any, features: Features, message: Message, z: np.ndarray) -> None:
    """Write z [lanes, size]: the last layer first, so that they are read from the top down.

    Args:
        d: what has the field `path`, of batch shape () or (lanes,).
        features: of x; None writes by the prior.
        message: to write to.
        z: the latents.
    """
    h, codes, first = _top(d, np.arange(message.lanes)), [], 0
    for stage, layer, shape in _layers(d, message.lanes):
        h = _into(d, h, stage) if layer == 0 else h
        here = z[:, first : first + math.prod(shape)].reshape(-1, *shape)
        codes.append((_code(d, h, features, layer, stage), here))
        h = _down(d, h, here, layer, stage)
        first += math.prod(shape)
    for code, here in reversed(codes):
        code.push(message, here)


def pop_layers(d: Any, features: Features, message: Message) -> np.ndarray:
    """Read z [lanes, size], from the top layer down.

    Args:
        d: as it was written with.
        features: as they were.
        message: to read.
    """
    h, parts = _top(d, np.arange(message.lanes)), []
    for stage, layer, _ in _layers(d, message.lanes):
        h = _into(d, h, stage) if layer == 0 else h
        parts.append(_code(d, h, features, layer, stage).pop(message))
        h = _down(d, h, parts[-1], layer, stage)
    return np.concatenate([part.reshape(message.lanes, -1) for part in parts], 1)


def _layers(d: Any, lanes: int) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield each layer: its stage, its place there, and the shape of its numbers."""
    path = jax.eval_shape(lambda: over_lanes(d, lambda d, _: d.path, jnp.arange(lanes)))
    for i, stage in enumerate(path.stages):
        for layer in range(jax.tree.leaves(stage.layers)[0].shape[1]):
            yield i, layer, stage.layers.latent_shape


@jax.jit
def _top(d: Any, lanes: Array) -> Array:
    h: Array = over_lanes(d, lambda d, _: d.path.top(), lanes)
    return h


@partial(jax.jit, static_argnums=2)
def _into(d: Any, h: Array, stage: int) -> Array:
    def one(d: Any, h: Array) -> Array:
        into = d.path.stages[stage].into
        return h if into is None else into(h)

    h = over_lanes(d, one, h)
    return h


@partial(jax.jit, static_argnums=4)
def _code(d: Any, h: Array, features: Features, layer: int, stage: int) -> Any:
    def one(d: Any, h: Array, *features: Array) -> Any:
        here = _layer(d, stage, layer)
        raw = here.prior(h)
        if features:
            raw = raw + here.residual(h, features[0][layer])
        return coded(d.path.head(raw).to_event(len(here.latent_shape)), ())

    return over_lanes(d, one, h, *(() if features is None else (features[stage],)))


@partial(jax.jit, static_argnums=4)
def _down(d: Any, h: Array, z: Array, layer: int, stage: int) -> Array:
    def one(d: Any, h: Array, z: Array) -> Array:
        return _layer(d, stage, layer).down(h, z)

    h = over_lanes(d, one, h, z)
    return h


def _layer(d: Any, stage: int, layer: int) -> Any:
    return jax.tree.map(lambda a: a[layer], d.path.stages[stage].layers)
