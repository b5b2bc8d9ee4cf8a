"""What score models are trained on, against closed forms of Gaussian data, finite differences and enumeration."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

import probgen
from probgen.inference.objectives import ELBO
from probgen.score import (
    DDIM,
    Ancestral,
    Bound,
    Data,
    DataWeight,
    Denoising,
    EDMWeight,
    FlowVelocity,
    GaussianDenoiser,
    GeometricSigma,
    Implicit,
    LearnedLogSNR,
    LikelihoodWeight,
    LinearLogSNR,
    Loss,
    MarkovChain,
    MinSNRWeight,
    Noise,
    NoiseWeight,
    OfNormal,
    OptimalTransport,
    Preconditioned,
    RealDenoiser,
    Score,
    ScoreModel,
    SelfConditioned,
    Straight,
    Velocity,
    VelocityWeight,
    coefficients,
    edm_loss,
    evaluate,
    flow_matching_loss,
    vp_score,
)

KEY = jax.random.key(0)
S = 0.5
EXACT = GaussianDenoiser(jnp.array(0.3), jnp.array(S))
X = 0.3 + S * jax.random.normal(jax.random.key(9), (400, 2))
loss_of = jax.jit(lambda model, key, x, n=1: model.training_loss(key, x, n), static_argnums=3)
bound_of = jax.jit(lambda model, key, x, n=1: model.log_prob_bound(key, x, n), static_argnums=3)


def model(sde=None, denoiser=EXACT, **options):
    return ScoreModel(denoiser, LinearLogSNR(6.0, -6.0) if sde is None else sde, (2,), **options)


def expected(loss, sde):
    """∫ p(λ) w(λ) · D s² σ² / (α² s² + σ²) dλ, by the midpoint rule over t."""
    t = (jnp.arange(20_000) + 0.5) / 20_000
    log_snr, density = jax.vmap(lambda t: loss.levels(sde, t))(t)
    alpha, sigma = coefficients(log_snr)
    missed = 2 * S**2 * sigma**2 / (alpha**2 * S**2 + sigma**2)
    return float(jnp.mean(loss.weight(log_snr, density) * missed))


@pytest.mark.parametrize("sde", [LinearLogSNR(6.0, -6.0), Straight(6.0, -6.0), GeometricSigma(0.05, 20.0)], ids=str)
@pytest.mark.parametrize(
    "loss",
    [
        Denoising(),
        Denoising(DataWeight()),
        Denoising(LikelihoodWeight()),
        Denoising(MinSNRWeight(2.0)),
        Denoising(EDMWeight(S), OfNormal(-1.0, 1.5)),
        edm_loss(S),
        flow_matching_loss(),
    ],
    ids=lambda loss: f"{type(loss.weight).__name__} {type(loss.levels).__name__}",
)
def test_the_loss_of_the_exact_denoiser(loss, sde):
    found = np.asarray(loss_of(model(sde, loss=loss), KEY, X, 64), float)
    assert found.mean() == pytest.approx(expected(loss, sde), abs=4 * found.std() / len(X) ** 0.5)


def test_the_network_of_edm_has_an_error_of_one_everywhere():
    """c_out F is off by the posterior's deviation, which is c_out: why EDM has that weight."""
    log_snr = jnp.linspace(-20.0, 20.0, 9)
    alpha, sigma = coefficients(log_snr)
    missed = S**2 * sigma**2 / (alpha**2 * S**2 + sigma**2)
    np.testing.assert_allclose(EDMWeight(S)(log_snr, None) * missed, 1.0, rtol=1e-5)


def test_velocity_weight_is_the_error_of_the_velocity():
    u = jnp.array([0.01, 0.4, 0.9])
    np.testing.assert_allclose(VelocityWeight()(2 * (jnp.log1p(-u) - jnp.log(u)), None), u**-2.0, rtol=1e-4)
    x, eps, x_hat = 0.7, -1.2, 0.1
    z = (1 - u) * x + u * eps
    np.testing.assert_allclose((x - x_hat) ** 2 / u**2, ((eps - x) - (z - x_hat) / u) ** 2, rtol=1e-3)


