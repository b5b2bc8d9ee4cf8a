"""Inverse problems with a normal prior, whose posterior has a closed form at every noise: denoisers of it, and NUTS."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model

from probgen.score import (
    Denoiser,
    DPMSolver,
    GaussianDenoiser,
    LinearLogSNR,
    Measurement,
    MomentMatching,
    PosteriorSampling,
    PowerNoise,
    ProbabilityFlow,
    PseudoinverseGuidance,
    ScoreModel,
    coefficients,
    inpainting,
)

KEY = jax.random.key(0)
SDE = LinearLogSNR(12.0, -12.0)
MEAN = np.array([0.5, -1.0, 0.2])
COVARIANCE = np.array([[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])
A, SCALE, Y = np.array([[1.0, 0.5, 0.0], [0.0, -1.0, 1.0]]), 0.3, np.array([0.8, 0.6])
GAIN = COVARIANCE @ A.T @ np.linalg.inv(A @ COVARIANCE @ A.T + SCALE**2 * np.eye(2))
OF_Y = MEAN + GAIN @ (Y - A @ MEAN), COVARIANCE - GAIN @ A @ COVARIANCE
METHODS = {
    "moment matching": lambda *parts: MomentMatching(*parts, tolerance=1e-12),
    "pseudoinverse": lambda *parts: PseudoinverseGuidance(*parts, tolerance=1e-12),
    "posterior sampling": PosteriorSampling,
}


def prior():
    return GaussianDenoiser(jnp.asarray(MEAN), covariance=jnp.asarray(COVARIANCE))


def seen():
    return Measurement(Y, jnp.asarray(A), SCALE)


@jax.jit
def moments(denoiser, z, log_snr):
    """The mean and the covariance of x given z, by Tweedie's formulas of first and second order."""
    alpha, sigma = coefficients(log_snr)
    return denoiser(z, log_snr), sigma**2 / alpha * jax.jacfwd(denoiser)(z, log_snr)


def test_moment_matching_is_exact_at_every_noise_and_the_others_are_not():
    with jax.enable_x64(True):
        z = jnp.array([0.4, -0.7, 1.1])
        exact = GaussianDenoiser(jnp.asarray(OF_Y[0]), covariance=jnp.asarray(OF_Y[1]))
        for log_snr in (-12.0, -2.0, 1.0, 6.0):
            wanted = moments(exact, z, log_snr)
            off = {}
            for name, method in METHODS.items():
                found = moments(method(prior(), seen()), z, log_snr)
                off[name] = [float(abs(a - b).max()) for a, b in zip(found, wanted, strict=True)]
                print(
                    f"λ = {log_snr:5.1f}  {name:18}  mean off by {off[name][0]:.1e}, covariance by {off[name][1]:.1e}"
                )
            assert max(off["moment matching"]) < 1e-8
            if log_snr < 2.0:
                assert min(off["pseudoinverse"]) > 1e-2 and min(off["posterior sampling"]) > 1e-1


def test_draws_by_moment_matching_have_the_moments_of_the_posterior():
    """Along the ODE they are an affine function of the noise: their moments are found without a draw."""
    with jax.enable_x64(True):
        off = {}
        for name, method in METHODS.items():
            denoise = method(prior(), seen()).under(SDE)
            end = jax.jit(jax.vmap(lambda z, f=denoise: DPMSolver(100, PowerNoise(), order=3)(KEY, f, SDE, z)))
            at = end(jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3)])) / coefficients(12.0)[0]
            mean, root = at[0], at[1:] - at[0]
            off[name] = [float(abs(mean - OF_Y[0]).max()), float(abs(root.T @ root - OF_Y[1]).max())]
            print(f"draws by {name:18}  mean off by {off[name][0]:.1e}, covariance by {off[name][1]:.1e}")
        assert max(off["moment matching"]) < 1e-3
        assert max(off["pseudoinverse"]) > 1e-2 and max(off["posterior sampling"]) > 3e-2


