"""Mixtures of normals: the density, EM, gradients, k-means, and the mixture density network."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import probgen
from probgen.distributions import ConditionalModel
from probgen.mixtures import EM, GaussianMixture, gaussian_mixture, kmeans, kmeans_plus_plus

KEY = jax.random.key(0)
KINDS = pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])


def spirals(rows=400):
    """Three elongated, rotated clusters of unequal sizes."""
    keys = jax.random.split(KEY, 3)
    shapes = jnp.array([[[1.0, 0.0], [1.8, 0.3]], [[0.2, 0.0], [0.0, 1.5]], [[0.5, 0.0], [-0.4, 0.2]]])
    parts = [
        jax.random.normal(k, (n, 2)) @ shape.T + jnp.array(m)
        for k, n, shape, m in zip(keys, (rows // 2, rows // 4, rows // 4), shapes, ((-4, 0), (2, 1), (0, 5)))
    ]
    return jnp.concatenate(parts)


def random_mixture(dim, components, *, diagonal=False, key=KEY):
    loc, raw, logits = (jax.random.normal(k, s) for k, s in zip(jax.random.split(key, 3), (
        (components, dim), (components, dim) if diagonal else (components, dim, dim), (components,)
    )))  # fmt: skip
    return GaussianMixture(logits, 3 * loc, raw / 2)


# -- the density


@KINDS
def test_it_is_numpyros_mixture(diagonal):
    model = random_mixture(3, 4, diagonal=diagonal)
    theirs = dist.MixtureSameFamily(
        dist.Categorical(logits=model.logits), dist.MultivariateNormal(model.loc, covariance_matrix=model.covariance)
    )
    x = theirs.sample(KEY, (50,))
    np.testing.assert_allclose(model.log_prob(x), theirs.log_prob(x), rtol=1e-4, atol=1e-4)
    draws = jax.jit(lambda m: m.sample(KEY, (200_000,)))(model)
    np.testing.assert_allclose(draws.mean(0), theirs.mean, atol=0.05)
    mean = jnp.einsum("k,kd->d", jax.nn.softmax(model.logits), model.loc)
    second = model.covariance + jnp.einsum("kd,ke->kde", model.loc - mean, model.loc - mean)
    covariance = jnp.einsum("k,kde->de", jax.nn.softmax(model.logits), second)
    np.testing.assert_allclose(np.cov(draws.T), covariance, rtol=0.03, atol=0.1)


@KINDS
def test_covariances_go_in_and_come_out(diagonal):
    model = random_mixture(4, 3, diagonal=diagonal)
    covariance = jnp.diagonal(model.covariance, axis1=1, axis2=2) if diagonal else model.covariance
    again = GaussianMixture.from_covariances(model.logits, model.loc, covariance)
    assert again.diagonal == diagonal
    used = lambda raw: raw if diagonal else jnp.tril(raw)
    np.testing.assert_allclose(used(again.raw_scale), used(model.raw_scale), atol=1e-4)


def test_float32_far_from_the_origin_agrees_with_float64():
    model = random_mixture(5, 4)
    moved = model.replace(loc=model.loc + 1000.0)
    x = jnp.round(model.sample(KEY, (100,)) * 64) / 64 + 1000.0  # so that float32 holds x − μ
    loc = np.asarray(moved.loc, np.float64)
    logits = np.asarray(jax.nn.log_softmax(model.logits), np.float64)
    terms = []
    for k in range(4):
        regression = np.eye(5) - np.tril(np.asarray(model.raw_scale[k], np.float64), -1)
        log_scale = 20 * np.tanh(np.diag(np.asarray(model.raw_scale[k], np.float64)) / 20)
        z = (np.asarray(x, np.float64) - loc[k]) @ regression.T / np.exp(log_scale)
        terms.append(logits[k] - 0.5 * (z**2).sum(1) - log_scale.sum() - 2.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(moved.log_prob(x), np.logaddexp.reduce(terms), rtol=2e-6, atol=1e-5)


@KINDS
@pytest.mark.parametrize("factor", [1e2, 1e5, 1e9])
def test_extreme_numbers_stay_finite(diagonal, factor):
    model = random_mixture(3, 4, diagonal=diagonal)
    params, rest = probgen.partition(model)
    params = {path: factor * leaf for path, leaf in params.items()}
    value = lambda params, x: probgen.combine(params, rest).log_prob(x)
    for x in (jnp.zeros(3), jnp.full(3, 1e9), params["loc"][0]):
        log_prob, gradients = jax.jit(jax.value_and_grad(value, (0, 1)))(params, x)
        assert np.isfinite(log_prob) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_shapes_that_do_not_fit_are_refused():
    for shapes in (((3,), (2, 1), (2, 1)), ((2,), (2, 3), (2, 3, 2)), ((2,), (2,), (2,)), ((2,), (2, 3), (2, 3, 3, 3))):
        with pytest.raises(ValueError, match=r"logits \[K\], loc \[K, D\].*got"):
            GaussianMixture(*(jnp.zeros(shape) for shape in shapes))
    with pytest.raises(ValueError, match="positive definite"):
        GaussianMixture.from_covariances(jnp.zeros(1), jnp.zeros((1, 2)), jnp.array([[[1.0, 2.0], [2.0, 1.0]]]))
    with pytest.raises(ValueError, match=r"x: expected rows \[N, 2\]"):
        random_mixture(2, 2).em_step(jnp.zeros((5, 3)))


# -- EM


def log_posterior(model, x, smoothing=0.0, shrinkage=0.0):
    """What EM climbs: the likelihood, and the conjugate prior that `EM` states."""
    inverse = jnp.linalg.inv(model.covariance)
    log_det = jnp.linalg.slogdet(model.covariance)[1]
    per_component = jax.vmap(model.log_components)(x).mean(0)
    prior = jax.nn.log_softmax(model.logits) + shrinkage * per_component
    prior = prior - smoothing / 2 * (jnp.einsum("kdd,d->k", inverse, x.var(0)) + log_det)
    return model.log_prob(x).sum() + prior.sum()


@KINDS
@pytest.mark.parametrize(("smoothing", "shrinkage"), [(0.0, 0.0), (0.1, 0.0), (2.0, 5.0)])
def test_every_em_step_raises_the_posterior(diagonal, smoothing, shrinkage):
    x = spirals()
    model = gaussian_mixture(2, components=4, diagonal=diagonal, key=KEY)
    step = jax.jit(lambda m: m.em_step(x, smoothing, shrinkage))
    objective = jax.jit(lambda m: (log_posterior(m, x, smoothing, shrinkage), m.log_prob(x).sum()))
    values = []
    for _ in range(40):
        values.append(objective(model))
        model = step(model)
    posterior, likelihood = np.array(values).T
    assert (np.diff(posterior) > -1e-5 * abs(posterior[0])).all()
    assert posterior[-1] > posterior[0] + 100
    if shrinkage == smoothing == 0.0:  # the prior of the weights alone
        assert (np.diff(likelihood) > -0.5).all()


@KINDS
def test_one_component_is_the_sample_mean_and_covariance(diagonal):
    """On rows like the wines': correlated, of very different units, far from the origin."""
    mixing = jax.random.normal(KEY, (11, 11)) * 10.0 ** jnp.linspace(-2, 2, 11)
    x = jax.random.normal(jax.random.key(1), (1599, 11)) @ mixing + 100.0
    model = gaussian_mixture(11, components=1, diagonal=diagonal, key=KEY)
    for _ in range(2):  # the first start is far off, and its moments are rounded
        model = model.em_step(x, smoothing=0.0)
    exact = np.cov(np.asarray(x, np.float64).T, bias=True)
    exact = np.diag(np.diag(exact)) if diagonal else exact
    np.testing.assert_allclose(model.loc[0], np.asarray(x, np.float64).mean(0), rtol=1e-4)
    scale = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(model.covariance[0] / np.outer(scale, scale), exact / np.outer(scale, scale), atol=1e-4)


