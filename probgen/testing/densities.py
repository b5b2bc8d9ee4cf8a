"""The laws of distributions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import combine, partition
from probgen.testing.law import require, require_close


def check_pytree(model: Any, x: Array) -> None:
    """Check that plain `jit` takes the model, that leaves, paths and densities survive it, and that new values do not
    retrace.

    Args:
        model: an exact one.
        x: a batch of events.
    """
    traces: list[None] = []

    @jax.jit
    def log_prob(model: Any, x: Array) -> tuple[Any, Array]:
        traces.append(None)
        return model, model.log_prob(x)

    again, first = log_prob(model, x)
    changed = jax.tree.map(lambda leaf: leaf + jnp.zeros_like(leaf), again)
    log_prob(log_prob(changed, x)[0], x)
    require("no retrace on new values", len(traces) == 1, f"{len(traces)} traces")
    require("paths survive jit", list(partition(model)[0]) == list(partition(again)[0]), "")
    require_close("jit keeps the density", first, again.log_prob(x), 1e-5)


def check_normalized(model: Any, events: Array, *, volume: float = 1.0, tolerance: float = 1e-3) -> None:
    """Check that Σ p(x) · volume = 1 over events: all of a discrete support, or a fine grid.

    `evaluation.check_normalized` finds events by itself, or draws some, and says how sure its total is.

    Args:
        model: an exact one.
        events: [N, *event_shape].
        volume: of a cell of the grid; 1 for integers.
        tolerance: of the sum.

    >>> import jax.numpy as jnp
    >>> from probgen.mixtures import histogram
    >>> check_normalized(histogram((), 4), jnp.arange(4))
    """
    total = jnp.exp(jax.nn.logsumexp(jax.jit(lambda m, x: m.log_prob(x))(model, events))) * volume
    require("the density is normalized", abs(float(total) - 1) <= tolerance, f"it sums to {float(total):.6f}")


def check_samples(model: Any, *, key: Array, num: int = 4096, z: float = 4.5) -> None:
    """Check that samples agree with the density, by E_p[∂ log p / ∂θ] = 0 for every learnable number θ at once.

    The score of a right density has mean zero under its own samples; each mean is held against its standard error, by
    one `z` for all numbers: chance alone is beyond 4.5 once in 150,000.

    Args:
        model: an exact one with learnable floats.
        key: draws the samples.
        num: how many.
        z: the largest |z| that is let pass.
    """
    params, rest = partition(model)

    @jax.jit
    def z_scores(params: Any) -> tuple[Array, Array]:
        draws = combine(params, rest).sample(key, (num,))
        scores = jax.vmap(jax.grad(lambda p, x: combine(p, rest).log_prob(x)), in_axes=(None, 0))(params, draws)
        flat = jnp.concatenate([leaf.reshape(num, -1) for leaf in jax.tree.leaves(scores)], axis=1)
        return flat.mean(0) / (flat.std(0) / jnp.sqrt(num) + 1e-6), flat.std(0)

    values, spread = z_scores(params)
    worst = float(np.max(np.abs(np.asarray(values)[np.asarray(spread) > 1e-4]), initial=0.0))
    require("samples agree with the density", worst <= z, f"a score has z = {worst:.1f}")
