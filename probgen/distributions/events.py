"""What is wrong with the events of some data is said in one sentence, before anything compiles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen.core import as_numbers
from probgen.distributions.base import Distribution
from probgen.distributions.conditionals import AtContext, ConditionalModel, inner_model, shape_of_context
from probgen.distributions.on_support import on_edge
from probgen.distributions.supports import holds_at_a_glance

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


def _as_array(name: str, x: Any, first: int) -> jax.Array:
    """Put an array on the device, in the dtype that it has (64 bits apart): a quarter of the memory for bytes."""
    checked = _checked(name, x, first)
    return jnp.asarray(x if isinstance(x, jax.Array) else checked)


def _checked(name: str, x: Any, first_row: int) -> np.ndarray:
    """Return numbers as the device will have them, on the host. Raises ValueError where they are not finite, or would
    be others there; `first_row` is the number of the first of them."""
    host = np.asarray(as_numbers(name, x))
    with np.errstate(over="ignore"):
        array = host if isinstance(x, jax.Array) else host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    if not floating and array.dtype == host.dtype:
        return array
    kept = np.isfinite(array) if floating else array == host
    if not kept.all():
        first = tuple(np.argwhere(~kept)[0])
        where = f"got {host[first]}" + (f" in row {first_row + first[0]}" if first else "")
        finite = floating and not np.isfinite(host[~kept]).all()
        expected = "finite numbers" if finite else f"numbers that fit {array.dtype} (or set jax_enable_x64)"
        raise ValueError(f"{name}: expected {expected}, {where}")
    if floating and host.dtype != array.dtype and len(host):
        _check_precision(name, host, array)
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
    _check_arguments(name, model, *data)
    (x, *_), _ = data
    check_events(name, inner_model(model), x, first=first)
    return data[0]


def _check_arguments(name: str, model: Any, args: tuple, kwargs: dict) -> None:
    conditional = isinstance(model, ConditionalModel)
    if kwargs or len(args) != 1 + conditional:
        expected = "(x, context), since the model is conditional" if conditional else "one array x"
        hint = "" if conditional or len(args) != 2 else ": the model takes no context, as one of context_dim=… does"
        raise ValueError(f"{name}: expected {expected}, got {_in_numbers(args, kwargs)}{hint}")
    if conditional and args[1].shape[1:] != model.context_shape:
        expected = f"contexts [N, {', '.join(map(str, model.context_shape))}] beside x"
        raise ValueError(f"{name}: expected {expected}, got {shape_of_context(args[1], model.context_shape)}")
    if isinstance(model, AtContext) and model.batch_shape:
        raise ValueError(
            f"model: expected batch shape (), got {model.batch_shape}, that of its contexts: pass the conditional "
            f"model itself, with {name}=(x, context)"
        )
    if shape := inner_model(model).batch_shape:
        raise ValueError(f"model: expected batch shape (), got {shape}; take each of them by itself")
    if isinstance(model, ConditionalModel) and model.levels is not None:
        model.check_labels(f"{name}: context", args[1])


def _in_numbers(args: tuple, kwargs: dict) -> str:
    return f"a dict of {len(kwargs)}" if kwargs else f"{len(args)} array{'s' * (len(args) != 1)}"


def rows_where_they_are(name: str, model: Any, data: Any) -> tuple[np.ndarray | jax.Array, ...]:
    """Return (x,) or (x, context) as `check_rows` lets them pass, a block at a time: what lies in the host's memory, or
    in a file mapped into it, stays there."""
    if isinstance(data, dict):
        _check_arguments(name, model, (), data)  # which refuses it
    arrays = tuple(as_numbers(name, x) for x in (data if isinstance(data, tuple) else (data,)))
    if any(isinstance(x, jax.core.Tracer) for x in arrays):
        raise ValueError(f"{name}: expected numbers, got traced arrays: this cannot be called under jax.jit")
    rows = _number_of_rows(name, arrays)
    _check_arguments(name, model, arrays, {})
    inner = inner_model(model)
    support = inner.support  # which takes long of a model of many layers, and is the same for all blocks
    for start in range(0, rows, _ROWS):
        x, *_ = (_checked(name, x[start : start + _ROWS], start) for x in arrays)
        _check_block(name, inner, support, x, start)
    return arrays


def check_events(name: str, model: Distribution, x: jax.Array, *, first: int = 0) -> None:
    """Raise ValueError where rows x are no events of the model: shape, dtype, support or its edge."""
    support = model.support
    for start in range(0, len(x), _ROWS):
        _check_block(name, model, support, np.asarray(x[start : start + _ROWS]), first + start)


def _check_block(name: str, model: Distribution, support: Any, x: np.ndarray, first: int) -> None:
    """Do what `check_events` does, where `first` is the number of the first row."""
    if x.shape[1:] != model.event_shape:
        raise ValueError(f"{name}: expected rows of shape {model.event_shape}, got {x.shape[1:]}")
    if support is None:
        return
    if support.is_discrete != (not jnp.issubdtype(x.dtype, jnp.floating)):
        expected, hint = ("integers", "") if support.is_discrete else ("floating-point numbers", _OF_INTEGERS)
        raise ValueError(f"{name}: the model is over {expected}, got dtype {x.dtype}{hint}")
    rows = widened(x)
    if not holds_at_a_glance(support, rows) and not (inside := np.asarray(support(rows))).all():
        row = first + int(np.argwhere(~inside)[0][0])
        raise ValueError(f"{name}: row {row} lies outside the model's support {support}")
    if (edge := on_edge(model, rows)).any():
        row = first + int(np.argwhere(edge)[0][0])
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
