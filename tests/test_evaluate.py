"""Evaluation row by row: values against closed forms, rows that stay where they are, bounds that rise, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from probgen.bijectors import Affine
from probgen.distributions import ConditionalModel, Transformed
from probgen.distributions.events import rows_where_they_are
from probgen.distributions.model import Model
from probgen.distributions.supports import holds_at_a_glance
from probgen.evaluation import evaluate, pointwise
from probgen.evaluation.likelihood import row_by_row
from probgen.flows import real_nvp
from probgen.latent import LatentVariableModel
from probgen.mixtures import histogram

KEY = jax.random.key(0)
X = np.asarray(jax.random.normal(KEY, (300, 2)) * 1.5)
NORMAL = Transformed(dist.Normal(jnp.zeros(2), 1.0).to_event(1), Affine(jnp.zeros(2), jnp.log(jnp.array([1.0, 2.0]))))
LOG_P = stats.norm.logpdf(X, scale=[1.0, 2.0]).sum(1)
PRIOR = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
VAE = LatentVariableModel(  # p(x) = N(0, 2), and a posterior that is off
    PRIOR, lambda z: dist.Normal(z, 1.0).to_event(1), lambda x: dist.Normal(x / 2 + 0.4, 0.65).to_event(1)
)


def test_values_are_those_of_the_density():
    found = evaluate(NORMAL, X, progress=False)
    rows = found.pointwise
    np.testing.assert_allclose(rows.log_likelihood, LOG_P, rtol=1e-5)
    np.testing.assert_allclose(found.nats, -LOG_P.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.se_nats, LOG_P.std(ddof=1) / 300**0.5, rtol=1e-4)
    np.testing.assert_allclose(found.bits_per_dim, -LOG_P.mean() / (2 * np.log(2)), rtol=1e-5)
    assert rows.log_likelihood.dims == ("row",) and rows.log_likelihood.dtype == np.float64
    assert rows.attrs == {"kind": "exact", "unit": "nats", "event_size": 2, "num_particles": 1, "tolerance": 0.0}
    assert found.seconds > 0 and found.rows == 300 and str(found).startswith("= ")
    np.testing.assert_array_equal(pointwise(NORMAL, X), rows.log_likelihood)
    assert np.isnan(evaluate(NORMAL, X[:1]).se_nats)


def test_a_distribution_of_numpyro_is_a_model():
    plain = dist.Normal(jnp.zeros(2), jnp.array([1.0, 2.0]))
    for model in (plain.to_event(1), plain.to_event(1).mask(True), NORMAL.expand(())):
        found = evaluate(model, X)
        np.testing.assert_allclose(found.pointwise.log_likelihood, LOG_P, rtol=1e-5)
        assert (found.kind, found.tolerance, found.event_size) == ("exact", 0.0, 2)


@pytest.mark.parametrize("batch_size", [1, 7, 300, 1000])
def test_the_size_of_a_block_changes_nothing_of_a_density(batch_size):
    x = X[:31]
    for rows in (x, jnp.asarray(x), x.tolist(), x.astype(np.float64)):
        np.testing.assert_allclose(pointwise(NORMAL, rows, batch_size=batch_size), LOG_P[:31], rtol=1e-5)


def test_small_integers_do_not_wrap_around():
    model, x = histogram((2,), 200), np.array([[199, 3], [128, 0]], np.uint8)
    np.testing.assert_allclose(pointwise(model, x), -2 * np.log(200), rtol=1e-5)


def test_a_conditional_model_takes_rows_and_contexts():
    flow = real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=KEY)
    contexts = np.asarray(jax.random.normal(KEY, (300, 3)))
    right = jax.jit(lambda c, x: flow(c).log_prob(x))(contexts, X)
    np.testing.assert_allclose(pointwise(flow, (X, contexts), batch_size=70), right, rtol=1e-4, atol=1e-4)


def test_rows_stay_where_they_are(tmp_path):
    """10⁷ rows that take the memory of one: neither the look at them nor the evaluation copies them."""
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    (kept,) = rows_where_they_are("data", NORMAL, mapped)
    assert np.shares_memory(kept, mapped)
    np.testing.assert_allclose(pointwise(NORMAL, mapped), LOG_P, rtol=1e-5)
    view = np.broadcast_to(X[0], (20_000, 2))
    (kept,) = rows_where_they_are("data", NORMAL, view)
    assert kept.strides == (0, view.strides[1])
    np.testing.assert_allclose(pointwise(NORMAL, view, batch_size=4096), LOG_P[0], rtol=1e-5)


def test_an_importance_weighted_bound_rises_to_the_truth():
    x = np.asarray(2**0.5 * jax.random.normal(KEY, (4000, 2)))
    exact = stats.norm.logpdf(x, scale=2**0.5).sum(1)
    found = [evaluate(VAE, x, key=KEY, num_particles=k, batch_size=1000) for k in (1, 4, 16, 64)]
    bounds = np.array([-one.nats for one in found])
    assert (np.diff(bounds) > 0).all() and abs(bounds[-1] - exact.mean()) < 0.02 < exact.mean() - bounds[0]
    assert {one.sign for one in found} == {"≤"} and "64 particles" in str(found[3])
    assert found[2].pointwise.num_particles == 16 and found[2].pointwise.kind == "weights"


def test_one_key_gives_one_bound():
    one, again = (pointwise(VAE, X, key=KEY, num_particles=2) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert (one != pointwise(VAE, X, key=jax.random.key(1), num_particles=2)).all()


def test_a_bar_counts_rows_where_it_takes_long(monkeypatch, capsys):
    for patience, bar in ((1e9, False), (0.0, True)):
        monkeypatch.setattr(row_by_row, "_PATIENCE", patience)
        evaluate(NORMAL, X, progress="test rows")
        assert ("test rows: 100%" in capsys.readouterr().err) == bar
    evaluate(NORMAL, X, progress=False)
    assert capsys.readouterr().err == ""


class Broken(Model):
    """A normal whose density of numbers above `loc` is lost."""

    pytree_data_fields = ("loc",)
    support = dist.constraints.real

    def __init__(self, loc):
        self.loc = jnp.asarray(loc)
        super().__init__(())

    def log_prob_event(self, x):
        return jnp.where(x > self.loc, jnp.nan, -0.5 * (x - self.loc) ** 2)


def changed(row, value, dtype=float):
    x = np.zeros((9000, 2), dtype)
    x[row] = value
    return x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pointwise(NORMAL, changed(8999, np.nan)), "data: expected finite numbers, got nan in row 8999"),
        (lambda: pointwise(histogram((2,), 4), changed(8500, 7, int)), "data: row 8500 lies outside"),
        (lambda: pointwise(NORMAL, X[:, :1]), r"data: expected rows of shape \(2,\), got \(1,\)"),
        (lambda: pointwise(NORMAL, X[:0]), "data: expected at least one row"),
        (lambda: pointwise(NORMAL, 1.0), "data: expected arrays with one number of rows"),
        (lambda: pointwise(NORMAL, (X, X)), "data: expected one array x, got 2 arrays"),
        (lambda: pointwise(NORMAL, {"x": X}), "data: expected one array x"),
        (lambda: pointwise(NORMAL, X.astype(int)), "data: the model is over floating-point numbers"),
        (lambda: pointwise(NORMAL, [[1.0, 2.0], [3.0]]), "data: .*rows of one length"),
        (lambda: pointwise(ConditionalModel(NORMAL, (3,), lambda c: jnp.zeros(2)), X), r"expected \(x, context\)"),
        (lambda: evaluate(NORMAL, X, batch_size=0), "batch_size: expected"),
        (lambda: evaluate(NORMAL, X, progress=1), "progress: expected True, False or a name"),
        (lambda: evaluate(NORMAL, X, num_particles=2), "num_particles: Transformed has no bound"),
        (lambda: evaluate(VAE, X), "key: LatentVariableModel has no exact density"),
        (lambda: evaluate(NORMAL.expand((3,)), X), r"model: expected .*, got"),
        (lambda: evaluate("a flow", X), "model: expected a distribution, .* got 'a flow'"),
        (lambda: evaluate(Broken(0.5), np.array([0.0, 0.1, 1.0, 2.0])), "NaN for 2 of 4 rows, .* row 2"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


constraints = dist.constraints
SCALAR = [  # and numbers in them, at their edges, and beyond
    (constraints.real, [-1e30, 0.0, np.inf]),
    (constraints.positive, [1e-30, 5.0, 0.0]),
    (constraints.nonnegative, [0.0, 5.0, -1e-30]),
    (constraints.less_than(0.1), [-3.0, 0.0999, 0.1]),
    (constraints.interval(0.1, 0.3), [0.1, 0.2, 0.09999999]),
    (constraints.open_interval(0.0, 1.0), [0.5, 1e-6, 1.0]),
    (constraints.circular, [-3.0, 3.0, 4.0]),
    (constraints.boolean, [0, 1, 2]),
    (constraints.integer_interval(-2, 7), [-2, 7, 8]),
    (constraints.nonnegative_integer, [0, 9, -1]),
]
OTHERS = [
    (constraints.independent(constraints.interval(jnp.array([0.0, 2.0]), jnp.array([1.0, 3.0])), 1), [0.5, 2.5, 4.0]),
    (constraints.simplex, [0.5, 0.1, 0.9]),
    (constraints.ordered_vector, [0.5, 0.1, 0.9]),
]


def blocks(numbers, kind):
    """Each pair of the numbers, between rows of the first of them."""
    pairs = np.stack(np.meshgrid(numbers, numbers), -1).reshape(-1, 2)
    return [np.array([[numbers[0]] * 2, pair, [numbers[0]] * 2], kind) for pair in pairs]


@pytest.mark.parametrize(("support", "numbers"), SCALAR, ids=lambda x: repr(x)[:40])
def test_a_glance_at_rows_sees_whether_an_interval_has_them_all(support, numbers):
    kind, support = np.int32 if support.is_discrete else np.float32, constraints.independent(support, 1)
    found = [holds_at_a_glance(support, block) for block in blocks(numbers, kind)]
    assert found == [bool(support(block).all()) for block in blocks(numbers, kind)] and 0 < sum(found) < len(found)
    assert not holds_at_a_glance(support, np.zeros((3, 0), kind))  # nothing to glance at


@pytest.mark.parametrize(("support", "numbers"), OTHERS, ids=lambda x: repr(x)[:40])
def test_a_glance_never_takes_what_a_look_at_each_row_refuses(support, numbers):
    for block in blocks(numbers, np.float32):
        assert not holds_at_a_glance(support, block) or support(block).all()


class Even(type(constraints.integer_interval(0, 1))):
    """A user's own, with holes."""

    def __call__(self, x):
        return super().__call__(x) & (x % 2 == 0)