def test_an_operator_is_a_matrix_a_function_or_a_mask():
    z, log_snr = jnp.array([0.4, -0.7, 1.1]), 0.5
    as_function = Measurement(Y, lambda x: jnp.stack([x[0] + 0.5 * x[1], x[2] - x[1]]), SCALE)
    expected = MomentMatching(prior(), seen())(z, log_snr)
    np.testing.assert_allclose(MomentMatching(prior(), as_function)(z, log_snr), expected, rtol=1e-4)
    image = ScoreModel(GaussianDenoiser(jnp.zeros((2, 2)), jnp.array(1.0)), SDE, (2, 2))
    mask = jnp.array([[True, False], [False, True]])
    painted = inpainting(jnp.array([[3.0, jnp.nan], [jnp.nan, -3.0]]), mask, 0.1)
    rows = Measurement(jnp.array([3.0, -3.0]), jnp.eye(4)[jnp.array([0, 3])], 0.1)
    expected = MomentMatching(image.denoiser, rows)(jnp.ones((2, 2)), 0.0)
    np.testing.assert_allclose(MomentMatching(image.denoiser, painted)(jnp.ones((2, 2)), 0.0), expected, rtol=1e-5)
    of_lists = Measurement([0.8, 0.6], A.tolist(), SCALE)
    np.testing.assert_allclose(of_lists(z), seen()(z), rtol=1e-6)
    noise = dist.Normal(0.0, 0.1).log_prob(jnp.array([0.1, 0.2])).sum()
    np.testing.assert_allclose(painted.log_likelihood(jnp.array([[3.1, 9.0], [9.0, -2.8]])), noise, rtol=1e-4)


def test_posterior_sampling_with_zeta_has_the_published_slope():
    """∇ of −ζ |y − A x̂| in place of ∇ log p(y | x̂)."""
    z, log_snr = jnp.array([0.4, -0.7, 1.1]), 0.5
    score = PosteriorSampling(prior(), seen(), zeta=2.0).score(z, log_snr)
    slope = jax.grad(lambda z: -2.0 * jnp.linalg.norm(Y - A @ prior()(z, log_snr)))(z)
    np.testing.assert_allclose(score, prior().score(z, log_snr) + slope, rtol=1e-3)


def test_many_measurements_make_a_batch_of_posteriors():
    model = ScoreModel(prior(), SDE, (3,), sampler=DPMSolver(20))
    ys = jnp.stack([Y, Y + 1.0, Y - 1.0])
    of_y = lambda y: model.replace(denoiser=MomentMatching(model.denoiser, Measurement(y, jnp.asarray(A), SCALE)))
    posterior = jax.vmap(of_y)(ys)
    assert posterior.batch_shape == (3,)
    draws = jax.jit(lambda d: d.sample(KEY, (500,)))(posterior)
    means = MEAN + (ys - A @ MEAN) @ GAIN.T
    np.testing.assert_allclose(draws.mean(0), means, atol=4.5 / np.sqrt(500) + 0.03)
    with pytest.raises(ValueError, match="exact_by: expected a denoiser"):
        posterior.exact_by()


# -- NUTS with a score model for a prior


class Counted(Denoiser):
    """A denoiser whose calls count where their value is needed."""

    denoiser: Denoiser

    def __call__(self, z, log_snr):
        return self.denoiser(_counted(z), log_snr)


CALLS = []


@jax.custom_jvp
def _counted(z):
    def host(z):
        CALLS.append(None)
        return z

    return jax.pure_callback(host, jax.ShapeDtypeStruct(z.shape, z.dtype), z, vmap_method="sequential")


_counted.defjvp(lambda primals, tangents: (_counted(*primals), tangents[0]))


def program(prior):
    x = numpyro.sample("x", prior)
    numpyro.sample("y", dist.Normal(A @ x, SCALE).to_event(1), obs=Y)


