"""Flows for vectors: what each bijector and recipe equals, and what it refuses."""

from functools import partial

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from registry import GRAPH, KEY

from probgen import combine, flows, partition
from probgen.bijectors import (
    GAUSSIAN,
    LOGISTIC,
    AffineTransformer,
    Composed,
    Coupling,
    Exp,
    GaussianCDF,
    Inverse,
    MaskedAutoregressive,
    MixtureCDF,
    MixtureCDFTransformer,
    Power,
    PowerTransformer,
    Sigmoid,
    Softplus,
    Spline,
    SplineTransformer,
    Tails,
    Tanh,
    fixed_point,
    invert_increasing,
    pass_by_pass,
    step_by_step,
)
from probgen.bijectors.spline import MIN_BIN, MIN_SLOPE
from probgen.core import Contextual, Dependence, bind
from probgen.distributions import Transformed
from probgen.networks import MADE, MLP

BINS = 5
RAW = {tails: 3 * BINS + tails.num_slopes(0) for tails in Tails}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def stirred(model, scale=0.3):
    """Weights away from their start."""
    params, rest = partition(model)
    keys = jax.random.split(KEY, len(params))
    return combine({p: v + scale * jax.random.normal(k, v.shape) for k, (p, v) in zip(keys, params.items())}, rest)


# -- splines


def test_spline_is_that_of_distrax(x64):
    raw, x = jax.random.normal(KEY, (RAW[Tails.BOUNDED],), float), jnp.linspace(-2.99, 2.99, 101)
    theirs = distrax.RationalQuadraticSpline(raw, -3.0, 3.0, min_bin_size=6 * MIN_BIN, min_knot_slope=MIN_SLOPE)
    ours = lambda x: Spline(raw, tails=Tails.BOUNDED).forward_and_log_det(x)
    for mine, other in zip(ours(x), theirs.forward_and_log_det(x), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tails", Tails)
def test_spline_gradients_of_first_and_second_order(tails, x64):
    def both(direction, raw, x):
        y, log_det = getattr(Spline(raw, tails=tails), direction)(x)
        return jnp.append(y, log_det)

    raw, x = jax.random.normal(KEY, (2, RAW[tails]), float), jnp.array([0.7, -2.9])
    for direction in ("forward_and_log_det", "inverse_and_log_det"):
        # not compiled as one: without optimization (conftest.py) XLA's second derivatives of the inverse are wrong
        jax.test_util.check_grads(partial(both, direction), (raw, x), order=2, modes=("fwd", "rev"), eps=1e-5)
        hessian = jax.hessian(lambda x: jnp.sum(jnp.sin(both(direction, raw, x))))(x)  # noqa: B023 (used at once)
        assert np.isfinite(hessian).all() and np.abs(hessian).max() > 0


@pytest.mark.parametrize("tails", Tails)
@pytest.mark.parametrize("size", [5.0, 50.0, 1e6])
@pytest.mark.parametrize("direction", ["forward_and_log_det", "inverse_and_log_det"])
def test_spline_stays_finite_at_any_raw_numbers(tails, size, direction):
    # flowjax 19.1.2 and nflows return NaN values or gradients here
    raw = size * jax.random.normal(KEY, (4000, RAW[tails]))
    ends = jnp.array([-3.0, 3.0, 0.0, -3.0000002, 3.0000002, jnp.nextafter(3.0, 0.0)])
    x = jax.random.uniform(KEY, (4000,), minval=-3.2, maxval=3.2).at[:6].set(ends)
    one = lambda raw, x: sum(getattr(Spline(raw, tails=tails), direction)(x))
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(one, (0, 1))))(raw, x)
    assert all(np.isfinite(part).all() for part in (values, *gradients))


