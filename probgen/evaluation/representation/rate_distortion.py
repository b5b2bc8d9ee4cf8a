"""Rate and distortion: what a decoder can do at every rate, from one annealing run, and what a trained model does."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax

from probgen.core import DensityKind, as_numbers, check_functions, check_sizes, logmeanexp, split_key, weakest
from probgen.core.density import sign_of
from probgen.distributions.conditionals import inner_model
from probgen.distributions.events import rows_where_they_are, widened
from probgen.evaluation.likelihood.annealing import (
    check_prior,
    sigmoid_schedule,
    transition,
    tuned_lengths,
    unconstrained,
)

_TEMPERATURES = 1000

Distortion = Callable[[Array, Array], Array]


class RateDistortion(NamedTuple):
    """The curve that `rate_distortion` found, a point for each β; `str` prints its ends.

    Attributes:
        betas: β, [T + 1].
        rate: the mean over rows of KL(q_β(z | x) ‖ p(z)), in nats, [T + 1].
        distortion: the mean over rows of E_q[d(x, z)], [T + 1].
        se_rate: the standard error of the rate over rows, [T + 1]; NaN of a single row.
        se_distortion: that of the distortion.
        acceptance: the mean acceptance rate of the transitions to each β > 0, [T].
        rows: how many there are.
    """

    betas: np.ndarray
    rate: np.ndarray
    distortion: np.ndarray
    se_rate: np.ndarray
    se_distortion: np.ndarray
    acceptance: np.ndarray
    rows: int

    def __str__(self) -> str:
        point = lambda k: (
            f"rate ≈ {self.rate[k]:.3f} ± {self.se_rate[k]:.3f} nats, "
            f"distortion ≈ {self.distortion[k]:.3f} ± {self.se_distortion[k]:.3f} at β = {self.betas[k]:g}"
        )
        return f"{point(0)}; {point(-1)} ({len(self.betas)} points, {self.rows} rows)"


def rate_distortion(
    key: Array,
    prior: dist.Distribution,
    distortion: Distortion,
    data: Any,
    *,
    betas: Any = None,
    chains: int = 16,
    leapfrog: int = 10,
    batch_size: int = 16,
) -> RateDistortion:
    """Return the rate–distortion curve of a decoder, all of it from one run of annealed importance sampling.

        q_β(z | x) = p(z) exp(−β d(x, z)) / Z_β(x)
        R(β) = E_x KL(q_β(z | x) ‖ p(z)) = E_x[−log Z_β(x)] − β D(β),   D(β) = E_x E_{q_β}[d(x, z)]

    No posterior has less distortion at that rate, whatever it is made of: what a trained model lacks from the curve
    (`rate_distortion_point`) is its encoder's, and the rest is the decoder's. With d = −log p(x | z) the point of β = 1
    has R + D = −log p(x). Chains from the prior pass all β in turn, each by a step of Hamiltonian Monte Carlo; Z_β is
    the mean of their weights so far, and D their weighted mean. A stochastic −log Z_β is too large in the mean, by half
    the variance of log w over the number of chains: β should rise in small steps, of a few per cent. The noise of R at
    one β is about √(dim z / 2) nats over the root of the number of chains times rows.

    Args:
        key: a `jax.random.key`.
        prior: p(z), of real numbers, of batch shape (), with an exact density.
        distortion: d(x, z) of one x and one z: one number, such as `lambda x, z: -model.decode(z).log_prob(x)`.
        data: x, [N, ...].
        betas: 0 = β₀ < β₁ < … < β_T; by default 1,000 steps to 1, as `ais` has them. For squared errors
            `[0, *numpy.geomspace(1e-3, 1e3, 1000)]`, say.
        chains: how many run beside each other for each x.
        leapfrog: how many steps a transition has.
        batch_size: rows at a time.

    Raises ValueError where the prior is no such distribution, where the distortion is no single number, or NaN, where
    there are no rows, or where β does not rise from 0.

    References: Evaluating Lossy Compression Rates of Deep Generative Models (Huang, Makhzani, Cao, Grosse 2020),
    arXiv:2008.06653; Fixing a Broken ELBO (Alemi, Poole, Fischer, Dillon, Saurous, Murphy 2018), arXiv:1711.00464.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> prior, x = dist.Normal(jnp.zeros(1), 1.0).to_event(1), jnp.array([[0.0], [2.0]])
    >>> squared = lambda x, z: 0.5 * jnp.sum((x - z) ** 2)  # q is Normal(β x / (1 + β), 1 / (1 + β))
    >>> found = rate_distortion(jax.random.key(0), prior, squared, x, betas=jnp.linspace(0, 1, 201), chains=256)
    >>> bool(abs(found.rate[-1] - (0.5 * jnp.log(2.0) + 0.5 * (1 / 2 + 1 / 2 - 1))) < 0.05)
    True
    """
    check_sizes(chains=chains, leapfrog=leapfrog, batch_size=batch_size)
    check_prior(prior)
    check_functions("a number", distortion=distortion)
    steps = sigmoid_schedule(_TEMPERATURES) if betas is None else _as_betas(betas)
    x = jnp.asarray(as_numbers("data", data))
    if not x.ndim or not len(x):
        raise ValueError(f"data: expected rows [N, ...] of at least one, got shape {x.shape}")
    of_one = lambda key, x: _annealed(key, prior, lambda z: distortion(x, z), steps, chains, leapfrog)
    over_rows = jax.jit(lambda keys, x: lax.map(lambda row: of_one(*row), (keys, x), batch_size=batch_size))
    log_z, cost, acceptance = (np.asarray(part, np.float64) for part in over_rows(split_key(key, (len(x),)), x))
    if np.isnan(cost).any() or np.isnan(log_z).any():
        row = int(np.isnan(cost + log_z).any(1).argmax())
        raise ValueError(f"distortion: expected numbers, got NaN, or infinity at every draw, of row {row}")
    beta = np.asarray(steps, np.float64)
    rate = -log_z - beta * cost
    return RateDistortion(beta, rate.mean(0), cost.mean(0), _error(rate), _error(cost), acceptance.mean(0), len(x))


def _annealed(
    key: Array, prior: dist.Distribution, distortion: Callable[[Array], Array], betas: Array, chains: int, leapfrog: int
) -> tuple[Array, Array, Array]:
    """Return (log Z, the mean distortion, the acceptance) at each β of one x."""
    onto = dist.biject_to(prior.support)
    parts = unconstrained(prior, onto), lambda u: -distortion(onto(u))
    draw_key, tune_key, key = jax.random.split(key, 3)
    draws = prior.sample(draw_key, (2, chains))
    if shape := jax.eval_shape(lambda z: jnp.asarray(distortion(z)), draws[0, 0]).shape:
        raise ValueError(f"distortion: expected one number for one x and one z, got an array of shape {shape}")
    others, first = jax.vmap(jax.vmap(onto.inv))(draws)
    lengths = tuned_lengths(tune_key, parts, others, betas, leapfrog)
    costs = lambda u: -jax.vmap(parts[1])(u)
    weighed = lambda log_w, cost: (logmeanexp(log_w), jnp.sum(jax.nn.softmax(log_w) * cost))

    def one(carry: Any, now: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
        (u, log_w, cost), (key, before, beta, length) = carry, now
        log_w = log_w - (beta - before) * cost
        u, accepted = transition(key, parts, u, beta, length, leapfrog)
        cost = costs(u)
        return (u, log_w, cost), (*weighed(log_w, cost), accepted.mean())

    start = first, jnp.zeros(chains, first.dtype), costs(first)
    now = jax.random.split(key, len(lengths)), betas[:-1], betas[1:], lengths
    _, (log_z, cost, acceptance) = lax.scan(one, start, now)
    log_z_0, cost_0 = weighed(*start[1:])
    return jnp.append(log_z_0, log_z), jnp.append(cost_0, cost), acceptance


def _as_betas(betas: Any) -> Array:
    values = np.asarray(as_numbers("betas", betas), np.float64)
    rises = values.ndim == 1 and len(values) > 1 and np.isfinite(values).all() and values[0] == 0
    steps = jnp.asarray(values, float)
    if not rises or not bool((jnp.diff(steps) > 0).all()):
        raise ValueError(f"betas: expected numbers that rise from 0, got {betas!r}")
    return steps


def _error(values: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean over rows."""
    count = len(values)
    return values.std(0, ddof=1) / math.sqrt(count) if count > 1 else np.full(values.shape[1:], math.nan)


