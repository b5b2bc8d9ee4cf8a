"""Networks of other libraries: they train, and their files load, as ours do."""

import equinox as eqx
import flax.nnx as nnx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import probgen
from probgen.autoregressive import Autoregressive
from probgen.bijectors import AffineTransformer, Coupling
from probgen.distributions import CategoricalHead, Conditional, ConditionalModel, NormalHead, Transformed
from probgen.flows.layers import standard_normal
from probgen.latent import LatentVariableModel
from probgen.networks import WithParams

KEY = jax.random.key(0)
LINEAR = {"w": 0.1 * jnp.ones((2, 1)), "b": jnp.zeros(2)}


def of_flax(key):
    graph, params = nnx.split(nnx.Linear(1, 2, rngs=nnx.Rngs(0)), nnx.Param)
    return WithParams(lambda params, x: nnx.merge(graph, params)(x), params.to_pure_dict())


def of_haiku(key):
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([4, 2])(x)))
    return WithParams(network.apply, network.init(key, jnp.zeros(1)))


NETWORKS = {
    "equinox": lambda key: eqx.nn.MLP(1, 2, 4, 1, activation=jnp.tanh, key=key),
    "flax": of_flax,
    "haiku": of_haiku,
    "function": lambda key: WithParams(lambda params, x: params["w"] @ x + params["b"], LINEAR),
}


def flow(network):
    return Transformed(standard_normal(2), Coupling(network, AffineTransformer(), split=1))


@pytest.mark.parametrize("name", NETWORKS)
def test_they_train_and_their_files_load(name, tmp_path):
    model, x = flow(NETWORKS[name](KEY)), jax.random.normal(KEY, (50, 2)) * jnp.array([1.0, 3.0])
    result = probgen.fit(model, x, steps=30, optimizer=optax.adam(0.05), key=KEY, progress=False)
    assert np.mean(result.losses[-5:]) < result.losses[0] - 0.3
    file = tmp_path / "model"
    with pytest.warns(UserWarning, match="like="):
        probgen.save(file, result.model)
    again = probgen.load(file, like=model)
    np.testing.assert_array_equal(again.log_prob(x), result.model.log_prob(x))


def test_functions_among_the_leaves_are_static():
    mlp = eqx.nn.MLP(2, 4, 4, 1, key=KEY)
    conditional = Conditional(mlp, NormalHead(), (2,))
    of_one = Conditional(eqx.nn.MLP(1, 4, 4, 1, key=KEY), NormalHead(), (2,))
    vae = LatentVariableModel(standard_normal(2), lambda z: Conditional(lambda z: z, NormalHead(), (1,))(z), of_one)
    models = [
        flow(eqx.nn.MLP(1, 2, 4, 1, key=KEY)),
        Autoregressive(lambda x: jnp.zeros((2, 3)), CategoricalHead(3), (2,)),
        ConditionalModel(standard_and_learned(), (2,), mlp),
        vae,
    ]
    for model in (conditional, *models):
        assert all(eqx.is_array_like(leaf) for leaf in jax.tree.leaves(model)), model
        jax.jit(lambda m: m)(model)


def standard_and_learned():
    return Transformed(standard_normal(2), probgen.bijectors.Affine(jnp.zeros(2), jnp.zeros(2)))


def test_a_convolution_of_equinox_is_a_conditionals_network():
    network = eqx.nn.Sequential([eqx.nn.Conv2d(1, 2, 3, padding=1, key=KEY), eqx.nn.Lambda(jax.nn.relu)])
    conditional = Conditional(network, NormalHead(), (4, 4), context_ndims=3)
    assert jax.jit(lambda c, x: c(x).log_prob(jnp.zeros((4, 4))))(conditional, jnp.ones((5, 1, 4, 4))).shape == (5,)
