"""Are the elements of a plate as independent as the plate says? By changing one of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.inference.engine.plan import Plan
from probgen.inference.engine.surrogate import Run

_TRIES = 8


def mixed_plates(
    plan: Plan, run: Callable[[Array, dict[str, Any]], Run], key: Array, guide_trace: dict[str, Any]
) -> list[tuple[str, str, str]]:
    """Return (site, plate, term) where changing the site's first element of a plate moves a term at another element.

    Costs are summed plate by plate, so that such a program gets a wrong gradient, of any objective that trusts its
    plates.

    Args:
        plan: the traced program.
        run: `(key, values) -> run`, one particle at given values of its sites.
        key: of the runs.
        guide_trace: a run of the guide.

    Sites whose gradient is a path need no plates, and are not tried.
    """
    found = []
    values = {name: guide_trace[name]["value"] for name in plan.graph.sites}
    for name, site in plan.graph.sites.items():
        estimator = plan.choices[name].estimator
        if not (estimator.scored or name in plan.supports) or site.scanned:
            continue
        for frame in site.frames:
            changed = _changed(guide_trace[name]["fn"], values[name], frame.dim, key)
            if changed is None or frame.size < 2:
                continue
            before, after = run(key, values).terms, run(key, {**values, name: changed}).terms
            for term in before:
                if frame in plan.graph.frames[term] and _moves_elsewhere(before[term], after[term], frame.dim):
                    found.append((name, frame.name, term[1]))
    return found


def _changed(fn: Any, value: Array, dim: int, key: Array) -> Array | None:
    """Return the value with another draw in place of the first element along a plate; None if all draws are the
    same."""
    axis = dim - fn.event_dim + value.ndim
    first = (slice(None),) * axis + (0,)
    for i in range(_TRIES):
        other = fn.sample(jax.random.fold_in(key, i))
        if not np.array_equal(other[first], value[first]):
            return value.at[first].set(other[first])
    return None


def _moves_elsewhere(before: Array, after: Array, dim: int) -> bool:
    rest = lambda x: np.asarray(jnp.take(x, jnp.arange(1, x.shape[dim]), axis=dim))
    return not np.allclose(rest(before), rest(after), rtol=1e-4, atol=1e-5, equal_nan=True)