@pytest.mark.parametrize("wrong", [GaussianDenoiser(jnp.array(-0.4), jnp.array(0.9)), EXACT], ids=["wrong", "exact"])
@pytest.mark.parametrize("probes", [None, 2])
def test_implicit_score_matching_is_denoising_up_to_a_constant(wrong, probes):
    """E ‖ε − ε̂‖² − D, for any denoiser; the sum over dimensions D of the noise's own variance is the constant."""
    implicit = np.asarray(loss_of(model(denoiser=wrong, loss=Implicit(probes)), KEY, X, 128), float)
    denoising = np.asarray(loss_of(model(denoiser=wrong, loss=Denoising()), KEY, X, 128), float)
    error = 4 * np.hypot(implicit.std(), denoising.std()) / len(X) ** 0.5
    assert implicit.mean() == pytest.approx(denoising.mean() - 2.0, abs=error)


def test_likelihood_weighting_is_the_diffusion_term_of_the_bound_under_any_schedule():
    with jax.enable_x64():
        exact = GaussianDenoiser(jnp.array(0.3), jnp.array(S))
        x = 0.3 + S * jax.random.normal(KEY, (64, 2))
        terms = evaluate(model(Straight(6.0, -6.0), exact), x, key=KEY, num_particles=512)
        other = Denoising(LikelihoodWeight())
        found = np.asarray(loss_of(model(LinearLogSNR(6.0, -6.0), exact, loss=other), KEY, x, 512))
    assert found.mean() == pytest.approx(terms.diffusion, rel=0.02)
    assert terms.bound == pytest.approx(terms.reconstruction - terms.mismatch - terms.diffusion)
    assert np.nansum(terms.loss * np.diff(terms.log_snr)) == pytest.approx(terms.diffusion)


def test_the_report_says_where_the_loss_lies():
    """½ e^λ E‖v − x̂‖² at each λ, in closed form."""
    report = evaluate(model(), X, key=KEY, num_particles=256, bins=6)
    log_snr = jnp.linspace(report.log_snr[:-1], report.log_snr[1:], 101)
    alpha, sigma = coefficients(log_snr)
    want = jnp.mean(0.5 * jnp.exp(log_snr) * 2 * S**2 * sigma**2 / (alpha**2 * S**2 + sigma**2), 0)
    np.testing.assert_allclose(report.loss, want, rtol=0.05)
    assert "log p ≥" in str(report) and report.variance > 0
    assert report.bound == pytest.approx(float(dist.Normal(0.3, S).log_prob(X).sum(-1).mean()), abs=0.3)


def test_a_linear_schedule_leaves_the_bound_and_lowers_its_noise():
    straight = model(Straight(12.0, -12.0))
    of = lambda model: evaluate(model, X, key=KEY, num_particles=128)
    noisy, quiet = of(straight), of(straight.replace(sde=LinearLogSNR(12.0, -12.0)))
    assert quiet.variance < 0.2 * noisy.variance
    assert abs(noisy.bound - quiet.bound) < 4.5 * np.sqrt(noisy.variance / 128 / len(X))


def test_the_report_of_a_conditional_model():
    conditional = vp_score((2,), width=8, depth=1, context_dim=3, key=KEY)
    report = evaluate(conditional(jnp.eye(3)), X[:3], key=KEY, num_particles=4, bins=2)
    assert np.isfinite(report.bound) and report.loss.shape == (2,)
    one = evaluate(conditional(jnp.eye(3)[:1]), X[:1], key=KEY, num_particles=4, bins=2)
    assert np.isnan(one.standard_error) and "nan" not in str(one) and "±" not in str(one)


