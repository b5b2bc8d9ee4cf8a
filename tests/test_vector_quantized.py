"""VQ-VAE: the bound against enumeration, the codebook against the formula in NumPy, gradients against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from registry import _integers

import probgen
from probgen.autoregressive import made
from probgen.core import has_update
from probgen.distributions import ConditionalModel
from probgen.evaluation import evaluate
from probgen.inference.objectives import ImportanceWeighted
from probgen.latent import VectorQuantized, vq_vae
from probgen.mixtures import EM, categorical_mixture

KEY = jax.random.key(0)
X = jax.random.randint(jax.random.key(7), (64, 3), 0, 3)
EVERY_X, EVERY_Z = _integers((3,), 3)(), _integers((2,), 4)()


def tiny(**kwargs):
    """Four codes in two places; the weights of the last layers are not small, and the codebook is where data are."""
    arguments = {"codes": 4, "code_shape": (2,), "dim": 2, "hidden": (8,), "components": 0, "key": KEY} | kwargs
    return stirred(vq_vae((3,), 3, **arguments))


@jax.jit
def updated(model, *rows):
    return model.update(*rows, KEY)


def stirred(model):
    params, rest = probgen.partition(model)
    keys = jax.random.split(jax.random.key(1), len(params))
    moved = {p: v + jax.random.normal(k, v.shape) for k, (p, v) in zip(keys, params.items(), strict=True)}
    return probgen.combine(moved, rest)


def bit_prior():
    return made((2,), 4, hidden=(8,), key=jax.random.key(3))


# -- the bound


@pytest.mark.parametrize("prior", [None, bit_prior])
def test_the_bound_is_one_term_of_the_sum_over_all_codes(prior):
    model = updated(tiny(), X)
    model = model if prior is None else model.replace(prior=stirred(prior()))
    joint = jax.jit(lambda m: m.prior.log_prob(EVERY_Z)[:, None] + m.decode(EVERY_Z[:, None]).log_prob(EVERY_X))(model)
    evidence = jax.nn.logsumexp(joint, 0)
    bound, codes = jax.jit(lambda m: (m.log_prob_bound(KEY, EVERY_X), m.encode(EVERY_X)))(model)
    np.testing.assert_allclose(bound, joint[codes @ jnp.array([4, 1]), jnp.arange(27)], rtol=1e-5, atol=1e-5)
    assert (bound <= evidence + 1e-6).all() and (bound < evidence - 0.01).any()
    np.testing.assert_allclose(jax.nn.logsumexp(evidence), 0.0, atol=1e-5)
    assert model.kind == "bound" and evaluate(model, X, key=KEY).sign == "≤"
    with pytest.raises(NotImplementedError, match="log_prob_bound"):
        model.log_prob(X)
    with pytest.raises(NotImplementedError, match="log_weights"):
        model.log_weights(KEY, X, 2)


def test_draws_are_those_of_prior_and_likelihood():
    model = updated(tiny(), X)
    joint = model.prior.log_prob(EVERY_Z)[:, None] + model.decode(EVERY_Z[:, None]).log_prob(EVERY_X)
    draws = jax.jit(lambda m: m.sample(KEY, (40_000,)))(model)
    counted = np.bincount(np.asarray(draws @ jnp.array([9, 3, 1])), minlength=27) / 40_000
    p = np.exp(jax.nn.logsumexp(joint, 0))
    np.testing.assert_array_less(abs(counted - p), 4.5 * np.sqrt(p / 40_000))


def test_codes_are_the_nearest_and_what_is_made_of_them():
    model = updated(tiny(), X)
    vectors, codes, nearest = model.quantize(X)
    distances = np.sum((np.asarray(vectors)[..., None, :] - np.asarray(model.codebook)) ** 2, -1)
    np.testing.assert_array_equal(codes, distances.argmin(-1))
    np.testing.assert_array_equal(nearest, model.codebook[codes])
    np.testing.assert_allclose(model.reconstruct(X), model.decode(codes).mean, rtol=1e-5)
    share = np.bincount(np.asarray(codes).ravel(), minlength=4) / codes.size
    np.testing.assert_allclose(model.perplexity(X), np.prod(share[share > 0] ** -share[share > 0]), rtol=1e-5)


# -- what it learns


def test_the_terms_of_the_bound_sum_to_it_and_a_line_ends_where_it_should():
    model = updated(tiny(), X)

    @jax.jit
    def facts(model):
        ends = model.interpolate(X[:5], X[5:10], steps=3)[:, ::2]
        made = jnp.stack([model.reconstruct(X[:5]), model.reconstruct(X[5:10])], 1)
        return model.elbo_terms(KEY, X), model.log_prob_bound(KEY, X), ends, made

    terms, bound, ends, made = facts(model)
    np.testing.assert_allclose(terms.log_likelihood - terms.kl, bound, rtol=1e-5)
    np.testing.assert_allclose(ends, made, rtol=1e-5)


def test_the_straight_through_gradient_is_that_of_the_surrogate_with_codes_held():
    """f(θ') = −log p(x | z_e(θ') + e − z_e(θ)) + β |z_e(θ') − e|², differentiated by differences in float64."""
    with jax.enable_x64(True):
        model = updated(tiny(commitment=0.7), X)
        params, rest = probgen.partition(model)
        x, held = X[0], model.quantize(X[0])

        def surrogate(params):
            m = probgen.combine(params, rest)
            z = m.quantize(x).vectors
            log_prob = m.likelihood(z + held.nearest - held.vectors).log_prob(x)
            return 0.7 * jnp.sum((z - held.nearest) ** 2) - log_prob + 2 * jnp.log(4.0)

        loss = lambda params: probgen.combine(params, rest).training_loss(KEY, x)
        value, gradient = jax.jit(jax.value_and_grad(loss))(params)
        surrogate = jax.jit(surrogate)
        np.testing.assert_allclose(value, surrogate(params), rtol=1e-12)
        for path, value in params.items():
            direction = jax.random.normal(jax.random.key(len(path)), value.shape)
            at = lambda t, path=path, value=value, d=direction: surrogate({**params, path: value + t * d})
            np.testing.assert_allclose(jnp.sum(gradient[path] * direction), (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-5)
    assert not VectorQuantized.unbiased and "BIASED" in VectorQuantized.__doc__


def test_the_codebook_is_state_which_only_update_moves():
    model = updated(tiny(), X)
    params, _ = probgen.partition(model)
    assert not any("codebook" in path or "counts" in path for path in params) and has_update(model)
    assert {"encoder", "likelihood"} == {path.split(".")[0] for path in params}


def test_the_moving_averages_are_those_of_the_paper():
    """N ← γ N + (1 − γ) n, m ← γ m + (1 − γ) Σ z_e, e = m / N, over five batches."""
    model = tiny(decay=0.8).replace(counts=jnp.array([5.0, 2.0, 9.0, 30.0]), least=0.0)
    count, total = np.asarray(model.counts, np.float64), np.asarray(model.counts[:, None] * model.codebook, np.float64)
    update = jax.jit(lambda m, x: m.update(x, KEY))
    for batch in X[:60].reshape(5, 12, 3):
        vectors, codes, _ = jax.tree.map(np.asarray, model.quantize(batch))
        chosen = np.eye(4)[codes.ravel()]
        count = 0.8 * count + 0.2 * chosen.sum(0)
        total = 0.8 * total + 0.2 * chosen.T @ vectors.reshape(-1, 2)
        model = update(model, batch)
        np.testing.assert_allclose(model.counts, count, rtol=1e-5)
        np.testing.assert_allclose(model.codebook, total / count[:, None], rtol=1e-4, atol=1e-5)


def test_the_first_batch_sets_the_codebook_and_dead_codes_come_back():
    model = tiny()
    assert not model.counts.any()
    model = updated(model, X)
    vectors = model.quantize(X).vectors.reshape(-1, 2)
    lies_on = lambda code: (abs(np.asarray(vectors) - np.asarray(code)).sum(-1) < 1e-5).any()
    assert all(map(lies_on, model.codebook)) and (model.counts > 0).all()
    far = model.replace(codebook=model.codebook.at[2].set(1e4), counts=model.counts.at[2].set(1e-3))
    assert not (far.encode(X) == 2).any()
    back, moved = updated(far, X), updated(far.replace(least=0.0), X)
    assert lies_on(back.codebook[2]) and (back.encode(X) == 2).any()
    np.testing.assert_allclose(back.counts, moved.counts.at[2].set(moved.counts.mean()), rtol=1e-6)
    np.testing.assert_array_equal(jnp.delete(back.codebook, 2, 0), jnp.delete(moved.codebook, 2, 0))


def test_fit_lowers_the_loss_and_the_bound_rises_with_a_fitted_prior():
    x = jnp.repeat(jnp.array([[0, 0, 0], [1, 2, 1], [2, 2, 0]]), jnp.array([32, 16, 16]), axis=0)
    model = vq_vae((3,), 3, codes=4, code_shape=(2,), dim=2, hidden=(16,), components=0, key=KEY)
    result = probgen.fit(model, x, steps=150, optimizer=optax.adam(1e-2), key=KEY, progress=False)
    fitted, codes = result.model, result.model.encode(x)
    assert result.losses[-20:].mean() < result.losses[:20].mean() - 0.5
    uniform = evaluate(fitted, x, key=KEY)
    assert uniform.nats < 2 * np.log(4) + 0.2  # three different rows are told apart by the codes
    prior = probgen.fit(bit_prior(), codes, steps=150, optimizer=optax.adam(3e-2), key=KEY, progress=False).model
    better = fitted.replace(prior=prior)
    expected = -np.mean(fitted.decode(codes).log_prob(x) + prior.log_prob(codes))
    np.testing.assert_allclose(evaluate(better, x, key=KEY).nats, expected, rtol=1e-5)
    assert evaluate(better, x, key=KEY).nats < uniform.nats - 1.0
    # Gibbs: no model is better than the entropy of the data
    assert evaluate(better, x, key=KEY).nats > 1.5 * np.log(2) - 1e-3


@pytest.mark.parametrize("prior", [None, bit_prior])
def test_a_file_keeps_the_codebook(prior, tmp_path):
    model = updated(tiny(prior=None if prior is None else prior()), X)
    probgen.save(tmp_path / "model", model)
    again = probgen.load(tmp_path / "model")
    np.testing.assert_array_equal(again.codebook, model.codebook)
    np.testing.assert_array_equal(again.log_prob_bound(KEY, X), model.log_prob_bound(KEY, X))


# -- contexts


def test_a_conditional_one_learns_its_codebook_at_contexts():
    contexts = jnp.linspace(-1.0, 1.0, 64)[:, None]
    model = tiny(context_dim=1)
    assert has_update(model)
    new = updated(model, X, contexts)

    @jax.jit
    def facts(conditional):
        alone, at = conditional(contexts[5]), conditional(contexts)
        found = at.quantize(X), at.log_prob_bound(KEY, X), at.decode(at.encode(X)).mean, at.reconstruct(X)
        return *found, at.perplexity(X), alone.encode(X[5]), alone.log_prob_bound(KEY, X[5])

    (vectors, codes, _), bound, mean, again, perplexity, code, one_bound = facts(new)
    np.testing.assert_array_equal(codes[5], code)
    np.testing.assert_allclose(bound[5], one_bound, rtol=1e-5)
    np.testing.assert_allclose(mean, again, rtol=1e-5)
    lies_on = lambda code: (abs(np.asarray(vectors).reshape(-1, 2) - code).sum(-1) < 1e-5).any()
    assert all(map(lies_on, np.asarray(new.model.codebook)))
    assert 1 <= perplexity <= 4
    result = probgen.fit(model, (X, contexts), steps=3, key=KEY, progress=False)
    assert (result.model.model.counts > 0).all()


def test_a_conditional_model_of_what_updates_without_contexts_is_refused():
    em = EM(categorical_mixture((2,), 3, components=2, key=KEY))
    with pytest.raises(ValueError, match="EM, which has state and an `update`"):
        has_update(ConditionalModel(em, (1,)))


# -- what does not fit


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny(prior=made((3,), 4, hidden=(8,), key=KEY)), r"prior: expected event shape \(2,\), got \(3,\)"),
        (lambda: tiny(prior=made((2,), 5, hidden=(8,), key=KEY)), r"prior: expected one of integers"),
        (lambda: tiny().replace(prior=made((3,), 4, hidden=(8,), key=KEY)), r"prior: expected event shape \(2,\)"),
        (lambda: tiny(prior=dist.DiscreteUniform(0, jnp.full(2, 3))), r"prior: expected"),
        (lambda: tiny(prior=dist.Normal(jnp.zeros(2), 1.0).to_event(1)), r"prior: expected one of integers"),
        (lambda: tiny(prior=dist.Poisson(jnp.ones(2)).to_event(1)), r"prior: expected one of integers"),
        (lambda: tiny(decay=1.0), "decay"),
        (lambda: tiny(commitment=-1.0), "commitment"),
        (lambda: tiny(codes=0), "codes"),
        (lambda: VectorQuantized(tiny().prior, lambda x: x, tiny().likelihood, jnp.zeros(3)), "codebook: expected"),
        (lambda: tiny().replace(encoder=lambda x: x).encode(X), r"encoder: expected \(2, 2\) numbers for one x"),
        (lambda: tiny().decode(jnp.zeros((5, 2))), "z: expected integers"),
        (lambda: tiny().decode(jnp.zeros((5, 3), int)), "z: expected integers"),
        (lambda: tiny().decode(jnp.array([0, 4])), "z: expected numbers in"),
        (lambda: tiny().interpolate(X[0], X[1], steps=1), "steps: expected"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_particles_that_would_change_nothing_are_refused():
    """The posterior is a point: there is nothing to draw."""
    model = vq_vae((3,), 3, codes=4, code_shape=(2,), dim=2, hidden=(4,), key=KEY)
    for how, name in (({"num_particles": 5}, "num_particles"), ({"objective": ImportanceWeighted(3)}, "objective")):
        with pytest.raises(ValueError, match=f"{name}: VectorQuantized has a bound without draws"):
            probgen.fit(model, X, steps=1, key=KEY, progress=False, **how)
    with pytest.raises(ValueError, match="num_particles: VectorQuantized has no bound of draws"):
        evaluate(model, X, key=KEY, num_particles=4)
    assert evaluate(model, X).nats == evaluate(model, X, key=KEY).nats
