"""A flow prior, Bernoulli latents and an autoregressive decoder in one program, against the sum over all latents."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, TraceGraph_ELBO

import probgen

STYLES, PARTS, PIXELS, LEVELS = 2, 2, 4, 3
KEYS = jax.random.split(jax.random.key(0), 8)
PRIOR = probgen.flows.real_nvp(STYLES, layers=2, hidden=(16,), key=KEYS[0])
DECODER = probgen.autoregressive.made((PIXELS,), LEVELS, hidden=(32,), context_dim=STYLES + PARTS, key=KEYS[1])
ENCODER = probgen.networks.MLP(PIXELS, 2 * STYLES + PARTS, hidden=(32,), key=KEYS[2])


def likelihood(decoder, style, parts):
    return decoder(jnp.concatenate([style, parts], -1))


def program(x):
    prior, decoder = probgen.module("prior", PRIOR), probgen.module("decoder", DECODER)
    with numpyro.plate("data", len(x)):
        style = numpyro.sample("style", prior)
        parts = numpyro.sample("parts", dist.Bernoulli(logits=style).to_event(1))
        numpyro.sample("x", likelihood(decoder, style, parts.astype(float)), obs=x)


def guide(x):
    encoder = probgen.module("encoder", ENCODER)
    loc, raw, logits = jnp.split(jax.vmap(encoder)(x - 1.0), [STYLES, 2 * STYLES], -1)
    with numpyro.plate("data", len(x)):
        numpyro.sample("style", dist.Normal(loc, jnp.exp(raw)).to_event(1))
        numpyro.sample("parts", dist.Bernoulli(logits=logits).to_event(1))


def data(key, rows):
    """Two kinds of rows, each with one noisy pixel: 0 0 0 u and 2 2 1 u."""
    kind, noise = jax.random.split(key)
    rows_of = jnp.array([[0, 0, 0], [2, 2, 1]])[jax.random.bernoulli(kind, shape=(rows,)).astype(int)]
    return jnp.concatenate([rows_of, jax.random.randint(noise, (rows, 1), 0, LEVELS)], -1)


@jax.jit
def exact(prior, decoder, x):
    """log p(x): a grid over the style, and all the parts."""
    axis = jnp.linspace(-7.0, 7.0, 81)
    style = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 1, STYLES)
    parts = jnp.array(list(itertools.product([0.0, 1.0], repeat=PARTS)))
    style, parts = jnp.broadcast_arrays(style, parts)
    log_z = prior.log_prob(style) + dist.Bernoulli(logits=style).to_event(1).log_prob(parts)
    one = lambda x: jax.nn.logsumexp(log_z + likelihood(decoder, style, parts).log_prob(x))
    return jax.lax.map(one, x) + 2 * jnp.log(axis[1] - axis[0])


def test_it_trains_and_its_bound_lies_below_the_exact_likelihood():
    x, fresh = data(KEYS[3], 512), data(KEYS[4], 64)
    options = {"guide": guide, "objective": TraceGraph_ELBO(), "optimizer": optax.adam(5e-3)}
    result = probgen.fit(program, x, steps=1500, batch_size=128, key=KEYS[5], progress=False, **options)
    prior = probgen.from_params(result.params, "prior", PRIOR)
    decoder = probgen.from_params(result.params, "decoder", DECODER)
    every = jnp.array(list(itertools.product(range(LEVELS), repeat=PIXELS)))
    np.testing.assert_allclose(jnp.exp(exact(prior, decoder, every)).sum(), 1.0, atol=5e-3)
    log_p = float(exact(prior, decoder, fresh).mean())
    objective = TraceGraph_ELBO(num_particles=200)
    loss = jax.jit(lambda params: objective.loss(KEYS[6], params, program, guide, fresh))
    bound = -float(loss(result.params)) / 64
    assert bound < log_p + 0.01  # the bound's standard error is about 0.005
    assert log_p - bound < 0.3  # and the guide is no bad one
    truth = -np.log(2) - np.log(LEVELS)  # one bit for the kind, and the noisy pixel
    assert truth - 0.25 < log_p < truth + 0.05
    assert bound > -PIXELS * np.log(LEVELS) + 1.5  # far from where it started


def test_gradients_reach_every_part_without_a_path():
    """The encoder's logits of the Bernoullis have only the score function; all others have a path as well."""
    x = data(KEYS[3], 64)
    svi = SVI(program, guide, optax.sgd(1.0), TraceGraph_ELBO())
    state = svi.init(KEYS[5], x)
    before = svi.get_params(state)
    after = svi.get_params(jax.jit(svi.update)(state, x)[0])
    for site in ("prior$params", "decoder$params", "encoder$params"):
        for path, leaf in before[site].items():
            assert not np.array_equal(leaf, after[site][path]), f"{site} {path}"
