"""Top-down hierarchies: bits against enumeration, normals against the same model written by hand."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO

import probgen
from probgen.distributions import BernoulliHead, BoundedNormalHead, Conditional
from probgen.inference import objectives
from probgen.latent import DenseEncoder, DenseLayer, Path, PyramidEncoder, Stage, TopDown, top_down_vae, vd_vae
from probgen.networks import MLP, Dropout, Pixels

KEY = jax.random.key(0)
D, WIDTH, DIM = 3, 6, 2


def small(head, depth=2):
    """x of three bits; `depth` layers of two latents; every weight away from zero."""
    keys = jax.random.split(KEY, 5)
    layer = lambda key: DenseLayer(WIDTH, DIM, head.num_params, hidden=8, key=key)
    path = Path(jnp.ones(WIDTH), (Stage(jax.vmap(layer)(jax.random.split(keys[0], depth))),), head)
    encoder = Pixels(DenseEncoder(D, width=WIDTH, depth=depth, hidden=8, key=keys[1]), 2, (D,))
    decoder = Conditional(MLP(WIDTH, D, hidden=(8,), key=keys[2]), BernoulliHead(), (D,))
    params, rest = probgen.partition(TopDown(path, encoder, decoder))
    moved = {
        name: value + 0.3 * jax.random.normal(jax.random.fold_in(keys[3], i), value.shape)
        for i, (name, value) in enumerate(sorted(params.items()))
    }
    return probgen.combine(moved, rest)


BITS, NORMAL = small(BernoulliHead()), small(BoundedNormalHead())
Z = jnp.array(list(itertools.product([0, 1], repeat=4)))
X = jnp.array(list(itertools.product([0, 1], repeat=D)))


@jax.jit
def joint(model):
    """log p(z), log p(x | z), log q(z | x) at all z and x, [16], [16, 8], [16, 8]."""
    return (
        model.latent_prior.log_prob(Z),
        jax.vmap(lambda z: model.likelihood(z).log_prob(X))(Z),
        model.encode(X).log_prob(Z[:, None]),
    )


def exact_bound(model):
    log_p, given, log_q = joint(model)
    return jnp.sum(jnp.exp(log_q) * (log_p[:, None] + given - log_q), 0)


# -- bits


def test_every_part_is_normalized_and_the_bound_is_the_enumerated_one():
    log_p, given, log_q = joint(BITS)
    np.testing.assert_allclose(jnp.exp(log_p).sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(log_q).sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(jax.nn.logsumexp(log_p[:, None] + given, 0)).sum(), 1, rtol=1e-5)
    weights = jax.jit(lambda m: m.log_weights(jax.random.key(1), X, 20_000))(BITS)
    error = weights.std(0) / np.sqrt(len(weights))
    np.testing.assert_array_less(abs(weights.mean(0) - exact_bound(BITS)), 4.5 * error)
    evidence = jax.nn.logsumexp(log_p[:, None] + given, 0)
    unbiased, error = jnp.exp(weights).mean(0), jnp.exp(weights).std(0) / np.sqrt(len(weights))
    np.testing.assert_array_less(abs(unbiased - jnp.exp(evidence)), 4.5 * error)


def test_draws_follow_the_enumerated_prior_and_posterior():
    log_p, _, log_q = joint(BITS)
    code = lambda z: (z * jnp.array([8, 4, 2, 1])).sum(-1)
    drawn = jax.jit(lambda m: (m.latent_prior.sample(KEY, (20_000,)), m.encode(X[5]).sample(KEY, (20_000,))))(BITS)
    for z, log_probs in zip(drawn, (log_p, log_q[:, 5]), strict=True):
        share = np.bincount(code(z), minlength=16) / len(z)
        p = np.exp(log_probs)
        np.testing.assert_array_less(abs(share - p), 4.5 * np.sqrt(p / len(z)) + 1e-6)


def test_the_gradient_of_the_program_is_that_of_the_enumerated_bound():
    params, rest = probgen.partition(BITS)
    exact = jax.grad(lambda p: -exact_bound(probgen.combine(p, rest)).sum())(params)
    objective = objectives.ELBO(num_particles=2000)

    @jax.jit
    def estimate(key):
        model = lambda x: probgen.combine(params, rest).program(x)
        guide = lambda x: probgen.combine(params, rest).guide(x)
        loss = lambda p: objective.loss(key, {"model$params": p}, model, guide, X)
        return jax.grad(loss)(params)

    found = jax.lax.map(estimate, jax.random.split(KEY, 12))
    for name, grad in exact.items():
        error = found[name].std(0, ddof=1) / np.sqrt(12)
        np.testing.assert_array_less(abs(found[name].mean(0) - grad), 6 * error + 2e-3, name)


# -- normals


def by_hand(model, layers=2):
    """The program and the guide with a site for each layer, in plain numpyro."""
    layer = lambda i: jax.tree.map(lambda leaf: leaf[i], model.path.stages[0].layers)
    normal = lambda raw: dist.Normal(raw[..., 0], jnp.exp(5 * jnp.tanh(raw[..., 1] / 5))).to_event(1)

    def program(x):
        with numpyro.plate("data", len(x)):
            h = jnp.broadcast_to(model.path.start, (len(x), WIDTH))
            for i in range(layers):
                z = numpyro.sample(f"layer {i}", normal(jax.vmap(layer(i).prior)(h)))
                h = jax.vmap(layer(i).down)(h, z)
            numpyro.sample("x", dist.Bernoulli(logits=jax.vmap(model.decoder.network)(h)).to_event(1), obs=x)

    def guide(x):
        with numpyro.plate("data", len(x)):
            h, (features,) = jnp.broadcast_to(model.path.start, (len(x), WIDTH)), jax.vmap(model.encoder)(x)
            for i in range(layers):
                raw = jax.vmap(layer(i).prior)(h) + jax.vmap(layer(i).residual)(h, features[:, i])
                z = numpyro.sample(f"layer {i}", normal(raw))
                h = jax.vmap(layer(i).down)(h, z)

    return program, guide


def test_the_same_model_by_hand_has_the_same_densities_and_the_same_bound():
    program, guide = by_hand(NORMAL)
    z = NORMAL.encode(X).sample(KEY)
    values = {f"layer {i}": part for i, part in enumerate(jnp.split(z, 2, -1))}
    density = lambda f: numpyro.infer.util.log_density(numpyro.handlers.seed(f, KEY), (X,), {}, values)[0]
    log_joint = NORMAL.latent_prior.log_prob(z) + NORMAL.likelihood(z).log_prob(X)
    np.testing.assert_allclose(density(program), log_joint.sum(), rtol=1e-5)
    np.testing.assert_allclose(density(guide), NORMAL.encode(X).log_prob(z).sum(), rtol=1e-5)
    loss = lambda *pair: jax.jit(lambda key: Trace_ELBO(500).loss(key, {}, *pair, X))
    ours, theirs = (
        jax.lax.map(loss(*pair), jax.random.split(KEY, 16))
        for pair in [by_hand(NORMAL), (lambda x: NORMAL.program(x, name=None), lambda x: NORMAL.guide(x, name=None))]
    )
    assert abs(ours.mean() - theirs.mean()) < 4.5 * np.hypot(ours.std(), theirs.std()) / 4


def test_the_kl_of_layers_is_in_closed_form_and_what_the_bound_takes():
    model, key = NORMAL, jax.random.key(3)
    terms, layers = model.elbo_terms(key, X), model.kl_of_layers(key, X)
    np.testing.assert_allclose(layers.sum(-1), terms.kl, rtol=1e-5)
    np.testing.assert_allclose(terms.kl_of_each.reshape(8, 2, DIM).sum(-1), layers, rtol=1e-5)
    draws = jax.jit(jax.vmap(lambda key: (model.kl(key, X), model.log_weights(key, X, 1)[0])))
    kl, _ = draws(jax.random.split(KEY, 4000))
    q = model.encode(X)
    z = jax.jit(lambda m: m.encode(X).sample(KEY, (4000,)))(model)
    sampled = q.log_prob(z) - model.latent_prior.log_prob(z)
    error = 4.5 * np.hypot(kl.std(0), sampled.std(0)) / np.sqrt(4000)
    np.testing.assert_array_less(abs(kl.mean(0) - sampled.mean(0)), error)
    with pytest.raises(ValueError, match="encoder: expected features"):
        TopDown(model.path, small(BoundedNormalHead(), depth=3).encoder, model.decoder)


def test_the_programs_bound_has_a_term_for_each_layer_and_runs_the_path_once():
    drawn = NORMAL.encode(X).sample_with_intermediates(KEY)
    z, (log_q, kl) = drawn
    np.testing.assert_allclose(log_q, NORMAL.encode(X).log_prob(z), rtol=1e-4, atol=1e-4)
    q = NORMAL.encode(X)
    assert q.kl_of_layers(NORMAL.latent_prior, z, [log_q, kl]) is kl
    np.testing.assert_allclose(q.kl_of_layers(NORMAL.latent_prior, z, []), kl, rtol=1e-4, atol=1e-5)
    other = small(BoundedNormalHead(), depth=2)
    assert q.kl_of_layers(other.latent_prior, z, [log_q, kl]) is None
    plan = objectives.ELBO().plan(KEY, {}, lambda x: NORMAL.program(x), lambda x: NORMAL.guide(x), X)
    assert {key for key in plan.graph.frames if key[0] == "kl"} >= {("kl", "z", 0), ("kl", "z", 1)}


def test_depth_costs_no_compilation():
    def size(depth):
        model = small(BoundedNormalHead(), depth)
        loss = jax.grad(lambda m: m.log_prob_bound(KEY, X).sum(), allow_int=True)
        return len(str(jax.make_jaxpr(lambda: loss(model))()))

    assert size(6) < 1.05 * size(2)


def test_free_bits_hold_for_each_layer():
    """All layers below λ: the bound's gradient is that of the reconstruction alone."""
    params, rest = probgen.partition(NORMAL)
    loss = lambda objective: jax.jit(
        jax.grad(
            lambda p: objective.loss(
                KEY,
                {"model$params": p},
                lambda x: probgen.combine(params, rest).program(x),
                lambda x: probgen.combine(params, rest).guide(x),
                X,
            )
        )
    )(params)
    free = loss(objectives.FreeBits(objectives.ELBO(), nats=1e3))
    beta = loss(objectives.Beta(objectives.ELBO(), beta=0.0))
    for name in params:
        np.testing.assert_allclose(free[name], beta[name], rtol=1e-4, atol=1e-5)


