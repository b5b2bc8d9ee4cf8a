"""Densities at many events, and in unconstrained coordinates: on a grid that reaches far, or at draws of a proposal."""

import math
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from probgen.distributions.enumeration import levels
from probgen.distributions.events import widened
from probgen.distributions.wrapped import kind_of

_BLOCK = 8192  # events at a time
_REACH = 10.0  # of v: the grid ends at sinh(10), 11,000 widths from its middle
_MOMENT_DRAWS = 4096
_REPEATED = 8  # draws that are the least, or the largest, of all
_DEGREES, _WIDER = 4.0, 1.5  # of Student's t, whose tails are heavier than most, and whose covariance is larger
_UNIFORM = 0.1  # of integers


def free_numbers(model: Any) -> int | None:
    """Return the degrees of freedom of an event of real numbers; None where they are not known."""
    support: Any = model.support
    if support is None or support.is_discrete:
        return None
    try:
        return math.prod(dist.biject_to(support).inverse_shape(model.event_shape))
    except NotImplementedError:
        return None


class Densities(NamedTuple):
    """log p of a model: exact, an estimate, or by independent weights.

    Attributes:
        model: of batch shape ().
        num_particles: weights of each event, where the density is known by weights.
    """

    model: Any
    num_particles: int = 1

    def __call__(self, key: Array, events: Any) -> np.ndarray:
        """Return log p(x) of events [N, *event], [1, N], or [num_particles, N] of independent estimates; in blocks."""
        return self._in_blocks(lambda key, x: self._log_prob(key, x), key, events)

    def of_unconstrained(self, key: Array, u: Any) -> np.ndarray:
        """Return log p(t(u)) + log|dt/du| of numbers u [N, free], t = biject_to(support), as `__call__`; −∞ where t(u)
        rounds to an edge of the support, or the density is NaN."""
        onto = dist.biject_to(self.model.support)
        shape = onto.inverse_shape(self.model.event_shape)

        def of_one(u: Array) -> tuple[Array, Array, Array]:
            x = onto(u)
            there_and_back = jnp.abs(onto.inv(x) - u) <= 0.5 + 1e-3 * jnp.abs(u)
            return x, jnp.sum(onto.log_abs_det_jacobian(u, x)), jnp.all(there_and_back)

        def log_prob(key: Array, u: Array) -> Array:
            x, log_det, inside = jax.vmap(of_one)(u.reshape(-1, *shape))
            found = self._log_prob(key, x) + log_det
            return jnp.where(inside & ~jnp.isnan(found), found, -jnp.inf)

        return self._in_blocks(log_prob, key, u)

    def _log_prob(self, key: Array, x: Array) -> Array:
        kind = kind_of(self.model)
        if kind == "weights":
            return self.model.log_weights(key, x, self.num_particles)
        return (self.model.log_prob(x) if kind == "exact" else self.model.log_prob_estimate(key, x))[None]

    def _in_blocks(self, function: Any, key: Array, rows: Any) -> np.ndarray:
        compiled = jax.jit(lambda key, x: function(key, widened(x)))
        starts = range(0, len(rows), _BLOCK)
        parts = [compiled(jax.random.fold_in(key, i), rows[i : i + _BLOCK]) for i in starts]
        found = np.concatenate([np.asarray(part, np.float64) for part in parts], 1)
        if np.isnan(found).any():
            raise ValueError("model: expected numbers for log-densities, got NaN")
        return found


