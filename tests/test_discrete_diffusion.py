"""Diffusions of integers, against enumerations of all masks, orders and paths."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probgen
from probgen.autoregressive import Autoregressive, pass_by_pass
from probgen.core import Contextual
from probgen.core.even_times import even
from probgen.distributions import CategoricalHead, ConditionalModel, NormalHead, integer_head
from probgen.networks import MLP, MaskedLevels, Pixels, ResidualMLP, Transformer
from probgen.score import (
    AtShare,
    InOrder,
    InSteps,
    MaskedDiffusion,
    OneByOne,
    UniformDiffusion,
    Unmasking,
    cosine_share,
    linear_share,
    masked_diffusion,
    uniform_diffusion,
)

KEY = jax.random.key(7)
D, L = 3, 3
EVENTS = np.array(list(itertools.product(range(L), repeat=D)))
ORDERS = list(itertools.permutations(range(D)))
MASKS = list(itertools.product([False, True], repeat=D))  # True where masked


class Table(eqx.Module):
    """A network that says anything of anything: logits for each event of `symbols` symbols."""

    raw: jax.Array
    symbols: int = eqx.field(static=True)

    def __call__(self, x, *share):
        place = sum(x[i] * self.symbols**i for i in range(len(x)))
        return self.raw[place] * (1.0 + sum(share))


def table(symbols, dim, levels):
    return Table(jax.random.normal(KEY, (symbols**dim, dim, levels)), symbols)


MODEL = MaskedDiffusion(table(L + 1, D, L), integer_head(L), (D,))


LOGS = np.asarray(jax.nn.log_softmax(MODEL.network.raw), float)


def log_conditionals(x, masked):
    """log p(x_i | what is not masked), [D]."""
    seen = np.where(masked, L, x)
    return LOGS[seen @ (L + 1) ** np.arange(D), np.arange(D), x]


def in_steps(x, times):
    """log p(x) where position i becomes known at the step times[i]."""
    times = np.asarray(times)
    return sum(log_conditionals(x, times >= times[i])[i] for i in range(D))


def in_order(x, order):
    return in_steps(x, np.argsort(order))


def mean_over_orders(x):
    return np.mean([in_order(x, order) for order in ORDERS])


def assert_mean(draws, want):
    """Within 4.5 standard errors: of a dozen means, one in ten thousand runs has none."""
    draws = np.asarray(draws, float)
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - want) < 4.5 * error + 1e-4).all(), (draws.mean(0), want, error)


particles = jax.jit(
    lambda model, key, x, n: jax.vmap(lambda k: model.log_prob_bound(k, x))(jax.random.split(key, n)), static_argnums=3
)


@pytest.mark.parametrize(
    "share", [linear_share, cosine_share, lambda t: (1 - t) ** 3], ids=["linear", "cosine", "cubic"]
)
def test_the_bound_in_continuous_time_is_that_of_all_orders_whatever_the_schedule(share):
    """∫ −α' / (1 − α) E_M Σ_{i∈M} log p(x_i | x_∖M) dt, by quadrature over t and all masks M."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    alphas, slopes = (np.asarray(a, float) for a in jax.vmap(jax.value_and_grad(share))(jnp.array((nodes + 1) / 2)))
    for x in EVENTS[[0, 5, 16]]:
        total = 0.0
        for alpha, slope, weight in zip(alphas, slopes, weights / 2, strict=True):
            for mask in map(np.array, MASKS):
                chance = np.prod(np.where(mask, 1 - alpha, alpha))
                total -= weight * slope / (1 - alpha) * chance * log_conditionals(x, mask)[mask].sum()
        np.testing.assert_allclose(total, mean_over_orders(x), rtol=1e-4)


def test_the_bound_is_the_mean_over_orders():
    x = EVENTS[[0, 5, 16]]
    assert_mean(particles(MODEL, KEY, x, 4000), [mean_over_orders(row) for row in x])
    one = jax.jit(MODEL.log_prob_bound, static_argnums=2)(
        KEY, x[0], D * 2000
    )  # so many particles have each number of masked positions as often
    np.testing.assert_allclose(one, mean_over_orders(x[0]), atol=0.05)


