"""The architectures that every library builds, and the data that every library sees."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BATCH, HIDDEN, RATE = 512, (256, 256), 1e-3
BINS, BOUND = 8, 3.0  # of the splines, on [-BOUND, BOUND]
KINDS = ("coupling-affine", "maf", "coupling-spline", "maf-spline")
PEERS = ("flowjax", "zuko", "nflows")


class Architecture(NamedTuple):
    """`layers` of one kind on vectors of `dim` numbers: conditioners of `hidden` widths, all equal, with relu."""

    kind: str
    dim: int
    layers: int
    hidden: tuple[int, ...] = HIDDEN

    @property
    def coupling(self) -> bool:
        """A half moves the other half; else all before a coordinate move it."""
        return self.kind.startswith("coupling")

    @property
    def spline(self) -> bool:
        """Rational-quadratic, of 8 bins and linear tails; else affine."""
        return self.kind.endswith("spline")

    @property
    def sizes(self) -> tuple[int, int]:
        """The width of a conditioner's input and of its output."""
        inputs = self.dim // 2 if self.coupling else self.dim
        outputs = self.dim - inputs if self.coupling else self.dim
        return inputs, outputs * (3 * BINS - 1 if self.spline else 2)

    def __str__(self) -> str:
        return f"{self.kind}, D = {self.dim}, {self.layers} layers of {'×'.join(map(str, self.hidden))}"


class Contender(NamedTuple):
    """A call that is timed, the numbers that it trains or evaluates, and what a reader must know of it."""

    call: Callable[[], Any]
    parameters: int
    note: str = ""


def standard_normal_batches(dim: int, *, number: int = 16) -> list[np.ndarray]:
    """Batches that a contender steps through in a circle: one alone would be learned by heart, down to no width."""
    return list(np.random.default_rng(0).standard_normal((number, BATCH, dim), np.float32))