class Grid(NamedTuple):
    """Points of free numbers, evenly spaced in v, u = middle + width · sinh(v).

    Attributes:
        middle: of each number, [free].
        width: of each number, [free].
        v: the places along an axis, [n].
    """

    middle: np.ndarray
    width: np.ndarray
    v: np.ndarray

    @classmethod
    def around(cls, u: np.ndarray, points: int) -> Self:
        """Make one around the middle of draws, as wide as they are."""
        u = u[np.isfinite(u).all(1)]
        low, middle, high = np.quantile(u, [0.25, 0.5, 0.75], axis=0)
        width = (high - low) / 1.35
        return cls(middle, np.where(width > 0, width, 1.0), np.linspace(-_REACH, _REACH, points))

    @property
    def step(self) -> float:
        """Of v."""
        return float(self.v[1] - self.v[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,) or (n, n)."""
        return (len(self.v),) * len(self.middle)

    @property
    def points(self) -> np.ndarray:
        """u, [n^free, free]."""
        axes = self.middle + self.width * np.sinh(self.v)[:, None]
        u = np.stack(np.meshgrid(*axes.T, indexing="ij"), -1).reshape(-1, len(self.middle))
        return u.astype(jnp.zeros(()).dtype)

    @property
    def log_volume(self) -> np.ndarray:
        """Of the cells, [n^free]."""
        volumes = np.log(self.width * np.cosh(self.v)[:, None] * self.step)
        return np.asarray(sum(np.meshgrid(*volumes.T, indexing="ij"))).ravel()

    def error(self, cells: np.ndarray) -> float:
        """Return how far the sum of cells [n^free] may be from the integral: twice how far the sums over every other
        point are, and what the cells at the ends say that lies beyond them, if it goes on falling as it does there."""
        free, cells = len(self.middle), cells.reshape(self.shape)
        corners = [tuple(slice(i >> axis & 1, None, 2) for axis in range(free)) for i in range(2**free)]
        apart = max(abs(cells[corner].sum() * 2**free - cells.sum()) for corner in corners)
        beyond = 0.0
        for axis in range(free):
            for line in (cells, np.flip(cells, axis)):
                here = np.moveaxis(line, axis, 0)
                end = here[1:][~(np.concatenate([here[2:], np.zeros_like(here[:1])]) > 0)]
                before = here[:-1][~(np.concatenate([here[2:], np.zeros_like(here[:1])]) > 0)]
                with np.errstate(invalid="ignore", divide="ignore"):
                    ratio = np.where(end > 0, end / before, 0.0)
                    beyond += np.where(ratio < 1, end * ratio / (1 - ratio), end / self.step).sum()
        return float(2 * apart + beyond)

    def missed(self, u: np.ndarray, log_density: np.ndarray, on_grid: np.ndarray) -> float:
        """Return the part of draws u [N, free] that the grid does not see: they round to an edge of the support, or to
        one number beside it, or lie in a narrow mode between the points, where the density is more than e times that
        of every corner of the cell."""
        at_ends = [(u == end(u, axis=0)).mean(0) for end in (np.min, np.max)]
        rounded = sum(share[share >= _REPEATED / len(u)].sum() for share in at_ends)
        seen = np.isfinite(log_density)
        u, log_density = u[seen], log_density[seen]
        place = (np.arcsinh((u - self.middle) / self.width) + _REACH) / self.step
        low = np.clip(np.floor(place).astype(int), 0, len(self.v) - 2)
        values = on_grid.reshape(self.shape)
        offsets = np.stack(np.meshgrid(*[[0, 1]] * low.shape[1], indexing="ij"), -1).reshape(-1, low.shape[1])
        corners = np.max([values[tuple((low + offset).T)] for offset in offsets], axis=0)
        return float(rounded + np.mean(~seen) + np.mean(log_density > corners + 1))


def fitted_to_reals(model: Any, key: Array) -> dist.Distribution:
    """Return Student's t over unconstrained numbers, with the mean and more than the covariance of a model's draws."""
    draws = unconstrained_draws(model, key)
    draws = draws[np.isfinite(draws).all(1)]
    covariance = np.atleast_2d(np.cov(draws.T)) + 1e-6 * np.eye(draws.shape[1]) * draws.var()
    scale = np.linalg.cholesky(_WIDER * covariance * (_DEGREES - 2) / _DEGREES)
    return dist.MultivariateStudentT(_DEGREES, jnp.asarray(draws.mean(0)), jnp.asarray(scale))


class Frequencies(dist.Distribution):
    """Independent integers, each by its frequencies."""

    def __init__(self, low: int, probs: Array, event_shape: tuple[int, ...]):
        self.low, self.numbers = low, dist.Categorical(probs)
        super().__init__((), event_shape)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Return integers [*sample_shape, *event]."""
        return self.low + self.numbers.sample(key, sample_shape).reshape(*sample_shape, *self.event_shape)

    def log_prob(self, value: Array) -> Array:
        """Return the log-mass of events [N, *event]."""
        return self.numbers.log_prob(value.reshape(len(value), -1) - self.low).sum(-1)


def fitted_to_integers(model: Any, key: Array) -> dist.Distribution:
    """Return independent integers with the frequencies of a model's draws, mixed with uniform ones."""
    if (known := levels(model.support)) is None:
        raise ValueError(f"proposal: expected one for integers of unknown levels, {model.support}")
    low, count = known
    draws = np.asarray(model.sample(key, (_MOMENT_DRAWS,))).reshape(_MOMENT_DRAWS, -1) - low
    frequencies = np.stack([np.bincount(column, minlength=count) for column in draws.astype(int).T]) / _MOMENT_DRAWS
    return Frequencies(low, jnp.asarray((1 - _UNIFORM) * frequencies + _UNIFORM / count), model.event_shape)


def unconstrained_draws(model: Any, key: Array) -> np.ndarray:
    """Return numbers u of draws, [4096, free]; infinite ones where they round to an edge of the support."""
    onto = dist.biject_to(model.support)

    @jax.jit
    def draw(key: Array) -> Array:
        return jax.vmap(lambda x: jnp.ravel(onto.inv(x)))(model.sample(key, (_MOMENT_DRAWS,)))

    try:
        u = np.asarray(draw(key), np.float64)
    except NotImplementedError as error:
        raise ValueError(f"proposal: expected one for a model that cannot draw: {error}") from None
    if np.isfinite(u).all(1).mean() < 0.5:
        raise ValueError("proposal: expected one, since half of the model's draws are not finite, or on an edge")
    return u
