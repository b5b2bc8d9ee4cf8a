"""A flow on a table's numbers, given its categories."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from probgen.data.columns import Column
from probgen.distributions import Model
from probgen.tables.any_order import AnyOrderTable
from probgen.tables.layout import Layout, layout_of
from probgen.tables.support import Rows


class FlowTable(Model):
    """Rows of mixed columns: a model of the categories, and a flow on the numbers that is conditional on them.

        p(x) = P(c) ∏_j w_j E_u p(z(x, u) | c),   u ~ Uniform(0, 1)^C

    A number that is rounded is spread over its bin, w_j wide in standardized units, so that the model has unbiased
    estimates of its mass: `log_prob_bound` is a bound that tightens with the particles. Where all numbers are unrounded
    there is no noise. All cells have to be there.

    Args:
        codes: an `AnyOrderTable` of the categories; None where there are none.
        flow: of the standardized numbers [C]; where there are categories, conditional on all of them, one-hot.
        columns: of the table.

    Raises ValueError where a column is not rounded and repeats values: a density grows there without bound.

    References: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios 2019), arXiv:1906.04032; RNADE (Uria, Murray,
    Larochelle 2013), arXiv:1306.0186, on dequantization.

    >>> import jax, probgen
    >>> from probgen.data import Column
    >>> columns = (Column("colour", "categorical", "str", ("blue", "red")), Column("size", "real", "float"))
    >>> model = probgen.tables.mixed_flow(columns, width=8, key=jax.random.key(0))
    >>> model.sample(jax.random.key(1), (3,)).shape
    (3, 2)
    """

    pytree_data_fields = ("codes", "flow")
    pytree_aux_fields = ("columns",)
    kind = "weights"

    def __init__(
        self, codes: AnyOrderTable | None, flow: Any, columns: Sequence[Column], *, validate_args: bool | None = None
    ):
        self.codes, self.flow, self.columns = codes, flow, tuple(columns)
        for column in layout_of(self.columns).columns:
            if column.atoms and column.step is None:
                raise ValueError(
                    f"columns: {column.name!r} is not rounded and repeats the value {column.atoms[0]:.10g}, where the "
                    "density of a flow grows without bound: take any_order (--model table), or say the column's step"
                )
        super().__init__((layout_of(self.columns).size,), validate_args=validate_args)

    @property
    def layout(self) -> Layout:
        """Which columns are categories, and which are numbers."""
        return layout_of(self.columns)

    @property
    def support(self) -> Rows:
        """The rows of the table."""
        return Rows(self.columns)

    def _flow(self, codes: Array) -> Any:
        """Return the flow given categories [C₁]."""
        if self.codes is None:
            return self.flow
        hot = [jax.nn.one_hot(code, int(size)) for code, size in zip(codes, self.layout.sizes)]
        return self.flow(jnp.concatenate(hot))

    def log_weight_event(self, key: Array, x: Array) -> Array:
        """Return the log of an unbiased estimate of the mass of one row."""
        codes, cells = x[self.layout.categories], x[self.layout.places]
        lower, width = self.layout.numbers.bins(cells)
        rounded = self.layout.numbers.rounded
        z = lower + jnp.where(rounded, jax.random.uniform(key, cells.shape) * width, 0.0)
        log_p = self._flow(codes).log_prob(z) + jnp.sum(jnp.log(width))
        return log_p if self.codes is None else log_p + self.codes.log_prob(codes)

    def sample_event(self, key: Array) -> Array:
        """Draw one row."""
        codes_key, key = jax.random.split(key)
        codes = jnp.zeros(0) if self.codes is None else self.codes.sample(codes_key)
        cells = self.layout.numbers.cells(self._flow(codes).sample(key))
        out = jnp.zeros(self.event_shape, cells.dtype)
        return out.at[self.layout.categories].set(codes).at[self.layout.places].set(cells)
