"""Inverses that have no closed form: safeguarded Newton steps, with the gradient of the equation that they solve."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

MAX_STEPS = 200


def invert_increasing(function: Callable[[Array], Array], y: Array, lower: Array, upper: Array) -> Array:
    """Return x with f(x) = y, number by number, for a function that increases in each of them.

    Newton's steps, and a bisection of [lower, upper] wherever one leaves the bracket or fails to halve it within three
    steps, until nothing moves any more. The gradient is that of the implicit function, to y and to everything that
    `function` closes over, of any order: ẋ = (ẏ − ḟ(x)) / f'(x).

    Args:
        function: f, elementwise on arrays of y's shape.
        y: the values, [...].
        lower: x's bracket from below, f(lower) ≤ y.
        upper: x's bracket from above, y ≤ f(upper).

    >>> import jax, jax.numpy as jnp
    >>> cube_root = lambda a, y: invert_increasing(lambda x: a * x**3, y, jnp.zeros_like(y), jnp.ones_like(y) + y)
    >>> round(float(jax.grad(cube_root)(1.0, jnp.array(8.0))), 4)  # x = (y/a)^⅓, dx/da = −x / 3a
    -0.6667
    """
    lower, upper = lax.stop_gradient((lower, upper))
    solve = lambda f, _: _newton(f, lower, upper)
    slope = lambda linear, b: b / jnp.maximum(linear(jnp.ones_like(b)), jnp.finfo(b.dtype).tiny)
    return lax.custom_root(lambda x: function(x) - y, 0.5 * (lower + upper), solve, slope)


def _newton(f: Callable[[Array], Array], lower: Array, upper: Array) -> Array:
    eps = jnp.finfo(lower.dtype).eps

    def more(state: Any) -> Array:
        step, *_, moving = state
        return jnp.any(moving) & (step < MAX_STEPS)

    def one(state: Any) -> Any:
        step, x, lower, upper, moving = state
        value, slope = jax.jvp(f, (x,), (jnp.ones_like(x),))
        lower, upper = jnp.where(value <= 0, x, lower), jnp.where(value >= 0, x, upper)
        newton = x - value / jnp.where(slope > 0, slope, 1.0)
        usable = (slope > 0) & (newton > lower) & (newton < upper) & (step % 4 < 3)
        new = jnp.where(usable, newton, 0.5 * (lower + upper))
        still = moving & (value != 0) & (jnp.abs(new - x) > 2 * eps * (1 + jnp.abs(x)))
        return step + 1, jnp.where(moving & (value != 0), new, x), lower, upper, still

    start = (jnp.array(0), 0.5 * (lower + upper), lower, upper, jnp.ones(lower.shape, bool))
    x: Array = lax.while_loop(more, one, start)[1]
    return x
