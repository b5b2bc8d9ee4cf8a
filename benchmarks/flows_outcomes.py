"""What a contest hands back, and how one is run and printed."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flows_architecture import Contender
from pairing import Turns, compile_seconds, paired, show


class Target(NamedTuple):
    """What was to be reached, and what was measured."""

    what: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """False where the measurement is not a number."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


class Outcome(NamedTuple):
    """A contest's title, its measurements (for the JSON file) and the targets that it speaks to."""

    title: str
    measured: dict[str, Any]
    targets: list[Target]


def contest(
    title: str, contenders: Mapping[str, Contender], *, reference: str, rounds: int, steps: int
) -> tuple[Turns, dict[str, Any]]:
    """Time the contenders in turns and print two tables: times, and what was timed.

    Everyone's turn follows a pause of 2 ms, in which the threads of the one before, which wait in a busy loop for more
    work, fall asleep. The last value is a step's loss, or a mean of draws or densities: a sign of life, since not all
    stand at the same batch.
    """
    first = {name: compile_seconds(contender.call) for name, contender in contenders.items()}
    calls: dict[str, Any] = {}
    for name, contender in contenders.items():
        calls |= {f"pause before {name}": lambda: time.sleep(0.002), name: contender.call}
    turns = paired(calls, rounds=rounds, steps=steps)
    timings = {name: turns.timing(name, to=reference) for name in contenders}
    show(title, timings, reference)
    print(f"{'':34s}{'parameters':>12s}{'first call, s':>15s}{'last value':>12s}")
    measured = {}
    for name, contender in contenders.items():
        value = float(np.mean(np.asarray(jax.device_get(contender.call()))))
        print(f"{name:34s}{contender.parameters:12d}{first[name]:15.2f}{value:12.3f}  {contender.note}")
        facts = {"parameters": contender.parameters, "first_call_s": first[name], "value": value}
        measured[name] = {**timings[name]._asdict(), **facts, "note": contender.note}
    return turns, measured


def show_targets(targets: list[Target]) -> None:
    """Print what was to be reached beside what was."""
    print(f"\n{'target':84s}{'measured':>10s}{'':>4s}{'limit':>8s}  met")
    for t in targets:
        sign = "≥" if t.at_least else "≤"
        print(f"{t.what:84s}{t.measured:10.3g}{sign:>4s}{t.limit:8.3g}  {'yes' if t.met else 'NO'}")
