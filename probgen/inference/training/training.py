"""One training: chunks of steps until an end, and what happens between them."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from probgen.inference.training.checkpoint import Store, flattened, restored
from probgen.inference.training.clock import Clock
from probgen.inference.training.interrupt import Interrupt
from probgen.inference.training.loop import Carry, Loop
from probgen.inference.training.progress import Progress
from probgen.inference.training.result import TrainingStatus
from probgen.inference.training.rows import CHUNK
from probgen.inference.training.stream import Rows
from probgen.inference.training.watch import Watch

Callback = Callable[[TrainingStatus], Any]


class Training:
    """Steps from a carry on: `run(carry)` takes them, and `losses` and `carry` are what there is then.

    All that it looks at depends on the step alone, and a checkpoint is of what was before a look: so what a training
    that was interrupted finds is what it would have found.
    """

    def __init__(
        self,
        loop: Loop,
        watch: Watch,
        rows: Rows,
        total: int | None,
        clock: Clock,
        callback: Callback | None,
        bar: Progress,
        interrupt: Interrupt,
    ):
        self.loop, self.watch, self.rows, self.total, self.clock = loop, watch, rows, total, clock
        self.callback, self.bar, self.interrupt = callback, bar, interrupt
        self.done, self._losses, self._chunks = 0, [np.zeros(0, np.float32)], 0

    @property
    def losses(self) -> np.ndarray:
        """Of each step so far."""
        self._losses = [np.concatenate(self._losses)]
        return self._losses[0]

    def run(self, carry: Carry, store: Store | None) -> tuple[Carry, str]:
        """Take steps until there is a reason to stop, and return it, after those of the newest checkpoint."""
        if store is not None and (state := store.newest()) is not None:
            carry = self._resume(carry, state)
            if self.total is not None and self.done > self.total:
                raise ValueError(
                    f"steps: expected at least {self.done}, which the checkpoint has taken already, got {self.total}"
                )
        while (stopped := self._end(carry)) is None:
            carry, stopped = self._advance(carry, self._steps(store))
            if stopped is not None:
                break
            if store is not None and store.due(self.done):
                store.save(self.done, self._state(carry))
        if store is not None:
            store.save(self.done, self._state(carry))
        self.watch.look(carry, self.done)
        return carry, stopped

    def _end(self, carry: Carry) -> str | None:
        """Return why training ends here, having looked where it is time to."""
        if self.watch.due(self.done):
            self.watch.look(carry, self.done)
        if self.watch.has_lost_patience:
            return "patience"
        if self._is_called_off():
            return "callback"
        if self.total is not None and self.done >= self.total:
            return "finished"
        if self.interrupt.pending:
            return "interrupted"
        return "minutes" if self.clock.over else None

    def _is_called_off(self) -> bool:
        if self.callback is None or self.done == 0 or self.done % self.watch.every:
            return False
        loss = float(self.losses[-self.watch.every :].mean())
        return bool(self.callback(TrainingStatus(self.done, loss, self.watch.last, self.watch.metrics.latest)))

    def _steps(self, store: Store | None) -> int:
        steps = min(self.clock.chunk, self.watch.steps_until_next(self.done), self.rows.steps_until_next(self.done))
        if self.callback is not None:
            steps = min(steps, self.watch.every - self.done % self.watch.every)
        if store is not None:
            steps = min(steps, store.steps_until_next(self.done))
        return min(steps, CHUNK if self.total is None else self.total - self.done)

    def _advance(self, carry: Carry, steps: int) -> tuple[Carry, str | None]:
        """Take some steps; return what went wrong, too."""
        self.clock.start()
        carry, losses = self.loop.run(
            carry, self.rows.take(self.done), steps, lambda: self.interrupt.pending or self.clock.over
        )
        good = int(carry.step) - self.done
        self._losses.append(losses[:good])
        self.done += good
        self.bar.advance(good, losses[:good], self.watch.last, self.watch.metrics.numbers)
        self._chunks += 1
        self.clock.passed(len(losses), compiled=self._chunks == 1)
        return carry, _failure(losses[good], self.done + 1) if good < len(losses) else None

    def _state(self, carry: Carry) -> dict[str, np.ndarray]:
        return {**flattened("carry", carry), **self.watch.state(), **flattened("losses", self.losses)}

    def _resume(self, carry: Carry, state: Mapping[str, np.ndarray]) -> Carry:
        """Return the carry to go on from, given the first of all."""
        self._losses = [restored("losses", np.zeros(0, np.float32), state)]
        self.watch.resume(carry, state)
        saved = self.loop.devices.everywhere(restored("carry", carry, state))
        self.done = int(saved.step)
        self.bar.advance(self.done, self.losses[-100:], self.watch.last, self.watch.metrics.numbers)
        return saved


def _failure(loss: float, step: int) -> str:
    culprit = "gradient" if np.isfinite(loss) else "loss"
    stopped = f"non-finite {culprit} at step {step}"
    warnings.warn(f"fit stopped: {stopped}; the params before it are returned", RuntimeWarning, stacklevel=5)
    return stopped
