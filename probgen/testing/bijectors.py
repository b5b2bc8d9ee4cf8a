"""The laws of bijectors."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from probgen.testing.law import require, require_close


def check_bijector(bijector: Any, x: Array, *, tolerance: float = 1e-4) -> None:
    """Check the round trip, log-determinants against autodiff and against each other, shapes under leading axes and
    `vmap`.

    Args:
        bijector: to be checked.
        x: ONE event in its domain.
        tolerance: relative, for float32.

    >>> import jax.numpy as jnp
    >>> from probgen.bijectors import Sigmoid
    >>> check_bijector(Sigmoid(), jnp.array(0.3))
    """
    x = jnp.asarray(x)

    @jax.jit
    def facts(b: Any, x: Array) -> dict[str, Array]:
        y, forward = b.forward_and_log_det(x)
        back, inverse = b.inverse_and_log_det(y)
        jacobian = jax.jacobian(b.forward)(x).reshape(y.size, x.size)
        batch, batch_log_det = b.forward_and_log_det(jnp.stack([x, x])[:, None])
        return {
            "y": y, "back": back, "forward": forward, "inverse": inverse, "batch": batch,
            "batch_log_det": batch_log_det, "autodiff": jnp.linalg.slogdet(jacobian)[1],
        }  # fmt: skip

    f = facts(bijector, x)
    require("shape of forward", f["y"].shape == bijector.forward_shape(x.shape), f"{f['y'].shape}")
    require("rank of forward", f["y"].ndim - x.ndim == bijector.event_ndims_out - bijector.event_ndims_in, "")
    require_close("round trip", f["back"], x, tolerance)
    require_close("log_det = autodiff", jnp.sum(f["forward"]), f["autodiff"], tolerance)
    require_close("inverse log_det = −log_det", f["inverse"], -f["forward"], tolerance)
    require_close("leading axes", f["batch"], jnp.broadcast_to(f["y"], f["batch"].shape), tolerance)
    require_close(
        "log_det over leading axes",
        f["batch_log_det"],
        jnp.broadcast_to(f["forward"], f["batch_log_det"].shape),
        tolerance,
    )
    require("shape of log_det", f["batch_log_det"].shape[:2] == (2, 1), f"{f['batch_log_det'].shape}")
