"""The latent-variable model against the linear-Gaussian one, whose every integral is known; the VAE recipe."""

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from jax import Array
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO

import probgen
from probgen.core import bind
from probgen.distributions import BoundedNormalHead, Conditional, NormalHead, Transformed
from probgen.flows import real_nvp
from probgen.latent import LatentVariableModel, vae
from probgen.mixtures import GaussianMixture, gaussian_mixture
from probgen.networks import MLP

KEY = jax.random.key(0)
D, Z, NOISE = 4, 2, 0.5


class Linear(eqx.Module):
    """v → Normal(weight v + bias, scale_tril scale_trilᵀ)."""

    weight: Array
    bias: Array
    scale_tril: Array

    def __call__(self, v):
        return dist.MultivariateNormal(v @ self.weight.T + self.bias, scale_tril=self.scale_tril)


class Diagonal(eqx.Module):
    """v → Normal(weight v + bias, exp(log_scale)²), independent."""

    weight: Array
    bias: Array
    log_scale: Array

    def __call__(self, v):
        return dist.Normal(v @ self.weight.T + self.bias, jnp.exp(self.log_scale)).to_event(1)


PRIOR = dist.Normal(jnp.zeros(Z), 1.0).to_event(1)
WEIGHT = jax.random.normal(jax.random.key(1), (D, Z))
MEAN = jnp.arange(D) / D
LIKELIHOOD = Diagonal(WEIGHT, MEAN, jnp.full(D, jnp.log(NOISE)))
MARGINAL = dist.MultivariateNormal(MEAN, WEIGHT @ WEIGHT.T + NOISE**2 * jnp.eye(D))


def exact_posterior():
    """q(z | x) = Normal(M⁻¹ Wᵀ (x − μ), σ² M⁻¹), M = Wᵀ W + σ² I (Tipping and Bishop 1999)."""
    inverse = jnp.linalg.inv(WEIGHT.T @ WEIGHT + NOISE**2 * jnp.eye(Z))
    gain = inverse @ WEIGHT.T
    return Linear(gain, -gain @ MEAN, jnp.linalg.cholesky(NOISE**2 * inverse))


def pca(posterior=None):
    other = Diagonal(exact_posterior().weight, exact_posterior().bias + 0.1, jnp.full(Z, -0.5))
    return LatentVariableModel(PRIOR, LIKELIHOOD, other if posterior is None else posterior)


def integers(*shape, levels=17):
    return jax.random.randint(jax.random.key(7), shape, 0, levels)


def small_vae(**kwargs):
    arguments = {"latent_dim": 3, "hidden": (16,), "key": KEY} | kwargs
    return vae((4, 4), arguments.pop("levels", 17), **arguments)


# -- the linear-Gaussian oracle


