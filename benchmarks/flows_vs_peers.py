"""The training step of an affine coupling flow beside its bare conditioner networks and beside flowjax.

    python benchmarks/flows_vs_peers.py [--rounds 100] [--json FILE]

All flows: D = 43, 5 affine couplings, conditioners 21 -> 256 -> 256 -> 44 with relu, batch 512, float32, optax.adam.

The bare networks are the very conditioners of the probgen flow (its weights, its module), each applied to 21 of the
43 columns, with the mean square of their outputs as the loss. "loop" has five separate trees of weights, as a
person would write who has no flow in mind; "scan" has them stacked, as the flow does. In both, every network's
gradient goes to its weights and, as in a flow, to its input (the next network's input is the sum of the
batch and a slice of the last output), since a flow's layers cannot run side by side either. The reference is the loop.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flowjax.distributions
import flowjax.flows
import jax
import jax.numpy as jnp
import optax
import paramax
from flowjax.train.losses import MaximumLikelihoodLoss
from flowjax.train.train_utils import step as flowjax_step
from jax import Array, lax
from pairing import Turns, compile_seconds, environment, paired, show, write_json

import probgen

DIM, LAYERS, HIDDEN, BATCH = 43, 5, (256, 256), 512
OPTIMIZER = optax.adam(1e-3)
REFERENCE = "networks alone (loop)"


def trainer(loss: Callable[[Any, Array], Array], params: Any, x: Array) -> Callable[[], Array]:
    """One step of jitted, donated, hand-written training at a time; the params stay inside."""

    def step(params: Any, opt_state: Any, x: Array) -> tuple[Any, Any, Array]:
        value, grads = jax.value_and_grad(loss)(params, x)
        updates, opt_state = OPTIMIZER.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    compiled = jax.jit(step, donate_argnums=(0, 1))
    state = jax.tree.map(jnp.copy, (params, OPTIMIZER.init(params)))

    def call() -> Array:
        nonlocal state
        *state, value = compiled(*state, x)
        return value

    return call


def probgen_trainer(flow: Any, x: Array) -> Callable[[], Array]:
    params, rest = probgen.partition(flow)
    return trainer(lambda params, x: -probgen.combine(params, rest).log_prob(x).mean(), params, x)


def conditioners(flow: Any) -> Any:
    """The stacked networks inside `real_nvp`."""
    couplings = flow.bijector.bijectors[1].layers
    return couplings.bijectors[0].conditioner


def networks_trainer(flow: Any, x: Array, *, scan: bool) -> Callable[[], Array]:
    params, rest = probgen.partition(conditioners(flow))
    inputs = DIM // 2

    def apply(h: Array, params: Any) -> tuple[Array, Array]:
        out = jax.vmap(probgen.combine(params, rest))(h)
        return x[:, :inputs] + out[:, :inputs], jnp.mean(out**2)

    def loss(params: Any, x: Array) -> Array:
        h = x[:, :inputs]
        if scan:
            return jnp.sum(lax.scan(apply, h, params)[1])
        total = 0.0
        for one in params:
            h, value = apply(h, one)
            total += value
        return total

    separate = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(LAYERS)]
    return trainer(loss, params if scan else separate, x)


def flowjax_flow(key: Array) -> Any:
    base = flowjax.distributions.Normal(jnp.zeros(DIM))
    return flowjax.flows.coupling_flow(
        key, base_dist=base, flow_layers=LAYERS, nn_width=HIDDEN[0], nn_depth=len(HIDDEN)
    )  # its default transformer is the affine one


def flowjax_trainer(flow: Any, x: Array) -> Callable[[], Array]:
    """flowjax's own jitted step and loss, as `fit_to_data` calls them."""
    frozen = lambda leaf: isinstance(leaf, paramax.NonTrainable)
    params, static = eqx.partition(flow, eqx.is_inexact_array, is_leaf=frozen)
    state, loss = (params, OPTIMIZER.init(params)), MaximumLikelihoodLoss()

    def call() -> Array:
        nonlocal state
        *state, value = flowjax_step(
            state[0], static, x, optimizer=OPTIMIZER, opt_state=state[1], loss_fn=loss, key=None
        )
        return value

    return call


def flowjax_hand_trainer(flow: Any, x: Array) -> Callable[[], Array]:
    """flowjax's flow in the same hand-written step as ours, without `filter_jit` and with donation."""
    frozen = lambda leaf: isinstance(leaf, paramax.NonTrainable)
    params, static = eqx.partition(flow, eqx.is_inexact_array, is_leaf=frozen)
    return trainer(lambda p, x: -paramax.unwrap(eqx.combine(p, static)).log_prob(x).mean(), params, x)


def evaluators(flow: Any, peer: Any, x: Array, key: Array) -> dict[str, dict[str, Callable[[], Array]]]:
    peer_params, peer_static = eqx.partition(peer, eqx.is_array)
    log_prob = jax.jit(lambda f, x: f.log_prob(x))
    sample = jax.jit(lambda f, key: f.sample(key, (BATCH,)))
    peer_log_prob = jax.jit(lambda p, x: eqx.combine(p, peer_static).log_prob(x))
    peer_sample = jax.jit(lambda p, key: eqx.combine(p, peer_static).sample(key, (BATCH,)))
    return {
        "log_prob": {"probgen": lambda: log_prob(flow, x), "flowjax": lambda: peer_log_prob(peer_params, x)},
        "sample": {"probgen": lambda: sample(flow, key), "flowjax": lambda: peer_sample(peer_params, key)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    flow_key, peer_key, data_key, sample_key = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(data_key, (BATCH, DIM))
    flow = probgen.flows.real_nvp(DIM, layers=LAYERS, hidden=HIDDEN, key=flow_key)
    peer = flowjax_flow(peer_key)
    groups: dict[str, tuple[str, dict[str, Callable[[], Array]]]] = {
        "training step": (
            REFERENCE,
            {
                REFERENCE: networks_trainer(flow, x, scan=False),
                "networks alone (scan)": networks_trainer(flow, x, scan=True),
                "probgen": probgen_trainer(flow, x),
                "flowjax (its step)": flowjax_trainer(peer, x),
                "flowjax (hand-written step)": flowjax_hand_trainer(peer, x),
            },
        )
    }
    groups |= {name: ("flowjax", calls) for name, calls in evaluators(flow, peer, x, sample_key).items()}
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment("flowjax"), "tables": {}}
    measured: dict[str, Turns] = {}
    print(f"{report['command']}\n{report['environment']}")
    for title, (reference, calls) in groups.items():
        compiling = {name: compile_seconds(call) for name, call in calls.items()}
        turns = paired(calls, rounds=args.rounds, steps=args.steps)
        timings = {name: turns.timing(name, to=reference) for name in calls}
        show(f"{title}, D={DIM}, {LAYERS} layers, hidden {HIDDEN}, batch {BATCH}", timings, reference)
        print("compile seconds: " + ", ".join(f"{name} {s:.2f}" for name, s in compiling.items()))
        report["tables"][title] = {n: {**t._asdict(), "compile_s": compiling[n]} for n, t in timings.items()}
        measured[title] = turns
    step = measured["training step"]
    report["targets"] = {
        "probgen / networks alone (at most 1.1)": step.timing("probgen", to=REFERENCE).ratio,
        "probgen / flowjax (at most 1)": step.timing("probgen", to="flowjax (its step)").ratio,
    }
    print("\n" + "\n".join(f"{name}: {value:.3f}" for name, value in report["targets"].items()))
    write_json(args.json, report)


if __name__ == "__main__":
    main()
