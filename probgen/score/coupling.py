"""Couplings: which noise goes with which data in a batch."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclass(frozen=True)
class Coupling:
    """The base of couplings. A subclass writes `__call__(noise, v, event_dim) -> noise`, of the same rows anew."""

    def __call__(self, noise: Array, v: Array, event_dim: int) -> Array:
        """Return the noise of each row of data v [*rows, *event_shape]."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")


@dataclass(frozen=True)
class Independent(Coupling):
    """Noise as it was drawn, whatever the data are."""

    def __call__(self, noise: Array, v: Array, event_dim: int) -> Array:
        """Return the noise."""
        return noise


@dataclass(frozen=True)
class OptimalTransport(Coupling):
    """The noise of a batch, dealt out to its rows so that Σ ‖v − ε‖² is least: exact optimal transport in the batch.

    Straight lines from data to noise cross less often then, so that fewer steps of a sampler do; but data and noise are
    not independent, x̂ is E[v | z] of their coupling, and −ε̂/σ is the score of nothing. The assignment is found on the
    host, in O(n³) for n rows.

    Raises ValueError where rows come one by one, as those of a conditional model do, whose noise would depend on their
    context.

    References: Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (Tong et al.
    2024), arXiv:2302.00482; Multisample Flow Matching (Pooladian et al. 2023), arXiv:2304.14772.

    >>> noise, v = jnp.array([[-1.0], [1.0]]), jnp.array([[5.0], [-5.0]])
    >>> OptimalTransport()(noise, v, 1).tolist()
    [[1.0], [-1.0]]
    """

    def __call__(self, noise: Array, v: Array, event_dim: int) -> Array:
        """Return the noise of each row, the same in another order."""
        shape = noise.shape[: noise.ndim - event_dim]
        if not shape:
            raise ValueError(
                "coupling: expected a batch of rows, got one; a conditional model's rows have contexts of their own, "
                "and noise that is dealt out among them would depend on these"
            )
        flat = noise.reshape(-1, max(1, v[(0,) * len(shape)].size))
        order = jax.pure_callback(
            _assign,
            jax.ShapeDtypeStruct((len(flat),), jnp.int32),
            v.reshape(flat.shape) @ flat.T,
            vmap_method="sequential",
        )
        return flat[order].reshape(noise.shape)


def _assign(products: Array) -> np.ndarray:
    """Return which column each row takes, so that the sum of products is largest: the distances' least."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(-np.asarray(products))[1].astype(np.int32)
