"""Comparisons of models: paired errors and p-values against SciPy, kinds of numbers, what cannot be compared."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from probgen.distributions import ConditionalModel
from probgen.distributions.model import Model
from probgen.evaluation import compare
from probgen.evaluation.likelihood.comparison import holm
from probgen.latent import LatentVariableModel
from probgen.mixtures import histogram

KEY = jax.random.key(0)
X = np.asarray(2**0.5 * jax.random.normal(KEY, (500, 2)))
normal = lambda scale: dist.Normal(jnp.zeros(2), scale).to_event(1)


def linear(posterior_scale):
    """p(x) = Normal(0, √2), whose bound is tight at a posterior scale of √½."""
    posterior = lambda x: dist.Normal(x / 2, posterior_scale).to_event(1)
    return LatentVariableModel(normal(1.0), lambda z: dist.Normal(z, 1.0).to_event(1), posterior)


def test_differences_and_p_values_are_those_of_paired_t_tests():
    models = {"right": normal(2**0.5), "near": normal(1.45), "far": normal(1.8), "wide": normal(3.0)}
    found = compare(models, X)
    log_p = {name: np.asarray(model.log_prob(X), np.float64) for name, model in models.items()}
    assert list(found.names) == sorted(models, key=lambda name: -log_p[name].mean())
    pairs = [(i, j) for i in range(4) for j in range(i)]
    tests = [stats.ttest_rel(log_p[found.names[j]], log_p[found.names[i]]) for i, j in pairs]
    adjusted = holm(np.array([test.pvalue for test in tests]))
    for (i, j), test, p in zip(pairs, tests, adjusted, strict=True):
        np.testing.assert_allclose(found.p_value[i, j], p, rtol=0.02, atol=1e-12)
        np.testing.assert_allclose(found.difference[i, j] / found.se[i, j], test.statistic, rtol=1e-3)
        assert found.difference[j, i] == -found.difference[i, j] and found.p_value[i, j] == found.p_value[j, i]
    assert not np.diag(found.better).any() and (np.diag(found.p_value) == 1).all()
    assert "wide" in str(found).splitlines()[3] and str(found).splitlines()[3].endswith("worse")


def test_paired_errors_see_what_unpaired_ones_do_not():
    shift = jnp.array([0.05, 0.0])
    found = compare({"a": normal(2**0.5), "b": dist.Normal(shift, 2**0.5).to_event(1)}, X)
    each = [one.se_nats for one in found.evaluations]
    assert found.se[0, 1] < 0.1 * np.hypot(*each)


def test_holm_is_that_of_the_paper():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])  # R's p.adjust(p, "holm")
    assert holm(np.array([0.9, 0.8])).max() == 1.0


def test_false_words_are_as_rare_as_the_level_says():
    """Six models of which all are equally wrong: a word is wrong whenever one is said."""
    angles = 2 * np.pi * np.arange(6) / 6
    models = {
        f"{i}": dist.Normal(0.3 * jnp.array([np.cos(a), np.sin(a)]), 1.0).to_event(1) for i, a in enumerate(angles)
    }
    x = np.asarray(jax.random.normal(KEY, (200, 50, 2)))
    log_p = np.stack([np.asarray(model.log_prob(x), np.float64) for model in models.values()])
    upper = np.triu_indices(6, 1)
    false = 0
    for data in log_p.transpose(1, 0, 2):
        d = (data[:, None] - data[None, :])[upper]
        false += holm(stats.ttest_1samp(d, 0, axis=1).pvalue).min() < 0.1
    assert false <= 32  # of 200, at level 0.1: the binomial's 99.5 %
    one = compare(models, x[0], level=0.1)
    d = (log_p[:, 0, None] - log_p[None, :, 0])[upper]
    np.testing.assert_allclose(one.p_value.min(), holm(stats.ttest_1samp(d, 0, axis=1).pvalue).min(), rtol=1e-3)


def test_a_bound_above_an_exact_value_shows_nothing():
    loose = linear(0.1)
    found = compare({"bound": loose, "exact": normal(1.6)}, X, key=KEY)
    assert found.names == ("exact", "bound") and found.p_value[0, 1] < 1e-6
    assert not found.better.any() and found.verdict("bound").startswith("not comparable")
    assert "≤" in str(found).splitlines()[1] and "not comparable" in str(found)


def test_a_bound_below_an_exact_value_shows_the_better_model():
    found = compare({"exact": normal(2.5), "bound": linear(0.6)}, X, key=KEY, num_particles=8)
    assert found.names == ("bound", "exact") and found.better[0, 1] and found.verdict("exact") == "worse"
    assert [one.num_particles for one in found.evaluations] == [8, 1]


def test_an_exact_value_goes_before_a_bound_that_it_does_not_differ_from():
    """The tight bound is the exact value, up to rounding; either may come out lower."""
    found = compare({"bound": linear(0.5**0.5), "exact": normal(2**0.5)}, X, key=KEY)
    assert found.names == ("exact", "bound") and found.p_value[0, 1] == 1.0
    assert found.verdict("bound") == "no difference shown"


def test_of_two_bounds_none_is_shown_to_be_better():
    found = compare({"loose": linear(0.2), "tight": linear(0.6)}, X, key=KEY)
    assert found.names == ("tight", "loose") and found.p_value[0, 1] < 1e-3 and not found.better.any()


class Within(Model):
    """A normal whose density is known to a tolerance."""

    pytree_data_fields = ("scale",)
    kind, tolerance, support, random_bound = "estimate", 0.2, dist.constraints.real_vector, False

    def __init__(self, scale):
        self.scale = jnp.asarray(scale)
        super().__init__((2,))

    def log_prob_event(self, x):
        return dist.Normal(0.0, self.scale).log_prob(x).sum()


def test_a_difference_within_the_tolerance_is_none():
    found = compare({"exact": normal(2**0.5), "estimate": Within(1.7)}, X)
    assert 0 < found.difference[1, 0] < 0.2 and found.p_value[0, 1] == 1.0
    far = compare({"exact": normal(2**0.5), "estimate": Within(4.0)}, X)
    assert far.verdict("estimate") == "worse" and "≈" in str(far)


def test_a_constant_difference_in_rows_that_differ_is_certain():
    rows = np.asarray(jax.random.uniform(KEY, (50,)))
    found = compare({"one": dist.Uniform(0.0, 1.0), "two": dist.Uniform(0.0, 2.0)}, rows, across_supports=True)
    assert found.verdict("two") == "worse" and found.p_value[0, 1] == 0.0
    np.testing.assert_allclose(found.difference[1, 0], np.log(2), rtol=1e-6)
    same = compare({"one": dist.Uniform(0.0, 1.0), "again": dist.Uniform(0.0, 1.0)}, rows)
    assert same.p_value[0, 1] == 1.0


def test_models_with_and_without_contexts_and_of_other_supports_are_compared():
    x = np.exp(X[:, :1])

    class Shifted(Model):
        pytree_data_fields = learnable_fields = ("loc",)
        support = dist.constraints.real_vector

        def __init__(self, loc):
            self.loc = jnp.asarray(loc)
            super().__init__((1,))

        def log_prob_event(self, x):
            return dist.Normal(self.loc, 0.1).log_prob(x).sum()

    conditional = ConditionalModel(Shifted(jnp.zeros(1)), (1,), lambda context: context)
    models = {
        "normal": dist.Normal(jnp.ones(1), 3.0).to_event(1),
        "log-normal": dist.LogNormal(jnp.zeros(1), 1.4).to_event(1),
        "told": conditional,
    }
    found = compare(models, (x, x), across_supports=True)
    assert found.names == ("told", "log-normal", "normal")
    assert found.supports == ("Real()", "Positive(lower_bound=0.0)", "Real()")
    words = "told: Real(), log-normal: Positive(lower_bound=0.0), normal: Real()"
    assert str(found).splitlines()[-1] == f"supports differ ({words}); all rows lie in each of them"


WISHART = dist.Wishart(3.0, scale_tril=jnp.eye(2))
SAME = [  # of one set, edges apart, though described in different words
    ([normal(1.0), Within(1.0)], X),
    ([dist.Uniform(0.0, 1.0), dist.Beta(1.0, 2.0), dist.Kumaraswamy(1.0, 2.0)], np.linspace(0.1, 0.9, 9)),
    ([dist.Exponential(1.0), dist.HalfNormal(1.0), dist.TruncatedNormal(0.0, 1.0, low=0.0)], np.linspace(0.1, 0.9, 9)),
    ([dist.Bernoulli(0.3), dist.BernoulliLogits(0.0), dist.Categorical(jnp.ones(2) / 2)], np.arange(9) % 2),
    (
        [dist.Dirichlet(jnp.ones(3)), dist.Dirichlet(jnp.arange(1.0, 4.0))],
        np.random.default_rng(0).dirichlet(np.ones(3), 9),
    ),
    ([WISHART, dist.Wishart(4.0, scale_tril=jnp.eye(2))], np.asarray(WISHART.sample(KEY, (9,)))),
]
OTHER = [  # parts of ℝᴰ, and ranges of integers
    ([normal(1.0), dist.LogNormal(jnp.zeros(2), 1.0).to_event(1)], np.exp(X)),
    ([dist.Uniform(0.0, 1.0), dist.Uniform(0.0, 2.0)], np.linspace(0.1, 0.9, 9)),
    ([dist.Normal(0.0, 1.0), dist.VonMises(0.0, 1.0)], np.linspace(-3.0, 3.0, 9)),
    ([dist.Poisson(1.0), dist.Bernoulli(0.5)], np.arange(9) % 2),
    ([histogram((2,), 4), histogram((2,), 8)], np.arange(8).reshape(4, 2) % 4),
]


@pytest.mark.parametrize(("models", "data"), SAME)
def test_one_set_has_one_description(models, data):
    found = compare(dict(zip("abc", models, strict=False)), data)
    assert len(set(found.supports)) == 1 and "supports" not in str(found)
    with pytest.raises(ValueError, match=r"^across_supports: the models have one support, "):
        compare(dict(zip("abc", models, strict=False)), data, across_supports=True)


@pytest.mark.parametrize(("models", "data"), OTHER)
def test_supports_that_differ_are_refused_and_named_where_asked_for(models, data):
    """Their numbers are relative to one measure: the losses are those of each by itself."""
    with pytest.raises(ValueError, match=r"^models: expected one support, got a: .*, b: .*: across_supports=True"):
        compare({"a": models[0], "b": models[1]}, data)
    found = compare({"a": models[0], "b": models[1]}, data, across_supports=True)
    assert len(set(found.supports)) == 2 and str(found).splitlines()[-1].startswith("supports differ (")
    for name, one in zip(found.names, found.evaluations, strict=True):
        log_p = np.asarray(models["ab".index(name)].log_prob(jnp.asarray(data)))
        np.testing.assert_allclose(one.nats, -log_p.mean(), rtol=1e-4)


class Unknown(Within):
    support = None


@pytest.mark.parametrize(
    ("models", "data", "options", "message"),
    [
        ({"a": normal(1.0)}, X, {}, "models: expected {name: model} of at least two"),
        ([normal(1.0), normal(2.0)], X, {}, "models: expected {name: model}"),
        ({"a": normal(1.0), "b": 3}, X, {}, r"models\['b'\]: expected a distribution"),
        ({"a": normal(1.0), "b": dist.Normal(0.0, 1.0)}, X, {}, r"events of one shape, got 'a': \(2,\), 'b': \(\)"),
        (
            {"masses": dist.Poisson(jnp.ones(2)).to_event(1), "densities": normal(1.0)},
            X,
            {},
            r"'masses': masses of integers, 'densities': a density on ℝ\^2, which no number compares",
        ),
        ({"a": normal(1.0), "b": dist.Dirichlet(jnp.ones(2))}, X, {}, r"'b': a density over Simplex\(\), which no"),
        ({"a": dist.ZeroSumNormal(1.0, (2,)), "b": dist.Dirichlet(jnp.ones(2))}, X, {}, r"'a': a density over ZeroSum"),
        (  # with rows that lie in both sets, of as many degrees of freedom
            {"a": WISHART, "b": dist.WishartCholesky(3.0, scale_tril=jnp.eye(2))},
            np.exp(X)[:, None] * np.eye(2),
            {},
            r"'a': a density over PositiveDefinite\(\), 'b': a density over LowerCholesky\(\), which no number",
        ),
        ({"a": normal(1.0), "b": Unknown(1.0)}, X, {}, r"'b': a density over events of shape \(2,\), which no number"),
        (
            {"a": histogram((2,), 8), "b": histogram((2,), 4)},
            np.arange(8).reshape(4, 2),
            {"across_supports": True},
            r"\['b'\]: data: row 2 lies",
        ),
        (
            {"a": normal(1.0), "b": dist.LogNormal(jnp.zeros(2), 1.0).to_event(1)},
            X,
            {"across_supports": True},
            r"models\['b'\]: .*outside",
        ),
        ({"a": normal(1.0), "b": normal(2.0)}, np.ones((9, 2)), {}, "data: expected rows that differ, got 9 copies"),
        ({"a": normal(1.0), "b": normal(2.0)}, X[:1], {}, "data: expected at least two rows"),
        ({"a": normal(1.0), "b": normal(2.0)}, X * np.nan, {}, r"models\['a'\]: data: expected finite numbers"),
        ({"a": normal(1.0), "b": normal(2.0)}, X[:, :1], {}, r"data: expected rows of shape \(2,\)"),
        ({"a": normal(1.0), "b": normal(1e-30)}, X, {}, r"models\['b'\]: the density of row 0 is 0: no finite loss"),
        ({"a": normal(1.0), "b": normal(2.0)}, X, {"level": 0}, "level: expected a number in"),
        (
            {"a": normal(1.0), "b": normal(2.0)},
            X,
            {"across_supports": "yes"},
            "across_supports: expected True or False",
        ),
        ({"a": normal(1.0), "b": normal(2.0)}, X, {"num_particles": 2}, "num_particles: no model has a bound"),
        ({"a": normal(1.0), "b": linear(0.5)}, X, {}, r"models\['b'\]: key: LatentVariableModel"),
        ({"a": normal(1.0), "b": linear(0.5)}, X, {"num_particles": 0, "key": KEY}, "num_particles: expected"),
    ],
)
def test_what_cannot_be_compared_is_refused(models, data, options, message):
    with pytest.raises(ValueError, match=message):
        compare(models, data, **options)


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ValueError, match="name: expected one of a, b, got 'c'"):
        compare({"a": normal(1.4), "b": normal(2.0)}, X).verdict("c")
