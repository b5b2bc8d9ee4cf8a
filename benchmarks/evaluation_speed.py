"""What `evaluation.evaluate` costs beside a jitted loop written by hand, and its memory at 10⁴ and 10⁵ rows.

    python benchmarks/evaluation_speed.py
    python benchmarks/evaluation_speed.py --rounds 20 --rows 20000

Throughput: both take their turn in every round on the same rows in the same blocks, `evaluate` with its checks of the
rows, and without compilation, as the loop; medians of the ratios per round with their quartiles. Memory: peak resident
memory of a fresh process for each number of rows, which take no memory of their own.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import probgen
from probgen.distributions.events import rows_where_they_are
from probgen.evaluation import evaluate
from probgen.evaluation.likelihood import row_by_row

DIM = 64


def models() -> dict[str, tuple[Any, int]]:
    """Return models that take little and much for a row, and the rows of a block."""
    key = jax.random.key(0)
    return {
        "histogram, blocks of 128": (probgen.mixtures.histogram((DIM,), 16), 128),
        "maf 2×64, blocks of 128": (probgen.flows.maf(DIM, layers=2, hidden=(64,), key=key), 128),
        "maf 5×256, blocks of 512": (probgen.flows.maf(DIM, layers=5, hidden=(256, 256), key=key), 512),
        "vae, 16 particles, blocks of 128": (
            probgen.latent.vae((DIM,), 16, latent_dim=8, hidden=(64,), key=key),
            128,
        ),
    }


def rows_of(model: Any, count: int) -> np.ndarray:
    """Return rows that the model takes."""
    rng = np.random.default_rng(0)
    if model.support.is_discrete:
        return rng.integers(0, 16, (count, DIM), dtype=np.int32)
    return rng.normal(size=(count, DIM)).astype(np.float32)


def by_hand(model: Any, key: jax.Array, particles: int, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the loop that one would write."""

    @jax.jit
    def block(model: Any, key: jax.Array, x: Any) -> jax.Array:
        return model.log_prob_bound(key, x, particles)

    return lambda x: np.concatenate([np.asarray(block(model, key, x[i : i + size])) for i in range(0, len(x), size)])


def by_evaluate(model: Any, key: jax.Array, particles: int, size: int, *, checks: bool) -> Callable:
    """Return what `evaluate` does, with or without its look at the rows, compiled once: a call compiles anew."""
    block = row_by_row._compiled(model, key, particles)

    def loop(x: np.ndarray) -> np.ndarray:
        rows = rows_where_they_are("data", model, x) if checks else (x,)
        return np.concatenate(list(row_by_row._in_order(block, rows, size)))

    return loop


def throughput(rounds: int, count: int) -> None:
    """Print rows a second by hand, and the ratios of `evaluate` to it, whole and without the checks of the rows."""
    key = jax.random.key(1)
    print(f"| {count:,} rows of {DIM} numbers | by hand, rows/s | evaluate | without checks | of processor time |")
    print("|---|---|---|---|---|")
    for name, (model, size) in models().items():
        particles = 1 if model.exact else 16
        x = rows_of(model, count - count % size)
        loops = [
            by_hand(model, key, particles, size),
            by_evaluate(model, key, particles, size, checks=True),
            by_evaluate(model, key, particles, size, checks=False),
        ]
        first, second, _ = (loop(x) for loop in loops)  # compiles
        if model.exact and not np.allclose(first, second, rtol=1e-4, atol=1e-3):
            raise RuntimeError(f"{name}: the values differ")
        times = np.array([[_seconds(loop, x) for loop in loops] for _ in range(rounds)])  # [rounds, loops, clocks]
        ratios = [times[:, 0, clock] / times[:, i, clock] for i, clock in ((1, 0), (2, 0), (1, 1))]
        quartiles = [np.quantile(ratio, [0.5, 0.25, 0.75]) for ratio in ratios]
        words = [f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in quartiles]
        print(f"| {name} | {len(x) / np.median(times[:, 0, 0]):,.0f} | {' | '.join(words)} |", flush=True)


def _seconds(run: Callable[[np.ndarray], Any], x: np.ndarray) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    run(x)
    return time.perf_counter() - clock, time.process_time() - processor


def memory(counts: list[int]) -> None:
    """Print the peak resident memory of evaluations."""
    print("\n| rows | peak resident memory, MB |\n|---|---|")
    for count in counts:
        run = subprocess.run(
            [sys.executable, __file__, "--one", str(count)], capture_output=True, text=True, check=True
        )
        print(f"| {count:,} | {float(run.stdout):.0f} |", flush=True)


def one(count: int) -> None:
    """Print the peak resident memory of this process; rows overlap, and take no memory of their own."""
    model = probgen.flows.maf(DIM, layers=2, hidden=(64,), key=jax.random.key(0))
    numbers = np.random.default_rng(0).normal(size=count + DIM - 1).astype(np.float32)
    evaluate(model, np.lib.stride_tricks.sliding_window_view(numbers, DIM), batch_size=512, progress=False)
    status = Path("/proc/self/status").read_text()  # (getrusage's would begin with that of the process that started it)
    print(int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1)) / 1e3)


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--one", type=int, metavar="ROWS", help="evaluate so many rows, print peak memory")
    parser.add_argument("--memory", action="store_true", help="the memory alone")
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return
    if not options.memory:
        throughput(options.rounds, options.rows)
    memory([10_000, 100_000, 1_000_000])


if __name__ == "__main__":
    main()