def test_a_lost_component_and_degenerate_rows_stay_finite():
    x = jnp.concatenate([jnp.zeros((50, 3)), jnp.ones((50, 3))])  # two points, collinear, and one constant column
    x = x.at[:, 2].set(7.0)
    model = GaussianMixture(
        jnp.array([0.0, 0.0, -1e6]), jnp.array([[0.0] * 3, [1.0] * 3, [1e6] * 3]), jnp.zeros((3, 3, 3))
    )
    for smoothing in (0.0, 0.1):
        new = model
        for _ in range(5):
            new = new.em_step(x, smoothing)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
        assert np.isfinite(new.log_prob(x)).all() and np.isfinite(new.sample(KEY, (10,))).all()
        np.testing.assert_allclose(new.loc[2], model.loc[2])
        np.testing.assert_allclose(new.covariance[2, 0, 0], x.var(0)[0], rtol=1e-3)


def test_em_in_blocks_is_em(monkeypatch):
    x, model = spirals(), random_mixture(2, 5)
    whole = model.em_step(x)
    monkeypatch.setattr("probgen.distributions.in_blocks._BLOCK_NUMBERS", 640)
    np.testing.assert_allclose(model.em_step(x).raw_scale, whole.raw_scale, rtol=1e-3, atol=1e-4)


