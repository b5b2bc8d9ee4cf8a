"""flowjax's flows of the same architectures.

Their splines have 7 inner knots, which are the 8 bins of the others, and learn the slopes at both ends too: 25
numbers for a coordinate where the others have 23. Their base has a learned mean and scale, as probgen's flows have an
`ActNorm`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import flowjax.bijections
import flowjax.distributions
import flowjax.flows
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from flowjax.train.losses import MaximumLikelihoodLoss
from flowjax.train.train_utils import step as their_step
from flowjax.utils import get_ravelled_pytree_constructor
from flows_architecture import BATCH, BINS, BOUND, Architecture, Contender
from flows_jax import OPTIMIZER, hand_written_step
from jax import Array

is_frozen = lambda leaf: isinstance(leaf, paramax.NonTrainable)


def spline() -> Any:
    """The spline of `BINS` bins."""
    return flowjax.bijections.RationalQuadraticSpline(knots=BINS - 1, interval=BOUND)


def spline_of_raw_numbers() -> tuple[Callable[[Array], Any], int]:
    """What their conditioners do with their outputs: raw numbers of one coordinate → spline; and how many."""
    return get_ravelled_pytree_constructor(spline(), filter_spec=eqx.is_inexact_array, is_leaf=is_frozen)


def flow(architecture: Architecture, key: Array) -> Any:
    """Their recipe as a user calls it."""
    recipe = flowjax.flows.coupling_flow if architecture.coupling else flowjax.flows.masked_autoregressive_flow
    return recipe(
        key,
        base_dist=flowjax.distributions.Normal(jnp.zeros(architecture.dim)),
        transformer=spline() if architecture.spline else None,  # None: affine
        flow_layers=architecture.layers,
        nn_width=architecture.hidden[0],
        nn_depth=len(architecture.hidden),
    )


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def own_step(architecture: Architecture, batches: Sequence[np.ndarray], key: Array) -> Contender:
    """Their own jitted step and loss, as their `fit_to_data` calls them."""
    params, static = eqx.partition(flow(architecture, key), eqx.is_inexact_array, is_leaf=is_frozen)
    state, loss, count = (params, OPTIMIZER.init(params)), MaximumLikelihoodLoss(), 0
    on_device = jax.device_put(batches)

    def call() -> Array:
        nonlocal state, count
        x, count = on_device[count % len(on_device)], count + 1
        *state, value = their_step(state[0], static, x, optimizer=OPTIMIZER, opt_state=state[1], loss_fn=loss, key=None)
        return value

    return Contender(call, _count(params), "its own step")


def hand_step(architecture: Architecture, batches: Sequence[np.ndarray], key: Array) -> Contender:
    """Their flow in the same hand-written step as ours, without `filter_jit` and with donation."""
    params, static = eqx.partition(flow(architecture, key), eqx.is_inexact_array, is_leaf=is_frozen)
    loss = lambda params, x: -paramax.unwrap(eqx.combine(params, static)).log_prob(x).mean()
    return Contender(hand_written_step(loss, params, batches), _count(params), "in probgen's step")


def sampler(architecture: Architecture, key: Array, *, size: int = BATCH) -> Contender:
    """Draws, jitted."""
    params, static = eqx.partition(flow(architecture, key), eqx.is_array)
    sample = jax.jit(lambda params, key: eqx.combine(params, static).sample(key, (size,)))
    return Contender(lambda: sample(params, key), _count(eqx.filter(params, eqx.is_inexact_array)))