@pytest.mark.parametrize("share", [linear_share, cosine_share])
def test_the_bound_in_steps_is_the_mean_over_all_ways_through_them(share):
    model, x = MODEL.replace(unmasking=InSteps(2, share)), EVENTS[5]
    first = float(share(jnp.array(0.5)))
    chance = lambda times: np.prod(np.where(np.array(times) == 0, first, 1 - first))
    want = sum(chance(times) * in_steps(x, times) for times in itertools.product(range(2), repeat=D))
    assert_mean(particles(model, KEY, x, 8000), want)


def test_one_step_is_a_model_of_independent_numbers():
    model = MODEL.replace(unmasking=InSteps(1))
    want = [log_conditionals(x, np.ones(D, bool)).sum() for x in EVENTS[:4]]
    np.testing.assert_allclose(jax.jit(model.log_prob_bound)(KEY, EVENTS[:4]), want, rtol=1e-5)


def test_where_the_conditionals_are_those_of_one_joint_the_bound_is_its_mass():
    """In any order; and the fewer steps, the looser it is."""
    joint = np.array([[0.4, 0.1], [0.15, 0.35]])
    log_p = np.zeros((9, 2, 2))
    for a, b in itertools.product(range(3), repeat=2):
        log_p[a + 3 * b, 0] = np.log(joint.sum(1) if b == 2 else joint[:, b] / joint[:, b].sum())
        log_p[a + 3 * b, 1] = np.log(joint.sum(0) if a == 2 else joint[a] / joint[a].sum())
    model = MaskedDiffusion(Table(jnp.array(log_p, jnp.float32), 3), CategoricalHead(2), (2,))
    x = np.array(list(itertools.product(range(2), repeat=2)))
    rows = jnp.broadcast_to(x, (4000, 4, 2))
    bound = lambda model: jax.jit(model.log_prob_bound)(KEY, rows)
    assert_mean(bound(model), np.log(joint).ravel())
    means = [joint.ravel() @ bound(model.replace(unmasking=InSteps(steps))).mean(0) for steps in (1, 2, 8)]
    assert means[0] < means[1] < means[2] < joint.ravel() @ np.log(joint).ravel() + 0.01


def test_the_number_of_masked_positions_varies_less_than_time_does():
    x = EVENTS[5]
    in_time = MODEL.replace(unmasking=InSteps(1000))
    assert particles(MODEL, KEY, x, 2000).var() < 0.7 * particles(in_time, KEY, x, 2000).var()


@pytest.mark.parametrize("order", [ORDERS[0], ORDERS[3]])
def test_in_one_order_it_is_an_autoregressive_model(order):
    exact = Autoregressive(InOrder(MODEL, order), MODEL.head, MODEL.event_shape, order=order)
    log_prob = jax.jit(exact.log_prob)(EVENTS)
    np.testing.assert_allclose(log_prob, [in_order(x, order) for x in EVENTS], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.nn.logsumexp(log_prob), 0.0, atol=1e-5)
    draws = draw(exact, KEY, 6)
    np.testing.assert_array_equal(draws, draw(exact.replace(draw=pass_by_pass), KEY, 6))
    probgen.testing.check_causal(exact, jnp.array(EVENTS[5]))


def frequencies(draws):
    codes = np.asarray(draws) @ (L ** np.arange(D)[::-1])
    return np.bincount(codes, minlength=L**D) / len(codes)


def assert_frequencies(draws, p):
    error = np.sqrt(p * (1 - p) / len(draws))
    assert (np.abs(frequencies(draws) - p) < 4.5 * error + 1e-9).all()


draw = jax.jit(lambda model, key, n: model.sample(key, (n,)), static_argnums=2)


def test_draws_one_by_one_are_those_of_a_random_order():
    p = np.exp([[in_order(x, order) for order in ORDERS] for x in EVENTS]).mean(-1)
    assert_frequencies(draw(MODEL, KEY, 20_000), p)
    bounds = [mean_over_orders(x) for x in EVENTS]
    assert (np.array(bounds) < np.log(p)).all()


def test_draws_in_steps_are_those_of_the_model_that_the_bound_is_of():
    model = MODEL.replace(unmasking=InSteps(2, cosine_share))
    first = float(cosine_share(jnp.array(0.5)))
    ways = list(itertools.product(range(2), repeat=D))
    chances = [np.prod(np.where(np.array(times) == 0, first, 1 - first)) for times in ways]
    p = np.array([np.exp([in_steps(x, times) for times in ways]) @ chances for x in EVENTS])
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    assert_frequencies(draw(model, KEY, 20_000), p)