def test_spline_is_the_identity_outside_and_at_zeros():
    spline = Spline(jax.random.normal(KEY, (4, RAW[Tails.LINEAR])))
    x = jnp.array([-3.0, 3.0, -100.0, 5.0])
    y, log_det = spline.forward_and_log_det(x)
    np.testing.assert_allclose(y, x, rtol=1e-6)
    assert abs(log_det) < 1e-4
    for tails in Tails:
        y, log_det = Spline(jnp.zeros((5, RAW[tails])), tails=tails).forward_and_log_det(jnp.linspace(-2.9, 2.9, 5))
        np.testing.assert_allclose(y, np.linspace(-2.9, 2.9, 5), atol=1e-5)
        assert abs(log_det) < 1e-4


def test_circular_spline_has_one_slope_at_its_ends():
    slope = jax.grad(Spline(jax.random.normal(KEY, (RAW[Tails.CIRCULAR],)), tails=Tails.CIRCULAR).forward)
    np.testing.assert_allclose(slope(-3.0), slope(3.0), rtol=1e-4)
    assert abs(slope(3.0) - 1) > 0.01


# -- distribution functions of mixtures


@pytest.mark.parametrize("kernel", [LOGISTIC, GAUSSIAN])
def test_mixture_cdf_is_the_mixture_of_numpyro(kernel):
    logits, means, raw_scales = jax.random.normal(KEY, (3, 4)) * jnp.array([[1.0], [3.0], [0.5]])
    family = dist.Logistic if kernel is LOGISTIC else dist.Normal
    scales = jnp.exp(7 * jnp.tanh(raw_scales / 7))
    mixture = dist.MixtureSameFamily(dist.Categorical(logits=logits), family(means, scales))
    flow = Transformed(dist.Uniform(), Inverse(MixtureCDF(logits, means, raw_scales, kernel=kernel, uniform=True)))
    x, log_prob = jnp.linspace(-6, 6, 25), jax.jit(lambda flow, x: flow.log_prob(x))
    np.testing.assert_allclose(log_prob(flow, x), mixture.log_prob(x), rtol=1e-4, atol=1e-4)
    back = jax.jit(lambda flow: flow.bijector.inverse(x))(flow)
    np.testing.assert_allclose(back, mixture.cdf(x), rtol=1e-4, atol=1e-6)
    base = family(0.0, 1.0)
    flow = Transformed(base, Inverse(MixtureCDF(logits, means, raw_scales, kernel=kernel)))
    far = jnp.array([-60.0, 60.0, 0.3])  # F and 1 − F round to 0 here, their logarithms do not
    np.testing.assert_allclose(log_prob(flow, far), mixture.log_prob(far), rtol=1e-3)


@pytest.mark.parametrize("kernel", [LOGISTIC, GAUSSIAN])
def test_mixture_cdf_inverts_with_gradients_to_every_parameter(kernel, x64):
    def both(logits, means, raw_scales, y):
        x, log_det = MixtureCDF(logits, means, raw_scales, kernel=kernel).inverse_and_log_det(y)
        return jnp.append(x, log_det)

    parts = tuple(jax.random.normal(KEY, (3, 2, 4), float))
    y = jnp.array([0.3, -2.5])
    jax.test_util.check_grads(jax.jit(both), (*parts, y), order=1, modes=("fwd", "rev"), eps=1e-5)
    back = jax.jit(lambda *parts: MixtureCDF(*parts, kernel=kernel).forward(both(*parts, y)[:2]))(*parts)
    np.testing.assert_allclose(back, y, rtol=1e-10)


def test_mixture_cdf_inverts_between_far_components():
    sharp = MixtureCDF(jnp.zeros(2), jnp.array([-50.0, 50.0]), jnp.array([-6.0, -6.0]))
    y = jnp.array([-3.0, -1e-3, 0.0, 1e-3, 3.0])
    x = jax.jit(lambda b, y: b.inverse(y))(sharp, y)
    assert np.isfinite(x).all() and (np.abs(x) <= 50.1).all() and (np.diff(x) >= 0).all()


