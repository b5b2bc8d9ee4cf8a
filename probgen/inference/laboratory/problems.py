"""Built-in problems with exact gradients, on which estimators are compared and tested."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from probgen.inference import estimators
from probgen.inference.estimators import Estimator


class Problem(NamedTuple):
    """A program with a guide and exact gradients, on which estimators are compared.

    Attributes:
        name: of the problem.
        what: it is, in a clause.
        model: the program.
        guide: its guide.
        params: the values of the `param` sites at which to stand.
        loss: the exact loss, a function of them.
        contenders: `{name: {site: estimator}}`.
    """

    name: str
    what: str
    model: Callable
    guide: Callable
    params: dict[str, Array]
    loss: Callable[[dict[str, Array]], Array]
    contenders: Mapping[str, Mapping[str, Estimator]]


def bernoulli_toy(t: float = 0.45) -> Problem:
    """Return the problem min_θ E[(b − t)²], b ~ Bernoulli(sigmoid(θ)), at θ = ½.

    Args:
        t: in (0, 1); the nearer to ½, the smaller is the gradient beside its noise.

    References: REBAR (Tucker et al. 2017), arXiv:1703.07370, with t = 0.45; t = 0.499: RELAX (Grathwohl et al. 2018),
    arXiv:1711.00123.
    """

    def model() -> None:
        b = numpyro.sample("b", dist.Bernoulli(0.5).mask(False))
        numpyro.factor("cost", -((b - t) ** 2))

    def guide() -> None:
        numpyro.sample("b", dist.Bernoulli(logits=numpyro.param("logit", 0.5)).mask(False))

    def loss(params: dict[str, Array]) -> Array:
        p = jax.nn.sigmoid(params["logit"])
        return p * (1 - t) ** 2 + (1 - p) * t**2

    p = jax.nn.sigmoid(0.5)
    best = -((1 - p) * (1 - t) ** 2 + p * t**2)  # the objective is the loss's negative
    contenders: dict[str, Mapping[str, Estimator]] = {
        "score": {"b": estimators.ScoreFunction()},
        "optimal baseline": {"b": estimators.ScoreFunction(estimators.Constant(best))},
        "leave-one-out": {"b": estimators.LeaveOneOut()},
        "enumerate": {"b": estimators.Enumerate()},
        "straight-through": {"b": estimators.StraightThrough()},
    }
    return Problem(
        f"bernoulli t={t:g}", "min E[(b − t)²] over one bit", model, guide, {"logit": jnp.array(0.5)}, loss, contenders
    )


def gaussian_square(k: float = 2.0) -> Problem:
    """Return the problem min E[(x − k)²], x ~ Normal(μ, s²), at μ = s = 1.

    Args:
        k: the number to come near to.

    References: Monte Carlo Gradient Estimation in Machine Learning (Mohamed et al. 2020), arXiv:1906.10652.
    """

    def model() -> None:
        x = numpyro.sample("x", dist.Normal(0.0, 1.0).mask(False))
        numpyro.factor("cost", -((x - k) ** 2))

    def guide() -> None:
        fn = dist.Normal(numpyro.param("mean", 1.0), numpyro.param("scale", 1.0))
        numpyro.sample("x", fn.mask(False))

    contenders: dict[str, Mapping[str, Estimator]] = {
        "score": {"x": estimators.ScoreFunction()},
        "leave-one-out": {"x": estimators.LeaveOneOut()},
        "pathwise": {"x": estimators.Pathwise()},
    }
    return Problem(
        f"gaussian k={k:g}",
        "min E[(x − k)²] over a normal",
        model,
        guide,
        {"mean": jnp.ones(()), "scale": jnp.ones(())},
        lambda params: (params["mean"] - k) ** 2 + params["scale"] ** 2,
        contenders,
    )


_X = jnp.array([0.3, 1.8, -0.4, 2.2])
_PRIOR_LOGITS = jnp.array([0.0, 0.5, -0.5]), jnp.array([0.0, 1.0, -1.0])


def three_sites() -> Problem:
    """Return a problem of three kinds of sites: μ ~ Normal; c ~ Categorical(3), its logits linear in μ; a plate of
    Bernoullis z, their logits linear in c; x ~ Normal(z + μ, 1).

    The guide has the same dependence. The exact loss is a quadrature over μ of sums over c and z.
    """

    def model() -> None:
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        c = numpyro.sample("c", dist.Categorical(logits=_PRIOR_LOGITS[0] + _PRIOR_LOGITS[1] * mu))
        with numpyro.plate("data", len(_X)):
            z = numpyro.sample("z", dist.Bernoulli(logits=-0.5 + 0.8 * c))
            numpyro.sample("x", dist.Normal(z + mu, 1.0), obs=_X)

    params = {
        "loc": jnp.array(0.3),
        "log_scale": jnp.array(-0.5),
        "c_bias": jnp.array([0.1, -0.2, 0.3]),
        "c_slope": jnp.array([0.5, -0.5, 0.2]),
        "z_bias": jnp.linspace(-0.9, 1.1, len(_X)),  # no logit is 0, where numpyro's densities fail
        "z_slope": jnp.array(0.5),
    }

    def guide() -> None:
        p = {name: numpyro.param(name, value) for name, value in params.items()}
        mu = numpyro.sample("mu", dist.Normal(p["loc"], jnp.exp(p["log_scale"])))
        c = numpyro.sample("c", dist.Categorical(logits=p["c_bias"] + p["c_slope"] * mu))
        with numpyro.plate("data", len(_X)):
            numpyro.sample("z", dist.Bernoulli(logits=p["z_bias"] + p["z_slope"] * c))

    path, sticking = estimators.Pathwise(), estimators.StickingTheLanding()
    others, exact, score = estimators.LeaveOneOut(), estimators.Enumerate(), estimators.ScoreFunction()
    contenders: dict[str, Mapping[str, Estimator]] = {
        "default": {},
        "score": {"mu": path, "c": score, "z": score},
        "score, all sites": {"mu": score, "c": score, "z": score},
        "leave-one-out": {"mu": path, "c": others, "z": others},
        "enumerate": {"mu": path, "c": exact, "z": exact},
        "sticking, leave-one-out": {"mu": sticking, "c": others, "z": others},
        "sticking, enumerate": {"mu": sticking, "c": exact, "z": exact},
    }
    return Problem(
        "three sites", "a normal, a category, a plate of bits", model, guide, params, _three_sites_loss, contenders
    )


def _three_sites_loss(p: dict[str, Array]) -> Array:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    bit = lambda z, logit: z * logit - jax.nn.softplus(logit)
    normal = lambda x, mean, scale: -0.5 * ((x - mean) / scale) ** 2 - jnp.log(scale) - 0.5 * jnp.log(2 * jnp.pi)

    def at(node: Array) -> Array:
        scale = jnp.exp(p["log_scale"])
        mu = p["loc"] + scale * node
        log_q = jax.nn.log_softmax(p["c_bias"] + p["c_slope"] * mu)
        log_p = jax.nn.log_softmax(_PRIOR_LOGITS[0] + _PRIOR_LOGITS[1] * mu)
        total = normal(mu, 0.0, 1.0) - normal(mu, p["loc"], scale)
        for c in range(3):
            inner = log_p[c] - log_q[c]
            logit = p["z_bias"] + p["z_slope"] * c
            for z in (0.0, 1.0):
                inner += jnp.sum(
                    jnp.exp(bit(z, logit)) * (bit(z, -0.5 + 0.8 * c) - bit(z, logit) + normal(_X, z + mu, 1.0))
                )
            total += jnp.exp(log_q[c]) * inner
        return total

    return -jnp.sum(jnp.asarray(weights / weights.sum(), float) * jax.vmap(at)(jnp.asarray(nodes, float)))


def bits(size: int = 10) -> Problem:
    """Return a problem of a plate of bits, each with an observation of its own: x ~ Normal(z, 1), z ~ Bernoulli(½),
    q(z) of given logits.

    Args:
        size: of the plate.
    """
    x = jnp.linspace(-1.0, 2.0, size)

    def model() -> None:
        with numpyro.plate("data", size):
            z = numpyro.sample("z", dist.Bernoulli(0.5))
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide() -> None:
        logits = numpyro.param("logits", jnp.linspace(-2.0, 2.0, size))
        with numpyro.plate("data", size):
            numpyro.sample("z", dist.Bernoulli(logits=logits))

    def loss(params: dict[str, Array]) -> Array:
        total: Any = 0.0
        for z in (0.0, 1.0):
            log_q = z * params["logits"] - jax.nn.softplus(params["logits"])
            log_p = jnp.log(0.5) - 0.5 * (x - z) ** 2 - 0.5 * jnp.log(2 * jnp.pi)
            total += jnp.sum(jnp.exp(log_q) * (log_q - log_p))
        return total

    contenders: dict[str, Mapping[str, Estimator]] = {
        "score": {"z": estimators.ScoreFunction()},
        "moving average": {"z": estimators.ScoreFunction(estimators.MovingAverage())},
        "leave-one-out": {"z": estimators.LeaveOneOut()},
        "enumerate": {"z": estimators.Enumerate()},
    }
    return Problem(
        f"{size} bits", "a plate of bits", model, guide, {"logits": jnp.linspace(-2.0, 2.0, size)}, loss, contenders
    )


PROBLEMS = (bernoulli_toy, gaussian_square, bits, three_sites)
"""The built-in problems, functions that return a `Problem`; `probgen compare-estimators` runs them."""
