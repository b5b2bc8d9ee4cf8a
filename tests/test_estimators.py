"""Laws of gradient estimators: the mean is the exact gradient, the variance is the closed form, and a bias is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from jax import lax
from numpyro.infer import SVI

import probgen
from probgen.inference import estimators, expectation, explain, objectives
from probgen.inference.engine.provenance import mark, provenance
from probgen.inference.laboratory import bernoulli_toy, bits, gradient_report, shared_trajectory
from tests.registry import ESTIMATORS, FAMILIES

N = 20_000
LIMIT = 4.6  # two-sided, 250 components of all tests together at one in a thousand


def gradients(family, estimator, samples=3, count=N, key=0):
    """[count, len(θ)]"""
    loss = lambda theta, k: expectation(k, family.make(theta), family.f, estimator, num_samples=samples)
    keys = jax.random.split(jax.random.key(key), count)
    return np.asarray(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(family.theta, keys), float)


def serves(estimator, family):
    return estimator is None or estimator.problem(family.make(family.theta)) is None


PAIRS = [(e, f) for e in ESTIMATORS for f in FAMILIES if serves(ESTIMATORS[e], f)]


@pytest.mark.parametrize(("name", "family"), [p for p in PAIRS if getattr(ESTIMATORS[p[0]], "unbiased", True)],
                         ids=lambda x: getattr(x, "name", x))  # fmt: skip
def test_the_mean_is_the_exact_gradient(name, family):
    found = gradients(family, ESTIMATORS[name])
    exact = np.asarray(jax.grad(family.exact)(family.theta), float)
    error = found.std(0) / np.sqrt(N) + 3e-6 * (1 + np.abs(exact))
    assert np.max(np.abs(found.mean(0) - exact) / error) < LIMIT, (found.mean(0), exact, error)


def test_which_estimator_serves_what():
    """The table of who serves whom is what the classes say; nothing is left out by mistake."""
    served = {e: {f.name for f in FAMILIES if serves(ESTIMATORS[e], f)} for e in ESTIMATORS}
    everything = {f.name for f in FAMILIES}
    assert (
        served["score"] == served["leave-one-out"] == served["optimal coefficient"] == served["default"] == everything
    )
    assert served["enumerate"] == {"bernoulli", "bits", "categorical"}
    assert served["pathwise"] == {"normal", "gamma", "truncated normal"}
    mixtures = {"mixture", "mixture of vectors", "mixture of families"}
    assert served["implicit"] == {"normal", "gamma", "truncated normal", "von mises"} | mixtures
    assert served["straight-through"] == served["disarm"] == {"bernoulli", "bits"}


def test_straight_through_shows_its_bias_and_the_sign_of_it():
    family = next(f for f in FAMILIES if f.name == "bernoulli")
    found = gradients(family, estimators.StraightThrough(), samples=1)[:, 0]
    p = jax.nn.sigmoid(family.theta[0])
    bias = (2 * p - 1) * p * (1 - p)  # of 2(b − t) ∂p, against (1 − 2t) ∂p
    exact = jax.grad(family.exact)(family.theta)[0]
    error = found.std() / np.sqrt(N)
    assert abs(found.mean() - exact - bias) < 4 * error
    assert bias > 0 and found.mean() - exact > 10 * error
    assert not estimators.StraightThrough.unbiased


def variance_and_error(values):
    deviations = (values - values.mean(0)) ** 2
    return deviations.mean(0), deviations.std(0) / np.sqrt(len(values))


@pytest.mark.parametrize("k", [-3.0, 0.0, 2.0, 3.0])
@pytest.mark.parametrize("s", [0.7, 1.0])
def test_variances_on_the_gaussian_square_are_the_closed_forms(k, s):
    """x ~ Normal(μ, s²), f = (x − k)², a = μ − k (Mohamed et al. 2020)."""
    a = 1.0 - k

    def found(estimator):
        loss = lambda theta, key: expectation(key, dist.Normal(theta[0], theta[1]), lambda x: (x - k) ** 2, estimator)
        keys = jax.random.split(jax.random.key(3), 100_000)
        values = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(jnp.array([1.0, s]), keys)
        return variance_and_error(np.asarray(values, float))

    baseline = lambda value: estimators.ScoreFunction(estimators.Constant(value))
    closed = [
        (estimators.ScoreFunction(), 0, a**4 / s**2 + 14 * a**2 + 15 * s**2),
        (estimators.ScoreFunction(), 1, 2 * a**4 / s**2 + 60 * a**2 + 74 * s**2),
        (baseline(a**2 + 3 * s**2), 0, 8 * a**2 + 6 * s**2),
        (baseline(a**2 + 5 * s**2), 1, 40 * a**2 + 24 * s**2),
        (estimators.Pathwise(), 0, 4 * s**2),
        (estimators.Pathwise(), 1, 4 * a**2 + 8 * s**2),
    ]
    for estimator, component, want in closed:
        variance, error = found(estimator)
        assert abs(variance[component] - want) < 3 * error[component], (estimator, component, variance, want)


@pytest.mark.parametrize(("t", "p"), [(0.45, 0.5), (0.499, 0.5), (0.45, 0.7), (0.2, 0.3)])
def test_variances_on_the_bernoulli_toy_are_the_closed_forms(t, p):
    logit = jnp.log(p / (1 - p))
    f1, f0, d = (1 - t) ** 2, t**2, 1 - 2 * t

    def found(estimator, samples):
        loss = lambda x, k: expectation(
            k, dist.Bernoulli(logits=x), lambda b: (b - t) ** 2, estimator, num_samples=samples
        )
        values = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(logit, jax.random.split(jax.random.key(4), 100_000))
        return variance_and_error(np.asarray(values, float))

    score, error = found(estimators.ScoreFunction(), 1)
    assert abs(score - p * (1 - p) * ((1 - p) * f1 + p * f0) ** 2) < 3 * error + 1e-9
    optimal, _ = found(estimators.ScoreFunction(estimators.Constant((1 - p) * f1 + p * f0)), 1)
    assert optimal < 1e-9
    for other in (estimators.LeaveOneOut(), estimators.ScoreFunction(estimators.OptimalCoefficient())):
        two, error = found(other, 2)
        assert abs(two - p * (1 - p) * d**2 * (0.5 - p * (1 - p))) < 3 * error + 1e-12
    assert found(estimators.Enumerate(), 1)[0] < 1e-12


@pytest.mark.parametrize("logit", [0.0, -1.3, 2.0])
def test_the_variance_of_disarm_is_the_closed_form(logit):
    """For one bit: ½ (f₁ − f₀) σ(|α|), where the twins differ, which has probability 2 σ(−|α|)."""
    loss = lambda x, key: expectation(
        key, dist.Bernoulli(logits=x), lambda b: (b - 0.2) ** 2, estimators.DisARM(), num_samples=1
    )
    keys = jax.random.split(jax.random.key(4), 100_000)
    variance, error = variance_and_error(np.asarray(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(logit, keys), float))
    cost, p = (1 - 0.2) ** 2 - 0.2**2, 1 / (1 + np.exp(-abs(logit)))
    assert abs(variance - (0.5 * cost * p) ** 2 * 2 * (1 - p) + (cost * p * (1 - p)) ** 2) < 4 * error + 1e-6


def test_coupled_draws_in_a_program():
    """Bits in a plate, then one that depends on them all: the mean is the score function's; coupled sites multiply."""
    x, logits = jnp.array([0.3, 1.2]), jnp.array([0.4, -1.0, 0.6])

    def model():
        with numpyro.plate("rows", 2):
            b = numpyro.sample("b", dist.Bernoulli(0.3))
        c = numpyro.sample("c", dist.Bernoulli(logits=b.sum() - 1.0))
        with numpyro.plate("rows", 2):
            numpyro.sample("x", dist.Normal(b + 0.5 * c, 0.7), obs=x)

    def guide(estimator):
        theta = numpyro.param("theta", logits)
        with numpyro.plate("rows", 2):
            b = numpyro.sample("b", dist.Bernoulli(logits=theta[:2]), infer={"estimator": estimator})
        numpyro.sample("c", dist.Bernoulli(logits=theta[2] + b.sum()), infer={"estimator": estimator})

    def found(estimator, particles, count):
        loss = lambda theta, key: objectives.ELBO(particles, analytic_kl=False).loss(
            key, {"theta": theta}, model, lambda: guide(estimator)
        )
        return np.asarray(
            jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(logits, jax.random.split(jax.random.key(0), count)), float
        )

    twins, four = found(estimators.DisARM(), 1, 40_000), found(estimators.LeaveOneOut(), 4, 40_000)
    error = np.sqrt((twins.var(0) + four.var(0)) / 40_000)
    np.testing.assert_array_less(abs(twins.mean(0) - four.mean(0)), 4.5 * error)
    explained = explain(model, lambda: guide(estimators.DisARM()))
    assert explained.evaluations == 4 and not explained.mixed_plates
    with pytest.raises(ValueError, match="wrong under importance weights"):
        objectives.ImportanceWeighted(2).loss(
            jax.random.key(0), {"theta": logits}, model, lambda: guide(estimators.DisARM())
        )


