"""Which training a checkpoint is of: what has to be the same for one to go on with it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import evaluating
from probgen.core.vectorize import check_key
from probgen.distributions.events import Data, widened
from probgen.inference.training.loop import Carry, Loop
from probgen.inference.training.rows import described, kind_of, named_leaves
from probgen.inference.training.stream import Rows

Identity = dict[str, dict[str, Any]]  # {what: {detail: text or number}}, as JSON has it

_CLOSE = 1e-3  # of numbers that another machine computes
_ASIDE = 0.1


def identity(loop: Loop, carry: Carry, key: Array, rows: Rows, held_out: Data | None, metrics: Any) -> Identity:
    """Return what a training is of, before its first step."""
    check_key(key)
    params = loop.svi.get_params(carry.svi)
    model = {"params": params, "rest": carry.rest, "state": carry.svi.mutable_state}
    return {
        "model": {path: kind_of(leaf) for path, leaf in named_leaves(model)},
        "optimizer": {path: kind_of(leaf) for path, leaf in named_leaves(carry.svi.optim_state)},
        "data": rows.description,
        "batch size": {"batch_size": rows.batch_size},
        "key": {"key": str(as_host(key).tolist())},
        "validation": {} if held_out is None else described(held_out),
        "metrics": {name: "measured" for name in metrics},
        "average": {"ema": str(loop.ema)},
        "beginning": {f"a weighted sum of params{path}": _projection(leaf) for path, leaf in named_leaves(params)},
        "model or objective": {"the loss beside the first params": _loss_beside(loop, carry, rows.first)},
    }


def difference(saved: Identity, ours: Identity) -> str | None:
    """Return in words what differs first, or None."""
    for what in ours:
        there, here = saved.get(what, {}), ours[what]
        for detail in [*there, *(name for name in here if name not in there)]:
            was, now = there.get(detail, "missing"), here.get(detail, "missing")
            if not _same(was, now):
                return f"that of another {what}: {detail} is {was} there and {now} here"
    return None


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, float) and isinstance(now, float):
        return bool(np.isclose(was, now, rtol=_CLOSE, atol=1e-6, equal_nan=True))
    return was == now


def as_host(x: Any) -> np.ndarray:
    """Return an array's numbers in memory of their own on the host; of a key those that it is made of."""
    is_key = isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.array(jax.random.key_data(x) if is_key else x, copy=True)


def _projection(x: Any) -> float:
    """Return one number that other numbers, or the same in another order, would not give."""
    flat = as_host(x).ravel().astype(np.float64)
    return float(flat @ np.cos(np.arange(flat.size)))


def _loss_beside(loop: Loop, carry: Carry, batch: Data) -> float:
    """Return the loss of the first rows at other params than the first, where much that a network computes is zero."""
    svi, (args, kwargs) = loop.svi, widened(batch)

    def loss(params: Any, rest: Any) -> Array:
        moved = jax.tree.map(
            lambda x: x + _ASIDE * jnp.cos(jnp.arange(x.size)).reshape(x.shape).astype(x.dtype), params
        )
        with evaluating():
            found = svi.constrain_fn(moved)
            return svi.loss.loss(jax.random.key(0), found, svi.model, svi.guide, rest, *args, **kwargs)

    return float(jax.jit(loss)(svi.optim.get_params(carry.svi.optim_state), carry.rest))
