"""Score models against closed forms: moment ODEs, Gaussian data with the exact denoiser, enumerated masses."""

import dataclasses
import itertools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import probgen
from probgen.networks import NoiseEmbedding
from probgen.score import (
    DDIM,
    DEIS,
    SDE,
    Ancestral,
    Corrected,
    Cosine,
    Decoder,
    Denoiser,
    DPMSolver,
    EulerMaruyama,
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    GeometricSigma,
    Heun,
    LearnedLogSNR,
    LevelDecoder,
    LevelDenoiser,
    LinearBeta,
    LinearLogSNR,
    PowerNoise,
    PowerSigma,
    RealDenoiser,
    ReverseDiffusion,
    ScoreModel,
    Straight,
    SubLinearBeta,
    UniformLogSNR,
    UniformTime,
    coefficients,
    vp_score,
)

bound_of = jax.jit(lambda model, key, x, n=1: model.log_prob_bound(key, x, n), static_argnums=3)
sample_of = jax.jit(lambda model, key, shape: model.sample(key, shape), static_argnums=2)


class Searched(LinearBeta):
    """A user's SDE, of which the base has to find the times."""

    def log_snr(self, t):
        return super().log_snr(t) - 1.0


PRESERVING = [
    LinearLogSNR(),
    LinearLogSNR(12.0, -5.0),
    Cosine(9.0, -9.0),
    LinearBeta(),
    LinearBeta(1.0, 5.0, 0.01),
    Searched(),
]
SDES = [*PRESERVING, SubLinearBeta(), GeometricSigma(), PowerSigma(), Straight(9.0, -9.0)]
STRAIGHT = Straight(2.0 * math.log(99.0), -2.0 * math.log(99.0))  # u from 0.01 to 0.99


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_marginals_satisfy_their_moment_odes(sde):
    """dα/dt = f α and dσ²/dt = 2 f σ² + g², by Runge–Kutta from t = 0.02 to 1."""
    with jax.enable_x64(True):

        def rates(t, moments):
            alpha, variance = moments
            f, g = sde.drift(t), sde.diffusion(t)
            return jnp.stack([f * alpha, 2 * f * variance + g**2])

        def step(moments, t):
            k1 = rates(t, moments)
            k2 = rates(t + h / 2, moments + h / 2 * k1)
            k3 = rates(t + h / 2, moments + h / 2 * k2)
            k4 = rates(t + h, moments + h * k3)
            return moments + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        steps = 1000
        h = 0.98 / steps
        alpha, sigma = sde.marginal(0.02)
        end, _ = jax.lax.scan(step, jnp.stack([alpha, sigma**2]), 0.02 + h * jnp.arange(steps))
        alpha, sigma = sde.marginal(1.0)
        np.testing.assert_allclose(end, [alpha, sigma**2], rtol=1e-6)


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_falls_and_preserves_variance_where_it_says_so(sde):
    t = jnp.linspace(0.0, 1.0, 101)
    alpha, sigma = sde.marginal(t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0 if sde in PRESERVING else sde.scale(t) ** 2, rtol=1e-5)
    np.testing.assert_allclose(2 * jnp.log(alpha / sigma), sde.log_snr(t), atol=2e-4)
    assert (jax.vmap(sde.log_snr_rate)(t) < 0).all()


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_times_are_found_by_their_log_snr(sde):
    with jax.enable_x64(True):
        t = jnp.linspace(0.0, 1.0, 41)
        np.testing.assert_allclose(sde.time(sde.log_snr(t)), t, atol=1e-9)
        np.testing.assert_allclose(sde.time(jnp.array([1e3, -1e3])), [0.0, 1.0], atol=1e-9)


@pytest.mark.parametrize("sde", [LinearLogSNR(4.0, -1.0), Straight(9.0, -2.0), GeometricSigma(0.1, 2.0)], ids=str)
def test_the_priors_mismatch_is_the_kl_of_normals(sde):
    x = jnp.array([0.3, -1.2, 2.0])
    alpha, sigma = sde.marginal(1.0)
    expected = dist.kl_divergence(dist.Normal(alpha * x, sigma).to_event(1), sde.prior((3,)))
    np.testing.assert_allclose(sde.prior_mismatch(x), expected, rtol=1e-5)


