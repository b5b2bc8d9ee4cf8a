"""Matrices as bijectors against NumPy, and layers that take their first numbers from data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from registry import KEY

from probgen import combine, partition
from probgen.bijectors import (
    LU,
    ActNorm,
    Affine,
    AffineTransformer,
    Chain,
    Concatenate,
    Coupling,
    Householder,
    Inverse,
    LowRank,
    Reverse,
    Rotation,
    Stacked,
    Triangular,
    Vmap,
)
from probgen.core import Contextual, bind, count_parameters
from probgen.distributions import ConditionalModel, Transformed, initialize
from probgen.networks import MLP

NORMAL = dist.Normal(jnp.zeros(3), 1.0).to_event(1)
LOWER = jnp.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [3.0, -1.0, 4.0]])
SHIFT = jnp.array([1.0, -2.0, 3.0])


def matrix(bijector, dim):
    """The bijector's matrix, and its shift beside it."""
    both = jax.jit(lambda b, x: (jax.jacobian(b.forward)(x), b.forward(x)))
    return jax.tree.map(np.asarray, both(bijector, jnp.zeros(dim)))


def noisy(bijector, sd):
    """The bijector with noise on what it learns."""
    params, rest = partition(bijector)
    keys = jax.random.split(KEY, len(params))
    moved = {path: leaf + sd * jax.random.normal(k, leaf.shape) for k, (path, leaf) in zip(keys, params.items())}
    return combine(moved, rest)


# -- against NumPy and numpyro


def test_triangular_is_the_multivariate_normal():
    flow = Transformed(NORMAL, Triangular.of(LOWER, SHIFT))
    exact = dist.MultivariateNormal(SHIFT, scale_tril=LOWER)
    x = exact.sample(KEY, (100,))
    np.testing.assert_allclose(jax.jit(lambda f, x: f.log_prob(x))(flow, x), exact.log_prob(x), rtol=1e-5)
    draws = jax.jit(lambda f: f.sample(KEY, (50_000,)))(flow)
    np.testing.assert_allclose(np.cov(draws.T), exact.covariance_matrix, atol=0.3)
    np.testing.assert_array_equal(Triangular(3).matrix, np.eye(3))
    np.testing.assert_allclose(jax.jit(lambda: Triangular.of(LOWER).matrix)(), LOWER, rtol=1e-6)
    assert count_parameters(Triangular(3)) == 3 + 6


@pytest.mark.parametrize(
    "given", [LOWER, -LOWER, jnp.eye(3)[::-1], jax.random.normal(KEY, (3, 3)), jnp.diag(jnp.array([1e-8, -1.0, 1e8]))]
)
def test_lu_is_the_matrix_that_was_given(given):
    found, shift = matrix(LU.of(given, SHIFT), 3)
    np.testing.assert_allclose(found, given, rtol=1e-5, atol=1e-9 if given[0, 0] == 1e-8 else 1e-6)
    np.testing.assert_allclose(shift, SHIFT)
    with_jit, _ = matrix(jax.jit(LU.of)(given, SHIFT), 3)  # what is traced is not looked at
    np.testing.assert_allclose(with_jit, found, rtol=1e-5, atol=1e-6)
    jax.jit(lambda: LU.of(given))()  # (constants may be)


@pytest.mark.parametrize("make", [LU, Householder, Rotation])
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_orthogonal_at_the_start(make, dim):
    q, _ = matrix(make(dim, key=KEY), dim)
    np.testing.assert_allclose(q @ q.T, np.eye(dim), atol=1e-5)


def test_round_trips_of_large_matrices():
    x = jax.random.normal(KEY, (512, 64))
    for bijector in (LU(64, key=KEY), Householder(64, key=KEY), LowRank(64, 8, key=KEY), Triangular(64)):
        bijector = noisy(bijector, 0.1)
        y, forward = jax.jit(lambda b, x: b.forward_and_log_det(x))(bijector, x)
        back, inverse = jax.jit(lambda b, y: b.inverse_and_log_det(y))(bijector, y)
        np.testing.assert_allclose(back, x, atol=2e-4)
        np.testing.assert_allclose(forward, -inverse)
        np.testing.assert_allclose(forward[0], np.linalg.slogdet(matrix(bijector, 64)[0])[1], atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_householder_is_a_product_of_reflections(count):
    mix = Householder(3, reflections=count, key=KEY)
    product = np.eye(3)
    for v in np.asarray(mix.vectors, np.float64):
        product = product @ (np.eye(3) - 2 * np.outer(v, v) / (v @ v))
    np.testing.assert_allclose(matrix(mix, 3)[0], product, atol=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-40, 1e-25, 1e25])