def _closed_bound(steps):
    """The bound of Gaussian data under the exact denoiser and so many steps."""
    log_snr = LinearLogSNR(6.0, -6.0).log_snr(jnp.linspace(0.0, 1.0, steps + 1))
    alpha, sigma = coefficients(log_snr)
    missed = S**2 * sigma**2 / (alpha**2 * S**2 + sigma**2)
    diffusion = jnp.sum(0.5 * (jnp.exp(log_snr[:-1]) - jnp.exp(log_snr[1:])) * 2 * missed[1:])
    scale = jnp.exp(-0.5 * log_snr[0])  # of the decoder about x̂
    reconstruction = -2 * (jnp.log(scale) + 0.5 * np.log(2 * np.pi) + 0.5 * missed[0] / scale**2)
    second = (S**2 + 0.3**2) * jax.nn.sigmoid(log_snr[-1])
    mismatch = 0.5 * 2 * (second - jax.nn.sigmoid(log_snr[-1]) + jax.nn.softplus(log_snr[-1]))
    return float(reconstruction - mismatch - diffusion)


def test_the_bound_of_steps_is_that_of_the_programs():
    """The same weights as a latent-variable model: numpyro's ELBO, ours, and the closed form."""
    stepwise = model(sampler=Ancestral(8), stepwise=True)
    found = np.asarray(bound_of(stepwise, KEY, X, 64), float)
    want = _closed_bound(8)
    # the data of the test are a sample, of which 400 rows have this much error
    assert found.mean() == pytest.approx(want, abs=5 * found.std() / len(X) ** 0.5)
    chain = MarkovChain(stepwise)
    for objective in (numpyro.infer.TraceMeanField_ELBO(num_particles=16), ELBO(num_particles=16)):
        loss = jax.jit(lambda o=objective: o.loss(KEY, {}, chain.program, chain.guide, X))() / len(X)
        assert -loss == pytest.approx(found.mean(), abs=0.35)


def test_the_bound_of_steps_tightens_to_the_limit():
    exact = -2 * (np.log(S) + 0.5 * np.log(2 * np.pi) + 0.5)
    bounds = [_closed_bound(steps) for steps in (8, 64, 512, 4096)]
    assert bounds == sorted(bounds) and bounds[-1] <= exact + 1e-3 and exact - bounds[-1] < 0.05
    found = np.asarray(bound_of(model(), KEY, X, 512), float)
    assert found.mean() == pytest.approx(bounds[-1], abs=5 * found.std() / len(X) ** 0.5)


def test_draws_of_the_program_are_the_samplers():
    chain = MarkovChain(model(sampler=Ancestral(4), stepwise=True))
    seeded = numpyro.handlers.seed(chain.program, KEY)
    trace = numpyro.handlers.trace(numpyro.handlers.block(seeded, hide=["x"])).get_trace(jnp.zeros((4000, 2)))
    want = jax.jit(lambda model: model.sample(jax.random.key(3), (4000,)))(chain.model)
    np.testing.assert_allclose(trace["z0"]["value"].std(), want.std(), rtol=0.05)


# -- a schedule that learns


def _schedule(raw=None):
    sde = LearnedLogSNR(6.0, -6.0, units=3)
    if raw is None:
        return sde
    return jax.tree.map(lambda leaf, move: leaf + move, sde, raw)


MOVE = jax.tree.map(lambda leaf: 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), _schedule())


def test_a_learned_schedule_falls_from_end_to_end():
    moved = _schedule(MOVE)
    t = jnp.linspace(0.0, 1.0, 33)
    values = moved.log_snr(t)
    assert (jnp.diff(values) < 0).all()
    np.testing.assert_allclose(values[-1], moved.smallest, atol=1e-5)
    np.testing.assert_allclose(values[0] - values[-1], jnp.exp(moved.log_fall), rtol=1e-5)
    np.testing.assert_allclose(moved.time(values), t, atol=1e-4)
    within = jnp.linspace(1e-3, 1.0 - 1e-3, 33)
    rate = (moved.log_snr(jnp.minimum(within + 1e-3, 1.0)) - moved.log_snr(jnp.maximum(within - 1e-3, 0.0))) / 2e-3
    np.testing.assert_allclose(jax.jit(jax.vmap(moved.log_snr_rate))(within), rate, rtol=2e-2, atol=5e-2)