def test_the_sub_vp_sde_has_the_noise_of_its_lyapunov_equation():
    """A published library has 1 − exp(−2B) for σ; dV/dB = −V + 1 − exp(−2B) gives σ = 1 − exp(−B)."""
    sde = SubLinearBeta(0.1, 20.0)
    for b, sigma in [(0.5, 0.3935), (1.0, 0.6321)]:
        u = (-0.1 + math.sqrt(0.01 + 2 * 19.9 * b)) / 19.9
        t = (u - sde.u_min) / (1 - sde.u_min)
        np.testing.assert_allclose(sde.integral(t), b, rtol=1e-5)
        np.testing.assert_allclose(sde.marginal(t)[1], sigma, atol=1e-4)


@pytest.mark.parametrize("sde", SDES, ids=str)
@pytest.mark.parametrize("grid", [UniformTime(), UniformLogSNR(), PowerNoise(3.0)], ids=str)
def test_grids_fall_from_one_to_zero_in_equal_steps_of_what_they_say(grid, sde):
    times = grid(sde, 10)
    assert times[0] == 1.0 and times[-1] == 0.0 and (jnp.diff(times) < 0).all()
    log_snr = sde.log_snr(times)
    even = {UniformTime: times, UniformLogSNR: log_snr, PowerNoise: jnp.exp(-log_snr / 6.0)}[type(grid)]
    steps = np.diff(even)
    np.testing.assert_allclose(steps, steps.mean(), rtol=2e-2)


def test_constructors_refuse_nonsense():
    with pytest.raises(ValueError, match="largest"):
        LinearLogSNR(-1.0, 1.0)
    with pytest.raises(ValueError, match="beta_min"):
        LinearBeta(0.0, 1.0)
    with pytest.raises(ValueError, match="u_min"):
        LinearBeta(u_min=0.0)
    with pytest.raises(ValueError, match="sigma_max"):
        PowerSigma(1.0, 0.5)
    for make, word in [
        (lambda: PowerSigma(rho=0.0), "rho"),
        (lambda: Cosine(1.0, 2.0), "largest"),
        (lambda: PowerNoise(0.0), "rho"),
        (lambda: DDIM(0), "steps"),
        (lambda: DDIM(eta=1.5), "eta"),
        (lambda: Heun(churn=-1.0), "churn"),
        (lambda: Heun(churned=(0.1, 1.0)), "churned"),
        (lambda: DPMSolver(order=4), "order"),
        (lambda: DEIS(order=0), "order"),
        (lambda: Corrected(corrections=0), "corrections"),
        (lambda: Corrected(snr=0.0), "snr"),
    ]:
        with pytest.raises(ValueError, match=word):
            make()
    with pytest.raises(ValueError, match="levels"):
        vp_score((2,), levels=1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="scale"):
        vp_score((2,), scale=0.0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="dim"):
        NoiseEmbedding(4)


def test_coefficients_are_finite_at_extremes():
    for log_snr in (-200.0, -80.0, 0.0, 80.0, 200.0):
        value, grad = jax.value_and_grad(lambda s: jnp.sum(jnp.stack(coefficients(s))))(log_snr)
        assert jnp.isfinite(value) and jnp.isfinite(grad)


def test_the_score_is_the_gradient_of_the_marginal():
    z = jax.random.normal(jax.random.key(0), (5,))
    alpha, sigma = coefficients(0.7)
    denoiser = GaussianDenoiser(jnp.array(0.5), jnp.array(1.5))
    marginal = dist.Normal(alpha * 0.5, jnp.sqrt((alpha * 1.5) ** 2 + sigma**2))
    expected = jax.vmap(jax.grad(marginal.log_prob))(z)  # Tweedie's formula
    np.testing.assert_allclose(denoiser.score(z, 0.7), expected, rtol=1e-5, atol=1e-5)