@KINDS
def test_gradients_reach_what_em_reaches(diagonal):
    x = spirals()
    start = gaussian_mixture(2, components=3, data=x, diagonal=diagonal, key=KEY)
    em = probgen.fit(EM(start, smoothing=0.0), x, steps=100, key=KEY, progress=False).model.model
    trained = probgen.fit(start, x, steps=1500, optimizer=optax.adam(1e-2), key=KEY, progress=False).model
    by_em, by_gradients, at_start = (float(m.log_prob(x).mean()) for m in (em, trained, start))
    assert at_start < by_em and abs(by_em - by_gradients) < 0.02
    # better than a single normal, and than independent coordinates
    assert by_em > float(gaussian_mixture(2, components=1, data=x, key=KEY).log_prob(x).mean()) + 0.5


# -- k-means


def test_k_means_plus_plus_finds_clusters_that_random_rows_miss():
    centers = 20.0 * jax.random.normal(KEY, (12, 2))
    x = (centers[:, None] + jax.random.normal(jax.random.key(1), (12, 50, 2))).reshape(-1, 2)
    cost = jax.jit(lambda c: jnp.sum(jnp.min(jnp.sum((x[:, None] - c) ** 2, -1), 1)))
    keys = jax.random.split(jax.random.key(2), 20)
    ours = np.array([cost(kmeans_plus_plus(x, 12, key=key)) for key in keys])
    random = np.array([cost(jax.random.choice(key, x, (12,), replace=False)) for key in keys])
    assert np.median(ours) < np.median(random) / 4
    found, labels = kmeans(x, 12, steps=20, key=KEY)
    assert cost(found) <= cost(kmeans_plus_plus(x, 12, key=KEY))
    np.testing.assert_array_equal(labels, jnp.argmin(jnp.sum((x[:, None] - found) ** 2, -1), 1))
    for k in range(12):  # Lloyd's fixed point
        np.testing.assert_allclose(found[k], x[labels == k].mean(0), rtol=1e-4, atol=1e-4)


def test_k_means_refuses_what_it_cannot_cluster():
    x = jnp.repeat(jnp.arange(3.0)[:, None], 10, 0)
    assert len(set(kmeans_plus_plus(x, 3, key=KEY).ravel().tolist())) == 3
    with pytest.raises(ValueError, match=r"x: expected at least 4 different rows for k = 4, got 3"):
        kmeans(x, 4, key=KEY)
    assert np.isfinite(jax.jit(lambda x: kmeans(x, 4, key=KEY)[0])(x)).all()
    for bad, words in ((x[:, 0], r"rows \[N, D\]"), (x[:2], "k: expected 1 to 2"), (x.at[3].set(jnp.nan), "finite")):
        with pytest.raises(ValueError, match=words):
            kmeans(bad, 3, key=KEY)