def test_the_optimal_coefficient_comes_near_the_optimal_baseline():
    """With many particles, for the mean of a normal: 8a² + 6s² and a little, where the bare score has 87."""
    particles = 400
    found = {}
    for estimator in (estimators.ScoreFunction(estimators.OptimalCoefficient()), estimators.LeaveOneOut()):
        loss = lambda mean, key: expectation(
            key,
            dist.Normal(mean, 1.0),
            lambda x: (x - 3.0) ** 2,
            estimator,  # noqa: B023
            num_samples=particles,
        )
        values = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(1.0, jax.random.split(jax.random.key(5), 10_000))
        variance, error = variance_and_error(np.asarray(values, float))
        found[str(estimator)] = particles * variance, particles * error
    optimal, error = found["ScoreFunction(baseline=OptimalCoefficient())"]
    others, _ = found["LeaveOneOut()"]
    assert 38 - 3 * error < optimal < 48 and abs(others - 42) < 3 * error


def test_gradients_reach_the_integrand_too():
    loss = lambda t, key: expectation(
        key, dist.Bernoulli(0.3), lambda b: t * b + t**2, estimators.LeaveOneOut(), num_samples=100
    )
    found = jax.vmap(jax.grad(loss), (None, 0))(2.0, jax.random.split(jax.random.key(0), 2000))
    assert abs(found.mean() - 4.3) < 4 * found.std() / np.sqrt(2000)


