"""What is wrong with data is said before anything compiles, in one sentence."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen.distributions import Distribution


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
    host = x if isinstance(x, jax.Array) else np.asarray(x)
    if host.dtype == object or host.dtype.kind in "USMm":
        raise ValueError(f"{name}: expected numbers, got dtype {host.dtype}")
    if jnp.issubdtype(host.dtype, jnp.floating):
        finite = np.isfinite(np.asarray(host))
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0]) if host.ndim else 0
            raise ValueError(f"{name}: expected finite numbers, got {host[row][~finite[row]].ravel()[0]} in row {row}")
    elif jnp.issubdtype(host.dtype, jnp.integer) and host.dtype.itemsize < 4:
        host = host.astype(np.int32)  # arithmetic on small integers would wrap around
    return jnp.asarray(host)


def check_events(name: str, model: Distribution, x: jax.Array) -> None:
    """Raise ValueError where rows x are no events of the model: shape, dtype or support."""
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
