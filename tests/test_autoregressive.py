"""Autoregressive models against enumeration, a Markov chain and perturbation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from jax import Array

import probgen
from probgen import testing
from probgen.autoregressive import (
    Autoregressive,
    Order,
    Ragged,
    char_rnn,
    gated_pixel_cnn,
    generate,
    made,
    pixel_cnn,
    pixel_cnn_pp,
    transformer,
    wavenet,
)
from probgen.bijectors import Affine, Inverse, MaskedAutoregressive
from probgen.distributions import BernoulliHead, CategoricalHead, NormalHead, NormalMixtureHead, Transformed
from probgen.networks import MADE, MLP

KEY = jax.random.key(5)


class Chain(eqx.Module):
    """Logits of a Markov chain over 3 states: row 3 of the table starts it."""

    table: Array

    def __call__(self, x):
        return self.table[jnp.concatenate([jnp.array([3]), x[:-1]])]


TABLE = jax.random.normal(KEY, (4, 3))


def test_a_markov_chain_is_exact():
    model = Autoregressive(Chain(TABLE), CategoricalHead(3), (5,))
    x = jnp.array([0, 2, 1, 1, 0])
    steps = jax.nn.log_softmax(TABLE)
    want = sum(steps[before, now] for before, now in zip([3, 0, 2, 1, 1], x, strict=True))
    np.testing.assert_allclose(model.log_prob(x), want, rtol=1e-5)
    np.testing.assert_allclose(model.conditionals(x).log_prob(x).sum(), want, rtol=1e-5)


def test_draws_of_a_markov_chain_have_its_frequencies():
    model = Autoregressive(Chain(TABLE), CategoricalHead(3), (4,))
    draws, log_prob = jax.jit(lambda m: m.sample_and_log_prob(KEY, (20_000,)))(model)
    np.testing.assert_allclose(log_prob, model.log_prob(draws), rtol=1e-4, atol=1e-4)
    first, step = jax.nn.softmax(TABLE[3]), jax.nn.softmax(TABLE[:3])
    last = first @ step @ step @ step
    # a standard error is at most 0.0036; five of them
    np.testing.assert_allclose(np.bincount(draws[:, 0], minlength=3) / 20_000, first, atol=0.018)
    np.testing.assert_allclose(np.bincount(draws[:, 3], minlength=3) / 20_000, last, atol=0.018)


@pytest.mark.parametrize("order", [None, (2, 0, 1, 3)])
def test_orders_and_causality(order):
    model = made((2, 2), 3, hidden=(16,), order=order, key=KEY)
    testing.check_causal(model, jnp.array([[0, 1], [2, 0]]))
    every = jnp.stack(jnp.meshgrid(*[jnp.arange(3)] * 4), -1).reshape(-1, 2, 2)
    testing.check_normalized(model, every)


def test_another_order_than_the_networks_is_caught():
    network = MADE(3, 1, order=(2, 1, 0), hidden=(8,), out_scale=1.0, key=KEY)
    with pytest.raises(AssertionError, match="causality"):
        testing.check_causal(Autoregressive(network, BernoulliHead(), (3,)), jnp.array([0, 1, 0]))


@pytest.mark.parametrize("network", [MLP(3, 3, hidden=(8,), out_scale=1.0, key=KEY), lambda x: 1.0 * x[:, None]])
def test_a_network_that_is_not_causal_is_caught(network):
    with pytest.raises(AssertionError, match="causality"):
        testing.check_causal(Autoregressive(network, BernoulliHead(), (3,)), jnp.array([0, 1, 0]))


def test_causality_of_a_conditional_model_and_what_has_none():
    conditional = made((3,), 2, hidden=(8,), context_dim=2, key=KEY)
    testing.check_causal(conditional(jnp.ones(2)), jnp.array([0, 1, 0]))
    for model in (conditional, conditional(jnp.ones((4, 2))), made((3,), 2, orders=[range(3)], key=KEY)):
        with pytest.raises(ValueError, match="model: expected"):
            testing.check_causal(model, jnp.array([0, 1, 0]))
    with pytest.raises(ValueError, match="x: expected one event"):
        testing.check_causal(conditional(jnp.ones(2)), jnp.array([0, 1]))


@pytest.mark.parametrize("build", [
    lambda: made((3, 3), 4, hidden=(32,), key=KEY),
    lambda: gated_pixel_cnn((3, 3), 4, channels=8, depth=2, key=KEY),
])  # fmt: skip
def test_still_causal_and_normalized_after_training_with_weight_decay(build):
    """A float mask among the leaves would be trained here, and report a wonderful, false likelihood."""
    x = jax.random.randint(KEY, (256, 3, 3), 0, 4)  # entropy: 9 log 4 = 12.48 nats
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    result = probgen.fit(build(), x, steps=200, batch_size=64, optimizer=optimizer, key=KEY, progress=False)
    testing.check_causal(result.model, x[0])
    fresh = jax.random.randint(jax.random.key(11), (2048, 3, 3), 0, 4)
    assert -jax.jit(lambda model: model.log_prob(fresh).mean())(result.model) > 9 * np.log(4)


@pytest.mark.parametrize("head", [NormalHead(), NormalMixtureHead(3)])
def test_continuous_conditionals(head):
    """A product of normals, or of their mixtures, whose network is masked; its draws carry gradients nowhere."""
    network = MADE(2, head.num_params, hidden=(8,), out_scale=1.0, key=KEY)
    model = Autoregressive(network, head, (2,))
    axis = jnp.linspace(-12, 12, 401)
    grid = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
    testing.check_normalized(model, grid, volume=float((axis[1] - axis[0]) ** 2))
    testing.check_samples(model, key=KEY)
    assert model.sample(KEY).dtype == jnp.float32 and not model.has_rsample


def test_binary_images_use_bernoullis_and_mixtures_are_ordinal():
    assert isinstance(made((4,), 2, key=KEY).conditionals(jnp.zeros(4, int)), dist.BernoulliLogits)
    model = gated_pixel_cnn((2, 2), 5, channels=4, depth=1, components=2, key=KEY)
    every = jnp.stack(jnp.meshgrid(*[jnp.arange(5)] * 4), -1).reshape(-1, 2, 2)
    testing.check_normalized(model, every)


def test_one_position():
    model = made((1,), 3, hidden=(4,), key=KEY)
    testing.check_normalized(model, jnp.arange(3)[:, None])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="permutation"):
        Autoregressive(Chain(TABLE), CategoricalHead(3), (3,), order=(0, 0, 1))
    with pytest.raises(ValueError, match=r"expected an output of shape \(2, 3\)"):
        Autoregressive(MLP(2, 5, key=KEY), CategoricalHead(3), (2,)).log_prob(jnp.zeros(2, int))
    with pytest.raises(ValueError, match="height, width"):
        gated_pixel_cnn((8,), 2, key=KEY)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: made(4, 3, key=KEY), "event_shape"),
        (lambda: made((0,), 3, key=KEY), "event_shape"),
        (lambda: char_rnn((4,), 3, key=KEY), "event_shape"),
        (lambda: made((4,), 3.5, key=KEY), "levels"),
        (lambda: char_rnn(4, 1, key=KEY), "levels"),
        (lambda: char_rnn(4, 3, width=0, key=KEY), "width"),
        (lambda: wavenet(4, 3, cycle=0, key=KEY), "cycle"),
        (lambda: transformer(4, 3, layers=0, key=KEY), "layers"),
        (lambda: transformer(4, 3, heads=-2, key=KEY), "heads"),
        (lambda: pixel_cnn((2, 2), 3, depth=-1, key=KEY), "depth"),
        (lambda: pixel_cnn((2, 2), 3, reach=0, key=KEY), "reach"),
        (lambda: gated_pixel_cnn((2, 2), 3, channels=True, key=KEY), "channels"),
        (lambda: pixel_cnn_pp((2, 2), 3, components=-1, key=KEY), "components"),
        (lambda: made((4,), 3, order="raster", key=KEY), "order"),
        (lambda: made((4,), 3, order=[0.9, 1.5, 2.2, 3], key=KEY), "order"),
        (lambda: made((4,), 3, orders=[0, 1, 2, 3], key=KEY), "orders"),
        (lambda: made((4,), 3, key=KEY).log_prob(jnp.ones(4)), "integers, got dtype float32"),
        (lambda: Ragged(made((4,), 3, context_dim=2, key=KEY), jnp.array([1])), "called if conditional"),
        (lambda: Ragged(made((2,), 3, key=KEY), jnp.array([1])).log_prob(jnp.array([0, -1])), "value"),
    ],
)
def test_each_mistake_names_its_argument(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# -- orders


def test_orders_are_what_they_say():
    assert Order.raster((2, 3)) == (0, 1, 2, 3, 4, 5) and Order.raster((2, 3)).is_raster
    assert Order.columns((2, 3)) == (0, 3, 1, 4, 2, 5)
    assert Order.planes((1, 2, 3)) == (0, 3, 1, 4, 2, 5)
    assert Order.planes((1, 2, 2), channels=(1, 0)) == (1, 3, 0, 2)
    assert sorted(Order.random((3, 4), key=KEY)) == list(range(12)) != list(Order.random((3, 4), key=KEY))
    order = Order.random((7,), key=KEY)
    np.testing.assert_array_equal(np.asarray(order)[order.places], range(7))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Order((0, 2)),
        lambda: Order.serpentine((4,)),
        lambda: Order.columns((4,)),
        lambda: Order.raster((2, 2, 3), channels=(0, 1)),
    ],
)
def test_what_is_no_order_is_refused(make):
    with pytest.raises(ValueError, match=r"order|event_shape|channels"):
        make()


@pytest.mark.parametrize("order", [Order.serpentine((2, 3)), range(6), np.arange(6)[::-1]])
def test_an_order_survives_a_file(tmp_path, order):
    model = made((2, 3), 3, hidden=(8,), order=order, key=KEY)
    probgen.save(tmp_path / "model", model)
    loaded = probgen.load(tmp_path / "model")
    assert loaded.order == model.order
    x = jnp.zeros((2, 3), int)
    assert loaded.log_prob(x) == model.log_prob(x)


def _all(levels, shape):
    return jnp.stack(jnp.meshgrid(*[jnp.arange(levels)] * int(np.prod(shape))), -1).reshape(-1, *shape)


def _logits_averaged(ensemble, x):
    """What a known implementation reports for several orders."""
    raw = jnp.mean(jnp.stack([jax.vmap(model.raw)(x) for model in ensemble.models]), 0)
    return ensemble.head(raw).log_prob(x).sum(-1)


def test_an_ensemble_of_orders_is_a_distribution_and_averaged_logits_are_none():
    orders = [Order.raster((4,)), Order((2, 0, 3, 1)), Order((3, 2, 1, 0))]
    model = made((4,), 2, hidden=(32,), orders=orders, key=KEY)
    rows = jnp.repeat(jax.random.bernoulli(KEY, 0.5, (256, 1)), 4, 1).astype(int)  # all four agree
    model = probgen.fit(model, rows, steps=200, optimizer=optax.adam(1e-2), key=KEY, progress=False).model
    every = _all(2, (4,))
    testing.check_normalized(model, every)

    @jax.jit
    def facts(model):
        single = jnp.stack([m.log_prob(every) for m in model.models])
        return _logits_averaged(model, every), single, model.log_prob(every), model.sample(KEY, (4000,))

    averaged, single, log_prob, draws = map(np.asarray, facts(model))
    assert np.exp(averaged).sum() > 1.2
    np.testing.assert_allclose(log_prob, np.logaddexp.reduce(single, 0) - np.log(3), rtol=1e-5)
    for member in model.models:
        testing.check_causal(member, every[5])
    place = np.array([8, 4, 2, 1])
    both, want = np.bincount(draws @ place, minlength=16) / 4000, np.zeros(16)
    want[np.asarray(every) @ place] = np.exp(log_prob)
    np.testing.assert_allclose(both, want, atol=5 * 0.008)  # a standard error is at most 0.008


# -- parts of an event


@pytest.mark.parametrize("order", [None, (2, 0, 1)])
def test_a_completion_is_the_conditional_by_enumeration(order):
    model = made((3,), 3, hidden=(16,), order=order, key=KEY)
    model = model.replace(network=jax.tree.map(lambda leaf: 4 * leaf, model.network))
    first = 0 if order is None else 2
    mask, x = np.arange(3) == first, jnp.full(3, 2)
    every = _all(3, (3,))

    @jax.jit
    def facts(model):
        rest = model.given(x, mask)
        draws, log_prob = rest.sample_and_log_prob(KEY, (9000,))
        return model.log_prob(every), rest.log_prob(every), draws, log_prob, rest.log_prob(draws)

    joint, of_rest, draws, log_prob, again = facts(model)
    same = every[:, first] == 2
    want = jnp.where(same, joint - jax.nn.logsumexp(jnp.where(same, joint, -jnp.inf)), -jnp.inf)
    np.testing.assert_allclose(of_rest, want, rtol=1e-4, atol=1e-5)
    assert (draws[:, first] == 2).all()
    np.testing.assert_allclose(log_prob, again, rtol=1e-4, atol=1e-5)
    counts = np.bincount(draws @ jnp.array([9, 3, 1]), minlength=27) / 9000
    probabilities = jnp.zeros(27).at[every @ jnp.array([9, 3, 1])].set(jnp.exp(want))
    np.testing.assert_allclose(counts, probabilities, atol=5 * 0.0053)


def test_completions_have_the_batch_shape_of_what_is_known_and_may_know_nothing_or_all():
    model = made((3,), 2, hidden=(8,), key=KEY)
    x = jnp.array([[0, 1, 0], [1, 1, 1]])
    some = model.given(x, np.array([True, True, False]))
    draws = jax.jit(lambda d: d.sample(KEY, (5,)))(some)
    assert some.batch_shape == (2,) and draws.shape == (5, 2, 3)
    assert (draws[..., :2] == x[:, :2]).all()
    log_prob = jax.jit(lambda model: [d.log_prob(x) for d in (
        model, model.given(x, np.zeros(3, bool)), model.given(x, np.ones(3, bool)))])  # fmt: skip
    of_all, knowing_nothing, knowing_all = log_prob(model)
    np.testing.assert_allclose(knowing_nothing, of_all, rtol=1e-6)
    np.testing.assert_array_equal(knowing_all, 0.0)


def test_what_is_unknown_may_be_anything():
    model, mask = made((3,), 3, hidden=(8,), key=KEY), np.array([True, False, False])
    marked, plain = (model.given(jnp.array(x), mask) for x in ([1, -1, 99], [1, 0, 0]))
    assert marked.log_prob(jnp.array([1, 2, 0])) == plain.log_prob(jnp.array([1, 2, 0]))
    reals = Autoregressive(MADE(2, 2, hidden=(8,), key=KEY), NormalHead(), (2,))
    assert np.isfinite(reals.given(jnp.array([1.0, jnp.nan]), np.array([True, False])).sample(KEY)).all()
    with pytest.raises(ValueError, match="value"):
        model.given(jnp.array([-1, 0, 0]), mask)


def test_a_completion_that_is_no_prefix_names_the_models_that_could():
    model = made((3,), 2, hidden=(8,), order=(2, 0, 1), key=KEY)
    with pytest.raises(ValueError, match=r"position 2 is unknown .* the known position 0 .* order-agnostic"):
        model.given(jnp.zeros(3, int), np.array([True, False, False]))
    with pytest.raises(ValueError, match="mask: expected booleans"):
        model.given(jnp.zeros(3, int), np.array([0, 1, 2]))


def test_a_conditional_model_has_conditionals_and_completions_at_each_context():
    conditional = made((3,), 2, hidden=(8,), context_dim=2, key=KEY)
    context, x = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[0, 1, 1], [1, 1, 0]])
    bound, mask = conditional(context), np.array([True, False, False])
    np.testing.assert_allclose(bound.conditionals(x).log_prob(x).sum(-1), bound.log_prob(x), rtol=1e-6)
    rest = bound.given(x, mask)
    for row in range(2):
        alone = conditional(context[row]).given(x[row], mask)
        np.testing.assert_allclose(rest.log_prob(x)[row], alone.log_prob(x[row]), rtol=1e-5)
    draws = rest.sample(KEY, (6,))
    assert draws.shape == (6, 2, 3) and (draws[..., 0] == x[:, 0]).all()
    assert generate(rest, KEY, (6,), top_k=1).shape == (6, 2, 3)
    one = bound.given(x[0], mask)
    assert one.batch_shape == (2,) and one.log_prob(x[0]).shape == (2,)


def test_ragged_sequences_are_marginals_of_the_beginning():
    model = made((3,), 2, hidden=(16,), order=(1, 2, 0), key=KEY)
    model = model.replace(network=jax.tree.map(lambda leaf: 4 * leaf, model.network))
    every = _all(2, (3,))
    log_prob = jax.jit(lambda model, x: model.log_prob(x))
    joint = jnp.exp(log_prob(model, every))
    words = Ragged(model, jnp.array([0, 2, 3]))
    x = jnp.array([0, 1, 0])  # in the order: 1, 0, and 0 or padding
    first_two = joint[(every[:, 1] == 1) & (every[:, 2] == 0)].sum()
    whole = joint[(every == x).all(1)][0]
    np.testing.assert_allclose(jnp.exp(log_prob(words, x)), [0.0, first_two, whole], rtol=1e-5)
    assert log_prob(words, jnp.zeros(3, int))[0] == 0 and log_prob(words, jnp.array([1, 1, 0]))[1] == -np.inf
    draws = jax.jit(lambda words: words.sample(KEY, (200,)))(words)
    assert draws.shape == (200, 3, 3) and (draws[:, 0] == 0).all() and (draws[:, 1, 0] == 0).all()
    assert draws[:, 1, 1].any() and draws[:, 2, 0].any()
    with pytest.raises(ValueError, match="lengths"):
        Ragged(model, jnp.array([4]))


def test_ragged_sequences_of_a_conditional_model():
    conditional = made((3,), 2, hidden=(8,), context_dim=2, key=KEY)
    context, lengths = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1, 3])
    x = jnp.array([[1, 0, 0], [1, 1, 0]])
    words = Ragged(conditional(context), lengths)
    alone = [Ragged(conditional(c), n).log_prob(row) for c, n, row in zip(context, lengths, x, strict=True)]
    np.testing.assert_allclose(words.log_prob(x), alone, rtol=1e-5)
    assert words.sample(KEY, (5,)).shape == (5, 2, 3) and Ragged(conditional(context[0]), lengths).batch_shape == (2,)


def test_known_lengths_inside_of_a_compiled_function():
    model, lengths, x = made((3,), 2, hidden=(8,), key=KEY), jnp.array([1, 3]), jnp.array([[1, 0, 0], [1, 1, 0]])
    log_prob = jax.jit(lambda x: Ragged(model, lengths).log_prob(x))(x)
    np.testing.assert_allclose(log_prob, Ragged(model, lengths).log_prob(x), rtol=1e-6)


def test_ragged_sequences_in_a_program_train():
    rows = jnp.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
    lengths = jnp.array([3, 1, 3, 2])

    def program(rows, lengths):
        model = probgen.module("model", made((3,), 2, hidden=(16,), key=KEY))
        with numpyro.plate("rows", 4):
            numpyro.sample("words", Ragged(model, lengths), obs=rows)

    result = probgen.fit(program, (rows, lengths), steps=150, optimizer=optax.adam(0.02), key=KEY, progress=False)
    # what four rows of 3, 1, 3 and 2 symbols can be learned by heart to: the entropies of what is not known before
    best = (4 * (np.log(4) - 0.75 * np.log(3)) + 2 * np.log(2)) / 4  # for a row
    assert best - 1e-3 < result.losses[-1] < best + 0.05


# -- generation


def test_generation_sharpens_and_cuts_and_leaves_the_density_alone():
    model = Autoregressive(Chain(TABLE), CategoricalHead(3), (2,))
    first = jax.nn.softmax(TABLE[3])
    draw = lambda **options: generate(model, KEY, (6000,), **options)[:, 0]
    frequencies = lambda draws: np.bincount(draws, minlength=3) / 6000  # a standard error is at most 0.0065
    np.testing.assert_allclose(frequencies(draw()), first, atol=0.033)
    np.testing.assert_allclose(frequencies(draw(temperature=0.5)), first**2 / (first**2).sum(), atol=0.033)
    assert (draw(top_k=1) == first.argmax()).all() and (draw(temperature=1e-40) == first.argmax()).all()
    assert (draw(top_p=1e-6) == first.argmax()).all()
    two = jnp.where(first == first.min(), 0.0, first)
    np.testing.assert_allclose(frequencies(draw(top_k=2)), two / two.sum(), atol=0.033)
    enough = float(jnp.sort(first)[::-1][0]) + 1e-3  # a little more than the likeliest has
    np.testing.assert_allclose(frequencies(draw(top_p=enough)), two / two.sum(), atol=0.033)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (lambda: made((2,), 2, key=KEY), {"temperature": 0.0}, "temperature"),
        (lambda: made((2,), 2, key=KEY), {"top_k": 0}, "top_k"),
        (lambda: made((2,), 2, key=KEY), {"top_k": 1.5}, "top_k"),
        (lambda: made((2,), 2, key=KEY), {"top_p": 1.5}, "top_p"),
        (lambda: made((2,), 2, context_dim=2, key=KEY), {}, "context first"),
        (lambda: Autoregressive(MADE(2, 2, key=KEY), NormalHead(), (2,)), {}, "integers"),
        (lambda: probgen.flows.maf(2, hidden=(4,), key=KEY), {}, "autoregressive"),
    ],
)
def test_generation_refuses(model, options, words):
    with pytest.raises(ValueError, match=words):
        generate(model(), KEY, **options)


# -- one Gaussian is an affine flow


def test_a_normal_head_is_an_affine_maf():
    """μ and σ of the head are the flow's shift and scale: the same density, and the flow of the same noise."""
    network = MADE(3, 2, hidden=(16,), out_scale=1.0, key=KEY)
    model = Autoregressive(network, NormalHead(), (3,))

    class Standardize(eqx.Module):
        """τ(x; raw) = (x − μ) / σ, as the head reads raw."""

        num_params = 2

        def __call__(self, raw):
            normal = NormalHead()(raw)
            return Affine(-normal.loc / normal.scale, -jnp.log(normal.scale))

    bijector = Inverse(MaskedAutoregressive(network, Standardize(), network.dependence))
    flow = Transformed(dist.Normal(jnp.zeros(3), 1.0).to_event(1), bijector)
    x = model.sample(KEY, (20,))
    np.testing.assert_allclose(model.log_prob(x), flow.log_prob(x), rtol=1e-5)
    keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(3))
    noise = jax.vmap(jax.random.normal)(keys)
    np.testing.assert_allclose(model.sample_event(KEY), flow.bijector.forward(noise), rtol=1e-4, atol=1e-5)


# -- values that are none


@pytest.mark.parametrize("value", [[0, 3, 1], [0, -1, 1]])
def test_symbols_outside_the_alphabet_are_refused(value):
    with pytest.raises(ValueError, match="value: expected numbers in"):
        made((3,), 3, hidden=(8,), key=KEY).log_prob(jnp.array(value))


def test_longer_sequences_than_the_models_are_refused():
    with pytest.raises(ValueError, match=r"value: expected events of shape \[\.\.\., 3\]"):
        made((3,), 3, hidden=(8,), key=KEY).log_prob(jnp.zeros(4, int))
