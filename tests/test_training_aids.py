"""Schedules of β, encoders that catch up, and rates by path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import probgen
from probgen import fit, partition
from probgen.inference import aggressive, fit_aggressively, objectives

KEY = jax.random.key(0)
X = jax.random.bernoulli(jax.random.key(1), 0.5, (48, 3)).astype(int)
OURS = "posterior"


def vae():
    return probgen.latent.vae((3,), 2, latent_dim=1, hidden=(4,), key=jax.random.key(2))


def is_encoder(path):
    return path.startswith(f"model.{OURS}")


def moved(before, after):
    """Which parts of a model have changed."""
    (a, _), (b, _) = partition(before), partition(after)
    return {path.split(".")[0] for path in a if not np.array_equal(a[path], b[path])}


def quiet(model, **kwargs):
    return fit(model, X, **{"key": KEY, "progress": False, "batch_size": 8, **kwargs})


def test_a_cycle_rises_and_stays():
    schedule = objectives.cyclic(10, rising=0.4)
    wanted = [min(1.0, (t % 10) / 4) for t in range(25)]
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(25)), wanted, rtol=1e-6)
    np.testing.assert_allclose([float(objectives.cyclic(4, 1.0)(t)) for t in range(5)], [0, 0.25, 0.5, 0.75, 0])
    beta = objectives.Beta(objectives.ELBO(), objectives.cyclic(2))  # 0, 1, 0, 1, …
    free = objectives.Beta(objectives.ELBO(), 0.0)
    one, two = (quiet(vae(), steps=1, objective=o, optimizer=optax.sgd(0.1)).model for o in (beta, free))
    assert moved(one, two) == set()
    one, two = (quiet(vae(), steps=2, objective=o, optimizer=optax.sgd(0.1)).model for o in (beta, free))
    assert OURS in moved(one, two)
    for wrong in [{"steps_per_cycle": 0}, {"steps_per_cycle": 3, "rising": 0.0}, {"steps_per_cycle": 3, "rising": 1.5}]:
        with pytest.raises(ValueError, match=list(wrong)[-1]):
            objectives.cyclic(**wrong)


def test_the_encoder_moves_and_the_others_wait_each_with_a_state_of_its_own():
    """Against two Adams that are each fed only at their own steps."""
    params = {"net$params": {"encoder.w": jnp.array([1.0, -2.0]), "decoder.w": jnp.array(0.5)}, "bias": jnp.array(3.0)}
    optimizer, adam = (
        aggressive(optax.adam(0.1), lambda path: path == "net.encoder.w", encoder_steps=2),
        optax.adam(0.1),
    )
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    ours = {"w": params["net$params"]["encoder.w"]}
    others = {"w": params["net$params"]["decoder.w"], "b": params["bias"]}
    our_state, other_state = adam.init(ours), adam.init(others)
    for step in range(7):
        gradient = jax.tree.map(lambda x, step=step: jnp.sin(x + step), params)
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        net, bias = gradient["net$params"], gradient["bias"]
        if step % 3 == 2:
            updates, other_state = adam.update({"w": net["decoder.w"], "b": bias}, other_state)
            others = optax.apply_updates(others, updates)
        else:
            updates, our_state = adam.update({"w": net["encoder.w"]}, our_state)
            ours = optax.apply_updates(ours, updates)
    np.testing.assert_allclose(params["net$params"]["encoder.w"], ours["w"], rtol=1e-6)
    np.testing.assert_allclose(params["net$params"]["decoder.w"], others["w"], rtol=1e-6)
    np.testing.assert_allclose(params["bias"], others["b"], rtol=1e-6)


def test_it_is_an_optimizer_of_fit():
    optimizer = aggressive(optax.adam(0.1), is_encoder, encoder_steps=2)
    assert moved(vae(), quiet(vae(), steps=2, optimizer=optimizer).model) == {OURS}
    assert moved(vae(), quiet(vae(), steps=3, optimizer=optimizer).model) == {OURS, "likelihood"}


@pytest.mark.parametrize(("seen", "epochs"), [([0.0, 1.0, 2.0, 2.0], 3), ([0.0, -1.0], 1), (list(range(6)), 5)])
def test_it_is_aggressive_until_the_information_rises_no_more(seen, epochs):
    models, values = [], iter(seen)

    def information(model, key, rows):
        models.append(model)
        assert rows is X
        return next(values)

    result = fit_aggressively(
        vae(), X, encoder=is_encoder, encoder_steps=5, information=information, epochs=6, batch_size=8, key=KEY,
        validation=X, optimizer=optax.adam(0.01), progress=False,
    )  # fmt: skip
    assert list(result.history["information"]) == seen and len(models) == epochs + 1
    assert result.history["aggressive"].size == 6 * epochs and result.losses.size == 6 * (6 - epochs)
    assert result.history["validation"].size == 1 + 6 - epochs


def test_paths_have_rates_of_their_own():
    label = lambda path: "still" if path.startswith(OURS) else "fast"
    labels = lambda params: {site: {path: label(path) for path in of} for site, of in params.items()}
    optimizer = optax.multi_transform({"still": optax.set_to_zero(), "fast": optax.adam(1e-2)}, labels)
    assert moved(vae(), quiet(vae(), steps=3, optimizer=optimizer).model) == {"likelihood"}


def test_what_is_refused():
    for wrap in (lambda o: objectives.Beta(o, 2.0), lambda o: objectives.FreeBits(o, 2.0)):
        with pytest.raises(ValueError, match="whose terms can be weighed, got ImportanceWeighted"):
            wrap(objectives.ImportanceWeighted(5))
    rest = {"information": lambda *_: 0.0, "epochs": 3, "batch_size": 8, "key": KEY, "validation": X}
    for wrong, message in [
        ({"encoder": lambda path: False}, "encoder: expected it to be true of some of these paths, and not of all"),
        ({"encoder": 3}, "encoder: expected a function of a param's path, got 3"),
        ({"encoder_steps": 0}, "encoder_steps: expected an integer of at least 1"),
        ({"encoder_steps": 6}, "encoder_steps: expected fewer than the steps of an epoch, 6, got 6"),
        ({"information": 3}, "information: expected a function"),
        ({"information": lambda *_: jnp.zeros(3)}, r"information: expected one number, got shape \(3,\)"),
        ({"epochs": 1}, "epochs: expected an integer of at least 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_aggressively(vae(), X, **{"encoder": is_encoder, "encoder_steps": 5, **rest, **wrong}, progress=False)
    with pytest.raises(ValueError, match="model: expected a distribution with an encoder, got function"):
        fit_aggressively(lambda x: None, X, encoder=is_encoder, **rest)
