"""What `fit`, `load` and the objectives are told, they do, or they say that it does not apply."""

import gc
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from numpyro.infer.autoguide import AutoNormal

import probgen
from probgen import bijectors, evaluation, explain, fit, partition
from probgen.distributions import BernoulliHead, Transformed
from probgen.inference import estimators, objectives

KEY = jax.random.key(0)


def quiet(model, data, **kwargs):
    return fit(model, data, **{"key": KEY, "progress": False, "steps": 1, **kwargs})


def vae(**kwargs):
    return probgen.latent.vae((3,), 2, latent_dim=2, hidden=(8,), components=0, key=KEY, **kwargs)


BITS = jax.random.bernoulli(jax.random.key(1), 0.3, (64, 3)).astype(int)
FLOW = probgen.flows.affine_flow(2, key=KEY)
X = jax.random.normal(KEY, (64, 2))


def numbers(model):
    return jnp.concatenate([leaf.ravel() for leaf in partition(model)[0].values()])


# -- a logit of exactly 0


@pytest.mark.parametrize("bit", [0, 1])
def test_a_bernoulli_head_learns_from_a_logit_of_zero(bit):
    loss = lambda raw: BernoulliHead()(raw).log_prob(bit)
    np.testing.assert_allclose(jax.grad(loss)(jnp.zeros(1)), [bit - 0.5], rtol=1e-6)


def test_a_constant_column_is_learned():
    """The first number of a MADE depends on a bias alone, which begins at 0."""
    model = probgen.autoregressive.made((1,), 2, hidden=(4,), key=KEY)
    trained = quiet(model, np.zeros((100, 1), int), steps=300, optimizer=optax.adam(0.1)).model
    assert trained.log_prob(jnp.ones((1, 1), int)) < np.log(0.01)


@pytest.mark.parametrize("objective", [None, Trace_ELBO(), objectives.ELBO()])
def test_a_program_learns_from_a_logit_of_zero_under_any_objective(objective):
    def program(x):
        logit = numpyro.param("logit", 0.0)
        with numpyro.plate("rows", len(x)):
            numpyro.sample("x", dist.Bernoulli(logits=logit), obs=x)

    result = quiet(program, np.zeros(50, int), steps=10, optimizer=optax.adam(0.1), objective=objective)
    assert result.params["logit"] < -0.5


# -- options act, or raise


def test_a_latent_variable_model_is_trained_by_the_objective_it_is_given():
    train = lambda objective: numbers(quiet(vae(), BITS, steps=5, objective=objective).model)
    plain = train(None)
    np.testing.assert_array_equal(plain, train(objectives.ELBO()))
    for other in (
        objectives.Beta(objectives.ELBO(), 100.0),
        objectives.FreeBits(objectives.ELBO(), 1e6),
        objectives.ImportanceWeighted(3),
    ):
        assert not jnp.allclose(plain, train(other)), other


def test_fit_of_a_model_is_svi_of_its_program_and_guide():
    by_fit = quiet(vae(), BITS, steps=8, optimizer=optax.sgd(0.1), objective=objectives.Beta(objectives.ELBO(50), 2.0))
    model = vae()
    objective = objectives.Beta(objectives.ELBO(50), 2.0)
    svi = SVI(model.program, model.guide, optax.sgd(0.1 / len(BITS)), objective)
    by_hand = svi.run(jax.random.key(5), 8, BITS, progress_bar=False)
    np.testing.assert_allclose(by_fit.losses, by_hand.losses / len(BITS), rtol=0.01)  # other keys, the same means
    one, two = (numbers(m) for m in (by_fit.model, probgen.from_params(by_hand.params, "model", model)))
    np.testing.assert_allclose(one, two, atol=0.02)


def test_an_annealed_beta_counts_the_steps_of_fit():
    """β = 0 in the first steps trains as β = 0 does; and a guide that counts by itself is not counted twice."""
    late = lambda step: jnp.where(step < 4, 0.0, 5.0)
    train = lambda beta, steps: numbers(
        quiet(vae(), BITS, steps=steps, objective=objectives.Beta(objectives.ELBO(), beta)).model
    )
    np.testing.assert_allclose(train(late, 4), train(lambda step: 0.0, 4), rtol=1e-6)
    assert not jnp.allclose(train(late, 6), train(lambda step: 0.0, 6))
    counted = objectives.count_steps(objectives.count_steps(lambda: None))
    with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
        counted()
    assert trace["step$objective"]["value"]["count"] == 0