def test_ends_learn_by_the_bound_and_the_interior_by_its_variance():
    """Finite differences of the bound, and of ½ d²/D, at the same noise."""
    with jax.enable_x64():
        cast = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, float), tree)
        sde, exact = cast(_schedule(MOVE)), cast(EXACT)
        args = KEY, jnp.array([0.3, -0.7]), jnp.array(0.4), jnp.array([0.1, 0.9])
        of = lambda sde: ScoreModel(exact, sde, (2,))
        found = jax.jit(jax.grad(lambda sde: of(sde).loss.event(of(sde), *args)))(sde)
        bound = jax.jit(lambda sde: -of(sde).bound_event(*args))
        spread = jax.jit(lambda sde: 0.5 * of(sde).bound_terms(*args).diffusion ** 2 / 2)
        for name in ("smallest", "log_fall", "log_weights", "log_slopes", "centres"):
            value = bound if name in ("smallest", "log_fall") else spread
            leaf = getattr(sde, name)
            for i in np.ndindex(leaf.shape):
                at = lambda h, i=i, name=name, leaf=leaf: _with(sde, name, leaf.at[i].add(h))
                want = (value(at(1e-5)) - value(at(-1e-5))) / 2e-5
                np.testing.assert_allclose(getattr(found, name)[i], want, rtol=1e-5, atol=1e-7)


def _with(sde, name, value):
    return eqx.tree_at(lambda s: getattr(s, name), sde, value)


def test_training_the_schedule_lessens_the_variance_and_keeps_the_bound():
    before = model(LearnedLogSNR(6.0, -6.0, units=4))
    interior = lambda path, leaf: "sde" in path and not any(end in path for end in ("smallest", "log_fall"))
    result = probgen.fit(before, X, steps=300, batch_size=64, key=KEY, optimizer=optax.adam(3e-2), learnable=interior,
                         progress=False)  # fmt: skip
    was, now = (evaluate(m, X, key=KEY, num_particles=128) for m in (before, result.model))
    assert now.variance < 0.8 * was.variance
    assert now.bound == pytest.approx(was.bound, abs=0.1)


# -- couplings


def test_optimal_transport_is_the_best_of_all_permutations():
    noise, v = (jax.random.normal(jax.random.key(i), (5, 2)) for i in (1, 2))
    found = jax.jit(lambda noise, v: OptimalTransport()(noise, v, 1))(noise, v)
    costs = {order: float(jnp.sum((v - noise[jnp.array(order)]) ** 2)) for order in itertools.permutations(range(5))}
    np.testing.assert_array_equal(found, noise[jnp.array(min(costs, key=costs.get))])


def test_optimal_transport_has_shorter_paths_and_no_scores():
    loss = flow_matching_loss(OptimalTransport())
    assert not loss.scores and flow_matching_loss().scores
    independent, coupled = (
        float(jnp.mean(loss_of(model(Straight(6.0, -6.0), loss=one), KEY, X))) for one in (flow_matching_loss(), loss)
    )
    assert coupled < independent
    by_ode = model(LinearLogSNR(12.0, -12.0), loss=loss).exact_by()
    with jax.enable_x64():
        z = jnp.array([0.1, 0.4])
        found = jax.jit(jax.grad(by_ode.log_prob))(z)
        np.testing.assert_allclose(found, -(z - 0.3) / S**2, rtol=2e-2)  # through the solver


def test_conditional_rows_cannot_be_coupled():
    conditional = vp_score((2,), width=8, depth=1, context_dim=1, key=KEY)(jnp.zeros((4, 1)))
    coupled = conditional.replace(loss=flow_matching_loss(OptimalTransport()))
    with pytest.raises(ValueError, match="coupling: expected a batch of rows"):
        coupled.training_loss(KEY, X[:4])


