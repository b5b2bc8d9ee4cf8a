"""Any model, made conditional: an MLP of the context moves all that it learns."""

from collections.abc import Sequence
from typing import TypeVar

from jax import Array

from probgen.core import count_parameters
from probgen.distributions import ConditionalModel, Distribution
from probgen.networks import MLP

M = TypeVar("M", bound=Distribution)


def moved_by_context(
    flow: M, *, hidden: Sequence[int], context_dim: int | None, key: Array | None
) -> M | ConditionalModel:
    """Return the model, or with a context one whose learned numbers an MLP of the context moves."""
    if not context_dim:
        return flow
    if key is None:
        raise ValueError("key: expected a jax.random.key for the network of the context, got None")
    network = MLP(context_dim, count_parameters(flow), hidden=hidden, key=key)
    return ConditionalModel(flow, (context_dim,), network)