# -- events of which some numbers are known


def test_a_completion_has_what_is_known_and_the_models_conditionals():
    mask, x = np.array([False, True, False]), np.array([-1, 2, -1])
    rest = MODEL.given(x, mask)
    orders = [order for order in ORDERS if order[0] == 1]
    known = lambda event: log_conditionals(event, np.ones(D, bool))[1]
    logs = np.array([[in_order(e, o) - known(e) for o in orders] if e[1] == 2 else [-np.inf] * 2 for e in EVENTS])
    p = np.exp(logs).mean(-1)
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    assert_frequencies(draw(rest, KEY, 20_000), p)
    event = np.array([1, 2, 0])
    assert_mean(particles(rest, KEY, event, 4000), logs[(EVENTS == event).all(-1)].mean())
    assert jax.jit(rest.log_prob_bound)(KEY, np.array([1, 1, 0])) == -jnp.inf
    assert (rest.kind, rest.event_shape, rest.batch_shape) == ("bound", (D,), ())


def test_the_last_unknown_number_has_an_exact_mass_as_in_the_autoregressive_model():
    order, mask, x = (2, 0, 1), np.array([True, False, True]), np.array([1, 0, 2])
    exact = Autoregressive(InOrder(MODEL, order), MODEL.head, MODEL.event_shape, order=order).given(x, mask)
    events = np.array([[1, k, 2] for k in range(L)])

    @jax.jit
    def facts(events):
        of_bound = MODEL.given(x, mask).log_prob_bound(KEY, events)
        return of_bound, exact.log_prob(events), MODEL.conditionals(x, mask).log_prob(events)[:, 1]

    got, wanted, conditional = facts(events)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    np.testing.assert_allclose(conditional, got, rtol=1e-5)


def test_masks_may_differ_from_row_to_row_and_hide_anything():
    masks = np.array(MASKS)
    x = np.where(masks, 1.0, np.nan)
    with pytest.raises(ValueError, match="integers"):
        MODEL.given(x, masks)
    x = np.where(masks, 1, -5)
    rest = MODEL.given(x, masks)
    draws = draw(rest, KEY, 4)
    assert rest.batch_shape == (8,) and draws.shape == (4, 8, D)
    assert (np.asarray(draws)[:, masks] == 1).all() and rest.support(draws).all()
    bound = jax.jit(lambda rest, x: rest.log_prob_bound(KEY, x, 2))(rest, draws)
    assert bound.shape == (4, 8) and np.isfinite(bound).all() and (bound[:, -1] == 0).all()


def test_a_conditional_model_completes_and_is_exact_in_an_order_at_its_contexts():
    conditional = masked_diffusion((2, 2), levels=3, width=8, depth=1, context_dim=2, key=KEY)
    stirred = jax.tree.map(lambda w: w + 0.3 * jax.random.normal(KEY, w.shape), conditional)
    contexts, x = jnp.eye(2), jnp.array([[[0, 1], [2, 1]], [[2, 2], [0, 0]]])
    mask, order = np.array([[True, False], [False, False]]), (3, 0, 2, 1)

    @jax.jit
    def facts(conditional):
        rest = conditional(contexts).given(x, mask)
        draws = rest.sample(KEY, (3,))
        of_order = Autoregressive(InOrder(conditional.model, order), conditional.model.head, (2, 2), order=order)
        exact = ConditionalModel(of_order, (2,))(contexts)
        last = conditional(contexts[1]).conditionals(x[1], np.array([[True, False], [True, True]])).log_prob(x[1])
        return draws, rest.log_prob_bound(KEY, draws, 2), exact.log_prob(x), exact.conditionals(x).log_prob(x), last

    draws, bound, log_prob, each, last = facts(stirred)
    assert stirred(contexts).given(x, mask).batch_shape == (2,)
    assert (draws[..., 0, 0] == x[:, 0, 0]).all() and np.isfinite(bound).all()
    np.testing.assert_allclose(each[1, 0, 1], last[0, 1], rtol=1e-4)
    np.testing.assert_allclose(log_prob, each.sum((1, 2)), rtol=1e-4)
    assert not np.allclose(each[0], each[1])


# -- uniform noise


def uniform_model(share, steps=2, dim=2, levels=3):
    return UniformDiffusion(table(levels, dim, levels), integer_head(levels), (dim,), steps=steps, share=share)


