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

    What depends between coordinates it cannot tell; that of integers is `probgen.mixtures.histogram`.

    Args: `dim` D; `low`, `high`: numbers, or tuples of D, outside of which the density is 0; `bins` of
    each coordinate; `data`, [N, D]: counted, with `smoothing` more in every bin (so m is the exact maximum of the
    likelihood, or at ½ the estimate of Krichevsky and Trofimov); without it all bins are alike, to be learned by
    gradients. With `context_dim` a `ConditionalModel`: an MLP (`hidden` widths; it needs `key`) moves the logits.
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
