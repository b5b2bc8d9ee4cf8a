"""What is wrong with data is said before anything compiles, in one sentence."""

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import ELBO, TraceEnum_ELBO

from probgen.core import as_numbers
from probgen.distributions import ConditionalModel, Distribution
from probgen.distributions.on_support import on_edge
from probgen.inference.engine.provenance import traced
from probgen.inference.engine.sites import describe
from probgen.inference.objectives.match import FITTING, repeated_observations, unfitting_plates
from probgen.inference.training.origins import Marks

_ROWS = 8192  # looked at together

SIGNS = {"exact": "=", "weights": "≤", "bound": "≤", "estimate": "≈"}  # of a loss, by the model's kind of density
Data = tuple[tuple, dict]  # what a program is called with, the rows of every array on axis 0


def as_arrays(name: str, data: Any) -> tuple[tuple, dict, int]:
    """Return data as positional and keyword arrays with one number of rows N. Raises ValueError where they are
    unusable."""
    args = () if isinstance(data, dict) else data if isinstance(data, tuple) else (data,)
    kwargs = data if isinstance(data, dict) else {}
    is_list = lambda x: isinstance(x, list)
    args, kwargs = jax.tree.map(lambda x: _as_array(name, x), (args, kwargs), is_leaf=is_list)
    rows = {x.shape[:1] for x in jax.tree.leaves((args, kwargs))}
    if len(rows) != 1 or rows == {()}:
        raise ValueError(f"{name}: expected arrays with one number of rows, got {sorted(rows)}")
    if (found := rows.pop()[0]) == 0:
        raise ValueError(f"{name}: expected at least one row, got none")
    return args, kwargs, found


def count(data: Data) -> int:
    """Return the number of rows."""
    return jax.tree.leaves(data)[0].shape[0]


def _as_array(name: str, x: Any) -> jax.Array:
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
        where = f"got {host[first]}" + (f" in row {first[0]}" if first else "")
        expected = "finite numbers" if floating else f"numbers that fit {array.dtype}"
        raise ValueError(f"{name}: expected {expected}, {where}")
    return array


def widened(data: Any) -> Any:
    """Return integers of fewer than 32 bits as int32, for their arithmetic would wrap around: what a batch
    undergoes."""
    small = lambda x: jnp.issubdtype(x.dtype, jnp.integer) and x.dtype.itemsize < 4
    return jax.tree.map(lambda x: x.astype(jnp.int32) if small(x) else x, data)


def inner_model(model: Any) -> Distribution:
    """Return the model of a conditional one; else the model itself."""
    return model.model if isinstance(model, ConditionalModel) else model


def check_rows(name: str, model: Any, data: Data) -> tuple[jax.Array, ...]:
    """Return the arrays of the data, (x,) or (x, context), as the model takes them. Raises ValueError where it takes
    others, has batch axes, or a row is no event."""
    args, kwargs = data
    inner, conditional = inner_model(model), isinstance(model, ConditionalModel)
    if kwargs or len(args) != 1 + conditional:
        expected = "(x, context)" if conditional else "one array x"
        raise ValueError(f"{name}: expected {expected}, got {len(args) + len(kwargs)} arrays")
    if inner.batch_shape:
        raise ValueError(f"model: expected batch shape (), got {inner.batch_shape}; take each of them by itself")
    check_events(name, inner, args[0])
    return args


def check_events(name: str, model: Distribution, x: jax.Array) -> None:
    """Raise ValueError where rows x are no events of the model: shape, dtype, support or its edge."""
    if x.shape[1:] != model.event_shape:
        raise ValueError(f"{name}: expected rows of shape {model.event_shape}, got {x.shape[1:]}")
    support = model.support
    if support is None:
        return
    if support.is_discrete != (not jnp.issubdtype(x.dtype, jnp.floating)):
        expected = "integers" if support.is_discrete else "floating-point numbers"
        raise ValueError(f"{name}: the model is over {expected}, got dtype {x.dtype}")
    for start in range(0, len(x), _ROWS):
        part = widened(np.asarray(x[start : start + _ROWS]))
        inside = np.asarray(support(part))
        if not inside.all():
            row = start + int(np.argwhere(~inside)[0][0])
            raise ValueError(f"{name}: row {row} lies outside the model's support {support}")
        if (edge := np.asarray(on_edge(model, part))).any():
            row = start + int(np.argwhere(edge)[0][0])
            raise ValueError(f"{name}: row {row} lies on the edge of {support}, where the model has no density")


