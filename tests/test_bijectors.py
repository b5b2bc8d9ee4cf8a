"""The laws of bijectors, over the registry; and what is particular to some of them."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from registry import BIJECTORS, KEY

from probgen import partition, testing
from probgen.bijectors import (
    ActNorm,
    Affine,
    AffineTransformer,
    Chain,
    Constant,
    Coupling,
    Inverse,
    LeakyReLU,
    Logit,
    Permute,
    Power,
    Reshape,
    Sigmoid,
    Stacked,
    stack,
)
from probgen.bijectors.support import UnknownSupport
from probgen.distributions import Transformed
from probgen.networks import MLP


@pytest.mark.parametrize("row", BIJECTORS, ids=lambda row: row.name)
def test_laws(row):
    bijector = row.make()
    if "log_det = autodiff" in row.exceptions:
        y, log_det = bijector.forward_and_log_det(row.event)
        x, inverse = bijector.inverse_and_log_det(y)
        np.testing.assert_allclose(x, row.event, rtol=1e-5)
        np.testing.assert_allclose(log_det, -inverse, rtol=1e-5)
    else:
        testing.check_bijector(bijector, row.event)
    assert isinstance(bijector, distrax.Bijector)
    assert bijector.inverse_shape(bijector.forward_shape(row.event.shape)) == row.event.shape


SCALED = ("coupling", "stacked", "affine", "sigmoid", "logit")


@pytest.mark.parametrize("row", [row for row in BIJECTORS if row.name.startswith(SCALED)], ids=lambda row: row.name)
@pytest.mark.parametrize("size", [30.0, 1e4])
def test_extremes_stay_finite(row, size):
    wild = jax.tree.map(lambda leaf: leaf * size if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, row.make())
    if row.name == "affine":
        wild = Affine(wild.shift, jnp.clip(wild.log_scale, -20.0, 20.0))  # exp of more is infinite, and rightly so
    x = row.event if row.name == "logit" else row.event * size
    for direction in ("forward_and_log_det", "inverse_and_log_det"):
        if row.name == "sigmoid" and direction == "inverse_and_log_det":
            x = jnp.array(1.0)  # rounded to the boundary
        if row.name == "logit" and direction == "forward_and_log_det":
            x = jnp.array(0.0)
        loss = lambda b, x: sum(jnp.sum(part) for part in getattr(b, direction)(x))  # noqa: B023
        value, gradient = jax.jit(jax.value_and_grad(loss, argnums=1))(wild, x)
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_chain_order_is_distrax():
    x = jnp.array(0.3)
    ours = Chain([Sigmoid(), Affine(1.0, 0.5)]).forward(x)
    theirs = distrax.Chain([distrax.Sigmoid(), distrax.ScalarAffine(1.0, log_scale=0.5)]).forward(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_stacked_is_a_chain():
    layers = [
        Coupling(MLP(1, 2, hidden=(4,), out_scale=1.0, key=k), AffineTransformer(), split=1)
        for k in jax.random.split(KEY, 3)
    ]
    x = jnp.array([0.3, -1.0])
    for a, b in zip(stack(layers).forward_and_log_det(x), Chain(layers).forward_and_log_det(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_compiled_size_does_not_grow_with_depth():
    def size(depth):
        layers = stack([Coupling(MLP(1, 2, hidden=(4,), key=KEY), AffineTransformer(), split=1)] * depth)
        return len(str(jax.make_jaxpr(lambda b, x: jax.grad(lambda b: b.forward(x).sum())(b))(layers, jnp.ones(2))))

    assert size(32) < 1.05 * size(4)


def test_a_part_of_distrax_takes_ours():
    chain = distrax.Chain([distrax.Tanh(), Affine(0.0, 0.0)])
    np.testing.assert_allclose(chain.forward(jnp.array(0.5)), np.tanh(0.5), rtol=1e-6)
    d = distrax.Transformed(distrax.Normal(0.0, 1.0), Affine(1.0, 0.0))
    np.testing.assert_allclose(d.log_prob(jnp.array(1.0)), -0.5 * np.log(2 * np.pi), rtol=1e-6)


_SIGMOID = dist.transforms.SigmoidTransform()
_affine_on = lambda domain: dist.transforms.AffineTransform(0.0, -2.0, domain)


@pytest.mark.parametrize(
    ("base", "bijector", "expected"),
    [
        (dist.Normal(), Sigmoid(), constraints.unit_interval),
        (dist.Normal(), Chain([distrax.ScalarAffine(0.0, 17.0), Sigmoid()]), constraints.interval(0.0, 17.0)),
        (dist.Exponential(), Affine(1.0, 0.0), constraints.greater_than(1.0)),
        (dist.Uniform(), Logit(), constraints.real),
        (dist.Normal(), distrax.Tanh(), constraints.interval(-1.0, 1.0)),
        (dist.Normal(), Inverse(Affine(1.0, 0.0)), constraints.real),
        (dist.Normal(), dist.transforms.ExpTransform(), constraints.positive),
        # decreasing maps exchange the ends
        (dist.HalfNormal(), distrax.ScalarAffine(0.0, -2.0), constraints.less_than(0.0)),
        (dist.HalfNormal(), dist.transforms.AffineTransform(0.0, -2.0), constraints.less_than(0.0)),
        (dist.HalfNormal(), _affine_on(constraints.positive), constraints.less_than(0.0)),
        (dist.HalfNormal(), _affine_on(constraints.positive).inv, constraints.less_than(0.0)),
        (dist.Uniform(1.0, 2.0), distrax.ScalarAffine(0.0, -2.0), constraints.interval(-4.0, -2.0)),
        (dist.Uniform(1.0, 2.0), Inverse(distrax.ScalarAffine(0.0, -2.0)), constraints.interval(-1.0, -0.5)),
        (dist.Uniform(1.0, 2.0), dist.transforms.PowerTransform(-1.0), constraints.interval(0.5, 1.0)),
        (dist.HalfNormal(), Chain([Sigmoid(), distrax.ScalarAffine(0.0, -2.0)]), constraints.interval(0.0, 0.5)),
        (dist.Uniform(), Chain([distrax.ScalarAffine(0.0, -1.0), Logit()]), constraints.real),
        (
            dist.LogNormal(),
            Chain([distrax.ScalarAffine(-60.0, -1.0), distrax.Lambda(jnp.exp)]),
            constraints.less_than(-61.0),
        ),
        (
            dist.Uniform(1.0, 2.0),
            distrax.ScalarAffine(0.0, jnp.array([1.0, -2.0])),
            constraints.interval([1, -4], [2, -2]),
        ),
        # compositions of what is known
        (dist.Normal(), distrax.Shift(1.0), constraints.real),
        (dist.HalfNormal(), distrax.Shift(1.0), constraints.greater_than(1.0)),
        (dist.Normal(), distrax.GumbelCDF(), constraints.unit_interval),
        (
            dist.Uniform(-0.5, 0.5),
            distrax.Inverse(distrax.Tanh()),
            constraints.interval(np.arctanh(-0.5), np.arctanh(0.5)),
        ),
        (dist.Normal(), distrax.Inverse(distrax.Inverse(distrax.Tanh())), constraints.interval(-1.0, 1.0)),
        (
            dist.Normal(),
            distrax.Chain([distrax.ScalarAffine(1.0, -3.0), distrax.Tanh()]),
            constraints.interval(-2.0, 4.0),
        ),
        (
            dist.Normal(),
            dist.transforms.ComposeTransform([_SIGMOID, _affine_on(constraints.real)]),
            constraints.interval(-2.0, 0.0),
        ),
        (dist.Uniform(), _SIGMOID.inv, constraints.real),
        (dist.HalfNormal(), Constant(Affine(1.0, 0.0)), constraints.greater_than(1.0)),
    ],
)
def test_support_is_the_image_of_the_base(base, bijector, expected):
    support = Transformed(base, bijector).support
    for name in ("lower_bound", "upper_bound"):
        assert hasattr(support, name) == hasattr(expected, name)
        if hasattr(expected, name):
            np.testing.assert_allclose(getattr(support, name), getattr(expected, name))


@pytest.mark.parametrize("make", [lambda v: Affine(v, 0 * v), lambda v: LeakyReLU(v), lambda v: Power(v)])
def test_elementwise_bijectors_of_vectors_move_scalar_ends(make):
    bijector = make(jnp.array([1.0, 2.0]))
    for base in (dist.HalfNormal(jnp.ones(2)), dist.Uniform(jnp.ones(2), 2.0)):
        flow = Transformed(base.to_event(1), bijector)
        x = flow.sample(KEY, (50,))
        assert flow.support.event_dim == 1 and flow.support(x).all()
        assert not flow.support(bijector.forward(jnp.array([-0.1, 1.5]))).any() or isinstance(bijector, Power)
        assert Transformed(flow, Inverse(bijector)).support(bijector.inverse(x)).all()


def test_blocks_map_supports_number_by_number():
    base = dist.HalfNormal(jnp.ones(2)).to_event(1)
    flow = Transformed(base, distrax.Block(distrax.ScalarAffine(jnp.array([1.0, 2.0]), -jnp.ones(2)), 1))
    assert flow.support.event_dim == 1
    np.testing.assert_allclose(flow.support.base_constraint.upper_bound, [1.0, 2.0])
    both = dist.transforms.IndependentTransform(dist.transforms.AffineTransform(0.0, -2.0), 1)
    assert Transformed(base, both).support.base_constraint.upper_bound == 0.0


def test_support_follows_values_or_is_not_known():
    half, affine = dist.HalfNormal(), lambda scale: distrax.ScalarAffine(jnp.zeros_like(scale), scale)
    with pytest.raises(UnknownSupport):  # one falls and one rises: no half-line
        Transformed(half, affine(jnp.array([1.0, -1.0]))).support  # noqa: B018

    constant = Transformed(half, affine(jnp.array(-2.0)))  # jit need not trace it

    @jax.jit
    def inside(scale, u):  # a traced scale
        flow = Transformed(dist.Uniform(1.0, 2.0), affine(scale))
        with pytest.raises(UnknownSupport):
            Transformed(half, affine(scale)).support  # noqa: B018
        with pytest.raises(UnknownSupport):
            Transformed(half, dist.transforms.AffineTransform(0.0, scale, constraints.positive)).support  # noqa: B018
        return flow.support(flow.bijector.forward(u)), constant.support.upper_bound

    scale, u = jnp.array([3.0, -3.0]), jnp.linspace(1.0, 2.0, 8)[:, None]
    ok, end = inside(scale, u)
    assert ok.all() and end == 0.0
    flow = Transformed(half, affine(jnp.array(2.0)))
    flipped = jax.tree.map(lambda leaf: -leaf if leaf == 2.0 else leaf, flow)  # scale, not its logarithm or inverse
    assert flow.support.lower_bound == 0.0 and flipped.support.upper_bound == 0.0


@pytest.mark.parametrize(
    "bijector",
    [
        distrax.Shift(1.0),
        distrax.Inverse(distrax.Tanh()),
        distrax.Chain([distrax.Tanh(), distrax.ScalarAffine(0.0, 0.1)]),
        distrax.GumbelCDF(),
        distrax.Chain([distrax.Inverse(distrax.Sigmoid()), distrax.ScalarAffine(0.5, 0.1)]),
    ],
    ids=lambda b: b.name,
)
def test_elementwise_bijectors_of_distrax_are_constants_anywhere(bijector):
    testing.check_bijector(Constant(bijector), jnp.array(0.3))
    x = jnp.array([0.2, 0.3])
    chain = Chain([bijector, Affine(jnp.zeros(2), jnp.zeros(2))])
    np.testing.assert_allclose(chain.inverse(chain.forward(x)), x, rtol=1e-4)
    assert set(partition(chain)[0]) == {"bijectors.1.shift", "bijectors.1.log_scale"}


def test_a_coupling_of_channels_is_that_of_the_flat_image():
    """The network of an image [2, 2, 3] sees one channel as [2, 2, 1], and says [2, 2, 2 · 2]: the same here."""
    shapes, raw = [], jax.random.normal(KEY, (2, 2, 4))
    image = Coupling(lambda x: (shapes.append(x.shape), raw * x)[1], AffineTransformer(), split=1, event_ndims=3)
    mask = np.broadcast_to(np.arange(3) < 1, (2, 2, 3))
    vector = Coupling(lambda x: (raw * x.reshape(2, 2, 1)).ravel(), AffineTransformer(), mask=mask.ravel())
    x = jax.random.normal(jax.random.key(1), (5, 2, 2, 3))
    y, log_det = image.forward_and_log_det(x)
    expected, log_det_of_vector = vector.forward_and_log_det(x.reshape(5, 12))
    np.testing.assert_allclose(y.reshape(5, 12), expected, rtol=1e-6)
    np.testing.assert_allclose(log_det, log_det_of_vector, rtol=1e-6)
    np.testing.assert_allclose(image.inverse(y), x, rtol=1e-5, atol=1e-6)
    assert set(shapes) == {(2, 2, 1)} and image.event_ndims_in == 3


def test_support_that_is_not_known_is_refused():
    flow = Transformed(
        dist.Exponential(jnp.ones(2)).to_event(1),
        Coupling(MLP(1, 2, hidden=(4,), key=KEY), AffineTransformer(), split=1),
    )
    with pytest.raises(ValueError, match="cannot say where"):
        flow.support  # noqa: B018


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Coupling(lambda x: x, AffineTransformer()), "split or mask"),
        (lambda: Coupling(lambda x: x, AffineTransformer(), mask=(True, True)), "some True and some False"),
        (lambda: Coupling(lambda x: x, AffineTransformer(), mask=(1.0, 0.0)), "mask: expected booleans"),
        (
            lambda: Coupling(lambda x: jnp.zeros((4, 2, 3)), AffineTransformer(), split=1, event_ndims=3).forward(
                jnp.ones((2, 3, 3))  # channels first, where they should be last
            ),
            "conditioner",
        ),
        (lambda: Stacked([Affine(jnp.ones(2), jnp.ones(2))] * 2), "layers: expected one bijector"),
        (lambda: Coupling(lambda x: x, AffineTransformer(), mask=(True, False), event_ndims=2), "rank of the mask"),
        (lambda: Coupling(lambda x: x, AffineTransformer(), split=1, event_ndims=0), "event_ndims"),
        (lambda: Coupling(lambda x: x, AffineTransformer(), split=1).forward(jnp.ones(1)), "leaves nothing"),
        (lambda: Coupling(lambda x: x, AffineTransformer(), split=1).forward(jnp.ones(2)), "conditioner"),
        (lambda: Permute((0, 2)), "permutation"),
        (lambda: Reshape((4,), (3,)), "shape_out"),
        (lambda: Chain([]), "bijectors"),
        (lambda: Constant(distrax.Lambda(jnp.sinh)), "codomain"),
        (lambda: Constant(distrax.Chain([distrax.Tanh(), distrax.Lambda(jnp.sinh)])), "codomain"),
        (lambda: Constant(distrax.Inverse(distrax.Lambda(jnp.sinh))), "codomain"),
        (lambda: Chain([distrax.ScalarAffine(jnp.zeros(3), jnp.ones(3)), Sigmoid()]).forward(jnp.ones(3)), "Block"),
        (lambda: stack([Affine(0.0, 0.0), Sigmoid()]), "layers"),
        (lambda: Affine(jnp.zeros(2), jnp.zeros(2)).forward(jnp.array(1.0)), "event"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("row", BIJECTORS, ids=lambda row: row.name)
def test_events_that_the_parameters_do_not_fit_are_refused(row):
    """Parameters of one number would broadcast over an event of three, and count their log-scale once."""
    bijector = row.make()
    own = bijector.event_shape
    if not own:
        return
    wrong = jnp.zeros((*own[:-1], own[-1] + 1))
    for use in (bijector.forward_and_log_det, bijector.inverse_and_log_det, lambda x: bijector.forward_shape(x.shape)):
        with pytest.raises(ValueError, match="takes events of shape"):
            use(wrong)


def test_a_wrong_size_is_found_when_the_flow_is_built():
    base = dist.Normal(jnp.zeros(3), 1.0).to_event(1)
    for part in (Affine(jnp.zeros(1), jnp.ones(1)), Chain([Sigmoid(), ActNorm(1)])):
        with pytest.raises(ValueError, match=r"takes events of shape \(1,\), got shape \(3,\)"):
            Transformed(base, part)