def test_householder_at_any_length_of_its_vectors(size):
    mix = Householder(3, reflections=2, key=KEY)
    wild = jax.tree.map(lambda leaf: leaf.at[0].multiply(size), mix)
    q, _ = matrix(wild, 3)
    np.testing.assert_allclose(q @ q.T, np.eye(3), atol=1e-5)
    gradient = jax.grad(lambda b: jnp.sum(jnp.sin(b.forward(SHIFT))))(wild)
    if size != 1e-40:  # where the gradient is about 1e40, and rightly so
        assert np.isfinite(gradient.vectors).all()


def test_low_rank_is_a_diagonal_and_a_matrix_of_that_rank():
    bijector = noisy(LowRank(6, 2, key=KEY), 0.5)
    w, _ = matrix(bijector, 6)
    rest = w - np.diag(np.exp(bijector.log_diagonal))
    values = np.linalg.svd(rest)[1]
    assert values[1] > 1e-2 and values[2] < 1e-5
    assert not np.allclose(rest, rest.T, atol=1e-2)  # U Vᵀ and not only U Uᵀ


@pytest.mark.parametrize("sd", [1.0, 5.0])
def test_low_rank_is_never_singular(sd):
    def facts(key):
        bijector = LowRank(5, 2, key=key)
        new = (sd * bijector.across * 5, sd * jax.random.normal(key, (2, 2)))
        bijector = eqx.tree_at(lambda b: (b.across, b.packed), bijector, new)
        return jax.jacobian(bijector.forward)(jnp.ones(5)), bijector.forward_and_log_det(jnp.ones(5))[1]

    matrices, log_dets = jax.jit(jax.vmap(facts))(jax.random.split(KEY, 100))
    for w, log_det in zip(np.asarray(matrices, np.float64), log_dets):
        sign, exact = np.linalg.slogdet(w)
        condition = np.linalg.cond(w)  # what float32 leaves of the matrix's own determinant
        assert sign == 1 or condition > 1e6
        np.testing.assert_allclose(log_det, exact, atol=1e-4 + 1e-6 * condition)


@pytest.mark.parametrize("make", [Householder, lambda dim, key: LowRank(dim, 2, key=key), LU])
@pytest.mark.parametrize("size", [1e-3, 30.0, 1e4])
def test_extremes_stay_finite(make, size):
    bijector = make(4, key=KEY)
    wild = jax.tree.map(lambda leaf: leaf * size if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, bijector)
    if isinstance(bijector, LU):  # exp of more than about 20 is infinite after a few products, and rightly so
        wild = jax.tree.map(lambda leaf: jnp.clip(leaf, -8.0, 8.0) if leaf.dtype == jnp.float32 else leaf, wild)
    for direction in ("forward_and_log_det", "inverse_and_log_det"):
        loss = lambda b, x: sum(jnp.sum(part) for part in getattr(b, direction)(x))  # noqa: B023
        params, rest = partition(wild)
        both = jax.jit(jax.value_and_grad(lambda p, x: loss(combine(p, rest), x), (0, 1)))  # noqa: B023
        value, gradients = both(params, jnp.ones(4))
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LU.of(jnp.array([[1.0, 2.0], [2.0, 4.0]])), "singular"),
        (lambda: LU.of(jnp.array([[0.1, 0.2], [0.3, 0.6]])), "singular"),
        (lambda: LU.of(jnp.zeros((2, 2))), "singular"),
        (lambda: LU.of(jnp.ones((2, 3))), "square"),
        (lambda: LU.of(jnp.ones(3)), "square"),
        (lambda: LU.of(jnp.array([[1.0, jnp.nan], [0.0, 1.0]])), "finite"),
        (lambda: LU.of(jnp.eye(2), jnp.zeros(3)), "shift"),
        (lambda: Triangular.of(LOWER.T), "lower triangle"),
        (lambda: Triangular.of(LOWER - 2 * jnp.eye(3)), "positive diagonal"),
        (lambda: Triangular.of(jnp.ones((2, 3))), "square"),
        (lambda: LowRank(3, 3, key=KEY), "rank"),
        (lambda: LowRank(3, 0, key=KEY), "rank"),
        (lambda: Householder(3, reflections=0, key=KEY), "reflections"),
        (lambda: LU(3, key=KEY).forward(jnp.ones(4)), "4"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


# -- data-dependent initialization

DATA = jnp.array([3.0, -1.0, 0.01]) + jnp.array([2.0, 30.0, 1e-3]) * jax.random.normal(jax.random.key(1), (200, 3))


def coupling(key, context_dim=None):
    net = MLP(1, 4, hidden=(8,), out_scale=1.0, context_dim=context_dim, key=key)
    return Coupling(Contextual(net) if context_dim else net, AffineTransformer(), split=1)


def layer(key):
    return Chain([ActNorm(3), coupling(key), LU(3, key=key)])


def standard(z, axes=0):
    np.testing.assert_allclose(jnp.mean(z, axes), 0.0, atol=1e-3)
    np.testing.assert_allclose(jnp.std(z, axes), 1.0, atol=1e-3)


@pytest.mark.parametrize("inverse", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: ActNorm(3),
        lambda: Inverse(ActNorm(3)),
        lambda: Concatenate([ActNorm(1), Chain([ActNorm(2), Reverse()])], (1, 2)),
    ],
)
def test_what_leaves_an_act_norm_is_standardized(make, inverse):
    new, z = make().initialize(DATA, inverse=inverse)
    standard(z)
    np.testing.assert_allclose((new.inverse if inverse else new.forward)(DATA), z, atol=1e-4)


