"""Recipes of models of tables."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from probgen.core import check_sizes, recipe
from probgen.data.columns import Column
from probgen.distributions.conditionals import inner_model
from probgen.flows import nsf
from probgen.networks import ResidualMLP
from probgen.tables.any_order import AnyOrderTable
from probgen.tables.flow_table import FlowTable
from probgen.tables.layout import layout_of


def columns_of(columns: Any) -> tuple[Column, ...]:
    """Return columns, which come back from a file as plain tuples. Raises ValueError where they are something else.

    Args:
        columns: of a table.
    """
    if not isinstance(columns, list | tuple) or not all(isinstance(column, tuple) for column in columns):
        raise ValueError(f"columns: expected those of a table, table.columns, got a {type(columns).__name__}")
    return tuple(Column(*column) for column in columns)


@recipe
def any_order(
    columns: Sequence[Column],
    *,
    width: int = 256,
    depth: int = 2,
    components: int = 8,
    dropout: float = 0.1,
    orders: Sequence[Sequence[int]] | None = None,
    key: Array,
) -> AnyOrderTable:
    """Any-order autoregressive model of a table: a residual network, a head for each type of column.

        p(x) = Π_i p(x_i | x_{<i})   in the order of the table, and in any other

    Args:
        columns: of a `probgen.data.Table`, as it describes them.
        width: of the residual network.
        depth: how many blocks it has.
        components: logistics in the mixture of a number.
        dropout: the rate in the blocks, in training.
        orders: those in which the density is reported, mixed; the table's by default.
        key: draws the first weights.

    Raises ValueError where no column varies.

    References: A Deep and Tractable Density Estimator (Uria, Murray, Larochelle 2014), arXiv:1310.1757; Autoregressive
    Diffusion Models (Hoogeboom et al. 2022), arXiv:2110.02037.

    >>> import jax
    >>> from probgen.data import Column
    >>> columns = (Column("colour", "categorical", "str", ("blue", "red")), Column("size", "real", "float"))
    >>> model = any_order(columns, width=8, depth=1, key=jax.random.key(0))
    >>> model.sample(jax.random.key(1), (3,)).shape
    (3, 2)
    """
    columns = columns_of(columns)
    check_sizes(components=components)
    blank = AnyOrderTable(lambda features, known: features, columns, components=components)
    sizes = blank.layout.num_features, blank.head.num_params
    network = ResidualMLP(*sizes, context_dim=blank.layout.size, width=width, depth=depth, dropout=dropout, key=key)
    return AnyOrderTable(network, columns, components=components, orders=orders)


@recipe
def mixed_flow(
    columns: Sequence[Column],
    *,
    flow: Any = None,
    width: int = 128,
    dropout: float = 0.1,
    key: Array,
) -> FlowTable:
    """Flow of a table's numbers given its categories: autoregressive splines, and an any-order model of the categories.

        p(x) = P(c) p(z | c)

    Args:
        columns: of a `probgen.data.Table`, as it describes them, with at least one of numbers.
        flow: of the standardized numbers [C], conditional on the categories, one-hot, where there are some; made by a
            recipe of flows or mixtures. By default `nsf` with five layers.
        width: of the network of the categories.
        dropout: the rate in the networks, in training.
        key: draws the first weights.

    Raises ValueError where no column holds numbers, one that is not rounded repeats values, or the flow is of other
    sizes.

    References: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios 2019), arXiv:1906.04032.

    >>> import jax, probgen
    >>> columns = (Column("size", "real", "float"), Column("age", "count", "int", step=1.0, low=0.0, spread=9.0))
    >>> flow = probgen.flows.maf(2, layers=1, hidden=(8,), key=jax.random.key(0))
    >>> mixed_flow(columns, flow=flow, key=jax.random.key(1)).event_shape
    (2,)
    """
    columns = columns_of(columns)
    layout, keys = layout_of(columns), jax.random.split(key)
    if not layout.numbers.size:
        raise ValueError(
            "columns: expected some of numbers for the flow, got categories only; take any_order (--model table)"
        )
    sizes, context = (layout.numbers.size,), int(layout.sizes.sum())
    if flow is None:
        flow = nsf(*sizes, passes=None, hidden=(128, 128), dropout=dropout, context_dim=context or None, key=keys[0])
    found = getattr(flow, "context_shape", ()), inner_model(flow).event_shape
    if found != ((context,) if context else (), sizes):
        raise ValueError(
            f"flow: expected one of {sizes[0]} numbers given {context}, got one of {found[1]} given {found[0]}"
        )
    categories = tuple(layout.columns[i] for i in layout.categories)
    codes = any_order(categories, width=width, dropout=dropout, key=keys[1]) if categories else None
    return FlowTable(codes, flow, columns)
