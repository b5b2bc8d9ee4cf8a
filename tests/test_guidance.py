"""Guidance against closed forms, and the contexts that training drops for it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import probgen
from probgen.core import bind, given, is_random, vectorize, with_key
from probgen.distributions import ConditionalModel, integer_head
from probgen.score import (
    DDIM,
    Ancestral,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Denoiser,
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    LinearLogSNR,
    MaskedDiffusion,
    NetworkDenoiser,
    ProductOfExperts,
    ScoreModel,
    guided,
    masked_diffusion,
    vp_score,
)
from probgen.score.dropped_context import DroppingContext

KEY = jax.random.key(0)
SDE = LinearLogSNR(9.0, -9.0)
MIXTURE = GaussianMixtureDenoiser(jnp.array([1.0, 2.0]), jnp.array([[-1.0, 0.0], [1.0, 0.5]]), jnp.array(0.4))


class ByClass(Denoiser):
    """The exact denoiser of a mixture, given its component as one of K bits."""

    mixture: GaussianMixtureDenoiser
    context: jax.Array | None = given(default=None)

    def bind_context(self, context):
        return ByClass(self.mixture, context)

    def without_context(self):
        return ByClass(self.mixture, self.mixture.weights)

    def __call__(self, z, log_snr):
        return eqx.tree_at(lambda m: m.weights, self.mixture, self.context)(z, log_snr)


CLASSES = ConditionalModel(ScoreModel(ByClass(MIXTURE), SDE, (2,), sampler=Ancestral(40)), (2,))
SECOND = bind(CLASSES.model.denoiser, jnp.array([0.0, 1.0]))
ABSENT = SECOND.without_context()
PLACES = [(jnp.array([0.3, -0.2]), s) for s in (-4.0, 0.0, 3.0)]


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_guidance_by_a_classifier_and_without_one_are_the_same(weight):
    """By the mixture's own posterior; the score is a sum of automatic derivatives of log-densities."""
    free = ClassifierFreeGuidance(SECOND, weight)
    classifier = ClassifierGuidance(ABSENT, lambda z, s: MIXTURE.log_posterior(z, s)[1], weight)
    product = ProductOfExperts(ABSENT, (SECOND,), weight)

    @jax.jit
    def facts(z, log_snr):
        of_all, of_class = jax.grad(MIXTURE.log_prob)(z, log_snr), SECOND.score(z, log_snr)
        posterior = jax.grad(lambda z, s: MIXTURE.log_posterior(z, s)[1])(z, log_snr)
        scores = of_all + weight * posterior, of_class, free.score(z, log_snr), classifier.score(z, log_snr)
        return scores, (free(z, log_snr), classifier(z, log_snr), product(z, log_snr))

    for z, log_snr in PLACES:
        (exact, of_class, *scores), (of_free, *others) = facts(z, log_snr)
        for score in scores:
            np.testing.assert_allclose(score, exact, rtol=2e-4, atol=1e-4)
        for denoised in others:
            np.testing.assert_allclose(denoised, of_free, rtol=1e-4, atol=1e-4)
        if weight == 1.0:
            np.testing.assert_allclose(scores[0], of_class, rtol=1e-4, atol=1e-4)


class Counted(Denoiser):
    """x̂ = z + context, which counts its calls while it runs."""

    calls: list = eqx.field(static=True)
    context: jax.Array | None = given(default=None)

    def without_context(self):
        return Counted(self.calls)

    def __call__(self, z, log_snr):
        jax.debug.callback(lambda: self.calls.append(None))
        return z if self.context is None else z + self.context


def test_it_acts_within_its_interval_and_costs_one_call_outside():
    denoiser = ClassifierFreeGuidance(SECOND, 3.0, interval=(-1.0, 1.0))
    everywhere = ClassifierFreeGuidance(SECOND, 3.0)
    for z, log_snr in PLACES:
        expected = everywhere if abs(log_snr) < 1 else SECOND
        np.testing.assert_allclose(denoiser(z, log_snr), expected(z, log_snr), rtol=1e-5)
    counted = Counted([], jnp.ones(2))
    once = jax.jit(lambda z, s: ClassifierFreeGuidance(counted, 2.0, interval=(-1.0, 1.0))(z, s))
    for log_snr, calls, value in ((0.0, 2, 2.0), (5.0, 1, 1.0)):
        counted.calls.clear()
        np.testing.assert_allclose(once(jnp.zeros(2), log_snr), value)
        jax.effects_barrier()
        assert len(counted.calls) == calls


