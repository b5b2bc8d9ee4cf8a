"""Densities whose gradients are right everywhere."""

import copy

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax

_WRAPPERS = (dist.MaskedDistribution, dist.ExpandedDistribution, dist.Independent)
_CLIPPED = (dist.BernoulliLogits, dist.BinomialLogits)


def differentiable(fn: dist.Distribution) -> dist.Distribution:
    """Return the same distribution, moved by less than rounding where its log-density has a wrong derivative.

    numpyro writes the log-density of Bernoulli and Binomial logits with `clip(x, 0)` and `|x|`, whose derivatives at
    x = 0 add up to −0 and −1 instead of −½ each: a guide whose logits start at zero would get a false gradient.

    Args:
        fn: any distribution; of others than those two nothing is changed.

    >>> import jax, numpyro.distributions as dist
    >>> float(jax.grad(lambda x: differentiable(dist.Bernoulli(logits=x)).log_prob(1))(0.0))
    0.5
    """
    if isinstance(fn, _WRAPPERS):
        inner = differentiable(fn.base_dist)
        if inner is fn.base_dist:
            return fn
        moved = copy.copy(fn)
        moved.base_dist = inner
        return moved
    if isinstance(fn, _CLIPPED):
        moved = copy.copy(fn)
        logits = jnp.asarray(fn.logits)
        tiny = 1e3 * jnp.finfo(logits.dtype).tiny
        moved.logits = logits + lax.stop_gradient(jnp.where(logits == 0, tiny, 0).astype(logits.dtype))
        return moved
    return fn