SHARES = {"linear": linear_share, "with a rest": lambda t: 1.0 - 0.8 * t}


@pytest.mark.parametrize("share", SHARES.values(), ids=SHARES)
def test_the_uniform_bound_is_that_of_all_paths(share):
    """T = 2: the sum over z₁ and z₂ of q(z₁, z₂ | x) log p(x, z₁, z₂) / q(z₁, z₂ | x), with q of single steps."""
    levels, dim, model = 3, 2, uniform_model(share)
    z = np.array(list(itertools.product(range(levels), repeat=dim)))
    alpha = [float(share(jnp.array(t / 2))) for t in range(3)]
    single = [np.eye(levels) * a + (1 - a) / levels for a in (alpha[1], alpha[2] / alpha[1])]  # q(z_t | z_{t−1})
    step = lambda matrix, a, b: np.prod([matrix[i, j] for i, j in zip(a, b, strict=True)])

    def reverse(t):  # p(z_{t−1} | z_t), [z_t, z_{t−1}]: Σ over x̃ by Bayes, from single steps, as the paper has it
        found = np.zeros((len(z), len(z)))
        until = np.eye(levels) if t == 1 else single[0]
        for row, now in enumerate(z):
            pi = np.asarray(jax.nn.softmax(model.network(now, jnp.array(alpha[t]))))
            by_number = (pi @ until) * single[t - 1][:, now].T
            by_number /= by_number.sum(-1, keepdims=True)
            found[row] = [np.prod(by_number[np.arange(dim), before]) for before in z]
        return found

    first, second = reverse(1), reverse(2)
    p = second.sum(0) / len(z) @ first  # p(x), all paths summed
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    bounds = []
    for i, x in enumerate(z):
        bound = 0.0
        for a, one in enumerate(z):
            for b, two in enumerate(z):
                q = step(single[0], x, one) * step(single[1], one, two)
                bound += q * (np.log(second[b, a] / len(z) * first[a, i]) - np.log(q))
        bounds.append(bound)
    assert (np.array(bounds) < np.log(p)).all()

    def exact(x):  # the model's own terms, averaged over all z_t
        total = -model.prior_mismatch()
        for t in (1, 2):
            kls = jax.vmap(model.kl_of_step, (None, 0, None))(jnp.array(t), z, x)
            chances = jnp.prod(jnp.where(z == x, alpha[t], 0.0) + (1 - alpha[t]) / levels, -1)
            total -= chances @ kls
        return total

    np.testing.assert_allclose(jax.jit(jax.vmap(exact))(jnp.array(z)), bounds, rtol=1e-4)
    assert_mean(particles(model, KEY, z[[0, 5]], 8000), np.array(bounds)[[0, 5]])
    codes = np.asarray(draw(model, KEY, 20_000)) @ [levels, 1]
    found = np.bincount(codes, minlength=len(z)) / len(codes)
    assert (np.abs(found - p) < 4.5 * np.sqrt(p * (1 - p) / len(codes))).all()


@pytest.mark.parametrize("steps", [1, 3])
def test_the_uniform_bound_of_independent_numbers_is_exact(steps):
    raw = jnp.array([[0.3, -1.0, 0.5], [1.0, 0.0, -0.4]])
    model = UniformDiffusion(lambda z, share: raw, integer_head(3), (2,), steps=steps)
    x = jnp.array([[0, 0], [2, 1], [1, 2]])
    want = jnp.take_along_axis(jax.nn.log_softmax(raw)[None], x[..., None], -1)[..., 0].sum(-1)
    rows = jnp.broadcast_to(x, (20_000, 3, 2))
    assert_mean(jax.jit(model.log_prob_bound)(KEY, rows), np.asarray(want))


def test_the_noise_of_many_steps_is_the_product_of_single_ones():
    model, levels = uniform_model(SHARES["with a rest"], steps=4), 3
    product = np.eye(levels)
    noised = jax.jit(jax.vmap(lambda k, t: model.noised(k, t, jnp.array([0, 2])), (0, None)))
    for t in range(1, 5):
        a = float(model.kept(jnp.array(t)) / model.kept(jnp.array(t - 1)))
        product = product @ (np.eye(levels) * a + (1 - a) / levels)
        z = noised(jax.random.split(KEY, 4000), jnp.array(t))
        for i, x in enumerate((0, 2)):
            found = np.bincount(np.asarray(z)[:, i], minlength=levels) / 4000
            assert (np.abs(found - product[x]) < 4.5 * np.sqrt(product[x] * (1 - product[x]) / 4000)).all()
    left = product[0]
    np.testing.assert_allclose(model.prior_mismatch(), 2 * (left * np.log(left * levels)).sum(), rtol=1e-4)
    assert uniform_model(linear_share).prior_mismatch() == 0.0


