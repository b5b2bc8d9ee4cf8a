"""What heads return: log-masses, moments and distribution functions against SciPy's and quadrature, at extremes too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats as st
from jax.test_util import check_grads

from probgen.distributions import BetaBinomial, BetaBinomialHead, ContinuousBernoulli, ContinuousBernoulliHead

KEY = jax.random.key(0)
LOGITS = np.array([-200.0, -30.0, -3.0, -0.51, -0.49, -1e-3, 0.0, 1e-9, 0.02, 0.7, 12.0, 400.0])


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.3, 4.0), (3000.0, 2000.0), (3e-4, 2e-3)])
def test_the_beta_binomials_masses_and_moments_are_scipys(alpha, beta):
    d, x = BetaBinomial(jnp.float32(alpha), jnp.float32(beta), 256), np.arange(256)
    alpha, beta = float(np.float32(alpha)), float(np.float32(beta))
    want = st.betabinom(255, alpha, beta)
    np.testing.assert_allclose(d.log_prob(x), want.logpmf(x), rtol=2e-6, atol=3e-5)
    np.testing.assert_allclose(d.mean, want.mean(), rtol=1e-5)
    np.testing.assert_allclose(d.variance, want.var(), rtol=1e-5)
    draws = np.asarray(d.sample(KEY, (20_000,)))
    assert draws.dtype == np.int32 and draws.min() >= 0 and draws.max() <= 255
    assert abs(draws.mean() - want.mean()) < 4.5 * want.std() / np.sqrt(20_000)


def test_a_beta_binomial_is_uniform_at_zeros_and_finite_at_extremes():
    head = BetaBinomialHead(256)
    np.testing.assert_allclose(head(jnp.zeros(2)).log_prob(jnp.arange(256)), -np.log(256), rtol=1e-5)
    extremes = jnp.array([[a, b] for a in (-1e30, -50.0, 0.0, 50.0, 1e30) for b in (-1e30, 0.0, 1e30)])
    values = jnp.array([0, 3, 255])[:, None]
    f = lambda raw: head(raw).log_prob(values)
    log_p, slope = jax.jit(lambda raw: (f(raw), jax.grad(lambda raw: f(raw).sum())(raw)))(extremes)
    assert np.isfinite(log_p).all() and np.isfinite(slope).all() and (log_p < 1e-5).all()
    with jax.enable_x64(True):
        check_grads(jax.jit(lambda raw: head(raw).log_prob(jnp.array([3, 255]))), (jnp.array([0.7, -0.4]),), 2)


def _integral(f, logit):
    """∫ f p / ∫ p over [0, 1], with the height of p taken out."""
    p = lambda x: np.exp(logit * x - max(logit, 0.0))
    points = sorted({0.0, 0.5, 1.0, *(np.clip([k / abs(logit), 1 - k / abs(logit)], 0, 1)[i] for k in (1, 5, 20)
                     for i in (0, 1) if logit)})  # fmt: skip
    total = lambda g: sum(scipy.integrate.quad(g, a, b, epsabs=1e-15)[0] for a, b in zip(points, points[1:]))  # noqa: RUF007
    return total(lambda x: f(x) * p(x)) / total(p)


def test_the_continuous_bernoulli_is_what_quadrature_says():
    with jax.enable_x64(True):
        d = ContinuousBernoulli(jnp.array(LOGITS))
        mean = np.array([_integral(lambda x: x, logit) for logit in LOGITS])
        variance = np.array(
            [_integral(lambda x, m=m: (x - m) ** 2, logit) for logit, m in zip(LOGITS, mean, strict=True)]
        )
        np.testing.assert_allclose(d.mean, mean, rtol=1e-9)
        np.testing.assert_allclose(d.variance, variance, rtol=1e-7)
        half = [_integral(lambda x: float(x <= 0.5), logit) for logit in LOGITS]
        np.testing.assert_allclose(d.cdf(jnp.full(len(LOGITS), 0.5)), half, rtol=1e-9, atol=1e-12)
        grid = jnp.linspace(0, 1, 200_001)[:, None]
        ordinary = np.abs(LOGITS) < 50
        total = jnp.trapezoid(jnp.exp(d.log_prob(grid)), grid[:, 0], axis=0)
        np.testing.assert_allclose(total[ordinary], 1.0, rtol=1e-7)
        entropy = jnp.trapezoid(-jnp.exp(d.log_prob(grid)) * d.log_prob(grid), grid[:, 0], axis=0)
        np.testing.assert_allclose(d.entropy()[ordinary], entropy[ordinary], rtol=1e-6, atol=1e-6)


def test_its_quantiles_undo_its_distribution_function():
    with jax.enable_x64(True):
        d = ContinuousBernoulli(jnp.array(LOGITS))
        q = jnp.array([0.0, 1e-6, 0.03, 0.5, 0.8, 1 - 1e-6, 1.0])[:, None]
        x, back = jax.jit(lambda d: (d.icdf(q), d.cdf(d.icdf(q))))(d)
        np.testing.assert_allclose(back, jnp.broadcast_to(q, x.shape), rtol=1e-9, atol=1e-13)
        np.testing.assert_array_equal(x[0], 0.0)
        np.testing.assert_allclose(x[-1], 1.0, rtol=1e-12)


def test_its_gradients_are_those_of_finite_differences_around_one_half():
    with jax.enable_x64(True):
        logits = jnp.array([-3.0, -0.5001, -1e-7, 0.0, 1e-7, 0.3, 6.0])
        q = jnp.array(0.3)
        for f in (
            lambda l, q: ContinuousBernoulli(l).log_prob(q),
            lambda l, q: ContinuousBernoulli(l).icdf(q),
            lambda l, q: ContinuousBernoulli(l).cdf(q),
        ):
            check_grads(jax.jit(f), (logits, q), 2, atol=1e-5, rtol=1e-5)


def test_it_is_finite_in_single_precision_with_finite_gradients():
    raw = jnp.array([-1e30, -1e4, -90.0, -1e-30, 0.0, 1e-3, 90.0, 1e4, 1e30])[:, None]
    q = jnp.array([0.0, 1e-7, 0.5, 1 - 2.0**-24, 1.0])[:, None]
    head = ContinuousBernoulliHead()
    functions = (lambda raw: head(raw).log_prob(q) / 1e4, lambda raw: head(raw).icdf(q), lambda raw: head(raw).mean)

    @jax.jit
    def facts(raw):
        values, slopes = (
            [of(f)(raw) for f in functions] for of in (lambda f: f, lambda f: jax.grad(lambda raw: f(raw).sum()))
        )
        return values, slopes, head(raw).sample(KEY, (1000,))

    values, slopes, x = facts(raw)
    assert all(np.isfinite(found).all() for found in (*values, *slopes))
    assert ((x >= 0) & (x <= 1)).all()
    assert head(jnp.zeros(1)).log_prob(0.3) == 0.0