def check_objective(objective: Any) -> None:
    """Raise ValueError for what is no objective, or one that lacks the package that it needs."""
    if objective is not None and not isinstance(objective, ELBO):
        raise ValueError(
            f"objective: expected an ELBO of numpyro or of probgen.inference.objectives, got {type(objective).__name__}"
        )
    if isinstance(objective, TraceEnum_ELBO) and importlib.util.find_spec("funsor") is None:
        raise ValueError(
            "objective: TraceEnum_ELBO needs the package funsor, which is not installed; objectives.ELBO() sums over "
            "the values of discrete sites without it"
        )


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


def check_observed(name: str, program: Callable, data: Data, size: int) -> None:
    """Raise ValueError where a program observes values outside their support (masked ones may be anything), or where an
    observation would count more than once, because it broadcasts with the parameters over an axis of no plate.

    Of the support, only what follows from the data alone is known: not one that depends on latent values or params. The
    program is traced once, on `size` rows; all of its log-densities are dead code.
    """
    seen: dict[str, Any] = {}

    def inside(args: tuple, kwargs: dict) -> dict[str, Any]:
        with numpyro.handlers.block(), Marks(), numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
            _run(name, program, args, kwargs, trace)
        for said in itertools.chain(unfitting_plates(trace), repeated_observations(trace)):
            raise ValueError(f"{name}: {said}")
        seen.update({site: trace[site]["fn"] for site in trace if trace[site].get("is_observed")})
        return {site: (_inside(fn, trace[site]["value"]), trace[site]["value"]) for site, fn in seen.items()}

    rows = count(data)
    part = lambda start: widened(jax.tree.map(lambda x: x[start : start + size], data))
    again, origins = traced(inside, *part(0))
    known = [site for site, of in origins.items() if not of[0] and not of[1]]
    look = jax.jit(lambda args, kwargs: [again(args, kwargs)[site] for site in known])
    for start in [*range(0, rows - size, size), rows - size]:
        for site, (fine, value) in zip(known, look(*part(start)), strict=True):
            if not fine.all():
                index = tuple(int(i) for i in np.argwhere(~np.asarray(fine))[0])
                raise ValueError(
                    f"{name}: site {site!r} observes {value[index]}, outside the support of its {describe(seen[site])} "
                    f"(at {list(index)} in rows {start} to {start + size - 1})"
                )


def _run(name: str, program: Callable, args: tuple, kwargs: dict, trace: dict) -> None:
    """Run a program; where it fails, and a plate of it has another size than the rows, say so: JAX names neither."""
    try:
        program(*args, **kwargs)
    except (TypeError, ValueError) as error:
        rows = count((args, kwargs))
        for plate, site in trace.items():
            if site["type"] == "plate" and (size := site["args"][1] or site["args"][0]) != rows:
                raise ValueError(
                    f"{name}: the program fails on {rows} rows, and its plate {plate!r} has {size} elements: {FITTING} "
                    f"({error})"
                ) from error
        raise


def _inside(fn: dist.Distribution, value: Any) -> jax.Array:
    """Return where a value lies in the support, as an array of the batch shape, or is masked."""
    if isinstance(fn, dist.MaskedDistribution):
        return _inside(fn.base_dist, value) | ~jnp.asarray(fn._mask, bool)
    if isinstance(fn, dist.ExpandedDistribution):
        return _inside(fn.base_dist, value)
    if isinstance(fn, dist.Independent):
        inner = _inside(fn.base_dist, value)
        return inner.all(tuple(range(-fn.reinterpreted_batch_ndims, 0)))
    unknown = fn.support is None or isinstance(fn.support, type(dist.constraints.dependent))
    return jnp.asarray(True if unknown else fn.support(value))
