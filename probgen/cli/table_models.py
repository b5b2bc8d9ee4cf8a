"""The models of the command line on tables: how each is built, trained, evaluated and drawn from."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from probgen import tables
from probgen.cli.splits import TableSplit
from probgen.cli.training import Plan, Settings, Trained, by_gradients, trained, with_options
from probgen.core.density import sign_of
from probgen.data import Column, Table
from probgen.evaluation import pointwise
from probgen.flows import maf, nsf, real_nvp
from probgen.mixtures import gaussian_mixture
from probgen.tables.layout import Layout, layout_of, log_units
from probgen.tables.missing import of_whole_rows

_PLAN = Plan(0, 256, 2e-3, steps=3000)
_QUICK = Plan(0, 256, 4e-3, steps=200)
_ORDERS = 8  # in which a density is reported, mixed
PARTICLES = 64

Model = tables.AnyOrderTable | tables.FlowTable


class TableEntry(NamedTuple):
    """A model of tables: its name, what it is, and `build(columns, settings, key)`, which makes it."""

    name: str
    what: str
    build: Callable[[tuple[Column, ...], Settings, Array], Model]


class TableResult(NamedTuple):
    """The likelihood of a table's rows, in its own units.

    Attributes:
        values: log p of each row, in nats, or its bound.
        kind: of the density.
        context: the column that is given, or None.
    """

    values: np.ndarray
    kind: Any
    context: str | None

    def __str__(self) -> str:
        nats, spread = -self.values.mean(), self.values.std(ddof=1) / math.sqrt(len(self.values))
        sign, bit = sign_of(self.kind), math.log(2)
        given = f" given {self.context}" if self.context else ""
        return (
            f"{sign} {nats:.4f} ± {spread:.4f} nats a row{given} ({sign} {nats / bit:.3f} ± {spread / bit:.3f} bits, "
            f"{len(self.values)} rows, in the units of the table)"
        )


def _any_order(columns: tuple[Column, ...], settings: Settings, key: Array) -> Model:
    model_key, order_key = jax.random.split(key)
    sizes = {"width": 64, "depth": 1} if settings.quick else {"width": 256, "depth": 2, "dropout": 0.2}
    rng, size = np.random.default_rng(np.asarray(jax.random.key_data(order_key))), layout_of(columns).size
    orders = [rng.permutation(size).tolist() for _ in range(_ORDERS if size > 1 else 1)]
    options = with_options(tables.any_order, {**sizes, "orders": orders}, settings)
    return tables.any_order(columns, **options, key=model_key)


def _flow(recipe: Callable[..., Any], **defaults: Any) -> Callable[[tuple[Column, ...], Settings, Array], Model]:
    """Return what makes a flow, or a mixture, of the numbers given the categories."""

    def build(columns: tuple[Column, ...], settings: Settings, key: Array) -> Model:
        flow_key, key = jax.random.split(key)
        layout, hidden = layout_of(columns), {"hidden": (32,) if settings.quick else (128, 128)}
        _check_numbers(recipe.__name__, layout)
        context = int(layout.sizes.sum()) or None
        own = defaults if recipe is gaussian_mixture and context is None else {**defaults, **hidden}
        options = with_options(recipe, own, settings)
        flow = recipe(layout.numbers.size, **options, context_dim=context, key=flow_key)
        return tables.mixed_flow(columns, flow=flow, key=key)

    return build


def _check_numbers(name: str, layout: Layout) -> None:
    least = 1 if name in ("gaussian_mixture", "maf") else 2
    if layout.numbers.size < least:
        raise ValueError(f"--model: {name} needs {least} columns of numbers, got {layout.numbers.size}: try table")


TABLE_MODELS = [
    TableEntry("table", "any-order model of mixed columns, cells may be missing", _any_order),
    TableEntry("nsf", "neural spline flow on the numbers given the categories", _flow(nsf, passes=None, dropout=0.1)),
    TableEntry("maf", "masked autoregressive flow, the same", _flow(maf, dropout=0.1)),
    TableEntry("real_nvp", "RealNVP, the same", _flow(real_nvp, dropout=0.1)),
    TableEntry("mixture", "mixture of normals, the same", _flow(gaussian_mixture, components=20)),
]


def train_table(entry: TableEntry, data: TableSplit, settings: Settings, *, key: Array) -> Trained:
    """Return a trained model of a table.

    Args:
        entry: which.
        data: the rows.
        settings: what the user says.
        key: the randomness.
    """
    model_key, fit_key = jax.random.split(key)
    model = entry.build(data.train.columns, settings, model_key)
    view, rows, held_out = tables.rows_of(model, data.train, data.validation)
    plan = _QUICK if settings.quick else _PLAN
    result = by_gradients(view, rows, held_out, entry.name, plan, settings, key=fit_key)
    return trained(result, of_whole_rows(result.model))


def evaluate_table(
    model: Model, table: Table, context: str | None, *, key: Array, particles: int | None = None
) -> TableResult:
    """Return the likelihood of a table's rows in its units; given one of its columns, that of the others.

    Args:
        model: of the table.
        table: rows.
        context: the column that is given.
        key: the randomness of a bound.
        particles: of a bound.

    Raises ValueError where a context is asked of a flow, or particles of a model with an exact density.
    """
    if isinstance(model, tables.FlowTable):
        check_given(context)
        _, rows = tables.rows_of(model, table)
        values = pointwise(model, rows, key=key, num_particles=particles or PARTICLES)
        return TableResult(values + log_units(model.columns, table.array), model.kind, None)
    if particles is not None:
        raise ValueError("--particles: the model has an exact density, which they would not change")
    if context is None:
        return TableResult(tables.log_prob(model, table), model.kind, None)
    model, place = given_first(model, context), table.names.index(context)
    alone = np.full_like(table.array, np.nan)
    alone[:, place] = table.array[:, place]
    of_context = tables.log_prob(model, Table(table.columns, alone))
    return TableResult(tables.log_prob(model, table) - of_context, model.kind, context)


def check_given(context: str | None) -> None:
    """Raise ValueError where a context is given to a flow."""
    if context is not None:
        raise ValueError("--context: a flow is no model of its columns given one of them; --model table is")


def given_first(model: tables.AnyOrderTable, context: str) -> tables.AnyOrderTable:
    """Return the model with a column moved to the front of its orders. Raises ValueError where it is not modelled.

    Args:
        model: of a table.
        context: the column's name.
    """
    names = [column.name for column in model.layout.columns]
    if context not in names:
        raise ValueError(f"--context: expected one of the columns {', '.join(names)}, got {context!r}")
    first = names.index(context)
    return model.replace(orders=[(first, *(i for i in order if i != first)) for order in model.orders])


def sample_table(model: Model, num: int, given: Sequence[str], *, key: Array) -> Table:
    """Return a table of draws; what is given, COLUMN=VALUE, is in all rows.

    Args:
        model: of a table.
        num: how many rows.
        given: what is.
        key: the randomness.

    Raises ValueError where there is no such column or value, or the model is a flow.
    """
    if not given:
        return tables.sample(model, key, num)
    if not isinstance(model, tables.AnyOrderTable):
        check_given(given[0])
    rows: dict[str, Sequence[Any]] = {column.name: [None] * num for column in model.columns}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--context: expected COLUMN=VALUE, got {text!r}")
        given_first(model, name)
        known = next(column for column in model.columns if column.name == name)
        rows[name] = [_value(known, value)] * num
    try:
        known_cells = Table.from_cells(rows, columns=model.columns)
        return tables.impute(model, key, known_cells)
    except ValueError as error:
        raise ValueError(f"--context: {str(error).removeprefix('table: ').replace(', row 0', '')}") from error


def _value(column: Column, text: str) -> Any:
    if column.dtype == "str":
        return text
    if column.dtype == "bool":
        if text.lower() not in (found := {"true": True, "1": True, "false": False, "0": False}):
            raise ValueError(f"--context: expected True or False for {column.name}, got {text!r}")
        return found[text.lower()]
    try:
        number = int(text) if column.dtype == "int" else float(text)
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        raise ValueError(f"--context: expected a number for {column.name}, got {text!r}") from None
    return number
