"""npe and simulation-based calibration, on a simulator whose posterior is known."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from scipy import stats

from probgen import load, save
from probgen.bijectors import Bijector
from probgen.core import Contextual
from probgen.distributions import ConditionalModel, Transformed
from probgen.evaluation import rank_uniformity, sbc_ranks
from probgen.flows import real_nvp
from probgen.inference import npe, simulate
from probgen.networks import MLP
from probgen.plotting import rank_histogram

KEY = jax.random.key(0)

# θ ~ Normal(m, I), x | θ ~ Normal(A θ, ½ I): the posterior is Gaussian, its mean linear in x
A = jnp.array([[1.0, 0.5], [-0.5, 1.0], [0.3, 0.3]])
LOC = jnp.array([2.0, -1.0])
PRIOR = dist.Normal(LOC, 1.0).to_event(1)
COVARIANCE = jnp.linalg.inv(jnp.eye(2) + A.T @ A / 0.25)


def simulator(key, theta):
    return A @ theta + 0.5 * jax.random.normal(key, (3,))


def exact(x, scale=1.0):
    mean = LOC + (x - A @ LOC) @ A @ COVARIANCE / 0.25
    return dist.MultivariateNormal(mean, COVARIANCE * scale**2)


def conditional(dim=2, context_dim=3):
    return real_nvp(dim, layers=2, hidden=(32,), context_dim=context_dim, key=jax.random.key(1))


def quick(simulator=simulator, prior=PRIOR, flow=None, **kwargs):
    kwargs = {"num_simulations": 200, "steps": 3, "key": KEY, "progress": False, **kwargs}
    return npe(simulator, prior, conditional() if flow is None else flow, **kwargs)


@pytest.fixture(scope="module")
def posterior():
    return quick(num_simulations=10_000, steps=3000)


# -- the oracle


def test_the_posterior_is_the_exact_one(posterior):
    _, x = simulate(simulator, PRIOR, 200, key=jax.random.key(5))
    draws = posterior(x).sample(jax.random.key(6), (1000,))
    sd = jnp.sqrt(jnp.diag(COVARIANCE))
    error = (draws.mean(0) - exact(x).mean) / sd
    assert jnp.sqrt((error**2).mean()) < 0.1  # in posterior sds, over data sets; 0.03 of it is from 1000 draws
    np.testing.assert_allclose(draws.std(0).mean(0) / sd, 1.0, atol=0.05)
    correlation = ((draws - draws.mean(0)).prod(-1).mean(0) / draws.std(0).prod(-1)).mean()
    np.testing.assert_allclose(correlation, COVARIANCE[0, 1] / sd.prod(), atol=0.05)


def test_its_density_is_close_to_the_exact_one(posterior):
    theta, x = simulate(simulator, PRIOR, 2000, key=jax.random.key(7))
    gap = exact(x).log_prob(theta) - posterior(x).log_prob(theta)
    assert -0.005 < gap.mean() < 0.02  # nats: KL(p ‖ q) on average over data; −0.005 allows for 2000 pairs


def test_its_ranks_are_uniform_and_those_of_the_exact_posterior_too(posterior):
    for q in (posterior, exact):
        ranks = sbc_ranks(q, PRIOR, simulator, num_datasets=1000, num_draws=99, key=jax.random.key(8))
        assert ranks.shape == (1000, 2) and ranks.min() >= 0 and ranks.max() <= 99
        found = rank_uniformity(ranks, 99)
        assert (found.p_chi_square > 0.005).all() and (found.p_ks > 0.005).all()


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_a_posterior_of_the_wrong_width_is_flagged(scale):
    """Overconfident: heaps at both ends. Too wide: a heap in the middle."""
    ranks = sbc_ranks(lambda x: exact(x, scale), PRIOR, simulator, num_datasets=1000, key=KEY)
    assert (rank_uniformity(ranks, 99).p_chi_square < 1e-6).all()
    ends = ((ranks < 10) | (ranks >= 90)).mean()
    assert (ends > 0.25) if scale < 1 else (ends < 0.15)


def test_a_biased_posterior_is_flagged():
    biased = lambda x: dist.MultivariateNormal(exact(x).mean + 0.3 * jnp.sqrt(jnp.diag(COVARIANCE)), COVARIANCE)
    ranks = sbc_ranks(biased, PRIOR, simulator, num_datasets=1000, key=KEY)
    assert (rank_uniformity(ranks, 99).p_ks < 1e-6).all() and ranks.mean() < 45


def test_a_posterior_that_ignores_the_data_is_caught_by_a_quantity_of_them():
    ignorant = lambda x: PRIOR.expand((len(x),))
    log_likelihood = lambda theta, x: dist.Normal(A @ theta, 0.5).log_prob(x).sum()[None]
    passes = sbc_ranks(ignorant, PRIOR, simulator, key=KEY)
    caught = sbc_ranks(ignorant, PRIOR, simulator, quantities=log_likelihood, key=KEY)
    assert (rank_uniformity(passes, 99).p_chi_square > 0.005).all()
    assert caught.shape == (500, 1) and rank_uniformity(caught, 99).p_chi_square[0] < 1e-6


# -- the tests of ranks


def test_p_values_are_uniform_for_uniform_ranks():
    ranks = np.random.default_rng(0).integers(0, 100, (500, 400))
    found = rank_uniformity(ranks, 99)
    np.testing.assert_allclose((found.p_chi_square < 0.1).mean(), 0.1, atol=0.045)  # 3 standard errors
    assert (found.p_ks < 0.1).mean() < 0.145  # conservative: ranks are discrete
    chi_square, p = stats.chisquare(np.histogram(ranks[:, 0], np.arange(21) * 5)[0])
    assert (found.chi_square[0], found.p_chi_square[0]) == (pytest.approx(chi_square), pytest.approx(p))
    assert found.ks[0] == pytest.approx(stats.kstest((ranks[:, 0] + 1) / 100, "uniform").statistic, abs=0.011)
    assert str(found).splitlines()[0].startswith("0: χ² = ")


def test_bins_of_unequal_size_are_weighed_by_it():
    ranks = np.arange(1100) % 11  # 0..10 in 4 bins of 3, 3, 3 and 2 levels
    assert rank_uniformity(ranks, 10, bins=4).chi_square == pytest.approx(0.0)


def test_ranks_that_are_none():
    with pytest.raises(ValueError, match=r"ranks: expected integers in 0\.\.9, got int64 up to 12"):
        rank_uniformity(np.array([0, 12]), 9)
    with pytest.raises(ValueError, match=r"ranks: expected integers in 0\.\.9, got float64"):
        rank_uniformity(np.array([0.5, 1.0]), 9)


def test_the_picture_has_a_band_and_an_outline_for_each_column():
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    ranks = np.random.default_rng(0).integers(0, 100, (500, 2))
    assert rank_histogram(ranks, 99, labels=["first", "second"], ax=ax) is ax
    band, _, *outlines = [patch.get_data() for patch in ax.patches]
    counts = [outline.values for outline in outlines]
    assert [count.sum() for count in counts] == [500, 500]
    inside = (counts >= band.baseline) & (counts <= band.values)
    assert inside.mean() > 0.9 and [text.get_text() for text in ax.get_legend().get_texts()] == ["first", "second"]
    with pytest.raises(ValueError, match="labels: expected 2"):
        rank_histogram(ranks, 99, labels=["one"], ax=ax)
    plt.close()


# -- what a posterior is


def test_context_axes_are_batch_axes(posterior):
    x = jnp.ones((4, 5, 3))
    q = posterior(x)
    assert q.batch_shape == (4, 5) and q.event_shape == (2,) and q.log_prob(jnp.zeros(2)).shape == (4, 5)
    assert posterior(jnp.ones(3)).batch_shape == ()
    with pytest.raises(ValueError, match=r"x: expected \[..., 3\], got \(4,\)"):
        posterior(jnp.ones(4))


def test_it_serves_at_a_sample_site_passes_gradients_and_jits(posterior):
    def program():
        with numpyro.plate("rows", 4):
            numpyro.sample("theta", posterior(jnp.ones((4, 3))))

    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
        program()
    assert trace["theta"]["value"].shape == (4, 2)
    gradient = jax.grad(lambda x: posterior(x).log_prob(LOC))(jnp.ones(3))
    assert jnp.isfinite(gradient).all() and (gradient != 0).all()
    jitted = jax.jit(lambda q, x: q(x).log_prob(LOC))
    np.testing.assert_allclose(jitted(posterior, jnp.ones(3)), posterior(jnp.ones(3)).log_prob(LOC), rtol=1e-5)


BOX = dist.Uniform(jnp.array([-1.0, 0.0]), jnp.array([1.0, 4.0])).to_event(1)


LOGS = dist.LogNormal(jnp.zeros(2), 1.0).to_event(1)


SIMPLEX = dist.Dirichlet(jnp.ones(3))


@pytest.mark.parametrize("prior", [PRIOR, BOX, LOGS, SIMPLEX])
def test_its_file_loads_by_its_path_alone_in_another_process(prior, tmp_path):
    """Of any prior: its support is in the file, and bounds in arrays as well."""
    q = quick(lambda key, theta: theta[:2] + jax.random.normal(key, (2,)), prior, conditional(2, 2))
    save(tmp_path / "posterior", q)  # without a warning that like= will be needed
    np.save(tmp_path / "draws.npy", q(jnp.ones(2)).sample(jax.random.key(9), (4,)))
    code = f"""import jax, numpy as np, probgen
