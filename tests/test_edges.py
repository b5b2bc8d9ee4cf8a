"""Edges: what maps a closed set is exact at its ends and stays within, in chains too; and the domains of bijectors."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from numpyro.infer import MCMC, NUTS
from registry import BIJECTORS, DISTRIBUTIONS, KEY

from probgen import as_transform, bijectors, flows, mixtures
from probgen.bijectors import (
    Affine,
    Chain,
    Constant,
    Exp,
    Inverse,
    Logit,
    PiecewiseLinear,
    Sigmoid,
    Softplus,
    Spline,
    Tails,
    Tanh,
)
from probgen.bijectors.spline import MIN_SLOPE
from probgen.bijectors.support import as_interval
from probgen.distributions import Transformed, on_support

BINS, MANY = 4, 3000
PI = float(np.pi)


def _wild(num, size):
    """Raw numbers from modest to extreme."""
    scales = jnp.repeat(jnp.array([1.0, 3.0, 30.0]), MANY // 3)[:, None]
    return scales * jax.random.normal(KEY, (MANY, num)), size


CLOSED = {
    "spline, linear": (lambda raw: Spline(raw, interval=(-0.3, 0.7)), 3 * BINS - 1),
    "spline, bounded": (lambda raw: Spline(raw, interval=(0.1, 0.7), tails=Tails.BOUNDED), 3 * BINS + 1),
    "spline, circular": (lambda raw: Spline(raw, interval=(-PI, PI), tails=Tails.CIRCULAR), 3 * BINS),
    "spline of one bin": (lambda raw: Spline(raw, interval=(-3.0, 3.0), tails=Tails.BOUNDED), 4),
    "piecewise linear": (lambda raw: PiecewiseLinear(raw, -0.3, 0.7), BINS),
}


def _sets(make, num):
    """The ends before and after `forward`."""
    if make is CLOSED["piecewise linear"][0]:
        return (0.0, 1.0), (-0.3, 0.7)
    interval = make(jnp.zeros(num)).interval
    return interval, interval


@pytest.mark.parametrize("name", CLOSED)
def test_closed_sets_are_mapped_onto_each_other_to_the_last_bit(name):
    make, num = CLOSED[name]
    raw, _ = _wild(num, None)
    for direction, (source, target) in zip(("forward", "inverse"), (_sets(make, num), _sets(make, num)[::-1])):
        (low, high), (to_low, to_high) = (np.asarray(ends, np.float32) for ends in (source, target))
        points = jnp.array([low, np.nextafter(low, high), 0.5 * (low + high), np.nextafter(high, low), high])
        one = lambda raw, x: getattr(make(raw), f"{direction}_and_log_det")(x)  # noqa: B023
        y, log_det = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(raw, points)
        np.testing.assert_array_equal(y[:, 0], to_low)
        np.testing.assert_array_equal(y[:, -1], to_high)
        assert np.all((y >= to_low) & (y <= to_high)) and np.isfinite(log_det).all()
        eager = jax.vmap(one)(raw[:3], jnp.full(3, high))
        np.testing.assert_array_equal(eager[0], to_high)
        np.testing.assert_allclose(eager[1], log_det[:3, -1], rtol=1e-4, atol=1e-4)


EXACT_ENDS = {  # in float32, so that the map in float64 is the same
    "spline, linear": (lambda raw: Spline(raw, interval=(-0.375, 0.75)), 3 * BINS - 1),
    "spline, bounded": (lambda raw: Spline(raw, interval=(0.125, 0.75), tails=Tails.BOUNDED), 3 * BINS + 1),
    "spline, circular": (
        lambda raw: Spline(raw, interval=(-float(np.float32(PI)), float(np.float32(PI))), tails=Tails.CIRCULAR),
        3 * BINS,
    ),
}


@pytest.mark.parametrize("name", EXACT_ENDS)
def test_log_determinants_at_and_beside_the_edges_are_those_of_float64(name):
    """To within what a few roundings of the argument do, which is much where a narrow bin is steep."""
    make, num = EXACT_ENDS[name]
    raw = jax.random.normal(KEY, (300, num)) * jnp.repeat(jnp.array([0.3, 1.0, 2.0]), 100)[:, None]
    low, high = (np.float32(end) for end in make(jnp.zeros(num)).interval)
    points = np.array([low, np.nextafter(low, high), np.nextafter(high, low), high])
    ulps = np.spacing(np.abs(points)).astype(float) * np.arange(-4.0, 5.0)[:, None]
    around = np.clip(points.astype(float) + ulps, float(low), float(high))

    def log_dets(raw, points):
        spline = make(raw)
        return jnp.stack([jax.vmap(spline.forward_log_det_jacobian)(points),
                          jax.vmap(spline.inverse_log_det_jacobian)(points)])  # fmt: skip

    both = jax.jit(jax.vmap(log_dets, (0, None)))
    found = both(raw, jnp.asarray(points))
    with jax.enable_x64(True):
        right = np.asarray(both(jnp.asarray(raw, float), jnp.asarray(around.ravel()))).reshape(300, 2, 9, 4)
    assert np.all(found >= right.min(2) - 1e-4) and np.all(found <= right.max(2) + 1e-4)


@pytest.mark.parametrize("tails", [Tails.BOUNDED, Tails.CIRCULAR])
def test_the_slopes_of_splines_at_their_ends_are_their_raw_numbers(tails):
    raw, _ = _wild(2 * BINS + tails.num_slopes(BINS), None)
    slope = lambda raw: np.log(MIN_SLOPE + np.logaddexp(0.0, np.asarray(raw, float) + np.log(np.expm1(1 - MIN_SLOPE))))
    first, last = slope(raw[:, 2 * BINS]), slope(raw[:, -1 if tails is Tails.BOUNDED else 2 * BINS])
    ends = jnp.array([-3.0, 3.0])
    spline = jax.jit(jax.vmap(lambda r: jax.vmap(Spline(r, tails=tails).forward_and_log_det)(ends)))
    _, log_det = spline(raw)
    np.testing.assert_allclose(log_det, np.stack([first, last], 1), rtol=1e-4, atol=2e-5)
    back = jax.vmap(lambda r: jax.vmap(Spline(r, tails=tails).inverse_and_log_det)(ends))
    np.testing.assert_allclose(jax.jit(back)(raw)[1], -log_det, rtol=1e-4, atol=2e-5)
    derivative = jax.jit(jax.vmap(lambda r: jax.vmap(jax.grad(Spline(r, tails=tails).forward))(ends)))
    np.testing.assert_allclose(np.log(derivative(raw)), log_det, rtol=1e-3, atol=1e-3)


def test_chains_of_what_is_closed_have_the_sum_of_slopes_at_their_ends():
    raw = 2.0 * jax.random.normal(KEY, (500, 2, 3 * BINS + 1))
    make = lambda r: [Spline(one, interval=(0.1, 0.7), tails=Tails.BOUNDED) for one in r]
    ends = jnp.array([0.1, 0.7])

    def both(r):
        chain, (one, two) = Chain(make(r)), make(r)
        flow = Transformed(dist.Uniform(0.1, 0.7), chain)
        parts = jax.vmap(one.inverse_and_log_det)(ends)[1] + jax.vmap(two.inverse_and_log_det)(ends)[1]
        return flow.log_prob(ends), parts - jnp.log(0.6)

    got, right = jax.jit(jax.vmap(both))(raw)
    np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)


OUTSIDE = [
    (constraints.unit_interval, [-1.0, 0.0, 1.0, 1.5], [0.0, 0.0, 1.0, 1.0]),
    (constraints.interval(-2.0, 3.0), [-2.5, 3.5], [0.0, 1.0]),
    (constraints.positive, [-1.0, 0.0, jnp.inf], [0.0, 0.0, 1.0]),
    (constraints.less_than(-1.0), [-jnp.inf, -1.0, 4.0], [0.0, 1.0, 1.0]),
    (constraints.real, [-jnp.inf, jnp.inf], [0.0, 1.0]),
]


@pytest.mark.parametrize(("constraint", "at", "right"), OUTSIDE, ids=lambda x: str(x)[:20])
def test_the_distribution_function_outside_of_the_support(constraint, at, right):
    """No number maps there; P(X ≤ x) is 0 below the support and 1 above, and flat."""
    for flow in (
        on_support(flows.affine_flow(1, key=KEY), constraints.independent(constraint, 1)),
        Transformed(dist.Normal(0.0, 1.0), dist.biject_to(constraint)),
    ):
        x = jnp.array(at).reshape(-1, *flow.event_shape)

        @jax.jit
        def facts(x, flow=flow):  # whose support is known
            inside = flow.sample(KEY, (3,))
            return flow.cdf(x), jax.grad(lambda x: flow.cdf(x).sum())(x), inside, flow.icdf(flow.cdf(inside))

        below, slope, inside, back = facts(x)
        np.testing.assert_array_equal(below, right)
        np.testing.assert_array_equal(slope, jnp.zeros_like(x))
        np.testing.assert_allclose(back, inside, rtol=1e-3)


def test_a_distribution_function_at_the_end_of_a_support_that_is_traced():
    """Whether the map falls is not asked of its slope there, which is 0."""
    flow = Transformed(dist.Normal(0.0, 1.0), dist.biject_to(constraints.less_than(-1.0)))
    np.testing.assert_allclose(jax.jit(lambda flow: flow.cdf(jnp.array([-jnp.inf, -2.0, -1.0])))(flow), [0.0, 0.5, 1.0])
    moved, x = Transformed(flow, Affine(0.5, 0.1)), jnp.array([-5.0, -2.0])  # on a base whose support is not known
    np.testing.assert_allclose(jax.jit(lambda flow: flow.cdf(x))(moved), moved.cdf(x), rtol=1e-5)


FOREIGN = "distrax's and numpyro's own inverses are infinite at their edges, as `on_support` says"


@pytest.mark.parametrize("row", BIJECTORS, ids=lambda row: row.name)
def test_edges_of_half_bounded_and_bounded_sets_are_finite(row):
    bijector = row.make()
    if isinstance(bijector, Constant) or row.name == "chain of ranks":  # (of distrax's tanh)
        pytest.skip(FOREIGN)
    for side, other, direction in ((bijector.domain, bijector.codomain, "forward"),
                                   (bijector.codomain, bijector.domain, "inverse")):  # fmt: skip
        interval, onto = as_interval(side), as_interval(other)
        for end in () if interval is None else interval[:2]:
            if end is None:
                continue
            x = jnp.broadcast_to(jnp.asarray(end, float), row.event.shape)
            y, log_det = jax.jit(getattr(bijector, f"{direction}_and_log_det"))(x)
            assert np.isfinite(y).all() and np.isfinite(log_det).all(), (direction, end)
            for limit, sign in zip(onto[:2] if onto else (), (-1.0, 1.0)):
                assert limit is None or np.all(sign * (y - jnp.asarray(limit, float)) <= 0), (direction, end, y)


@pytest.mark.parametrize("bijector", [Sigmoid(), Tanh(), Exp(), Softplus()], ids=lambda b: type(b).__name__)
def test_what_is_rounded_to_an_edge_stays_within(bijector):
    x = jnp.concatenate([jnp.linspace(-80.0, 80.0, 4001), jnp.linspace(7.0, 10.0, 3001)])
    y, _ = jax.jit(bijector.forward_and_log_det)(x)
    interval = as_interval(bijector.codomain)
    assert np.all(y >= interval.lower) and (interval.upper is None or np.all(y <= interval.upper))
    back, log_det = jax.jit(bijector.inverse_and_log_det)(y)
    assert np.isfinite(back).all() and np.isfinite(log_det).all()


# -- domains

_LOG = Inverse(Exp())


@pytest.mark.parametrize(
    ("base", "bijector"),
    [
        (dist.Normal(), _LOG),
        (dist.Normal(), Logit()),
        (dist.Exponential(), Logit()),
        (dist.Uniform(-1.0, 0.5), Chain([Affine(0.0, 0.0), _LOG])),
        (dist.Normal(), Chain([Logit(), Exp()])),
        (dist.Normal(), Inverse(Chain([Inverse(Exp()), Sigmoid()]))),
        (dist.Uniform(0.0, 2.0), Spline(jnp.zeros(13), interval=(0.0, 1.0), tails=Tails.BOUNDED)),
        (dist.Uniform(jnp.zeros(2), jnp.array([1.0, 2.0])).to_event(1), PiecewiseLinear(jnp.zeros((2, 3)))),
        (dist.Normal(), dist.transforms.ExpTransform().inv),
    ],
)
def test_a_base_outside_the_domain_is_refused(base, bijector):
    with pytest.raises(ValueError, match=r"is defined on .* lives on"):
        Transformed(base, bijector)


def test_a_chain_whose_parts_do_not_meet_is_no_transform():
    with pytest.raises(ValueError, match=r"is defined on .* lives on"):
        as_transform(Chain([Logit(), Exp()]))


@pytest.mark.parametrize(
    ("base", "bijector"),
    [
        (dist.Exponential(), Chain([_LOG, Affine(1.0, 0.0)])),
        (dist.Gamma(2.0, 1.0), _LOG),
        (dist.Uniform(0.0, 0.3), Chain([Spline(jnp.zeros(13), interval=(0.0, 0.3), tails=Tails.BOUNDED)])),
        (dist.Uniform(), Chain([Logit(), Affine(0.1, jnp.log(0.9))])),
    ],
)
def test_a_base_within_the_domain_is_taken(base, bijector):
    flow = Transformed(base, bijector)
    assert np.isfinite(flow.log_prob(flow.sample(KEY, (20,)))).all()


def test_a_traced_end_is_not_known_and_taken():
    density = lambda low: Transformed(dist.Uniform(low, 1.0), Logit()).log_prob(jnp.array(0.3))
    assert np.isfinite(jax.jit(density)(0.1))


# -- supports under `jit`, of arrays, and learned


# of real numbers, where none is a bound
EXACT = [row for row in DISTRIBUTIONS if row.volume != 1.0 and "exact" not in row.exceptions]


@pytest.mark.parametrize("row", EXACT, ids=lambda row: row.name)
def test_supports_and_derivatives_under_jit(row):
    """The density is the same whether the model is traced or known, and forward mode is reverse mode."""
    d = row.make()

    @jax.jit
    def known():
        x = d.sample(KEY, (2,))
        return x, d.log_prob(x), d.support(x)

    @jax.jit
    def traced(d, x):
        one = lambda x: d.log_prob(x)
        return d.log_prob(x), jax.jacfwd(one)(x[0]), jax.grad(one)(x[0])

    with numpyro.validation_enabled():
        x, closed, inside = known()
        log_prob, forward, reverse = traced(d, x)
    np.testing.assert_allclose(closed, log_prob, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(forward, reverse, rtol=1e-3, atol=1e-3)
    assert np.all(inside)


@pytest.mark.parametrize(
    "flow",
    [
        lambda low: Transformed(dist.Uniform(low, low + 1.0), Spline(jnp.ones(11))),
        lambda low: Transformed(dist.Uniform(low, low + 0.5), Logit()),
        lambda low: Transformed(dist.TruncatedNormal(0.0, low=low), Exp()),
        lambda low: Transformed(dist.Uniform(low, low + 0.5), PiecewiseLinear(jnp.arange(3.0))),
    ],
)
def test_learned_ends_of_a_support(flow):
    def edge(low):
        return as_interval(flow(low).support).lower

    eager, traced = edge(0.2), jax.jit(edge)(0.2)
    np.testing.assert_allclose(eager, traced, rtol=1e-6)
    np.testing.assert_allclose(eager, flow(0.2).bijector.forward(jnp.array(0.2)), rtol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(edge))(0.2))


def test_nuts_of_a_flow_of_array_bounds_in_forward_mode():
    flow = flows.cdf_flow(2, bins=3, uniform=True, interval=(0.0, 0.3), key=KEY)
    kernel = NUTS(lambda: numpyro.sample("x", flow), forward_mode_differentiation=True)
    mcmc = MCMC(kernel, num_warmup=2, num_samples=2, progress_bar=False)
    mcmc.run(KEY)
    x = mcmc.get_samples()["x"]
    assert x.shape == (2, 2) and np.all((x >= 0) & (x <= 0.3))
    assert np.all(flow.support(jnp.array([[0.3, 0.0], [0.1, 0.4]])) == np.array([True, False]))
    assert isinstance(flow.support, type(constraints.independent(constraints.real, 1)))


# -- forward mode


@pytest.mark.parametrize("row", BIJECTORS, ids=lambda row: row.name)
def test_forward_mode_is_reverse_mode_of_bijectors(row):
    @jax.jit
    def both(b, x):
        def round_trip(x):
            y, log_det = b.forward_and_log_det(x)
            return y, log_det, b.inverse_and_log_det(jnp.sin(0.1) * y + (1 - jnp.sin(0.1)) * jax.lax.stop_gradient(y))

        out, pull_back = jax.vjp(round_trip, x)
        weights = jax.tree.map(lambda part: jnp.cos(jnp.arange(part.size) + 1.0).reshape(part.shape), out)
        direction = jnp.cos(jnp.arange(x.size) + 1.0).reshape(x.shape)
        dots = jax.jvp(round_trip, (x,), (direction,))[1]
        sums = jax.tree.map(lambda w, dot: jnp.sum(w * dot), weights, dots)
        return sum(jax.tree.leaves(sums)), jnp.sum(pull_back(weights)[0] * direction)

    np.testing.assert_allclose(*both(row.make(), row.event), rtol=1e-3, atol=1e-4)


# -- ranges of what constructors take

NAN, INF = float("nan"), float("inf")
VECTORS = {
    name: lambda dim, name=name, **how: getattr(flows, name)(dim, **{"layers": 2, "hidden": (4,)} | how, key=KEY)
    for name in ("nice", "real_nvp", "maf", "iaf", "nsf", "mixture_flow")
} | {
    "affine_flow": lambda dim: flows.affine_flow(dim, key=KEY),
    "cdf_flow": lambda dim, **how: flows.cdf_flow(dim, key=KEY, **how),
    "gaussian_mixture": lambda dim, components=2: mixtures.gaussian_mixture(dim, components=components, key=KEY),
    "histogram": lambda dim, **how: flows.histogram_flow(dim, **{"low": 0.0, "high": 1.0, "bins": 3} | how),
}
_layered = ("nice", "real_nvp", "maf", "iaf", "nsf", "mixture_flow")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((lambda i=i: Spline(jnp.zeros(11), interval=i), "interval") for i in [(NAN, 1.0), (-INF, 1.0), (2.0, 1.0)]),
        (lambda: Spline(jnp.zeros(11), interval=(1.0, 2.0, 3.0)), "interval"),
        *((lambda b=b: bijectors.SplineTransformer(b), "bins") for b in (0, 1000, 2.5, True)),
        (lambda: Spline(jnp.zeros(3 * 1000 - 1)), "bins"),
        (lambda: bijectors.SplineTransformer(4, (1.0, 0.0)), "interval"),
        *((lambda c=c: bijectors.AffineTransformer(c), "max_log_scale") for c in (-1.0, 0.0, NAN, INF)),
        *((lambda k=k: bijectors.MixtureCDFTransformer(k), "components") for k in (0, 2.5)),
        (lambda: bijectors.Composed([]), "transformers"),
        *((lambda c=c, d=d: c(d), "dim") for c in (bijectors.ActNorm, bijectors.Triangular) for d in (0, -1, 2.5)),
        *((lambda c=c, d=d: c(d, key=KEY), "dim")
          for c in (bijectors.LU, bijectors.Rotation, bijectors.Householder) for d in (0, -1, 2.5)),
        (lambda: bijectors.Householder(2, reflections=0, key=KEY), "reflections"),
        *((lambda r=r: bijectors.LowRank(4, r, key=KEY), "rank") for r in (0, 4, 1.5)),
        (lambda: bijectors.Reshape((-2,), (2, -1)), "shape_in"),
        (lambda: bijectors.Permute(()), "permutation"),
        (lambda: bijectors.Coupling(lambda x: x, bijectors.AffineTransformer(), split=1.5), "split"),
        *((lambda ends=ends: PiecewiseLinear(jnp.zeros(3), *ends), "low") for ends in [(NAN, 1.0), (1.0, 1.0)]),
        *((lambda f=f, d=d: f(d), "dim|order") for f in VECTORS.values() for d in (0, 2.5)),
        *((lambda f=f, n=n: VECTORS[f](2, layers=n), "layers") for f in _layered for n in (0, 1.5)),
        *((lambda f=f: VECTORS[f](2, dropout=1.0), "dropout rate") for f in _layered),
        *((lambda f=f, n=n: VECTORS[f](2, bins=n), "bins") for f in ("nsf", "cdf_flow") for n in (0, 2000)),
        (lambda: flows.histogram_flow(2, low=0.0, high=1.0, bins=0), "bins"),
        *((lambda f=f: VECTORS[f](2, interval=(1.0, NAN)), "interval") for f in ("nsf", "cdf_flow")),
        (lambda: flows.bayes_net_flow([[0, 0], [1, 0]], bins=0, key=KEY), "bins"),
        *((lambda f=f: VECTORS[f](2, components=0), "components") for f in ("gaussian_mixture", "mixture_flow")),
        (lambda: flows.on_levels(flows.real_nvp(2, key=KEY), (2,), 1), "levels"),
    ],
)  # fmt: skip
def test_ranges_of_arguments(make, name):
    with pytest.raises(ValueError, match=rf"^({name})(:| and)"):
        make()
