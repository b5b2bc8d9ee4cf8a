"""Time: how many steps the host lets pass between two of its looks, and when a training has had its minutes."""

import time

import numpy as np

from probgen.core import check_positive
from probgen.inference.training.rows import CHUNK

_CHUNK_SECONDS = 1.0


class Clock:
    """The wall clock of one training, which begins with it. It says when to stop and how long a chunk of steps should
    be, and nothing else depends on it."""

    def __init__(self, minutes: float | None):
        if minutes is not None:
            check_positive(minutes=minutes)
        self.seconds = None if minutes is None else 60.0 * float(minutes)
        self.chunk = 1
        self._began = self._mark = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the minutes are over."""
        return self.seconds is not None and time.monotonic() - self._began >= self.seconds

    def start(self) -> None:
        """Note that a chunk begins."""
        self._mark = time.monotonic()

    def passed(self, steps: int, *, compiled: bool) -> None:
        """Note that a chunk has ended, and set the length of the next; one that `compiled` says nothing."""
        if not compiled:
            rate = steps / (time.monotonic() - self._mark + 1e-9)
            self.chunk = int(np.clip(rate * _CHUNK_SECONDS, 1, min(CHUNK, 8 * self.chunk)))
