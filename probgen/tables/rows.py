"""Models and tables: the likelihood of a table's rows in its own units, tables that are drawn, and cells filled in."""

import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import Array

from probgen.core import check_key, check_sizes
from probgen.core.rounding import OFF_GRID, are_repeated
from probgen.data.columns import Column
from probgen.data.table import Table
from probgen.distributions import ConditionalModel
from probgen.tables.any_order import AnyOrderTable
from probgen.tables.flow_table import FlowTable
from probgen.tables.layout import decoded, encoded, is_modelled, log_units
from probgen.tables.missing import Observed, of_whole_rows
from probgen.tables.numbers import is_rounded, number, place

_AT_ONCE = 1 << 17  # calls of a network


def rows_of(model: Any, *tables: Table) -> tuple[Any, ...]:
    """Return a model and the rows of tables as `fit` and `evaluate` take them: (model, rows, …).

    Where no cell is missing in any of them they are the model itself and events [N, D]; otherwise the model of what is
    observed, conditional on which cells that are, and (events, masks).

    Args:
        model: of these columns, or what `rows_of` or `fit` made of it.
        tables: rows to train on, and others to validate by.

    Raises ValueError where a table has other columns, numbers off their grid or outside of their bounds, or where cells
    are missing and the model is a flow. Warns of columns without a step whose numbers are few.

    >>> import jax, probgen
    >>> table = probgen.data.Table.from_cells({"colour": ["red", "blue", "red"], "size": [1.5, 2.25, None]})
    >>> model = probgen.tables.any_order(table.columns, width=8, depth=1, key=jax.random.key(0))
    >>> _, (x, observed) = rows_of(model, table)
    >>> x.shape, int(observed.sum())
    ((3, 2), 5)
    """
    model = of_whole_rows(model)
    for table in tables:
        _check_columns(model, table)
        _warn_of_repetitions(table)
    rows = [encoded(model.columns, table.array) for table in tables]
    if all(observed.all() for _, observed in rows):
        return model, *(x for x, _ in rows)
    if not isinstance(model, AnyOrderTable):
        missing = next(observed for _, observed in rows if not observed.all())
        row, column = np.argwhere(~missing)[0]
        name = model.layout.columns[column].name
        raise ValueError(
            f"table: {name!r} is missing in row {row}, and a flow needs all cells: take any_order (--model table)"
        )
    return ConditionalModel(Observed(model), model.event_shape), *rows


