"""How networks start: the spread of hidden layers, and discrete models at the frequencies of their data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probgen import autoregressive
from probgen.autoregressive import Autoregressive, Order
from probgen.core import Contextual
from probgen.distributions import ConditionalModel, NormalHead, initialize
from probgen.networks import MADE, MLP, Pixels

KEY = jax.random.key(0)


@pytest.mark.parametrize("build", [MLP, MADE])
def test_hidden_layers_start_as_equinox_and_pytorch_have_theirs(build):
    network = build(50, 2, hidden=(400, 300), context_dim=14, out_scale=0.0, key=KEY)
    inputs = 64 if build is MLP else 50
    layers = [(network.layers[0], inputs), (network.layers[1], 400)]
    if build is MADE:
        layers.append((network.context, 14))
    for layer, size in layers:
        for numbers in map(np.asarray, (layer.weight, layer.bias)):
            assert np.abs(numbers).max() <= size**-0.5
            np.testing.assert_allclose(numbers.std(), (3 * size) ** -0.5, rtol=0.1)
            assert abs(numbers.mean()) < 0.1 * size**-0.5
    assert not np.any(network.layers[-1].weight) and not np.any(network.layers[-1].bias)


def last_weights(network):
    if isinstance(network, Contextual | Pixels):
        return last_weights(network.network)
    if isinstance(network, MADE):
        return network.layers[-1].weight
    return network.out.out.weight if hasattr(network.out, "out") else network.out.weight


AT_EACH, AT_CHANNEL, AT_ALL = (0,), (0, 1, 2), (0, 1)  # the axes of the data that share a histogram


@pytest.mark.parametrize(
    ("build", "levels", "axes"),
    [
        (lambda: autoregressive.made((5,), 2, hidden=(8,), key=KEY), 2, AT_EACH),
        (lambda: autoregressive.made((4,), 3, hidden=(8,), order=(2, 0, 3, 1), context_dim=2, key=KEY), 3, AT_EACH),
        (lambda: autoregressive.gated_pixel_cnn((3, 2, 2), 3, channels=4, depth=1, key=KEY), 3, AT_CHANNEL),
        (lambda: autoregressive.char_rnn(6, 2, width=4, key=KEY), 2, AT_ALL),
    ],
)
def test_discrete_models_start_at_the_histogram_of_their_data(build, levels, axes):
    """With last weights of zero, log p is that of independent numbers of the smoothed frequencies."""
    model = build()
    inner = model.model if isinstance(model, ConditionalModel) else model
    x = np.random.default_rng(0).integers(0, levels, (9, *inner.event_shape))
    x[:, ..., 0] = 0  # a number that is always the same
    context = None if inner is model else jnp.ones((9, 2))
    new = initialize(model, x, context)
    assert jax.tree.structure(new) == jax.tree.structure(model)
    where = lambda m: last_weights((m.model if isinstance(m, ConditionalModel) else m).network)
    new = eqx.tree_at(where, new, np.zeros(where(new).shape, np.float32))
    axes = tuple(axis for axis in axes if axis < x.ndim)
    counts = np.stack([(x == level).sum(axes) for level in range(levels)], -1)
    logs = np.broadcast_to(
        np.log((counts + 0.5) / (counts.sum(-1, keepdims=True) + levels / 2)), (*x.shape[1:], levels)
    )
    want = sum(logs[index][x[(slice(None), *index)]] for index in np.ndindex(x.shape[1:]))
    got = jax.jit(lambda new: (new if context is None else new(context)).log_prob(x))(new)
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_models_that_cannot_be_set_from_data_are_refused():
    x = jnp.zeros((4, 3), int)
    orders = [Order.raster((3,)), Order.raster((3,)).reversed()]
    with pytest.raises(ValueError, match="OrderEnsemble"):  # whose rows belong to places in several orders
        initialize(autoregressive.made((3,), 2, hidden=(4,), orders=orders, key=KEY), x)
    with pytest.raises(ValueError, match="head: expected a Bernoulli"):
        initialize(Autoregressive(MADE(3, 2, hidden=(4,), key=KEY), NormalHead(), (3,)), x)
    model = autoregressive.made((3,), 2, hidden=(4,), key=KEY)
    with pytest.raises(ValueError, match="network: expected one of"):
        initialize(model.replace(network=lambda x: jnp.zeros((3, 1))), x)
    with pytest.raises(ValueError, match="batch"):
        initialize(model, jnp.zeros((4, 2), int))
    with pytest.raises(ValueError, match="outside"):
        initialize(model, x + 2)