def test_stacked_layers_each_see_what_reaches_them():
    flow = Stacked(jax.vmap(layer)(jax.random.split(KEY, 3)))
    new, z = flow.initialize(DATA, inverse=True)
    assert jax.tree.structure(new) == jax.tree.structure(flow)
    x = DATA
    for i in range(3):
        one = jax.tree.map(lambda leaf: leaf[i], new.layers)  # noqa: B023
        standard(one.bijectors[0].inverse(x))
        x = one.inverse(x)
    np.testing.assert_allclose(x, z, atol=1e-3)


def test_copies_each_see_their_row():
    rows = jnp.stack([DATA, 5.0 - 3.0 * DATA], 1)
    new, z = Vmap(jax.vmap(layer)(jax.random.split(KEY, 2))).initialize(rows, inverse=True)
    np.testing.assert_allclose(new.inverse(rows), z, atol=1e-3)
    np.testing.assert_allclose(new.copies.bijectors[0].shift, jnp.mean(rows, 0), atol=1e-3)


def test_an_act_norm_within_a_larger_event_averages_over_its_rows():
    rows = jnp.stack([DATA, 5.0 - 3.0 * DATA], 1)
    standard(ActNorm(3).initialize(rows, inverse=True)[1], (0, 1))


def test_constant_columns_and_small_batches_stay_finite():
    data = DATA.at[:, 1].set(0.1).at[:, 2].set(0.0)
    for batch in (data, data[:1], 1e6 + 0 * data):
        new, z = ActNorm(3).initialize(batch, inverse=True)
        assert np.isfinite(z).all() and np.abs(z).max() < 10
        x = jnp.array([100.0, 3.0, -5.0])
        assert np.isfinite(new.inverse(x)).all()


def test_flows_are_initialized_whole():
    inner = Transformed(NORMAL, Stacked(jax.vmap(layer)(jax.random.split(KEY, 2))))
    flow = Transformed(inner, ActNorm(3))
    new = initialize(flow, DATA)
    z = new.bijector.inverse(DATA)
    standard(z)
    standard(jax.tree.map(lambda leaf: leaf[0], new.base.bijector.layers.bijectors[0]).inverse(z))
    assert np.mean(new.log_prob(DATA)) > np.mean(flow.log_prob(DATA))
    assert jax.tree.structure(new) == jax.tree.structure(flow)
    kept = Transformed(NORMAL, Affine(SHIFT, SHIFT))  # an Affine keeps the numbers that it was given
    np.testing.assert_array_equal(initialize(kept, DATA).bijector.shift, SHIFT)


def test_conditional_flows_are_initialized_with_a_context_for_each_row():
    context = jax.random.normal(KEY, (200, 2))
    layers = jax.vmap(lambda key: Chain([ActNorm(3), coupling(key, context_dim=2)]))(jax.random.split(KEY, 2))
    flow = Transformed(NORMAL, Chain([Reverse(), Stacked(layers)]))
    conditional = ConditionalModel(flow, (2,))
    new = initialize(conditional, DATA, context)
    assert jax.tree.structure(new) == jax.tree.structure(conditional)
    x = DATA[:, ::-1]
    for i in range(2):
        one = jax.tree.map(lambda leaf: leaf[i], new.model.bijector.bijectors[1].layers)  # noqa: B023
        standard(one.bijectors[0].inverse(x))
        x = jax.vmap(lambda c, x: bind(one, c).inverse(x))(context, x)  # noqa: B023
    assert np.isfinite(new(context).log_prob(DATA)).all()
    for bad in (None, context[:3]):
        with pytest.raises(ValueError, match="context"):
            initialize(conditional, DATA, bad)


@pytest.mark.parametrize(
    ("model", "batch", "words"),
    [
        (Transformed(NORMAL, ActNorm(3)), jnp.ones((5, 4)), "batch"),
        (Transformed(NORMAL, ActNorm(3)), jnp.ones(3), "batch"),
        (Transformed(NORMAL, ActNorm(3)), jnp.ones((0, 3)), "batch"),
        (Transformed(NORMAL, ActNorm(3)), jnp.array([[1.0, jnp.nan, 2.0]]), "finite"),
        (Transformed(NORMAL, Chain([dist.transforms.ExpTransform(), ActNorm(3)])), -jnp.ones((5, 3)), "finite"),
        (NORMAL, jnp.ones((5, 3)), "model"),
    ],
)
def test_batches_that_do_not_fit_are_refused(model, batch, words):
    with pytest.raises(ValueError, match=words):
        initialize(model, batch)
