"""Moments, entropies, distribution functions and divergences, in float64, against SciPy's, numpyro's and NumPy's."""

import itertools

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats as st
from registry import KEY

from probgen import autoregressive, combine, flows, partition
from probgen.bijectors import Affine, Chain, Exp, Inverse, Sigmoid
from probgen.distributions import DiscretizedLogistic, Transformed, from_distrax
from probgen.distributions.discretized import IntegerCategorical
from probgen.mixtures import GaussianMixture, categorical_mixture, histogram

QUANTILES = np.array([1e-6, 0.03, 0.5, 0.8, 1 - 1e-6])


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def _close(found, wanted, tolerance=1e-11):
    assert np.asarray(found).dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


divergence = jax.jit(lambda p, q: dist.kl_divergence(p, q))  # which, a dispatcher itself, jit does not take


@jax.jit
def summary(d):
    return {"mean": d.mean, "variance": d.variance, "entropy": d.entropy()}


def _wide(model, scale=0.5):
    """In float64, away from its start."""
    (params, rest), rng = partition(model), np.random.default_rng(0)
    return combine({p: jnp.asarray(v, float) + scale * rng.normal(size=v.shape) for p, v in params.items()}, rest)


AFFINE = {
    "exponential": (
        lambda: Transformed(dist.Exponential(jnp.array(1.0)), Affine(jnp.array(1.0), jnp.array(0.3))),
        st.expon(1.0, np.exp(0.3)),
    ),
    "shifted": (
        lambda: Transformed(dist.Gamma(jnp.array(2.0), 1.5), distrax.ScalarAffine(jnp.array(3.0), jnp.array(1.0))),
        st.gamma(2.0, 3.0, 1 / 1.5),
    ),
    "chain and inverse": (
        lambda: Transformed(
            dist.Normal(jnp.array(0.5), 2.0),
            Chain([Affine(jnp.array(1.0), jnp.array(0.3)), Inverse(Affine(jnp.array(-2.0), jnp.array(1.1)))]),
        ),
        st.norm(1.0 + 2.5 * np.exp(0.3 - 1.1), 2 * np.exp(0.3 - 1.1)),
    ),
    "logistic of distrax": (
        lambda: from_distrax(distrax.Logistic(jnp.array(0.7), jnp.array(1.3))),
        st.logistic(0.7, 1.3),
    ),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_maps_of_scalars_are_those_of_scipy(name):
    make, theirs = AFFINE[name]
    ours, x = make(), theirs.ppf(QUANTILES)
    if "distrax" not in name:
        _close(jax.jit(lambda d, q: d.icdf(q))(ours, QUANTILES), x, 1e-8)
    _close(jax.jit(lambda d, x: d.cdf(x))(ours, x), QUANTILES, 1e-9)
    found = summary(ours)
    _close(found["mean"], theirs.mean())
    _close(found["variance"], theirs.var())
    _close(found["entropy"], theirs.entropy())


def test_distribution_functions_of_curved_and_falling_maps():
    flow = Transformed(dist.Normal(jnp.array(0.3), 1.2), Exp())
    theirs = st.lognorm(1.2, scale=np.exp(0.3))
    x = theirs.ppf(QUANTILES)
    _close(flow.cdf(jnp.asarray(x)), QUANTILES, 1e-9)
    _close(flow.icdf(jnp.asarray(QUANTILES)), x, 1e-8)
    flow = Transformed(dist.Normal(jnp.array(0.0), 1.0), Chain([Sigmoid(), Affine(jnp.array(0.2), jnp.array(0.1))]))
    x = scipy.special.expit(0.2 + np.exp(0.1) * st.norm.ppf(QUANTILES))
    _close(flow.icdf(jnp.asarray(QUANTILES)), x, 1e-9)
    _close(flow.cdf(jnp.asarray(x)), QUANTILES, 1e-9)
    falling = Transformed(dist.Gamma(jnp.array(2.0), 1.5), distrax.ScalarAffine(jnp.array(0.0), jnp.array(-2.0)))
    theirs = st.gamma(2.0, scale=1 / 1.5)
    _close(falling.icdf(jnp.asarray(QUANTILES)), -2 * theirs.isf(QUANTILES), 1e-8)
    _close(falling.cdf(jnp.asarray(-2 * theirs.isf(QUANTILES))), QUANTILES, 1e-9)


def _normals():
    """Two affine flows of three numbers, and NumPy's moments of them."""
    found = []
    for scale in (0.4, 0.7):
        flow = _wide(flows.affine_flow(3, key=KEY), scale)
        shift, matrix = np.asarray(flow.bijector.shift), np.asarray(flow.bijector.matrix)
        found.append((flow, shift, matrix @ matrix.T))
    return found


def test_affine_flows_are_multivariate_normals():
    (p, mean, covariance), (q, other, wider) = _normals()
    theirs = dist.MultivariateNormal(jnp.asarray(mean), jnp.asarray(covariance))
    found, wanted = summary(p), summary(theirs)
    for name in wanted:
        _close(found[name], wanted[name])
    _close(found["entropy"], st.multivariate_normal(mean, covariance).entropy())
    away = other - mean
    log_ratio = np.linalg.slogdet(wider)[1] - np.linalg.slogdet(covariance)[1]
    by_hand = 0.5 * (np.trace(np.linalg.solve(wider, covariance)) + away @ np.linalg.solve(wider, away) - 3 + log_ratio)
    found = divergence(p, q)
    _close(found, by_hand, 1e-9)
    _close(found, divergence(theirs, dist.MultivariateNormal(jnp.asarray(other), jnp.asarray(wider))), 1e-9)


def test_mixtures_of_normals_are_sums_of_scipys():
    weights, means, variances = np.array([0.2, 0.5, 0.3]), np.array([-1.0, 0.5, 3.0]), np.array([0.3, 1.7, 0.1])
    model = GaussianMixture.from_covariances(*map(jnp.asarray, (np.log(weights), means[:, None], variances[:, None])))
    x = np.linspace(-3.0, 4.0, 9)
    parts = st.norm(means, np.sqrt(variances))
    facts = jax.jit(lambda d, x: (d.cdf(x), d.log_prob(x), d.mean, d.variance))
    cdf, log_prob, mean, variance = facts(model, x[:, None])
    _close(cdf, parts.cdf(x[:, None]) @ weights)
    _close(log_prob, np.log(parts.pdf(x[:, None]) @ weights), 1e-10)
    _close(mean, [weights @ means])
    _close(variance, [weights @ (variances + means**2) - (weights @ means) ** 2])
    covariance, mean = np.array([[2.0, 0.7], [0.7, 1.5]]), np.array([0.3, -1.0])
    one = GaussianMixture.from_covariances(*map(jnp.asarray, (np.zeros(1), mean[None], covariance[None])))
    theirs = st.multivariate_normal(mean, covariance)
    found = summary(one)
    _close(found["mean"], mean)
    _close(found["variance"], np.diag(covariance))
    _close(found["entropy"], theirs.entropy())
    _close(jax.jit(lambda d, x: d.log_prob(x))(one, jnp.array([1.0, 2.0])), theirs.logpdf([1.0, 2.0]))


def test_discretized_logistics_are_differences_of_scipys_distribution_function():
    loc, scale, levels = 3.2, 1.5, 8
    inner = st.logistic(loc, scale).cdf(np.arange(levels - 1) + 0.5)
    mass, k = np.diff(inner, prepend=0.0, append=1.0), np.arange(levels)
    d = DiscretizedLogistic(jnp.array(loc), jnp.array(scale), levels)
    _close(d.mean, mass @ k)
    _close(d.variance, mass @ k**2 - (mass @ k) ** 2)
    _close(d.entropy(), st.entropy(mass))
    _close(d.cdf(jnp.arange(-1, levels + 1)), [0.0, *np.cumsum(mass)[:-1], 1.0, 1.0])
    quantiles = np.array([0.01, 0.3, 0.77, 0.999])
    np.testing.assert_array_equal(d.icdf(jnp.asarray(quantiles)), np.searchsorted(np.cumsum(mass), quantiles))
    assert d.mode == mass.argmax()
    other = DiscretizedLogistic(jnp.array(1.0), jnp.array(2.5), levels)
    _close(dist.kl_divergence(d, other), st.entropy(mass, np.exp(other.log_prob(jnp.arange(levels)))))


def _probabilities(model):
    values = np.asarray(model.enumerate_support())
    return values, np.exp(np.asarray(jax.jit(lambda m, x: m.log_prob(x))(model, values), np.float64))


@pytest.mark.parametrize(
    "make",
    [
        lambda: histogram((2,), 3),
        lambda: categorical_mixture((2,), 3, components=3, key=KEY),
        lambda: autoregressive.made((2,), 3, hidden=(4,), key=KEY),
    ],
    ids=["histogram", "mixture", "made"],
)
def test_models_of_integers_are_their_tables(make):
    p, q = _wide(make()), _wide(make(), 1.5)
    values, mass = _probabilities(p)
    assert mass.sum() == pytest.approx(1.0, abs=1e-12)
    mean, found = mass @ values, summary(p)
    _close(found["mean"], mean)
    _close(found["variance"], mass @ (values - mean) ** 2)
    _close(found["entropy"], st.entropy(mass))
    np.testing.assert_array_equal(p.mode, values[mass.argmax()])
    _close(divergence(p, q), st.entropy(mass, _probabilities(q)[1]))


def test_categoricals_and_bernoullis():
    logits, others = np.array([0.3, -1.0, 2.0]), np.array([0.0, 0.7, -0.2])
    mass, k = scipy.special.softmax(logits), np.arange(3)
    p, q = IntegerCategorical(jnp.asarray(logits)), IntegerCategorical(jnp.asarray(others))
    _close(p.mean, mass @ k)
    _close(p.variance, mass @ (k - mass @ k) ** 2)
    _close(dist.kl_divergence(p, q), st.entropy(mass, scipy.special.softmax(others)))
    bits = [dist.Bernoulli(logits=jnp.array(logit)) for logit in (0.4, -1.3)]
    table = [[scipy.special.expit(-logit), scipy.special.expit(logit)] for logit in (0.4, -1.3)]
    _close(dist.kl_divergence(*bits), st.entropy(*table))


def test_the_divergence_of_one_map_is_the_bases():
    matrix = _normals()[0][0].bijector
    p, q = (Transformed(dist.Normal(jnp.array(loc), 1.0 + jnp.arange(3.0)).to_event(1), matrix)
            for loc in ([0.0, 1.0, -1.0], [0.5, 0.0, 2.0]))  # fmt: skip
    _close(dist.kl_divergence(p, q), 0.5 * (0.5**2 / 1 + 1.0 / 4 + 3.0**2 / 9), 1e-10)


def test_normals_diverge_as_their_covariances_say_however_they_are_written():
    loc, scale, factor = jnp.array([0.3, -1.0]), jnp.array([0.5, 2.0]), jnp.array([[0.7], [-0.4]])
    ways = [
        dist.Normal(loc, scale).to_event(1),
        dist.MultivariateNormal(-loc, jnp.array([[2.0, 0.6], [0.6, 1.0]])),
        dist.LowRankMultivariateNormal(2 * loc, factor, scale),
    ]
    for p, q in itertools.product(ways, ways):
        a, b = (getattr(d, "covariance_matrix", np.diag(np.asarray(scale) ** 2)) for d in (p, q))
        away = np.asarray(p.mean - q.mean)
        inverse = np.linalg.inv(b)
        volumes = np.linalg.slogdet(b)[1] - np.linalg.slogdet(a)[1]
        _close(divergence(p, q), (np.trace(inverse @ a) + away @ inverse @ away - 2 + volumes) / 2)


@pytest.mark.parametrize("levels", [2, 3])
def test_products_of_integers_diverge_from_histograms_number_by_number(levels):
    keys = jax.random.split(KEY, 2)
    prior = histogram((2,), levels).replace(position_logits=jax.random.normal(keys[0], (1, 2, levels)))
    logits = jax.random.normal(keys[1], (4, 2, levels))
    each = dist.BernoulliLogits(logits[..., 1] - logits[..., 0]) if levels == 2 else IntegerCategorical(logits)
    posterior = each.to_event(1)
    values = jnp.array(list(itertools.product(range(levels), repeat=2)))[:, None]
    log_q, log_p = jax.jit(lambda q, p: (q.log_prob(values), p.log_prob(values)))(posterior, prior)
    _close(divergence(posterior, prior), jnp.sum(jnp.exp(log_q) * (log_q - log_p), 0))
    _close(divergence(prior, prior), 0.0)
    with pytest.raises(NotImplementedError, match="no closed form"):
        dist.kl_divergence(posterior, histogram((2,), levels + 1))