def test_the_elements_of_a_batch_meet_their_own_costs():
    logits = jnp.linspace(-2.0, 2.0, 10)
    whole = lambda x, k: expectation(k, dist.Bernoulli(logits=x), lambda b: jnp.sum((b - 0.2) ** 2), SCORE)
    apart = lambda x, k: expectation(k, dist.Bernoulli(logits=x), lambda b: (b - 0.2) ** 2, SCORE)
    keys = jax.random.split(jax.random.key(0), N)
    exact = jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits) * (0.8**2 - 0.2**2)
    variances = []
    for loss in (whole, apart):
        found = np.asarray(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(logits, keys), float)
        assert np.max(np.abs(found.mean(0) - exact) / (found.std(0) / np.sqrt(N))) < LIMIT
        variances.append(found.var(0).sum())
    assert variances[1] < 0.2 * variances[0]
    # one draw at a time of ten bits, together: the exact sum takes all of them
    exact_sum = lambda x: expectation(
        jax.random.key(0), dist.Bernoulli(logits=x), lambda b: jnp.sum((b - 0.2) ** 2), estimators.Enumerate()
    )
    np.testing.assert_allclose(jax.grad(exact_sum)(logits), exact, atol=1e-5)


SCORE = estimators.ScoreFunction()


@pytest.mark.parametrize("kappa", [1e-3, 0.3, 2.0, 30.0, 1e4])
def test_the_von_mises_distribution_function(kappa):
    """By the derivative: ∂F/∂z = q(z), everywhere on the circle, and ∂F/∂κ against differences of sums."""
    from probgen.inference.estimators.implicit import von_mises_cdf

    loc = 2.9
    width = min(np.pi, 4 / np.sqrt(kappa))
    z = np.float32(loc + np.linspace(-width, width, 9)[1:-1])
    z = jnp.asarray((z + np.pi) % (2 * np.pi) - np.pi)
    slope = jax.vmap(jax.grad(von_mises_cdf), (0, None, None))(z, loc, kappa)
    np.testing.assert_allclose(slope, jnp.exp(dist.VonMises(loc, kappa).log_prob(z)), rtol=2e-3)
    fine = np.linspace(0, 1, 20_001)[None] * ((np.asarray(z, float) - loc + np.pi) % (2 * np.pi) - np.pi)[:, None]
    from scipy.special import i0e

    total = lambda k: np.trapezoid(np.exp(k * (np.cos(fine) - 1)) / (2 * np.pi * i0e(k)), fine, axis=1)
    step = 1e-3 * kappa
    want = (total(kappa + step) - total(kappa - step)) / (2 * step)
    got = jax.vmap(jax.grad(von_mises_cdf, 2), (0, None, None))(z, loc, kappa)
    np.testing.assert_allclose(got, want, atol=2e-3 * np.abs(want).max())