def test_a_numeric_inverse_hands_gradients_to_what_it_closes_over(x64):
    solve = lambda a, y: invert_increasing(lambda x: x**3 + a * x, y, -10 * jnp.ones_like(y), 10 * jnp.ones_like(y))
    jax.test_util.check_grads(solve, (0.7, jnp.array([0.3, -2.0])), order=2, modes=("fwd", "rev"))


# -- elementwise


def test_values_that_rounded_to_the_boundary_have_finite_densities():
    # distrax's Tanh gives NaN for every hundredth draw of a wide normal
    for bijector in (Tanh(), GaussianCDF()):
        flow = Transformed(dist.Normal(0.0, 3.0), bijector)

        @jax.jit
        def facts(flow):
            x, log_prob = flow.sample_and_log_prob(KEY, (4096,))
            return log_prob, *jax.vmap(jax.value_and_grad(flow.log_prob))(x)

        assert all(np.isfinite(part).all() for part in facts(flow))
    assert np.isfinite(Softplus().inverse(jnp.array([1e-30, 1e-8, 80.0, 1e4]))).all()


@pytest.mark.parametrize(
    ("bijector", "low"),
    [(Sigmoid(), 0.0), (GaussianCDF(), 0.0), (MixtureCDF(*jnp.zeros((3, 2)), uniform=True), 0.0), (Tanh(), -1.0)],
    ids=["sigmoid", "gaussian", "mixture", "tanh"],
)
def test_what_no_number_maps_to_has_no_preimage(bijector, low):
    inverse = jax.jit(lambda y: bijector.inverse_and_log_det(y))
    assert all(np.isfinite(inverse(jnp.array(y))).all() for y in (low, 1.0))
    assert all(np.isnan(inverse(jnp.array(y))).all() for y in (low - 0.1, 1.1, jnp.nan))


@pytest.mark.parametrize("bijector", [Exp(), Softplus(), Power(jnp.array(0.5))], ids=lambda b: type(b).__name__)
def test_what_is_not_positive_has_no_preimage(bijector):
    inverse = jax.jit(lambda y: bijector.inverse_and_log_det(y))
    assert all(np.isfinite(inverse(jnp.array(y))).all() for y in (0.0, 1.0))
    assert all(np.isnan(inverse(jnp.array(y))).all() for y in (-0.1, jnp.nan))


def test_power_keeps_positive_numbers_positive():
    flow = Transformed(dist.Exponential(jnp.ones(2)).to_event(1), PowerTransformer()(jnp.array([[0.5], [-1.0]])))
    assert flow.support.base_constraint is constraints.positive or flow.support.base_constraint.lower_bound == 0.0
    assert np.isfinite(flow.log_prob(flow.sample(KEY, (100,)))).all()


# -- masked autoregression

TRANSFORMERS = {
    "affine": AffineTransformer(),
    "spline": SplineTransformer(BINS),
    "mixture": MixtureCDFTransformer(3),
    "composed": Composed([AffineTransformer(), SplineTransformer(4), AffineTransformer()]),
}
STRUCTURES = {
    "order": Dependence.in_order((3, 1, 0, 2)),
    "two passes": Dependence.in_order(range(4), passes=2),
    "graph": Dependence.of_graph(GRAPH),
}


def masked(dependence, transformer, context=None, invert=step_by_step, key=KEY):
    net = MADE(
        dependence.dim, transformer.num_params, hidden=(16, 16), order=dependence, activation=jnp.tanh, out_scale=0.5,
        context_dim=None if context is None else len(context), key=key,
    )  # fmt: skip
    net = net if context is None else bind(Contextual(net), context)
    return MaskedAutoregressive(net, transformer, dependence, invert)


PAIRS = pytest.mark.parametrize(
    ("structure", "transformer"),
    [("order", "affine"), ("order", "spline"), ("two passes", "composed"), ("graph", "mixture")],
)


