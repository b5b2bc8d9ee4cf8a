"""The likelihood of held-out data, with its kind, its unit and its standard error."""

import collections
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from tqdm import tqdm

from probgen.core import DensityKind, check_distributions, check_key, check_sizes
from probgen.core.density import sign_of
from probgen.distributions import ConditionalModel
from probgen.distributions.conditionals import inner_model
from probgen.distributions.events import rows_where_they_are, widened
from probgen.distributions.wrapped import family, is_masked, kind_of
from probgen.inference import FitResult

if TYPE_CHECKING:
    import xarray

_AHEAD = 4  # blocks that the device is given before the host waits for the first of them
_PATIENCE = 1.0  # seconds without a bar


class Evaluation(NamedTuple):
    """The mean negative log-likelihood of rows; `str` prints it with its sign.

    Attributes:
        nats: per row.
        se_nats: its standard error over rows.
        kind: of the density; with "weights" and "bound" the truth is at most this.
        event_size: D, the numbers of an event.
        rows: how many there are.
        num_particles: of the bound.
        tolerance: of a solver's step, say, in nats; 0 where the density is what its kind says.
        seconds: of the clock, compilation among them.
        pointwise: an `xarray.Dataset` with `log_likelihood` of each `row`, in nats, and the attributes `kind`, `unit`,
            `event_size`, `num_particles` and `tolerance`.
    """

    nats: float
    se_nats: float
    kind: DensityKind
    event_size: int
    rows: int
    num_particles: int
    tolerance: float
    seconds: float
    pointwise: "xarray.Dataset"

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


def evaluate(
    model: dist.Distribution | ConditionalModel,
    data: Any,
    *,
    key: Array | None = None,
    num_particles: int = 1,
    batch_size: int = 128,
    progress: bool | str = True,
) -> Evaluation:
    """Return −1/N Σ log p(x_n), exact where the model is, else its bound with `num_particles`, or its estimate.

    Memory does not grow with N, but for the 8 bytes of each row's value: rows stay where they are (a `numpy.memmap` in
    its file) and are taken a block at a time.

    Args:
        model: a distribution of batch shape (), ours or numpyro's, or a conditional one.
        data: x [N, *event_shape], or (x, contexts [N, *context]).
        key: a `jax.random.key`, where what the model has is random.
        num_particles: of the bound.
        batch_size: rows at a time.
        progress: a bar of rows, where it takes longer than a second; a string names it.

    Raises ValueError where there are no rows, or some that are no event of the model, where the key is missing, where
    particles would change nothing, or where the model gives NaN.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.mixtures import histogram
    >>> found = evaluate(histogram((2,), 4), jnp.zeros((10, 2), int))
    >>> print(found)
    = 2.0000 ± 0.0000 bits/dim (= 2.773 ± 0.000 nats, 10 rows)
    >>> found.pointwise.log_likelihood.shape, found.pointwise.kind
    ((10,), 'exact')
    """
    import xarray

    began = time.perf_counter()
    values = _values(model, data, key, num_particles, batch_size, progress)
    seconds = time.perf_counter() - began
    inner = inner_model(model)
    kind, tolerance = kind_of(inner), getattr(inner, "tolerance", 0.0)
    known = len(values) > 1 and np.isfinite(values).all()
    spread = float(values.std(ddof=1) / math.sqrt(len(values))) if known else math.nan
    size = max(1, math.prod(inner.event_shape))
    about = {"event_size": size, "num_particles": num_particles, "tolerance": tolerance}
    rows = xarray.Dataset(
        {"log_likelihood": ("row", values)},
        {"row": np.arange(len(values))},
        {"kind": kind, "unit": "nats", **about},
    )
    return Evaluation(
        0.0 - float(values.mean()), spread, kind, size, len(values), num_particles, tolerance, seconds, rows
    )


def pointwise(
    model: dist.Distribution | ConditionalModel,
    data: Any,
    *,
    key: Array | None = None,
    num_particles: int = 1,
    batch_size: int = 128,
) -> np.ndarray:
    """Return log p(x_n) of each row in nats, [N] in float64: exact where the model is, else its bound with
    `num_particles`, or its estimate.

    Args:
        model: as for `evaluate`.
        data: as for `evaluate`.
        key: as for `evaluate`.
        num_particles: of the bound.
        batch_size: rows at a time.

    Raises ValueError as `evaluate`.

    >>> import jax.numpy as jnp
    >>> from probgen.mixtures import histogram
    >>> pointwise(histogram((2,), 4), jnp.zeros((3, 2), int)).round(3)
    array([-2.773, -2.773, -2.773])
    """
    return _values(model, data, key, num_particles, batch_size, progress=False)


