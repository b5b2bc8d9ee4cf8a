"""The histogram of real numbers, as a flow."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.bijectors import PiecewiseLinear
from probgen.core import check_sizes, recipe
from probgen.distributions import ConditionalModel, Transformed
from probgen.mixtures.conditional import moved_by_context


@recipe(formerly=("flows.histogram",))
def histogram_flow(
    dim: int,
    *,
    low: float | Sequence[float],
    high: float | Sequence[float],
    bins: int = 50,
    data: Array | None = None,
    smoothing: float = 0.5,
    context_dim: int | None = None,
    hidden: Sequence[int] = (64, 64),
    key: Array | None = None,
) -> Transformed | ConditionalModel:
    """A histogram for each of D independent coordinates: uniform numbers pushed through its inverse CDF.

        p(x) = Π_d m_d[j(x_d)] / w_d,   w = (high − low) / bins,   j the bin

    It cannot tell how coordinates depend on one another. That of integers is `probgen.mixtures.histogram`.

    Args:
        dim: D, the size of an event.
        low: a number, or a sequence of D, below which the density is 0.
        high: the same, above which it is 0.
        bins: how many for each coordinate.
        data: [N, D], counted into m, the exact maximum of the likelihood; without it all bins are alike, to be learned
            by gradients.
        smoothing: counts that every bin has beside the data's; at ½ m is the estimate of Krichevsky and Trofimov.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, whose network, an MLP of the
            context, moves the logits.
        hidden: widths of that MLP's hidden layers.
        key: draws the weights of that MLP, which alone needs it.

    Raises ValueError for ends that do not fit, data outside of them, and a context without a key.

    References: The Performance of Universal Encoding (Krichevsky, Trofimov 1981); On the histogram as a density
    estimator (Freedman, Diaconis 1981).

    >>> import jax.numpy as jnp
    >>> flow = histogram_flow(
    ...     1, low=0.0, high=10.0, bins=2, data=jnp.array([[1.0], [2.0], [3.0], [7.0]]), smoothing=0.0
    ... )
    >>> [round(float(p), 4) for p in jnp.exp(flow.log_prob(jnp.array([[4.0], [9.0]])))]
    [0.15, 0.05]
    """
    check_sizes(dim=dim, bins=bins)
    quantile = PiecewiseLinear(jnp.zeros((dim, bins)), low, high)
    if data is not None:
        quantile = quantile.counted(data, smoothing)
    flow = Transformed(dist.Uniform(jnp.zeros(dim), 1.0).to_event(1), quantile)
    return moved_by_context(flow, hidden=hidden, context_dim=context_dim, key=key)