def test_level_denoiser_is_exact_where_the_levels_are_independent():
    """With F = log θ the posterior is Bayes' rule with the prior θ."""
    theta = jnp.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
    denoiser = LevelDenoiser(lambda z, c: jnp.log(theta).ravel(), NoiseEmbedding(), levels=3)
    z, log_snr = jnp.array([0.3, -0.8]), jnp.array(1.0)
    alpha, sigma = coefficients(log_snr)
    joint = theta * jnp.exp(dist.Normal(alpha * jnp.array([-1.0, 0.0, 1.0]), sigma).log_prob(z[:, None]))
    posterior = joint / joint.sum(-1, keepdims=True)
    np.testing.assert_allclose(jnp.exp(denoiser.log_posterior(z, log_snr)), posterior, rtol=1e-5)
    np.testing.assert_allclose(denoiser(z, log_snr), posterior @ jnp.array([-1.0, 0.0, 1.0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(denoiser(z, jnp.array(30.0)), [0.0, -1.0], atol=1e-6)


@pytest.mark.parametrize(("levels", "log_snr"), [(2, -1.0), (2, 2.0), (5, 5.0)])
def test_the_decoder_of_levels_is_the_posterior_where_two_of_them_matter(levels, log_snr):
    theta = jax.random.normal(jax.random.key(0), (50, levels))
    denoiser = LevelDenoiser(lambda z, c: theta, NoiseEmbedding(), levels=levels)
    alpha, sigma = coefficients(log_snr)
    x = jax.random.uniform(jax.random.key(1), (50,), minval=-1.0, maxval=1.0)
    z = alpha * x + sigma * jax.random.normal(jax.random.key(2), (50,))
    posterior = jnp.exp(denoiser.log_posterior(z, log_snr))
    decoded = LevelDecoder(levels)(z, denoiser(z, log_snr), jnp.array(log_snr)).probs
    np.testing.assert_allclose(decoded, posterior, atol=5e-6)
    assert (posterior.max(-1) < 0.99).any()


# -- Gaussian data with the exact denoiser: everything has a closed form

LOC, SCALE = jnp.array([0.5, -1.0]), jnp.array([0.3, 1.2])


def gaussian(sampler=None, sde=None):
    return ScoreModel(GaussianDenoiser(LOC, SCALE), sde or LinearLogSNR(9.0, -9.0), (2,), sampler=sampler)


@pytest.mark.parametrize("sde", [LinearLogSNR(9.0, -9.0), LinearBeta(u_min=1e-2), GeometricSigma()], ids=str)
def test_bound_of_gaussian_data_is_below_the_density_and_close(sde):
    truth = dist.Normal(LOC, SCALE).to_event(1)
    x = truth.sample(jax.random.key(0), (512,))
    bound = bound_of(gaussian(sde=sde), jax.random.key(1), x, 1024)
    gap = truth.log_prob(x) - bound
    error = gap.std() / np.sqrt(gap.size)
    # the mean gap is the KL of two path measures, zero but for the ends; 4 standard errors: 1 false alarm in 16,000
    assert gap.mean() > -4 * error
    assert gap.mean() < 0.05 + 4 * error
    assert error < 0.025


def test_bound_is_a_mean_and_tightens_only_in_variance():
    model, x = gaussian(), LOC[None].repeat(4000, 0)
    one = bound_of(model, jax.random.key(0), x, 1)
    many = bound_of(model, jax.random.key(1), x, 16)
    error = np.sqrt((one.var() + many.var()) / len(x))
    assert abs(one.mean() - many.mean()) < 4 * error
    assert many.var() < one.var() / 10


@pytest.mark.parametrize(
    "sampler",
    [
        Ancestral(100),
        EulerMaruyama(400),
        ReverseDiffusion(400),
        Corrected(ReverseDiffusion(200), 2, 0.1),
        DDIM(100),
        DDIM(100, eta=0.5),
        Heun(25),
        Heun(50, churn=10.0, churned=(0.05, 50.0)),
        DPMSolver(40),
        DPMSolver(100, order=3, eta=1.0),
        DEIS(60, PowerNoise(), order=3),
    ],
    ids=str,
)
def test_samplers_reproduce_mean_and_sd(sampler):
    n = 4000
    x = sample_of(gaussian(sampler), jax.random.key(3), (n,))
    # 4.5 standard errors (1 false alarm in 100,000 per number), and 2 % for the steps
    np.testing.assert_array_less(abs(x.mean(0) - LOC), 4.5 * SCALE / np.sqrt(n) + 0.02 * SCALE)
    np.testing.assert_array_less(abs(x.std(0) / SCALE - 1), 4.5 / np.sqrt(2 * n) + 0.02)


@pytest.mark.parametrize("sde", [GeometricSigma(0.01, 100.0), STRAIGHT], ids=str)
@pytest.mark.parametrize(
    "sampler", [Ancestral(100), EulerMaruyama(800), Heun(40), Heun(20, straight=True), DPMSolver(60)], ids=str
)
def test_samplers_run_along_sdes_of_any_scale(sampler, sde):
    """The draws of those that only see λ are the same whatever the scale, and all have the data's moments."""
    n = 2000
    x = sample_of(gaussian(sampler, sde), jax.random.key(3), (n,))
    np.testing.assert_array_less(abs(x.mean(0) - LOC), 4.5 * SCALE / np.sqrt(n) + 0.05 * SCALE)
    np.testing.assert_array_less(abs(x.std(0) / SCALE - 1), 4.5 / np.sqrt(2 * n) + 0.05)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DDIM(eta=1.0), Ancestral()),
        (DPMSolver(order=1, eta=1.0), Ancestral()),
        (DPMSolver(order=1), DDIM()),
        (DEIS(order=1), DDIM()),
    ],
    ids=str,
)
def test_samplers_that_are_the_same(one, other):
    sde, denoiser, z = Straight(8.0, -8.0), GaussianDenoiser(jnp.array(0.5), jnp.array(0.3)), jnp.array([0.7, -2.0])
    paths = [s.path(jax.random.key(0), denoiser.under(sde), sde, z) for s in (one, other)]
    np.testing.assert_allclose(*paths, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(one(jax.random.key(0), denoiser.under(sde), sde, z), paths[0][-1])


@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        (DDIM(), 1),
        (Heun(), 2),
        (Heun(straight=True), 2),
        (DPMSolver(), 2),
        (DPMSolver(grid=PowerNoise(), order=3), 3),
        (DEIS(grid=PowerNoise()), 2),
        (DEIS(grid=PowerNoise(), order=3), 3),
    ],
    ids=str,
)
def test_the_error_of_the_ode_samplers_falls_by_their_order(sampler, order):
    """From one z the ODE has a closed end point; twice the steps: the error falls by 2 to the order."""
    with jax.enable_x64(True):
        sde, denoiser = LinearLogSNR(9.0, -14.0), GaussianDenoiser(jnp.array(0.5), jnp.array(0.3))
        z = jnp.array(0.7)
        sd = lambda t: jnp.sqrt((sde.marginal(t)[0] * 0.3) ** 2 + sde.marginal(t)[1] ** 2)
        mean = lambda t: sde.marginal(t)[0] * 0.5
        exact = mean(0.0) + sd(0.0) / sd(1.0) * (z - mean(1.0))

        def error(sampler, steps):
            drawn = dataclasses.replace(sampler, steps=steps)(jax.random.key(0), denoiser.under(sde), sde, z)
            return abs(drawn - exact)

        np.testing.assert_allclose(jnp.log2(error(sampler, 200) / error(sampler, 400)), order, atol=0.25)
        assert order == 1 or error(sampler, 40) < 0.5 * error(DDIM(grid=sampler.grid), 40)


