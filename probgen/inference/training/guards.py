"""What goes wrong with densities of columns that are constant, repeat or lie far off is said before training, and which
losses no rounded data allow after it. All looks are at a part of the rows, on the host."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from probgen.core.rounding import ENOUGH_ROWS, are_repeated, grid
from probgen.distributions import ConditionalModel
from probgen.distributions.conditionals import inner_model
from probgen.distributions.events import Data
from probgen.distributions.transformed import expects_standardized

_ROWS = 20_000  # that are looked at, and so many numbers
_NUMBERS = 2**20
_NAMED = 4  # columns
_COLUMNS = 64  # of which each two are compared
_SAME = 1e-5  # standard deviations


class DataWarning(UserWarning):
    """Warned by `fit` where a density and its data do not go together: values that repeat, columns that are constant or
    copies, flows far from their data, losses below what rounded data allow.

    `warnings.filterwarnings("ignore", category=DataWarning)` silences it.
    """


class Floor(NamedTuple):
    """The least loss, in nats per row, that probabilities of the cells of rounded rows can give, and their steps."""

    loss: float
    steps: list[float]


def look(model: Any, data: Data, kind: str) -> Floor | None:
    """Warn of columns that a continuous density cannot have, or that a flow is far from; return the least loss that
    there can be, where the rows are rounded.

        loss ≥ Σ_d log s_d + H,   s the steps,   H the entropy of the rows' own frequencies (0 at contexts)

    Args:
        model: a distribution, or a conditional one, with its rows in `data`.
        data: as `fit` has it.
        kind: the sign of the loss: a bound, or a loss of another kind, is not looked at.
    """
    inner = inner_model(model)
    if kind not in ("=", "≈") or inner.support is None or inner.support.is_discrete:
        return None
    x = _some(data[0][0])
    names = [_name(index) for index in np.ndindex(*inner.event_shape)]
    if expects_standardized(inner):
        _warn_of_scale(x, names)
    if len(x) < ENOUGH_ROWS:
        return None
    ordered = np.sort(x, axis=0)
    distinct = 1 + (np.diff(ordered, axis=0) > 0).sum(0)
    rows = len(data[0][0])
    among = f"in {rows:,} rows" if len(x) == rows else f"in {len(x):,} of {rows:,} rows"
    _warn_of_constants(x, distinct, names, among)
    _warn_of_copies(x, distinct, names, among)
    steps = [grid(column)[0] for column in x.T]
    _warn_of_repetitions(len(x), distinct, steps, names, among)
    known = [step for step in steps if step is not None]
    if len(known) < len(steps) or (distinct == 1).any():
        return None
    return Floor(float(np.log(known).sum()) + (0.0 if isinstance(model, ConditionalModel) else _entropy(x)), known)


def check_loss(floor: Floor | None, losses: np.ndarray, epoch: int) -> None:
    """Warn where the training loss of the last epoch is less than probabilities of the rounded rows allow.

    Args:
        floor: what `look` returned.
        losses: of each step, in nats per row.
        epoch: how many steps see all rows.
    """
    if floor is None or len(losses) < epoch:
        return
    loss = float(np.mean(losses[-epoch:]))
    if loss < floor.loss - 0.01:
        steps = _listed([f"{step:g}" for step in floor.steps])
        _warn(
            f"fit: the training loss of {loss:.4g} nats is below {floor.loss:.4g}, the least that is possible for rows "
            f"rounded to steps of {steps}: the probabilities of their cells would add up to more than 1, because the "
            "density has learned the rounding; add uniform noise of a step's width (dequantize), or take a model of "
            "levels",
            depth=4,
        )


def _some(x: Any) -> np.ndarray:
    """Return rows at equal distances, as columns of float64."""
    size = max(1, int(np.prod(x.shape[1:])))
    every = -(-len(x) // max(1, min(_ROWS, _NUMBERS // size)))
    some = np.asarray(x[::every], np.float64)
    return some.reshape(len(some), size)


def _warn_of_scale(x: np.ndarray, names: Sequence[str]) -> None:
    mean, sd = x.mean(0), x.std(0)
    far = (np.abs(mean) > 5) | (sd > 10) | ((sd < 0.1) & (sd > 0))
    if far.any() and len(x) > 1:
        said = _listed([f"{names[d]}has mean {mean[d]:.3g} and sd {sd[d]:.3g}" for d in np.flatnonzero(far).tolist()])
        _warn(
            f"data: {said}, far from the mean 0 and sd 1 where the flow begins: set its ActNorm by "
            "probgen.distributions.initialize(flow, x), where it has one, or standardize the columns"
        )


def _warn_of_constants(x: np.ndarray, distinct: np.ndarray, names: Sequence[str], among: str) -> None:
    if constant := np.flatnonzero(distinct == 1).tolist():
        said = _listed([f"{names[d]}is always {x[0, d]:g}" for d in constant])
        _warn(f"data: {said} {among}: a density grows without bound on a constant; leave it out")


def _warn_of_copies(x: np.ndarray, distinct: np.ndarray, names: Sequence[str], among: str) -> None:
    seen: dict[bytes, int] = {}
    pairs = [(d, seen.setdefault((x[:, d] + 0.0).tobytes(), d)) for d in np.flatnonzero(distinct > 1).tolist()]
    if copies := [(d, first) for d, first in pairs if d != first]:
        said = _listed([f"{names[d]}is {names[first]}again" for d, first in copies])
        _warn(f"data: {said} {among}: a density grows without bound where columns are equal; leave the copies out")
    equal = {d for d, _ in copies}
    if lines := [(d, first) for d, first in _on_lines(x, distinct) if d not in equal]:
        said = _listed([f"{names[d]}is a multiple of {names[first]}and a constant" for d, first in lines])
        _warn(f"data: {said} {among}: a density grows without bound on a line; leave one of them out")


def _on_lines(x: np.ndarray, distinct: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of columns, of which the first is a x + b of the second, up to the error of float32."""
    some = np.flatnonzero(distinct > 2)[:_COLUMNS]
    z = x[:, some] - x[:, some].mean(0)
    z /= z.std(0)
    found = []
    for j in range(1, len(some)):
        left = np.abs(z[:, j, None] - np.sign(z[:, :j].T @ z[:, j]) * z[:, :j]).max(0)
        if (same := np.flatnonzero(left < _SAME)).size:
            found.append((int(some[j]), int(some[same[0]])))
    return found


