"""The probability-flow ODE against closed forms: densities, gradients, the path between data and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

import probgen
from probgen.evaluation import evaluate
from probgen.mixtures import histogram
from probgen.score import (
    Denoiser,
    GaussianDenoiser,
    LinearLogSNR,
    ProbabilityFlow,
    ScoreModel,
    Straight,
    coefficients,
    vp_score,
)

KEY = jax.random.key(0)
LOC, SCALE = jnp.array([0.5, -1.0, 2.0]), jnp.array([0.3, 1.0, 2.0])
SDE = LinearLogSNR(9.0, -30.0)  # with α(1) = e⁻¹⁵ left of the data, the prior is as good as exact
LEFT = jnp.exp(-9.0)  # the variance of the noise that data have at t = 0
GAUSSIAN = ScoreModel(GaussianDenoiser(LOC, SCALE), SDE, (3,))
TRUTH = dist.Normal(LOC, jnp.sqrt(SCALE**2 + LEFT)).to_event(1)


class Pair(Denoiser):
    """The exact denoiser of an even mixture of two correlated normals of the same covariance S, at ±m."""

    center: jax.Array
    covariance: jax.Array

    def __call__(self, z, log_snr):
        alpha, sigma = coefficients(log_snr)
        inverse = jnp.linalg.inv(alpha**2 * self.covariance + sigma**2 * jnp.eye(len(z)))
        side = jnp.tanh(alpha * self.center @ inverse @ z)  # E of the sign, given z
        return side * self.center + alpha * self.covariance @ inverse @ (z - alpha * side * self.center)


CENTER, COVARIANCE = jnp.array([1.0, 0.5]), jnp.array([[0.3, 0.15], [0.15, 0.2]])
PAIR = ScoreModel(Pair(CENTER, COVARIANCE), SDE, (2,))
MIXTURE = dist.MixtureSameFamily(
    dist.Categorical(logits=jnp.zeros(2)),
    dist.MultivariateNormal(jnp.stack([CENTER, -CENTER]), COVARIANCE + LEFT * jnp.eye(2)),
)


def ode(**options):
    return jax.jit(lambda model, x: model.log_prob_ode(x, flow=ProbabilityFlow(**options)))


@pytest.mark.parametrize(("model", "truth"), [(GAUSSIAN, TRUTH), (PAIR, MIXTURE)], ids=["normal", "mixture"])
def test_the_density_is_the_closed_form(model, truth):
    draw, log_prob = jax.jit(lambda truth: truth.sample(KEY, (20,))), jax.jit(lambda truth, x: truth.log_prob(x))
    x = draw(truth)
    np.testing.assert_allclose(ode()(model, x), log_prob(truth, x), atol=3e-4)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: leaf.astype(float), model)
        truth, x = (jax.tree.map(lambda leaf: leaf.astype(float), it) for it in (truth, x))
        np.testing.assert_allclose(ode(tolerance=1e-8)(exact, x), log_prob(truth, x), atol=1e-5)


def test_it_does_not_depend_on_the_schedule():
    x = MIXTURE.sample(KEY, (5,))
    straight = PAIR.replace(sde=Straight(9.0, -30.0))
    np.testing.assert_allclose(ode()(PAIR, x), ode()(straight, x), atol=1e-4)


def test_hutchinsons_estimate_is_unbiased_falls_with_probes_and_is_a_function():
    x = MIXTURE.sample(KEY, (4,))
    exact = ode()(PAIR, x)

    @jax.jit(static_argnums=0)
    def estimates(probes, seeds):
        flow = lambda seed: ProbabilityFlow(probes=probes, seed=seed)
        return jax.lax.map(lambda seed: PAIR.log_prob_ode(x, flow=flow(seed)), seeds)

    few = estimates(1, jnp.arange(1, 25)) - exact
    many = estimates(16, jnp.arange(1, 9)) - exact
    np.testing.assert_array_less(abs(few.mean(0)), 4 * few.std(0) / np.sqrt(len(few)) + 1e-3)
    assert (many**2).mean() < 0.25 * (few**2).mean()
    np.testing.assert_array_equal(*[ode(probes=1)(PAIR, x) for _ in range(2)])


def test_the_gradient_is_the_score_and_that_of_the_density_and_needs_no_ode():
    view, x = PAIR.exact_by(), MIXTURE.sample(KEY, (5,))
    gradients = lambda p: jax.jit(lambda x: (jax.vmap(jax.grad(p.log_prob))(x), jax.hessian(p.log_prob)(x[0])))(x)
    (score, hessian), (true_score, true_hessian) = gradients(view), gradients(MIXTURE)
    np.testing.assert_allclose(score, true_score, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(hessian, true_hessian, rtol=5e-3, atol=5e-3)
    normal = GAUSSIAN.exact_by()
    for function, solves in ((normal.log_prob, True), (jax.grad(normal.log_prob), False)):
        assert (" while(" in jax.jit(function).lower(LOC).compile().as_text()) == solves


def test_the_gradient_by_the_params_is_that_of_finite_differences():
    with jax.enable_x64(True):
        view = GAUSSIAN.replace(denoiser=GaussianDenoiser(LOC.astype(float), SCALE.astype(float))).exact_by(
            ProbabilityFlow(1e-9)
        )
        x = jnp.array([0.1, 0.2, 0.3])

        def density(scale):
            moved = view.model.replace(denoiser=GaussianDenoiser(LOC.astype(float), scale))
            return moved.exact_by(view.flow).log_prob(x)

        noised = lambda scale: dist.Normal(LOC, jnp.sqrt(scale**2 + LEFT)).log_prob(x).sum()
        expected = jax.jit(jax.grad(noised))(SCALE.astype(float))
        np.testing.assert_allclose(jax.jit(jax.grad(density))(SCALE.astype(float)), expected, atol=1e-5)


def test_data_and_noise_are_two_ends_of_one_path():
    x = MIXTURE.sample(KEY, (400,))
    noise = jax.jit(lambda m, x: m.encode(x))(PAIR, x)
    np.testing.assert_array_less(abs(noise.mean(0)), 4.5 / 20)
    np.testing.assert_allclose(noise.std(0), 1.0, atol=4.5 / np.sqrt(800))
    back = jax.jit(lambda m, noise: m.decode(noise).mean)(PAIR, noise)
    np.testing.assert_allclose(back, x, atol=5e-3)
    draws = jax.jit(lambda m, k: m.exact_by().sample(k, (2000,)))(PAIR, KEY)
    np.testing.assert_allclose(jnp.cov(draws.T), jnp.outer(CENTER, CENTER) + COVARIANCE, atol=0.1)


def test_integers_have_weights_whose_mean_is_no_less_than_the_bound():
    model = vp_score((2,), levels=3, width=8, depth=1, log_snr=(5.0, -6.0), key=KEY)
    every = jnp.stack(jnp.meshgrid(jnp.arange(3), jnp.arange(3)), -1).reshape(-1, 2)
    view = model.exact_by()
    assert (view.kind, view.tolerance) == ("weights", 1e-5)
    log_p = jax.jit(lambda m: m.log_prob_bound(KEY, every, 200))(view)
    np.testing.assert_allclose(jnp.exp(log_p).sum(), 1.0, atol=0.05)
    bounds = jax.jit(jax.vmap(lambda k, m: m.log_prob_bound(k, every, 500), (0, None)))(
        jax.random.split(KEY, 20), model
    )
    error = bounds.std(0) / np.sqrt(len(bounds))
    assert (log_p > bounds.mean(0) - 4 * error - 0.02).all()
    with pytest.raises(ValueError, match="expected a model of reals"):
        model.log_prob_ode(every)


def test_a_row_that_is_no_number_has_no_density_and_the_others_have_theirs():
    x = jnp.stack([LOC, LOC.at[1].set(jnp.nan), LOC + 0.1])
    found = ode(max_steps=200)(GAUSSIAN, x)
    np.testing.assert_allclose(found[jnp.array([0, 2])], TRUTH.log_prob(x[jnp.array([0, 2])]), atol=3e-4)
    assert jnp.isnan(found[1])


def test_what_is_exact_within_a_tolerance_says_so():
    found = evaluate(GAUSSIAN.exact_by(ProbabilityFlow(1e-3)), LOC[None] + jnp.zeros((2, 1)))
    assert (found.kind, found.tolerance, found.sign) == ("exact", 1e-3, "≈")
    assert str(found).startswith("≈") and "(≈" in str(found) and "=" not in str(found)
    assert evaluate(histogram((2,), 4), jnp.zeros((4, 2), int)).sign == "="


def test_nuts_with_a_score_model_for_a_prior_finds_the_posterior_of_normals():
    prior = GAUSSIAN.exact_by(ProbabilityFlow(1e-4))

    def program(y):
        x = numpyro.sample("x", prior)
        numpyro.sample("y", dist.Normal(x, 0.5).to_event(1), obs=y)

    y = jnp.array([1.0, 0.0, 0.0])
    mcmc = MCMC(NUTS(program), num_warmup=200, num_samples=400, progress_bar=False)
    mcmc.run(KEY, y)
    precision = 1 / SCALE**2 + 4.0
    draws = mcmc.get_samples()["x"]
    np.testing.assert_allclose(draws.mean(0), (LOC / SCALE**2 + 4.0 * y) / precision, atol=0.15)
    np.testing.assert_allclose(draws.std(0), precision**-0.5, rtol=0.2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ProbabilityFlow(0.0), "tolerance"),
        (lambda: ProbabilityFlow(probes=0), "probes"),
        (lambda: ProbabilityFlow(seed=3), "seed: expected probes beside it"),
        (lambda: ProbabilityFlow(max_steps=0), "max_steps"),
        (lambda: GAUSSIAN.exact_by(1e-5), "flow: expected a score.ProbabilityFlow"),
        (lambda: GAUSSIAN.log_prob_ode(LOC, flow=ProbabilityFlow(1e-9)), "tolerance: expected at least .* for float32"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_conditional_model_has_them_at_its_contexts():
    model = vp_score((2,), width=8, depth=1, context_dim=2, key=KEY)
    contexts, x = jnp.eye(2), jnp.ones((2, 2))
    both = jax.jit(lambda m: m(contexts).log_prob_ode(x))(model)
    alone = jax.jit(lambda m, c: m(c).log_prob_ode(x[0]))
    np.testing.assert_allclose(both, [alone(model, c) for c in contexts], rtol=1e-4)
    view = jax.jit(lambda m: probgen.distributions.ConditionalModel(m.model.exact_by(), (2,))(contexts).log_prob(x))
    assert view(model).shape == (2,)


def test_the_solver_stops_after_its_steps():
    with pytest.raises(Exception, match="maximum number of solver steps"):
        GAUSSIAN.log_prob_ode(LOC, flow=ProbabilityFlow(max_steps=2)).block_until_ready()
