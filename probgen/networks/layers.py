"""Equal layers, one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

_KEPT = "product"


def keep(y: Array) -> Array:
    """Return the same array, which `scan_layers` keeps for the gradient; products that JAX knows are kept anyway."""
    return checkpoint_name(y, _KEPT)


def normed(h: Array) -> Array:
    """Return h/rms(h), over the last axis.

    >>> import jax.numpy as jnp
    >>> normed(jnp.array([3.0, -3.0])).round(3).tolist()
    [1.0, -1.0]
    """
    return h * lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)


def scan_layers(one: Callable[[Any, Any], tuple[Any, Any]], h: Any, layers: Any) -> tuple[Any, Any]:
    """Return `lax.scan(one, h, layers)`, whose gradient keeps the products of each layer and computes again what lies
    between.

    On a CPU that takes 0.55 (attention) to 0.85 (gated convolutions) of the time that it takes to keep everything.

    >>> import jax.numpy as jnp
    >>> scan_layers(lambda h, w: (jnp.tanh(w @ h), None), jnp.ones(2), jnp.zeros((3, 2, 2)))[0]
    Array([0., 0.], dtype=float32)
    """
    policies = jax.checkpoint_policies
    kept = policies.save_from_both_policies(policies.dots_saveable, policies.save_only_these_names(_KEPT))
    return lax.scan(jax.checkpoint(one, policy=kept, prevent_cse=False), h, layers)
