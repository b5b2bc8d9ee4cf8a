"""What the rows of a table may be."""

import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.data.columns import Column
from probgen.tables.layout import layout_of


class Rows(constraints.Constraint):
    """The rows of a table as events [D]: codes of categories, places on grids, and reals.

    Args:
        columns: of the table.
    """

    is_discrete = False
    event_dim = 1

    def __init__(self, columns: tuple[Column, ...]):
        self.columns = columns

    def __call__(self, x: Array) -> Array:
        """Return whether each event is a row."""
        return layout_of(self.columns).contain(jnp.asarray(x))

    def __repr__(self) -> str:
        return f"rows of {', '.join(column.name for column in layout_of(self.columns).columns)}"

    def feasible_like(self, prototype: Array) -> Array:
        """Return a row of each of a prototype's."""
        return jnp.broadcast_to(layout_of(self.columns).feasible, jnp.shape(prototype))

    def tree_flatten(self) -> tuple[tuple, tuple]:
        """Return no leaves: the columns are static."""
        return (), ((), {"columns": self.columns})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self.columns == other.columns

    def __hash__(self) -> int:
        return hash(self.columns)
