"""Ctrl-C: what has been learned must not be lost to it."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """A context in which the first Ctrl-C only sets `pending`, to be looked at where stopping is safe.

    An exception in the middle of a step would lose the params: their old buffers are donated, and their new ones have
    no name yet. A second Ctrl-C raises at once. Signals reach the main thread only; elsewhere nothing is changed, nor
    where Ctrl-C is ignored.
    """

    def __init__(self) -> None:
        self.pending = False
        self._previous: Any = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending:
            self._previous(number, frame)
            return
        try:
            self._previous(number, frame)
        except KeyboardInterrupt:
            self.pending = True
