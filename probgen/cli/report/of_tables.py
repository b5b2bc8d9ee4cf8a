"""The sections of a report on a model of a table: what each column costs, and draws beside rows, column by column."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from probgen import tables
from probgen.cli.report import pictures
from probgen.cli.report.findings import Finding, Item, Listing, Picture, Section, gathered
from probgen.cli.splits import TableSplit
from probgen.cli.table_models import Model, TableResult
from probgen.data import Column, Table
from probgen.evaluation import classifier_test, energy_test, memorization, precision_recall
from probgen.tables.layout import encoded, layout_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 500  # test rows, and draws beside them
_COLUMNS = 24  # that are drawn
_BARS = 12  # categories of one


def sections(model: Model, data: TableSplit, found: TableResult, *, key: jax.Array) -> list[Section]:
    """Return all that is said of a model of a table.

    Args:
        model: of the table.
        data: its rows.
        found: the likelihood of the test rows.
        key: the randomness of draws.
    """
    draw_key, key = jax.random.split(key)
    some = data.test[: min(_MOST, len(data.test))]
    draws = tables.sample(model, draw_key, len(some))
    return [_likelihood(model, some, found), _draws(model, data, some, draws, key), _description(data)]


def _likelihood(model: Model, some: Table, found: TableResult) -> Section:
    text = (
        "The likelihood is in the units of the table: of a category, a count or a rounded number it is a probability, "
        "of another number a density per unit of its column, so that its nats depend on the unit and may be negative."
    )
    nats, spread = -found.values.mean(), found.values.std(ddof=1) / math.sqrt(len(found.values))
    per_row = Finding("nats", "nats a row", nats, "nats", spread, found.kind)
    bits = Finding("bits", "bits a row", nats / math.log(2), "bits", spread / math.log(2), found.kind)
    parts = {"rows": lambda: [per_row, bits], "columns": lambda: _costs(model, some)}
    return gathered("likelihood", "What rows cost", text, parts)


def _costs(model: Model, some: Table) -> Iterator[Item]:
    """Yield what each column costs alone, and given all others of its row."""
    if not isinstance(model, tables.AnyOrderTable):
        raise ValueError("a flow has no density of single columns")
    names = [column.name for column in model.layout.columns]
    x, seen = encoded(model.columns, some.array)
    of_cells = jax.jit(lambda model, known, asked: model.log_prob_after(x, known, asked))
    one = model.replace(orders=model.orders[:1])  # what is asked for is one cell: there is no order of it
    alone, rest = [], []
    for i in range(len(names)):
        asked = seen & (np.arange(len(names)) == i)
        rows = asked.any(1)
        alone.append(-np.asarray(of_cells(one, np.zeros_like(seen), asked))[rows].mean())
        rest.append(-np.asarray(of_cells(one, seen & ~asked, asked))[rows].mean())
    saved = np.array(alone) - np.array(rest)
    lines = [f"{name}: {a:.3f} alone, {r:.3f} given the others" for name, a, r in zip(names, alone, rest)]
    yield Listing("columns", "What each column costs, in nats (of numbers that are not rounded: standardized)", lines)
    caption = "What the other columns say of each: the nats by which they make it cheaper. Near 0 it stands alone."

    def draw(ax: "Axes") -> None:
        order = np.argsort(saved)[-_COLUMNS:]
        ax.barh([names[i] for i in order], saved[order], height=0.7)
        ax.set(xlabel="nats saved by the other columns")

    yield Picture("saved", caption, pictures.of_axes(draw, height=1.2 + 0.28 * min(len(names), _COLUMNS)))


def _draws(model: Model, data: TableSplit, some: Table, draws: Table, key: jax.Array) -> Section:
    filled, missing = some, int(np.isnan(some.array).sum())
    words = ""
    if missing and isinstance(model, tables.AnyOrderTable):
        key, fill_key = jax.random.split(key)
        filled = tables.impute(model, fill_key, some)
        words = f" {missing} missing cells of the rows were filled by the model, and cannot tell them apart."
    text = (
        f"{len(draws)} draws of the model beside {len(some)} test rows: numbers in units of their spread, categories "
        f"as indicators.{words} A p-value is the chance of a difference as large if draws and rows were of one "
        "distribution; a large one says that so many rows do not show a difference, and not that there is none."
    )
    both = features(filled), features(draws)
    parts = {
        "columns": lambda: [Picture("columns", "Each column: test rows and draws.", _columns(some, draws))],
        "relations": lambda: _relations(*both),
        "tests": lambda: _tests(*both, key),
        "neighbourhoods": lambda: _neighbourhoods(*both, data),
    }
    return gathered("samples", "What the model draws", text, parts)


def features(table: Table) -> np.ndarray:
    """Return rows as they are compared: numbers standardized, categories as indicators, [N, features].

    Args:
        table: without missing cells.
    """
    parts = []
    for column in layout_of(table.columns).columns:
        x = table.array[:, table.names.index(column.name)]
        if column.values:
            parts.append(np.eye(len(column.values))[x.astype(int)])
        else:
            y = np.log(x) if column.scale == "log" else x
            parts.append(((y - column.loc) / column.spread)[:, None])
    return np.concatenate(parts, 1).astype(np.float32)


def _columns(some: Table, draws: Table) -> bytes:
    shown = layout_of(some.columns).columns[:_COLUMNS]
    wide = 3
    drawn = pictures.figure(3.1 * wide, 2.1 * -(-len(shown) // wide))
    axes = drawn.subplots(-(-len(shown) // wide), wide, squeeze=False).ravel()
    for ax, column in zip(axes, shown):
        place = some.names.index(column.name)
        _one_column(ax, column, some.array[:, place], draws.array[:, place])
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    axes[0].legend(fontsize="small")
    return pictures.png(drawn)


def _one_column(ax: "Axes", column: Column, rows: np.ndarray, draws: np.ndarray) -> None:
    rows = rows[~np.isnan(rows)]
    if column.values:
        counts = [np.bincount(x.astype(int), minlength=len(column.values)) / len(x) for x in (rows, draws)]
        most = np.argsort(-counts[0], kind="stable")[:_BARS]
        most = np.sort(most) if column.kind == "ordinal" else most
        at = np.arange(len(most))
        for shift, share, label in ((-0.2, counts[0], "test rows"), (0.2, counts[1], "draws")):
            ax.bar(at + shift, share[most], width=0.4, label=label)
        ax.set_xticks(at, [str(column.values[i])[:10] for i in most], rotation=45, ha="right", fontsize="x-small")
    else:
        both = np.concatenate([rows, draws])
        low, high = np.quantile(both, [0.002, 0.998])
        log = column.scale == "log" and low > 0
        edges = np.geomspace(low, high, 31) if log else np.linspace(low, high if high > low else low + 1.0, 31)
        for x, label in ((rows, "test rows"), (draws, "draws")):
            ax.stairs(np.histogram(x, edges)[0] / len(x), edges, label=label, lw=1.2)
        if log:
            ax.set_xscale("log")
    ax.set_title(column.name[:28], fontsize="small")
    ax.set_yticks([])


def _relations(rows: np.ndarray, draws: np.ndarray) -> Iterator[Item]:
    kept = (rows.std(0) > 0) & (draws.std(0) > 0)
    if kept.sum() < 2:
        raise ValueError("there are no two numbers, or indicators, that vary")
    of_rows, of_draws = (np.corrcoef(x[:, kept].T)[np.triu_indices(int(kept.sum()), 1)] for x in (rows, draws))
    caption = "The correlation of each two features: on the line where rows and draws agree."

    def draw(ax: "Axes") -> None:
        ax.axline((0, 0), slope=1, color="0.6", lw=0.8)
        ax.scatter(of_rows, of_draws, s=8, alpha=0.5, linewidths=0)
        ax.set(xlabel="correlation, test rows", ylabel="the same, draws")

    yield Picture("correlations", caption, pictures.of_axes(draw, width=4.2, height=4.0))
    gap = float(np.abs(of_rows - of_draws).mean())
    meaning = f"The noise of so many rows alone makes about {math.sqrt(2 / (math.pi * len(rows)) * 2):.3f} of it."
    yield Finding("correlation_gap", "mean difference of correlations", gap, meaning=meaning)


def _tests(rows: np.ndarray, draws: np.ndarray, key: jax.Array) -> Iterator[Item]:
    energy_key, classifier_key = jax.random.split(key)
    energy = energy_test(draws, rows, key=energy_key)
    yield Finding("energy_distance", "energy distance of draws and test rows", energy.statistic)
    yield Finding("energy_p_value", "its p-value", energy.p_value, "probability", energy.se_p_value)
    told = classifier_test(draws, rows, key=classifier_key)
    count = sum(told.rows)
    error = math.sqrt(told.statistic * (1 - told.statistic) / count)
    meaning = f"How often a small network tells draws from test rows, on {count} that it has not seen; ½ is a coin's."
    yield Finding("classifier_accuracy", "a classifier is right", told.statistic, "share", error, meaning=meaning)
    yield Finding("classifier_p_value", "its p-value", told.p_value, "probability", told.se_p_value)


def _neighbourhoods(rows: np.ndarray, draws: np.ndarray, data: TableSplit) -> Iterator[Item]:
    found: Any = precision_recall(rows, draws)
    for name, value, error in zip(("precision", "recall"), found[:2], found.se):
        yield Finding(name, name, value, "share", error)
    whole = data.train[data.train.observed.all(1)]
    copied = memorization(features(whole), rows, draws)
    meaning = f"The chance that a draw is nearer to one of {len(whole)} training rows than a test row is; ½ is right."
    yield Finding("nearer", "draws nearer to training rows", copied.nearer, "probability", copied.se, meaning=meaning)
    meaning = "Equal to a training row in every cell; rows of few values may well be."
    yield Finding("copies", "draws that are copies", copied.copies, "draws", kind="exact", meaning=meaning)


def _description(data: TableSplit) -> Section:
    listing = Listing("columns", f"{data.name}: its training rows", str(data.train.describe()).splitlines())
    text = "How its columns were read, and what was done with them."
    return Section("table", "What the table holds", text, [listing], {})
