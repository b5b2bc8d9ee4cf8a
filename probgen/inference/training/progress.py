"""The progress bar."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm


class Progress:
    """A bar of steps with the running loss, in bits/dim where events have a size, else in nats per datum."""

    def __init__(self, total: int | None, event_size: int | None, show: bool | str):
        self.unit = "nats" if event_size is None else "bits/dim"
        self.factor = 1.0 if event_size is None else 1.0 / (event_size * np.log(2))
        self.running: float | None = None
        name = show if isinstance(show, str) else None
        self.bar = tqdm(total=total, desc=name, disable=show is False, dynamic_ncols=True, mininterval=0.2)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()

    def advance(self, steps: int, losses: np.ndarray, validation: float | None, metrics: Mapping[str, float]) -> None:
        """Move on by some steps."""
        if len(losses):
            recent = float(np.mean(losses[-100:]))
            weight = 0.0 if self.running is None else max(0.0, 1.0 - steps / 100)
            self.running = recent if self.running is None else weight * self.running + (1 - weight) * recent
        text = "" if self.running is None else f"{self.running * self.factor:.3f} {self.unit}"
        if validation is not None:
            text += f", validation {validation * self.factor:.3f}"
        text += "".join(f", {name} {value:.3g}" for name, value in metrics.items())
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(steps)