def test_discrete_guides_are_unbiased_by_default():
    """The posterior's logit in closed form, where numpyro's Trace_ELBO would leave it where it is."""

    def model(y):
        z = numpyro.sample("z", dist.Bernoulli(0.5))
        numpyro.sample("y", dist.Normal(z, 0.3), obs=y)

    def guide(y):
        numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("logit", 0.4)))

    result = quiet(model, jnp.array([0.7]), guide=guide, steps=300, optimizer=optax.adam(0.05))
    assert abs(result.params["logit"] - (0.7**2 - 0.3**2) / (2 * 0.3**2)) < 0.1


def program(x):
    with numpyro.plate("rows", len(x)):
        numpyro.sample("x", dist.Normal(numpyro.param("loc", jnp.zeros(2)), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(("model", "data", "options", "message"), [
    (FLOW, X, {"num_particles": 3}, "num_particles: Transformed has an exact density"),
    (FLOW, X, {"objective": objectives.ELBO(3)}, "objective: Transformed has an exact density"),
    (FLOW, X, {"objective": objectives.Beta(objectives.ELBO(), 2.0)}, "Beta: the guide draws no latent site"),
    (FLOW, X, {"objective": objectives.FreeBits(objectives.ELBO(), 2.0)}, "FreeBits: the guide draws no latent site"),
    (FLOW, X, {"learnable": lambda path, leaf: False}, "no parameter that `learnable` lets learn"),
    (Transformed(dist.Normal(jnp.zeros(2), 1.0).to_event(1), bijectors.Tanh()), X / 10, {}, "has no parameter, and"),
    (FLOW, X, {"optimizer": numpyro.optim.Adam(1e-3)}, "optimizer: expected an optax transformation"),
    (vae(), BITS, {"num_particles": 2, "objective": objectives.ELBO()}, "num_particles: an objective has its own"),
    (program, X, {"num_particles": 2}, "num_particles: expected a guide"),
    (program, X, {"num_particles": 2, "objective": objectives.ELBO(), "guide": lambda x: None}, "has its own"),
    (program, X, {"learnable": lambda path, leaf: True}, "learnable: a program says so itself"),
    (lambda x: numpyro.sample("x", dist.Normal(0.0, 1.0).expand(x.shape).to_event(2), obs=x), X, {}, "no param"),
])  # fmt: skip
def test_what_does_not_apply_is_refused(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        quiet(model, data, **options)


def normal_guide(x):
    numpyro.sample("z", dist.Normal(numpyro.param("m", 0.0), 1.0))


@pytest.mark.parametrize("number", [0, -1, True, 1.5, None])
def test_numbers_of_particles_are_whole(number):
    score = probgen.score.vp_score((2,), width=4, depth=1, key=KEY)
    report = lambda **options: probgen.gradient_report(KEY, {"loc": X[0]}, program, lambda x: None, X, **options)
    for call in (
        lambda: objectives.ELBO(number),
        lambda: objectives.ImportanceWeighted(number),
        lambda: evaluation.evaluate(vae(), BITS, num_particles=number),
        *(lambda m=m, x=x: m.log_prob_bound(KEY, x, number) for m, x in ((score, X), (vae(), BITS), (FLOW, X))),
        *(lambda m=m, x=x: m.training_loss(KEY, x, number) for m, x in ((score, X), (vae(), BITS), (FLOW, X))),
        *(lambda m=m, x=x: m.log_weights(KEY, x, number) for m, x in ((vae(), BITS), (FLOW, X))),
        lambda: probgen.distributions.Bounded(vae(), KEY, number),
        lambda: numpyro.handlers.seed(probgen.observe, 0)("x", FLOW, X, num_particles=number),
        *(
            lambda m=m, x=x, g=g: quiet(m, x, guide=g, num_particles=number)
            for m, x, g in ((vae(), BITS, None), (FLOW, X, None), (in_plate, X[:, 0], normal_guide))
            if number is not None
        ),
        *(() if number is None else (lambda: report(num_particles=number),)),
    ):
        with pytest.raises(ValueError, match=rf"^num_particles: expected an integer of at least 1, got {number}"):
            call()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: objectives.Beta(objectives.ELBO(2), -1.0), "beta: expected a number of at least 0 or a schedule, got -1"),
    (lambda: objectives.Beta(objectives.ELBO(2), float("nan")), "beta: expected a number of at least 0"),
    (lambda: objectives.Beta(objectives.ELBO(2), "1"), "beta: expected a number of at least 0"),
    (lambda: objectives.FreeBits(objectives.ELBO(2), -1.0), "nats: expected a number of at least 0, got -1"),
    (lambda: objectives.FreeBits(objectives.ELBO(2), {"z": -1.0}), r"nats\['z'\]: expected a number of at least 0"),
    (lambda: objectives.FreeBits(objectives.ELBO(2), {}), "nats: expected a number, or one for some latent sites"),
    (lambda: probgen.score.DDIM(1.5), "steps: expected an integer of at least 1, got 1.5"),
    (lambda: probgen.score.Ancestral(True), "steps: expected an integer of at least 1, got True"),
    (lambda: estimators.MovingAverage(1.5), r"decay: expected a number in \[0, 1\), got 1.5"),
    (lambda: estimators.Enumerate(0), "budget: expected an integer of at least 1, got 0"),
    (lambda: objectives.ELBO(analytic_kl=None), "analytic_kl: expected True or False, got None"),
])  # fmt: skip
def test_meaningless_settings_are_refused(make, message):
    with pytest.raises(ValueError, match="^" + message):
        make()


