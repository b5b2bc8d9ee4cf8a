"""Splines of wild raw numbers and at wild points: how many values and gradients are not finite.

A probe is one spline of 8 bins, of raw numbers drawn from Normal(0, sd²), at one point: within the interval, at its
ends, just beside them, or far away. It fails where the value, the log-slope, or a derivative of their sum with respect
to the point or to a raw number is not finite. Each library's splines have as many raw numbers as its conditioners give.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flows_architecture import BINS, BOUND
from flows_outcomes import Outcome, Target
from jax import Array

from probgen.bijectors import Spline

PROBES, SDS = 4096, (1.0, 10.0, 50.0)
Map = Callable[[Array, Array], tuple[Array, Array]]


def points(rng: np.random.Generator) -> np.ndarray:
    """A point for each probe."""
    ends = np.array([-BOUND, BOUND], np.float32)
    beside = np.concatenate([ends, np.nextafter(ends, np.float32(np.inf)), np.nextafter(ends, np.float32(-np.inf))])
    special = np.concatenate([beside, [-4.0, 4.0, -1e3, 1e3, -1e8, 1e8]]).astype(np.float32)
    inside = rng.uniform(-BOUND, BOUND, PROBES // 2).astype(np.float32)
    return np.concatenate([inside, np.resize(special, PROBES - len(inside))])


def failures(one: Map, raw: Array, x: Array) -> tuple[int, int]:
    """Probes whose value or log-slope is not finite, and those of which a gradient is not."""

    @jax.jit
    @jax.vmap
    def probe(raw: Array, x: Array) -> tuple[Array, Array]:
        finite = lambda *numbers: jnp.all(jnp.array([jnp.all(jnp.isfinite(n)) for n in numbers]))
        gradients = jax.grad(lambda raw, x: sum(one(raw, x)), argnums=(0, 1))(raw, x)
        return finite(*one(raw, x)), finite(*gradients)

    values, gradients = probe(raw, x)
    return int(jnp.sum(~values)), int(jnp.sum(~gradients))


def libraries(peers: list[str]) -> dict[str, tuple[int, dict[str, Map]]]:
    """Of each library the numbers of a spline, and its two directions as maps of (raw numbers, point)."""
    spline = lambda raw: Spline(raw, interval=(-BOUND, BOUND))
    ours: dict[str, Map] = {
        "forward": lambda raw, x: spline(raw).forward_and_log_det(x),
        "inverse": lambda raw, y: spline(raw).inverse_and_log_det(y),
    }
    found = {"probgen": (3 * BINS - 1, ours)}
    if "flowjax" in peers:
        import flows_flowjax

        build, size = flows_flowjax.spline_of_raw_numbers()
        theirs: dict[str, Map] = {
            "forward": lambda raw, x: build(raw).transform_and_log_det(x),
            "inverse": lambda raw, y: build(raw).inverse_and_log_det(y),
        }
        found["flowjax"] = (size, theirs)
    return found


def contests(peers: list[str]) -> Iterator[Outcome]:
    """One table of all."""
    title = f"splines that are not finite, of {PROBES} probes"
    print(f"\n{title}\n{'':34s}{'sd':>5s}{'values':>9s}{'gradients':>11s}")
    measured: dict[str, Any] = {}
    worst = 0
    for name, (size, directions) in libraries(peers).items():
        for sd in SDS:
            rng = np.random.default_rng(0)
            x = jnp.asarray(points(rng))
            raw = jnp.asarray(sd * rng.standard_normal((PROBES, size)), jnp.float32)
            for direction, one in directions.items():
                values, gradients = failures(one, raw, x)
                print(f"{f'{name}, {direction}':34s}{sd:5.0f}{values:9d}{gradients:11d}")
                measured[f"{name}, {direction}, sd {sd:.0f}"] = {"values": values, "gradients": gradients}
                worst += values + gradients if name == "probgen" else 0
    yield Outcome(title, measured, [Target(f"probgen's splines that are not finite, sd to {max(SDS):.0f}", worst, 0)])