def test_few_steps_from_pure_noise_along_a_straight_path():
    """At noise alone ρ = σ/α is infinite, and steps along it are lost; u = σ/(α + σ) is 1, and sixteen suffice."""
    angle = jnp.arange(8) * jnp.pi / 4
    modes = 1.4 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
    sde, denoiser = Straight(), GaussianMixtureDenoiser(jnp.ones(8), modes, jnp.array(0.1))
    z = jax.random.normal(jax.random.key(0), (500, 2))
    one = lambda sampler, z: sampler(jax.random.key(0), denoiser.under(sde), sde, z)
    ends = lambda sampler: np.asarray(jax.jit(jax.vmap(lambda z: one(sampler, z)))(z))
    exact = ends(Heun(2000))
    missed = lambda sampler: np.linalg.norm(ends(sampler) - exact, axis=-1).mean()
    assert missed(Heun(16, straight=True)) < 0.01 < 0.03 < missed(Heun(16))


# -- integers


def tiny(seed=0, rank=None):
    """A model of two numbers in 0..2 with weights that are far from the start."""
    model = vp_score(
        (2,), levels=3, width=8, depth=1, rank=rank, log_snr=(5.0, -6.0), steps=60, key=jax.random.key(seed)
    )
    params, rest = probgen.partition(model)
    keys = dict(zip(params, jax.random.split(jax.random.key(seed + 1), len(params)), strict=True))
    move = jax.jit(lambda p, keys: {path: p[path] + 0.3 * jax.random.normal(keys[path], p[path].shape) for path in p})
    return probgen.combine(move(params, keys), rest)