def _warn_of_repetitions(
    rows: int, distinct: np.ndarray, steps: Sequence[float | None], names: Sequence[str], among: str
) -> None:
    few = np.flatnonzero((distinct > 1) & are_repeated(distinct, rows)).tolist()
    if few:
        said = _listed([f"{names[d]}has {distinct[d]} distinct values" + _apart(steps[d]) for d in few])
        _warn(
            f"data: {said} {among}: a density grows without bound on values that repeat; add uniform noise of "
            "a step's width (dequantize), or take a model of levels (`levels=` in many recipes) or of tables "
            "(probgen.tables)"
        )


def _entropy(x: np.ndarray) -> float:
    """Return the entropy of the rows' frequencies, in nats."""
    frequencies = np.unique(x, axis=0, return_counts=True)[1] / len(x)
    return float(-np.sum(frequencies * np.log(frequencies)))


def _apart(step: float | None) -> str:
    return "" if step is None else f" on steps of {step:g}"


def _name(index: tuple[int, ...]) -> str:
    """Return the place of a number in an event as the beginning of what is said of it."""
    if not index:
        return ""
    return f"column {index[0]} " if len(index) == 1 else f"number {index} "


def _listed(said: Sequence[str]) -> str:
    more = len(said) - _NAMED
    return ", ".join(said[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _warn(said: str, depth: int = 5) -> None:
    warnings.warn(said, DataWarning, stacklevel=depth)  # in the line that calls `fit`