def test_the_rescaled_form_has_the_deviation_of_the_unguided():
    z, log_snr = PLACES[1]
    plain = ClassifierFreeGuidance(SECOND, 4.0)(z, log_snr)
    whole = ClassifierFreeGuidance(SECOND, 4.0, rescale=1.0)(z, log_snr)
    np.testing.assert_allclose(whole.std(), SECOND(z, log_snr).std(), rtol=1e-5)
    half = ClassifierFreeGuidance(SECOND, 4.0, rescale=0.5)(z, log_snr)
    np.testing.assert_allclose(half, 0.5 * (plain + whole), rtol=1e-5)


@pytest.mark.parametrize("sampler", [Ancestral(40), DDIM(30)], ids=str)
def test_a_guided_model_draws_by_any_sampler(sampler):
    classes = ConditionalModel(CLASSES.model.replace(sampler=sampler), (2,))
    draw = jax.jit(lambda model, c: model(c).sample(KEY, (500,)))
    one = draw(guided(classes, weight=1.0), jnp.eye(2))
    np.testing.assert_allclose(one, draw(classes, jnp.eye(2)), atol=1e-4)
    np.testing.assert_allclose(one.mean(0), MIXTURE.loc, atol=0.1)
    more = draw(guided(classes, weight=4.0), jnp.eye(2)).mean(0)
    assert more[0, 0] < -1.15 and more[1, 0] > 1.1  # away from each other
    hardly = draw(guided(classes, weight=4.0, interval=(8.0, 9.0)), jnp.eye(2))
    np.testing.assert_allclose(hardly.mean(0), MIXTURE.loc, atol=0.1)


def test_the_bound_is_one_of_the_guided_law_and_not_of_the_conditional_model():
    """Of two normals the guided denoiser is linear in z, so that its draws are normal, with moments step by step."""

    class Shifted(Denoiser):
        """Normal(c, (1 − c / 5)²), c = 0 without a context."""

        loc: jax.Array
        bind_context = lambda self, context: Shifted(context)
        without_context = lambda self: Shifted(jnp.zeros(1))
        __call__ = lambda self, z, log_snr: GaussianDenoiser(self.loc, 1.0 - 0.2 * self.loc)(z, log_snr)

    conditional = ConditionalModel(ScoreModel(Shifted(jnp.zeros(1)), SDE, (1,), sampler=Ancestral(1000)), (1,))
    at = guided(conditional, weight=3.0)(jnp.ones(1))
    denoiser = bind(at.model, jnp.ones(1)).denoiser

    def step(moments, now):
        (mean, variance), (t, s) = moments, now
        of = lambda z: Ancestral().transition(denoiser.under(SDE)(z, t), SDE, z, t, s)
        (moved, deviation), (slope, _) = jax.jvp(of, (mean,), (jnp.ones(1),))
        return (moved, slope**2 * variance + deviation**2), None

    times = jnp.linspace(1.0, 0.0, 1001)
    (mean, variance), _ = jax.lax.scan(step, (jnp.zeros(1), jnp.ones(1)), (times[:-1], times[1:]))
    x0, slope = jax.jvp(lambda z: denoiser(z, 9.0), (mean,), (jnp.ones(1),))
    law = dist.Normal(x0, jnp.sqrt(slope**2 * variance + jnp.exp(-9.0))).to_event(1)
    draws = jax.jit(lambda d: d.sample(KEY, (2000,)))(at)
    np.testing.assert_allclose(draws.mean(), law.mean[0], atol=4.5 * draws.std() / 44)
    np.testing.assert_allclose(draws.std(), jnp.sqrt(law.variance[0]), rtol=0.08)
    x = law.sample(KEY, (200,))
    bound = jax.jit(lambda d: d.log_prob_bound(KEY, x, 500))(at)
    gap = law.log_prob(x) - bound
    assert gap.mean() > -4 * gap.std() / np.sqrt(len(x))
    of_class = dist.Normal(jnp.ones(1), 0.8).to_event(1).log_prob(x)
    assert (bound - of_class).mean() > 0.5


# -- experts


def normals(*loc, scale=(1.0, 1.0)):
    return GaussianDenoiser(jnp.array(loc), jnp.array(scale))


