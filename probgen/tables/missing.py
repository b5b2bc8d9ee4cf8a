"""Rows of which some cells are missing."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from probgen.distributions.conditionals import inner_model
from probgen.distributions.delegate import Delegate
from probgen.tables.any_order import AnyOrderTable
from probgen.tables.flow_table import FlowTable


class Observed(Delegate):
    """Rows of which some cells are missing: the density of the others, by conditionals that see nothing else.

        p(x_O) = 1/M Σ_m Π_{i ∈ O, in the order σ_m} p(x_i | x_j, j ∈ O before i)

    It is a distribution of the observed cells, and what the model was trained to say of them. Of a missing cell that
    comes last in all orders it is the margin ∫ p(x) dx_{∖O} exactly; of another it is that margin as far as the
    network's conditionals agree with one another, which training brings about and nothing guarantees.

    Which cells are missing is known, and says nothing of them (missing at random). Without a mask it waits for one as a
    context: `ConditionalModel(Observed(model), model.event_shape)` is what `fit` and `evaluate` take with
    (x, observed). A missing cell is a point mass at a feasible value.

    Args:
        model: an `AnyOrderTable`.
        observed: booleans [*batch, D], True where a cell is.

    References: Statistical Analysis with Missing Data (Little, Rubin 1987).

    >>> import jax.numpy as jnp
    >>> from probgen.data import Column
    >>> columns = (Column("a", "ordinal", "int", (0, 1)), Column("b", "ordinal", "int", (0, 1)))
    >>> coins = AnyOrderTable(lambda features, known: jnp.zeros(4), columns)
    >>> jnp.exp(Observed(coins, jnp.array([True, False])).log_prob(jnp.array([1.0, 0.0]))).round(4)
    Array(0.5, dtype=float32)
    """

    pytree_data_fields = ("observed",)
    fused = False

    def __init__(self, model: AnyOrderTable, observed: Array | None = None):
        if not isinstance(model, AnyOrderTable):
            raise ValueError(f"model: expected an AnyOrderTable, got a {type(model).__name__}")
        self.model, self.observed = model, None if observed is None else model.as_mask(observed)
        lead = () if self.observed is None else self.observed.shape[:-1]
        super().__init__(jnp.broadcast_shapes(lead, model.batch_shape), model.event_shape)

    def bind_context(self, context: Array) -> "Observed":
        """Return the same model, of the cells that the context says are observed."""
        return Observed(self.model, context)

    def _known(self) -> Array:
        if self.observed is None:
            raise ValueError("this model is conditional: call ConditionalModel(Observed(model), (D,)) with masks first")
        return self.observed

    def _blank(self, value: Array) -> Array:
        return jnp.where(self._known(), value, self.model.layout.feasible)

    def _log_prob(self, value: Array) -> Array:
        mask = jnp.broadcast_to(self._known(), value.shape)
        log_p = self.model.log_prob_after(value, jnp.zeros(value.shape, bool), mask)
        return jnp.where(jnp.all(self._blank(value) == value, -1), log_p, -jnp.inf)

    def _training_loss(self, key: Array, value: Array, num_particles: int) -> Array:
        mask = jnp.broadcast_to(self._known(), value.shape)
        return self.model._losses(key, value, mask, num_particles)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._blank(self.model.sample(key, (*sample_shape, *self.batch_shape)))


def of_whole_rows(model: Any) -> AnyOrderTable | FlowTable:
    """Return a model of a table, or the one inside a model of what is observed, as `rows_of` returns it.

    Args:
        model: either of them.

    Raises ValueError for another one.
    """
    inner = inner_model(model)
    found = inner.model if isinstance(inner, Observed) else inner
    if not isinstance(found, AnyOrderTable | FlowTable):
        raise ValueError(f"model: expected one of a table, got a {type(inner).__name__}")
    return found
