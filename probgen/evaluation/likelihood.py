"""The likelihood of held-out data, with its kind, its unit and its standard error."""

import math
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from probgen.distributions import Distribution
from probgen.inference.checks import as_arrays, check_events, widened


class Likelihood(NamedTuple):
    """The mean negative log-likelihood of rows.

    `nats` per row and its standard error `se_nats` over rows; `kind` "exact", "bound" (the truth is at most this) or
    "estimate"; `event_size` D, `rows` and `num_particles`. `str` prints them with their sign.
    """

    nats: float
    se_nats: float
    kind: str
    event_size: int
    rows: int
    num_particles: int

    @property
    def bits_per_dim(self) -> float:
        """nats / (D ln 2)."""
        return self.nats / (self.event_size * math.log(2))

    @property
    def se(self) -> float:
        """The standard error in bits/dim."""
        return self.se_nats / (self.event_size * math.log(2))

    @property
    def sign(self) -> str:
        """ "=" exact, "≤" a bound, "≈" an estimate."""
        return {"exact": "=", "bound": "≤", "estimate": "≈"}[self.kind]

    def __str__(self) -> str:
        sign = self.sign
        particles = "" if self.kind == "exact" else f", {self.num_particles} particles"
        return (
            f"{sign} {self.bits_per_dim:.4f} ± {self.se:.4f} bits/dim "
            f"({sign} {self.nats:.3f} ± {self.se_nats:.3f} nats, {self.rows} rows{particles})"
        )


def likelihood(
    model: Distribution, x: ArrayLike, *, key: Array | None = None, num_particles: int = 1, batch_size: int = 128
) -> Likelihood:
    """−1/N Σ log p(x_n), exact where the model is, else its bound with `num_particles`.

    Args: `model` of batch shape (); `x` [N, *event_shape]; `key` where the model has only a bound; `batch_size` rows
    at a time. Raises ValueError where x has no rows or holds what is no event of the model, or where the key is
    missing.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.distributions import histogram
    >>> print(likelihood(histogram((2,), 4), jnp.zeros((10, 2), int)))
    = 2.0000 ± 0.0000 bits/dim (= 2.773 ± 0.000 nats, 10 rows)
    """
    (events,), _, count = as_arrays("x", (x,))
    check_events("x", model, events)
    if num_particles < 1:
        raise ValueError(f"num_particles: expected at least 1, got {num_particles}")
    if key is None and not model.exact:
        raise ValueError(f"key: {type(model).__name__} has only a bound, which needs a jax.random key")
    key = jax.random.key(0) if key is None else key

    @jax.jit
    def block(model: Distribution, key: Array, x: Array) -> Array:
        return model.log_prob_bound(key, x, num_particles)

    parts = []
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size) % count  # the last block is filled up: one shape, one compilation
        parts.append(np.asarray(block(model, jax.random.fold_in(key, start), widened(events[rows])), np.float64))
    losses = -np.concatenate(parts)[:count]
    spread = float(losses.std(ddof=1) / math.sqrt(len(losses))) if len(losses) > 1 else math.nan
    kind = "exact" if model.exact else "bound"
    return Likelihood(
        float(losses.mean()), spread, kind, max(1, math.prod(model.event_shape)), len(losses), num_particles
    )
