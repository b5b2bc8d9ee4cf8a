"""Totals of densities that are known, right ones and wrong ones; bounds that are none; what decides nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from probgen.distributions import ConditionalModel
from probgen.distributions.model import Model
from probgen.evaluation import check_bound, check_normalized, enumerated
from probgen.latent import LatentVariableModel, vae
from probgen.mixtures import histogram
from probgen.score import vp_score

KEY = jax.random.key(0)
X = np.asarray(2**0.5 * jax.random.normal(KEY, (600, 2)))
normal = lambda scale, shift=0.0: lambda z: dist.Normal(z + shift, scale).to_event(1)
LOG_P = np.asarray(dist.Normal(0.0, 2**0.5).log_prob(X).sum(-1), np.float64)


class Scaled(Model):
    """c times a density, which draws from that density."""

    pytree_data_fields = ("base", "log_c")

    def __init__(self, base, c):
        self.base, self.log_c = base, jnp.log(c)
        super().__init__(base.event_shape)

    @property
    def support(self):
        return self.base.support

    def sample_event(self, key):
        return self.base.sample(key)

    def log_prob_event(self, x):
        return self.base.log_prob(x) + self.log_c


def linear(posterior):
    """p(x) = Normal(0, √2) of two numbers."""
    return LatentVariableModel(normal(1.0)(jnp.zeros(2)), normal(1.0), posterior)


def two_modes(width):
    return dist.MixtureSameFamily(
        dist.Categorical(jnp.ones(2) / 2), dist.Normal(jnp.array([-10.0, 10.0]), jnp.array([width, 1.0]))
    )


# -- totals


@pytest.mark.parametrize(
    "model",
    [
        dist.Normal(300.0, 0.01),
        dist.Cauchy(-2.0, 5.0),
        dist.Uniform(0.0, 3.0),
        dist.Pareto(1.0, 0.5),
        dist.Beta(0.5, 0.5),
        dist.Dirichlet(jnp.array([0.5, 1.0, 2.0])),
    ],
    ids=lambda model: type(model).__name__,
)
def test_quadrature_of_what_is_normalized(model):
    found = check_normalized(model)
    assert found.passed and not found.refuted and found.low <= found.total <= found.high
    wrong = check_normalized(Scaled(model, 1.01))
    assert wrong.refuted and not wrong.passed and "not normalized" in str(wrong)
    np.testing.assert_allclose(wrong.total, 1.01 * found.total, rtol=1e-4)


def test_sums_of_integers():
    assert check_normalized(histogram((3,), 4)).passed and check_normalized(dist.Binomial(9, 0.3)).passed
    found = check_normalized(Scaled(dist.Bernoulli(0.3 * jnp.ones(4)).to_event(1), 1.002))
    assert found.refuted and "the sum over 16 events" in found.how
    np.testing.assert_allclose(found.total, 1.002, rtol=1e-5)


def test_draws_count_what_is_too_much_to_enumerate():
    for base in (
        dist.MultivariateNormal(jnp.ones(3), jnp.eye(3) + 0.5),
        dist.Bernoulli(jnp.linspace(0.2, 0.8, 30)).to_event(1),
    ):
        wrong = check_normalized(Scaled(base, 1.2), num_draws=20_000)
        assert wrong.refuted and not wrong.passed and wrong.low < 1.2 < wrong.high and "20000 draws" in wrong.how


def test_a_proposal_is_judged():
    wide = check_normalized(dist.Normal(0.0, 1.0), proposal=dist.Laplace(0.0, 1.5), num_draws=20_000)
    assert wide.passed and wide.low < 1 < wide.high
    narrow = check_normalized(dist.Normal(0.0, 1.0), proposal=dist.Normal(0.0, 0.2), num_draws=20_000)
    assert not narrow.passed and not narrow.refuted and narrow.high == np.inf and "not decided" in str(narrow)
    assert check_normalized(dist.Poisson(3.0), proposal=dist.Geometric(0.2), num_draws=20_000).passed


def test_intervals_hold_the_truth():
    model, proposal = dist.Normal(0.0, 1.0), dist.Laplace(0.0, 1.5)
    out = [
        not found.low <= 1 <= found.high
        for found in (
            check_normalized(model, proposal=proposal, num_draws=1000, key=jax.random.key(i)) for i in range(8)
        )
    ]
    assert sum(out) == 0  # by chance once in eighty


@pytest.mark.parametrize("width", [0.02, 1e-3])
def test_a_mode_between_the_points_is_not_called_missing(width):
    found = check_normalized(two_modes(width))
    assert not found.passed and not found.refuted and "not decided" in str(found)
    assert found.low < 1 < found.high + 1e-6
    assert width < 0.02 or check_normalized(two_modes(width), points=60_000).passed


def test_numbers_that_round_to_an_edge_are_not_called_missing():
    found = check_normalized(dist.Beta(0.1, 0.1))  # a tenth lies nearer to 1 than 6e-8
    assert found.total < 0.95 and not found.passed and not found.refuted


def test_weights_are_summed_and_a_wrong_one_is_seen():
    """A density that is known by unbiased weights alone, of bits and of reals."""
    weight = jax.random.normal(KEY, (3, 2))
    bits = LatentVariableModel(
        normal(1.0)(jnp.zeros(2)),
        lambda z: dist.Bernoulli(logits=z @ weight.T).to_event(1),
        lambda x: normal(1.5)(0.3 * x[..., :2]),
    )
    found = check_normalized(bits, tolerance=0.1, num_particles=512)
    assert found.passed and found.high > found.low
    reals = check_normalized(linear(lambda x: normal(0.8)(x / 2)), points=48, num_particles=16, tolerance=0.1)
    assert reals.passed and reals.low < 1 < reals.high


class Within(Scaled):
    """A density that is known within a tenth of a nat."""

    kind, tolerance = "estimate", 0.1


def test_an_estimate_widens_the_interval():
    found = check_normalized(Within(dist.Normal(0.0, 1.0), 1.0), tolerance=0.12)
    np.testing.assert_allclose([found.low, found.high], [np.exp(-0.1), np.exp(0.1)], rtol=1e-4)
    assert found.passed and not check_normalized(Within(dist.Normal(0.0, 1.0), 1.0)).passed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_normalized(3), "model: expected a distribution"),
        (lambda: check_normalized(dist.Normal(jnp.zeros(2), 1.0)), r"model: expected batch shape \(\), got \(2,\)"),
        (
            lambda: check_normalized(ConditionalModel(histogram((), 4), (1,), lambda c: jnp.zeros(4))),
            "model: expected a distribution, got a ConditionalModel: call it",
        ),
        (lambda: check_normalized(vp_score((2,), width=4, depth=1, key=KEY)), "only a bound, .* see check_bound"),
        (lambda: check_normalized(dist.Poisson(3.0)), "proposal: expected one for integers of unknown levels"),
        (lambda: check_normalized(histogram((), 4), points=64), "points: it would do nothing"),
        (lambda: check_normalized(histogram((), 4), num_draws=1000), "num_draws: it would do nothing"),
        (lambda: check_normalized(histogram((), 4), num_particles=4), "num_particles: it would do nothing"),
        (lambda: check_normalized(dist.Normal(0.0, 1.0), points=3), "points: expected an integer of at least 16"),
        (lambda: check_normalized(dist.Normal(0.0, 1.0), tolerance=0.0), "tolerance: expected a positive"),
        (
            lambda: check_normalized(dist.Normal(0.0, 1.0), proposal=dist.Normal(jnp.zeros(1), 1.0).to_event(1)),
            r"proposal: expected batch shape \(\) and event shape \(\), got \(\) and \(1,\)",
        ),
        (
            lambda: check_normalized(dist.Poisson(3.0), proposal=dist.Normal(0.0, 1.0)),
            "proposal: expected an exact density over events like the model's",
        ),
        (
            lambda: check_normalized(dist.Uniform(0.0, 1.0), proposal=dist.Normal(9.0, 0.1), num_draws=1000),
            "proposal: expected draws within the model's support, got 0 of 1000",
        ),
    ],
)
def test_what_cannot_be_summed_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Mute(Model):
    """A density that cannot draw."""

    pytree_data_fields = ("loc",)
    support = dist.constraints.real

    def __init__(self, loc=0.0, c=1.0):
        self.loc = jnp.asarray(loc)
        super().__init__(())

    def log_prob_event(self, x):
        return dist.Normal(self.loc, 1.0).log_prob(x)


def test_a_density_that_cannot_draw_needs_a_proposal():
    with pytest.raises(ValueError, match="proposal: expected one for a model that cannot draw: Mute has no sampler"):
        check_normalized(Mute())
    assert check_normalized(Mute(), proposal=dist.Laplace(0.0, 1.5), num_draws=20_000).passed


# -- bounds


def test_a_bound_is_below_the_truth_and_rises():
    model = linear(lambda x: normal(0.7)(x / 2 + 0.3))
    found = check_bound(model, X, tighter=LOG_P, num_particles=(1, 4, 16), batch_size=600, key=KEY)
    assert found.passed and found.faults == () and (found.gains > 0).all() and (np.diff(found.gaps) < 0).all()
    np.testing.assert_allclose(found.gaps, LOG_P.mean() - found.bounds, rtol=1e-6)
    np.testing.assert_allclose(found.gains, np.diff(found.bounds), rtol=1e-6, atol=1e-9)
    lines = str(found).splitlines()
    assert lines[0].startswith("log p ≥ ") and "1 particles" in lines[0] and lines[-1].startswith("nothing contradicts")


class Cheating(LatentVariableModel):
    """Weights without their posterior's density: no bound."""

    def _log_weights(self, key, value):
        return super()._log_weights(key, value) + 0.1


