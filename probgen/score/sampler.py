"""From noise at t = 1 to (almost) data at t = 0: the base of all samplers, and of those whose steps are given."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import check_functions, check_sizes, scan_with_bar
from probgen.score.denoiser import Denoise
from probgen.score.grids import TimeGrid, UniformTime
from probgen.score.sde import SDE

_EVEN = UniformTime()
State = Any  # what a sampler remembers from step to step


@dataclass(frozen=True)
class Sampler:
    """The base of samplers: from z_1 ~ Normal(0, c(1)² I) at t = 1 to z_0.

    `denoise` is z, t ↦ x̂ = E[x | x_t = z]: a denoiser `under` the SDE. A subclass writes `__call__` and `path` for one
    event; what goes from time to time along a grid is a `StepSampler`, and writes one step.
    """

    def __call__(self, key: Array, denoise: Denoise, sde: SDE, z: Array) -> Array:
        """Take all steps from z at t = 1, and return z at t = 0."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def path(self, key: Array, denoise: Denoise, sde: SDE, z: Array) -> Array:
        """Take all steps from z at t = 1, and return z after each of them, [steps + 1, *event_shape]."""
        raise NotImplementedError(f"{type(self).__name__} has no path")


@dataclass(frozen=True)
class StepSampler(Sampler):
    """The base of samplers that `step` from t down to s along a grid of times, as one `lax.scan`.

    A subclass writes `step(key, denoise, sde, z, state, t, s) -> (z_s, state)` for one event, and `init(z) -> state`
    where it remembers something from step to step.

    Args:
        steps: how many.
        grid: of the times; equal steps of t by default.
        progress: whether a bar counts the steps, or its name.

    Raises ValueError where `steps` < 1, or the grid is no function.
    """

    steps: int = 100
    grid: TimeGrid = _EVEN
    progress: bool | str = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_sizes(steps=self.steps)
        check_functions("times", grid=self.grid)

    def init(self, z: Array) -> State:
        """Return what is remembered before the first step: nothing, by default."""
        return None

    def step(
        self, key: Array, denoise: Denoise, sde: SDE, z: Array, state: State, t: Array, s: Array
    ) -> tuple[Array, State]:
        """Take one step from t to s < t, and return z there and the state."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def __call__(self, key: Array, denoise: Denoise, sde: SDE, z: Array) -> Array:
        """Take all steps from z at t = 1, and return z at t = 0."""
        return self._scan(key, denoise, sde, z, keep=False)[0]

    def path(self, key: Array, denoise: Denoise, sde: SDE, z: Array) -> Array:
        """Take all steps from z at t = 1, and return z at all times of the grid, [steps + 1, *event_shape]."""
        return jnp.concatenate([z[None], self._scan(key, denoise, sde, z, keep=True)[1]])

    def _scan(self, key: Array, denoise: Denoise, sde: SDE, z: Array, *, keep: bool) -> tuple[Array, Any]:
        times = self.grid(sde, self.steps).astype(z.dtype)

        def one(carry: tuple[Array, State], now: tuple[Array, Array, Array]) -> tuple[tuple[Array, State], Any]:
            key, t, s = now
            z, state = self.step(key, denoise, sde, *carry, t, s)
            return (z, state), z if keep else None

        keys = jax.random.split(key, self.steps)
        (z, _), kept = scan_with_bar(one, (z, self.init(z)), (keys, times[:-1], times[1:]), show=self.progress)
        return z, kept
