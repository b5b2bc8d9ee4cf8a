"""What a score model's bound is made of: its parts, its variance, and where in λ the loss lies."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array

from probgen.core import as_numbers, check_sizes, in_words
from probgen.distributions.conditionals import AtContext
from probgen.distributions.events import as_arrays, check_events, widened
from probgen.distributions.in_blocks import block_size
from probgen.score.score_model import ScoreModel

_NUMBERS = 64  # in a hidden layer, for each of the event's


@dataclass(frozen=True)
class BoundReport:
    """The bound of rows, in nats, and what it is made of.

        bound = reconstruction − mismatch − diffusion,   diffusion = ∫ loss(λ) dλ

    Attributes:
        bound: the mean over rows.
        standard_error: of that, from row to row; NaN of one row.
        reconstruction: log p(x | z_0), the mean.
        mismatch: KL(q(z_1 | v) ‖ prior), the mean.
        diffusion: what all noise levels between them cost, the mean.
        variance: of one row's bound at one random time, the mean over rows: what an estimate by K of them has K times
            less of, at least.
        log_snr: edges of the bins of λ, rising, [bins + 1].
        loss: nats for each unit of λ, in each bin, [bins]; NaN where no time fell.
        event_size: the numbers in an event.
    """

    bound: float
    standard_error: float
    reconstruction: float
    mismatch: float
    diffusion: float
    variance: float
    log_snr: np.ndarray
    loss: np.ndarray
    event_size: int

    def __str__(self) -> str:
        bits = -self.bound / (self.event_size * math.log(2.0))
        where = self.log_snr[int(np.nanargmax(self.loss))], self.log_snr[int(np.nanargmax(self.loss)) + 1]
        error = "" if math.isnan(self.standard_error) else f" ± {self.standard_error:.3f}"
        return (
            f"log p ≥ {self.bound:.3f}{error} nats (≤ {bits:.4f} bits/dim)\n"
            f"  reconstruction {self.reconstruction:.3f}, mismatch of the prior {self.mismatch:.3f}, "
            f"diffusion {self.diffusion:.3f}\n"
            f"  standard deviation of a row's bound at one time {math.sqrt(self.variance):.3f}; "
            f"most is lost at λ from {where[0]:.1f} to {where[1]:.1f}"
        )


def evaluate(model: Any, x: Any, *, key: Array, num_particles: int = 64, bins: int = 20) -> BoundReport:
    """Return what the variational bound of rows is made of.

    Args:
        model: a `ScoreModel`, or a conditional one at the contexts of the rows.
        x: rows, [N, *event_shape].
        key: draws times and noise.
        num_particles: the times of each row, spread evenly.
        bins: of λ, evenly between those that were drawn.

    Raises ValueError where the model is another, x are no rows of it, or there are not two particles, or no bins.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR, ScoreModel
    >>> model = ScoreModel(GaussianDenoiser(jnp.array(0.0), jnp.array(1.0)), LinearLogSNR(), (2,))
    >>> evaluate(model, jnp.zeros((8, 2)), key=jax.random.key(0), bins=4).loss.shape
    (4,)
    """
    check_sizes(2, num_particles=num_particles)
    check_sizes(bins=bins)
    x = _rows(model, x)
    terms_of = jax.jit(lambda model, key, x: model.sampled_terms(key, x, num_particles=num_particles))
    size = block_size(_NUMBERS * num_particles * x[0].size) if not model.batch_shape else len(x)
    keys = jax.random.split(key, -(-len(x) // size))
    found = [terms_of(model, k, x[i * size : (i + 1) * size]) for i, k in enumerate(keys)]
    terms = jax.tree.map(lambda *parts: np.concatenate([np.asarray(part, float) for part in parts]), *found)
    each = terms.total()
    rows = each.mean(1)
    edges, loss = _by_log_snr(terms.log_snr, terms.diffusion, bins)
    return BoundReport(
        bound=float(rows.mean()),
        standard_error=float(rows.std(ddof=1) / math.sqrt(len(rows))) if len(rows) > 1 else math.nan,
        reconstruction=float(terms.reconstruction.mean()),
        mismatch=float(terms.mismatch.mean()),
        diffusion=float(terms.diffusion.mean()),
        variance=float(each.var(1, ddof=1).mean()),
        log_snr=edges,
        loss=loss,
        event_size=x[0].size,
    )


def _rows(model: Any, x: Any) -> np.ndarray:
    inner = model.model if isinstance(model, AtContext) else model
    if not isinstance(inner, ScoreModel):
        raise ValueError(f"model: expected a ScoreModel, or a conditional one at its contexts, got {in_words(model)}")
    (rows,), _, _ = as_arrays("x", as_numbers("x", x))
    check_events("x", inner, rows)
    return np.asarray(widened(rows))


def _by_log_snr(log_snr: np.ndarray, diffusion: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of the bins, and what of the mean of `diffusion` falls into each, by its width."""
    edges = np.linspace(log_snr.min(), log_snr.max(), bins + 1)
    total, _ = np.histogram(log_snr, edges, weights=diffusion)
    count, _ = np.histogram(log_snr, edges)
    return edges, np.where(count > 0, total / log_snr.size / np.diff(edges), np.nan)
