"""An optimizer that takes no step it would regret."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from numpyro.infer.svi import SVIState


class Guarded(NamedTuple):
    """The state of a guarded optimizer: the inner one's, and whether the last step was taken."""

    inner: Any
    fine: Array


def guarded(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The optimizer, which leaves params and its own state alone from the first loss, gradient or update on that is
    not finite.

    That is decided before the params are written, so that they are written in place: to choose afterwards between old
    and new ones would take another pass over both.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Guarded:
        return Guarded(optimizer.init(params), jnp.array(True))

    def update(gradient: Any, state: Guarded, params: Any = None, *, value: Array, **extra: Any) -> tuple[Any, Guarded]:
        updates, inner = optimizer.update(gradient, state.inner, params, value=value, **extra)
        fine = state.fine & jnp.isfinite(value) & _all_finite(gradient) & _all_finite(updates)
        chosen = lambda new, old: jax.tree.map(lambda n, o: jnp.where(fine, n, o), new, old)
        updates = jax.tree.map(lambda u: jnp.where(fine, u, jnp.zeros_like(u)), updates)
        return updates, Guarded(chosen(inner, state.inner), fine)

    return optax.GradientTransformationExtraArgs(init, update)


def was_fine(optim_state: Any) -> Array:
    """Whether the last step was taken, out of the optimizer's state as numpyro keeps it."""
    _, (_, state) = optim_state
    return state.fine


def without_guard(state: SVIState) -> SVIState:
    """The state as `SVI` with the user's own optimizer has it, to go on with."""
    count, (params, guard) = state.optim_state
    return state._replace(optim_state=(count, (params, guard.inner)))


def _all_finite(tree: Any) -> Array:
    """Whether every number is finite: a sum per leaf is enough, since NaN and infinity survive it."""
    leaves = [jnp.sum(leaf) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.all(jnp.isfinite(jnp.stack(leaves))) if leaves else jnp.array(True)