def test_a_class_in_place_of_an_instance_is_one_sentence(monkeypatch):
    mlp = lambda size: probgen.networks.MLP(1, size, hidden=(2,), key=KEY)
    heads, loss = probgen.distributions, lambda z: z
    for name, call in (
        ("objective", lambda: quiet(vae(), BITS, objective=objectives.ELBO)),
        ("guide", lambda: quiet(in_plate, X[:, 0], guide=AutoNormal)),
        ("model", lambda: quiet(probgen.mixtures.GaussianMixture, X)),
        ("objective", lambda: explain(in_plate, normal_guide, X[:, 0], objective=objectives.ELBO)),
        ("objective", lambda: objectives.Beta(objectives.ELBO, 2.0)),
        ("estimator", lambda: probgen.inference.expectation(KEY, dist.Bernoulli(0.5), loss, estimators.LeaveOneOut)),
        ("baseline", lambda: estimators.ScoreFunction(estimators.MovingAverage)),
        (
            "sampler",
            lambda: probgen.score.ScoreModel(loss, probgen.score.LinearLogSNR(), (2,), sampler=probgen.score.DDIM),
        ),
        ("head", lambda: heads.Conditional(mlp(2), heads.NormalHead, event_shape=(1,))),
        ("head", lambda: probgen.autoregressive.Autoregressive(mlp(2), heads.NormalHead, (1,))),
        ("transformer", lambda: bijectors.Coupling(mlp(2), bijectors.AffineTransformer, split=1)),
        ("bijector", lambda: Transformed(dist.Normal(0.0, 1.0), bijectors.Tanh)),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: expected an instance, such as \w+\(…\), got the class itself"):
            call()
    with pytest.raises(ValueError, match=r"^objective: expected an ELBO of numpyro or of .*, got str"):
        quiet(vae(), BITS, objective="elbo")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^objective: TraceEnum_ELBO needs the package funsor, which is not"):
        quiet(in_plate, X[:, 0], guide=normal_guide, objective=TraceEnum_ELBO())


def test_particles_of_the_default_objective_act():
    """The variance of the loss falls with their number."""

    def spread(particles):
        return quiet(vae(), BITS[:4], steps=60, optimizer=optax.sgd(0.0), num_particles=particles).losses.std()

    assert spread(16) < spread(None) / 2


def test_the_state_goes_on_under_the_users_own_optimizer():
    result = quiet(FLOW, X, steps=3, optimizer=optax.adam(1e-2))
    count, (params, state) = result.state.optim_state
    assert count == 3 and jax.tree.structure(state) == jax.tree.structure(optax.adam(1e-2).init(params))


# -- conditional latent-variable models can what others can


def test_a_conditional_vae_has_a_kl_a_program_and_a_guide():
    model = vae(context_dim=2)
    context = jax.random.normal(KEY, (6, 2))
    given = model(context)
    x = BITS[:6]
    kl = jax.jit(lambda c, x: model(c).kl(KEY, x))
    one_by_one = [kl(c, row) for c, row in zip(context, x, strict=True)]
    np.testing.assert_allclose(kl(context, x), np.stack(one_by_one), rtol=1e-5, atol=1e-7)  # closed forms need no key
    loss = lambda d, x: objectives.ELBO(200).loss(KEY, {}, d.program, d.guide, x)
    at = jax.jit(lambda c, x: loss(model(c), x))
    alone = [at(c, row[None]) for c, row in zip(context, x, strict=True)]
    np.testing.assert_allclose(at(context, x), sum(alone), rtol=0.05)
    drawn = numpyro.handlers.seed(given.program, 0)(None, size=6)
    assert drawn.shape == (6, 3)
    with pytest.raises(ValueError, match="one a row"):
        loss(model(jnp.zeros((2, 6, 2))), x)


def test_a_conditional_vae_is_trained_by_its_objective():
    context = BITS[:, :1].astype(float)
    train = lambda objective: quiet(
        vae(context_dim=1), (BITS, context), steps=4, batch_size=32, objective=objective, validation=(BITS, context)
    )
    plain, heavy = train(None), train(objectives.Beta(objectives.ELBO(), 100.0))
    assert not jnp.allclose(numbers(plain.model), numbers(heavy.model))
    assert np.isfinite(plain.best.loss)


# -- guides and models: no weaker than numpyro


def in_plate(x):
    with numpyro.plate("rows", len(x)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Normal(z, 0.1), obs=x)


@pytest.mark.parametrize("objective", [objectives.ELBO(), objectives.ImportanceWeighted(2)])
def test_a_guide_that_only_broadcasts_with_the_model_is_refused(objective):
    guide = lambda x: numpyro.sample("z", dist.Normal(numpyro.param("m", 1.0), 0.05))
    with pytest.raises(ValueError, match=r"the guide draws batch × event \[\] × \[\], the model has \[5\] × \[\]"):
        objective.loss(KEY, {"m": jnp.array(1.0)}, in_plate, guide, jnp.ones(5))
    with pytest.raises(ValueError, match="the guide draws batch"):
        explain(in_plate, guide, jnp.ones(5))


def test_what_broadcasts_over_no_plate_is_warned_of_and_explained():
    def model(y):
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(numpyro.param("w", 0.0) * jnp.arange(5.0), 1.0), obs=y)

    empty = lambda y: None
    said = r"site 'y' has \[5, 5\] log-densities, but no plate on axis -2: .* batch shape \[5\], its value the shape"
    for objective in (objectives.ELBO(), objectives.ImportanceWeighted(2)):
        with pytest.warns(UserWarning, match=said):
            objective.loss(KEY, {}, model, empty, jnp.ones((5, 1)))
    with pytest.warns(UserWarning, match=said):
        assert "SUSPECT: site 'y' has [5, 5] log-densities" in str(explain(model, empty, jnp.ones((5, 1))))
    with pytest.raises(ValueError, match=said):
        quiet(model, jnp.ones((5, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objectives.ELBO().loss(KEY, {}, model, empty, jnp.ones(5))


def test_a_plate_of_the_guide_alone_is_warned_of():
    def guide(x):
        with numpyro.plate("others", len(x)):
            numpyro.sample("z", dist.Normal(numpyro.param("m", 1.0), 0.05))

    with pytest.warns(UserWarning, match="the guide opens plate 'others'"):
        objectives.ELBO().loss(KEY, {}, in_plate, guide, jnp.ones(5))


# -- what a caller hands over


MASKED = np.ma.masked_equal(np.where(np.arange(64)[:, None] < 5, -999.0, np.asarray(X)), -999.0)


def test_masked_arrays_are_refused_wherever_data_come_in():
    for call in (
        lambda: quiet(FLOW, MASKED),
        lambda: quiet(FLOW, X, validation=MASKED),
        lambda: evaluation.evaluate(FLOW, MASKED),
        lambda: FLOW.log_prob(MASKED),
        lambda: probgen.distributions.initialize(FLOW, MASKED),
        lambda: probgen.mixtures.kmeans(MASKED, 2, key=KEY),
        lambda: probgen.flows.histogram_flow(2, low=-1000.0, high=10.0, data=MASKED),
        lambda: probgen.mixtures.gaussian_mixture(2, components=2, data=MASKED, key=KEY),
    ):
        with pytest.raises(
            ValueError, match=r"^\w+: expected numbers that all count, got a masked array with 10 masked"
        ):
            call()
    full = np.ma.masked_array(np.asarray(X))
    assert quiet(FLOW, full).losses == quiet(FLOW, X).losses


def test_complex_numbers_are_refused_wherever_numbers_come_in():
    """Their imaginary part would be dropped."""
    x = jnp.array([[1.0 + 1.0j, 2.0]])
    for call in (
        lambda: quiet(FLOW, x),
        lambda: quiet(program, np.asarray(x)),
        lambda: FLOW.log_prob(x),
        lambda: FLOW.log_prob_bound(KEY, x),
        lambda: probgen.score.vp_score((2,), width=4, depth=1, key=KEY).log_prob_bound(KEY, x),
        lambda: probgen.mixtures.gaussian_mixture(2, components=2, key=KEY).log_prob(x),
        lambda: FLOW.bijector.forward(x),
        lambda: bijectors.Reverse().inverse(x),
        lambda: evaluation.evaluate(FLOW, x),
    ):
        with pytest.raises(ValueError, match=r"expected real numbers, got dtype complex64"):
            call()


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match=r"there is no folder nowhere/at/all to save flow.safetensors in"):
        probgen.save("nowhere/at/all/flow.safetensors", FLOW)


@pytest.mark.parametrize(("saved", "other", "name"), [
    (bijectors.Spline(jnp.zeros(11), interval=(-3.0, 3.0)), bijectors.Spline(jnp.zeros(11), interval=(-1.0, 1.0)),
     r"interval is \(-3.0, 3.0\) in the file, \(-1.0, 1.0\) in the model"),
    (probgen.networks.MLP(2, 2, hidden=(4,), activation=jax.nn.relu, key=KEY),
     probgen.networks.MLP(2, 2, hidden=(4,), activation=jax.nn.silu, key=KEY), "activation is relu in the file, silu"),
    (dist.Normal(0.0, 1.0), dist.Laplace(0.0, 1.0), "type is Normal in the file, Laplace in the model"),
])  # fmt: skip
def test_a_file_is_not_loaded_into_other_settings(saved, other, name):
    wrap = lambda part: {"part": part}
    with pytest.warns(UserWarning, match="no recipe"):
        probgen.save("model.safetensors", wrap(saved))
    jax.tree.map(np.testing.assert_array_equal, wrap(saved), probgen.load("model.safetensors", like=wrap(saved)))
    with pytest.raises(ValueError, match=name):
        probgen.load("model.safetensors", like=wrap(other))


# -- memory: what fit keeps


def test_bytes_stay_bytes_until_the_batch():
    """A full copy of the data in int32 would be seen among the arrays that are alive, or in the loop's memory."""
    x = np.random.default_rng(0).integers(0, 256, (997, 3)).astype(np.uint8)
    seen = []

    class Spying(probgen.distributions.Model):
        pytree_data_fields = learnable_fields = ("shift",)
        support = dist.constraints.independent(dist.constraints.integer_interval(0, 255), 1)

        def __init__(self):
            self.shift = jnp.zeros(())
            super().__init__((3,))

        def log_prob_event(self, x):
            seen.append((x.dtype, [a.dtype for a in jax.live_arrays() if a.shape[:1] == (997,) and a.ndim == 2]))
            return -jnp.sum((x * x).astype(float) * self.shift) + self.shift

    quiet(Spying(), x, batch_size=10)
    assert seen and all(dtype == jnp.int32 for dtype, _ in seen)
    assert {dtype for _, alive in seen for dtype in alive} == {jnp.dtype("uint8")}


def test_the_data_are_let_go_without_the_garbage_collector():
    before = {id(a) for a in jax.live_arrays()}
    gc.collect()
    gc.disable()
    try:
        quiet(FLOW, np.asarray(X), steps=2, batch_size=16, validation=np.asarray(X[:32]))
        alive = [a.shape for a in jax.live_arrays() if id(a) not in before]
        assert (64, 2) not in alive and (32, 2) not in alive
        data = jnp.array(X)
        gone = weakref.ref(data)
        quiet(FLOW, data, steps=2, batch_size=16)
        del data
        assert gone() is None
    finally:
        gc.enable()


def test_a_programs_validation_in_blocks_is_that_of_all_rows_at_once(monkeypatch):
    """In closed form: a mean with a prior, rows in a plate, more of them than a block holds."""
    y = 1.0 + jax.random.normal(KEY, (700,))

    def model(y):
        mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    sizes = []
    scaled = probgen.inference.training.task.ProgramTask._scaled
    monkeypatch.setattr(
        "probgen.inference.training.task.ProgramTask._scaled",
        lambda self, size: sizes.append(size) or scaled(self, size),
    )
    held_out = y[:603] + 0.5  # 3 × 201, so that no block is left over; 613 is a prime
    guide = lambda y: numpyro.sample("mean", dist.Delta(numpyro.param("m", 0.3)))
    for rows in (held_out, y[:613]):
        result = quiet(model, y, guide=guide, batch_size=50, optimizer=optax.sgd(0.0), validation=rows)
        right = -dist.Normal(0.3, 1.0).log_prob(rows).mean() - dist.Normal(0.0, 10.0).log_prob(0.3) / 700
        np.testing.assert_allclose(result.history["validation"], right, rtol=1e-4)
    assert max(sizes) <= 256


def test_an_automatic_guide_is_scored_in_blocks_too():
    def model(y):
        mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    y = jax.random.normal(KEY, (600,))
    result = quiet(model, y, guide=AutoNormal(model), batch_size=50, validation=y)
    assert np.isfinite(result.best.loss)
