"""Averages of the params over the steps of a training: what `fit(ema=…)` takes."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import check_positive

_WIDEST = 1 / math.sqrt(12)  # of the plain mean of all steps, γ = 0


@dataclasses.dataclass(frozen=True)
class Decay:
    """An exponential average, whose first steps count for less: θ̄ ← β θ̄ + (1 − β) θ, β = min(decay, (1 + t)/(10 + t)).

    Args:
        decay: in [0, 1).

    Raises ValueError where it is not.
    """

    decay: float

    def __post_init__(self) -> None:
        number = isinstance(self.decay, int | float | np.number) and not isinstance(self.decay, bool)
        if not number or not 0 <= self.decay < 1:
            raise ValueError(f"ema: expected a decay in [0, 1), or a PowerEMA, got {self.decay!r}")

    def share(self, step: Array) -> Array:
        """Return 1 − β of a step, counted from 0."""
        return 1 - jnp.minimum(self.decay, (1 + step) / (10 + step))


@dataclasses.dataclass(frozen=True)
class PowerEMA:
    """An average of the params whose weights are a power of the step, for `fit(ema=PowerEMA(0.1))`.

        θ̄_t = β_t θ̄_{t−1} + (1 − β_t) θ_t,   β_t = (1 − 1/t)^{γ+1},   t = 1, 2, …
            = Σ_i w_i θ_i,   w_i = (i^{γ+1} − (i − 1)^{γ+1}) / t^{γ+1}, about (γ + 1) i^γ / t^{γ+1}

    It reaches back over the same part of the training however long that is, and the first params have no weight in it
    that has to decay. The part is the standard deviation of i/t under the density (γ + 1) u^γ of 0 < u < 1, from which
    γ follows:

        σ_rel = √(γ + 1) / ((γ + 2) √(γ + 3))

    Args:
        relative_width: σ_rel, above 0 and at most 1/√12, which is the mean of all steps; 0.05 to 0.15 are usual.

    Attributes:
        exponent: γ.

    Raises ValueError where the width is out of that range.

    References: Analyzing and Improving the Training Dynamics of Diffusion Models (Karras et al. 2024),
    arXiv:2312.02696, section 3.1 and appendix C.

    >>> PowerEMA(0.1).exponent.__round__(2)
    6.94
    """

    relative_width: float

    def __post_init__(self) -> None:
        check_positive(relative_width=self.relative_width)
        if self.relative_width > _WIDEST + 1e-9:
            raise ValueError(
                f"relative_width: expected at most 1/√12 = {_WIDEST:.4f}, the mean of all steps, "
                f"got {self.relative_width}"
            )

    @property
    def exponent(self) -> float:
        """γ, the largest root of (γ + 2)² (γ + 3) σ² = γ + 1."""
        inverse = float(self.relative_width) ** -2
        return max(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max().item(), 0.0)

    def share(self, step: Array) -> Array:
        """Return 1 − β_t of a step, counted from 0.

        Args:
            step: t − 1.
        """
        return -jnp.expm1((self.exponent + 1) * jnp.log1p(-1 / (1 + jnp.asarray(step, float))))


Average = Decay | PowerEMA


def as_average(ema: Any) -> Average | None:
    """Return what `fit` averages by. Raises ValueError where it is no average."""
    return ema if ema is None or isinstance(ema, PowerEMA) else Decay(ema)