def test_a_gradient_of_the_posterior_costs_one_call_and_its_value_the_ode():
    """numpyro's leapfrog steps take both together: the calls of the ODE for the value, and one more."""
    model = ScoreModel(Counted(prior()), SDE, (3,)).exact_by(ProbabilityFlow(1e-4))
    potential = initialize_model(KEY, program, model_args=(model,)).potential_fn
    x, calls = {"x": jnp.asarray(MEAN)}, {}
    for name, function in {
        "value": potential,
        "gradient": jax.grad(potential),
        "both": jax.value_and_grad(potential),
    }.items():
        compiled = jax.jit(function)
        CALLS.clear()
        jax.block_until_ready(compiled(x))
        calls[name] = len(CALLS)
    print(f"calls of the denoiser: {calls}")
    assert calls["gradient"] == 1
    assert calls["both"] == calls["value"] + 1
    exact = -(A.T @ (Y - A @ MEAN)) / SCALE**2  # at the prior's mean its own gradient is 0
    np.testing.assert_allclose(jax.grad(potential)(x)["x"], exact, rtol=1e-3, atol=1e-2)


def test_nuts_finds_the_posterior_of_a_linear_measurement():
    model = ScoreModel(prior(), SDE, (3,)).exact_by(ProbabilityFlow(1e-4))
    mcmc = MCMC(NUTS(program), num_warmup=150, num_samples=600, progress_bar=False)
    mcmc.run(KEY, model)
    draws, deviation = np.asarray(mcmc.get_samples()["x"]), np.sqrt(np.diag(OF_Y[1]))
    np.testing.assert_array_less(abs(draws.mean(0) - OF_Y[0]) / deviation, 0.25)
    correlation = OF_Y[1] / np.outer(deviation, deviation)
    np.testing.assert_allclose(draws.std(0), deviation, rtol=0.15)
    np.testing.assert_allclose(np.corrcoef(draws.T), correlation, atol=0.15)


NORMAL = GaussianDenoiser(jnp.zeros(2), jnp.array(1.0))
ONE = Measurement(jnp.ones(1), jnp.eye(1, 2), 0.1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: inpainting(jnp.ones(2), jnp.ones(2), 0.1), "mask: expected booleans, got dtype float32"),
        (lambda: inpainting(jnp.ones(2), jnp.array([0, 1]), 0.1), "mask: expected booleans, got dtype int32"),
        (lambda: inpainting(jnp.ones(2), jnp.ones(3, bool), 0.1), "mask: expected the shape of y"),
        (lambda: inpainting(jnp.ones(2), jnp.zeros(2, bool), 0.1), "mask: expected True somewhere"),
        (lambda: inpainting(jnp.ones(2), jnp.ones(2, bool), 0.0), "scale: expected a positive number"),
        (
            lambda: Measurement(jnp.ones(3), jnp.eye(2), 0.1).log_likelihood(jnp.ones(2)),
            "operator: expected A x of y's",
        ),
        (lambda: inpainting(jnp.array([jnp.nan, 1.0]), jnp.ones(2, bool), 0.1), "y: expected finite numbers, got nan"),
        (lambda: Measurement(jnp.array([jnp.inf]), jnp.eye(1, 2), 0.1), "y: expected finite numbers, got inf"),
        (lambda: Measurement("1", jnp.eye(1, 2), 0.1), "y: expected numbers"),
        (lambda: Measurement(1.0, [[1.0, 2.0]], 0.1), "operator: expected a matrix, one row for each number of y"),
        (lambda: Measurement([1.0], 3.0, 0.1), "operator: expected a function that returns A x, got 3.0"),
        (lambda: Measurement(jnp.ones(1), jnp.eye(1, 3), 0.1)(jnp.ones(2)), "operator: expected a matrix of 2 columns"),
        (lambda: Measurement(jnp.ones(1), jnp.eye(1, 2), jnp.nan), "scale: expected a positive number, got nan"),
        (lambda: MomentMatching(lambda z, s: z, ONE), "denoiser: expected a score.Denoiser"),
        (lambda: MomentMatching(NORMAL, jnp.ones(1)), "measurement: expected a score.Measurement"),
        (lambda: MomentMatching(NORMAL, ONE, max_steps=0), "max_steps"),
        (lambda: PseudoinverseGuidance(NORMAL, ONE, prior_scale=0.0), "prior_scale"),
        (lambda: PosteriorSampling(NORMAL, ONE, zeta=-1.0), "zeta"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
