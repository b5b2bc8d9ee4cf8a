"""Estimators and baselines of one's own: they have what they need, and what is wrong is refused or found."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax

from probgen.inference import estimators, expectation, gradient_report, objectives
from probgen.inference.estimators import (
    Baseline,
    Estimator,
    LeaveOneOut,
    MovingAverage,
    ScoreFunction,
    draw_cut,
    elementwise,
    family,
    unmasked,
    use,
)
from probgen.inference.laboratory import bernoulli_toy, table
from probgen.testing import check_baseline, check_estimator
from tests.registry import ESTIMATORS, FAMILIES

# -- estimators of one's own


def named(x):
    """What a row is called, the same in every process."""
    return re.sub(" at 0x[0-9a-f]+", "", str(x))


class Pairs(Estimator):
    """Particles two by two: ½ (f₁ − f₂) ∇ (log q₁ − log q₂)."""

    scored = True
    particles = 2
    couples = True

    def problem(self, fn):
        return None if family(fn).support.is_discrete else "its values are not discrete"

    def surrogate(self, signal):
        first, second = signal.cost[::2], signal.cost[1::2]
        log_ratio = signal.log_q[::2] - signal.log_q[1::2]
        return jnp.sum(0.5 * (first - second) * log_ratio) / len(first), None


class Inverse(Estimator):
    """z = F⁻¹(u; θ)."""

    def draw(self, key, fn, sample_shape):
        return family(fn).icdf(jax.random.uniform(key, fn.shape(sample_shape)))


class ScoreBySurrogate(Estimator):
    """The score function, with the density that was drawn from taken by oneself."""

    scored = True

    def surrogate(self, signal):
        return jnp.sum(signal.log_q * signal.cost) / len(signal.log_q), None


NORMAL, BIT, COST = (lambda t: dist.Normal(t, 1.2)), (lambda t: dist.Bernoulli(logits=t)), (lambda z: (z - 0.45) ** 2)
SCALE = lambda t: dist.Normal(0.3, jnp.exp(t))
BY_NAME = {row.name: row for row in FAMILIES}


@pytest.mark.parametrize(("estimator", "make"), [
    (Pairs(), BIT), (Inverse(), NORMAL), (ScoreBySurrogate(), NORMAL), (ESTIMATORS["straight-through"], BIT),
], ids=named)  # fmt: skip
def test_right_estimators_pass(estimator, make):
    check_estimator(estimator, make, COST, 0.5, num=4000)


@pytest.mark.parametrize("name", ["gamma", "von mises", "truncated normal"])
def test_the_exact_value_that_a_check_finds_by_itself(name):
    from probgen.testing.estimators import _expected

    row = BY_NAME[name]
    found, slope = jax.value_and_grad(_expected(row.make, row.f, row.theta))(row.theta)
    np.testing.assert_allclose(found, row.exact(row.theta), rtol=2e-5)
    np.testing.assert_allclose(slope, jax.grad(row.exact)(row.theta), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("make", [
    lambda t: dist.Poisson(jnp.exp(t)), lambda t: dist.Cauchy(t, 1.0), lambda t: dist.Uniform(0.0, jnp.exp(t)),
    lambda t: dist.Normal(t, 1.0).expand((2,)).to_event(1),
])  # fmt: skip
def test_what_no_sum_and_no_quadrature_gives_is_asked_for(make):
    from probgen.testing.estimators import _expected

    with pytest.raises(ValueError, match=r"^exact: expected θ ↦ E\[f\(z\)\]"):
        jax.value_and_grad(_expected(make, lambda z: jnp.sum(z**2), 0.3))(0.3)


def test_an_exact_gradient_may_be_given():
    make = lambda t: dist.Poisson(jnp.exp(t))
    check_estimator(LeaveOneOut(), make, lambda z: 2.0 * z, 0.3, exact=lambda t: 2.0 * jnp.exp(t), num=4000)


# -- wrong ones


class Half(ScoreBySurrogate):
    def surrogate(self, signal):
        return 0.5 * super().surrogate(signal)[0], None


class ScoreAndPath(ScoreBySurrogate):
    def draw(self, key, fn, sample_shape):
        return fn.rsample(key, sample_shape)


class OfTheFamily(Estimator):
    """The draw of a family, without its expansion."""

    def draw(self, key, fn, sample_shape):
        return family(fn).rsample(key, sample_shape)


class Wide(Estimator):
    def draw(self, key, fn, sample_shape):
        return family(fn).icdf(1.02 * jax.random.uniform(key, fn.shape(sample_shape)) - 0.01)


class NotANumber(Estimator):
    unbiased = False

    def draw(self, key, fn, sample_shape):
        value = draw_cut(key, fn, sample_shape)
        return value + jnp.sqrt(fn.mean * 0)


class Silent(Pairs):
    couples = False


class OneForAll(Estimator):
    """All elements of a batch are the same draw."""

    def draw(self, key, fn, sample_shape):
        one = family(fn).icdf(jax.random.uniform(key))
        return jnp.broadcast_to(one, fn.shape(sample_shape))


@pytest.mark.parametrize(("estimator", "make", "message"), [
    (Half(), BIT, "the mean is the exact gradient: of one draw, component 0"),
    (ScoreAndPath(), SCALE, "the mean is the exact gradient: of one draw"),
    (Wide(), NORMAL, "finite value|the mean is the exact value"),
    (OneForAll(), NORMAL, "the mean is the exact value: of a batch in one cost"),
    (OfTheFamily(), NORMAL, r"shape of a draw: sample_shape \(\): \(\), not \(3,\)"),
    (NotANumber(), NORMAL, "finite gradient: of one draw"),
    (Silent(), BIT, "a particle's term reads no costs of other particles"),
], ids=named)  # fmt: skip
def test_wrong_estimators_fail(estimator, make, message):
    with pytest.raises(AssertionError, match=message):
        check_estimator(estimator, make, COST, 0.5, num=4000)


def test_a_bias_is_found_unless_it_is_said():
    class Straight(estimators.StraightThrough):
        unbiased = True

    with pytest.raises(AssertionError, match="the mean is the exact gradient"):
        check_estimator(Straight(), BIT, COST, 0.5, num=4000)


# -- what does nothing is refused


def test_an_estimator_that_implements_nothing_is_refused():
    class Nothing(Estimator):
        pass

    class Scored(Estimator):
        scored = True

    class Unasked(Estimator):
        def surrogate(self, signal):
            return 0.0, None

    for cls, message in [
        (Estimator, r"Estimator does nothing: write draw \(.*support \(.*surrogate with scored = True"),
        (Nothing, "Nothing does nothing"),
        (Scored, r"scored = True and writes no surrogate\(signal\)"),
        (Unasked, "scored = False and writes a surrogate, which is not asked for"),
    ]:
        with pytest.raises(TypeError, match=message):
            cls()
    assert str(Pairs()) == "Pairs()" and Pairs() == Pairs() != Inverse()  # without a decorator


def test_a_class_for_an_instance_is_one_clear_error():
    key, toy = jax.random.key(0), bernoulli_toy()
    written = lambda: numpyro.sample("z", dist.Bernoulli(0.5), infer={"estimator": LeaveOneOut})
    of_class = r"expected an instance, such as {}\(…\), got the class itself"
    for call, message in [
        (lambda: use({"z": LeaveOneOut}), "site 'z': " + of_class.format("LeaveOneOut")),
        (lambda: use({"z": "score"}), r"site 'z': expected an estimator, such as LeaveOneOut\(\), got 'score'"),
        (lambda: use({"z": MovingAverage()}), r"site 'z': expected an estimator, .*, got MovingAverage\("),
        (lambda: objectives.ELBO().loss(key, {}, written, written), "site 'z': " + of_class.format("LeaveOneOut")),
        (lambda: expectation(key, BIT(0.5), COST, LeaveOneOut), "estimator: " + of_class.format("LeaveOneOut")),
        (lambda: ScoreFunction(MovingAverage), "baseline: " + of_class.format("MovingAverage")),
        (lambda: ScoreFunction(0.7), r"baseline: expected a baseline, such as MovingAverage\(\), got 0\.7"),
        (lambda: estimators.Learned(None, None, MovingAverage), "center: " + of_class.format("MovingAverage")),
        (lambda: check_estimator(LeaveOneOut, BIT, COST, 0.5), "estimator: " + of_class.format("LeaveOneOut")),
        (lambda: check_baseline(MovingAverage), "baseline: " + of_class.format("MovingAverage")),
        (lambda: gradient_report(key, toy.params, toy.model, toy.guide, estimators={"a": {"b": LeaveOneOut}}),
         "site 'b': " + of_class.format("LeaveOneOut")),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


def test_importance_weights_refuse_an_estimator_that_couples():
    model = lambda: numpyro.sample("z", dist.Bernoulli(0.5))
    guide = use(model, {"z": Pairs()})
    with pytest.raises(ValueError, match=r"Pairs\(\) is wrong under importance weights.*LeaveOneOut\(\) would serve"):
        objectives.ImportanceWeighted(4).loss(jax.random.key(0), {}, model, guide)


def test_what_lies_under_wrappers():
    base = dist.Normal(jnp.arange(3.0), 1.0)
    wrapped = base.expand((2, 3)).mask(jnp.array([True, False, True])).to_event(1)
    assert family(wrapped) is base
    assert unmasked(wrapped).log_prob(jnp.zeros(3)).tolist() == [base.log_prob(0.0).sum().item()] * 2
    assert elementwise(unmasked(wrapped)).batch_shape == (2, 3)


# -- baselines of one's own


class Own(Baseline):
    """b of `signal`, by a function."""

    def __call__(self, signal):
        return self.b(signal), None, 0.0


class MedianOfOthers(Own):
    particles = 4
    couples = True

    def b(self, signal):
        count = len(signal.cost)
        return jnp.stack([jnp.median(jnp.delete(signal.cost, k, axis=0), axis=0) for k in range(count)])


class MeanOfAll(Own):
    particles = 2
    couples = True

    def b(self, signal):
        return jnp.mean(signal.cost, 0, keepdims=True)


class OwnValue(Own):
    def observe(self, fn, value):
        return value

    def b(self, signal):
        return signal.extra


class OfTheDensity(Own):
    def b(self, signal):
        return 0.01 * signal.log_q


class NeighboursInThePlate(Own):
    """Another element's cost may depend on this one's value."""

    def b(self, signal):
        return jnp.roll(signal.cost, 1, -1)


class Uncoupled(MedianOfOthers):
    couples = False


class Flat(Own):
    def b(self, signal):
        return jnp.zeros(signal.cost.size + 1)


class Growing(Own):
    def init_state(self):
        return jnp.zeros(())

    def __call__(self, signal):
        return 0.0, jnp.mean(signal.cost, 0), 0.0


class Shaping(Own):
    def __call__(self, signal):
        return 0.0, None, jnp.sum(signal.log_q)


class Bare(Own):
    def __call__(self, signal):
        return lax.stop_gradient(1.0)


@pytest.mark.parametrize("baseline", [
    estimators.Constant(0.7), MovingAverage(), estimators.OtherParticles(), estimators.OptimalCoefficient(),
], ids=named)  # fmt: skip
def test_right_baselines_pass(baseline):
    check_baseline(baseline, num=300)


def test_a_learned_baseline_passes_with_the_guides_arguments():
    network = lambda x: jnp.tanh(x[:1] - x[1:])
    learned = estimators.Learned(network, lambda x: x, MovingAverage())
    check_baseline(learned, jnp.arange(8.0).reshape(4, 2), num=300)


@pytest.mark.parametrize(("baseline", "message"), [
    (MeanOfAll(), "b does not depend on its own particle: another draw of it moved b by"),
    (OwnValue(), "b does not depend on its own particle"),
    (OfTheDensity(), "b does not depend on its own particle"),
    (NeighboursInThePlate(), "b does not depend on its own particle"),
    (Uncoupled(), "b reads no costs of other particles: .*couples = True says so"),
    (Flat(), r"b has the costs' shape: \(4,\), of costs \(1, 3\)"),
    (Growing(), r"the new state is like the first"),
    (Shaping(), "the auxiliary loss does not reach log q: its slope is 1"),
    (Bare(), r"a baseline gives \(b, new state, auxiliary loss\)"),
], ids=named)  # fmt: skip
def test_wrong_baselines_fail(baseline, message):
    with pytest.raises(AssertionError, match=message):
        check_baseline(baseline, num=300)


# -- reports survive


def test_a_report_survives_a_contender_that_does_not_serve():
    toy = bernoulli_toy()
    report = lambda contenders: gradient_report(
        jax.random.key(0), toy.params, toy.model, toy.guide, reference=toy.loss, num_replicates=200,
        estimators={name: {"b": estimator} for name, estimator in contenders.items()},
    )  # fmt: skip
    unfit, fit = {"pathwise": estimators.Pathwise()}, {"enumerate": estimators.Enumerate()}
    with pytest.warns(UserWarning, match=r"left out.*'pathwise' \(site 'b': Pathwise\(\) does not serve") as warned:
        found = report(unfit | fit)
    assert len(warned) == 1
    alone = report(fit)
    for name in ("variance_total", "bias_z", "loss", "evaluations", "work", "cosine"):
        assert np.isnan(found[name].sel(estimator="pathwise")).all()
        assert np.isfinite(found[name].sel(estimator="enumerate")).all()
    assert float(found.loss.sel(estimator="enumerate")) == float(alone.loss.sel(estimator="enumerate"))
    assert found.reason.sel(estimator="enumerate") == alone.reason.item() == ""
    assert "its samples carry no gradient" in found.reason.sel(estimator="pathwise").item()
    lines = table(found).splitlines()
    assert lines[2].split() == ["pathwise", *"–" * 8] and lines[-1].startswith("pathwise: site 'b'")
    with pytest.raises(ValueError, match="site 'b': Pathwise"):
        report(unfit)


def test_coupled_draws_are_as_many_as_was_said():
    class Two(estimators.DisARM):
        def draw(self, key, fn, sample_shape):
            return super().draw(key, fn, sample_shape)[:1]

    with pytest.raises(ValueError, match="to draw"):
        expectation(jax.random.key(0), dist.Bernoulli(0.3), lambda b: b * 1.0, Two())

    class None_(estimators.DisARM):
        copies = 0

    with pytest.raises(ValueError, match="copies"):
        None_()