def log_prob(model: Any, table: Table) -> np.ndarray:
    """Return log p of each row's observed cells, [N], in nats, in the table's own units.

    Of a category, or of a rounded number, it is the logarithm of a probability; of another number that of a density,
    per unit of its column. Of a row with missing cells it is that of the others (`Observed`).

    Args:
        model: an `AnyOrderTable` of these columns, or what `rows_of` or `fit` made of it.
        table: its rows.

    Raises ValueError where the table has other columns, and for a model without a density.

    >>> import jax, probgen
    >>> table = probgen.data.Table.from_cells({"coin": [0, 1, 1, None]})
    >>> model = probgen.tables.any_order(table.columns, width=8, depth=1, key=jax.random.key(0))
    >>> log_prob(model, table).round(4)  # log 1/2; of nothing, 0
    array([-0.6931, -0.6931, -0.6931,  0.    ])
    """
    model = _any_order(model)
    _check_columns(model, table)
    x, observed = encoded(model.columns, table.array)
    size = max(1, _AT_ONCE // (model.layout.size * len(model.orders)))
    parts = [np.asarray(_log_prob(model, x[rows], observed[rows]), np.float64) for rows in _blocks(len(x), size)]
    return np.concatenate([np.zeros(0), *parts]) + log_units(model.columns, table.array)


@jax.jit
def _log_prob(model: AnyOrderTable, x: Array, observed: Array) -> Array:
    return Observed(model, observed).log_prob(x)


def sample(model: Any, key: Array, num: int) -> Table:
    """Return a table of rows that are drawn, with the columns, units and names of the one that the model is of.

    Args:
        model: of a table, or what `rows_of` or `fit` made of it.
        key: the randomness.
        num: how many rows.

    Raises ValueError where `num` is less than 1, and for a model of something else.

    >>> import jax, probgen
    >>> table = probgen.data.Table.from_cells({"colour": ["red", "blue", "red"], "size": [1.5, 2.25, 3.0]})
    >>> model = probgen.tables.any_order(table.columns, width=8, depth=1, key=jax.random.key(0))
    >>> sorted(sample(model, jax.random.key(1), 5).cells())
    ['colour', 'size']
    """
    check_sizes(num=num)
    check_key(key)
    model = of_whole_rows(model)
    draw = jax.jit(lambda model, key, count: model.sample(key, (count,)), static_argnums=2)
    blocks = enumerate(_blocks(num, _AT_ONCE))
    parts = [draw(model, jax.random.fold_in(key, i), rows.stop - rows.start) for i, rows in blocks]
    return Table(model.columns, decoded(model.columns, np.concatenate(parts)))


def impute(model: Any, key: Array, table: Table) -> Table:
    """Return the table with its missing cells drawn from their distribution given the others of their row.

    Args:
        model: an `AnyOrderTable` of these columns, or what `rows_of` or `fit` made of it.
        key: the randomness; several keys are several imputations.
        table: its rows.

    Raises ValueError where the table has other columns, and for a flow, which knows no cells given others.

    >>> import jax, probgen
    >>> table = probgen.data.Table.from_cells({"colour": ["red", "blue", None], "size": [1.5, None, 3.0]})
    >>> model = probgen.tables.any_order(table.columns, width=8, depth=1, key=jax.random.key(0))
    >>> bool(impute(model, jax.random.key(1), table).observed.all())
    True
    """
    model = _any_order(model)
    _check_columns(model, table)
    check_key(key)
    x, observed = encoded(model.columns, table.array)
    draw = jax.jit(lambda model, key, x, observed: model.given(x, observed).sample(key))
    blocks = enumerate(_blocks(len(x), _AT_ONCE))
    parts = [draw(model, jax.random.fold_in(key, i), x[rows], observed[rows]) for i, rows in blocks]
    filled = decoded(model.columns, np.concatenate([np.zeros((0, model.layout.size)), *parts]))
    return Table(model.columns, np.where(np.isnan(table.array), filled, table.array))


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Yield the places of blocks of rows, at most `size` in each."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _any_order(model: Any) -> AnyOrderTable:
    """Return the model of whole rows. Raises ValueError where it has no density, and knows no cells given others."""
    found = of_whole_rows(model)
    if not isinstance(found, AnyOrderTable):
        raise ValueError(f"model: expected an AnyOrderTable, which has a density, got a {type(found).__name__}")
    return found


def _check_columns(model: AnyOrderTable | FlowTable, table: Table) -> None:
    """Raise ValueError where a table's columns are not those of a model, or its values are none that they may have."""
    if not isinstance(table, Table):
        raise ValueError(f"table: expected a probgen.data.Table, got a {type(table).__name__}")
    facts = lambda columns: [(c.name, c.kind, c.values, c.step) for c in columns]
    if facts(model.columns) != facts(table.columns):
        names = [c.name for c in model.columns]
        raise ValueError(
            f"table: expected the columns that the model is of, {', '.join(names)}; got {', '.join(table.names)}, or "
            "some that were read as others: read(path, columns=model.columns)"
        )
    for column, x in zip(model.columns, table.array.T):
        if is_modelled(column) and column.kind not in ("categorical", "ordinal"):
            check_numbers(column, x[~np.isnan(x)])


def check_numbers(column: Column, x: np.ndarray) -> None:
    """Raise ValueError where numbers lie outside of a column's bounds, or off the grid of its steps.

    Args:
        column: of numbers.
        x: [N], none of them missing.
    """
    low, high = column.low, column.high
    outside = np.zeros(len(x), bool) if low is None else (x <= low if column.kind == "positive" else x < low)
    outside |= (x > high) if high is not None else False
    if outside.any():
        words = {"above" if column.kind == "positive" else "from": low, "up to": high}
        ends = " ".join(f"{word} {end:.10g}" for word, end in words.items() if end is not None)
        raise ValueError(f"table: column {column.name!r} has {x[outside][0]:.10g}, and takes numbers {ends}")
    if is_rounded(column):
        off = np.abs(x - number(column, place(column, x))) > OFF_GRID * (column.step or 1.0) + 1e-9 * np.abs(x)
        if off.any():
            raise ValueError(
                f"table: column {column.name!r} has {x[off][0]:.10g}, and takes numbers on steps of {column.step:g} "
                "only: where it does not, say so by table.overrule, before there is a model"
            )


def _warn_of_repetitions(table: Table) -> None:
    """Warn of numbers that are few and not rounded: a density grows without bound there."""
    for column, x in zip(table.columns, table.array.T):
        seen = x[~np.isnan(x)]
        if is_modelled(column) and not column.values and not is_rounded(column):
            distinct = len(np.unique(seen))
            if are_repeated(distinct, len(seen)) and distinct > len(column.atoms):
                warnings.warn(
                    f"table: column {column.name!r} has {distinct} distinct numbers in {len(seen)} cells, and no step: "
                    "a density grows without bound on values that repeat; give it a step, or make it ordinal "
                    "(table.overrule)",
                    stacklevel=3,
                )
