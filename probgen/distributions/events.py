"""What is wrong with the events of some data is said in one sentence, before anything compiles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen.core import as_numbers
from probgen.distributions.base import Distribution
from probgen.distributions.conditionals import ConditionalModel, inner_model
from probgen.distributions.on_support import on_edge

_ROWS = 8192  # looked at together
_LOST = 1e-3  # of the standard deviation of a number, what rounding may change
_OF_INTEGERS = "; x.astype(float) makes reals of them, and `levels=` in many recipes a model of integers"

Data = tuple[tuple, dict]  # what a program is called with, the rows of every array on axis 0


def as_arrays(name: str, data: Any, *, first: int = 0) -> tuple[tuple, dict, int]:
    """Return data as positional and keyword arrays with one number of rows N. Raises ValueError where they are
    unusable; `first` is the number of their first row, for errors."""
    args = () if isinstance(data, dict) else data if isinstance(data, tuple) else (data,)
    kwargs = data if isinstance(data, dict) else {}
    is_list = lambda x: isinstance(x, list)
    args, kwargs = jax.tree.map(lambda x: _as_array(name, x, first), (args, kwargs), is_leaf=is_list)
    return args, kwargs, _number_of_rows(name, (args, kwargs))


def _number_of_rows(name: str, arrays: Any) -> int:
    rows = {x.shape[:1] for x in jax.tree.leaves(arrays)}
    if len(rows) != 1 or rows == {()}:
        raise ValueError(f"{name}: expected arrays with one number of rows, got {sorted(rows)}")
    if (found := rows.pop()[0]) == 0:
        raise ValueError(f"{name}: expected at least one row, got none")
    return found


def count(data: Data) -> int:
    """Return the number of rows."""
    return jax.tree.leaves(data)[0].shape[0]


def _as_array(name: str, x: Any, first_row: int) -> jax.Array:
    """Put an array on the device, in the dtype that it has (64 bits apart): a quarter of the memory for bytes."""
    host = np.asarray(as_numbers(name, x))
    with np.errstate(over="ignore"):
        array = jnp.asarray(x if isinstance(x, jax.Array) else host)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    if not floating and array.dtype == host.dtype:
        return array
    kept = np.isfinite(np.asarray(array)) if floating else np.asarray(array) == host
    if not kept.all():
        first = tuple(np.argwhere(~kept)[0])
        where = f"got {host[first]}" + (f" in row {first_row + first[0]}" if first else "")
        expected = "finite numbers" if floating else f"numbers that fit {array.dtype}"
        raise ValueError(f"{name}: expected {expected}, {where}")
    if floating and host.dtype != array.dtype and len(host):
        _check_precision(name, host, np.asarray(array))
    return array


def _check_precision(name: str, host: np.ndarray, rounded: np.ndarray) -> None:
    """Raise ValueError where numbers that differ between rows are rounded to nearly the same."""
    spread, lost = host.std(0), np.abs(host - rounded).max(0)
    if (merged := (lost > _LOST * spread) & (np.ptp(host, 0) > 0)).any():
        where = tuple(int(i) for i in np.argwhere(merged)[0])
        column = f" of column {where[0] if len(where) == 1 else where}" if where else ""
        raise ValueError(
            f"{name}: numbers{column} differ by about {spread[where]:.3g} and are rounded by {lost[where]:.3g} in "
            f"{rounded.dtype}: shift and scale them, or set jax_enable_x64"
        )


def widened(data: Any) -> Any:
    """Return integers of fewer than 32 bits as int32, for their arithmetic would wrap around: what a batch
    undergoes."""
    small = lambda x: jnp.issubdtype(x.dtype, jnp.integer) and x.dtype.itemsize < 4
    return jax.tree.map(lambda x: x.astype(jnp.int32) if small(x) else x, data)


def check_rows(name: str, model: Any, data: Data, *, first: int = 0) -> tuple[jax.Array, ...]:
    """Return the arrays of the data, (x,) or (x, context), as the model takes them. Raises ValueError where it takes
    others, has batch axes, or a row is no event; `first` is the number of the first."""
    args, kwargs = data
    inner, conditional = inner_model(model), isinstance(model, ConditionalModel)
    if kwargs or len(args) != 1 + conditional:
        expected = "(x, context)" if conditional else "one array x"
        raise ValueError(f"{name}: expected {expected}, got {_in_numbers(args, kwargs)}")
    if inner.batch_shape:
        raise ValueError(f"model: expected batch shape (), got {inner.batch_shape}; take each of them by itself")
    check_events(name, inner, args[0], first=first)
    return args


def _in_numbers(args: tuple, kwargs: dict) -> str:
    return f"a dict of {len(kwargs)}" if kwargs else f"{len(args)} arrays"


def rows_where_they_are(name: str, model: Any, data: Any) -> tuple[np.ndarray | jax.Array, ...]:
    """Return (x,) or (x, context) as `check_rows` lets them pass, a block at a time: what lies in the host's memory, or
    in a file mapped into it, stays there."""
    if isinstance(data, dict):
        return check_rows(name, model, as_arrays(name, data)[:2])  # which refuses it
    arrays = tuple(as_numbers(name, x) for x in (data if isinstance(data, tuple) else (data,)))
    if any(isinstance(x, jax.core.Tracer) for x in arrays):
        raise ValueError(f"{name}: expected numbers, got traced arrays: this cannot be called under jax.jit")
    for start in range(0, _number_of_rows(name, arrays), _ROWS):
        block = tuple(x[start : start + _ROWS] for x in arrays)
        check_rows(name, model, as_arrays(name, block, first=start)[:2], first=start)
    return arrays


def check_events(name: str, model: Distribution, x: jax.Array, *, first: int = 0) -> None:
    """Raise ValueError where rows x are no events of the model: shape, dtype, support or its edge."""
    if x.shape[1:] != model.event_shape:
        raise ValueError(f"{name}: expected rows of shape {model.event_shape}, got {x.shape[1:]}")
    support = model.support
    if support is None:
        return
    if support.is_discrete != (not jnp.issubdtype(x.dtype, jnp.floating)):
        expected, hint = ("integers", "") if support.is_discrete else ("floating-point numbers", _OF_INTEGERS)
        raise ValueError(f"{name}: the model is over {expected}, got dtype {x.dtype}{hint}")
    for start in range(0, len(x), _ROWS):
        part = widened(np.asarray(x[start : start + _ROWS]))
        inside = np.asarray(support(part))
        if not inside.all():
            row = first + start + int(np.argwhere(~inside)[0][0])
            raise ValueError(f"{name}: row {row} lies outside the model's support {support}")
        if (edge := np.asarray(on_edge(model, part))).any():
            row = first + start + int(np.argwhere(edge)[0][0])
            raise ValueError(f"{name}: row {row} lies on the edge of {support}, where the model has no density")


def check_like(name: str, held_out: Data, data: Data) -> None:
    """Raise ValueError where other rows than the data's differ from them in shape or in the kind of number: a program
    would broadcast them."""
    for other, ours in zip(jax.tree.leaves(held_out), jax.tree.leaves(data), strict=True):
        if other.shape[1:] != ours.shape[1:]:
            raise ValueError(f"{name}: expected rows of shape {ours.shape[1:]} as in data, got {other.shape[1:]}")
        if _numbers(other) != _numbers(ours):
            raise ValueError(f"{name}: expected rows of {_numbers(ours)} as in data, got dtype {other.dtype}")


def _numbers(x: jax.Array) -> str:
    if x.dtype == bool:
        return "booleans"
    return "floating-point numbers" if jnp.issubdtype(x.dtype, jnp.floating) else "integers"
