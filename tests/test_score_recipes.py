"""Recipes of score models: what each promises of its SDE, loss and sampler, of vectors and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probgen
from probgen import score

KEY = jax.random.key(0)
RECIPES = [
    score.ddpm,
    score.vp_score,
    score.subvp_score,
    score.ve_score,
    score.vdm,
    score.edm,
    score.flow_matching,
]
name_of = lambda recipe: recipe.__name__


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_model_of_reals_is_made_bounded_and_drawn(recipe):
    model = recipe((2,), width=8, depth=1, steps=3, key=KEY)
    x = jnp.zeros((4, 2))
    params, rest = probgen.partition(model)

    @jax.jit
    def found(params):
        loss = lambda params: probgen.combine(params, rest).training_loss(KEY, x).mean()
        model = probgen.combine(params, rest)
        return model.log_prob_bound(KEY, x), model.sample(KEY, (2,)), jax.value_and_grad(loss)(params)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found(params)))


@pytest.mark.parametrize("recipe", [score.ddpm, score.edm, score.subvp_score], ids=name_of)
def test_integers_and_contexts(recipe, tmp_path):
    model = recipe((2,), levels=40, width=8, depth=1, context_dim=3, drop_context=0.5, key=KEY)
    at = model(jnp.eye(3))
    x = jnp.array([[0, 1], [39, 5], [7, 7]])
    assert at.log_prob_bound(KEY, x).shape == (3,)
    probgen.save(tmp_path / "model.safetensors", model)
    loaded = probgen.load(tmp_path / "model.safetensors")
    assert str(jax.tree.structure(loaded)) == str(jax.tree.structure(model))
    guided = score.guided(model, weight=2.0)(jnp.eye(3)[0]) if recipe is score.edm else None
    assert guided is None or guided.replace(sampler=score.DDIM(2)).sample(KEY).shape == (2,)


@pytest.mark.parametrize("network", [{"channels": (4, 8)}, {"channels": 4}, {"patch": 2, "width": 8, "depth": 1}])
@pytest.mark.parametrize("shape", [(4, 6, 2)])
def test_images_have_networks_of_their_own(network, shape):
    x = jax.random.randint(KEY, shape, 0, 3)
    model = score.vp_score(shape, levels=3, key=KEY, **network)
    assert np.isfinite(jax.jit(lambda m, x: m.log_prob_bound(KEY, x))(model, x))
    dense = score.vp_score(shape, levels=3, key=KEY)
    assert probgen.core.count_parameters(model) != probgen.core.count_parameters(dense)


def test_the_steps_of_ddpm_are_its_layers():
    model = score.ddpm((2,), width=8, depth=1, steps=7, key=KEY)
    assert model.stepwise and model.sampler.steps == 7
    chain = score.MarkovChain(model)
    assert len(chain.log_snrs) == 8


def test_recipes_are_what_their_names_say():
    loss = lambda recipe, **options: recipe((2,), width=8, depth=1, key=KEY, **options).loss
    assert loss(score.vdm) == score.Bound()
    assert loss(score.vp_score) == score.Denoising(score.LikelihoodWeight())
    assert loss(score.ddpm) == loss(score.ve_score) == loss(score.subvp_score) == score.Denoising()
    assert loss(score.edm, scale=0.5) == score.edm_loss(0.5)
    assert not loss(score.flow_matching, optimal_transport=True).scores


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": (4,), "patch": 2}, "patch: expected none beside channels"),
        ({"channels": 4, "width": 8}, "width: expected none beside channels"),
        ({"channels": 0}, "channels: expected an integer of at least 1"),
        ({"channels": (4,), "width": 8}, "width: expected none beside channels"),
        ({"event_shape": (4,), "channels": (4,)}, "event_shape: expected an image"),
        ({"event_shape": (4,), "patch": 2}, "event_shape: expected an image"),
        ({"drop_context": 0.1}, "drop_context: expected a context_dim"),
        ({"optimal_transport": True, "context_dim": 2}, "optimal_transport: expected no contexts"),
        ({"levels": 3, "scale": 2.0}, "scale: expected none beside levels"),
        ({"levels": 1}, "levels"),
        ({"rank": 2}, "rank"),
    ],
)
def test_options_that_would_not_act_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        score.flow_matching(**{"event_shape": (4, 4, 1), "key": KEY, **options})
