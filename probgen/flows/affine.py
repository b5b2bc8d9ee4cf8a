"""The affine flow, which is the multivariate normal."""

from collections.abc import Sequence

from jax import Array

from probgen.bijectors import Triangular
from probgen.core import recipe
from probgen.distributions import ConditionalModel, Transformed
from probgen.flows.layers import standard_normal
from probgen.mixtures.conditional import moved_by_context


@recipe
def affine_flow(
    dim: int, *, context_dim: int | None = None, hidden: Sequence[int] = (64, 64), key: Array
) -> Transformed | ConditionalModel:
    """A triangular matrix and a shift on a standard normal base: the multivariate normal of any mean and covariance.

        x = L z + b,   x ~ Normal(b, L Lᵀ)

    Args:
        dim: D, the size of an event.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, whose mean and covariance an MLP
            of the context moves.
        hidden: widths of that MLP's hidden layers.
        key: draws the weights of that MLP.

    >>> import jax, jax.numpy as jnp
    >>> round(float(affine_flow(2, key=jax.random.key(0)).log_prob(jnp.zeros(2))), 4)
    -1.8379
    """
    flow = Transformed(standard_normal(dim), Triangular(dim))
    return moved_by_context(flow, hidden=hidden, context_dim=context_dim, key=key)
