"""Networks: what each output may depend on, by perturbation and by gradients."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from registry import GRAPH

from probgen.core import Dependence, with_key
from probgen.inference.training.loop import is_slow_in_loops
from probgen.networks import MADE, MLP, CausalConvolution, GatedPixelCNN, ResidualMLP
from probgen.networks.convolution import box, convolve

KEY = jax.random.key(3)


def _dependence(function, x):
    """[outputs, inputs]: where a derivative is not zero."""
    jacobian = jax.jit(jax.jacobian(function))(x)
    return np.any(np.asarray(jacobian).reshape(x.size, -1, x.size) != 0, axis=1)


@pytest.mark.parametrize("order", [None, (2, 0, 3, 1)])
def test_made_depends_on_all_before_and_nothing_else(order):
    net = MADE(4, 3, hidden=(16, 16), order=order, activation=jnp.tanh, key=KEY)
    depends = _dependence(net, jax.random.normal(KEY, (4,)))
    place = np.argsort(range(4) if order is None else order)
    np.testing.assert_array_equal(depends, place[None, :] < place[:, None])


def test_made_of_one_dimension_is_a_constant_or_a_function_of_the_context():
    assert not _dependence(MADE(1, 2, hidden=(4,), key=KEY), jnp.ones(1)).any()
    net = MADE(1, 2, hidden=(4,), context_dim=3, key=KEY)
    assert np.all(jax.jacobian(net, 1)(jnp.ones(1), jnp.ones(3)) != 0)


def test_made_shows_the_context_to_every_output_through_hidden_units():
    net = MADE(3, 1, hidden=(8,), context_dim=2, key=KEY)
    second = jax.hessian(net, 1)(jnp.ones(3), jnp.ones(2))  # a linear path would give zero
    assert np.all(np.any(np.asarray(second) != 0, axis=(1, 2, 3)))


def test_masks_are_not_leaves():
    net = MADE(2, 1, hidden=(3,), key=KEY)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(net)) == [(2,), (2, 3), (3,), (3, 2)]


STRUCTURES = {
    "order": Dependence.in_order((3, 1, 0, 2)),
    "two passes": Dependence.in_order((3, 1, 0, 2), passes=2),
    "graph": Dependence.of_graph(GRAPH),
    "no edges": Dependence.of_graph(np.zeros((4, 4))),
    "many": Dependence.in_order(range(21)),
    "many, seven passes": Dependence.in_order(np.random.default_rng(0).permutation(21), passes=7),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(("hidden", "direct"), [((), False), ((24, 40), False), ((24, 40), True)])
def test_masked_networks_depend_on_parents_alone_and_their_steps_agree(name, hidden, direct):
    dependence = STRUCTURES[name]
    net = MADE(
        dependence.dim, 2, hidden=hidden, order=dependence, context_dim=2, direct=direct, activation=jnp.tanh, key=KEY
    )
    x, context = jax.random.normal(KEY, (dependence.dim,)), jnp.array([0.3, -1.0])
    np.testing.assert_array_equal(_dependence(lambda x: net(x, context), x), dependence.matrix)
    want, by_context = jax.jit(lambda x, c: (net(x, c), jax.jacobian(net, 1)(x, c)))(x, context)
    assert np.all(np.any(np.asarray(by_context) != 0, axis=(1, 2)))

    steps, numbers, want = net.sequential(), np.asarray(x), np.asarray(want)
    step = jax.jit(lambda *args: steps.step(*args))
    cache, value = jax.jit(lambda c: steps.init(c))(context), np.zeros(max(map(len, dependence.groups)), np.float32)
    for i, group in enumerate(dependence.groups):
        cache, raw = step(cache, value, i)
        np.testing.assert_allclose(np.asarray(raw)[: len(group)], want[np.array(group)], rtol=1e-4, atol=1e-5)
        value = np.zeros_like(value)
        value[: len(group)] = numbers[np.array(group)]


def test_a_graph_wants_a_unit_for_each_set_of_parents():
    with pytest.raises(ValueError, match="one a set of parents"):
        MADE(4, 1, hidden=(1,), order=Dependence.of_graph(GRAPH), key=KEY)
    with pytest.raises(ValueError, match="expected 3 variables"):
        MADE(3, 1, order=Dependence.of_graph(GRAPH), key=KEY)


def test_steps_with_dropout_are_refused():
    net = MADE(3, 1, hidden=(8,), dropout=0.5, key=KEY)
    net.sequential()
    with pytest.raises(ValueError, match="dropout"):
        with_key(net, KEY).sequential()


@pytest.mark.parametrize(
    ("adjacency", "words"),
    [
        ([[0, 1], [1, 0]], "0 → 1 → 0"),
        ([[1]], "0 → 0"),
        ([[0, 0, 1], [1, 0, 0], [0, 1, 0]], "cycle"),
        ([[0, 0, 0]], "square"),
    ],
)
def test_graphs_with_cycles_are_refused(adjacency, words):
    with pytest.raises(ValueError, match=words):
        Dependence.of_graph(adjacency)


def test_a_graph_is_sorted_by_longest_paths():
    chain_and_shortcut = np.zeros((4, 4))
    chain_and_shortcut[[0, 3, 1, 1], [2, 0, 3, 2]] = 1  # 2 → 0 → 3 → 1 and 2 → 1
    assert Dependence.of_graph(chain_and_shortcut).groups == ((2,), (0,), (3,), (1,))


@pytest.mark.parametrize("passes", [1, 5])
def test_passes_between_two_and_all(passes):
    with pytest.raises(ValueError, match="passes"):
        Dependence.in_order(range(4), passes=passes)


@pytest.mark.parametrize("order", [(0, 1), (0, 1, 1), (1, 2, 3)])
def test_made_refuses_an_order_that_is_no_permutation(order):
    with pytest.raises(ValueError, match=r"permutation|3 variables"):
        MADE(3, 1, order=order, key=KEY)


def test_causal_convolution_is_the_convolution():
    layer = CausalConvolution(2, 3, box((0, 1), (-1, 0, 1)), key=KEY)
    x = jax.random.normal(KEY, (5, 4, 2))
    # taps are listed from the position itself upwards and from right to left: a kernel, read backwards
    kernel = layer.linear.weight.T.reshape(2, 3, 2, 3)[::-1, ::-1]
    want = jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), ((1, 0), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layer(x), want[0], rtol=1e-4, atol=1e-5)


def test_gated_pixel_cnn_has_no_blind_spot():
    """Every pixel sees all before it in raster order, and none after: the masked kernels of 2016 missed some."""
    net = GatedPixelCNN((5, 5, 1), 2, channels=4, depth=4, key=KEY)
    depends = _dependence(net, jax.random.normal(KEY, (5, 5, 1)))
    np.testing.assert_array_equal(depends, np.tril(np.ones((25, 25), bool), -1))


def test_gated_pixel_cnn_sees_the_context_everywhere():
    net = GatedPixelCNN((3, 3, 1), 2, channels=4, depth=1, context_dim=2, key=KEY)
    jacobian = jax.jacobian(net, 1)(jnp.ones((3, 3, 1)), jnp.ones(2))
    assert np.all(np.any(np.asarray(jacobian) != 0, axis=(3, 4)))


def test_convolve_has_a_derivative_in_every_mode():
    keys = jax.random.split(KEY)
    x, kernel = jax.random.normal(keys[0], (4, 5, 2)), jax.random.normal(keys[1], (2, 4, 2, 3))
    for padding, stride in ((((1, 0), (2, 1)), 1), (((0, 1), (1, 1)), 2)):
        one = functools.partial(convolve, padding=padding, stride=stride)
        check_grads(one, (x, kernel), 2, modes=("fwd", "rev"), atol=0.05, rtol=0.05)


def test_the_gradient_of_a_convolution_runs_in_a_loop():
    """`fit` would dispatch step by step otherwise, because of jax#12868."""
    net, x = GatedPixelCNN((4, 4, 1), 2, channels=4, depth=2, key=KEY), jnp.ones((4, 4, 1))
    assert not is_slow_in_loops(jax.make_jaxpr(jax.grad(lambda net: net(x).sum()))(net))
    plain = eqx.nn.Conv2d(1, 1, 3, key=KEY)
    assert is_slow_in_loops(
        jax.make_jaxpr(jax.grad(lambda kernel: eqx.tree_at(lambda c: c.weight, plain, kernel)(x.T).sum()))(plain.weight)
    )


def test_sizes_may_be_numpy_integers():
    four, two = np.prod((2, 2)), np.int64(2)
    assert MLP(four, 3, hidden=(two,), context_dim=two, key=KEY)(jnp.ones(4), jnp.ones(2)).shape == (3,)
    assert MADE(four, two, hidden=(np.int32(8),), key=KEY)(jnp.ones(4)).shape == (4, 2)
    assert ResidualMLP(four, two, context_dim=two, width=four, key=KEY)(jnp.ones(4), jnp.ones(2)).shape == (2,)
    net = GatedPixelCNN((two, two, np.int64(1)), two, channels=four, depth=two, key=KEY)
    assert net(jnp.ones((2, 2, 1))).shape == (2, 2, 1, 2)