def test_bounds_are_finite_where_the_network_is_sure():
    """Also where it is wrong, and so are their gradients."""
    for make in (
        lambda raw: MaskedDiffusion(lambda x: raw, integer_head(3), (2,)),
        lambda raw: UniformDiffusion(lambda z, share: raw, integer_head(3), (2,), steps=3),
    ):
        raw = jnp.array([[300.0, 0.0, -300.0], [0.0, 0.0, 0.0]])
        bound = lambda raw, make=make: make(raw).log_prob_bound(KEY, jnp.array([[2, 0], [0, 1]] * 20)).sum()
        value, gradient = jax.jit(jax.value_and_grad(bound))(raw)
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_rows_that_follow_one_another_have_different_noise():
    """Rows sorted by class would else have each class at a noise of its own."""
    u = np.asarray(even(KEY, (400,), 2))
    for rows in (slice(None), slice(0, 40), slice(100, 150)):
        counts = np.histogram(u[:, rows] * 2 % 1, 5, (0, 1))[0] / u[:, rows].size
        np.testing.assert_allclose(counts, 0.2, atol=0.05)
    assert (u[0] < 0.5).all() and (u[1] >= 0.5).all() and u.max() < 1


# -- networks, and what does not fit


@pytest.mark.parametrize(
    "network",
    [
        lambda: Transformer(L + 1, L, length=4, width=8, heads=2, layers=1, key=KEY),
        lambda: Pixels(MLP(4, 4 * L, hidden=(8,), key=KEY), L + 1, (4,)),
        lambda: MaskedLevels(MLP(8, 4 * L, hidden=(8,), key=KEY), L, (4,)),
        lambda: MaskedLevels(
            ResidualMLP(8, 4 * L, context_dim=1, width=8, key=KEY), L, (4,), lambda share: share[None]
        ),
    ],
    ids=["transformer", "mlp of symbols", "mlp", "residual mlp"],
)
def test_networks_of_the_autoregressive_family_serve(network):
    def facts():
        model = MaskedDiffusion(network(), integer_head(L), (4,))
        return model.sample(KEY, (5,)), model.log_prob_bound(KEY, jnp.zeros((5, 4), int))

    assert [x.shape for x in jax.eval_shape(facts)] == [(5, 4), (5,)]


def test_images_keep_their_axes():
    seen = []

    def network(x):
        seen.append(x.shape)
        return jnp.zeros((*x.shape[:2], 3 * 5))

    model = MaskedDiffusion(MaskedLevels(network, 5, (4, 4, 3)), integer_head(5), (4, 4, 3))
    assert jax.eval_shape(lambda: model.sample(KEY)).shape == (4, 4, 3)
    assert seen == [(4, 4, 6)]


def test_recipes_keep_their_steps_and_ranks():
    made = []

    def draws():
        made.append(masked_diffusion((4,), levels=3, key=KEY))
        made.append(masked_diffusion((4,), levels=40, width=8, depth=1, steps=2, key=KEY))
        made.append(uniform_diffusion((4,), levels=40, rank=5, width=8, steps=7, key=KEY))
        return [model.sample(KEY) for model in made]

    assert {x.shape for x in jax.eval_shape(draws)} == {(4,)}
    assert made[0].unmasking == OneByOne() and made[1].unmasking == InSteps(2) and made[2].steps == 7


def shaped(shape):
    return lambda *x: jnp.zeros(shape)


