"""VAEs that differ from `vae` in a network, the posterior or the bound: each does what its name says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probgen
from probgen import autoregressive, latent
from probgen.inference import objectives

KEY = jax.random.key(0)
X = jax.random.randint(KEY, (12, 4), 0, 3)
SMALL = {"latent_dim": 2, "hidden": (8,), "key": KEY}


def losses(model, **options):
    return probgen.fit(model, X, steps=2, key=KEY, progress=False, **options).losses


def test_beta_is_that_of_the_objective():
    plain, model = latent.vae((4,), 3, **SMALL), latent.beta_vae((4,), 3, beta=3.0, **SMALL)
    objective = objectives.Beta(objectives.ELBO(), 3.0)
    theirs = probgen.fit(plain, X, steps=2, key=KEY, progress=False, objective=objective)
    ours = probgen.fit(model, X, steps=2, key=KEY, progress=False)
    np.testing.assert_array_equal(ours.losses, theirs.losses)
    for name, value in theirs.params["model$params"].items():
        np.testing.assert_array_equal(ours.params["model$params"][name], value)
    np.testing.assert_array_equal(losses(model, objective=objectives.ELBO()), losses(plain))
    with pytest.raises(ValueError, match="beta"):
        latent.beta_vae((4,), 3, beta=-1.0, **SMALL)


def test_one_particles_gradient_is_in_the_mean_that_of_the_bound_of_many():
    model = latent.iwae((4,), 3, num_particles=3, **SMALL)
    params, rest = probgen.partition(model)
    rng = np.random.default_rng(0)
    params = {path: p + 0.5 * rng.normal(size=p.shape).astype("float32") for path, p in params.items()}
    x, keys = X[:1], jax.random.split(KEY, 6000)
    of_bound = lambda params, key: -probgen.combine(params, rest).log_prob_bound(key, x, 3).mean()
    of_one = lambda params, key: probgen.combine(params, rest).training_loss(key, x, 3).mean()
    ours, theirs = (jax.jit(jax.vmap(jax.value_and_grad(f), (None, 0)))(params, keys) for f in (of_one, of_bound))
    np.testing.assert_allclose(ours[0].mean(), theirs[0].mean(), atol=5 * theirs[0].std() / 6000**0.5)
    for path in params:
        one, whole = (np.asarray(g[1][path], float).reshape(6000, -1) for g in (ours, theirs))
        error = np.sqrt((one.var(0) + whole.var(0)) / 6000)
        assert (abs(one.mean(0) - whole.mean(0)) < 5 * error + 1e-5).all(), path
    trained = probgen.fit(model, X, steps=1, batch_size=12, key=KEY, progress=False)
    bound = jax.jit(jax.vmap(lambda key: -model.log_prob_bound(key, X, 3).mean()))(keys[:200])
    assert bound.min() < trained.losses[0] < bound.max()
    assert not np.array_equal(losses(model), losses(model, objective=objectives.ELBO()))
    with pytest.raises(ValueError, match="num_particles: the model brings its own bound, of 3"):
        losses(model, num_particles=2)


@pytest.mark.parametrize("recipe", [latent.beta_vae, latent.iwae, latent.iaf_vae])
def test_they_are_conditional_too_and_load_by_their_path(recipe, tmp_path):
    options = {"layers": 1, "width": 4, "features": 3} if recipe is latent.iaf_vae else {}
    model = recipe((4,), 3, context_dim=2, **SMALL, **options)
    contexts = jax.random.normal(KEY, (12, 2))
    trained = probgen.fit(model, (X, contexts), steps=2, key=KEY, progress=False).model
    probgen.save(tmp_path / "model.safetensors", trained)
    loaded = probgen.load(tmp_path / "model.safetensors")
    assert loaded.model.trained_on == model.model.trained_on
    bound = jax.jit(lambda m: m(contexts).log_prob_bound(KEY, X, 3))
    np.testing.assert_array_equal(bound(loaded), bound(trained))


def test_an_iaf_posterior_has_dependent_numbers_and_moves_with_x():
    model = latent.iaf_vae((4,), 3, layers=2, width=8, features=3, **SMALL)
    params, rest = probgen.partition(model)
    model = probgen.combine({name: value + 0.5 for name, value in params.items()}, rest)
    q = model.encode(X[:2])
    drawn = jax.jit(lambda q: q.sample(KEY, (4000,)))(q)
    correlation = np.corrcoef(drawn[:, 0].T)[0, 1]
    assert abs(correlation) > 0.05 and abs(drawn[:, 0].mean(0) - drawn[:, 1].mean(0)).max() > 0.01
    value, log_q = q.sample_and_log_prob(KEY)
    np.testing.assert_allclose(q.log_prob(value), log_q, rtol=1e-3, atol=1e-3)


def test_a_convolutional_one_trains_on_images_of_colours():
    x = jax.random.randint(KEY, (6, 5, 4, 2), 0, 3)
    model = latent.conv_vae((5, 4, 2), 3, latent_dim=2, channels=(3, 4), key=KEY)
    result = probgen.fit(model, x, steps=2, key=KEY, progress=False)
    assert np.isfinite(result.losses).all() and result.model.sample(KEY, (2,)).shape == (2, 5, 4, 2)
    with pytest.raises(ValueError, match="event_shape: expected"):
        latent.conv_vae((4,), 3, key=KEY)


def test_an_autoregressive_decoder_sees_z_and_loads_by_its_path(tmp_path):
    made = autoregressive.made((4,), 3, hidden=(8,), context_dim=2, key=KEY)
    model = latent.pixel_vae(made, 3, hidden=(8,), key=KEY)
    trained = probgen.fit(model, X, steps=30, key=KEY, progress=False).model
    near, far = (trained.decode(z).log_prob(X) for z in (jnp.zeros(2), jnp.full(2, 3.0)))
    assert abs(near - far).max() > 1e-4
    probgen.save(tmp_path / "model.safetensors", trained)
    loaded = probgen.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.log_prob_bound(KEY, X), trained.log_prob_bound(KEY, X))
    with pytest.raises(ValueError, match="decoder: expected a ConditionalModel"):
        latent.pixel_vae(autoregressive.made((4,), 3, hidden=(8,), key=KEY), 3, key=KEY)
    with pytest.raises(ValueError, match=r"levels: the decoder is of integers 0\.\.2, got 0\.\.4"):
        latent.pixel_vae(made, 5, hidden=(8,), key=KEY)


def test_an_autoregressive_decoder_sees_z_and_then_the_context(tmp_path):
    made = autoregressive.made((4,), 3, hidden=(8,), context_dim=5, key=KEY)
    model = latent.pixel_vae(made, 3, hidden=(8,), context_dim=3, key=KEY)
    contexts = jax.random.normal(KEY, (len(X), 3))
    trained = probgen.fit(model, (X, contexts), steps=30, key=KEY, progress=False).model

    @jax.jit
    def run(model, contexts):
        z = jax.random.normal(KEY, (len(X), 2))
        given = model(contexts).decode(z).log_prob(X)
        return given, made_of(model)(jnp.concatenate([z, contexts], -1)).log_prob(X), model(contexts).encode(X).mean

    made_of = lambda model: model.model.likelihood.network.decoder
    found, expected, center = run(trained, contexts)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    other, _, moved = run(trained, contexts + 1.0)
    assert abs(found - other).min() > 1e-5 and center.shape == (12, 2) and abs(center - moved).min() > 1e-6
    probgen.save(tmp_path / "model.safetensors", trained)
    bound = jax.jit(lambda m: m(contexts).log_prob_bound(KEY, X))
    np.testing.assert_array_equal(bound(probgen.load(tmp_path / "model.safetensors")), bound(trained))
    with pytest.raises(ValueError, match=r"decoder: expected contexts of z and 5 more numbers, got \(5,\)"):
        latent.pixel_vae(made, 3, context_dim=5, key=KEY)


def test_a_decoder_without_a_mean_in_closed_form_reconstructs_by_draws():
    made = autoregressive.made((4, 4), 4, hidden=(4,), context_dim=2, key=KEY)
    model = latent.pixel_vae(made, 4, hidden=(4,), key=KEY)
    x = jnp.zeros((2, 4, 4), int)

    @jax.jit
    def run(model, x):
        z = model.encode(x[0]).mean
        draws = model.decode(z).sample(KEY, (500,)).mean(0)
        return model.reconstruct(KEY, x), model.interpolate(x[0], x[0], steps=2), draws

    found, line, draws = run(model, x)
    assert found.shape == x.shape and line.shape == (2, 4, 4)
    np.testing.assert_allclose(line[0], draws, atol=5 * 1.2 / 8)  # levels 0 to 3, 64 draws
    assert abs(float(line[0].mean() - draws.mean())) < 5 * 1.2 / 8 / 4


@pytest.mark.parametrize("name", ["vae", "vq_vae", "top_down_vae", "hierarchical_vae", "conditional"])
def test_no_method_takes_rows_outside_of_the_support(name):
    smaller = {
        "vq_vae": {"codes": 4, "code_shape": (2,), "dim": 2, "hidden": (8,)},
        "top_down_vae": {"layers": 2, "latent_dim": 2, "width": 8},
        "hierarchical_vae": {"latent_dims": (2, 2), "hidden": (8,)},
        "conditional": {"latent_dim": 2, "hidden": (8,), "context_dim": 1},
    }
    recipe = latent.vae if name == "conditional" else getattr(latent, name)
    model = recipe((4,), 3, key=KEY, **smaller.get(name, {"latent_dim": 2, "hidden": (8,)}))
    model = model(jnp.ones((12, 1))) if name == "conditional" else model
    wrong, deterministic = X.at[3, 2].set(3), name == "vq_vae"
    verbs = {
        "encode": model.encode,
        "reconstruct": model.reconstruct if deterministic else lambda x: model.reconstruct(KEY, x),
        "elbo_terms": lambda x: model.elbo_terms(KEY, x),
        "interpolate": lambda x: model.interpolate(X, x, steps=2),
        "kl": None if deterministic else lambda x: model.kl(KEY, x),
    }
    for verb in filter(None, verbs.values()):
        with pytest.raises(ValueError, match=r"value: expected numbers in .*, got some outside"):
            verb(wrong)
    jax.eval_shape(verbs["elbo_terms"], wrong)  # under jit nothing is known
