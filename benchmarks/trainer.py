"""What `probgen.fit` costs for a step, beside a hand-written, jitted optax loop on the same RealNVP.

    python benchmarks/trainer.py [--json FILE]

The hand-written loop is what one would write: a jitted, donated step of `optax.adam` on the mean negative
log-density of a minibatch, its rows gathered on the device from a permutation that is drawn every epoch. It runs
inside of `fit`: whenever a chunk of n steps is done and its losses are on the host, n steps of the loop are timed, and
then fit goes on. So the two take turns in one process, and every turn gives one ratio. fit is as users call it, with
its progress bar, its check for non-finite numbers, and its losses.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from pairing import Timing, Turns, environment, show, write_json

import probgen
import probgen.inference.training.fit as trainer
from probgen.inference.training.progress import Progress

OPTIMIZER = optax.adam(1e-3)
FIT = "probgen.fit"


class HandWritten:
    """The loop: `run(n)` takes n steps and waits for the last loss."""

    def __init__(self, flow: Any, x: Any, batch_size: int):
        params, rest = probgen.partition(flow)

        def step(params: Any, state: Any, x: Any, rows: Any) -> tuple[Any, Any, Any]:
            loss = lambda params: -probgen.combine(params, rest).log_prob(x[rows]).mean()
            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = OPTIMIZER.update(gradient, state)
            return optax.apply_updates(params, updates), state, value

        self.step = jax.jit(step, donate_argnums=(0, 1))
        self.state = jax.tree.map(jax.numpy.copy, (params, OPTIMIZER.init(params)))
        self.x, self.batch_size, self.epoch, self.batches = x, batch_size, 0, iter(())

    def run(self, steps: int) -> None:
        losses = []
        for _ in range(steps):
            rows = next(self.batches, None)
            if rows is None:
                order = np.random.default_rng(self.epoch).permutation(len(self.x))
                whole = len(order) // self.batch_size * self.batch_size
                self.batches, self.epoch = iter(order[:whole].reshape(-1, self.batch_size)), self.epoch + 1
                rows = next(self.batches)
            *self.state, loss = self.step(*self.state, self.x, rows)
            losses.append(loss)
        jax.block_until_ready(losses)


def beside_fit(
    model: Any,
    x: Any,
    others: Mapping[str, Callable[[int], Any]],
    *,
    clock: Callable[[], float] = time.perf_counter,
    **options: Any,
) -> tuple[Turns, list[int]]:
    """(seconds of a step, steps of each turn): whenever fit has done a chunk of steps, the others take as many."""
    seconds: dict[str, list[float]] = {name: [] for name in (FIT, *others)}
    chunks: list[int] = []

    class TakingTurns(Progress):
        mark = 0.0
        turns = 0

        def advance(self, steps: int, *args: Any) -> None:
            super().advance(steps, *args)
            marks = [self.mark, clock()]
            for run in others.values():
                run(steps)
                marks.append(clock())
            if self.turns >= 3:  # the first chunk compiles, and the next are short
                chunks.append(steps)
                for name, began, ended in zip(seconds, marks, marks[1:], strict=False):
                    seconds[name].append((ended - began) / steps)
            self.turns += 1
            self.mark = clock()

    trainer.Progress = TakingTurns  # type: ignore[misc]
    probgen.fit(model, x, **options)
    return Turns(seconds), chunks


def compare(dim: int, batch_size: int, layers: int, hidden: tuple[int, ...], steps: int) -> tuple[Turns, list[int]]:
    x = jax.random.normal(jax.random.key(0), (20_000, dim))
    flow = probgen.flows.real_nvp(dim, layers=layers, hidden=hidden, key=jax.random.key(1))
    hand = HandWritten(flow, x, batch_size)
    hand.run(3)
    options: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "optimizer": OPTIMIZER}
    return beside_fit(flow, x, {"hand-written loop": hand.run}, key=jax.random.key(2), **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment(), "cases": {}}
    print(f"{report['command']}\n{report['environment']}")
    cases = {
        "batch 512, D=43, 5 layers, 2×256 (at most 1.05)": (43, 512, 5, (256, 256), 3_000),
        "batch 32, D=8, 4 layers, 1×32 (at most 0.5)": (8, 32, 4, (32,), 60_000),
    }
    for name, case in cases.items():
        turns, chunks = compare(*case)
        timings: dict[str, Timing] = {who: turns.timing(who, to="hand-written loop") for who in turns.seconds}
        show(f"training step, {name}", timings, "hand-written loop")
        print(f"{len(chunks)} turns, of {statistics.median(chunks):.0f} steps in the median")
        report["cases"][name] = {who: timing._asdict() for who, timing in timings.items()}
    write_json(args.json, report)


if __name__ == "__main__":
    main()