q = probgen.load({str(tmp_path / "posterior")!r})(jax.numpy.ones(2))
np.testing.assert_array_equal(q.sample(jax.random.key(9), (4,)), np.load({str(tmp_path / "draws.npy")!r}))"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})


def test_a_flow_of_no_recipe_needs_like(tmp_path):
    q = quick(flow=dataclasses.replace(conditional(), recipe=None))
    with pytest.warns(UserWarning, match="like="):
        save(tmp_path / "posterior", q)
    again = load(tmp_path / "posterior", like=q)
    np.testing.assert_array_equal(again(jnp.ones(3)).log_prob(LOC), q(jnp.ones(3)).log_prob(LOC))


# -- simulators that JAX cannot trace


def of_numpy(key, theta):
    noise = np.random.default_rng(np.asarray(jax.random.key_data(key))).normal(size=3)
    return np.asarray(A) @ theta + 0.5 * noise


def test_a_simulator_of_numpy_is_called_simulation_by_simulation():
    theta, x = simulate(of_numpy, PRIOR, 4000, key=KEY)
    again = simulate(of_numpy, PRIOR, 4000, key=KEY)
    np.testing.assert_array_equal(x, again[1])  # its draws are those of the key
    noise = (x - theta @ A.T) / 0.5
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03 and x.dtype == jnp.float32
    other = simulate(simulator, PRIOR, 4000, key=KEY)
    np.testing.assert_array_equal(theta, other[0])
    assert quick(of_numpy)(x[:5]).batch_shape == (5,)
    assert sbc_ranks(exact, PRIOR, of_numpy, num_datasets=100, key=KEY).shape == (100, 2)