@pytest.mark.parametrize("rank", [1, None])
def test_bounds_of_all_events_sum_to_at_most_one(rank):
    grid = jnp.array(list(itertools.product(range(3), repeat=2)))
    bound = bound_of(tiny(rank=rank), jax.random.key(0), grid, 4000)
    total = jnp.exp(bound).sum()
    assert 0.3 < total < 1.0 + 1e-2


def test_bound_is_below_the_mass_of_the_sampled_model():
    """Sum over events of P(x) log P(x) / e^bound is a KL, positive for the masses that the ancestral sampler has."""
    model, n = tiny(), 20_000
    grid = jnp.array(list(itertools.product(range(3), repeat=2)))
    x = sample_of(model, jax.random.key(5), (n,))
    mass = jnp.array([(x == row).all(-1).mean() for row in grid])
    bounds = jnp.stack([bound_of(model, jax.random.key(seed), grid, 4000) for seed in range(6, 14)])
    error = jnp.sqrt((1 - mass) / (mass * n) + bounds.var(0, ddof=1) / len(bounds))
    # 60 steps differ a little from continuous time
    assert (bounds.mean(0) < jnp.log(mass) + 4 * error + 0.05).all()


def test_bound_is_exact_where_the_levels_are_independent():
    theta = jnp.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
    denoiser = LevelDenoiser(lambda z, c: jnp.log(theta).ravel(), NoiseEmbedding(), levels=3)
    model = ScoreModel(denoiser, LinearLogSNR(6.0, -9.0), (2,), decoder=LevelDecoder(3))
    grid = jnp.array(list(itertools.product(range(3), repeat=2)))
    bounds = jax.jit(jax.vmap(lambda k: model.log_prob_bound(k, grid, 1000)))(jax.random.split(jax.random.key(0), 50))
    bound, error = bounds.mean(0), bounds.std(0) / np.sqrt(50)
    log_mass = jnp.log(theta[0, grid[:, 0]] * theta[1, grid[:, 1]])
    # 5 standard errors of 9 numbers: 1 false alarm in 200,000; the ends cost less than 0.01
    np.testing.assert_array_less(abs(bound - log_mass), 5 * error + 0.01)
    assert error.max() < 0.05


class Doubled(Denoiser):
    """A wrapper, as guidance is one: of any denoiser, whatever the data."""

    inner: Denoiser

    def __call__(self, z, log_snr):
        return self.inner(z, log_snr)


def test_a_wrapped_denoiser_is_one_of_the_same_data():
    model, x = tiny(), jnp.zeros((4, 2), int)
    wrapped = model.replace(denoiser=Doubled(model.denoiser))
    assert wrapped.support == model.support
    np.testing.assert_array_equal(bound_of(wrapped, jax.random.key(0), x, 5), bound_of(model, jax.random.key(0), x, 5))
    np.testing.assert_array_equal(
        sample_of(wrapped, jax.random.key(0), (5,)), sample_of(model, jax.random.key(0), (5,))
    )


def test_decoders_make_other_data():
    """log x of positive data is placed among the reals: the density has the Jacobian of it."""

    class Positive(Decoder):
        support = dist.constraints.positive

        def place(self, x):
            return jnp.log(x)

        def __call__(self, z, x, log_snr):
            return dist.LogNormal(x, jnp.exp(-0.5 * log_snr))

    model = gaussian().replace(decoder=Positive())
    x = jnp.exp(sample_of(gaussian(), jax.random.key(0), (200,)))
    bound = bound_of(model, jax.random.key(1), x, 64)
    np.testing.assert_allclose(
        bound, bound_of(gaussian(), jax.random.key(1), jnp.log(x), 64) - jnp.log(x).sum(-1), rtol=1e-3, atol=1e-3
    )
    assert (sample_of(model, jax.random.key(2), (50,)) > 0).all()


def test_parts_of_a_model_at_a_context_are_replaced_in_the_model():
    conditional = vp_score((2,), width=8, depth=1, steps=20, context_dim=1, key=jax.random.key(0))
    at = conditional(jnp.ones((3, 1)))
    other = at.replace(denoiser=GaussianDenoiser(jnp.array(5.0), jnp.array(0.1)), sampler=DDIM(20))
    assert isinstance(other.sampler, DDIM) and other.batch_shape == (3,)
    assert abs(sample_of(other, jax.random.key(1), (50,)).mean() - 5.0) < 0.2
    x = jnp.full((3, 2), 5.0)
    assert (bound_of(other, jax.random.key(2), x, 20) > bound_of(at, jax.random.key(2), x, 20) + 5.0).all()
    with pytest.raises(ValueError, match=r"denoisr: a ScoreModel has no such field; it has .*denoiser"):
        at.replace(denoisr=DDIM(3))


