"""The metrics of `fit`: what they see, where they are found, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

import probgen
from probgen import fit

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (64, 2)) + 1.0
HELD_OUT = X[:40]


def flow():
    return probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(2))


def quiet(model, data=X, **kwargs):
    return fit(model, data, **{"key": KEY, "progress": False, "steps": 6, "validation": HELD_OUT, **kwargs})


def test_they_see_the_model_of_the_moment_and_all_validation_rows(capsys):
    metrics = {
        "loss": lambda model, key, rows: -model.log_prob(rows).mean(),
        "each": lambda model, key, rows: model.log_prob(rows[:3]),
        "outside": lambda model, key, rows: float(np.asarray(model.log_prob(rows)).max()),  # which cannot be compiled
        "rows": lambda model, key, rows: len(rows),
    }
    result = quiet(flow(), metrics=metrics, validate_every=2, batch_size=16, progress=True)
    history = result.history
    np.testing.assert_allclose(history["loss"], history["validation"], rtol=1e-5)
    assert history["each"].dims == ("validation_step", "each_dim") and history["each"].shape == (4, 3)
    assert list(history["validation_step"]) == [0, 2, 4, 6] and set(history["rows"].values) == {40}
    last = int(np.flatnonzero(history["validation_step"] == result.best.step)[0])
    np.testing.assert_allclose(history["each"][last], result.model.log_prob(HELD_OUT[:3]), rtol=1e-5)
    np.testing.assert_allclose(history["outside"][last], result.model.log_prob(HELD_OUT).max(), rtol=1e-5)
    bar = capsys.readouterr().err
    assert "loss" in bar and "rows 40" in bar and "each" not in bar
    assert quiet(flow()).history.data_vars.keys() == {
        "train", "validation", "train_bits_per_dim", "validation_bits_per_dim"
    }  # fmt: skip


def test_they_are_compiled_where_they_can_be_and_kept_models_live():
    traces, kept = [], []

    def compiled(model, key, rows):
        traces.append(1)
        return jnp.zeros(())

    def eager(model, key, rows):
        kept.append(model)
        return float(model.log_prob(rows).mean())

    quiet(flow(), metrics={"compiled": compiled, "eager": eager}, validate_every=1)
    assert len(traces) == 1
    assert all(np.isfinite(model.log_prob(X)).all() for model in kept[1:])


def test_of_a_program_it_is_the_one_with_its_params():
    def program(x, y):
        slope = numpyro.param("slope", 0.0)
        with numpyro.plate("data", len(x)):
            numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    def slope(program, key, rows):
        with numpyro.handlers.seed(rng_seed=key), numpyro.handlers.trace() as trace:
            program(**rows)
        return trace["slope"]["value"]

    data = {"x": X[:, 0], "y": 2 * X[:, 0]}
    result = quiet(
        program, data, validation=data, metrics={"slope": slope}, steps=50, optimizer=optax.adam(0.1), batch_size=32
    )
    np.testing.assert_allclose(result.history["slope"][0], 0.0)
    np.testing.assert_allclose(result.history["slope"][-1], 2.0, atol=0.2)


def test_dropout_is_off_and_pairs_come_as_pairs():
    vae = probgen.latent.vae((3,), 2, latent_dim=2, hidden=(8,), dropout=0.5, context_dim=1, key=KEY)
    data = jnp.zeros((8, 3), jnp.uint8), jnp.ones((8, 1))
    kl = lambda model, key, rows: model(rows[1]).kl(key, rows[0]).mean()
    result = quiet(vae, data, validation=data, metrics={"kl": kl}, steps=2)
    trained = result.model(data[1]).kl(KEY, data[0]).mean()
    last = int(np.flatnonzero(result.history["validation_step"] == result.best.step)[0])
    np.testing.assert_allclose(result.history["kl"][last], trained, rtol=1e-5)


one = lambda model, key, rows: jnp.zeros(())


@pytest.mark.parametrize(("options", "message"), [
    ({"metrics": {"a": one}, "validation": None}, "metrics: expected validation rows to go with them, got none"),
    ({"metrics": one}, r"metrics: expected \{name: function\(model, key, rows\)\}, got function"),
    ({"metrics": {"a": 3}}, r"metrics\['a'\]: expected a function of model, key and rows, got 3"),
    ({"metrics": {"train": one}}, "metrics: expected another name than 'train'"),
    ({"metrics": {"validation": one}}, "metrics: expected another name than 'validation'"),
    ({"metrics": {"a": one, "a_dim": one}}, "metrics: expected another name than 'a_dim'"),
    ({"metrics": {3: one}}, "metrics: expected another name than 3"),
    ({"metrics": {"a": lambda m, k, r: r}}, r"metrics\['a'\]: expected a number or a vector, got float32 of shape"),
    ({"metrics": {"a": lambda m, k, r: "x"}}, r"metrics\['a'\]: expected a number or a vector"),
])  # fmt: skip
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        quiet(flow(), **options)
