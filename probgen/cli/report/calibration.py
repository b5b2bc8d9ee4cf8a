"""Whether the model's distribution functions, and its importance weights, can be trusted."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from probgen import plotting
from probgen.autoregressive import Ragged
from probgen.cli.report import pictures
from probgen.cli.report.findings import Finding, Item, Picture, Section, gathered
from probgen.cli.report.subject import Subject
from probgen.distributions import ConditionalModel
from probgen.evaluation import pareto_k, pit, pit_uniformity
from probgen.evaluation.likelihood.row_by_row import has_bound_of_draws
from probgen.evaluation.posteriors.pareto import largest_k

_LEVEL = 0.01
_FEWEST = 100  # weights of a row, of which a tail can be fitted
_ROWS = 100  # whose weights are looked at


def section(about: Subject) -> Section:
    """Return the probability integral transform, and k̂ of importance weights.

    Args:
        about: the model and its data.
    """
    parts = {"probability integral transform": lambda: _pit(about)}
    if about.evaluation.kind == "weights" and has_bound_of_draws(about.model):
        parts["importance weights"] = lambda: _weights(about)
    text = "Whether the model is as certain as it should be, and whether its bound can be trusted."
    return gathered("calibration", "Calibration", text, parts)


def _pit(about: Subject) -> Iterator[Item]:
    u, columns = _uniforms(about)
    pooled = pit_uniformity(u)
    p = float(pooled.p_chi_square[0])
    meaning = (
        f"Where each of {u.size:,} numbers of test rows falls in the model's own distribution of it, given those "
        "before it (of a flow: where what it is mapped to falls): even on [0, 1] if the model is right. So many show "
        "the least fault."
    )
    yield Finding("pit_p_value", "p-value of even places (χ², all numbers)", p, "probability", meaning=meaning)
    distance = float(pooled.ks[0])
    meaning = "How far the share of numbers below any place is from what it should be, at most."
    yield Finding("pit_distance", "distance from even places", distance, "probability", meaning=meaning)
    if columns is not None and columns.shape[1] > 1:
        failing = int((pit_uniformity(columns).p_ks < _LEVEL / columns.shape[1]).sum())
        meaning = (
            f"Of {columns.shape[1]}, each tested by itself (Kolmogorov–Smirnov) on {len(columns)} rows, so that a "
            f"right model has one with a probability of at most {_LEVEL:g}."
        )
        yield Finding("pit_failing", "numbers of a row that fail", failing, "numbers", kind="exact", meaning=meaning)
    caption = (
        "Places of the numbers in the model's distributions, over the band that holds 99 % of a right model's. Heaps "
        "at both ends are a model that is too narrow, a heap in the middle one that is too wide, a slope a bias."
    )
    yield Picture(
        "pit", caption, pictures.of_axes(lambda ax: plotting.pit_histogram(u, ax=ax).set(ylabel="numbers"), height=2.8)
    )


def _uniforms(about: Subject) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the transform of all numbers, [M], and by columns, [N, D], where rows have one length."""
    key = jax.random.fold_in(about.key, 3)
    if isinstance(about.inner, Ragged):
        x, lengths = about.some
        u = np.asarray(pit(about.inner.model, x, key=key)).reshape(len(x), math.prod(about.event_shape))
        return u[np.arange(u.shape[1]) < lengths[:, None]], None
    rows = about.some if isinstance(about.model, ConditionalModel) else about.some[0]
    u = np.asarray(pit(about.model, rows, key=key)).reshape(len(about.chosen), -1)
    return u.ravel(), u


def _weights(about: Subject) -> Iterator[Item]:
    count = max(about.particles, _FEWEST)
    rows = tuple(x[:_ROWS] for x in about.some)

    @jax.jit
    def log_weights(model: Any, key: jax.Array, x: jax.Array, *context: jax.Array) -> Any:
        return (model(*context) if context else model).log_weights(key, x, count)

    k = pareto_k(log_weights(about.model, jax.random.fold_in(about.key, 4), *rows))
    limit = largest_k(count)
    share = float((k > limit).mean())
    meaning = (
        f"Of {len(k)} rows with {count} weights each, how many have a Pareto k̂ above {limit:.2f}: their likelihood is "
        "carried by a few weights, and their bound may be far from tight."
    )
    error = math.sqrt(share * (1 - share) / len(k))
    yield Finding("pareto_k_above", "rows whose weights are not to be trusted", share, "share", error, meaning=meaning)
    meaning = "Half of the rows have a smaller one; at 0.5 and above, weights have no finite variance."
    yield Finding("pareto_k_median", "median k̂ of the weights", float(np.median(k)), meaning=meaning)