class Rising(SDE):
    def log_snr(self, t):
        return 10.0 * jnp.asarray(t, float) - 5.0


class Uncut(SDE):
    def log_snr(self, t):
        return -2 * jnp.log(jnp.tan(jnp.pi / 2 * jnp.asarray(t, float)))


class Short(Denoiser):
    def __call__(self, z, log_snr):
        return z[:1]


GAUSSIAN = GaussianDenoiser(LOC, SCALE)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ScoreModel(GAUSSIAN, Rising(), (2,)), "sde: expected a log-SNR that falls"),
        (lambda: ScoreModel(GAUSSIAN, Uncut(), (2,)), "sde: expected a finite log-SNR"),
        (lambda: ScoreModel(LinearLogSNR(), GAUSSIAN, (2,)), "denoiser: expected a score.Denoiser, got LinearLogSNR"),
        (lambda: ScoreModel(GAUSSIAN, LinearLogSNR(), 2), "event_shape"),
        (lambda: ScoreModel(Short(), LinearLogSNR(), (2,)).sample(jax.random.key(0)), "denoiser: expected"),
        (lambda: bound_of(ScoreModel(Short(), LinearLogSNR(), (2,)), jax.random.key(0), LOC), "denoiser: expected"),
        (
            lambda: ScoreModel(GAUSSIAN, LinearLogSNR(), (3,)).sample(jax.random.key(0)),
            "loc: expected the event's",
        ),
        (lambda: gaussian().replace(sampler="heun"), "sampler: expected a score.Sampler, got str"),
        (lambda: gaussian().replace(sampler=Heun), r"sampler: expected an instance, such as Heun\(…\)"),
        (lambda: gaussian().replace(sde="cosine"), "sde: expected a score.SDE, got str"),
        (lambda: gaussian().replace(sde=Rising()), "sde: expected a log-SNR that falls"),
        (lambda: gaussian().replace(loss="x"), "loss: expected a score.Loss, got str"),
        (lambda: gaussian().replace(denoiser=lambda z, s: z), "denoiser: expected a score.Denoiser, got function"),
        (lambda: gaussian().replace(decoder=3), "decoder: expected a score.Decoder, got int"),
        (lambda: Ancestral(4, "even"), "grid: expected a function that returns times, got 'even'"),
        (lambda: vp_score((2,), log_snr=7.0, key=jax.random.key(0)), "log_snr: expected two finite numbers"),
        (lambda: LinearLogSNR("8", -8), "largest, smallest: expected finite log-SNRs"),
        (lambda: RealDenoiser("net", NoiseEmbedding()), "network: expected a function that returns numbers, got 'net'"),
        (lambda: RealDenoiser(lambda z, c: z, 3), "embedding: expected a function that returns features, got 3"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_parts_that_do_not_fit_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_numbers_of_jax_are_numbers():
    data, key = jnp.array([[1.0, 2.0], [4.0, 3.0]]), jax.random.key(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sdes = LinearLogSNR(jnp.array(8.0), np.float32(-8.0)), GeometricSigma(sigma_max=jnp.array(2.0))
        LearnedLogSNR(jnp.array(8.0))
        made = vp_score((2,), width=8, depth=1, scale=data.std(), log_snr=(jnp.array(5.0), -5), key=key)
        RealDenoiser(lambda z, c: z, NoiseEmbedding(), scale=data.std())
    assert sdes == (LinearLogSNR(8.0, -8.0), GeometricSigma(sigma_max=2.0))
    assert type(made.denoiser.scale) is float and made.denoiser.scale == float(data.std())
    assert made.recipe is not None and made.sde == LinearLogSNR(5.0, -5.0)


def test_booleans_are_integers_of_two_levels():
    model, x = vp_score((3,), levels=2, width=8, depth=1, key=jax.random.key(0)), np.array([[True, False, True]])
    bound = bound_of(model, jax.random.key(1), x, 4)
    np.testing.assert_allclose(bound, bound_of(model, jax.random.key(1), x.astype(int), 4), rtol=1e-6)
    assert "≤" in str(probgen.evaluation.evaluate(model, x, key=jax.random.key(1)))


def test_networks_see_images_as_they_are():
    seen = []
    network = lambda z, context: (seen.append(z.shape), jnp.zeros(z.shape))[1]
    model = ScoreModel(RealDenoiser(network, NoiseEmbedding()), LinearLogSNR(), (4, 4, 3), sampler=DDIM(2))
    assert sample_of(model, jax.random.key(0), (2,)).shape == (2, 4, 4, 3)
    assert set(seen) == {(4, 4, 3)}


def test_shapes_dtypes_and_support():
    model = vp_score((4, 4), levels=17, width=8, depth=1, steps=3, key=jax.random.key(0))
    x = sample_of(model, jax.random.key(1), (5, 2))
    assert x.shape == (5, 2, 4, 4) and x.dtype == jnp.int32
    assert model.support(x).all() and not model.support(x + 17).any()
    assert jax.eval_shape(lambda: model.log_prob_bound(jax.random.key(2), x, 3)).shape == (5, 2)
    assert jax.eval_shape(lambda: model.log_prob_bound(jax.random.key(2), x[0, 0])).shape == ()
    with pytest.raises(ValueError, match="event"):
        model.log_prob_bound(jax.random.key(2), jnp.zeros(4, int))


def test_models_made_under_vmap():
    make = lambda key: ScoreModel(GaussianDenoiser(jax.random.normal(key, (2,)), SCALE), LinearLogSNR(), (2,))
    keys = jax.random.split(jax.random.key(0), 3)
    many, last = jax.vmap(make)(keys), make(keys[2])
    assert many.batch_shape == (3,)
    assert jax.eval_shape(lambda: many.sample(jax.random.key(1), (4,))).shape == (4, 3, 2)
    x = jnp.zeros((5, 1, 2))
    bound = bound_of(many, jax.random.key(1), x, 4096)
    assert bound.shape == (5, 3)
    alone = bound_of(last, jax.random.key(2), x[:, 0], 4096)
    np.testing.assert_allclose(bound[:, 2].mean(), alone.mean(), atol=0.3)  # times and noise are others'
    assert abs(bound[:, 0].mean() - alone.mean()) > 1.0


def test_there_is_no_exact_density_and_there_are_no_weights():
    model = vp_score((3,), width=8, depth=1, key=jax.random.key(0))
    with pytest.raises(NotImplementedError, match="log_prob_bound"):
        model.log_prob(jnp.zeros(3))
    with pytest.raises(NotImplementedError, match="log_prob_bound"):
        model.log_weights(jax.random.key(0), jnp.zeros((2, 3)), 5)


@pytest.mark.parametrize("levels", [None, 5])
def test_conditional_form_passes_gradients_to_the_context(levels):
    conditional = vp_score((3,), levels=levels, width=8, depth=1, steps=4, context_dim=2, key=jax.random.key(0))
    noise = iter(list(jax.random.split(jax.random.key(1), 100)))
    perturb = lambda w: w + 0.3 * jax.random.normal(next(noise), w.shape)
    params, rest = probgen.partition(conditional)
    params = jax.jit(lambda params: {path: perturb(leaf) for path, leaf in params.items()})(params)
    conditional = probgen.combine(params, rest)
    context, x = jax.random.normal(jax.random.key(2), (4, 2)), jnp.ones((4, 3), int if levels else float)
    d = conditional(context)
    assert d.batch_shape == (4,)
    assert jax.eval_shape(lambda: d.sample(jax.random.key(3), (2,))).shape == (2, 4, 3)
    grad = jax.jit(jax.grad(lambda c: conditional(c).log_prob_bound(jax.random.key(4), x, 2).sum()))(context)
    assert jnp.isfinite(grad).all() and (grad != 0).all()
    with pytest.raises(ValueError, match="context"):
        conditional.model.log_prob_bound(jax.random.key(0), x)


def test_every_weight_learns_and_dropout_is_bound():
    model = vp_score((3,), levels=4, width=8, depth=2, dropout=0.5, key=jax.random.key(0))
    params, rest = probgen.partition(model)
    keys = jax.random.split(jax.random.key(3), len(params))
    keys = dict(zip(params, keys, strict=True))
    move = jax.jit(lambda p, keys: {path: p[path] + 0.3 * jax.random.normal(keys[path], p[path].shape) for path in p})
    params, x = move(params, keys), jax.random.randint(jax.random.key(1), (64, 3), 0, 4)

    @jax.jit
    def loss(params, key):
        model = probgen.with_key(probgen.combine(params, rest), key)
        return -model.log_prob_bound(jax.random.key(2), x).mean()

    grads = jax.jit(jax.grad(loss))(params, jax.random.key(4))
    assert all(jnp.isfinite(g).all() and (g != 0).any() for g in grads.values())
    assert loss(params, jax.random.key(4)) != loss(params, jax.random.key(5))


def test_finite_at_extremes():
    for levels, x in ((2, jnp.array([0, 1])), (None, jnp.array([-1e4, 1e4]))):
        model = vp_score((2,), levels=levels, width=8, depth=1, log_snr=(25.0, -25.0), key=jax.random.key(0))
        params, rest = probgen.partition(model)
        params = jax.tree.map(lambda p: p + 3.0, params)
        loss = lambda p, m=rest, x=x: probgen.combine(p, m).log_prob_bound(jax.random.key(0), x, 8)
        value, grads = jax.jit(jax.value_and_grad(loss))(params)
        assert jnp.isfinite(value)
        assert all(jnp.isfinite(g).all() for g in grads.values())


def test_any_network_of_vector_and_context_serves():
    embedding = NoiseEmbedding(9)
    net = probgen.networks.MLP(3, 3, hidden=(8,), context_dim=9, key=jax.random.key(0))
    model = ScoreModel(RealDenoiser(net, embedding), LinearLogSNR(), (3,), sampler=Heun(3))
    assert jnp.isfinite(sample_of(model, jax.random.key(1), (4,))).all()
    swapped = model.replace(sde=LinearBeta())  # the denoiser sees log-SNR, so schedules can be swapped
    assert jnp.isfinite(bound_of(swapped, jax.random.key(1), jnp.ones(3)))


def test_training_learns_a_dependence():
    """Two equal coins: from 2 log 2 (independent) towards log 2."""
    coin = jax.random.bernoulli(jax.random.key(0), 0.5, (512,)).astype(jnp.int32)
    x = jnp.stack([coin, coin], -1)
    model = vp_score((2,), levels=2, width=32, depth=1, key=jax.random.key(1))
    result = probgen.fit(
        model, x, steps=400, batch_size=256, optimizer=optax.adam(1e-2), key=jax.random.key(2), progress=False
    )
    nats = -bound_of(result.model, jax.random.key(3), x, 64).mean()
    assert np.log(2) - 0.05 < nats < np.log(2) + 0.1


def test_file_keeps_the_recipe(tmp_path):
    model = vp_score((2, 2), levels=3, width=8, depth=1, context_dim=2, key=jax.random.key(0))
    probgen.save(tmp_path / "m.safetensors", model)
    again = probgen.load(tmp_path / "m.safetensors")
    args = (jax.random.key(1), jnp.ones((2, 2), int))
    bound = jax.jit(lambda m: m(jnp.ones(2)).log_prob_bound(*args))
    assert bound(again) == bound(model)


@pytest.mark.parametrize("sde", [*SDES, LearnedLogSNR()], ids=str)
def test_times_outside_are_refused(sde):
    for ask in (sde.log_snr, sde.marginal, sde.drift, sde.diffusion, sde.scale):
        for t in (-0.1, 1.5, jnp.array([0.5, jnp.nan])):
            with pytest.raises(ValueError, match=r"t: expected times in \[0, 1\]"):
                ask(t)


@pytest.mark.parametrize(
    ("make", "x", "message"),
    [
        (
            lambda: vp_score((2,), levels=3, width=8, depth=1, key=jax.random.key(0)),
            jnp.ones(2),
            "value: the model is over integers",
        ),
        (lambda: RealDenoiser(lambda z, c: z[:1], NoiseEmbedding()), jnp.ones(2), "network: expected 2 numbers"),
        (lambda: LevelDenoiser(lambda z, c: z, NoiseEmbedding(), levels=3), jnp.ones(2), "network: expected 6 numbers"),
    ],
    ids=["floating-point data", "a network of reals", "a network of levels"],
)
def test_data_and_networks_that_do_not_fit(make, x, message):
    model = make()
    model = model if isinstance(model, ScoreModel) else ScoreModel(model, LinearLogSNR(), (2,))
    with pytest.raises(ValueError, match=message):
        model.log_prob_bound(jax.random.key(0), x)
