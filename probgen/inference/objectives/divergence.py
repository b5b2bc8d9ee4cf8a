"""KL(q ‖ p) in closed form, where it is known and exact."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.kl import kl_divergence

from probgen.distributions.wrapped import elementwise, family, is_masked
from probgen.inference.estimators.enumeration import levels

_MOST_LEVELS = 64


def closed_kl(q: dist.Distribution, p: dist.Distribution) -> Array | None:
    """Return KL(q ‖ p) of the distributions' batch shape, or None.

        Σ_z q(z) (log q(z) − log p(z)) over the values of each element where they are few; else as numpyro knows it

    Left out are what numpyro gives for point masses (whose value is not integrated over), for masked distributions
    (whose masks may differ), and from Kumaraswamy to Beta (a truncated series).

    >>> import numpyro.distributions as dist
    >>> closed_kl(dist.Bernoulli(logits=0.0), dist.Bernoulli(0.5))
    Array(0., dtype=float32)
    """
    if is_masked(q) or is_masked(p) or isinstance(family(q), dist.Delta | dist.Kumaraswamy):
        return None
    if (found := _of_few_values(q, p)) is not None:
        return found
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def _of_few_values(q: dist.Distribution, p: dist.Distribution) -> Array | None:
    if family(q).event_dim or family(p).event_dim or q.event_shape != p.event_shape:
        return None
    values, others = levels(q), levels(p)
    if values is None or others is None or len(values) > _MOST_LEVELS or list(values) != list(others):
        return None
    lead = (len(values),) + (1,) * (len(q.batch_shape) + q.event_dim)
    every = jnp.asarray(values).reshape(lead)
    log_q, log_p = elementwise(q).log_prob(every), elementwise(p).log_prob(every)
    terms = jnp.where(jnp.isneginf(log_q), 0.0, jnp.exp(log_q) * (log_q - log_p))
    total = jnp.sum(terms, 0)
    return jnp.sum(total, tuple(range(len(q.batch_shape), total.ndim)))
