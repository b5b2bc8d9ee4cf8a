"""What is wrong with data is said before anything compiles, in one sentence."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from probgen.distributions import Distribution
from probgen.distributions.on_support import on_edge
from probgen.inference.estimators.provenance import traced
from probgen.inference.estimators.sites import describe
from probgen.inference.origins import Marks


def as_arrays(name: str, data: Any) -> tuple[tuple, dict, int]:
    """Data as positional and keyword arrays with one number of rows N. Raises ValueError where they are unusable."""
    args = () if isinstance(data, dict) else data if isinstance(data, tuple) else (data,)
    kwargs = data if isinstance(data, dict) else {}
    is_list = lambda x: isinstance(x, list)
    args, kwargs = jax.tree.map(lambda x: _as_array(name, x), (args, kwargs), is_leaf=is_list)
    rows = {x.shape[:1] for x in jax.tree.leaves((args, kwargs))}
    if len(rows) != 1 or rows == {()}:
        raise ValueError(f"{name}: expected arrays with one number of rows, got {sorted(rows)}")
    count = rows.pop()[0]
    if count == 0:
        raise ValueError(f"{name}: expected at least one row, got none")
    return args, kwargs, count


def _as_array(name: str, x: Any) -> jax.Array:
    host = np.asarray(x)
    if host.dtype == object or host.dtype.kind in "USMm":
        raise ValueError(f"{name}: expected numbers, got dtype {host.dtype}")
    small = jnp.issubdtype(host.dtype, jnp.integer) and host.dtype.itemsize < 4  # their arithmetic would wrap around
    with np.errstate(over="ignore"):
        array = jnp.asarray(x if isinstance(x, jax.Array) else host, np.int32 if small else None)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    kept = np.isfinite(np.asarray(array)) if floating else np.asarray(array) == host
    if not kept.all():
        first = tuple(np.argwhere(~kept)[0])
        where = f"got {host[first]}" + (f" in row {first[0]}" if first else "")
        expected = "finite numbers" if floating else f"numbers that fit {array.dtype}"
        raise ValueError(f"{name}: expected {expected}, {where}")
    return array


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
    inside = np.asarray(support(np.asarray(x)))
    if not inside.all():
        row = int(np.argwhere(~inside)[0][0])
        raise ValueError(f"{name}: row {row} lies outside the model's support {support}")
    if (edge := np.asarray(on_edge(model, x))).any():
        row = int(np.argwhere(edge)[0][0])
        raise ValueError(f"{name}: row {row} lies on the edge of {support}, where the model has no density")


def check_observed(name: str, program: Callable, data: tuple[tuple, dict], size: int) -> None:
    """Raise ValueError where a program observes values outside their support; masked ones may be anything.

    Only what follows from the data alone is known: not a support that depends on latent values or params. The program
    is traced once, on `size` rows; all of its log-densities are dead code.
    """
    seen: dict[str, Any] = {}

    def inside(args: tuple, kwargs: dict) -> dict[str, Any]:
        with numpyro.handlers.block(), Marks(), numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
            program(*args, **kwargs)
        seen.update({site: trace[site]["fn"] for site in trace if trace[site].get("is_observed")})
        return {site: (_inside(fn, trace[site]["value"]), trace[site]["value"]) for site, fn in seen.items()}

    rows = jax.tree.leaves(data)[0].shape[0]
    part = lambda start: jax.tree.map(lambda x: x[start : start + size], data)
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


def _inside(fn: dist.Distribution, value: Any) -> jax.Array:
    """Where a value lies in the support, as an array of the batch shape, or is masked."""
    if isinstance(fn, dist.MaskedDistribution):
        return _inside(fn.base_dist, value) | ~jnp.asarray(fn._mask, bool)
    if isinstance(fn, dist.ExpandedDistribution):
        return _inside(fn.base_dist, value)
    if isinstance(fn, dist.Independent):
        inner = _inside(fn.base_dist, value)
        return inner.all(tuple(range(-fn.reinterpreted_batch_ndims, 0)))
    unknown = fn.support is None or isinstance(fn.support, type(dist.constraints.dependent))
    return jnp.asarray(True if unknown else fn.support(value))
