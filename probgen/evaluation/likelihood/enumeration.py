"""The exact log p(x) of models whose latent variables have few values."""

from collections.abc import Callable
from typing import Any

import jax
import numpyro.distributions as dist
from jax import Array

from probgen.core import check_distributions
from probgen.distributions.enumeration import events_of, number_of_events
from probgen.distributions.in_blocks import logsumexp_of_particles
from probgen.distributions.wrapped import kind_of

_MOST = 1 << 12
_NUMBERS = 1024  # that the likelihood of one row may well make


def enumerated(prior: dist.Distribution, log_likelihood: Callable[[Array], Array]) -> Array:
    """Return log p(x) by the sum over all values of z, of up to 12 bits or 4,096 values.

        log p(x) = log Σ_z p(z) p(x | z)

    Of a model with latent variables it is `enumerated(model.latent_prior, lambda z: model.decode(z).log_prob(x))`, of
    one x or of rows. A prior that is itself a model of that kind is enumerated in its turn. The values are taken in
    blocks, so that memory does not grow with their number.

    Args:
        prior: p(z), of integers, of batch shape (); with an exact density, or with a `latent_prior` and a `decode` of
            which that holds.
        log_likelihood: log p(x | z) of one z, in nats, [...]: of one x, or of rows.

    Raises ValueError where the prior is no distribution, where z has more values or they cannot be counted, or where
    the prior has no exact density and cannot be enumerated.

    >>> import jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> prior, x = dist.Bernoulli(jnp.array([0.2, 0.7])).to_event(1), jnp.array([[0.0], [1.0]])
    >>> log_p = enumerated(prior, lambda z: dist.Bernoulli(logits=z[:1] - 2 * z[1:]).log_prob(x).sum(-1))
    >>> float(jnp.exp(log_p).sum().round(5))
    1.0
    """
    check_distributions("a model's latent_prior", prior=prior)
    if prior.batch_shape:
        raise ValueError(f"prior: expected batch shape (), got {prior.batch_shape}; use .to_event()")
    count, values = number_of_events(prior), events_of(prior)
    if count is None or values is None or count > _MOST:
        many = "values that cannot be counted" if count is None else f"{count} values"
        raise ValueError(f"prior: expected a latent variable of at most {_MOST} values (12 bits), got {many}")
    log_prior = _log_prior(prior, values)
    log_joint = lambda z, log_p: log_p + log_likelihood(z)
    rows = jax.eval_shape(log_likelihood, values[0]).size
    return logsumexp_of_particles(log_joint, (values, log_prior), _NUMBERS * rows)


def _log_prior(prior: Any, values: Array) -> Array:
    if kind_of(prior) == "exact":
        return prior.log_prob(values)
    if not (hasattr(prior, "latent_prior") and hasattr(prior, "decode")):
        raise ValueError(
            f"prior: expected an exact density, or a model that can itself be enumerated, got a {type(prior).__name__} "
            f"with a density of kind {prior.kind!r}"
        )
    return enumerated(prior.latent_prior, lambda z: prior.decode(z).log_prob(values))
