"""A linear-Gaussian VAE reaches the closed-form optimum of probabilistic PCA, and mistakes are one sentence each.

Its bound, posterior and annealed evidence at given numbers: test_latent, test_annealing.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax import Array

import probgen
from probgen.core import Contextual
from probgen.distributions import BernoulliHead, BoundedNormalHead, Conditional
from probgen.evaluation import ais, evaluate
from probgen.inference.objectives import ELBO, ImportanceWeighted, ReweightedWakeSleep, WakeSleep
from probgen.latent import FullCovariance, LatentVariableModel, VampPrior, vae
from probgen.networks import MLP

KEY = jax.random.key(0)
N, D, Z = 300, 5, 2

# -- probabilistic PCA (Tipping and Bishop 1999)


class Isotropic(eqx.Module):
    """z → Normal(W z + μ, σ² I), with one learned σ."""

    weight: Array
    bias: Array
    log_scale: Array

    def __call__(self, z):
        return dist.Normal(z @ self.weight.T + self.bias, jnp.exp(self.log_scale)).to_event(1)

    def marginal(self):
        return dist.MultivariateNormal(
            self.bias, self.weight @ self.weight.T + jnp.exp(2 * self.log_scale) * jnp.eye(D)
        )


def data():
    weight_key, z_key, noise_key = jax.random.split(KEY, 3)
    weight = jax.random.normal(weight_key, (D, Z)) * jnp.array([1.5, 0.7])
    return jax.random.normal(z_key, (N, Z)) @ weight.T + 1.0 + 0.6 * jax.random.normal(noise_key, (N, D))


def optimum(x):
    """log p of a row, in the mean, at the maximum: −½ (Σ_{i ≤ q} log λ_i + (D − q) log σ² + D log 2π + D), where λ are
    the eigenvalues of the sample covariance, and σ² is the mean of those that are left out."""
    eigenvalues = np.linalg.eigvalsh(np.cov(np.asarray(x, float).T, bias=True))[::-1]
    noise = eigenvalues[Z:].mean()
    return -0.5 * (np.log(eigenvalues[:Z]).sum() + (D - Z) * np.log(noise) + D * np.log(2 * np.pi) + D), noise


@pytest.fixture(scope="module")
def learned():
    x, prior = data(), dist.Normal(jnp.zeros(Z), 1.0).to_event(1)
    decoder = Isotropic(0.3 * jax.random.normal(KEY, (D, Z)), jnp.zeros(D), jnp.zeros(()))
    model = LatentVariableModel(prior, decoder, FullCovariance(MLP(D, 5, hidden=(), key=KEY), Z))
    adam = optax.adam(optax.cosine_decay_schedule(0.03, 4000))
    return probgen.fit(model, x, steps=4000, optimizer=adam, key=jax.random.key(1), progress=False).model


def test_svi_reaches_the_optimum_of_probabilistic_pca(learned):
    x = data()
    best, noise = optimum(x)
    exact = learned.likelihood.marginal().log_prob(x).mean()
    bound = jax.jit(lambda m: m.log_weights(KEY, x, 500).mean())(learned)
    assert best - 1e-2 < bound and exact < best + 1e-4
    assert bound < exact + 1e-3  # a mean over 150,000 draws
    np.testing.assert_allclose(jnp.exp(2 * learned.likelihood.log_scale), noise, rtol=0.03)


def test_annealing_there_and_back_holds_the_evidence_of_what_the_learned_model_draws(learned):
    z = learned.latent_prior.sample(jax.random.key(2))
    x = learned.decode(z).sample(jax.random.key(3))
    exact = learned.likelihood.marginal().log_prob(x)
    log_likelihood = lambda z: learned.decode(z).log_prob(x)
    how = {"chains": 256, "temperatures": 2000, "leapfrog": 4}
    one = jax.jit(lambda key, start: ais(key, learned.prior, log_likelihood, start=start, **how).log_evidence)
    for start in (None, z):  # from below, from above: each to its noise
        assert abs(one(jax.random.key(4), start) - exact) < 0.05


# -- bad input


def network(inputs, outputs):
    return MLP(inputs, outputs, hidden=(4,), key=KEY)


X = jnp.array([[1, 0, 1], [0, 0, 1]])
NORMAL = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
BITS = dist.Bernoulli(0.5 * jnp.ones(2)).to_event(1)
RATES = dist.Gamma(jnp.ones(2), 1.0).to_event(1)
DECODER = Conditional(network(2, 3), BernoulliHead(), (3,))
NORMALS = Conditional(network(3, 4), BoundedNormalHead(), (2,))
MODEL = LatentVariableModel(NORMAL, DECODER, NORMALS)


class NoSampler(dist.BernoulliProbs):
    def sample(self, key, sample_shape=()):
        raise NotImplementedError("no sampler")


def fitted(model, x=X, **how):
    return probgen.fit(model, x, steps=1, key=KEY, progress=False, **how)


def unsampled(z):
    return NoSampler(jnp.full((*z.shape[:-1], 3), 0.5)).to_event(1)


MISTAKES = {
    "a decoder of another shape, in fit": (lambda: fitted(MODEL, X[:, :2]), r"data: expected rows of shape \(3,\)"),
    "a decoder of another shape": (lambda: MODEL.log_prob_bound(KEY, X[:, :2]), r"value: expected events of shape"),
    "x out of the support": (lambda: fitted(MODEL, X + 1), "data: row 0 lies outside the model's support"),
    "x of reals": (lambda: fitted(MODEL, X * 1.0), "data: the model is over integers, got dtype float32"),
    "no particle": (lambda: MODEL.log_prob_bound(KEY, X, 0), "num_particles: expected an integer of at least 1, got 0"),
    "no particle in fit": (lambda: fitted(MODEL, num_particles=0), "num_particles: expected an integer of at least 1"),
    "no particle of the ELBO": (lambda: ELBO(0), "num_particles: expected an integer of at least 1, got 0"),
    "no particle of IWAE": (lambda: ImportanceWeighted(0), "num_particles: expected an integer of at least 1, got 0"),
    "a pseudo-input of another shape": (
        lambda: vae((3,), 2, latent_dim=2, hidden=(4,), prior=VampPrior(jnp.zeros((4, 5))), key=KEY),
        r"pseudo_inputs: the posterior takes no events of shape \(5,\)",
    ),
    "pseudo-inputs of another rank": (
        lambda: LatentVariableModel(VampPrior(jnp.zeros((4, 2, 3))), DECODER, NORMALS),
        r"pseudo_inputs: expected 4 events of x, got shape \(4, 2, 3\)",
    ),
    "a prior that is none": (lambda: LatentVariableModel(None, DECODER, NORMALS), "prior: expected a dist.* got None"),
    "a prior by its name": (
        lambda: vae((3,), 2, latent_dim=2, hidden=(4,), prior="vamp", key=KEY),
        "prior: expected a distribution, .* such as a VampPrior, got 'vamp'",
    ),
    "a prior that makes a number": (
        lambda: LatentVariableModel(lambda q: 3, DECODER, NORMALS),
        "prior: expected .* got 3",
    ),
    "a prior of bits": (
        lambda: vae((3,), 2, latent_dim=2, hidden=(4,), prior=BITS, key=KEY),
        "posterior: expected draws within the prior's support",
    ),
    "a likelihood that is a distribution": (
        lambda: LatentVariableModel(NORMAL, NORMAL, NORMALS),
        "likelihood: expected a function that returns a distribution of x, got a Independent",
    ),
    "a likelihood of an array": (
        lambda: LatentVariableModel(NORMAL, lambda z: z, NORMALS),
        r"likelihood: expected a distribution of x, got an array of shape \(2,\)",
    ),
    "a posterior that is none": (
        lambda: LatentVariableModel(NORMAL, DECODER, None),
        "posterior: expected a function that returns a distribution of z, got None",
    ),
    "a posterior of an array": (
        lambda: LatentVariableModel(NORMAL, DECODER, lambda x: x),
        r"posterior: expected a distribution of z, got an array of shape \(3,\)",
    ),
    "a posterior of another shape": (
        lambda: LatentVariableModel(NORMAL, DECODER, lambda x: dist.Normal(1.0 * x, 1.0).to_event(1)),
        r"posterior: expected batch shape \(\) and event shape \(2,\) for one x, got \(\) and \(3,\)",
    ),
    "a posterior with batch axes, at contexts": (
        lambda: LatentVariableModel(
            NORMAL, DECODER, Contextual(lambda x, c: dist.Normal(x[:2] + c, 1.0)), context_shape=(2,)
        ),
        r"posterior: expected batch shape .* got \(2,\) and \(\)",
    ),
    "no number in a row": (
        lambda: evaluate(MODEL, jnp.full((2, 3), jnp.nan), key=KEY),
        "data: expected finite numbers, got nan in row 0",
    ),
    "no number in a context": (
        lambda: evaluate(
            vae((3,), 2, latent_dim=2, hidden=(4,), context_dim=1, key=KEY), (X, jnp.full((2, 1), jnp.nan)), key=KEY
        ),
        "data: expected finite numbers, got nan in row 0",
    ),
    "a key that is a number": (lambda: vae((3,), 2, key=0), "key: expected a jax.random.key, got 0"),
    "insomnia": (lambda: ReweightedWakeSleep(2, insomnia=1.1), r"insomnia: expected a number in \[0, 1\], got 1.1"),
    "dreams of what has no sampler": (
        lambda: fitted(LatentVariableModel(NORMAL, unsampled, NORMALS), objective=WakeSleep()),
        "site 'x' cannot be dreamt of: .*cannot be sampled",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_told_in_one_sentence(name):
    mistake, words = MISTAKES[name]
    with pytest.raises(ValueError, match=words):
        mistake()


def test_a_posterior_that_cannot_be_traced_is_judged_where_it_is_used():
    def of_numpy(x):
        return dist.Normal(np.asarray(x, np.float32), 1.0).to_event(1)

    model = LatentVariableModel(NORMAL, DECODER, of_numpy)
    assert model.encode(X).batch_shape == (2,)


@pytest.mark.parametrize("prior", [BITS, RATES])
def test_a_posterior_that_draws_outside_of_the_priors_support_is_refused(prior):
    """Its bound would be a number of no meaning, or NaN."""
    with pytest.raises(ValueError, match="posterior: expected draws within the prior's support"):
        LatentVariableModel(prior, DECODER, NORMALS)
    model = MODEL.replace(prior=prior)  # whose posterior is judged where it is used
    with pytest.raises(ValueError, match=r"site 'z': the guide draws Normal on .*, outside the support"):
        fitted(model)
    for verb in (
        lambda: model.log_prob_bound(KEY, X, 2),
        lambda: model.log_weights(KEY, X, 2),
        lambda: model.elbo_terms(KEY, X),
        lambda: model.kl(KEY, X),
        lambda: jax.jit(lambda m: m.log_prob_bound(KEY, X))(model),
    ):
        with pytest.raises(ValueError, match=r"posterior: expected draws within the prior's support .*, got Normal on"):
            verb()