def test_extremes_stay_finite():
    """No NaN and no infinite gradient at extreme but legal parameters."""
    cases = [
        (lambda t: dist.VonMises(t, jnp.exp(20 * t)), estimators.Implicit()),
        (lambda t: dist.VonMises(t, jnp.exp(-20 * t)), estimators.Implicit()),
        (lambda t: dist.Bernoulli(logits=80 * t), estimators.LeaveOneOut()),
        (lambda t: dist.Bernoulli(logits=-80 * t), estimators.Enumerate()),
        (lambda t: dist.Categorical(logits=jnp.array([0.0, 90.0]) * t), estimators.Enumerate()),
        (lambda t: _mix(jnp.array([0.0, 80.0]) * t), estimators.Implicit()),
    ]
    for make, estimator in cases:
        loss = lambda t, k: expectation(k, make(t), lambda z: 1.0 * z, estimator, num_samples=2)  # noqa: B023
        found = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(1.0, jax.random.split(jax.random.key(0), 200))
        assert np.all(np.isfinite(found)), (estimator, found)


def _mix(logits):
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(jnp.array([-5.0, 5.0]), 0.1))


def test_the_default_is_right_on_a_mixture_whose_components_stand_apart():
    """E[z] = tanh(logit / 2) for normals at ±1 of scale 0.1: between them, 1/q is beyond all draws."""
    make = lambda x: dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.stack([0.0 * x, x])), dist.Normal(jnp.array([-1.0, 1.0]), 0.1)
    )
    keys = jax.random.split(jax.random.key(0), N)

    def error(estimator):
        loss = lambda x, k: expectation(k, make(x), lambda z: z, estimator)
        found = np.asarray(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(0.3, keys), float)
        return abs(found.mean() - 0.5 / np.cosh(0.15) ** 2), found.std() / np.sqrt(N)

    distance, spread = error(None)
    assert distance < 4 * spread < 0.05
    distance, spread = error(estimators.Implicit())
    assert distance > 4 * spread  # and its own spread does not show it


# -- numpyro's densities


