"""Steps and draws in JAX: probgen's flows, and the conditioner networks that they are made of without any flow."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flows_architecture import BATCH, BINS, BOUND, RATE, Architecture, Contender
from jax import Array

import probgen
from probgen import flows
from probgen.core import count_parameters
from probgen.networks import MLP

OPTIMIZER = optax.adam(RATE)
RECIPES: dict[str, Callable[..., Any]] = {
    "coupling-affine": flows.real_nvp,
    "maf": flows.maf,
    "coupling-spline": flows.nsf,
    "maf-spline": functools.partial(flows.nsf, passes=None),
}


def hand_written_step(
    loss: Callable[[Any, Array], Array], params: Any, batches: Sequence[np.ndarray]
) -> Callable[[], Array]:
    """A jitted, donated step of Adam on the next batch at each call; the parameters stay inside."""

    def step(params: Any, opt_state: Any, x: Array) -> tuple[Any, Any, Array]:
        value, grads = jax.value_and_grad(loss)(params, x)
        updates, opt_state = OPTIMIZER.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    compiled = jax.jit(step, donate_argnums=(0, 1))
    state = jax.tree.map(jnp.copy, (params, OPTIMIZER.init(params)))
    turns = itertools.cycle(jax.device_put(batches))

    def call() -> Array:
        nonlocal state
        *state, value = compiled(*state, next(turns))
        return value

    return call


def probgen_flow(architecture: Architecture, key: Array) -> Any:
    """The recipe as a user calls it."""
    spline = {"bins": BINS, "interval": (-BOUND, BOUND)} if architecture.spline else {}
    recipe = RECIPES[architecture.kind]
    return recipe(architecture.dim, layers=architecture.layers, hidden=architecture.hidden, key=key, **spline)


def probgen_step(architecture: Architecture, batches: Sequence[np.ndarray], key: Array) -> Contender:
    """Maximum likelihood."""
    flow = probgen_flow(architecture, key)
    params, rest = probgen.partition(flow)
    loss = lambda params, x: -probgen.combine(params, rest).log_prob(x).mean()
    return Contender(hand_written_step(loss, params, batches), count_parameters(flow))


def networks_step(architecture: Architecture, batches: Sequence[np.ndarray], key: Array) -> Contender:
    """The conditioners alone, dense, with the mean square of their outputs as the loss.

    In a coupling these are the very networks of probgen's flow; in a MAF they are networks of the same widths without
    masks. Each has its own tree of weights, in a loop, as one would write who has no flow in mind. Every network's
    gradient goes to its weights and, as in a flow, to its input: the next one's is the sum of the batch and a slice of
    the last output, since a flow's layers cannot run side by side either.
    """
    inputs, outputs = architecture.sizes
    build = lambda key: MLP(inputs, outputs, hidden=architecture.hidden, activation=jax.nn.relu, key=key)
    networks = [build(key) for key in jax.random.split(key, architecture.layers)]
    params, rest = probgen.partition(networks)

    def loss(params: Any, x: Array) -> Array:
        h, total = x[:, :inputs], jnp.zeros(())
        for network in probgen.combine(params, rest):
            out = jax.vmap(network)(h)
            h, total = x[:, :inputs] + out[:, :inputs], total + jnp.mean(out**2)
        return total

    return Contender(hand_written_step(loss, params, batches), count_parameters(networks))


def probgen_sampler(flow: Any, key: Array, *, size: int = BATCH) -> Contender:
    """Draws of a flow."""
    sample = jax.jit(lambda flow, key: flow.sample(key, (size,)))
    return Contender(lambda: sample(flow, key), count_parameters(flow))


def probgen_density(flow: Any, x: Array) -> Contender:
    """Log-densities of a flow."""
    log_prob = jax.jit(lambda flow, x: flow.log_prob(x))
    return Contender(lambda: log_prob(flow, x), count_parameters(flow))