# -- times


class Times(Loss):
    def event(self, model, key, noise, t, x):
        return t


@pytest.mark.parametrize("conditional", [False, True])
def test_times_are_spread_evenly_over_rows(conditional):
    one = vp_score((2,), width=8, depth=1, context_dim=1 if conditional else None, key=KEY)
    one = one(jnp.zeros((50, 1))) if conditional else one
    t = np.sort(one.replace(loss=Times()).training_loss(KEY, X[:50]))
    assert np.diff(np.append(t, t[0] + 1.0)).max() < 3 / 50  # of 50 that are independent, some gap is 5 times as long


def test_times_are_spread_over_particles_too():
    t = model(loss=Times()).training_loss(KEY, X[:10], 8)
    np.testing.assert_allclose(t, 0.5, atol=0.07)


def test_a_history_says_that_its_losses_are_no_bound():
    small = vp_score((2,), width=8, depth=1, key=KEY)
    for loss, kind in [(Bound(), "≤"), (Denoising(), "a loss")]:
        result = probgen.fit(small.replace(loss=loss), X[:8], steps=1, key=KEY, progress=False)
        assert result.history.attrs["kind"] == kind


# -- targets


TARGETS = [Data(), Noise(), Score(), Velocity(), FlowVelocity(), Preconditioned(0.5)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
@pytest.mark.parametrize("log_snr", [-15.0, 0.0, 15.0])
def test_targets_are_views_of_data_and_noise(target, log_snr):
    """Data and noise by each target in float32, against float64's; and its own definition."""
    x, eps = (jax.random.normal(jax.random.key(i), (50,)) for i in (1, 2))
    alpha, sigma = coefficients(log_snr)
    z = alpha * x + sigma * eps
    out = target.of(x, eps, jnp.array(log_snr))
    with jax.enable_x64():
        a, s = coefficients(jnp.asarray(log_snr, float))
        x64, eps64 = (np.asarray(v, float) for v in (x, eps))
        want = {
            "Data": x64,
            "Noise": eps64,
            "Score": -eps64 / s,
            "Velocity": a * eps64 - s * x64,
            "FlowVelocity": eps64 - x64,
            "Preconditioned": (s / 0.5 * x64 - a * 0.5 * eps64) / np.sqrt(0.25 * a**2 + s**2),
        }[type(target).__name__]
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)
    of_data = 2e-6 * (1.0 + float(jnp.exp(-log_snr / 2)) * isinstance(target, Noise | Score))
    of_noise = 2e-6 * (1.0 + float(jnp.exp(log_snr / 2)) * isinstance(target, Data))
    np.testing.assert_allclose(target.data(out, z, jnp.array(log_snr)), x, atol=of_data)
    np.testing.assert_allclose(target.noise(out, z, jnp.array(log_snr)), eps, atol=of_noise)


STABLE = [Velocity(), FlowVelocity(), Preconditioned(0.5)]


@pytest.mark.parametrize("one", STABLE, ids=lambda target: type(target).__name__)
@pytest.mark.parametrize("two", TARGETS[2:], ids=lambda target: type(target).__name__)
@pytest.mark.parametrize("log_snr", [-15.0, 0.0, 15.0])
def test_conversions_round_trip_in_float32(one, two, log_snr):
    """With x̂ and ε̂ both kept, what is said in one way and then in another is the same again."""
    log_snr = jnp.array(log_snr)
    z, out = (jax.random.normal(jax.random.key(i), (50,)) for i in (1, 2))
    data, noise = one.data(out, z, log_snr), one.noise(out, z, log_snr)
    there = two.of(data, noise, log_snr)
    back_noise = two.noise(there, z, log_snr)
    back_data = data if isinstance(two, Score) else two.data(there, z, log_snr)
    np.testing.assert_allclose(one.of(back_data, back_noise, log_snr), out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: type(target).__name__)
