"""The likelihood of held-out data, with its kind, its unit and its standard error."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from probgen.core import DensityKind, check_sizes
from probgen.core.density import sign_of
from probgen.distributions import ConditionalModel, Distribution
from probgen.distributions.conditionals import inner_model
from probgen.distributions.events import as_arrays, check_rows, widened


class Likelihood(NamedTuple):
    """The mean negative log-likelihood of rows; `str` prints it with its sign.

    Attributes:
        nats: per row.
        se_nats: its standard error over rows.
        kind: of the density; with "weights" and "bound" the truth is at most this.
        event_size: D, the numbers of an event.
        rows: how many there are.
        num_particles: of the bound.
        tolerance: of a solver's step, say, in nats; 0 where the density is what its kind says.
    """

    nats: float
    se_nats: float
    kind: DensityKind
    event_size: int
    rows: int
    num_particles: int
    tolerance: float = 0.0

    @property
    def bits_per_dim(self) -> float:
        """The same in bits/dim, nats / (D ln 2)."""
        return self.nats / (self.event_size * math.log(2))

    @property
    def se(self) -> float:
        """The standard error in bits/dim."""
        return self.se_nats / (self.event_size * math.log(2))

    @property
    def sign(self) -> str:
        """The sign before the number: "=" exact, "≤" a bound, "≈" an estimate, or whatever has a tolerance."""
        return sign_of(self.kind, self.tolerance)

    def __str__(self) -> str:
        sign = self.sign
        particles = f", {self.num_particles} particles" if self.kind in ("weights", "bound") else ""
        return (
            f"{sign} {self.bits_per_dim:.4f} ± {self.se:.4f} bits/dim "
            f"({sign} {self.nats:.3f} ± {self.se_nats:.3f} nats, {self.rows} rows{particles})"
        )


def likelihood(
    model: Distribution | ConditionalModel,
    data: Any,
    *,
    key: Array | None = None,
    num_particles: int = 1,
    batch_size: int = 128,
) -> Likelihood:
    """Return −1/N Σ log p(x_n), exact where the model is, else its bound with `num_particles`, or its estimate.

    Args:
        model: of batch shape (), or a conditional one.
        data: x [N, *event_shape], or (x, contexts [N, *context]).
        key: a `jax.random.key`, where what the model has is random.
        num_particles: of the bound.
        batch_size: rows at a time.

    Raises ValueError where there are no rows, or some that are no event of the model, where the key is missing, or
    where particles would change nothing.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.mixtures import histogram
    >>> print(likelihood(histogram((2,), 4), jnp.zeros((10, 2), int)))
    = 2.0000 ± 0.0000 bits/dim (= 2.773 ± 0.000 nats, 10 rows)
    """
    arrays, inner = check_rows("data", model, as_arrays("data", data)[:2]), inner_model(model)
    count = len(arrays[0])
    check_sizes(batch_size=batch_size, num_particles=num_particles)
    if num_particles > 1 and (inner.kind in ("exact", "estimate") or not inner.random_bound):
        raise ValueError(f"num_particles: {type(inner).__name__} has no bound of draws, which alone they would change")
    if key is None and not inner.exact and inner.random_bound:
        raise ValueError(f"key: {type(inner).__name__} has no exact density, and what it has needs a jax.random key")
    key = jax.random.key(0) if key is None else key

    @jax.jit
    def block(model: Any, key: Array, x: Array, *context: Array) -> Array:
        model = model(*context) if context else model
        if model.kind == "estimate":
            return model.log_prob_estimate(key, x)
        return model.log_prob_bound(key, x, num_particles)

    parts = []
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size) % count  # the last block is filled up: one shape, one compilation
        batch = widened(tuple(x[rows] for x in arrays))
        parts.append(np.asarray(block(model, jax.random.fold_in(key, start), *batch), np.float64))
    losses = -np.concatenate(parts)[:count]
    spread = float(losses.std(ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else math.nan
    size = max(1, math.prod(inner.event_shape))
    return Likelihood(float(losses.mean()), spread, inner.kind, size, len(losses), num_particles, inner.tolerance)
