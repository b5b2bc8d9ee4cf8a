"""Whether what a model calls a bound is one: below what is tighter, and rising with its particles."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist
from jax import Array

from probgen.core import as_numbers, check_sizes
from probgen.distributions import ConditionalModel
from probgen.distributions.conditionals import inner_model
from probgen.distributions.wrapped import kind_of
from probgen.evaluation.likelihood.comparison import rounding
from probgen.evaluation.likelihood.row_by_row import has_bound_of_draws, pointwise

_PARTICLES = (1, 4, 16, 64)
_LEVEL = 1e-3  # of all tests together, for a false alarm


class BoundCheck(NamedTuple):
    """The bounds of rows with more and more particles, in nats, means over rows.

    Attributes:
        num_particles: K, rising.
        bounds: L_K, [M].
        se: their standard errors, [M].
        gains: L_{K'} − L_K from each K to the next, [M − 1].
        gains_se: their standard errors, from the same rows, [M − 1].
        gaps: what is tighter, less L_K, [M]; NaN where nothing was given.
        gaps_se: their standard errors, from the same rows, [M].
        lowest: what each gain, and each gap, is in a right model but once in a thousand checks, [2 M − 1]: less than
            zero by chance, rounding and tolerances.
    """

    num_particles: tuple[int, ...]
    bounds: np.ndarray
    se: np.ndarray
    gains: np.ndarray
    gains_se: np.ndarray
    gaps: np.ndarray
    gaps_se: np.ndarray
    lowest: np.ndarray

    @property
    def faults(self) -> tuple[str, ...]:
        """What contradicts that it is a bound, in words."""
        split, k = len(self.gains), self.num_particles
        falls = [
            f"it falls from {k[i]} to {k[i + 1]} particles, by {-gain:.3f} ± {self.gains_se[i]:.3f} nats"
            for i, gain in enumerate(self.gains)
            if gain < self.lowest[i]
        ]
        above = [
            f"it is above what is tighter, with {k[i]} particles by {-gap:.3f} ± {self.gaps_se[i]:.3f} nats"
            for i, gap in enumerate(self.gaps)
            if gap < self.lowest[split + i]
        ]
        return (*falls, *above)

    @property
    def passed(self) -> bool:
        """Whether nothing contradicts that it is a bound."""
        return not self.faults

    def __str__(self) -> str:
        values = zip(self.num_particles, self.bounds, self.se, self.gaps, strict=True)
        lines = [
            f"log p ≥ {bound:.3f} ± {se:.3f} nats, {k} particles" + (f", gap {gap:.3f}" if gap == gap else "")
            for k, bound, se, gap in values
        ]
        return "\n".join([*lines, *(self.faults or ["nothing contradicts that it is a bound"])])


def check_bound(
    model: dist.Distribution | ConditionalModel,
    data: Any,
    *,
    tighter: Any = None,
    num_particles: Sequence[int] | None = None,
    batch_size: int = 128,
    key: Array | None = None,
) -> BoundCheck:
    """Return the bounds of rows by K particles, and what contradicts that they are bounds: `passed`, `faults`.

        E[L_K] ≤ E[L_{K'}] ≤ log p(x)   for K < K'

    Each mean over rows of L_{K'} − L_K, and of what is tighter less L_K, is held against zero, by its standard error
    over rows. All the tests together are wrong about a right bound once in a thousand keys. A bound that is too high
    by less than its standard error is not seen.

    Args:
        model: one whose density is known by weights, or by a bound; or a conditional one.
        data: x [N, *event_shape], N ≥ 2, or (x, contexts).
        tighter: of each row a value that is known to be larger, in nats, [N]: log p(x), such as `enumerated` and
            `pointwise` of an exact model give, or a bound from above, such as `ais` of simulated data.
        num_particles: K, two or more that rise, (1, 4, 16, 64) by default; one is enough beside what is tighter.
        batch_size: rows at a time.
        key: a `jax.random.key`, where the bound is random.

    Raises ValueError where the model has no bound, where there is nothing to hold it against, where values do not
    belong to the rows or are not finite, and as `evaluate`.

    References: Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov 2016), arXiv:1509.00519, theorem 1.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.latent import LatentVariableModel
    >>> normal = lambda scale: lambda z: dist.Normal(z, scale).to_event(1)
    >>> model = LatentVariableModel(normal(1.0)(jnp.zeros(1)), normal(1.0), normal(1.0))
    >>> x = 2**0.5 * jax.random.normal(jax.random.key(0), (500, 1))
    >>> exact = dist.Normal(0.0, 2**0.5).log_prob(x).sum(-1)
    >>> check_bound(model, x, tighter=exact, key=jax.random.key(1)).passed
    True
    >>> check_bound(model, x, tighter=exact - 0.1, key=jax.random.key(1)).passed
    False
    """
    particles = _particles(model, num_particles, tighter is not None)
    key_of = lambda k: None if key is None else jax.random.fold_in(key, k)
    bound = lambda k: pointwise(model, data, key=key_of(k), num_particles=k, batch_size=batch_size)
    values = np.stack([bound(k) for k in particles])
    count = values.shape[1]
    if count < 2 or not np.isfinite(values).all():
        raise ValueError(f"data: expected at least two rows with finite bounds, got {count} rows")
    gaps = np.full(values.shape, np.nan)
    if tighter is not None:
        above = np.asarray(as_numbers("tighter", tighter), np.float64)
        if above.shape != (count,) or not np.isfinite(above).all():
            raise ValueError(f"tighter: expected finite values of {count} rows, got an array of shape {above.shape}")
        gaps = above - values
    return _checked(particles, values, gaps, getattr(inner_model(model), "tolerance", 0.0))


def _checked(particles: tuple[int, ...], values: np.ndarray, gaps: np.ndarray, tolerance: float) -> BoundCheck:
    from scipy import stats

    count = values.shape[1]
    gains = np.diff(values, axis=0)
    error = lambda rows: rows.std(-1, ddof=1) / math.sqrt(count)
    tests = len(gains) + int(np.isfinite(gaps[:, 0]).sum())
    z = stats.t.isf(_LEVEL / tests, count - 1)
    allowed = 2 * rounding(values).max() + tolerance
    lowest = -z * np.concatenate([error(gains), error(gaps)]) - allowed
    return BoundCheck(
        particles, values.mean(1), error(values), gains.mean(1), error(gains), gaps.mean(1), error(gaps), lowest
    )


def _particles(model: Any, num_particles: Any, has_tighter: bool) -> tuple[int, ...]:
    inner = inner_model(model)
    if kind_of(inner) not in ("weights", "bound"):
        raise ValueError(f"model: expected one with a bound, got a {type(inner).__name__} of kind {kind_of(inner)!r}")
    if not has_bound_of_draws(model):
        if num_particles is not None:
            raise ValueError(
                f"num_particles: {type(inner).__name__} has a bound without draws, which they do not change"
            )
        if not has_tighter:
            raise ValueError(f"tighter: expected values, since the bound of a {type(inner).__name__} has no particles")
        return (1,)
    if num_particles is not None and not isinstance(num_particles, tuple | list):
        raise ValueError(f"num_particles: expected several that rise, such as (1, 16), got {num_particles!r}")
    particles = _PARTICLES if num_particles is None else tuple(num_particles)
    check_sizes(**{f"num_particles[{i}]": k for i, k in enumerate(particles)})
    if len(particles) < 2 - has_tighter or any(a >= b for a, b in itertools.pairwise(particles)):
        raise ValueError(f"num_particles: expected numbers that rise, two without `tighter`, got {particles}")
    return particles
