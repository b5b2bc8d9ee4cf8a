"""The contenders of `tables.py` that are probgen's, or simple: with likelihoods of rows as probabilities."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special
from tables_data import is_coded

import probgen
from probgen import tables
from probgen.cli.splits import TableSplit
from probgen.cli.table_models import TABLE_MODELS, evaluate_table, train_table
from probgen.cli.training import Settings
from probgen.data import Table
from probgen.tables.layout import layout_of
from probgen.tables.missing import of_whole_rows

_PARTICLES = 64


class Fitted(NamedTuple):
    """What was learned: `sample(num, seed)` returns a table, `log_prob(table)` nats of its rows, or there is none;
    `said` is how much it trained."""

    sample: Callable[[int, int], Table]
    log_prob: Callable[[Table], np.ndarray] | None
    said: str


Fit = Callable[[Table, Table, float, int], Fitted]  # (train, validation, CPU-seconds, seed)


def by_command(name: str, steps: int) -> Fit:
    """A model as `probgen train --model NAME --steps STEPS` makes it."""
    entry = next(entry for entry in TABLE_MODELS if entry.name == name)

    def fit(train: Table, validation: Table, seconds: float, seed: int) -> Fitted:
        split = TableSplit("", train, validation, validation)
        model = train_table(entry, split, Settings(steps=steps), key=jax.random.key(seed)).model

        def log_prob(table: Table) -> np.ndarray:
            return evaluate_table(model, table, None, key=jax.random.key(0)).values

        return Fitted(lambda num, seed: tables.sample(model, jax.random.key(seed), num), log_prob, f"{steps} steps")

    return fit


class Constant(eqx.Module):
    """A network that sees nothing."""

    raw: jax.Array

    def __call__(self, features: jax.Array, known: jax.Array) -> jax.Array:
        return self.raw


def independent(train: Table, validation: Table, seconds: float, seed: int) -> Fitted:
    """Each column alone: probabilities of categories, mixtures of eight logistics on the grids of numbers."""
    model = _margins(train, validation, seed)
    sample = lambda num, seed: tables.sample(model, jax.random.key(seed), num)
    return Fitted(sample, lambda table: tables.log_prob(model, table), "600 steps")


@functools.lru_cache(maxsize=1)
def _margins(train: Table, validation: Table, seed: int) -> tables.AnyOrderTable:
    size = tables.AnyOrderTable(lambda f, k: f, train.columns).head.num_params
    blank = tables.AnyOrderTable(Constant(jnp.zeros(size)), train.columns)
    view, rows, held_out = tables.rows_of(blank, train, validation)
    rate = optax.adam(optax.cosine_decay_schedule(3e-2, 600))
    result = probgen.fit(
        view,
        rows,
        validation=held_out,
        steps=600,
        batch_size=min(512, len(train)),
        optimizer=rate,
        key=jax.random.key(seed),
        progress=False,
    )
    return of_whole_rows(result.model)


def copula(train: Table, validation: Table, seconds: float, seed: int) -> Fitted:
    """A Gaussian copula of those margins, its correlations by expectation–maximization: the probability of a row is
    that of a box of normal numbers."""
    model, rng = _margins(train, validation, seed), np.random.default_rng(seed)
    margins = [_Margin(model, train, validation, j) for j in range(len(train.columns))]
    box = lambda table: np.stack([m.ends(x) for m, x in zip(margins, table.array.T, strict=True)], -1)
    correlation = np.eye(len(margins))
    for _ in range(20):
        z, log_weights = _in_boxes(rng, *box(train), correlation, 16)
        weights = special.softmax(log_weights, 0)
        moments = np.einsum("kn,kni,knj->ij", weights, z, z) / len(train)
        correlation = moments / np.sqrt(np.outer(np.diag(moments), np.diag(moments)))

    def log_prob(table: Table) -> np.ndarray:
        log_weights = _in_boxes(np.random.default_rng(0), *box(table), correlation, _PARTICLES)[1]
        return special.logsumexp(log_weights, 0) - np.log(_PARTICLES)

    def sample(num: int, seed: int) -> Table:
        z = np.random.default_rng(seed).multivariate_normal(np.zeros(len(margins)), correlation, num)
        return Table(train.columns, np.stack([m.at(special.ndtr(x)) for m, x in zip(margins, z.T, strict=True)], -1))

    return Fitted(sample, log_prob, "20 rounds")


class _Margin:
    """The distribution function of one column of the model of independent ones, on its grid."""

    def __init__(self, model: tables.AnyOrderTable, train: Table, validation: Table, j: int):
        column, seen = train.columns[j], np.concatenate([train.array[:, j], validation.array[:, j]])
        if is_coded(column):
            self.low, self.step, count = 0.0, 1.0, len(column.values)
        else:
            assert column.step is not None, f"{column.name} is not rounded"
            reach = np.ptp(seen) // column.step * column.step
            self.step, self.low = column.step, seen.min() - reach
            count = round(3 * reach / self.step) + 1
            below = 0 if column.low is None else max(0, int(np.ceil((column.low - self.low) / self.step - 1e-6)))
            self.low, count = self.low + below * self.step, count - below
        places = np.array(layout_of(train.columns).feasible)[None].repeat(count, 0)
        first = 0 if is_coded(column) else round((self.low - column.offset) / self.step)
        places[:, j] = first + np.arange(count)
        mass = np.exp(np.asarray(_of_column(model, jnp.asarray(places), j), np.float64))
        self.cdf = np.minimum(np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum(), 1.0)

    def ends(self, x: np.ndarray) -> np.ndarray:
        """The normal numbers between which values lie, [2, N]."""
        place = np.clip(np.rint((x - self.low) / self.step).astype(int), 0, len(self.cdf) - 2)
        return special.ndtri(np.stack([self.cdf[place], self.cdf[place + 1]]))

    def at(self, u: np.ndarray) -> np.ndarray:
        """The values at these chances."""
        place = np.searchsorted(self.cdf, u, side="right") - 1
        return np.round(self.low + self.step * np.clip(place, 0, len(self.cdf) - 2), 10)


@jax.jit
def _of_all(model: tables.AnyOrderTable, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: model.head.log_prob(model.network.raw, x))(x)


def _of_column(model: tables.AnyOrderTable, x: jax.Array, j: int) -> np.ndarray:
    return np.concatenate([np.asarray(_of_all(model, x[i : i + 4096])[:, j]) for i in range(0, len(x), 4096)])


def _in_boxes(
    rng: np.random.Generator, low: np.ndarray, high: np.ndarray, correlation: np.ndarray, particles: int
) -> tuple[np.ndarray, np.ndarray]:
    """Normal numbers [K, N, D] within boxes [N, D], drawn one after the other, and logs of weights [K, N] whose mean is
    a box's probability (Geweke 1991, Hajivassiliou, Keane)."""
    factor = np.linalg.cholesky(correlation + 1e-6 * np.eye(len(correlation)))
    noise = np.zeros((particles, *low.shape))
    log_weights = np.zeros(noise.shape[:2])
    for j in range(low.shape[1]):
        mean = noise[..., :j] @ factor[j, :j]
        a, b = ((end[:, j] - mean) / factor[j, j] for end in (low, high))
        upper = a > 0  # where both lie far above, their mirror images are told apart
        a, b = np.where(upper, -b, a), np.where(upper, -a, b)
        p, q = special.ndtr(a), special.ndtr(b)
        log_weights += np.log(np.maximum(q - p, 1e-300))
        drawn = special.ndtri(np.clip(p + rng.uniform(size=p.shape) * (q - p), 1e-300, 1 - 1e-16))
        noise[..., j] = np.where(upper, -drawn, drawn)
    return noise @ factor.T, log_weights