@PAIRS
def test_the_jacobian_has_the_structures_zeros(structure, transformer):
    dependence, x = STRUCTURES[structure], jnp.array([0.3, -0.4, 1.0, 2.0])
    jacobian = jax.jit(jax.jacobian(masked(dependence, TRANSFORMERS[transformer]).forward))(x)
    np.testing.assert_array_equal(np.asarray(jacobian) != 0, dependence.matrix | np.eye(4, dtype=bool))


@PAIRS
def test_three_inversions_agree_and_so_do_their_gradients(structure, transformer, x64):
    y, context = jnp.array([0.3, -0.4, 1.0, 2.0]), jnp.array([0.5, -1.0])

    def facts(invert):
        params, rest = partition(masked(STRUCTURES[structure], TRANSFORMERS[transformer], context, invert))

        def loss(params, context, y):
            x, log_det = bind(combine(params, rest), context).inverse_and_log_det(y)
            return jnp.sum(x * jnp.arange(1.0, 5.0)) + log_det, (x, log_det)

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(params, context, y)

    want = facts(pass_by_pass)
    for invert in (step_by_step, fixed_point):
        for a, b in zip(jax.tree.leaves(facts(invert)), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    assert all(np.abs(leaf).max() > 0 for leaf in want[0][1:])


def test_steps_agree_with_passes_in_many_dimensions():
    dependence = Dependence.in_order(range(64))
    net = MADE(64, 2, hidden=(100, 90), order=dependence, out_scale=0.5, key=KEY)
    x = jax.random.normal(KEY, (7, 64))
    for invert in (step_by_step, pass_by_pass, fixed_point):
        bijector = MaskedAutoregressive(net, AffineTransformer(), dependence, invert)
        y, log_det = jax.jit(lambda b, x: b.forward_and_log_det(x))(bijector, x)
        back, inverse = jax.jit(lambda b, y: b.inverse_and_log_det(y))(bijector, y)
        np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(inverse, -log_det, rtol=1e-5, atol=1e-4)


def test_steps_do_the_work_of_about_one_pass():
    def flops(function, *args):
        return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]

    dependence, x = Dependence.in_order(range(64)), jnp.zeros(64)
    net = MADE(64, 2, hidden=(256, 256), order=dependence, key=KEY)
    once = flops(lambda x: net(x), x)
    steps, cache = net.sequential(), net.sequential().init()
    # the compiler counts a step with the sums over earlier chunks, which only every eighth takes
    step = flops(lambda cache: steps.step(cache, jnp.zeros(1), 1), cache)
    chunk = 2 * sum(layer.weight[0].size * steps.chunk for layer in steps.layers)
    assert 64 * (step - chunk) + 8 * chunk < 2.5 * once


def test_conditioners_without_steps_are_inverted_pass_by_pass():
    net = MADE(3, 2, hidden=(16,), out_scale=0.5, key=KEY)
    bijector = MaskedAutoregressive(lambda x: net(x), AffineTransformer(), Dependence.in_order(range(3)))
    x = jnp.array([0.3, -0.4, 1.0])
    np.testing.assert_allclose(bijector.inverse(bijector.forward(x)), x, rtol=1e-5)


# -- recipes


def test_affine_flow_is_the_multivariate_normal():
    flow = stirred(flows.affine_flow(3, key=KEY))
    matrix, shift = flow.bijector.matrix, flow.bijector.shift
    normal = dist.MultivariateNormal(shift, scale_tril=matrix)
    x = jax.random.normal(KEY, (10, 3))
    np.testing.assert_allclose(flow.log_prob(x), normal.log_prob(x), rtol=1e-4)
    np.testing.assert_allclose(jax.vmap(jax.grad(flow.log_prob))(x), jax.vmap(jax.grad(normal.log_prob))(x), rtol=1e-3)