def _values(
    model: Any, data: Any, key: Array | None, num_particles: int, batch_size: int, progress: bool | str
) -> np.ndarray:
    check_sizes(batch_size=batch_size, num_particles=num_particles)
    if not isinstance(progress, bool | str):
        raise ValueError(f"progress: expected True, False or a name, got {progress!r}")
    check_density(model)
    arrays, inner = rows_where_they_are("data", model, data), inner_model(model)
    if num_particles > 1 and not has_bound_of_draws(model):
        raise ValueError(f"num_particles: {type(inner).__name__} has no bound of draws, which alone they would change")
    if key is None and kind_of(inner) != "exact" and getattr(inner, "random_bound", True):
        raise ValueError(f"key: {type(inner).__name__} has no exact density, and what it has needs a jax.random key")
    if key is not None:
        check_key(key)
    block = _compiled(model, jax.random.key(0) if key is None else key, num_particles)
    name = progress if isinstance(progress, str) else None
    values, done = np.empty(len(arrays[0])), 0
    with tqdm(
        total=len(values), desc=name, disable=progress is False, delay=_PATIENCE, unit="rows", dynamic_ncols=True
    ) as bar:
        for found in _in_order(block, arrays, batch_size):
            found = found[: len(values) - done]
            values[done : done + len(found)] = found
            done += len(found)
            bar.update(len(found))
    if (lost := np.isnan(values)).any():
        raise ValueError(
            f"model: log p(x) is NaN for {lost.sum()} of {len(values)} rows, the first is row {lost.argmax()}"
        )
    return values


def check_density(model: Any) -> None:
    """Raise ValueError where a model, ours or numpyro's, conditional or not, has no density."""
    if isinstance(model, ConditionalModel):
        return
    if isinstance(model, FitResult):
        raise ValueError("model: expected a distribution, got a FitResult: pass its .model")
    check_distributions("a model, or a ConditionalModel", model=model)
    if is_masked(model) or isinstance(family(model), dist.ImproperUniform | dist.Unit):
        raise ValueError("model: expected one with a density, got one that is masked, improper or a factor")


def has_bound_of_draws(model: Any) -> bool:
    """Return whether particles change what a model says of its likelihood."""
    inner = inner_model(model)
    return kind_of(inner) in ("weights", "bound") and getattr(inner, "random_bound", True)


def _compiled(model: Any, key: Array, num_particles: int) -> Callable[..., Array]:
    """Return the values of a block, given the number of its first row and its rows."""
    leaves, structure = jax.tree.flatten(model)  # once, and not for each block

    @jax.jit
    def block(leaves: list, start: Array, x: Array, *context: Array) -> Array:
        model, block_key = jax.tree.unflatten(structure, leaves), jax.random.fold_in(key, start)
        x, context = widened((x, context))
        model = model(*context) if context else model
        if kind_of(model) == "exact":
            return model.log_prob(x)
        if model.kind == "estimate":
            return model.log_prob_estimate(block_key, x)
        return model.log_prob_bound(block_key, x, num_particles)

    return lambda start, *rows: block(leaves, np.int32(start), *rows)


def _in_order(block: Callable[..., Array], arrays: tuple, size: int) -> Iterator[np.ndarray]:
    """Yield the values of one block after the other, while the device works at the next ones; the last is filled up
    with rows from the start, so that all have one shape, and one compilation."""
    count, pending = len(arrays[0]), collections.deque[Array]()
    on_device = jax.jit(lambda x, start: jnp.take(x, (start + jnp.arange(size)) % count, 0))
    for start in range(0, count, size):
        rows = slice(start, start + size) if start + size <= count else np.arange(start, start + size) % count
        parts = [on_device(x, np.int32(start)) if isinstance(x, jax.Array) else x[rows] for x in arrays]
        pending.append(block(start, *parts))
        if len(pending) > _AHEAD:
            yield np.asarray(pending.popleft())
    yield from map(np.asarray, pending)
