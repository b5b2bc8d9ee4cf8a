"""Several models on the same rows: which differences mean something, given what kind of number each of them is."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from probgen.core import as_numbers, check_distributions, check_flags, check_sizes
from probgen.distributions import ConditionalModel
from probgen.distributions.conditionals import inner_model
from probgen.distributions.supports import differ, of_scalars
from probgen.evaluation.likelihood.quadrature import free_numbers
from probgen.evaluation.likelihood.row_by_row import Evaluation, evaluate, has_bound_of_draws

_ROUNDING = 8  # units in the last place of a log-density, which two programs for one density may differ by


class Comparison(NamedTuple):
    """What `compare` found; `str` prints a table, the lowest loss first.

    An exact value stands above a bound that is lower than it, unless by more than chance.

    Attributes:
        names: of the models, in the order of the table.
        evaluations: of each.
        difference: nats of model i less those of model j, per row, [M, M].
        se: its standard error, from the differences in the same rows, [M, M].
        p_value: of its being 0, two-sided, adjusted for all pairs (Holm), [M, M].
        better: whether model i is shown to have the lower loss, [M, M]: the difference is more than chance at `level`,
            more than tolerances and rounding, and the loss of model j is no bound, which might be as low.
        level: the chance of one false word in the whole table.
        supports: of each model, in words; the same words for the same set.
    """

    names: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    difference: np.ndarray
    se: np.ndarray
    p_value: np.ndarray
    better: np.ndarray
    level: float
    supports: tuple[str, ...]

    def verdict(self, name: str) -> str:
        """Return what is known of a model beside the first of the table.

        Args:
            name: of the model.

        Raises ValueError where there is none of that name.
        """
        if name not in self.names:
            raise ValueError(f"name: expected one of {', '.join(self.names)}, got {name!r}")
        i = self.names.index(name)
        if i == 0:
            return "the first"
        if self.better[0, i]:
            return "worse"
        if self.p_value[0, i] >= self.level:
            return "no difference shown"
        return "not comparable: a higher bound may hide a lower loss"

    def __str__(self) -> str:
        width = max(map(len, self.names))
        lines = []
        for i, (name, found) in enumerate(zip(self.names, self.evaluations, strict=True)):
            of_first = ""
            if i:
                p = f"p = {self.p_value[0, i]:.2g}"
                of_first = f"  {self.difference[i, 0]:+.3f} ± {self.se[i, 0]:.3f} nats ({p}): {self.verdict(name)}"
            lines.append(f"{name:{width}}  {found}{of_first}")
        pairs = len(self.names) * (len(self.names) - 1) // 2
        about = f"differences to the first, row by row; p of {pairs} pairs (Holm), level {self.level:g}"
        return "\n".join([*lines, about, *self._note()])

    def _note(self) -> list[str]:
        """Return a line on supports that differ."""
        if len(set(self.supports)) == 1:
            return []
        each = _listed(dict(zip(self.names, self.supports, strict=True)))
        return [f"supports differ ({each}); all rows lie in each of them"]


def compare(
    models: Mapping[str, dist.Distribution | ConditionalModel],
    data: Any,
    *,
    key: Array | None = None,
    num_particles: int = 1,
    batch_size: int = 128,
    level: float = 0.05,
    across_supports: bool = False,
    progress: bool = True,
) -> Comparison:
    """Return a table of models with what their differences on the same rows mean.

        d_ij = 1/N Σ_n [log p_j(x_n) − log p_i(x_n)],   t = d / se(d),   se(d)² = Var_n[…] / N

    A test of Student's t for each pair, since the best is chosen by the same rows; the p-values are Holm's. A bound
    (≤) below an exact value (=) shows the better model, and an exact value below a bound shows nothing but a gap. By as
    much as tolerances and the rounding of log-densities, numbers are taken to agree. Rows have to be independent of
    each other; of a few, or where a few of them make most of the difference, the p-values are too small.

    Numbers are compared that are relative to one measure: masses of integers, densities on ℝᴰ, or densities over one
    set of fewer dimensions, such as the simplex. Different parts of ℝᴰ, as those of a normal and a log-normal, and
    different ranges of integers have one measure; but a model that knows the bounds is told something that the other
    has to learn, so that they are refused unless `across_supports`. All rows have to lie in each of them.

    Args:
        models: {name: a model, as for `evaluate`}, two or more.
        data: x [N, *event_shape], N ≥ 2, or (x, contexts), of which models without contexts see x alone.
        key: a `jax.random.key` for all of them, where one has a bound of draws.
        num_particles: of the bounds.
        batch_size: rows at a time.
        level: the chance of one false word in the whole table.
        across_supports: also models over different parts of ℝᴰ or ranges of integers, which the table then names.
        progress: a bar for each model, where it takes longer than a second.

    Raises ValueError where the models are fewer, have events of different shapes or, unless `across_supports`, of
    different supports (with it, of one), or what they say is relative to different measures; where rows are all the
    same, are none of a model's, or have a density of 0; and as `evaluate`.

    References: A Simple Sequentially Rejective Multiple Test Procedure (Holm 1979), Scandinavian Journal of Statistics
    6; Uncertainty in Bayesian Leave-One-Out Cross-Validation Based Model Comparison (Sivula, Magnusson, Matamoros,
    Vehtari 2020), arXiv:2008.10296.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (1000,))
    >>> models = {"narrow": dist.Normal(0.0, 1.0), "wide": dist.Normal(0.0, 1.5), "shifted": dist.Normal(0.01, 1.0)}
    >>> found = compare(models, x)
    >>> [f"{name}: {found.verdict(name)}" for name in found.names[1:]]
    ['shifted: no difference shown', 'wide: worse']
    """
    _check_models(models)
    check_flags(across_supports=across_supports)
    supports = _in_words(models)
    _check_supports(supports, across_supports)
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number in (0, 1), got {level!r}")
    check_sizes(num_particles=num_particles)
    if num_particles > 1 and not any(map(has_bound_of_draws, models.values())):
        raise ValueError("num_particles: no model has a bound of draws, which alone they would change")
    conditional = any(isinstance(model, ConditionalModel) for model in models.values())
    _check_rows_differ(data)
    evaluations = {}
    for name, model in models.items():
        rows = data[0] if conditional and not isinstance(model, ConditionalModel) and isinstance(data, tuple) else data
        particles = num_particles if has_bound_of_draws(model) else 1
        try:
            evaluations[name] = evaluate(
                model,
                rows,
                key=key,
                num_particles=particles,
                batch_size=batch_size,
                progress=name if progress else False,
            )
        except ValueError as error:
            raise ValueError(f"models[{name!r}]: {error}") from None
        if np.isinf(lost := evaluations[name].pointwise.log_likelihood.values).any():
            row = np.isinf(lost).argmax()
            raise ValueError(f"models[{name!r}]: the density of row {row} is {np.exp(lost[row]):.0f}: no finite loss")
    return _compared(evaluations, level, supports)


def _compared(evaluations: Mapping[str, Evaluation], level: float, supports: Mapping[str, str]) -> Comparison:
    names = sorted(evaluations, key=lambda name: evaluations[name].nats)
    found = _differences([evaluations[name] for name in names], level)
    order = _order([evaluations[name] for name in names], found[2] < level)
    difference, se, p_value, better = (matrix[np.ix_(order, order)] for matrix in found)
    names = [names[i] for i in order]
    of = lambda values: tuple(values[name] for name in names)
    return Comparison(tuple(names), of(evaluations), difference, se, p_value, better, level, of(supports))


def _differences(found: list[Evaluation], level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (differences, standard errors, adjusted p-values, whether the first of a pair is better), [M, M]."""
    from scipy import stats

    loss = -np.stack([one.pointwise.log_likelihood.values for one in found])
    pairs = loss[:, None] - loss[None, :]
    count = loss.shape[1]
    difference, se = pairs.mean(-1), pairs.std(-1, ddof=1) / math.sqrt(count)
    tolerance = np.array([one.tolerance for one in found])
    tolerance = tolerance + rounding(loss)
    beyond = np.maximum(np.abs(difference) - tolerance[:, None] - tolerance[None, :], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(beyond == 0, 1.0, 2 * stats.t.sf(beyond / se, count - 1))
    upper = np.triu_indices(len(found), 1)
    p[upper] = holm(p[upper])
    p.T[upper] = p[upper]
    no_bound = np.array([one.kind in ("exact", "estimate") for one in found])
    return difference, se, p, (difference < 0) & (p < level) & no_bound[None, :]


def rounding(values: np.ndarray) -> np.ndarray:
    """Return how much means of log-densities [..., N] may differ by rounding alone."""
    return _ROUNDING * float(jnp.finfo(jnp.zeros(()).dtype).eps) * np.abs(values).mean(-1)


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values [M] adjusted for being M of them, by Holm's steps."""
    order = np.argsort(p)
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def _order(found: list[Evaluation], differ: np.ndarray) -> list[int]:
    """Return the order of the table, of losses that rise: an exact value goes before the bounds and estimates above it
    that it does not differ from."""
    exact = [one.sign == "=" for one in found]
    order: list[int] = []
    for i in range(len(found)):
        place = len(order)
        while exact[i] and place and not exact[order[place - 1]] and not differ[i, order[place - 1]]:
            place -= 1
        order.insert(place, i)
    return order


def _check_models(models: Any) -> None:
    if not isinstance(models, Mapping) or len(models) < 2 or not all(isinstance(name, str) for name in models):
        raise ValueError(f"models: expected {{name: model}} of at least two, got {models!r}")
    for name, model in models.items():
        if not isinstance(model, ConditionalModel):
            check_distributions("a model, or a ConditionalModel", **{f"models[{name!r}]": model})
    (first, one), *others = models.items()
    for name, other in others:
        shapes = inner_model(one).event_shape, inner_model(other).event_shape
        if shapes[0] != shapes[1]:
            raise ValueError(f"models: expected events of one shape, got {first!r}: {shapes[0]}, {name!r}: {shapes[1]}")
        measures = _measure(inner_model(one)), _measure(inner_model(other))
        if measures[0] != measures[1]:
            raise ValueError(
                f"models: expected masses, or densities relative to one measure, got {first!r}: {measures[0]}, "
                f"{name!r}: {measures[1]}, which no number compares"
            )


def _measure(model: dist.Distribution) -> str:
    """Return what a model's log_prob is relative to, in words: one measure has the same words."""
    support: Any = model.support
    if support is None:
        return f"a density over events of shape {model.event_shape}"
    if support.is_discrete:
        return "masses of integers"
    size = math.prod(model.event_shape)
    return f"a density on ℝ^{size}" if free_numbers(model) == size else f"a density over {of_scalars(support)}"


def _check_supports(supports: Mapping[str, str], across: bool) -> None:
    differ = len(set(supports.values())) > 1
    if differ and not across:
        raise ValueError(f"models: expected one support, got {_listed(supports)}: across_supports=True compares them")
    if across and not differ:
        raise ValueError(f"across_supports: the models have one support, {next(iter(supports.values()))}")


def _listed(supports: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {support}" for name, support in supports.items())


def _in_words(models: Mapping[str, Any]) -> dict[str, str]:
    """Return the support of each model, by the first description where several are of the same set."""
    supports = {name: inner_model(model).support for name, model in models.items()}
    same = lambda a, b: a is b or not (a is None or b is None or differ(a, b))
    first = {name: next(one for one in supports.values() if same(one, own)) for name, own in supports.items()}
    return {name: "unknown" if one is None else repr(of_scalars(one)) for name, one in first.items()}


def _check_rows_differ(data: Any) -> None:
    """Raise ValueError where there is one row, or all are the same: the spread of the differences says nothing then."""
    parts = [as_numbers("data", x) for x in (data if isinstance(data, tuple) else (data,)) if not isinstance(x, dict)]
    if not all(np.ndim(x) for x in parts):
        return  # `evaluate` says what is wrong with them
    count = max((len(x) for x in parts), default=0)
    if count < 2:
        raise ValueError(f"data: expected at least two rows, for a standard error, got {count}")
    block = 8192
    for x in parts:
        if any(np.any(np.asarray(x[i : i + block]) != np.asarray(x[0])) for i in range(0, len(x), block)):
            return
    raise ValueError(f"data: expected rows that differ, got {count} copies of one, whose differences have no spread")
