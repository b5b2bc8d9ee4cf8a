"""The twisted sampler against closed-form posteriors and evidences."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from probgen.distributions import ConditionalModel
from probgen.score import (
    DDIM,
    Ancestral,
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    LevelDecoder,
    LevelDenoiser,
    LinearLogSNR,
    Measurement,
    ScoreModel,
    twisted,
    vp_score,
)

KEY = jax.random.key(0)
SDE = LinearLogSNR(9.0, -9.0)
COVARIANCE = jnp.array([[1.0, 0.5], [0.5, 0.6]])
NORMAL = ScoreModel(GaussianDenoiser(jnp.array([0.5, -0.5]), covariance=COVARIANCE), SDE, (2,), sampler=Ancestral(20))
A, NOISE, Y = jnp.array([1.0, 0.5]), 1.0, 1.5
runs = jax.jit(
    lambda model, likelihood, keys, n, **how: jax.vmap(
        lambda key: twisted(key, model, likelihood, num_particles=n, **how)
    )(keys),
    static_argnames=("likelihood", "n", "threshold", "twist"),
)


def likelihood(x):
    return dist.Normal(A @ x, NOISE).log_prob(Y)


def law(model):
    """The mean and the covariance of the model's own draws, step by step: the denoiser is affine in z."""

    def step(moments, now):
        (mean, covariance), (t, s) = moments, now
        of = lambda z: sampler.transition(model.denoiser.under(SDE)(z, t), SDE, z, t, s)
        slope = jax.jacfwd(lambda z: of(z)[0])(mean)
        moved, deviation = of(mean)
        return (moved, slope @ covariance @ slope.T + deviation**2 * jnp.eye(2)), None

    sampler = model.sampler
    times = sampler.grid(SDE, sampler.steps)
    (mean, covariance), _ = jax.lax.scan(step, (jnp.zeros(2), jnp.eye(2)), (times[:-1], times[1:]))
    slope = jax.jacfwd(lambda z: model.denoiser(z, 9.0))(mean)
    return model.denoiser(mean, 9.0), slope @ covariance @ slope.T + jnp.exp(-9.0) * jnp.eye(2)


def test_the_evidence_is_unbiased_and_the_error_falls_with_the_particles():
    """Against the posterior of the model's own twenty steps, which is not quite that of the data."""
    mean, covariance = law(NORMAL)
    variance = A @ covariance @ A + NOISE**2
    evidence = dist.Normal(A @ mean, jnp.sqrt(variance)).log_prob(Y)
    posterior = mean + covariance @ A / variance * (Y - A @ mean)
    error = {}
    for n in (16, 1024):
        found = runs(NORMAL, likelihood, jax.random.split(KEY, 40), n)
        ratio = jnp.exp(found.log_evidence - evidence)
        assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / np.sqrt(len(ratio))
        means = jnp.einsum("rk,rkd->rd", jnp.exp(found.log_weights), found.values)
        error[n] = float(jnp.sqrt(jnp.mean(jnp.sum((means - posterior) ** 2, -1)))), float(ratio.std())
        print(f"{n} particles: the posterior's mean is off by {error[n][0]:.4f}, p(y) by {error[n][1]:.1%}")
    assert error[1024][0] < error[16][0] / 4 and error[1024][1] < error[16][1] / 4  # 8 in truth


MODES = GaussianMixtureDenoiser(jnp.array([1.0, 2.0]), jnp.array([[-1.0], [1.0]]), jnp.array(0.3))


def near_zero(x):
    return dist.Normal(x, 0.7).log_prob(-0.2).sum()


def test_both_modes_of_a_mixture_have_their_posterior_weight():
    model = ScoreModel(MODES, SDE, (1,), sampler=Ancestral(100))
    found = jax.tree.map(lambda leaf: leaf[0], runs(model, near_zero, KEY[None], 2000))
    joint = (
        jnp.array([1.0, 2.0]) / 3 * jnp.exp(dist.Normal(jnp.array([-1.0, 1.0]), (0.09 + 0.49) ** 0.5).log_prob(-0.2))
    )
    np.testing.assert_allclose(found.log_evidence, jnp.log(joint.sum()), atol=0.05)
    weights = jnp.exp(found.log_weights)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(weights @ (found.values[:, 0] > 0), joint[1] / joint.sum(), atol=0.05)


SHARP = Measurement(jnp.array([1.2]), jnp.array([[1.0, 0.0]]), 0.1)