@pytest.mark.parametrize("value", [0, 1])
def test_the_score_is_right_at_zero_logits(value):
    """numpyro 0.22 has 0 and 1 there, for −½ and ½; a plain initialization sits on it."""
    for make in (
        lambda x: dist.Bernoulli(logits=x),
        lambda x: dist.Binomial(1, logits=x),
        lambda x: dist.Bernoulli(logits=x[None]).to_event(1).mask(True),
        lambda x: dist.Bernoulli(logits=x).expand((1,)),
    ):
        from probgen.distributions import differentiable

        log_prob = lambda x: jnp.sum(differentiable(make(x)).log_prob(jnp.full(make(x).shape(), value)))  # noqa: B023
        assert jax.grad(log_prob)(jnp.array(0.0)) == pytest.approx(value - 0.5)
        assert log_prob(jnp.array(0.0)) == pytest.approx(np.log(0.5))


# -- provenance


def test_provenance_through_control_flow():
    def f(x, y):
        a, b = mark("a", x), mark("b", y)
        carried, stacked = lax.scan(lambda c, t: ((c[1], c[0] * t), c[0]), (a, 1.0), jnp.ones(3))
        chosen = lax.cond(y > 0, lambda a, b: (a, 1.0), lambda a, b: (a + 1, 2.0), a, b)
        return jax.jit(lambda u, v: (u, v))(a, b), carried, stacked, jax.nn.softplus(b), chosen, lax.stop_gradient(a), x

    jaxpr, shape = jax.make_jaxpr(f, return_shape=True)(1.0, 2.0)
    found = jax.tree.unflatten(jax.tree.structure(shape), provenance(jaxpr))
    a, b = frozenset("a"), frozenset("b")
    assert found[0] == (a, b)
    assert found[1] == (a, a)  # the second carry is reached only after a second turn
    assert found[2] == a and found[3] == b
    assert found[4] == (a, frozenset())  # the condition is the unmarked y
    assert found[5] == a and found[6] == frozenset()


# -- baselines with a state, or that learn


def test_a_moving_average_lowers_the_variance_and_keeps_the_mean():
    problem = bits(10)
    points = shared_trajectory(
        jax.random.key(0), problem.model, problem.guide, optimizer=optax.sgd(0.0), steps=60, every=60,
        estimators=problem.contenders,
    )  # fmt: skip
    report = gradient_report(
        jax.random.key(1), points, problem.model, problem.guide, estimators=problem.contenders,
        num_replicates=4000, reference=problem.loss,
    )  # fmt: skip
    assert report.bias_z.max() < report.bias_limit
    at = report.isel(step=-1).variance_total.sum("group")
    assert at.sel(estimator="moving average") < 0.3 * at.sel(estimator="score")


def test_a_learned_baseline_learns_the_cost_of_its_input():
    """x has a scale of its own in every row, so that one number for all rows serves badly."""
    x = jnp.concatenate([jnp.full(8, 0.5), jnp.full(8, 6.0)])[:, None]

    def model(x):
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Bernoulli(0.5))
            numpyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(x):
        logits = numpyro.param("logits", jnp.zeros(len(x)))
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.Bernoulli(logits=logits))

    network = probgen.networks.MLP(1, 1, hidden=(16,), key=jax.random.key(0))
    average, learned = estimators.MovingAverage(), estimators.Learned(network, lambda x: x, estimators.MovingAverage())
    contenders = {
        "average": {"z": estimators.ScoreFunction(average)},
        "learned": {"z": estimators.ScoreFunction(learned)},
    }
    points = shared_trajectory(
        jax.random.key(0), model, guide, x, optimizer=optax.sgd(0.0), steps=800, every=800, estimators=contenders,
        baseline_optimizer=optax.adam(0.02),
    )  # fmt: skip
    report = gradient_report(
        jax.random.key(2), points[-1:], model, guide, x, estimators=contenders, num_replicates=4000
    )
    variance = report.isel(step=-1).variance_total.sum("group")
    assert report.bias_z.max() < report.bias_limit
    assert variance.sel(estimator="learned") < 0.05 * variance.sel(estimator="average")