# -- the recipes


@pytest.mark.parametrize("recipe", ["dense", "images"])
def test_the_recipes_train_at_contexts_too(recipe):
    x = jax.random.randint(KEY, (20, 5, 7, 3), 0, 4)
    make = {
        "dense": partial(top_down_vae, (5, 7, 3), 4, layers=3, latent_dim=2, width=8, hidden=(8,)),
        "images": partial(vd_vae, (5, 7, 3), 4, layers=(1, 2), channels=3, latent_channels=2),
    }[recipe]
    made = lambda **kw: jax.jit(lambda key: make(key=key, **kw))(KEY)
    skip = optax.MultiSteps(
        optax.adam(1e-3), 1, should_skip_update_fn=lambda g, s, p: optax.skip_large_updates(g, s, p, 1e9)
    ).gradient_transformation()
    result = probgen.fit(made(), x, steps=3, batch_size=10, optimizer=skip, key=KEY, progress=False)
    assert np.isfinite(result.losses).all()
    model = result.model
    verbs = lambda m: (m.kl_of_layers(KEY, x), m.sample(KEY, (2,)))
    more = lambda m: (m.reconstruct(KEY, x[:2]), m.interpolate(x[0], x[1], steps=3))
    shapes = lambda found: [part.shape for part in found]
    assert shapes(jax.jit(verbs)(model)) == [(20, 3), (2, 5, 7, 3)]
    if recipe == "dense":
        assert shapes(jax.jit(more)(model)) == [(2, 5, 7, 3), (3, 5, 7, 3)]
    contexts, z = jax.random.normal(KEY, (3, 2)), jnp.zeros(model.latent_shape)
    conditional = made(context_dim=2)
    density = jax.jit(lambda context, x: conditional(context).encode(x).log_prob(z))
    np.testing.assert_allclose(density(contexts, x[:3])[1], density(contexts[1], x[1]), rtol=1e-4)
    if recipe == "dense":
        result = probgen.fit(conditional, (x[:3], contexts), steps=2, key=KEY, progress=False)
        assert np.isfinite(result.losses).all()


