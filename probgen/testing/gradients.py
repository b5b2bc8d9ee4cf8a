"""The laws of what learns."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import combine, partition
from probgen.testing.law import require


def check_learnable(model: Any, loss: Any) -> None:
    """Check that every learnable leaf gets a finite gradient that is not zero.

    Args:
        model: any model.
        loss: `loss(model) -> scalar`.

    >>> import jax.numpy as jnp
    >>> from probgen.bijectors import Affine
    >>> check_learnable(Affine(jnp.zeros(2), jnp.zeros(2)), lambda b: b.forward_and_log_det(jnp.ones(2))[0].sum())
    """
    params, rest = partition(model)
    for path, gradient in jax.jit(jax.grad(lambda p: loss(combine(p, rest))))(params).items():
        require("finite gradient", np.isfinite(gradient), f"leaf {path!r}")
        require("gradient reaches every leaf", np.any(np.asarray(gradient) != 0), f"leaf {path!r} gets none")


def check_gradients(
    model: Any, function: Any, *values: Any, step: float = 1e-5, tolerance: float = 1e-5
) -> dict[str, float]:
    """Check that gradients are right, of every learned leaf of a model and of every value, against central differences,
    and return ⟨∇f, v⟩ under the path of each leaf, and of values under "value 0" and so on.

        ⟨∇f, v⟩ = (f(θ + h v) − f(θ − h v)) / 2h   for a random direction v in each leaf, in float64

    Args:
        model: any model.
        function: `function(model, *values) -> scalar`, smooth at the model's numbers and deterministic (a density of
            fixed data, a weighted sum of draws of a fixed key).
        values: arrays of floats, such as events and contexts.
        step: h.
        tolerance: of the difference, relative to 1 + |⟨∇f, v⟩|.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.bijectors import Affine
    >>> affine = Affine(jnp.ones(2), jnp.zeros(2))
    >>> found = check_gradients(affine, lambda b, x: jnp.sum(b.forward(x) ** 2), jnp.array([0.3, 2.0]))
    >>> list(found)
    ['shift', 'log_scale', 'value 0']
    >>> check_gradients(affine, lambda b, x: jnp.sum(jax.lax.stop_gradient(b).forward(x)), jnp.array([0.3, 2.0]))
    Traceback (most recent call last):
    AssertionError: gradient = central difference: leaf ...: 0 and ...
    """
    with jax.enable_x64(True):
        model, values = jax.tree.map(_wide, (model, values))
        params, rest = partition(model)
        start = {**params, **{f"value {i}": value for i, value in enumerate(values)}}
        rng = np.random.default_rng(0)
        along = {path: rng.normal(size=leaf.shape) for path, leaf in start.items()}

        def moved(sizes: Array) -> Array:
            new = {p: leaf + size * along[p] for size, (p, leaf) in zip(sizes, start.items(), strict=True)}
            new_values = [new.pop(f"value {i}") for i in range(len(values))]
            return function(combine(new, rest), *new_values)

        both = jax.jit(jax.value_and_grad(moved))  # one program for both, since compiling is what takes time
        gradient = both(jnp.zeros(len(start)))[1].tolist()
        for path, found, h in zip(start, gradient, step * np.eye(len(start)), strict=True):
            right = float(both(h)[0] - both(-h)[0]) / (2 * step)
            fine = abs(found - right) <= tolerance * (1 + abs(right))
            require("gradient = central difference", fine, f"leaf {path!r}: {found:.6g} and {right:.6g}")
        return dict(zip(start, gradient, strict=True))


def _wide(leaf: Any) -> Any:
    is_float = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(np.asarray(leaf, np.float64)) if is_float else leaf  # (by NumPy, which compiles nothing)