def test_what_a_simulator_draws_by_itself_is_drawn_for_each_simulation():
    """A trace would hold one draw, for all of them."""
    rng = np.random.default_rng(0)
    theta, x = simulate(lambda key, theta: theta + rng.normal(size=2), PRIOR, 500, key=KEY)
    assert 0.9 < (x - theta).std() < 1.1


def test_a_loop_that_depends_on_a_number_is_a_simulator():
    def walk(key, theta):
        steps = 0
        while theta > 0.1:
            theta, steps = theta / 2, steps + 1
        return np.array([steps])

    theta, x = simulate(walk, dist.Uniform(0.0, 1.0), 50, key=KEY)
    np.testing.assert_array_equal(x[:, 0], np.ceil(np.maximum(np.log2(np.asarray(theta) / 0.1), 0)))


def test_a_simulator_that_jax_can_trace_is_compiled():
    calls = []

    def counted(key, theta):
        calls.append(theta)
        return simulator(key, theta)

    simulate(counted, PRIOR, 100, key=KEY)
    assert len(calls) < 6


def test_the_shapes_of_simulations_are_one():
    ragged = lambda key, theta: np.zeros(1 + int(theta[0] > LOC[0]))
    with pytest.raises(ValueError, match=r"simulator: expected arrays of one shape, got \(1,\) and \(2,\)"):
        simulate(ragged, PRIOR, 50, key=KEY)


def test_a_batch_of_more_than_the_simulations_is_told():
    with pytest.warns(UserWarning, match="batch_size: 512 is more than the 180 simulations that are trained on"):
        large = quick(batch_size=512)
    at_most = quick()  # 256, or all: nothing to be told
    np.testing.assert_array_equal(large(jnp.ones(3)).log_prob(LOC), at_most(jnp.ones(3)).log_prob(LOC))


# -- supports


def test_the_support_is_the_priors_and_the_density_integrates_to_one():
    q = quick(lambda key, theta: theta + jax.random.normal(key, (2,)), BOX, conditional(2, 2), steps=200)(jnp.ones(2))
    draws = q.sample(KEY, (2000,))
    assert BOX.support(draws).all() and q.support(draws).all() and not q.support(jnp.array([2.0, 1.0]))
    side = (jnp.arange(200) + 0.5) / 200
    grid = jnp.stack(jnp.meshgrid(2 * side - 1, 4 * side), -1)
    assert 8 * jnp.exp(q.log_prob(grid)).mean() == pytest.approx(1.0, abs=0.01)