class RateDistortionPoint(NamedTuple):
    """Where a trained model stands; `str` prints it.

    Attributes:
        rate: the mean over rows of KL(q(z | x) ‖ p(z)), in nats; at most this where the kind is not "exact".
        distortion: that of −E_q[log p(x | z)], in nats.
        se_rate: the standard error of the rate over rows.
        se_distortion: that of the distortion.
        kind: the weaker of the kinds of prior and likelihood.
        rows: how many there are.
    """

    rate: float
    distortion: float
    se_rate: float
    se_distortion: float
    kind: DensityKind
    rows: int

    def __str__(self) -> str:
        sign = sign_of(self.kind)
        return (
            f"rate {sign} {self.rate:.3f} ± {self.se_rate:.3f} nats, distortion {sign} {self.distortion:.3f} ± "
            f"{self.se_distortion:.3f} nats ({self.rows} rows)"
        )


def rate_distortion_point(model: Any, data: Any, *, batch_size: int = 128, key: Array) -> RateDistortionPoint:
    """Return the rate and the distortion of a trained model with latent variables.

        R = E_x KL(q(z | x) ‖ p(z)),   D = −E_x E_q[log p(x | z)],   R + D = −ELBO

    It lies on or above the curve of `rate_distortion` of its decoder.

    Args:
        model: of batch shape (), or a conditional one, with `elbo_terms`, such as a `LatentVariableModel`.
        data: x, [N, *event_shape], or (x, contexts [N, *context]).
        batch_size: rows at a time.
        key: a `jax.random.key`, draws z.

    Raises ValueError where the model has no such terms, or where there are no rows, or some that are no event of it.

    References: Fixing a Broken ELBO (Alemi, Poole, Fischer, Dillon, Saurous, Murphy 2018), arXiv:1711.00464.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.latent import vae
    >>> model = vae((3,), 2, latent_dim=2, hidden=(8,), key=jax.random.key(0))
    >>> rate_distortion_point(model, jnp.eye(3, dtype=int), key=jax.random.key(1)).rows
    3
    """
    check_sizes(batch_size=batch_size)
    inner = inner_model(model)
    if not hasattr(inner, "elbo_terms"):
        raise ValueError(
            f"model: expected one with elbo_terms, such as a LatentVariableModel, got a {type(inner).__name__}"
        )
    arrays = rows_where_they_are("data", model, data)
    count = len(arrays[0])

    @jax.jit
    def block(model: Any, key: Array, x: Array, *context: Array) -> tuple[Array, Array]:
        x, context = widened((x, context))
        terms = (model(*context) if context else model).elbo_terms(key, x)
        return terms.kl, -terms.log_likelihood

    parts = []
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size) % count
        parts.append(block(model, jax.random.fold_in(key, start), *(jnp.asarray(x[rows]) for x in arrays)))
    rate, cost = (np.concatenate([np.asarray(x, np.float64) for x in part])[:count] for part in zip(*parts))
    kind = weakest(*getattr(inner, "part_kinds", (inner.kind,)))
    return RateDistortionPoint(
        float(rate.mean()), float(cost.mean()), float(_error(rate)), float(_error(cost)), kind, count
    )