def test_a_denoiser_of_each_target_is_the_same(target):
    """A network that says what the exact denoiser knows, each in its way."""
    log_snr = jnp.array(1.5)

    def network(event, features):
        z = event * Preconditioned(S).root(features[0])
        exact = GaussianDenoiser(jnp.array(0.0), jnp.array(S))
        return target.of(exact(z, features[0]), exact.noise(z, features[0]), features[0])

    denoiser = RealDenoiser(network, lambda log_snr: log_snr[None], scale=S, target=target)
    z = jnp.array([0.3, -2.0])
    exact = GaussianDenoiser(jnp.array(0.0), jnp.array(S))
    np.testing.assert_allclose(denoiser(z, log_snr), exact(z, log_snr), rtol=1e-5)
    np.testing.assert_allclose(denoiser.noise(z, log_snr), exact.noise(z, log_snr), rtol=1e-4)


def test_a_self_conditioned_denoiser_sees_its_own_guess():
    network = lambda event, context: event[:2] * 0.5 + event[2:] * context[0]
    inner = RealDenoiser(network, lambda log_snr: log_snr[None], target=Data())
    denoiser = SelfConditioned(inner)
    z, log_snr = jnp.array([1.0, -2.0]), jnp.array(0.7)
    found, jacobian = jax.jit(lambda z: (denoiser(z, log_snr), jax.jacobian(denoiser)(z, log_snr)))(z)
    np.testing.assert_allclose(found, 0.5 * z + 0.7 * (0.5 * z), rtol=1e-6)
    np.testing.assert_allclose(jacobian, 0.5 * jnp.eye(2), atol=1e-6)  # the guess is held
    rows = jnp.tile(z, (400, 1))
    in_training = probgen.core.with_key(denoiser, KEY)
    guessed = jax.jit(probgen.core.vectorize(lambda z: in_training(z, log_snr), 1))(rows)[:, 0] > 0.6
    assert 150 < guessed.sum() < 250


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MinSNRWeight(0.0), "gamma"),
        (lambda: EDMWeight(-1.0), "scale"),
        (lambda: OfNormal(0.0, 0.0), "std"),
        (lambda: OfNormal(float("nan")), "mean"),
        (lambda: Implicit(0), "probes"),
        (lambda: LearnedLogSNR(1.0, 2.0), "largest, smallest"),
        (lambda: LearnedLogSNR(units=0), "units"),
        (lambda: RealDenoiser(lambda z, c: z, lambda c: c, target="noise"), "target: expected a score.targets.Target"),
        (lambda: SelfConditioned(EXACT), "denoiser: expected a score.NetworkDenoiser"),
        (lambda: model(loss=NoiseWeight()), "loss: expected a score.Loss"),
        (lambda: model(sampler=DDIM(3), stepwise=True), "stepwise: expected the sampler to be Ancestral"),
        (lambda: model(sampler=Ancestral(3), stepwise=True).replace(sampler=DDIM(3)), "stepwise: expected the sampler"),
        (lambda: MarkovChain(model()), "model: expected a ScoreModel with stepwise=True"),
        (lambda: evaluate(model(), X, key=KEY, num_particles=1), "num_particles"),
        (lambda: evaluate(model(), X.at[3].set(jnp.nan), key=KEY), "x: expected finite numbers, got nan in row 3"),
        (lambda: evaluate(model(), X[0], key=KEY), r"x: expected rows of shape \(2,\), got \(\)"),
        (lambda: evaluate(model(), X[:0], key=KEY), "x: expected at least one row"),
        (lambda: evaluate(model().exact_by(), X, key=KEY), "model: expected a ScoreModel, or a conditional one"),
        (lambda: evaluate(vp_score((2,), context_dim=2, key=KEY), X, key=KEY), "got a ConditionalModel"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
