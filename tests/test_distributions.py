"""The laws of distributions and conditionals, over the registry."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from registry import CONDITIONALS, DISTRIBUTIONS, KEY, density

from probgen import autoregressive, combine, fit, flows, latent, observe, partition, score, testing
from probgen.bijectors import Affine, Chain, Inverse, Sigmoid
from probgen.core import leaves
from probgen.distributions import Dequantized, Distribution, Transformed, as_transform, from_distrax
from probgen.distributions.conditionals import AtContext
from probgen.evaluation import evaluate
from probgen.mixtures import categorical_mixture


@jax.jit
def _facts(model, key, events):
    """All that the laws below look at, of one model, in one compilation."""
    draws, log_prob = model.sample_and_log_prob(key, (3, 2)) if model.exact else (model.sample(key, (3, 2)), None)
    x = model.sample(key)
    again = model.log_prob(draws) if model.exact else None
    wrapped = model.expand([4]).mask(False)
    return {
        "draws": draws,
        "log_prob": log_prob,
        "again": again,
        "x": x,
        "bound": density(model, draws, 2),
        "one bound": density(model, x, 2),
        "masked": wrapped.log_prob(jnp.broadcast_to(x, (4, *x.shape))) if model.exact else jnp.zeros(4),
        "all": jax.nn.logsumexp(density(model, events, 8192)),
    }


@pytest.mark.parametrize("row", DISTRIBUTIONS, ids=lambda row: row.name)
def test_laws(row):
    model = row.make()
    events = row.events()
    f = _facts(model, KEY, events)
    event = model.event_shape
    assert isinstance(model, Distribution) and model.batch_shape == ()
    # shapes
    assert f["draws"].shape == (3, 2, *event) and f["x"].shape == event
    assert f["bound"].shape == (3, 2) and f["one bound"].shape == ()
    # draws lie in the support, which is of the event's rank
    assert model.support.event_dim == model.event_dim
    assert np.all(model.support(f["draws"]))
    # one pass gives the same density as two
    if model.exact:
        np.testing.assert_allclose(f["log_prob"], f["again"], rtol=1e-3, atol=1e-3)
        assert (f["masked"] == 0).all()
    else:
        with pytest.raises(NotImplementedError, match=r"log_prob_(bound|estimate)"):
            model.log_prob(f["x"])
    # it sums to 1; a bound to at most 1
    total = float(f["all"]) + np.log(row.volume)
    assert total < (2e-3 if model.exact else 0.05), total  # a bound of so many particles still has some noise
    assert total > -2e-3 if model.exact else total > -1.5, total
    if model.exact:
        testing.check_pytree(model, f["draws"].reshape(-1, *event)[:2])
    if "score" not in row.exceptions:
        testing.check_samples(model, key=KEY)


@pytest.mark.parametrize("row", DISTRIBUTIONS, ids=lambda row: row.name)
def test_wrappers_change_nothing_of_what_learns(row):
    model = row.make()
    kinds = sorted((leaf.kind.value, np.shape(leaf.value)) for leaf in leaves(model))
    for wrapped in (model.expand([5]), model.mask(True), model.expand([5]).to_event(1)):
        inner = sorted((leaf.kind.value, np.shape(leaf.value)) for leaf in leaves(wrapped))
        assert [pair for pair in inner if pair[0] == "learned"] == [pair for pair in kinds if pair[0] == "learned"]


def rows(*names):
    """Some rows of the registry, for laws that cost too much for all."""
    return pytest.mark.parametrize("row", [row for row in DISTRIBUTIONS if row.name in names], ids=lambda row: row.name)


@rows("real_nvp", "mixture", "on_levels", "vae", "made")
def test_sample_site_under_a_plate(row):
    model = row.make()

    def program(x):
        with numpyro.plate("data", 4):
            observe("x", model, x)

    trace = numpyro.handlers.trace(numpyro.handlers.seed(program, KEY)).get_trace(None)
    assert trace["x"]["value"].shape == (4, *model.event_shape)
    conditioned = numpyro.handlers.seed(program, KEY)
    trace = numpyro.handlers.trace(conditioned).get_trace(trace["x"]["value"])
    assert trace["x"]["is_observed"]
    assert trace["x"]["fn"].log_prob(trace["x"]["value"]).shape == (4,)


@rows("real_nvp", "mixture", "made", "discretized logistics", "distrax parts", "on_levels")
def test_models_made_under_vmap_get_batch_axes(row):
    model = row.make()
    scales = jnp.array([0.9, 1.0, 1.1])
    scale = lambda s: jax.tree.map(lambda x: x * s if jnp.issubdtype(x.dtype, jnp.floating) else x, model)
    many = jax.vmap(scale)(scales)
    assert many.batch_shape == (3,)
    x = jax.jit(lambda m: m.sample(KEY, (2, 1)))(model)
    assert jax.eval_shape(lambda: many.sample(KEY, (2,))).shape == (2, 3, *model.event_shape)
    got = jax.jit(lambda many: many.log_prob_bound(KEY, x))(many)
    assert got.shape == (2, 3)
    if model.exact:
        one = jax.jit(lambda s: scale(s).log_prob(x[:, 0]))
        np.testing.assert_allclose(got, np.stack([one(s) for s in scales], -1), rtol=1e-4, atol=1e-4)
    nested = jax.vmap(jax.vmap(scale))(jnp.ones((2, 3)))
    assert nested.batch_shape == (2, 3)
    single = jax.tree.map(lambda leaf: leaf[1], many)
    assert single.batch_shape == ()


@pytest.mark.parametrize("name", CONDITIONALS)
def test_conditionals(name):
    conditional = CONDITIONALS[name]()

    @jax.jit
    def facts(conditional, context):
        d = conditional(context)
        x = d.sample(KEY)
        gradient = jax.grad(lambda c: density(conditional(c), x).sum())(context)
        of_first = density(conditional(context[:1]), x)
        return x, density(d, x), gradient, conditional(context[:, None]).sample(KEY, (2,)), of_first

    context = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)[np.array([0, 1, 0, 3])]
    x, log_prob, gradient, more, of_first = facts(_stir(conditional), context)
    event = conditional(context).event_shape
    assert conditional(context).batch_shape == (4,)
    assert x.shape == (4, *event) and log_prob.shape == (4,) and more.shape == (2, 4, 1, *event)
    assert np.isfinite(gradient).all() and (np.abs(gradient).sum(-1) > 0).all()
    assert of_first.shape == (4,)  # a context's axis of one broadcasts against the rows
    if getattr(conditional(context), "exact", True):
        np.testing.assert_allclose(of_first[::2], log_prob[::2], rtol=1e-4, atol=1e-4)
        assert not np.allclose(of_first[1::2], log_prob[1::2], rtol=1e-4, atol=1e-4)


def _stir(model):
    """Weights away from their start, where last layers may be zero."""
    params, rest = partition(model)
    keys = jax.random.split(KEY, len(params))
    return combine(
        {p: v + 0.3 * jax.random.normal(k, v.shape) for k, (p, v) in zip(keys, params.items(), strict=True)}, rest
    )


def test_conditional_equals_one_at_a_time():
    conditional = _stir(CONDITIONALS["real_nvp"]())
    contexts, x = jax.random.normal(KEY, (4, 3)), jax.random.normal(KEY, (4, 2))
    together = conditional(contexts).log_prob(x)
    alone = jnp.stack([conditional(c).log_prob(v) for c, v in zip(contexts, x, strict=True)])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert jax.vmap(conditional)(contexts).batch_shape == (4,)


def test_sizes_of_recipes_may_be_numpy_integers():
    two, three = np.int64(2), np.array([0, 2]).max() + 1
    for model in (
        flows.on_levels(flows.real_nvp(two, layers=two, hidden=(two,), key=KEY), (two,), three),
        autoregressive.made((two,), three, hidden=(two,), key=KEY),
        latent.vae((two,), three, latent_dim=two, hidden=(two,), key=KEY),
        score.vp_score((two,), levels=three, width=two, depth=two, key=KEY),
        categorical_mixture((two,), three, components=two, key=KEY),
        flows.real_nvp(two, layers=two, hidden=(two,), context_dim=three, key=KEY)(jnp.ones(3)),
        autoregressive.gated_pixel_cnn((two, two), three, channels=two, depth=two, key=KEY),
    ):
        bound = jax.jit(lambda m: m.log_prob_bound(KEY, m.sample(KEY)))(model)
        assert np.isfinite(bound) and (model.recipe or isinstance(model, AtContext))


def test_conditional_refuses_what_does_not_fit():
    conditional = CONDITIONALS["real_nvp"]()
    with pytest.raises(ValueError, match="context"):
        conditional(jnp.ones((4, 2)))
    with pytest.raises(ValueError, match="conditional"):
        conditional.model.log_prob(jnp.ones(2))


def test_an_elbo_never_inverts():
    calls = []

    class Watched(Affine):
        def inverse_event(self, y):
            calls.append("inverse")
            return super().inverse_event(y)

    flow = Transformed(dist.Normal(jnp.zeros(2), 1.0).to_event(1), Watched(jnp.ones(2), jnp.ones(2)))
    x, intermediates = flow.sample_with_intermediates(KEY)
    log_prob = flow.log_prob(x, intermediates)
    assert not calls
    np.testing.assert_allclose(log_prob, flow.log_prob(x), rtol=1e-5)
    assert calls


def test_batched_parameters_give_batch_axes():
    flow = Transformed(dist.Normal(0.0, 1.0), distrax.ScalarAffine(jnp.zeros(3), jnp.ones(3)))
    assert (flow.batch_shape, flow.event_shape) == ((3,), ())
    assert flow.sample(KEY, (2,)).shape == (2, 3)
    flow = Transformed(dist.Normal(jnp.zeros((4, 2)), 1.0).to_event(1), Affine(jnp.zeros(2), jnp.zeros(2)))
    assert (flow.batch_shape, flow.event_shape) == ((4,), (2,))
    assert flow.log_prob(jnp.zeros((5, 1, 2))).shape == (5, 4)
    with pytest.raises(ValueError, match="bijector"):
        Transformed(dist.Normal(0.0, 1.0), Affine(jnp.zeros(2), jnp.zeros(2)))


_AFFINE = dist.transforms.AffineTransform(jnp.zeros(3), 2.0)


@pytest.mark.parametrize(
    ("base", "bijector", "batch_shape", "event_shape"),
    [
        (dist.Normal(), _AFFINE, (3,), ()),
        (dist.Normal(), _AFFINE.inv, (3,), ()),
        (dist.Normal(), Inverse(distrax.ScalarAffine(jnp.zeros(3), jnp.ones(3))), (3,), ()),
        (dist.Normal(), distrax.Chain([distrax.Tanh(), distrax.Shift(jnp.zeros((4, 3)))]), (4, 3), ()),
        (dist.Normal(jnp.zeros((2, 1))), _AFFINE, (2, 3), ()),
        (dist.Normal(jnp.zeros(3)).to_event(1), _AFFINE, (), (3,)),
        (dist.Normal(jnp.zeros(3)).to_event(1), distrax.Shift(jnp.zeros((4, 3))), (4,), (3,)),
        (dist.Normal(jnp.zeros(3)), distrax.Block(distrax.Shift(jnp.zeros((4, 3))), 1), (4,), (3,)),
        (
            dist.Normal(jnp.zeros((2, 1, 3))),
            dist.transforms.IndependentTransform(dist.transforms.AffineTransform(jnp.zeros((4, 3)), 2.0), 1),
            (2, 4),
            (3,),
        ),
        (dist.Normal(jnp.zeros(3)), distrax.TriangularLinear(jnp.broadcast_to(jnp.eye(3), (4, 3, 3))), (4,), (3,)),
        (dist.Normal(jnp.zeros(2)), dist.transforms.StickBreakingTransform(), (), (3,)),
    ],
)
def test_batch_shapes_are_those_of_base_and_bijector(base, bijector, batch_shape, event_shape):
    flow = Transformed(base, bijector)
    assert (flow.batch_shape, flow.event_shape) == (batch_shape, event_shape)
    x, log_prob = flow.sample_and_log_prob(KEY, (5,))
    assert x.shape == (5, *batch_shape, *event_shape) and log_prob.shape == (5, *batch_shape)
    np.testing.assert_allclose(flow.log_prob(x), log_prob, rtol=1e-3, atol=1e-4)
    assert flow.log_prob(x[(0,) * (1 + len(batch_shape))]).shape == batch_shape
    if len({x.shape, flow.log_prob(x).shape}) == 1:  # numpyro's own agrees
        theirs = dist.TransformedDistribution(base, as_transform(bijector))
        assert (theirs.batch_shape, theirs.event_shape) == (batch_shape, event_shape)


@pytest.mark.parametrize(
    ("base", "bijector", "words"),
    [
        (dist.Normal(jnp.zeros(2)), _AFFINE, r"bijector.*\(3,\).*\(2,\)"),
        (dist.Normal(jnp.zeros(2)).to_event(1), _AFFINE, "AffineTransform takes no events of shape"),
        (dist.Normal(jnp.zeros(1)).to_event(1), _AFFINE, r"\(1,\)"),
        (dist.Normal(jnp.zeros(2)), distrax.Block(distrax.Shift(jnp.zeros(3)), 1), "Block takes no events of shape"),
        (dist.Normal(jnp.zeros(1)), distrax.Block(distrax.Shift(jnp.zeros(3)), 1), r"\(1,\)"),
        (dist.Normal(), Chain([_AFFINE, Sigmoid()]), "distrax.Block"),
        (dist.Normal(jnp.zeros(3)), Chain([_AFFINE, Sigmoid()]), "distrax.Block"),
        (dist.Normal(jnp.zeros(3)).to_event(1), Chain([_AFFINE, Sigmoid()]), "distrax.Block"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_at_construction(base, bijector, words):
    with pytest.raises(ValueError, match=words):
        Transformed(base, bijector)


def test_a_distribution_is_not_called_with_data():
    flow = Transformed(dist.Normal(jnp.zeros(2)), Affine(jnp.zeros(2), jnp.zeros(2)))
    with pytest.raises(ValueError, match="rng_key"):
        flow(jnp.ones(3))
    assert flow(rng_key=KEY).shape == (2,)


def test_transforms_of_ours_in_numpyro():
    d = dist.TransformedDistribution(dist.Normal(0.0, 1.0), as_transform(Sigmoid()))
    theirs = dist.TransformedDistribution(dist.Normal(0.0, 1.0), dist.transforms.SigmoidTransform())
    np.testing.assert_allclose(d.log_prob(0.3), theirs.log_prob(0.3), rtol=1e-5)
    x, intermediates = d.sample_with_intermediates(KEY)
    np.testing.assert_allclose(d.log_prob(x, intermediates), d.log_prob(x), rtol=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: distrax.Normal(0.5, 2.0), lambda: dist.Normal(0.5, 2.0)),
        (lambda: distrax.Gamma(2.0, 1.5), lambda: dist.Gamma(2.0, 1.5)),
        (lambda: distrax.Categorical(jnp.array([0.1, 0.9])), lambda: dist.Categorical(logits=jnp.array([0.1, 0.9]))),
        (
            lambda: distrax.Independent(distrax.Normal(jnp.zeros(2), 1.0), 1),
            lambda: dist.Normal(jnp.zeros(2), 1.0).to_event(1),
        ),
    ],
)
def test_distrax_at_sample_sites(ours, theirs):
    ours, theirs = from_distrax(ours()), theirs()
    x = theirs.sample(KEY, (3,))
    np.testing.assert_allclose(ours.log_prob(x), theirs.log_prob(x), rtol=1e-5)
    assert (ours.batch_shape, ours.event_shape, ours.has_rsample) == (
        theirs.batch_shape,
        theirs.event_shape,
        theirs.has_rsample,
    )
    assert str(ours.support) == str(theirs.support)
    with pytest.raises(ValueError, match="support"):
        from_distrax(distrax.Deterministic(1.0))


@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (distrax.OneHotCategorical(jnp.zeros(3)), [0, 1, 0], [1, 1, 0]),
        (distrax.OneHotCategorical(jnp.zeros((4, 3))), [0, 1, 0], [0, 0, 0]),
        (distrax.Multinomial(5, jnp.zeros(3)), [2, 3, 0], [2, 4, -1]),
        (distrax.Multinomial(jnp.array([5, 6]), jnp.zeros((2, 3))), [[2, 3, 0], [6, 0, 0]], [[2, 3, 1], [5, 0, 0]]),
        (
            distrax.Independent(distrax.OneHotCategorical(jnp.zeros((2, 3))), 1),
            [[0, 1, 0], [1, 0, 0]],
            [[0, 1, 0], [2, 0, 0]],
        ),
        (distrax.Independent(distrax.Categorical(jnp.zeros((2, 3))), 1), [0, 2], [0, 3]),
        (distrax.Softmax(jnp.zeros(3)), 2, 3),
    ],
)  # fmt: skip
def test_supports_of_discrete_distributions_of_distrax(distribution, inside, outside):
    d = from_distrax(distribution)
    assert d.support.event_dim == d.event_dim and d.support.is_discrete and not d.has_rsample
    x = d.sample(KEY, (100,))
    assert np.shape(d.support(x)) == (100, *d.batch_shape) and np.all(d.support(x))
    assert np.all(d.support(jnp.array(inside))) and not np.any(d.support(jnp.array(outside)))
    trace = numpyro.handlers.trace(numpyro.handlers.seed(lambda: numpyro.sample("x", d), KEY)).get_trace()
    assert trace["x"]["fn"].log_prob(trace["x"]["value"]).shape == d.batch_shape


def test_mcmc_over_a_random_bound_is_refused():
    def program(x):
        shift = numpyro.sample("shift", dist.Normal(0.0, 1.0))
        flow = Transformed(dist.Normal(jnp.zeros(2) + shift, 1.0).to_event(1), Affine(jnp.zeros(2), jnp.zeros(2)))
        observe("x", Dequantized(flow, levels=4), x)

    with pytest.raises(ValueError, match="MCMC needs an exact density"):
        MCMC(NUTS(program), num_warmup=2, num_samples=2, progress_bar=False).run(KEY, jnp.array([1, 2]))


def test_a_random_bound_beside_an_automatic_guide():
    """Its set-up runs the program as MCMC does, without a seed of its own."""
    model = Dequantized(Transformed(dist.Normal(jnp.zeros(2), 1.0).to_event(1), Affine(jnp.zeros(2), jnp.zeros(2))), 4)

    def program(x):
        numpyro.sample("shift", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", len(x)):
            observe("x", model, x)

    svi = SVI(program, AutoNormal(program), optax.adam(1e-2), Trace_ELBO())
    result = svi.run(KEY, 3, jnp.array([[1, 2], [0, 3]]), progress_bar=False)
    assert np.isfinite(result.losses).all()


def test_a_flow_prior_inside_nuts():
    flow = Transformed(dist.Normal(0.0, 1.0), Sigmoid())

    def program():
        p = numpyro.sample("p", flow)
        numpyro.sample("x", dist.Binomial(10, p), obs=7)

    mcmc = MCMC(NUTS(program), num_warmup=200, num_samples=500, progress_bar=False)
    mcmc.run(KEY)
    p = jnp.linspace(1e-4, 1 - 1e-4, 2000)
    weights = jnp.exp(flow.log_prob(p) + dist.Binomial(10, p).log_prob(7))
    assert abs(float(mcmc.get_samples()["p"].mean() - (p * weights).sum() / weights.sum())) < 0.02  # 4 s.e.
    assert mcmc.get_extra_fields()["diverging"].sum() == 0


def test_bound_tightens_with_particles():
    model = next(row for row in DISTRIBUTIONS if row.name == "on_levels").make()
    x = jnp.broadcast_to(jnp.array([1, 2]), (2000, 2))
    means = [float(jax.jit(model.log_prob_bound, static_argnums=2)(KEY, x, k).mean()) for k in (1, 4, 64)]
    assert means[0] < means[1] < means[2]


def test_the_divergence_between_a_gaussian_flow_and_numpyros_gaussians():
    """numpyro's own KL of the flow's mean and covariance."""
    flow = flows.affine_flow(2, key=jax.random.key(0)).replace(
        base=dist.Normal(jnp.array([1.0, -1.0]), jnp.array([0.5, 2.0])).to_event(1)
    )
    same = dist.MultivariateNormal(flow.mean, flow._covariance())
    numpyros = dist.MultivariateNormal(jnp.array([0.3, 0.1]), jnp.array([[2.0, 0.4], [0.4, 1.0]]))
    numbers = dist.Normal(jnp.array([[0.3, 0.1]] * 3), 1.5).to_event(1)
    diagonal = dist.MultivariateNormal(numbers.mean, 1.5**2 * jnp.eye(2))
    for other, full in ((numpyros, numpyros), (numbers, diagonal)):
        np.testing.assert_allclose(dist.kl_divergence(flow, other), dist.kl_divergence(same, full), rtol=1e-4)
        np.testing.assert_allclose(dist.kl_divergence(other, flow), dist.kl_divergence(full, same), rtol=1e-4)
    laplace = dist.Laplace(jnp.zeros(2), 1.0).to_event(1)
    with pytest.raises(NotImplementedError, match="no closed form is known"):
        dist.kl_divergence(flow, laplace)


def test_a_replaced_field_of_another_rank_adds_no_axes():
    """The first leaf's rank tells added axes apart; it is another one's rank once that field is replaced."""
    model = score.ScoreModel(score.GaussianDenoiser(jnp.array(0.0), jnp.array(1.0)), score.LinearLogSNR(), (1,))
    mixture = score.GaussianMixtureDenoiser(jnp.ones(2), jnp.zeros((2, 1)), jnp.array(1.0))
    assert jax.jit(lambda m: m)(model).replace(denoiser=mixture).batch_shape == ()
    many = jax.vmap(lambda loc: model.replace(denoiser=score.GaussianDenoiser(loc, jnp.array(1.0))))(jnp.zeros((3, 1)))
    assert many.batch_shape == (3,)
    assert many.replace(denoiser=jax.tree.map(lambda x: jnp.stack([x] * 3), mixture)).batch_shape == (3,)


def test_contexts_that_are_labels():
    make = lambda **context: autoregressive.made((3,), 2, hidden=(8,), **context, key=KEY)
    by_label, by_vector = make(context_levels=4), make(context_dim=4)
    labels, x = jnp.array([3, 0, 3]), jnp.array([[0, 1, 1]] * 3)
    want = by_vector(jax.nn.one_hot(labels, 4)).log_prob(x)
    np.testing.assert_array_equal(by_label(labels).log_prob(x), want)
    np.testing.assert_array_equal(jax.jit(lambda m, c: m(c).log_prob(x))(by_label, labels), want)
    assert by_label(jnp.array([[1], [2]])).batch_shape == (2, 1)
    result = fit(by_label, (x, labels), steps=2, key=KEY, progress=False)
    assert result.model.levels == 4 and result.model.context_shape == ()
    evaluate(by_label, (x, labels))
    for wrong, message in [
        (labels * 1.0, "expected integers 0..3, labels, got float32"),
        (labels + 1, "expected labels 0..3, got 4"),
        (labels - 1, "expected labels 0..3, got -1"),
    ]:
        for ask in (
            lambda wrong=wrong: by_label(wrong),
            lambda wrong=wrong: fit(by_label, (x, wrong), steps=2, key=KEY, progress=False),
            lambda wrong=wrong: evaluate(by_label, (x, wrong)),
        ):
            with pytest.raises(ValueError, match=message):
                ask()
    with pytest.raises(ValueError, match="a context is a label, or a vector"):
        make(context_levels=4, context_dim=4)
    with pytest.raises(ValueError, match="context_levels: expected an integer of at least 2, got 1"):
        make(context_levels=1)