def test_a_twist_that_is_wider_in_noise_serves_a_sharp_likelihood():
    model = NORMAL.replace(sampler=Ancestral(50))
    mean, covariance = law(model)
    evidence = dist.Normal(mean[0], jnp.sqrt(covariance[0, 0] + 0.01)).log_prob(1.2)
    off = {}
    twists = {"default": None, "wider": lambda x, log_snr: SHARP.twist(x, log_snr)}
    for name, twist in twists.items():
        found = runs(model, lambda x: SHARP.log_likelihood(x), jax.random.split(KEY, 40), 64, twist=twist)
        ratio = jnp.exp(found.log_evidence - evidence)
        off[name] = float(jnp.sqrt(jnp.mean((ratio - 1) ** 2)))
        print(f"p(y) by the {name} twist is off by {off[name]:.1%}")
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / np.sqrt(len(ratio))
    assert off["default"] > 0.5 and off["wider"] < 0.2


def of_levels(v):
    return -2.0 * jnp.sum((v - jnp.array([0.5, -0.5])) ** 2)


def test_integers_have_the_posterior_of_enumeration():
    """With no network the denoiser of levels is exact for independent, uniform ones."""
    denoiser = LevelDenoiser(lambda z, c: jnp.zeros(6), lambda s: jnp.zeros(1), levels=3)
    model = ScoreModel(denoiser, LinearLogSNR(6.0, -9.0), (2,), decoder=LevelDecoder(3), sampler=Ancestral(60))
    found = jax.tree.map(lambda leaf: leaf[0], runs(model, of_levels, KEY[None], 3000))
    levels = jnp.array([-1.0, 0.0, 1.0])
    each = jnp.exp(-2.0 * (levels - 0.5) ** 2)
    np.testing.assert_allclose(found.log_evidence, 2 * jnp.log(each.mean()), atol=0.06)
    assert jnp.issubdtype(found.values.dtype, jnp.integer)
    share = jnp.stack([jnp.exp(found.log_weights) @ (found.values[:, 0] == k) for k in range(3)])
    np.testing.assert_allclose(share, each / each.sum(), atol=0.05)


def hard(x):
    """A density on x_0 > 1.5 alone, with a number that makes it as small as measurements' are."""
    return jnp.where(x[0] > 1.5, -60.0, -jnp.inf)


def test_what_is_impossible_has_no_weight():
    """All x̂ begin at the mean, where the likelihood is 0; no particle is lost by that."""
    model, (mean, covariance) = NORMAL, law(NORMAL)
    found = runs(model, hard, jax.random.split(KEY, 40), 256)
    ratio = jnp.exp(found.log_evidence + 60.0) / dist.Normal(-mean[0], jnp.sqrt(covariance[0, 0])).cdf(-1.5)
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / np.sqrt(len(ratio))
    np.testing.assert_allclose(jnp.exp(found.log_weights).sum(1), 1.0, rtol=1e-4)
    assert (jnp.isfinite(found.log_weights) == (found.values[..., 0] > 1.5)).all()
    never = jax.tree.map(lambda leaf: leaf[0], runs(model, lambda x: -jnp.inf + 0.0 * x[0], KEY[None], 8))
    assert never.log_evidence == -jnp.inf and (never.log_weights == -jnp.inf).all()
    assert jnp.isnan(runs(model, lambda x: jnp.nan * x[0], KEY[None], 8).log_evidence).all()


def test_each_context_has_particles_of_its_own():
    model = vp_score((2,), width=4, depth=1, steps=3, context_dim=2, key=KEY)
    found = jax.jit(lambda m: twisted(KEY, m(jnp.eye(2)), likelihood, num_particles=5))(model)
    assert [leaf.shape for leaf in found] == [(2, 5, 2), (2, 5), (2,)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: twisted(KEY, NORMAL.replace(sampler=DDIM()), likelihood), "model: expected Ancestral for its sampler"),
        (lambda: twisted(KEY, NORMAL, likelihood, threshold=1.5), "threshold"),
        (lambda: twisted(KEY, NORMAL, likelihood, num_particles=0), "num_particles"),
        (lambda: twisted(KEY, NORMAL, lambda x: x), "log_likelihood, twist: expected one number"),
        (lambda: twisted(KEY, NORMAL, 3.0), "log_likelihood: expected a function"),
        (lambda: twisted(KEY, lambda x: x, likelihood), "model: expected a ScoreModel"),
        (lambda: twisted(KEY, NORMAL.exact_by(), likelihood), "model: expected a ScoreModel, got a ByFlow"),
        (
            lambda: twisted(KEY, ConditionalModel(NORMAL, (2,)), likelihood),
            "model: expected a ScoreModel, got a ConditionalModel",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
