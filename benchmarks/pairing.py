"""Paired timing: the contenders take turns in every round, so that a busy machine slows all of them alike."""

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """Medians over the rounds: `ms` of a step, and `ratio` of a round's time to the reference's in the same round.

    `low` and `high` are the quartiles of the per-round ratios: what the median is worth. `best` is the least ms.
    """

    ms: float
    best: float
    ratio: float
    low: float
    high: float


class Turns(NamedTuple):
    """Seconds of a step by contender and round."""

    seconds: dict[str, list[float]]

    def timing(self, name: str, *, to: str) -> Timing:
        """One contender beside another."""
        times = self.seconds[name]
        low, ratio, high = statistics.quantiles([t / r for t, r in zip(times, self.seconds[to])], n=4)
        return Timing(1e3 * statistics.median(times), 1e3 * min(times), ratio, low, high)


def compile_seconds(call: Callable[[], Any]) -> float:
    """Seconds of a first call: tracing, compiling and one step."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def paired(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 100,
    steps: int = 2,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Turns:
    """Time zero-argument callables in turns: rounds of A B C, B C A, …, each turn `steps` calls and one wait."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    gc.collect()
    gc.disable()
    try:
        for i in range(warmup + rounds):
            for name in names[i % len(names) :] + names[: i % len(names)]:  # another one begins each round
                began = clock()
                for _ in range(steps):
                    out = contenders[name]()
                jax.block_until_ready(out)
                seconds[name].append((clock() - began) / steps)
    finally:
        gc.enable()
    return Turns({name: times[warmup:] for name, times in seconds.items()})


def show(title: str, timings: Mapping[str, Timing], reference: str) -> None:
    """Print one table."""
    print(f"\n{title}\n{'':34s}{'ms':>11s}{'best':>11s}{'ratio':>9s}  quartiles   (ratio to: {reference})")
    for name, t in timings.items():
        print(f"{name:34s}{t.ms:11.3f}{t.best:11.3f}{t.ratio:9.3f}  {t.low:.3f} to {t.high:.3f}")


def environment(*packages: str) -> dict[str, str]:
    """Versions and the machine, for the head of a report."""
    found = {name: version(name) for name in ("jax", "jaxlib", "numpyro", "distrax", "equinox", "optax", *packages)}
    return {"python": platform.python_version(), "device": str(jax.devices()[0]), **found}


def write_json(path: str | None, report: Mapping[str, Any]) -> None:
    """Write a report where a path was given."""
    if path:
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