def test_maf_and_iaf_are_one_bijector_and_its_inverse():
    maf, iaf = (
        stirred(recipe(3, layers=1, hidden=(8,), activation=jnp.tanh, key=KEY)) for recipe in (flows.maf, flows.iaf)
    )
    pick = lambda flow: jax.tree.map(lambda leaf: leaf[0], flow.bijector.bijectors[1].layers).bijectors[0]
    x = jnp.array([0.3, -0.4, 1.0])
    np.testing.assert_allclose(pick(maf).inverse(x), pick(iaf).forward(x), rtol=1e-5)
    assert isinstance(pick(maf), Inverse) and isinstance(pick(iaf), MaskedAutoregressive)


@pytest.mark.parametrize("recipe", [flows.real_nvp, flows.maf])
def test_the_density_of_an_affine_layer_scales_and_then_shifts(recipe):
    """z = exp(s) x + t, not exp(−s) (x − t)."""
    flow = recipe(2, layers=1, hidden=(4,), key=KEY)
    params, rest = partition(flow)
    params = {path: jnp.zeros_like(leaf) for path, leaf in params.items()}
    last = max(path for path in params if path.endswith("bias"))
    moved = np.arange(params[last].size) // 2 >= params[last].size // 2 - 1  # of both, the coordinate that is last
    params[last] = jnp.where(moved, jnp.tile(jnp.array([2.0, 1.0]), moved.size // 2), 0.0)[None]
    z = combine(params, rest).bijector.inverse(jnp.zeros(2))
    np.testing.assert_allclose(np.sort(z), [0.0, 2.0], atol=1e-6)


def test_two_passes_are_a_coupling():
    maf = stirred(flows.maf(4, layers=1, hidden=(16,), passes=2, key=KEY))
    layer = jax.tree.map(lambda leaf: leaf[0], maf.bijector.bijectors[1].layers).bijectors[0]
    x = jnp.array([0.3, -0.4, 1.0, 2.0])
    jacobian = np.asarray(jax.jacobian(layer.inverse)(x))
    np.testing.assert_array_equal(jacobian != 0, np.tril(np.kron([[0, 0], [1, 0]], np.ones((2, 2)))) + np.eye(4) > 0)


def test_cdf_flow_learns_the_distribution_function():
    flow = stirred(flows.cdf_flow(bins=6, uniform=True, interval=(-1.0, 2.0), key=KEY), 1.0)
    draws = np.sort(flow.sample(KEY, (20_000,))[:, 0])
    at = jnp.linspace(-0.9, 1.9, 15)[:, None]
    learned = (flow.bijector.inverse(at)[:, 0] + 1) / 3
    np.testing.assert_allclose(learned, np.searchsorted(draws, at[:, 0]) / len(draws), atol=0.015)
    assert flow.support.base_constraint.lower_bound == -1.0


def test_bayes_net_flow_makes_a_node_independent_of_all_but_its_parents():
    flow = stirred(flows.bayes_net_flow(GRAPH, hidden=(16,), key=KEY))
    x = jax.jit(lambda flow: flow.sample(KEY, (20,)))(flow)
    zeros = ~(np.array(GRAPH, bool) | np.eye(4, dtype=bool))
    jacobian = np.asarray(jax.jit(jax.vmap(jax.jacobian(flow.bijector.inverse)))(x))
    assert (jacobian[:, zeros] == 0).all() and (np.abs(jacobian[:, ~zeros]) > 0).any(0).all()
    # does not depend on the grandchild, given its parents
    moved = flow.log_prob(x.at[:, 0].add(0.5)) - flow.log_prob(x)
    again = flow.log_prob(x.at[:, 0].add(0.5).at[:, 3].add(1.0)) - flow.log_prob(x.at[:, 3].add(1.0))
    np.testing.assert_allclose(moved, again, atol=2e-3)


@pytest.mark.parametrize(
    "recipe", [flows.real_nvp, flows.maf, partial(flows.nsf, bins=4), partial(flows.nsf, bins=4, passes=None)]
)
def test_compiled_size_does_not_grow_with_the_number_of_layers(recipe):
    def size(layers):
        flow = recipe(3, layers=layers, hidden=(8,), key=KEY)
        gradient = lambda f, x: jax.grad(lambda f: f.log_prob(x), allow_int=True)(f)
        return len(str(jax.make_jaxpr(gradient)(flow, jnp.ones(3))))

    assert size(32) < 1.05 * size(4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: flows.real_nvp(1, key=KEY), "dim: a coupling needs at least 2"),
        (lambda: flows.nsf(1, key=KEY), "dim: a coupling needs at least 2"),
        (lambda: flows.maf(3, passes=7, key=KEY), "passes"),
        (lambda: flows.maf(3, layers=0, key=KEY), "layers"),
        (lambda: flows.maf(0, key=KEY), "dim: expected an integer of at least 1"),
        (lambda: flows.maf(3, hidden=16, key=KEY), "hidden: expected a sequence of widths"),
        (lambda: flows.real_nvp(3, hidden=(16, 0), key=KEY), "hidden: expected a sequence of widths"),
        (lambda: flows.real_nvp(3, activation="relu", key=KEY), "activation: expected a function"),
        (lambda: flows.bayes_net_flow([[0, 1], [1, 0]], key=KEY), "0 → 1 → 0"),
        (lambda: flows.bayes_net_flow([[0, 1, 0]], key=KEY), "square"),
        (lambda: flows.bayes_net_flow(np.zeros((0, 0)), key=KEY), "square"),
        (lambda: flows.bayes_net_flow([[0, 0], [np.nan, 0]], key=KEY), "NaN"),
        (lambda: flows.maf(3, context_dim=2, hidden=(8,), key=KEY)(jnp.ones(3)), "context"),
        (lambda: flows.maf(3, hidden=(8,), key=KEY).log_prob(jnp.ones(4)), "value: expected events of shape"),
        (lambda: Spline(jnp.zeros((2, 10))), "raw: expected"),
        (lambda: Spline(jnp.zeros((2, 11)), interval=(1.0, 1.0)), "interval"),
        (lambda: SplineTransformer(0), "bins"),
        (lambda: MixtureCDFTransformer(0), "components"),
        (lambda: MixtureCDF(jnp.zeros(2), jnp.zeros(3), jnp.zeros(2)), "logits, means, raw_scales"),
        (lambda: MaskedAutoregressive(lambda x: x, AffineTransformer(), Dependence.in_order(range(2))).forward(
            jnp.ones(2)), "conditioner: expected an output of shape"),
        (lambda: MaskedAutoregressive(MADE(3, 2, key=KEY), AffineTransformer(), Dependence.in_order((2, 1, 0))),
         "dependence"),
        (lambda: masked(STRUCTURES["order"], AffineTransformer()).inverse(jnp.ones(3)), "takes events of shape"),
        (lambda: Coupling(MLP(2, 5, key=KEY), AffineTransformer(), split=2).forward(jnp.ones(4)), "conditioner"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_value_outside_a_bounded_support_has_no_density():
    flow = flows.cdf_flow(uniform=True, interval=(0.0, 1.0), key=KEY)
    with pytest.warns(UserWarning, match="support"):
        flow.log_prob(jnp.array([2.0]))
    assert flow.log_prob(jnp.array([0.5])) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("recipe", [flows.real_nvp, flows.nice, flows.nsf])
def test_every_coordinate_of_an_odd_number_is_what_others_depend_on(recipe):
    """Halves that take turns by reversing leave the middle one out."""
    flow = recipe(5, layers=4, hidden=(8,), key=jax.random.key(0))
    jacobian = jax.jacobian(flow.bijector.inverse)(jax.random.normal(jax.random.key(1), (5,)))
    assert ((jacobian != 0).sum(0) > 1).all()