CONDITIONAL = uniform_diffusion((2,), levels=3, width=8, depth=1, context_dim=2, key=KEY)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: masked_diffusion((2,), levels=None, key=KEY), "levels: expected an integer of at least 2, got None"),
        (lambda: uniform_diffusion((2,), levels=1, key=KEY), "levels: expected an integer of at least 2, got 1"),
        (lambda: masked_diffusion((2,), levels=9, rank=9, key=KEY), "rank: expected less than levels=9"),
        (lambda: masked_diffusion((2,), levels=2, rank=1, key=KEY), "rank: expected less than levels=2"),
        (lambda: masked_diffusion((2,), levels=2, steps=0, key=KEY), "steps: expected an integer of at least 1"),
        (lambda: masked_diffusion((2,), levels=2, context_dim=-1, key=KEY), "context_dim: expected an integer"),
        (lambda: uniform_diffusion((2,), levels=2, width=0, key=KEY), "width: expected an integer of at least 1"),
        (lambda: uniform_diffusion((2,), levels=2, dropout=1.0, key=KEY), "dropout rate: expected a number in"),
        (lambda: MODEL.log_prob_bound(KEY, jnp.zeros(D)), "value: the model is over integers, got dtype float32"),
        (lambda: MODEL.log_prob_bound(KEY, jnp.full(D, L)), "value: expected integers 0..2, got some outside"),
        (lambda: uniform_model(linear_share).log_prob_bound(KEY, jnp.array([0, -1])), "value: expected integers 0..2"),
        (lambda: MaskedDiffusion(shaped(5), MODEL.head, (D,)).sample(KEY), r"network: expected .* shape \(3, 3\)"),
        (lambda: UniformDiffusion(shaped(5), MODEL.head, (D,)).sample(KEY), r"network: expected .* shape \(3, 3\)"),
        (lambda: MODEL.given(EVENTS[0], np.array([1, 0, 1])), r"mask: expected booleans of shape \(3,\), got int"),
        (lambda: MODEL.given(EVENTS[0], np.ones(2, bool)), r"mask: expected booleans of shape \(3,\), got bool\(2,\)"),
        (lambda: MODEL.conditionals(EVENTS[0] + 9, np.ones(D, bool)), "value: expected integers 0..2"),
        (lambda: MaskedDiffusion(MODEL.network, NormalHead(), (D,)), "head: expected one of integers"),
        (lambda: MaskedDiffusion(MODEL.network, MODEL.head, (D,), unmasking=OneByOne), "unmasking: expected a score"),
        (lambda: MaskedDiffusion(MODEL.network, MODEL.head, (D,), unmasking=3), "unmasking: expected a score"),
        (lambda: MODEL.replace(unmasking="x"), "unmasking: expected a score.Unmasking, such as OneByOne"),
        (lambda: MODEL.replace(head=NormalHead()), "head: expected one of integers"),
        (lambda: uniform_model(linear_share).replace(steps=0), "steps: expected an integer of at least 1, got 0"),
        (lambda: uniform_model(linear_share).replace(share=lambda t: 0.5 + 0 * t), "share: expected numbers that fall"),
        (lambda: uniform_model(linear_share).replace(share=0.5), "share: expected a function"),
        (lambda: InSteps(3, lambda t: t), "share: expected numbers that fall from 1"),
        (lambda: InSteps(3, lambda t: 1 - 0.5 * t), "share: expected numbers that fall from 1 at t = 0 to 0.0 at 1"),
        (lambda: uniform_model(lambda t: 0.9 - 0.5 * t), "share: expected numbers that fall from 1"),
        (lambda: uniform_model(linear_share, steps=2.5), "steps: expected an integer"),
        (lambda: InOrder(MODEL, (0, 1, 1)), "order: expected a permutation of 0..2"),
        (lambda: CONDITIONAL.model.sample(KEY), "conditional: call the ConditionalModel with a context"),
        (lambda: MODEL.log_prob(EVENTS[0]), "log_prob_bound"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises((ValueError, NotImplementedError), match=words):
        make()


def test_a_base_says_what_is_to_be_written():
    for call in (lambda u: u.length(None), lambda u: u.times(None, None), lambda u: u.step(None, None)):
        with pytest.raises(NotImplementedError, match="Unmasking has no"):
            call(Unmasking())


def test_a_network_at_a_share_takes_a_condition_beside_it():
    network = AtShare(lambda x, c: c, lambda share: share[None], context_dim=2)
    at = probgen.core.bind(network, jnp.array([3.0, 4.0]))
    assert at(jnp.zeros(1), jnp.array(0.5)).tolist() == [0.5, 3.0, 4.0]
    other = AtShare(Contextual(lambda x, c: x), lambda share: share[None])
    assert probgen.core.bind(other, jnp.zeros(2)).context is None
