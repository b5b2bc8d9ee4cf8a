"""Drawing from a MAF, whose inverse costs D passes when done naively: the time, and that the numbers are the same.

5 affine layers of 2×256, no gradients. probgen computes each hidden unit once; flowjax, zuko and nflows do D full
passes.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flows_architecture import BATCH, Architecture, Contender
from flows_jax import probgen_density, probgen_flow, probgen_sampler
from flows_outcomes import Outcome, Target, contest
from jax import Array

from probgen.bijectors import MaskedAutoregressive, pass_by_pass, step_by_step

CASES = [(64, BATCH), (64, 1), (256, BATCH)]  # numbers of dimensions and of draws at once
LAYERS, DENSITY = 5, "probgen log_prob"
MOST_OF_DENSITY, LEAST_OF_PEERS, SAME_NUMBERS = 3.0, 10.0, 1e-5


def contenders(architecture: Architecture, size: int, peers: list[str]) -> dict[str, Contender]:
    """Draws of `size` by every library, and probgen's density."""
    key = jax.random.key(0)
    flow = probgen_flow(architecture, key)
    x = jax.random.normal(key, (size, architecture.dim))
    found = {DENSITY: probgen_density(flow, x), "probgen": probgen_sampler(flow, key, size=size)}
    if "flowjax" in peers:
        import flows_flowjax

        found["flowjax"] = flows_flowjax.sampler(architecture, key, size=size)
    if torch_peers := [peer for peer in ("zuko", "nflows") if peer in peers]:
        import flows_torch

        found |= {peer: flows_torch.sampler(peer, architecture, size=size) for peer in torch_peers}
    return found


def contests(peers: list[str], cases: list[tuple[int, int]], *, rounds: int) -> Iterator[Outcome]:
    """Times by number of dimensions and of draws, and the agreement."""
    for dim, size in cases:
        architecture = Architecture("maf", dim, LAYERS)
        title = f"draws, {architecture}, {size} at once"
        found = contenders(architecture, size, peers)
        turns, measured = contest(title, found, reference="probgen", rounds=rounds, steps=1)
        targets = []
        if size > 1:
            others = [name for name in found if name in ("flowjax", "zuko")]
            ratios = {name: turns.timing(name, to="probgen").ratio for name in others}
            what = f"draws, D = {dim}, {size} at once: "
            targets = [Target(f"{what}{n} / probgen", r, LEAST_OF_PEERS, at_least=True) for n, r in ratios.items()]
            if dim == 64:
                ratio = turns.timing("probgen", to=DENSITY).ratio
                targets.insert(0, Target(f"{what}probgen / its log_prob", ratio, MOST_OF_DENSITY))
        yield Outcome(title, measured, targets)
    for dim in dict.fromkeys(dim for dim, _ in cases):
        yield agreement(Architecture("maf", dim, LAYERS))


def _with_inversion(flow: Any, invert: Callable[..., Any]) -> Any:
    """The flow with another way of inverting its masked layers."""
    is_masked = lambda part: isinstance(part, MaskedAutoregressive)
    change = lambda part: dataclasses.replace(part, invert=invert) if is_masked(part) else part
    return jax.tree.map(change, flow, is_leaf=is_masked)


def _stirred(flow: Any, key: Array, *, sd: float = 0.05) -> Any:
    """The flow with noise on all its numbers, so that it is far from the identity that it is born as.

    With twice the default, five layers take noise to 1e12 and more: a map that float32 cannot tell from its neighbours.
    """
    numbers, rest = jax.tree.flatten(flow)
    keys = jax.random.split(key, len(numbers))
    return jax.tree.unflatten(
        rest, [a + sd * jax.random.normal(k, a.shape) for a, k in zip(numbers, keys, strict=True)]
    )


def agreement(architecture: Architecture) -> Outcome:
    """Draws in the work of one pass beside draws by D passes of the same flow and noise, and the way x → z → x.

    Errors are the greatest ones, relative to 1 + |x|. How far the flow is from the identity is printed.
    """
    flow_key, stir_key, noise_key = jax.random.split(jax.random.key(1), 3)
    flow = _stirred(probgen_flow(architecture, flow_key), stir_key)
    noise = jax.random.normal(noise_key, (BATCH, architecture.dim))
    draw = jax.jit(lambda flow, z: flow.bijector.forward_and_log_det(z))
    x, log_det = draw(_with_inversion(flow, step_by_step), noise)
    by_passes, _ = draw(_with_inversion(flow, pass_by_pass), noise)
    z, back_log_det = jax.jit(lambda flow, x: flow.bijector.inverse_and_log_det(x))(flow, x)
    again, _ = draw(flow, z)
    error = lambda a, b: float(jnp.max(jnp.abs(a - b) / (1.0 + jnp.abs(b))))
    measured = {
        "step by step beside pass by pass": error(x, by_passes),
        "x → z → x": error(again, x),
        "z → x → z": error(z, noise),
        "log-determinants": error(-back_log_det, log_det),
    }
    title = f"agreement of draws, {architecture}"
    print(
        f"\n{title}, log-determinants {np.mean(log_det):.1f} ± {np.std(log_det):.1f}, |x| to {jnp.max(jnp.abs(x)):.3g}"
    )
    print("\n".join(f"{name:34s}{value:10.2e}" for name, value in measured.items()))
    what = f"draws, D = {architecture.dim}: step by step beside pass by pass"
    return Outcome(title, measured, [Target(what, measured["step by step beside pass by pass"], SAME_NUMBERS)])