def test_a_simplex_has_one_number_less():
    prior = dist.Dirichlet(jnp.ones(3))
    q = quick(lambda key, theta: theta + jax.random.normal(key, (3,)), prior)(jnp.ones(3))
    assert q.event_shape == (3,)
    np.testing.assert_allclose(q.sample(KEY, (10,)).sum(-1), 1.0, rtol=1e-5)
    x, log_prob = q.sample_and_log_prob(KEY, (10,))
    np.testing.assert_allclose(q.log_prob(x), log_prob, atol=1e-3)


class ContextAffine(Bijector):
    """y = exp(s) x + t with t, s from the context: for one number."""

    network: Contextual
    event_ndims_in = 1

    def forward_event(self, x):
        shift, log_scale = self.network(jnp.zeros(0))
        return jnp.exp(log_scale) * x + shift, log_scale

    def inverse_event(self, y):
        shift, log_scale = self.network(jnp.zeros(0))
        return jnp.exp(-log_scale) * (y - shift), -log_scale


def test_a_single_number():
    network = Contextual(MLP(0, 2, hidden=(16,), context_dim=1, key=KEY))
    flow = ConditionalModel(Transformed(dist.Normal(jnp.zeros(1), 1.0).to_event(1), ContextAffine(network)), (1,))
    prior = dist.LogNormal(0.0, 1.0)  # log θ | x ~ Normal(x/2, √½)
    observe = lambda key, theta: jnp.log(theta)[None] + jax.random.normal(key, (1,))
    q = quick(observe, prior, flow, num_simulations=4000, steps=1500)(jnp.array([1.0]))
    draws = q.sample(KEY, (4000,))
    assert q.event_shape == () and (draws > 0).all()
    np.testing.assert_allclose([jnp.log(draws).mean(), jnp.log(draws).std()], [0.5, 0.5**0.5], atol=0.06)


# -- what is wrong is said before training


def sometimes_infinite(key, theta):
    return jnp.where(theta[0] > LOC[0], jnp.inf, simulator(key, theta))


NORMALS = dist.Normal(jnp.zeros(2), 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simulator": sometimes_infinite}, r"simulator: \d+ of 200 draws are not finite, the first at theta = \["),
        ({"flow": conditional(2, 4)}, r"flow: expected contexts of shape \(3,\), .* got \(4,\)"),
        ({"flow": conditional(3)}, r"flow: expected events of shape \(2,\), .* got \(3,\)"),
        ({"flow": real_nvp(2, layers=2, hidden=(8,), key=KEY)}, "flow: expected a ConditionalModel"),
        ({"prior": NORMALS}, r"prior: .* got batch shape \(2,\) and event shape \(\); .to_event\(1\)"),
        ({"prior": dist.Bernoulli(0.5)}, "prior: expected a distribution with a density, got BernoulliProbs"),
        ({"prior": dist.ImproperUniform(dist.constraints.real_vector, (), (2,))}, "prior: ImproperUniform .* drawn"),
        ({"prior": dist.Delta(jnp.zeros(2), event_dim=1)}, r"prior: number 0 .* same in all 200"),
        ({"prior": jnp.zeros(2)}, "prior: expected a numpyro distribution, got ArrayImpl"),
        ({"simulator": lambda key, theta: np.zeros(7)}, r"flow: expected contexts of shape \(7,\)"),
        ({"num_simulations": 0}, "num_simulations: expected an integer of at least 1, got 0"),
        ({"validation_fraction": 1.0}, r"validation_fraction: expected a number in \[0, 1\), got 1.0"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        quick(**change)


def test_bad_posteriors():
    with pytest.raises(ValueError, match=r"posterior: expected batch shape \(10,\) and event shape \(2,\)"):
        sbc_ranks(lambda x: PRIOR, PRIOR, simulator, num_datasets=10, key=KEY)
    lost = lambda x: dist.Normal(jnp.where(x[:, :2] > 0, jnp.nan, 0.0), 1.0, validate_args=False).to_event(1)
    with pytest.raises(ValueError, match=r"posterior: the draws for \d+ of 50 data sets are not finite"):
        sbc_ranks(lost, PRIOR, simulator, num_datasets=50, key=KEY)


def test_a_draw_on_the_edge_of_the_support_does_no_harm():
    """Uniform draws may be 0, which is at −∞ in unconstrained space."""

    class Edge(dist.Uniform):
        def sample(self, key, sample_shape=()):
            return super().sample(key, sample_shape).at[0].set(0.0)

    prior = dist.Independent(Edge(jnp.zeros(2), 1.0), 1)
    q = quick(lambda key, theta: jnp.append(theta, 0.0), prior, optimizer=optax.adam(1e-3))
    assert jnp.isfinite(q(jnp.zeros(3)).sample(KEY, (10,))).all()