def test_a_support_of_the_users_own_is_looked_at_row_by_row():
    assert not holds_at_a_glance(Even(0, 8), np.array([0, 8]))


def test_the_support_is_asked_for_once():
    """It may take as long as the density of a block."""
    asked = []

    class Counting(Broken):
        @property
        def support(self):
            asked.append(1)
            return constraints.real

    rows_where_they_are("data", Counting(0.0), np.zeros(20_000))
    assert len(asked) == 1


# -- what a new user found


def test_rows_that_rounding_would_make_the_same_are_refused():
    x = 1.7e9 + np.random.default_rng(0).normal(size=100)  # seconds, which float32 has in steps of 128
    with pytest.raises(
        ValueError, match=r"data: numbers differ by about .* shift and scale them, or set jax_enable_x64"
    ):
        evaluate(dist.Normal(1.7e9, 1.0), x)
    rows = np.stack([np.zeros(100), x], 1)
    with pytest.raises(ValueError, match="numbers of column 1 differ"):
        evaluate(dist.Normal(jnp.zeros(2), 1.0).to_event(1), rows)
    assert np.isfinite(evaluate(dist.Normal(0.0, 1.0), x - 1.7e9).nats)
    constant = np.full((3, 2), 0.1)  # rounded, and as different as before: not at all
    assert np.isfinite(evaluate(dist.Normal(jnp.zeros(2), 1.0).to_event(1), constant).nats)


@pytest.mark.parametrize(
    "model",
    [
        dist.Normal(0.0, 1.0).mask(False),
        dist.Normal(jnp.zeros(2), 1.0).mask(jnp.array([True, False])).to_event(1),
        dist.ImproperUniform(dist.constraints.real, (), ()),
    ],
)
def test_what_has_no_density_is_refused(model):
    with pytest.raises(ValueError, match="model: expected one with a density, got one that is masked, improper"):
        evaluate(model, np.zeros((3, *model.event_shape)))


def test_a_key_is_one_and_nothing_is_traced():
    with pytest.raises(ValueError, match=r"key: expected a jax.random.key, got 3"):
        evaluate(dist.Normal(0.0, 1.0), np.zeros(3), key=3)
    with pytest.raises(ValueError, match=r"data: expected numbers, got traced arrays: .* under jax.jit"):
        jax.jit(lambda x: pointwise(dist.Normal(0.0, 1.0), x))(jnp.zeros(3))
    with pytest.raises(ValueError, match="data: expected one array x, got a dict of 1"):
        evaluate(dist.Normal(0.0, 1.0), {"x": np.zeros(3)})
    assert str(evaluate(dist.Uniform(0.0, 1.0), np.full(3, 0.5))).startswith("= 0.0000")