def test_a_start_from_data_is_better_than_a_random_one():
    centers = 20.0 * jax.random.normal(KEY, (8, 3)) * jnp.array([1.0, 100.0, 0.01])  # in different units
    noise = jax.random.normal(jax.random.key(1), (8, 100, 3)) * jnp.array([1.0, 100.0, 0.01])
    x = (centers[:, None] + noise).reshape(-1, 3)
    seen, random = (
        gaussian_mixture(3, components=8, data=data, key=KEY).log_prob(x).mean() for data in (x, None)
    )  # fmt: skip
    truth = GaussianMixture.from_labels(x, jnp.repeat(jnp.arange(8), 100), 8).log_prob(x).mean()
    assert seen > random + 10 and seen > truth - 0.5
    with pytest.raises(ValueError, match=r"data: expected rows \[N, 2\], got shape \(800, 3\)"):
        gaussian_mixture(2, components=8, data=x, key=KEY)
    with pytest.raises(ValueError, match="components"):
        gaussian_mixture(2, components=0, key=KEY)


# -- given a context


def test_a_mixture_density_network_learns_a_function_of_two_branches():
    c = jax.random.uniform(KEY, (2000, 1), minval=-1.0)
    sign = jnp.where(jax.random.bernoulli(jax.random.key(1), shape=(2000, 1)), 1.0, -1.0)
    x = sign * (1.0 + c) + 0.1 * jax.random.normal(jax.random.key(2), (2000, 1))
    start = gaussian_mixture(1, components=2, data=x, context_dim=1, hidden=(16,), key=KEY)
    log_prob = jax.jit(lambda model, c, x: model(c).log_prob(x))
    alone = gaussian_mixture(1, components=2, data=x, key=KEY)
    np.testing.assert_allclose(log_prob(start, c, x), jax.jit(alone.log_prob)(x), atol=0.3)  # it starts there
    model = probgen.fit(
        start, (x, c), steps=800, batch_size=500, optimizer=optax.adam(1e-2), key=KEY, progress=False
    ).model
    # −E log p = entropy of the branch, ln 2 where they are apart, and of the noise
    assert -log_prob(model, c, x).mean() < np.log(2) + 0.5 * np.log(2 * np.pi * np.e * 0.01) + 0.1
    at, grid = jnp.array([[-0.5], [0.5]]), jnp.linspace(-4, 4, 2001)[:, None, None]
    np.testing.assert_allclose(jnp.exp(log_prob(model, at, grid)).sum(0) * 8 / 2000, 1.0, atol=1e-3)
    draws = jax.jit(lambda m: m(at).sample(KEY, (4000,)))(model)[..., 0]
    np.testing.assert_allclose(jnp.abs(draws).mean(0), [0.5, 1.5], atol=0.08)
    np.testing.assert_allclose((draws > 0).mean(0), 0.5, atol=0.12)


def test_a_network_of_the_context_must_fit():
    model = random_mixture(2, 2)
    with pytest.raises(ValueError, match="network: expected 14 numbers, one for each that the model learns, got 3"):
        ConditionalModel(model, (3,), lambda c: c)(jnp.ones(3)).log_prob(jnp.zeros(2))
    with pytest.raises(ValueError, match="batch shape"):
        ConditionalModel(jax.vmap(lambda s: model.replace(loc=model.loc * s))(jnp.ones(4)), (3,), lambda c: c)


# -- files


@pytest.mark.parametrize(
    "make",
    [
        lambda x: gaussian_mixture(2, components=3, data=x, key=KEY),
        lambda x: gaussian_mixture(2, components=3, data=x, diagonal=True, context_dim=1, key=KEY),
        lambda x: gaussian_mixture(2, components=3, data=np.asarray(x), key=KEY).em_step(x),
    ],
)
def test_a_file_needs_neither_the_data_nor_like(tmp_path, make):
    x = spirals()
    model = make(x)
    probgen.save(tmp_path / "m", model)
    loaded = probgen.load(tmp_path / "m")
    at = (lambda m: m(jnp.ones(1))) if isinstance(model, ConditionalModel) else lambda m: m
    np.testing.assert_array_equal(at(loaded).log_prob(x), at(model).log_prob(x))
