"""Flows that are continuous in time: against the matrix exponential, through numpyro, and trained."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO
from registry import KEY

import probgen
from probgen import data, flows
from probgen.bijectors import ODE, Affine, Chain, Inverse, ODESolver, Velocity
from probgen.core import bind, with_key
from probgen.distributions import ConditionalModel, Transformed, initialize
from probgen.evaluation import evaluate
from probgen.inference import fit
from probgen.networks import MLP, Dropout
from probgen.score import GaussianDenoiser, LinearLogSNR, ProbabilityFlow, ScoreModel, coefficients

NORMAL = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
MATRIX, SHIFT = jnp.array([[0.3, -1.0], [0.8, -0.6]]), jnp.array([0.5, -0.2])
X = jax.random.normal(KEY, (6, 2))


class Linear(probgen.bijectors.Bijector):
    """x ↦ A x + b, as a velocity: a module, whose arrays learn."""

    matrix: jax.Array
    shift: jax.Array

    def __call__(self, x, t):
        return self.matrix @ x + self.shift


def affine(**options):
    return ODE(Linear(MATRIX, SHIFT), ODESolver(**options))


def exponential(matrix, shift, x):
    """The solution of dx/dt = A x + b at t = 1."""
    whole = jnp.zeros((3, 3), x.dtype).at[:2, :2].set(matrix).at[:2, 2].set(shift)
    return jax.scipy.linalg.expm(whole)[:2] @ jnp.append(x, 1.0)


def stirring(t):
    return jnp.stack([t, t**2])


def network(**options):
    net = MLP(2, 2, hidden=(8,), activation=jnp.tanh, context_dim=2, out_scale=2.0, key=KEY)
    return ODE(Velocity(net, stirring), ODESolver(**options))


def test_a_linear_velocity_is_the_matrix_exponential():
    forward = jax.jit(lambda b, x: b.forward_and_log_det(x))(affine(), X)
    back = jax.jit(lambda b, y: b.inverse_and_log_det(y))(affine(), forward[0])
    np.testing.assert_allclose(forward[0], jax.vmap(lambda x: exponential(MATRIX, SHIFT, x))(X), atol=2e-5)
    np.testing.assert_allclose(forward[1], jnp.full(6, jnp.trace(MATRIX)), atol=1e-5)
    np.testing.assert_allclose(back[0], X, atol=5e-5)
    np.testing.assert_allclose(back[1], -forward[1], atol=1e-5)


def test_gradients_are_those_of_the_matrix_exponential():
    with jax.enable_x64(True):
        matrix, shift, x = (leaf.astype(float) for leaf in (MATRIX, SHIFT, X[0]))
        weigh = lambda y, log_det: jnp.sum(jnp.sin(y)) + jnp.sin(log_det)
        ours = lambda m, b, x: weigh(*ODE(Linear(m, b), ODESolver(1e-9)).forward_and_log_det(x))
        theirs = lambda m, b, x: weigh(exponential(m, b, x), jnp.trace(m))
        found, right = (jax.jit(jax.grad(f, (0, 1, 2)))(matrix, shift, x) for f in (ours, theirs))
        for a, b in zip(found, right, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-7)


def test_the_error_falls_with_the_tolerance_in_float64():
    with jax.enable_x64(True):
        x = X[0].astype(float)
        right = exponential(*(leaf.astype(float) for leaf in (MATRIX, SHIFT)), x)
        solve = lambda tolerance: jax.jit(lambda b: b.forward_and_log_det(x))(affine(tolerance=tolerance))
        errors = [float(abs(solve(tolerance)[0] - right).max()) for tolerance in (1e-3, 1e-10)]
    assert 1e-7 < errors[0] < 1e-2 and errors[1] < 1e-9


def test_probes_are_unbiased_fall_in_variance_and_are_a_function():
    exact = jax.jit(lambda b: b.forward_and_log_det(X))(network())
    log_dets = lambda probes, n: np.stack(
        jax.jit(jax.vmap(lambda k: with_key(network(probes=probes), k).forward_and_log_det(X)[1]))(
            jax.random.split(KEY, n)
        )
    )
    one, many = log_dets(1, 200) - exact[1], log_dets(8, 100) - exact[1]
    np.testing.assert_array_less(abs(one.mean(0)), 4 * one.std(0) / np.sqrt(len(one)) + 1e-4)
    np.testing.assert_allclose(many.var(0).mean() / one.var(0).mean(), 1 / 8, rtol=0.4)
    assert np.unique(one[0].round(5)).size == 6  # bound to a key, each row has probes of its own
    solve = jax.jit(lambda b: b.forward_and_log_det(X))
    fixed = [solve(network(probes=1, seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fixed[0][1], fixed[1][1])
    assert not np.allclose(fixed[0][1], fixed[2][1])
    np.testing.assert_allclose(fixed[0][0], exact[0], atol=2e-5)


def test_a_gaussian_is_carried_to_a_gaussian():
    model = Transformed(NORMAL, affine())
    assert (model.kind, model.tolerance, model.exact) == ("estimate", 1e-5, False)
    loc = exponential(MATRIX, SHIFT, jnp.zeros(2))
    flow = jax.scipy.linalg.expm(MATRIX)
    truth = dist.MultivariateNormal(loc, flow @ flow.T)
    x = truth.sample(KEY, (3, 4))
    found = jax.jit(lambda x: model.log_prob_estimate(KEY, x))(x)
    np.testing.assert_allclose(found, truth.log_prob(x), atol=1e-4)
    assert "≈" in str(evaluate(model, x[0], key=KEY))
    with pytest.raises(NotImplementedError, match="log_prob_estimate"):
        model.log_prob(x)


def test_it_is_a_part_of_a_chain_under_vmap_and_plates():
    parts = [Affine(jnp.ones(2), jnp.zeros(2)), network(), Inverse(network())]
    chain, x = Chain(parts), X.reshape(3, 2, 2)
    whole = jax.jit(lambda b: b.forward_and_log_det(x))(chain)
    np.testing.assert_allclose(whole[0], x + 1.0, atol=5e-5)  # the flow and its inverse cancel
    np.testing.assert_allclose(whole[1], np.zeros((3, 2)), atol=5e-5)
    model = Transformed(NORMAL, affine())

    def program(x):
        with numpyro.plate("rows", 3):
            probgen.observe("x", model, x)

    site = lambda x: numpyro.handlers.trace(numpyro.handlers.seed(program, KEY)).get_trace(x)["x"]
    log_prob, draws = jax.jit(lambda x: (site(x)["fn"].log_prob(x), site(None)["value"]))(x[:, 0])
    assert log_prob.shape == (3,) and draws.shape == (3, 2)


def test_a_guide_of_it_finds_a_posterior_of_normals():
    y = jnp.array([1.0, -0.5])

    def model():
        z = numpyro.sample("z", NORMAL)
        numpyro.sample("y", dist.Normal(z, 0.5).to_event(1), obs=y)

    start = Transformed(NORMAL, ODE(Linear(jnp.zeros((2, 2)), jnp.zeros(2)), ODESolver(1e-4)))

    def guide():
        flow = probgen.module("flow", start)
        z, cost = flow.bijector.forward_and_log_det(numpyro.sample("base", NORMAL, infer={"is_auxiliary": True}))
        numpyro.sample("z", dist.Delta(z, log_density=-cost, event_dim=1))

    svi = SVI(model, guide, optax.adam(optax.cosine_decay_schedule(5e-2, 400)), Trace_ELBO(num_particles=16))
    params = svi.run(KEY, 400, progress_bar=False).params
    flow = probgen.from_params(params, "flow", start).bijector
    draws = jax.jit(lambda b: b.forward(jax.random.normal(KEY, (4000, 2))))(flow)
    np.testing.assert_allclose(draws.mean(0), 0.8 * y, atol=0.06)
    np.testing.assert_allclose(draws.std(0), np.full(2, 0.2**0.5), rtol=0.1)


def test_the_velocity_of_a_score_model_makes_its_density():
    """Flow matching and score models are trained by regression; along their ODE they are continuous flows."""
    with jax.enable_x64(True):
        denoiser = GaussianDenoiser(jnp.array([0.5, -1.0]), jnp.array([0.3, 2.0]))
        model, x = ScoreModel(denoiser, LinearLogSNR(9.0, -12.0), (2,)), X.astype(float)

        def velocity(z, t):  # from noise at 0 to data at 1
            log_snr, rate = (f(1.0 - t) for f in (model.sde.log_snr, model.sde.log_snr_rate))
            alpha = coefficients(log_snr)[0]
            return -rate * 0.5 * alpha * (denoiser(z, log_snr) - alpha * z)

        unit = Affine(jnp.zeros(2), jnp.full(2, -jnp.log(coefficients(model.sde.log_snr(0.0))[0])))
        base = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
        flow = Transformed(base, Chain([unit, ODE(velocity, ODESolver(1e-7))]))
        ours = jax.jit(lambda x: flow.log_prob_estimate(KEY, x))(x)
        theirs = jax.jit(lambda x: model.log_prob_ode(x, flow=ProbabilityFlow(1e-7)))(x)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_conditional_flow_is_the_flow_at_each_context():
    net = MLP(2, 2, hidden=(8,), activation=jnp.tanh, context_dim=5, out_scale=2.0, key=KEY)
    flow = Transformed(NORMAL, ODE(Velocity(net, stirring, context_dim=3)))
    contexts = jax.random.normal(KEY, (4, 3))
    model = ConditionalModel(flow, (3,))
    both = jax.jit(lambda m: m(contexts).log_prob_estimate(KEY, X[:4]))(model)
    bound = lambda c: ODE(lambda x, t: net(x, jnp.concatenate([stirring(t), c])))
    alone = jax.jit(lambda c, x: Transformed(NORMAL, bound(c)).log_prob_estimate(KEY, x))
    each = [alone(c, x) for c, x in zip(contexts[:2], X[:2], strict=True)]
    np.testing.assert_allclose(both[:2], each, atol=1e-4)
    with pytest.raises(ValueError, match="conditional"):
        flow.bijector.forward(X)


def test_it_learns_what_no_gaussian_can():
    x = data.toys.two_moons(KEY, 512)
    model = initialize(flows.ffjord((2,), hidden=(32,), tolerance=1e-2, key=KEY), x)
    gaussian = dist.MultivariateNormal(x.mean(0), jnp.cov(x.T)).log_prob(x).mean()
    result = fit(model, x, steps=250, batch_size=128, optimizer=optax.adam(1e-2), key=KEY, progress=False)
    found = jax.jit(lambda m: m.log_prob_estimate(KEY, x).mean())(result.model)
    assert found > gaussian + 0.3, (found, gaussian)


@pytest.mark.parametrize("network", [{"hidden": (8,)}, {"channels": (4,)}], ids=["dense", "convolutions"])
def test_images_are_events_too(network):
    model = flows.ffjord((2, 3), **network, probes=2, context_dim=2, key=KEY)
    (params, rest), rng = probgen.partition(model), np.random.default_rng(0)
    model = probgen.combine({path: p + 0.1 * rng.normal(size=p.shape) for path, p in params.items()}, rest)
    assert jax.jit(lambda m: m(jnp.ones(2)).sample(KEY, (3,)))(model).shape == (3, 2, 3)
    flow, x = bind(model.model, jnp.ones(2)).bijector, 0.3 * X.reshape(2, 2, 3)
    there_and_back = jax.jit(lambda b: b.forward(b.inverse(x)))(flow)
    np.testing.assert_allclose(there_and_back, x, atol=2e-3)


def test_events_of_any_rank():
    convolution = ODE(lambda x, t: 0.1 * jnp.roll(x, 1, 0), ndims=3)
    assert convolution.forward_and_log_det(jnp.ones((3, 2, 2, 1)))[1].shape == (3,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ODESolver(0.0), "tolerance"),
        (lambda: ODESolver(seed=3), "seed: expected probes beside it"),
        (lambda: ODESolver(probes=0), "probes"),
        (lambda: ODESolver(max_steps=0), "max_steps"),
        (lambda: ODE(lambda x, t: x, 1e-5), "solver: expected a bijectors.ODESolver"),
        (lambda: ODE(MLP), "velocity: expected an instance"),
        (lambda: ODE(Dropout(0.1)), "velocity: expected no dropout"),
        (lambda: ODE(lambda x, t: x, ndims=-1), "ndims"),
        (lambda: ODE(lambda x, t: x[:1]).forward(X), "velocity: expected the event's shape"),
        (lambda: affine(tolerance=1e-9).forward(X), "tolerance: expected at least .* for float32"),
        (lambda: flows.cnf((2,), tolerance=-1.0, key=KEY), "tolerance"),
        (lambda: flows.cnf((2,), probes=0, key=KEY), "probes"),
        (lambda: flows.cnf((), key=KEY), "event_shape"),
        (lambda: flows.cnf((4,), channels=(4,), key=KEY), "event_shape: expected an image"),
        (lambda: flows.cnf((4, 4), channels=(4,), hidden=(8,), key=KEY), "hidden: expected none beside the channels"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_solver_stops_after_its_steps():
    with pytest.raises(Exception, match="maximum number of solver steps"):
        affine(max_steps=2).forward(X).block_until_ready()
