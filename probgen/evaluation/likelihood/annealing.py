"""Annealed importance sampling: log p(x) of a latent-variable model from below, and of simulated data from above."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax

from probgen.core import as_numbers, check_distributions, check_sizes, logmeanexp, split_key
from probgen.distributions.wrapped import family, kind_of

_AIM, _GAIN, _SPREAD = 0.65, 0.1, 4.0  # of acceptance, of the steps' adaptation, of the temperatures

LogDensity = Callable[[Array], Array]


class Annealed(NamedTuple):
    """What a run of `ais` found.

    Attributes:
        log_evidence: a stochastic lower bound of log p(x) in nats; an upper bound where the chains began at a draw from
            the posterior.
        log_weights: log w of each chain, [chains]. From the prior, E[w] = p(x); from the posterior, E[1/w] = 1/p(x).
        acceptance: the mean acceptance rate of the transitions at each temperature, [temperatures].
    """

    log_evidence: Array
    log_weights: Array
    acceptance: Array


def ais(
    key: Array,
    prior: dist.Distribution,
    log_likelihood: LogDensity,
    *,
    chains: int = 16,
    temperatures: int = 1000,
    leapfrog: int = 10,
    start: Array | None = None,
) -> Annealed:
    """Anneal from the prior of z to its posterior, and weigh the way.

        log w = Σ_k (β_k − β_{k−1}) log p(x | z_{k−1}),   z_0 ~ p(z),   z_k ~ T_k(z_{k−1})

    T_k is a step of Hamiltonian Monte Carlo that leaves p(z) p(x | z)^β_k as it is, on unconstrained numbers. β rises
    from 0 to 1 as a sigmoid. The lengths of leapfrog steps are found in a run beforehand and then held, so that the
    weights are unbiased. With `start` the same chains run backwards: together they hold log p(x) between two bounds
    (bidirectional Monte Carlo). The variance of log w falls with the number of temperatures, and the gap of the bound
    is half of it, over the number of chains. Of one x and a model with latent variables it is
    `ais(key, model.latent_prior, lambda z: model.decode(z).log_prob(x))`, and `jax.vmap` makes it that of many.

    Args:
        key: a `jax.random.key`.
        prior: p(z), of real numbers, of batch shape (), with an exact density.
        log_likelihood: log p(x | z) of one z, in nats, for one x: one number.
        chains: how many run beside each other.
        temperatures: how many steps lead from 0 to 1.
        leapfrog: how many steps a transition has.
        start: one exact draw from p(z | x), such as the z from which x was simulated; None begins at the prior.

    Raises ValueError where the prior is no distribution, is of integers, has batch axes or no exact density; where
    `start` is no event of it, or lies on the edge of its support; where the log-likelihood is no single number, or NaN
    where a chain begins; or where a number is out of its range.

    References: Annealed Importance Sampling (Neal 2001), Statistics and Computing 11; On the Quantitative Analysis of
    Decoder-Based Generative Models (Wu, Burda, Salakhutdinov, Grosse 2017), arXiv:1611.04273; Sandwiching the Marginal
    Likelihood Using Bidirectional Monte Carlo (Grosse, Ghahramani, Adams 2015), arXiv:1511.02543.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> prior, x = dist.Normal(jnp.zeros(2), 1.0).to_event(1), jnp.array([1.0, -2.0])
    >>> log_likelihood = lambda z: dist.Normal(z, 0.5).log_prob(x).sum()
    >>> found = ais(jax.random.key(0), prior, log_likelihood, chains=64)
    >>> bool(abs(found.log_evidence - dist.Normal(0.0, 1.25**0.5).log_prob(x).sum()) < 0.05)
    True
    """
    check_sizes(chains=chains, temperatures=temperatures, leapfrog=leapfrog)
    check_prior(prior)
    onto = dist.biject_to(prior.support)
    parts = unconstrained(prior, onto), lambda u: log_likelihood(onto(u))
    betas = sigmoid_schedule(temperatures)
    draw_key, tune_key, key = split_key(key, (3,))
    draws = prior.sample(draw_key, (2, chains))
    last = None if start is None else _unconstrained_start(start, prior, onto, draws.dtype)
    if shape := jax.eval_shape(lambda z: jnp.asarray(log_likelihood(z)), draws[0, 0]).shape:
        raise ValueError(f"log_likelihood: expected one number for one z and one x, got an array of shape {shape}")
    others, first = jax.vmap(jax.vmap(onto.inv))(draws)
    lengths = tuned_lengths(tune_key, parts, others, betas, leapfrog)
    first = first if last is None else jnp.broadcast_to(last, (chains, *last.shape))
    log_w, acceptance = _weighed(key, parts, first, betas, lengths, leapfrog, backwards=last is not None)
    _check_weights(log_w, backwards=last is not None)
    sign = 1 if last is None else -1
    return Annealed(sign * logmeanexp(sign * log_w), log_w, acceptance)


def check_prior(prior: Any) -> None:
    """Raise ValueError where a prior cannot be annealed from: it has batch axes, is of integers, or has no exact
    density."""
    check_distributions("a model's latent_prior", prior=prior)
    if prior.batch_shape:
        raise ValueError(f"prior: expected batch shape (), got {prior.batch_shape}; use .to_event()")
    if prior.support.is_discrete:
        raise ValueError(
            f"prior: expected one of real numbers, got a {type(family(prior)).__name__}; "
            "the sum over a few integers is evaluation.enumerated"
        )
    if kind_of(prior) != "exact":
        raise ValueError(
            f"prior: expected an exact density, got a {type(prior).__name__} with one of kind {kind_of(prior)!r}"
        )


def _unconstrained_start(
    start: Any, prior: dist.Distribution, onto: dist.transforms.Transform, dtype: jnp.dtype
) -> Array:
    """Return the unconstrained numbers of a start, which has to be an event of the prior."""
    z = jnp.asarray(as_numbers("start", start), dtype)
    if z.shape != prior.event_shape:
        raise ValueError(f"start: expected one event of shape {prior.event_shape}, got {z.shape}")
    u = onto.inv(z)
    inside = jnp.all(prior.support(z)) & jnp.isfinite(u).all()
    if not isinstance(inside, jax.core.Tracer) and not inside:
        raise ValueError(f"start: expected an event within the prior's support {prior.support}, got {z}")
    return u


def _check_weights(log_w: Array, *, backwards: bool) -> None:
    """Raise ValueError where a chain began at a z of no likelihood: it has not moved since."""
    if isinstance(log_w, jax.core.Tracer):
        return
    if backwards and not jnp.isfinite(log_w).all():
        raise ValueError("log_likelihood: expected a finite number at start, got NaN or infinity")
    if lost := int(jnp.isnan(log_w).sum()):
        raise ValueError(f"log_likelihood: expected numbers, got NaN at {lost} of {log_w.size} draws from the prior")


_Parts = tuple[LogDensity, LogDensity]  # log p(z), log p(x | z), of unconstrained numbers


def unconstrained(prior: dist.Distribution, onto: dist.transforms.Transform) -> LogDensity:
    """Return log p of the unconstrained numbers u of z = onto(u)."""

    def log_prior(u: Array) -> Array:
        z = onto(u)
        return prior.log_prob(z) + jnp.sum(onto.log_abs_det_jacobian(u, z))

    return log_prior


def sigmoid_schedule(temperatures: int) -> Array:
    """Return 0 = β_0 < … < β_T = 1."""
    ends = jax.nn.sigmoid(jnp.linspace(-_SPREAD, _SPREAD, temperatures + 1))
    return (ends - ends[0]) / (ends[-1] - ends[0])


def tuned_lengths(key: Array, parts: _Parts, z: Array, betas: Array, leapfrog: int) -> Array:
    """Return a length of leapfrog steps for each temperature, by the acceptance of chains on their way."""

    def one(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        (z, length), (key, beta) = carry, now
        z, accepted = transition(key, parts, z, beta, length, leapfrog)
        return (z, length * jnp.exp(_GAIN * (accepted.mean() - _AIM))), length

    keys = jax.random.split(key, len(betas) - 1)
    return lax.scan(one, (z, jnp.full((), 0.1, z.dtype)), (keys, betas[1:]))[1]


def _weighed(
    key: Array, parts: _Parts, z: Array, betas: Array, lengths: Array, leapfrog: int, *, backwards: bool
) -> tuple[Array, Array]:
    """Return (log w, the mean acceptance at each temperature) of chains from z; they are weighed on the prior's side of
    each transition, which is before it, or after it on the way back."""

    def one(carry: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        (z, log_w), (key, before, beta, length) = carry, now
        moved, accepted = transition(key, parts, z, beta, length, leapfrog)
        log_w = log_w + (beta - before) * jax.vmap(parts[1])(moved if backwards else z)
        return (moved, log_w), accepted.mean()

    now = (jax.random.split(key, len(lengths)), betas[:-1], betas[1:], lengths)
    (_, log_w), acceptance = lax.scan(one, (z, jnp.zeros(len(z), z.dtype)), now, reverse=backwards)
    return log_w, acceptance


def transition(key: Array, parts: _Parts, z: Array, beta: Array, length: Array, leapfrog: int) -> tuple[Array, Array]:
    """Return (z', the probability of acceptance) of a step of Hamiltonian Monte Carlo, for each chain."""
    log_prior, log_likelihood = parts
    density = jax.value_and_grad(lambda z: log_prior(z) + beta * log_likelihood(z))

    def one(key: Array, z: Array) -> tuple[Array, Array]:
        momentum_key, accept_key = jax.random.split(key)
        p = jax.random.normal(momentum_key, z.shape, z.dtype)
        before, slope = density(z)

        def leap(state: Any, _: None) -> tuple[Any, None]:
            z, p, slope, _ = state
            p = p + 0.5 * length * slope
            z = z + length * p
            value, slope = density(z)
            return (z, p + 0.5 * length * slope, slope, value), None

        (proposed, end, _, after), _ = lax.scan(leap, (z, p, slope, before), None, length=leapfrog)
        gain = after - before + 0.5 * jnp.sum(p**2) - 0.5 * jnp.sum(end**2)
        accepted = jnp.exp(jnp.minimum(jnp.where(jnp.isfinite(gain), gain, -jnp.inf), 0.0))
        return jnp.where(jax.random.uniform(accept_key) < accepted, proposed, z), accepted

    return jax.vmap(one)(jax.random.split(key, len(z)), z)