def test_svi_and_fit_carry_what_estimators_keep():
    problem = bits(4)
    network = probgen.networks.MLP(1, 1, hidden=(4,), key=jax.random.key(0))
    baseline = estimators.Learned(network, lambda: jnp.linspace(0, 1, 4)[:, None], estimators.MovingAverage())
    guide = estimators.use(problem.guide, {"z": estimators.ScoreFunction(baseline)})
    svi = SVI(problem.model, guide, optax.adam(0.05), objectives.ELBO(num_particles=2))
    result = svi.run(jax.random.key(0), 50, progress_bar=False)
    assert result.state.mutable_state["z$estimator"]["weight"] > 0.9
    start = probgen.partition(network)[0]
    assert any(np.any(result.params["z$baseline$params"][name] != start[name]) for name in start)

    def model(x):
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Bernoulli(0.3))
            numpyro.sample("x", dist.Normal(2.0 * z, 1.0), obs=x)

    def amortized(x):
        slope = numpyro.param("slope", 0.0)
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.Bernoulli(logits=slope * (x - 1)))

    x = jax.random.normal(jax.random.key(1), (64,)) + 2.0 * jax.random.bernoulli(jax.random.key(2), 0.3, (64,))
    guide = estimators.use(amortized, {"z": estimators.ScoreFunction(estimators.MovingAverage())})
    fitted = probgen.fit(
        model, x, guide=guide, objective=objectives.ELBO(), optimizer=optax.adam(0.1), steps=400, batch_size=16,
        key=jax.random.key(3), progress=False,
    )  # fmt: skip
    assert fitted.stopped == "finished" and 1.2 < fitted.params["slope"] < 2.8  # the exact posterior's slope is 2
    assert fitted.state.mutable_state["z$estimator"]["weight"] > 0.9


# -- the laboratory


def test_the_report_knows_bias_from_chance_and_counts():
    toy = bernoulli_toy()
    report = gradient_report(
        jax.random.key(0), toy.params, toy.model, toy.guide, estimators=toy.contenders, num_replicates=5000,
        reference=toy.loss,
    )  # fmt: skip
    biased = (report.bias_z.max("group") > report.bias_limit).to_series()
    assert dict(biased) == {name: name == "straight-through" for name in toy.contenders}
    assert dict(report.evaluations.to_series()) == {
        "score": 1, "optimal baseline": 1, "leave-one-out": 2, "enumerate": 2, "straight-through": 1,
    }  # fmt: skip
    p = float(jax.nn.sigmoid(0.5))
    want = p * (1 - p) * ((1 - p) * 0.55**2 + p * 0.45**2) ** 2
    assert float(report.variance_total.sel(estimator="score").sum()) == pytest.approx(want, rel=0.1)
    assert float(report.work.sel(estimator="enumerate")) == 0
    assert float(report.cosine.sel(estimator="enumerate").min()) == pytest.approx(1)
    # without an exact loss, against the default estimators
    again = gradient_report(
        jax.random.key(0), toy.params, toy.model, toy.guide, estimators=toy.contenders, num_replicates=5000
    )
    assert again.attrs["reference"] == "the default estimators"
    assert dict((again.bias_z.max("group") > again.bias_limit).to_series()) == dict(biased)


@pytest.mark.parametrize(("logit", "count"), [(-6.0, 1000), (-2.0, 10), (0.3, 30)])
def test_rare_values_raise_no_false_alarm(logit, count):
    """Where the rarer value of a bit is drawn a few times or never, a sample variance says little."""
    problem = bits(100)
    params = {"logits": jnp.full(100, logit)}
    chosen = {"score": {"z": estimators.ScoreFunction()}, "others": {"z": estimators.LeaveOneOut()}}
    for seed in range(3):
        report = gradient_report(
            jax.random.key(seed), params, problem.model, problem.guide, estimators=chosen, reference=problem.loss,
            num_replicates=count,
        )  # fmt: skip
        assert report.bias_z.max() <= report.bias_limit