def test_the_terms_of_the_bound_are_the_closed_forms():
    """−½ E‖x − W z − μ‖²/σ² by moments of z, and the KL of diagonal normals, each dimension by itself."""
    model, x = pca(), MARGINAL.sample(KEY, (5,))
    q = model.encode(x)
    terms = jax.jit(lambda key: model.elbo_terms(key, jnp.broadcast_to(x, (4000, *x.shape))))(jax.random.key(1))
    variance = NOISE**2
    miss = x - q.mean @ WEIGHT.T - MEAN
    spread = jnp.sum(WEIGHT**2 * q.variance[:, None], (1, 2))
    expected = -0.5 * ((miss**2).sum(-1) + spread) / variance - 0.5 * D * jnp.log(2 * jnp.pi * variance)
    error = terms.log_likelihood.std(0) / np.sqrt(4000)
    np.testing.assert_array_less(abs(terms.log_likelihood.mean(0) - expected), 4.5 * error)
    each = 0.5 * (q.mean**2 + q.variance - 1.0 - jnp.log(q.variance))
    np.testing.assert_allclose(terms.kl_of_each[0], each, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(terms.kl, jnp.broadcast_to(each.sum(-1), (4000, 5)), rtol=1e-5)
    assert pca(exact_posterior()).elbo_terms(KEY, x).kl_of_each is None


def test_encode_decode_and_what_they_make():
    model, (x, y) = pca(), MARGINAL.sample(KEY, (2, 3))
    assert model.encode(x).batch_shape == model.decode(jnp.zeros((3, Z))).batch_shape == (3,)
    z = model.encode(x).mean
    again = jax.vmap(lambda key: model.reconstruct(key, x))(jax.random.split(KEY, 2000))
    sd = jnp.sqrt(jnp.sum(WEIGHT**2 * model.encode(x).variance[:, None], -1) / 2000)
    np.testing.assert_array_less(abs(again.mean(0) - z @ WEIGHT.T - MEAN), 4.5 * sd)
    line = model.interpolate(x, y, steps=3)
    assert line.shape == (3, 3, D)
    np.testing.assert_allclose(line[:, 0], z @ WEIGHT.T + MEAN, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(line[:, 1], (line[:, 0] + line[:, 2]) / 2, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="steps: expected an integer of at least 2, got 1"):
        model.interpolate(x, y, steps=1)


def test_a_conditional_vae_encodes_and_decodes_at_its_contexts():
    model, contexts = small_vae(context_dim=2), jax.random.normal(KEY, (5, 2))
    x, at = integers(5, 4, 4), model(contexts)

    @jax.jit
    def facts(model):
        at, alone = model(contexts), model(contexts[2])
        encoded = at.encode(x).mean[2], alone.encode(x[2]).mean
        decoded = at.decode(jnp.ones((5, 3))).mean[2], alone.decode(jnp.ones(3)).mean
        rest = at.reconstruct(KEY, x), at.interpolate(x, x, steps=2), at.elbo_terms(KEY, x).kl_of_each
        return encoded, decoded, rest

    encoded, decoded, rest = facts(model)
    np.testing.assert_allclose(*encoded, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(*decoded, rtol=1e-5)
    z, many = jax.random.normal(KEY, (2, 6, 5, 3)), integers(6, 5, 4, 4)  # several draws, and rows, for each context
    means = jax.jit(lambda at, z, x: (at.decode(z).mean, at.encode(x).mean))
    (decoded, encoded), one = means(at, z, many), means(model(contexts[2]), z[1, 4, 2], many[4, 2])
    for found, expected in zip((decoded[1, 4, 2], encoded[4, 2]), one, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert at.decode(z).batch_shape == (2, 6, 5) and at.encode(many).batch_shape == (6, 5)
    assert [part.shape for part in rest] == [(5, 4, 4), (5, 2, 4, 4), (5, 3)]
    with pytest.raises(ValueError, match="a row for each of 5 contexts"):
        at.encode(x[:3])
    for verb in (at.log_prob_bound, at.kl):
        with pytest.raises(ValueError, match=r"expected rows that go with batch shape \(5,\) .*, got \(3,\)"):
            verb(KEY, x[:3])
    with pytest.raises(ValueError, match="z: expected"):
        at.decode(jnp.ones((5, 2)))
    with pytest.raises(AttributeError, match="call it with a context first"):
        model.encode(x)
    with pytest.raises(ValueError, match="prior: expected an instance"):
        small_vae(prior=dist.Normal)


def test_with_the_exact_posterior_every_weight_is_the_evidence():
    x = MARGINAL.sample(KEY, (50,))
    weights = jax.jit(lambda m: m.log_weights(jax.random.key(1), x, 8))(pca(exact_posterior()))
    np.testing.assert_allclose(weights, jnp.broadcast_to(MARGINAL.log_prob(x), (8, 50)), atol=1e-4)


def test_with_another_posterior_the_bound_lies_below_and_tightens():
    model, x = pca(), MARGINAL.sample(KEY, (5,))
    weights = jax.jit(lambda m: m.log_weights(jax.random.key(1), x, 200_000))(model)
    np.testing.assert_allclose(jax.nn.logsumexp(weights, 0) - np.log(200_000), MARGINAL.log_prob(x), atol=0.02)

    def bound(k):  # its mean over disjoint groups of k particles, and the standard error
        each = (jax.nn.logsumexp(weights.reshape(-1, k, 5), 1) - np.log(k)).mean(1)
        return each.mean(), each.std() / np.sqrt(len(each))

    (one, se_one), (ten, se_ten), (hundred, se) = bound(1), bound(10), bound(100)
    assert one + 4 * se_one < ten - 4 * se_ten and ten + 4 * se_ten < hundred - 4 * se
    assert hundred < MARGINAL.log_prob(x).mean() + 4 * se


def test_samples_agree_with_the_marginal():
    x = jax.jit(lambda m: m.sample(KEY, (100_000,)))(pca())
    assert x.shape == (100_000, D)
    np.testing.assert_allclose(x.mean(0), MEAN, atol=0.03)
    np.testing.assert_allclose(jnp.cov(x.T), MARGINAL.covariance_matrix, atol=0.06)


def test_kl_in_closed_form_and_by_sampling():
    x = MARGINAL.sample(KEY, (3,))
    model, q = pca(), pca().posterior(x).base_dist
    exact = (0.5 * (q.scale**2 + q.loc**2 - 1) - jnp.log(q.scale)).sum(-1)
    np.testing.assert_allclose(jax.jit(lambda m: m.kl(KEY, x))(model), exact, rtol=1e-5)
    twice = dist.MixtureSameFamily(dist.Categorical(jnp.full(2, 0.5)), dist.Normal(jnp.zeros((2, Z)), 1.0).to_event(1))
    sampled = LatentVariableModel(twice, LIKELIHOOD, model.posterior)  # the same, in a form of which no KL is known
    draws = jax.jit(jax.vmap(lambda key: sampled.kl(key, x)))(jax.random.split(KEY, 20_000))
    assert (abs(draws.mean(0) - exact) < 4 * draws.std(0) / np.sqrt(20_000)).all() and draws.std() > 0.01


def test_it_is_no_exact_density():
    with pytest.raises(NotImplementedError, match="log_prob_bound"):
        pca().log_prob(MEAN)


# -- as numpyro programs


def test_the_programs_loss_is_minus_the_bound():
    model, x = pca(), MARGINAL.sample(KEY, (6,))
    svi = SVI(model.program, model.guide, optax.sgd(0.0), Trace_ELBO(num_particles=4000))
    state = svi.init(KEY, x, size=60)
    loss = jax.jit(lambda state: svi.evaluate(state, x, size=60))(state)
    bounds = jax.jit(lambda m: m.log_weights(jax.random.key(2), x, 4000))(model).sum(1)
    error = 4 * 2**0.5 * 10 * bounds.std() / np.sqrt(4000)
    assert abs(loss + 10 * bounds.mean()) < error  # 6 rows stand for 60


def test_plain_svi_learns_the_exact_posterior():
    learned = LatentVariableModel(PRIOR, LIKELIHOOD, Diagonal(jnp.zeros((Z, D)), jnp.zeros(Z), jnp.zeros(Z)))
    x = MARGINAL.sample(KEY, (500,))
    only = lambda m: (m.program, m.guide)
    svi = SVI(*only(learned), optax.adam(2e-2), Trace_ELBO())
    result = svi.run(jax.random.key(1), 600, x, progress_bar=False)
    assert set(result.params) == {"model$params"}
    trained = probgen.from_params(result.params, "model", learned)
    bound = jax.jit(lambda m: m.log_prob_bound(KEY, x, 10).mean())
    before, after = bound(learned), bound(trained)
    assert after > before + 1
    assert after > MARGINAL.log_prob(x).mean() - 0.2


def test_the_program_with_dropout_and_integers_trains_and_predicts():
    model, x = small_vae(dropout=0.2, input_dropout=0.1), integers(20, 4, 4)
    svi = SVI(model.program, model.guide, optax.adam(1e-3), Trace_ELBO())
    result = svi.run(KEY, 3, x, progress_bar=False)
    assert jnp.isfinite(result.losses).all()
    drawn = Predictive(model.program, params=result.params, num_samples=2)(KEY, None, size=5)
    assert drawn["x"].shape == (2, 5, 4, 4) and drawn["x"].dtype == jnp.int32
    with pytest.raises(ValueError, match="size"):
        Predictive(model.program, params=result.params, num_samples=2)(KEY, None)


def test_it_stands_at_a_sample_site_through_observe():
    model, x = small_vae(), integers(5, 4, 4)

    def program():
        with numpyro.plate("data", 5):
            probgen.observe("x", probgen.module("vae", model), x)

    svi = SVI(program, lambda: None, optax.adam(1e-3), Trace_ELBO())
    assert jnp.isfinite(svi.run(KEY, 2, progress_bar=False).losses).all()


# -- any parts


def test_flows_serve_as_prior_and_posterior_and_no_draw_is_inverted(monkeypatch):
    keys = jax.random.split(KEY, 3)
    flow = {"layers": 2, "hidden": (8,)}
    posterior = real_nvp(Z, **flow, context_dim=D, key=keys[0])
    decoder = Conditional(MLP(Z, 2 * D, hidden=(8,), key=keys[1]), NormalHead(), (D,))
    x = integers(6, D).astype(float)
    model = LatentVariableModel(real_nvp(Z, **flow, key=keys[2]), decoder, posterior)
    bound, kl = jax.jit(lambda m: (m.log_prob_bound(KEY, x, 3), m.kl(KEY, x)))(model)
    assert bound.shape == kl.shape == (6,) and np.isfinite(bound).all() and np.isfinite(kl).all()
    monkeypatch.setattr(Transformed, "_log_prob", None)  # what would invert
    model = LatentVariableModel(PRIOR, decoder, posterior)
    svi = SVI(model.program, model.guide, optax.adam(1e-3), Trace_ELBO())
    assert np.isfinite(svi.run(KEY, 2, x, progress_bar=False).losses).all()
    assert np.isfinite(jax.jit(lambda m: m.log_weights(KEY, x, 3))(model)).all()


def test_a_mixture_prior_integrates_to_one_and_samples_itself():
    prior = GaussianMixture(jnp.array([0.0, 1.0]), jnp.array([[-2.0], [1.0]]), jnp.array([[-1.0], [0.3]]))
    grid = jnp.linspace(-12, 12, 4001)[:, None]
    density = jnp.exp(prior.log_prob(grid))
    assert abs(jnp.trapezoid(density, grid[:, 0]) - 1) < 1e-4
    mean = jnp.trapezoid(density * grid[:, 0], grid[:, 0])
    assert abs(prior.sample(KEY, (50_000,)).mean() - mean) < 0.04
    with pytest.raises(ValueError, match=r"logits \[K\]"):
        GaussianMixture(jnp.zeros(3), jnp.zeros((2, 1)), jnp.zeros((2, 1)))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="prior: expected batch shape"):
        LatentVariableModel(dist.Normal(jnp.zeros(Z), 1.0), LIKELIHOOD, exact_posterior())
    with pytest.raises(ValueError, match="likelihood: expected batch shape"):
        LatentVariableModel(PRIOR, lambda z: dist.Normal(z, 1.0), exact_posterior())
    with pytest.raises(ValueError, match="posterior: expected batch shape"):
        wrong = lambda x: dist.Normal(x, 1.0).to_event(1)
        LatentVariableModel(PRIOR, LIKELIHOOD, wrong).log_prob_bound(KEY, MEAN)
    with pytest.raises(NotImplementedError, match="carry no gradient"):
        bits = dist.Bernoulli(0.5 * jnp.ones(Z)).to_event(1)
        discrete = lambda x: dist.Bernoulli(logits=x[:Z]).to_event(1)
        jax.grad(LatentVariableModel(bits, LIKELIHOOD, discrete).log_prob_bound, 1)(KEY, MEAN)
    with pytest.raises(ValueError, match="posterior: expected draws of the whole of the prior's support"):
        positive = lambda x: dist.LogNormal(x[:Z], 1.0).to_event(1)
        LatentVariableModel(PRIOR, LIKELIHOOD, positive).log_prob_bound(KEY, MEAN)


@pytest.mark.parametrize("verb", ["program", "guide"])
@pytest.mark.parametrize("x", [MEAN, jnp.ones((5, 1)), jnp.ones((2, 5, D))])
def test_programs_refuse_what_are_no_rows(verb, x):
    run = numpyro.handlers.seed(getattr(pca(), verb), KEY)
    with pytest.raises(ValueError, match=r"(x: expected rows|value: expected events)"):
        run(x)
    with pytest.raises(ValueError, match="size: expected at least the 5 rows"):
        run(jnp.ones((5, D)), size=4)


def test_a_line_goes_between_means_that_draws_tell_where_no_form_does():
    flow = lambda x: Transformed(exact_posterior()(x), distrax.Block(distrax.Tanh(), 1))
    model = LatentVariableModel(Transformed(PRIOR, distrax.Block(distrax.Tanh(), 1)), LIKELIHOOD, flow)
    ends = model.interpolate(MEAN, MEAN + 3.0, steps=2)
    means = [flow(x).sample(KEY, (20_000,)).mean(0) for x in (MEAN, MEAN + 3.0)]
    np.testing.assert_allclose(ends, jnp.stack(means) @ WEIGHT.T + MEAN, atol=0.3)


def test_a_full_covariance_has_its_kl_in_closed_form():
    model = pca(exact_posterior())
    found = model.kl(KEY, MEAN)
    assert found == model.kl(jax.random.key(1), MEAN) > 0


# -- the recipe

RECIPES = {
    "logistic mixtures": {},
    "categorical": {"components": 0},
    "binary, mixture prior": {"levels": 2, "prior": gaussian_mixture(3, components=4, diagonal=True, key=KEY)},
}


@pytest.mark.parametrize("name", RECIPES)
def test_vae_shapes_gradients_and_extremes(name):
    model, levels = small_vae(**RECIPES[name]), RECIPES[name].get("levels", 17)
    x = integers(2, 3, 4, 4, levels=levels)
    assert model.event_shape == (4, 4) and model.batch_shape == ()
    params, rest = probgen.partition(model)

    @jax.jit
    def run(params):
        m = probgen.combine(params, rest)
        bound = lambda p: probgen.combine(p, rest).log_prob_bound(KEY, x).sum()
        drawn = m.sample(KEY, (7,))
        return m.log_weights(KEY, x, 5), m.kl(KEY, x), drawn, m.support(drawn), jax.grad(bound)(params)

    weights, kl, drawn, inside, grads = run(params)
    assert weights.shape == (5, 2, 3) and kl.shape == (2, 3)
    assert drawn.shape == (7, 4, 4) and drawn.dtype == jnp.int32 and inside.all()
    assert all((np.asarray(g) != 0).any() for g in grads.values())
    for factor in (1e2, 1e5):
        for leaf in jax.tree.leaves(run({path: factor * np.asarray(leaf) for path, leaf in params.items()})):
            assert np.isfinite(leaf).all(), factor


def test_the_posteriors_scale_is_bounded_with_finite_gradients():
    scale = lambda raw: BoundedNormalHead(bound=3.0)(jnp.stack([0.0, raw])).scale
    scales, grads = jax.jit(jax.vmap(jax.value_and_grad(scale)))(jnp.array([-1e30, 0.0, 1e30]))
    np.testing.assert_allclose(scales, np.exp([-3.0, 0.0, 3.0]), rtol=1e-5)
    assert np.isfinite(grads).all()


def test_the_conditional_form_its_gradients_and_its_file(tmp_path):
    conditional = small_vae(context_dim=3, prior=gaussian_mixture(3, components=2, key=KEY))
    x, context = integers(5, 4, 4), jax.random.normal(KEY, (5, 3))
    assert conditional(context).batch_shape == (5,) and conditional(context).event_shape == (4, 4)
    bound = jax.jit(lambda m, c: m(c).log_prob_bound(KEY, x, 4))

    @jax.jit
    def run(conditional, context):
        paths = {
            "bound": lambda c: conditional(c).log_prob_bound(KEY, x).sum(),
            "posterior": lambda c: bind(conditional.model, c[0]).kl(KEY, x[0]),
            "likelihood": lambda c: bind(conditional.model, c[0]).likelihood(jnp.ones(3)).log_prob(x[0]),
        }
        drawn = conditional(context).sample(KEY, (2,))
        return drawn, conditional(context).support(drawn), {name: jax.grad(f)(context) for name, f in paths.items()}

    drawn, inside, grads = run(conditional, context)
    assert drawn.shape == (2, 5, 4, 4) and inside.all()
    for name, grad in grads.items():
        assert np.isfinite(grad).all() and (np.asarray(grad)[0] != 0).all(), name
    with pytest.raises(ValueError, match="conditional"):
        conditional.model.likelihood(jnp.ones(3))
    probgen.save(tmp_path / "vae.safetensors", conditional)
    loaded = probgen.load(tmp_path / "vae.safetensors")
    assert bound(conditional, context).shape == (5,)
    np.testing.assert_array_equal(bound(loaded, context), bound(conditional, context))


def test_a_stack_of_models_has_a_batch_shape():
    stacked = jax.jit(jax.vmap(lambda key: small_vae(key=key)))(jax.random.split(KEY, 3))
    assert stacked.batch_shape == (3,)

    @jax.jit
    def run(m):
        drawn = m.sample(KEY)
        return drawn, m.support(drawn), m.log_prob_bound(KEY, drawn[0])

    drawn, inside, bound = run(stacked)
    assert drawn.shape == (3, 4, 4) and inside.all() and bound.shape == (3,)


def test_nuts_over_the_programs_latents_finds_the_exact_posterior():
    x, q = MARGINAL.sample(KEY, (2,)), exact_posterior()
    mcmc = MCMC(NUTS(pca().program), num_warmup=300, num_samples=1000, progress_bar=False)
    mcmc.run(KEY, x, name=None)
    z = mcmc.get_samples()["z"]
    np.testing.assert_allclose(z.mean(0), q(x).mean, atol=0.06)
    np.testing.assert_allclose(jnp.cov(z[:, 0].T), q(x[0]).covariance_matrix, atol=0.04)


def test_what_was_trained_trains_on():
    """What a model is trained on of its own accord survives `jit`, and with it `fit`."""
    model = vae((2,), 2, latent_dim=1, hidden=(2,), key=jax.random.key(0))
    assert jax.jit(lambda m: m)(model).trained_on == model.trained_on == (1.0, 1)
    for _ in range(2):
        model = probgen.fit(model, jnp.zeros((4, 2), int), steps=1, key=jax.random.key(1), progress=False).model


def test_networks_of_other_sizes_are_refused_where_the_model_is_made():
    normal, net = dist.Normal(jnp.zeros(2), 1.0).to_event(1), lambda i, o: MLP(i, o, hidden=(4,), key=KEY)
    likelihood, posterior = Conditional(net(2, 6), NormalHead(), (3,)), Conditional(net(3, 4), NormalHead(), (2,))
    LatentVariableModel(normal, likelihood, posterior)
    with pytest.raises(ValueError, match=r"posterior: it takes no x of shape \(3,\)"):
        LatentVariableModel(normal, likelihood, Conditional(net(7, 4), NormalHead(), (2,)))
    with pytest.raises(ValueError, match=r"likelihood: it takes no z of shape \(2,\)"):
        LatentVariableModel(normal, Conditional(net(7, 6), NormalHead(), (3,)), posterior)
    model = LatentVariableModel(normal, likelihood, posterior)
    with pytest.raises(ValueError, match=r"value: expected events of shape \[..., 3\], got \(4,\)"):
        model.interpolate(jnp.zeros(4), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"expected rows that go together, got \(2,\), \(3,\)"):
        model.interpolate(jnp.zeros((2, 3)), jnp.zeros((3, 3)))