def test_svi_learns_with_numpyros_own_objective():
    svi = SVI(NORMAL.program, NORMAL.guide, optax.adam(1e-2), Trace_ELBO())
    result = svi.run(KEY, 200, X, progress_bar=False)
    assert result.losses[-20:].mean() < result.losses[:20].mean() - 1


def test_a_context_that_nobody_sees_is_refused():
    plain, at = (PyramidEncoder(1, channels=2, layers=(1,), context_dim=n, key=KEY) for n in (None, 3))
    with pytest.raises(ValueError, match="context: expected none"):
        plain(jnp.ones((4, 4, 1)), jnp.ones(3))
    with pytest.raises(ValueError, match="context: expected one"):
        at(jnp.ones((4, 4, 1)))


def test_dropout_reaches_every_layer_with_a_mask_of_its_own():
    is_drop = lambda node: isinstance(node, Dropout)
    dropping = jax.tree.map(lambda node: Dropout(0.5) if is_drop(node) else node, NORMAL, is_leaf=is_drop)
    bound = jax.jit(lambda model, key: probgen.with_key(model, key).log_prob_bound(KEY, X[1]))
    assert len({float(bound(dropping, jax.random.key(i))) for i in range(3)}) == 3
    stage = probgen.with_key(dropping, KEY).path.stages[0]
    keys = [node.key for node in jax.tree.leaves(stage, is_leaf=is_drop) if is_drop(node)]
    assert all(len(np.unique(jax.random.key_data(key), axis=0)) == stage.depth for key in keys)
    model = top_down_vae((D,), 2, latent_dim=2, width=4, hidden=(4,), dropout=0.5, input_dropout=0.5, key=KEY)
    assert np.isfinite(probgen.fit(model, X, steps=1, batch_size=4, key=KEY, progress=False).history["train"]).all()