class Falling(Model):
    """A bound that is worse with more particles."""

    pytree_data_fields = ("loc",)
    kind, support = "bound", dist.constraints.real_vector

    def __init__(self):
        self.loc = jnp.zeros(2)
        super().__init__((2,))

    def _log_prob_bound(self, key, value, num_particles):
        noise = 0.1 * jax.random.normal(key, value.shape[:-1])
        return dist.Normal(self.loc, 2**0.5).log_prob(value).sum(-1) - 0.02 * num_particles + noise


def test_what_is_no_bound_is_caught():
    exact = LatentVariableModel(normal(1.0)(jnp.zeros(2)), normal(1.0), lambda z: normal(0.5**0.5)(z / 2))
    assert check_bound(exact, X, tighter=LOG_P, num_particles=(1, 2), batch_size=600, key=KEY).passed  # equal to it
    above = check_bound(exact, X, tighter=LOG_P - 0.01, num_particles=(1,), batch_size=600, key=KEY)
    assert not above.passed and "above what is tighter, with 1 particles by 0.010" in str(above)
    falls = check_bound(Falling(), X, num_particles=(1, 4), key=KEY)
    assert not falls.passed and "it falls from 1 to 4 particles, by 0.0" in falls.faults[0]


def test_a_right_bound_is_seldom_called_wrong():
    """Enumerated log p of bits, of which a bound is held against the truth."""
    weight = jax.random.normal(KEY, (3, 2))
    bits = LatentVariableModel(
        dist.Bernoulli(0.3 * jnp.ones(2)).to_event(1),
        lambda z: dist.Bernoulli(logits=z @ weight.T).to_event(1),
        lambda x: dist.Bernoulli(0.4 * jnp.ones((*x.shape[:-1], 2))).to_event(1),
    )
    x = np.asarray(jax.jit(lambda key: bits.sample(key, (200,)))(KEY)).astype(int)
    truth = enumerated(bits.latent_prior, lambda z: bits.decode(z).log_prob(x))
    for key in jax.random.split(KEY, 2):
        assert check_bound(bits, x, tighter=truth, num_particles=(64,), batch_size=200, key=key).passed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_bound(dist.Normal(0.0, 1.0), X[:, 0]), "model: expected one with a bound, got a Normal"),
        (lambda: check_bound(linear(normal(1.0)), X), "key: LatentVariableModel has no exact"),
        (lambda: check_bound(linear(normal(1.0)), X, num_particles=(4, 1), key=KEY), r"that rise, .* got \(4, 1\)"),
        (lambda: check_bound(linear(normal(1.0)), X, num_particles=(4,), key=KEY), "two without `tighter`"),
        (lambda: check_bound(linear(normal(1.0)), X, num_particles=(0, 1), key=KEY), r"num_particles\[0\]: expected"),
        (lambda: check_bound(linear(normal(1.0)), X[:1], num_particles=(1, 2), key=KEY), "at least two rows"),
        (
            lambda: check_bound(linear(normal(1.0)), X, tighter=LOG_P[:5], num_particles=(1,), key=KEY),
            "tighter: expected finite values of 600",
        ),
        (lambda: check_bound(linear(normal(1.0)), X * np.nan, key=KEY), "data: expected finite numbers"),
    ],
)
def test_bounds_that_cannot_be_checked_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_number_of_particles_does_not_rise():
    model = vae((2,), 3, latent_dim=1, hidden=(4,), key=jax.random.key(0))
    with pytest.raises(ValueError, match="num_particles: expected several that rise"):
        check_bound(model, jnp.zeros((4, 2), int), num_particles=4, key=jax.random.key(1))