def test_a_product_of_experts_on_numbers_of_their_own_is_exact():
    experts = normals(1.0, 0.0, scale=(0.5, 1.0)), normals(0.0, -2.0, scale=(1.0, 0.3))
    both = ProductOfExperts(normals(0.0, 0.0), experts)
    exact = normals(1.0, -2.0, scale=(0.5, 0.3))
    for z, log_snr in PLACES:
        np.testing.assert_allclose(both(z, log_snr), exact(z, log_snr), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(both.noise(z, log_snr), exact.noise(z, log_snr), rtol=1e-4, atol=1e-5)
    neither = ProductOfExperts(normals(0.0, 0.0), experts[:1], -1.0)
    flipped = -experts[0].score(*PLACES[1])[0] + 2.0 * normals(0.0, 0.0).score(*PLACES[1])[0]
    np.testing.assert_allclose(neither.score(*PLACES[1])[0], flipped, rtol=1e-4)


def test_other_products_are_exact_at_the_ends_alone():
    base, experts, weights = normals(0.0, 0.0), (normals(1.0, 1.0, scale=(0.5, 0.7)), SECOND), (2.0, -0.5)
    denoiser = ProductOfExperts(base, experts, weights)
    z = jnp.array([0.3, -0.2])
    product = lambda x, s: (
        base.log_prob(x, s)
        + sum(
            w * (log_p(x, s) - base.log_prob(x, s))
            for w, log_p in zip(weights, (experts[0].log_prob, lambda x, s: second.log_prob(x, s)), strict=True)
        )
    )
    second = normals(1.0, 0.5, scale=(0.4, 0.4))
    np.testing.assert_allclose(denoiser.score(z, 12.0), jax.grad(product)(z, 12.0), rtol=2e-2)
    np.testing.assert_allclose(denoiser.score(z, -30.0), -z, rtol=1e-4)
    pair = ProductOfExperts(base, (normals(1.0, 1.0, scale=(0.5, 0.5)),) * 2)
    variance = 1 / (1 + 2 * 3.0)  # 1 / 0.25 − 1 = 3 of precision from each
    exact = normals(8 * variance, 8 * variance, scale=(variance**0.5,) * 2)
    np.testing.assert_allclose(pair(z, 12.0), exact(z, 12.0), rtol=1e-4)
    assert abs(pair(z, 0.0) - exact(z, 0.0)).max() > 0.05


# -- dropped contexts


def network(z, features):
    return features[-3:]  # a context of two and the number that says that it is there


def conditional(rate):
    return NetworkDenoiser(network, lambda s: jnp.zeros(4), context_dim=2, drop_context=rate)


def test_rows_lose_their_contexts_at_the_rate_in_training_alone():
    rows = jnp.zeros((4000, 2))
    denoiser = bind(conditional(0.2), jnp.array([0.0, 3.0]))
    seen = vectorize(lambda z: with_key(denoiser, KEY).features(z, 0.0), 1)(rows)
    there = seen[:, 2] == 1
    np.testing.assert_array_equal(seen, jnp.where(there[:, None], jnp.array([0.0, 3.0, 1.0]), 0.0))
    assert abs(there.mean() - 0.8) < 4.5 * np.sqrt(0.2 * 0.8 / len(rows))
    assert abs(np.mean(there[1:] == there[:-1]) - 0.68) < 4.5 * np.sqrt(0.68 * 0.32 / len(rows))
    other = vectorize(lambda z: with_key(denoiser, jax.random.key(1)).features(z, 0.0), 1)(rows)[:, 2] == 1
    assert abs(np.mean(there == other) - 0.68) < 4.5 * np.sqrt(0.68 * 0.32 / len(rows))
    np.testing.assert_array_equal(denoiser.features(rows[0], 0.0), [0.0, 3.0, 1.0])


def test_a_context_of_zeros_is_not_none():
    zeros = bind(conditional(0.1), jnp.zeros(2))
    np.testing.assert_array_equal(zeros.features(jnp.zeros(2), 0.0), [0.0, 0.0, 1.0])
    np.testing.assert_array_equal(zeros.without_context().features(jnp.zeros(2), 0.0), jnp.zeros(3))
    np.testing.assert_array_equal(conditional(0.1).without_context().features(jnp.zeros(2), 0.0), jnp.zeros(3))
    assert is_random(conditional(0.1)) and not is_random(conditional(0.0))


def test_a_model_trains_with_them_and_its_guided_form_is_filed(tmp_path):
    make = lambda **how: vp_score((2,), width=8, depth=1, steps=4, context_dim=2, dropout=0.1, key=KEY, **how)
    model, x = make(drop_context=0.5), jnp.ones((64, 2))
    contexts = jnp.eye(2)[jnp.arange(64) % 2]
    trained = probgen.fit(model, (x, contexts), steps=2, key=KEY, progress=False).model
    strong = guided(trained, weight=3.0, interval=(-2.0, 2.0))
    probgen.save(tmp_path / "guided", strong)
    again = probgen.load(tmp_path / "guided")
    draws = [jax.jit(lambda m: m(jnp.eye(2)).sample(KEY, (3,)))(m) for m in (strong, again)]
    np.testing.assert_array_equal(*draws)
    with pytest.raises(ValueError, match="a guided model does not learn"):
        probgen.fit(strong, (x, contexts), steps=1, key=KEY, progress=False)


class Sloped(eqx.Module):
    slope: jax.Array
    __call__ = lambda self, x, c: jnp.tile(c[2] + c[:2].sum() * self.slope, (2, 1))


def test_masked_numbers_are_guided_by_their_logits():
    """p_w ∝ p(x)^{1 − w} p(x | c)^w, where p(x) is uniform and log p(x | c) rises by 2 a level."""
    network = DroppingContext(Sloped(jnp.arange(3.0)), **DROPPED)
    model = ConditionalModel(MaskedDiffusion(network, integer_head(3), (2,)), (2,))
    found = guided(model, weight=3.0)(jnp.ones(2)).conditionals(jnp.zeros(2, int), jnp.zeros(2, bool))
    expected = jax.nn.log_softmax(3.0 * 2.0 * jnp.arange(3.0))
    np.testing.assert_allclose(jax.nn.log_softmax(found.logits), jnp.tile(expected, (2, 1)), rtol=1e-5)


def test_a_masked_model_trains_with_dropped_contexts_and_is_filed(tmp_path):
    model = masked_diffusion((2,), levels=3, width=8, depth=1, key=KEY, **DROPPED)
    x, contexts = jnp.ones((64, 2), int), jnp.eye(2)[jnp.arange(64) % 2]
    trained = probgen.fit(model, (x, contexts), steps=2, key=KEY, progress=False).model
    strong = guided(trained, weight=3.0)
    probgen.save(tmp_path / "guided", strong)
    draws = [jax.jit(lambda m: m(jnp.eye(2)).sample(KEY, (3,)))(m) for m in (strong, probgen.load(tmp_path / "guided"))]
    np.testing.assert_array_equal(*draws)
    with pytest.raises(ValueError, match="a guided model does not learn"):
        probgen.fit(strong, (x, contexts), steps=1, key=KEY, progress=False)


DROPPED = {"context_dim": 2, "drop_context": 0.5}
MASKED = masked_diffusion((2,), levels=3, width=4, depth=1, context_dim=2, key=KEY)
REAL = vp_score((2,), width=4, depth=1, key=KEY)
NEVER = vp_score((2,), width=4, depth=1, context_dim=2, key=KEY)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: guided(REAL), "conditional: expected a ConditionalModel of a ScoreModel, got a ScoreModel"),
        (lambda: guided(NEVER), "denoiser: expected one that also learned from rows without their contexts"),
        (lambda: guided(ConditionalModel(REAL, (2,))), "denoiser: expected a conditional one, got one that takes no"),
        (lambda: ClassifierFreeGuidance(MIXTURE, 2.0), "denoiser: expected a conditional one, got a GaussianMixture"),
        (lambda: ClassifierFreeGuidance(SECOND, 2.0, interval=(1.0, -1.0)), "interval"),
        (lambda: ClassifierFreeGuidance(SECOND, 2.0, rescale=1.5), "rescale"),
        (lambda: ClassifierFreeGuidance(Counted([]), 2.0, rescale=0.5)(jnp.zeros(1), 0.0), "rescale: expected events"),
        (lambda: ClassifierGuidance(MIXTURE, 3.0), "log_prob: expected a function"),
        (
            lambda: ClassifierFreeGuidance(SECOND, jnp.ones(2)),
            r"weight: expected one number, got an array of shape \(2",
        ),
        (lambda: guided(CLASSES, weight=float("nan")), "weight: expected finite numbers, got nan"),
        (lambda: guided(CLASSES, weight="2"), "weight: expected numbers"),
        (lambda: ProductOfExperts(MIXTURE, (MIXTURE,), jnp.inf), "weights: expected finite numbers, got inf"),
        (lambda: guided(MASKED), "network: expected one that also learned from rows without their contexts"),
        (lambda: masked_diffusion((2,), levels=3, drop_context=0.1, key=KEY), "drop_context: expected a context_dim"),
        (
            lambda: guided(masked_diffusion((2,), levels=3, key=KEY, **DROPPED), rescale=0.5),
            "interval, rescale",
        ),
        (lambda: ProductOfExperts(MIXTURE, ()), "experts, weights"),
        (lambda: ProductOfExperts(MIXTURE, (MIXTURE,), (1.0, 1.0)), "experts, weights"),
        (lambda: vp_score((2,), drop_context=0.1, key=KEY), "drop_context: expected a context_dim beside it"),
        (lambda: vp_score((2,), context_dim=2, drop_context=1.0, key=KEY), "drop_context: expected a rate"),
        (lambda: guided(CLASSES)(jnp.ones(2)).exact_by(), "exact_by: expected a denoiser whose score is"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
