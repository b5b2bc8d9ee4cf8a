"""`fit`: against hand-written loops and conjugate posteriors, and what it does when something is wrong."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.svi import SVIRunResult
from registry import DISTRIBUTIONS

import probgen
from probgen import combine, fit, partition
from probgen.distributions import Model, NormalHead, Transformed
from probgen.flows import real_nvp
from probgen.inference.loop import CHUNK
from probgen.networks import MLP

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (96, 2)) * jnp.array([2.0, 0.5]) + 1.0


def flow(**kwargs):
    return real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(2), **kwargs)


def quiet(model, data=X, **kwargs):
    kwargs = {"key": KEY, "progress": False, **kwargs}
    return fit(model, data, **kwargs)


# -- what it computes


def test_full_batch_steps_equal_a_hand_written_loop():
    model, optimizer = flow(), optax.adam(1e-2)
    result = quiet(model, steps=20, optimizer=optimizer)
    params, rest = partition(model)
    state = optimizer.init(params)
    losses = []
    loss = jax.jit(jax.value_and_grad(lambda p: -combine(p, rest).log_prob(X).mean()))
    for _ in range(20):
        value, gradient = loss(params)
        updates, state = optimizer.update(gradient, state)
        params = optax.apply_updates(params, updates)
        losses.append(value)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-4)
    for path, leaf in partition(result.model)[0].items():
        np.testing.assert_allclose(leaf, params[path], rtol=1e-2, atol=1e-4)


def test_the_result_is_numpyros_and_more():
    result = quiet(flow(), steps=7)
    assert isinstance(result, SVIRunResult)
    params, state, losses = result
    assert losses.shape == (7,) and result.stopped == "finished" and result.best is None
    again = probgen.from_params(params, "model", flow())
    np.testing.assert_allclose(again.log_prob(X), result.model.log_prob(X), rtol=1e-6)
    assert result.history["train"].shape == (7,) and result.history.attrs["unit"] == "nats per datum"
    np.testing.assert_allclose(result.history["train_bits_per_dim"], losses / (2 * np.log(2)), rtol=1e-6)
    assert state.optim_state is not None


def test_chunks_do_not_show(monkeypatch):
    """The host's chunks depend on the clock; the numbers must not."""
    one = quiet(flow(), epochs=4, batch_size=16)
    monkeypatch.setattr("probgen.inference.trainer._CHUNK_SECONDS", 1e-9)  # every chunk has one step
    other = quiet(flow(), epochs=4, batch_size=16)
    np.testing.assert_array_equal(one.losses, other.losses)
    assert len(one.losses) == 4 * (96 // 16) < CHUNK


def test_an_epoch_visits_each_row_once_in_a_new_order():
    class Seen(Model):
        """Its loss of a row tells which row it is."""

        pytree_data_fields = ("offset",)
        learnable_fields = ("offset",)
        support = dist.constraints.real

        def __init__(self):
            self.offset = jnp.zeros(())
            super().__init__(())

        def log_prob_event(self, x):
            return -x + 0.0 * self.offset

    rows = jnp.arange(32.0)
    losses = quiet(Seen(), rows, epochs=3, batch_size=1, optimizer=optax.sgd(0.0)).losses.reshape(3, 32)
    for epoch in losses:
        np.testing.assert_array_equal(np.sort(epoch), rows)
    assert len({tuple(epoch) for epoch in losses}) == 3 and tuple(losses[0]) != tuple(rows)


def test_the_users_model_is_not_donated_and_plain_svi_does_the_same():
    model = flow()
    before = jax.tree.map(np.asarray, partition(model)[0])
    result = quiet(model, steps=5, batch_size=32)
    assert all(np.array_equal(before[path], leaf) for path, leaf in partition(model)[0].items())  # and not deleted

    def program(x):
        trained = probgen.module("flow", model)
        with numpyro.plate("data", len(x)):
            numpyro.sample("x", trained, obs=x)

    svi = SVI(program, lambda x: None, optax.adam(1e-3), Trace_ELBO())
    by_hand = svi.run(KEY, 5, X, progress_bar=False)
    whole = quiet(model, steps=5)
    np.testing.assert_allclose(by_hand.losses / 96, whole.losses, rtol=1e-4)
    assert result.losses.shape == (5,)


def test_the_same_key_gives_the_same_result_and_another_key_another():
    one, same, other = (quiet(flow(), steps=6, batch_size=16, key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one.losses, same.losses)
    assert not np.array_equal(one.losses, other.losses)


# -- programs: batches must weigh what the full data would

NUM, NOISE = 10_000, 1.0
ROWS = 3.0 + jax.random.normal(jax.random.key(3), (NUM,))


def scaled_program(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
    with numpyro.plate("N", NUM, subsample_size=len(x)):
        numpyro.sample("x", dist.Normal(mean, NOISE), obs=x)


def unscaled_program(x):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mean, NOISE), obs=x)


@pytest.mark.parametrize("program", [scaled_program, unscaled_program])
def test_batches_give_the_conjugate_posterior(program):
    guide = AutoNormal(program)
    options = {
        "optimizer": optax.adam(optax.exponential_decay(0.03, 20_000, 0.01)),
        "objective": Trace_ELBO(num_particles=32),  # the noise of one would leave the sd uncertain by a tenth
    }
    result = quiet(program, ROWS, guide=guide, steps=20_000, batch_size=100, **options)
    precision = 1 / 10.0**2 + NUM / NOISE**2
    mean, sd = (float(result.params[f"mean_auto_{what}"]) for what in ("loc", "scale"))
    assert abs(sd * np.sqrt(precision) - 1) < 0.05  # it would be 10 for plates that are not scaled
    assert abs(mean - float(ROWS.sum()) / precision) < 3 * 0.01


def test_a_batch_without_a_plate_is_refused():
    def program(x):
        mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
        numpyro.sample("x", dist.Normal(mean, 1.0).expand(x.shape).to_event(1), obs=x)

    with pytest.raises(ValueError, match="plate"):
        quiet(program, ROWS, guide=AutoNormal(program), steps=2, batch_size=100)
    quiet(program, ROWS, guide=AutoNormal(program), steps=2)  # all rows at once need none


def test_a_program_with_validation_keywords_and_params():
    def program(x, y):
        weight = numpyro.param("weight", 0.0)
        with numpyro.plate("N", x.shape[0]):
            numpyro.sample("y", dist.Normal(weight * x, 1.0), obs=y)

    x = jnp.linspace(-1, 1, 64)
    data = {"x": x, "y": 3 * x}
    result = quiet(
        program, data, steps=300, batch_size=32, optimizer=optax.adam(0.1), validation=data, validate_every=50
    )
    assert abs(result.params["weight"] - 3) < 0.05
    # nats per row of a unit normal at its mean
    assert abs(result.best.loss - 0.5 * np.log(2 * np.pi)) < 0.01
    assert result.history["validation"].shape == (7,) and "train_bits_per_dim" not in result.history


# -- options


def test_validation_best_patience_and_ema():
    train, held_out = X[:16], X[16:]
    model = real_nvp(2, layers=4, hidden=(64,), key=KEY)
    options = {"optimizer": optax.adam(1e-2), "steps": 400, "validate_every": 10}
    result = quiet(model, train, validation=held_out, patience=3, **options)
    assert result.stopped == "patience" and len(result.losses) < 400
    assert len(result.losses) == result.best.step + 30
    best = -result.model.log_prob(held_out).mean()
    np.testing.assert_allclose(best, result.best.loss, rtol=1e-4)
    assert result.history["validation_step"].values[0] == 0
    np.testing.assert_allclose(result.history["validation"][0], -model.log_prob(held_out).mean(), rtol=1e-4)
    assert result.history["validation"].min() == pytest.approx(result.best.loss)


def test_ema_is_the_average_of_the_params():
    model = flow()
    decays = [min(0.9, (1 + i) / (10 + i)) for i in range(3)]
    steps = [partition(quiet(model, steps=k, optimizer=optax.sgd(0.1)).model)[0] for k in (1, 2, 3)]
    want = partition(model)[0]
    for decay, params in zip(decays, steps, strict=True):
        want = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, want, params)
    got = partition(quiet(model, steps=3, optimizer=optax.sgd(0.1), ema=0.9).model)[0]
    for path in want:
        np.testing.assert_allclose(got[path], want[path], rtol=1e-4, atol=1e-6)


def test_learnable_narrows():
    model = flow()
    result = quiet(model, steps=3, learnable=lambda path, leaf: "weight" in path)
    before, after = partition(model)[0], partition(result.model)[0]
    for path in before:
        assert np.array_equal(before[path], after[path]) == ("weight" not in path), path


def test_dropout_trains_with_fresh_masks_and_is_off_afterwards():
    result = quiet(flow(dropout=0.5), X, steps=40, optimizer=optax.sgd(0.0))
    assert len(set(result.losses.tolist())) > 1 or result.losses.std() == 0  # the last layer starts small
    noisy = quiet(flow(dropout=0.5), X, steps=30)
    assert float(noisy.model.log_prob(X).sum()) == float(noisy.model.log_prob(X).sum())
    with_mask = probgen.with_key(noisy.model, KEY)
    assert not np.allclose(with_mask.log_prob(X), noisy.model.log_prob(X))


def test_update_changes_state():
    x = jax.random.randint(KEY, (64, 2), 0, 3)
    result = quiet(probgen.distributions.EM(probgen.distributions.histogram((2,), 3), smoothing=0.0), x, steps=1)
    want = np.stack([np.bincount(x[:, d], minlength=3) / 64 for d in range(2)])
    np.testing.assert_allclose(jax.nn.softmax(result.model.model.position_logits[0]), want, rtol=1e-4)


def test_conditional_models_take_pairs():
    context = jnp.sign(jax.random.normal(KEY, (256, 1)))
    x = 2 * context + 0.1 * jax.random.normal(jax.random.key(9), (256, 2))
    model = flow(context_dim=1)
    held_out = (x[:64], context[:64])
    result = quiet(model, (x, context), steps=300, batch_size=64, optimizer=optax.adam(1e-2), validation=held_out)
    near, far = (result.model(sign * jnp.ones(1)).log_prob(2 * jnp.ones(2)) for sign in (1, -1))
    assert near > far + 3
    with pytest.raises(ValueError, match=r"\(x, context\)"):
        quiet(model, x, steps=2)


def test_gradients_flow_into_every_part_by_its_bound():
    model = probgen.latent.vae((3,), 2, latent_dim=2, hidden=(8,), key=KEY)
    x = (jax.random.uniform(KEY, (128, 1)) < 0.5).astype(int) * jnp.ones(3, int)  # all equal: ln 2 nats
    result = quiet(model, x, steps=500, batch_size=64, optimizer=optax.adam(1e-2), num_particles=4)
    assert result.history.attrs["kind"] == "≤"
    assert result.losses[-50:].mean() < 1.2 < 3 * np.log(2)


# -- what is wrong is said before anything compiles


@pytest.mark.parametrize(("data", "message"), [
    (X.at[3, 1].set(jnp.nan), "finite numbers, got nan in row 3"),
    (X.at[3, 1].set(jnp.inf), "finite numbers, got inf in row 3"),
    (X[:0], "at least one row"),
    (X[:, :1], r"rows of shape \(2,\), got \(1,\)"),
    (X.astype(int), "floating-point numbers, got dtype int"),
    (np.array([["a", "b"]]), "expected numbers"),
    ((X, X), "expected one array"),
])  # fmt: skip
def test_unusable_data(data, message):
    with pytest.raises(ValueError, match=message):
        quiet(flow(), data, steps=1)
    if not isinstance(data, tuple):
        with pytest.raises(ValueError, match=r"^validation: "):
            quiet(flow(), X, steps=1, validation=data)


@pytest.mark.parametrize(("x", "message"), [
    (jnp.array([[0, 1], [3, 0]]), "row 1 lies outside"),
    (jnp.array([[-1, 1]]), "row 0 lies outside"),
    (jnp.zeros((4, 2)), "over integers, got dtype float32"),
])  # fmt: skip
def test_data_outside_the_support(x, message):
    with pytest.raises(ValueError, match=message):
        quiet(probgen.distributions.histogram((2,), 3), x, steps=1)


def test_small_integers_do_not_wrap_around():
    x = np.full((8, 2), 200, np.uint8)
    result = quiet(probgen.flows.discrete_real_nvp((2,), 256, layers=2, hidden=(8,), key=KEY), x, steps=2)
    assert np.isfinite(result.losses).all()


@pytest.mark.parametrize(("options", "message"), [
    ({}, "steps or epochs"),
    ({"steps": 1, "epochs": 1}, "steps or epochs"),
    ({"steps": 0}, "at least one step"),
    ({"steps": 1, "batch_size": 97}, "expected 1 to 96"),
    ({"steps": 1, "batch_size": 0}, "expected 1 to 96"),
    ({"steps": 1, "guide": lambda x: None}, "guide"),
])  # fmt: skip
def test_unusable_options(options, message):
    with pytest.raises(ValueError, match=message):
        quiet(flow(), **options)


def test_lists_are_arrays_and_what_is_no_key_is_refused():
    assert quiet(flow(), X.tolist(), steps=1).losses == quiet(flow(), X, steps=1).losses
    with pytest.raises(ValueError, match=r"expected a jax.random.key, got 0"):
        quiet(flow(), steps=1, key=0)
    assert quiet(flow(), steps=1, key=jax.random.PRNGKey(0)).losses.shape == (1,)


def test_what_is_no_model_and_models_with_a_batch_shape_are_refused():
    with pytest.raises(ValueError, match="distribution or a numpyro program"):
        quiet(3.0, steps=1)
    many = jax.vmap(lambda key: real_nvp(2, layers=2, hidden=(4,), key=key))(jax.random.split(KEY, 3))
    with pytest.raises(ValueError, match="batch shape"):
        quiet(many, steps=1)


# -- trouble on the way


@pytest.mark.parametrize("steps_before", [0, 4])
def test_a_non_finite_loss_stops_with_the_last_good_params(steps_before):
    """The learning rate explodes; what was learned before is returned."""
    schedule = lambda step: jnp.where(step < steps_before, 1e-3, jnp.inf)
    model = flow()
    with pytest.warns(RuntimeWarning, match=rf"step {steps_before + 1}"):
        result = quiet(model, steps=50, optimizer=optax.sgd(schedule))
    assert result.stopped.startswith("non-finite") and len(result.losses) == steps_before
    good = quiet(model, steps=steps_before, optimizer=optax.sgd(1e-3)).model if steps_before else model
    for path, leaf in partition(result.model)[0].items():
        np.testing.assert_allclose(leaf, partition(good)[0][path], rtol=1e-6)


class Cliff(Model):
    """−θ x, whose gradient becomes NaN, or whose loss becomes infinite, once θ is past 1."""

    pytree_data_fields = ("theta",)
    pytree_aux_fields = ("gradient_only",)
    learnable_fields = ("theta",)
    support = dist.constraints.real

    def __init__(self, gradient_only):
        self.theta, self.gradient_only = jnp.zeros(()), gradient_only
        super().__init__(())

    def log_prob_event(self, x):
        bad = jnp.sqrt(jnp.where(self.theta > 1, 0.0, 1.0) * (self.theta - self.theta)) if self.gradient_only else 0.0
        return self.theta * x + bad + jnp.where((self.theta > 1) & (not self.gradient_only), -jnp.inf, 0.0)


def test_the_culprit_is_named():
    with pytest.warns(RuntimeWarning, match="non-finite loss at step 4"):
        result = quiet(Cliff(False), jnp.ones(8), steps=9, optimizer=optax.sgd(0.4))
    np.testing.assert_allclose(result.model.theta, 1.2, rtol=1e-5)
    with pytest.warns(RuntimeWarning, match="non-finite gradient at step 1"):
        quiet(Cliff(True), jnp.ones(8), steps=9, optimizer=optax.sgd(0.4))


def test_interrupted_returns_what_was_learned(monkeypatch):
    calls = []

    def interrupt(self, steps, *rest):
        calls.append(steps)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("probgen.inference.progress.Progress.advance", interrupt)
    result = quiet(flow(), steps=10_000, batch_size=16)
    assert result.stopped == "interrupted" and len(result.losses) == sum(calls)
    assert not np.array_equal(result.model.log_prob(X), flow().log_prob(X))


def test_the_bar_shows_bits_per_dim_and_can_have_a_name(capsys):
    quiet(flow(), steps=3, progress="my flow", validation=X)
    text = capsys.readouterr().err
    assert "my flow" in text and "bits/dim" in text and "validation" in text
    quiet(flow(), steps=3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "row", [row for row in DISTRIBUTIONS if "learnable" not in row.exceptions], ids=lambda row: row.name
)
def test_every_family_trains(row):
    """One fit of each row with learnable parts: the loss of its own draws falls."""
    model = row.make()
    x = model.sample(KEY, (64,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = quiet(model, x, steps=30, batch_size=64, optimizer=optax.adam(1e-2))
    assert np.isfinite(result.losses).all()
    moved = [
        not np.array_equal(a, b) for a, b in zip(partition(model)[0].values(), partition(result.model)[0].values())
    ]
    assert all(moved)


def test_a_learned_conditional_of_a_head_in_a_program():
    """Heads in a user's program: regression with a learned noise, by a module of any callable pytree."""
    net = MLP(1, 2, hidden=(16,), key=KEY)
    x = jnp.linspace(-1, 1, 128)[:, None]
    y = 2 * x[:, 0] + 0.1 * jax.random.normal(KEY, (128,))

    def program(x, y):
        learned = probgen.module("net", net)
        with numpyro.plate("N", x.shape[0]):
            numpyro.sample("y", NormalHead()(jax.vmap(learned)(x)), obs=y)

    result = quiet(program, (x, y), steps=1500, batch_size=64, optimizer=optax.adam(1e-2))
    head = NormalHead()(jax.vmap(probgen.from_params(result.params, "net", net))(x))
    assert float(jnp.abs(head.loc - 2 * x[:, 0]).max()) < 0.2
    assert 0.05 < float(head.scale.mean()) < 0.2


def test_a_transformed_base_of_numpyro_does_not_learn():
    model = Transformed(
        dist.Normal(jnp.zeros(2), 1.0).to_event(1), probgen.bijectors.Affine(jnp.zeros(2), jnp.zeros(2))
    )
    result = quiet(model, steps=1500, optimizer=optax.adam(1e-2))
    np.testing.assert_array_equal(result.model.base.base_dist.loc, 0.0)
    np.testing.assert_allclose(result.model.sample(KEY, (4000,)).mean(0), X.mean(0), atol=0.2)
    best = dist.Normal(X.mean(0), X.std(0)).to_event(1).log_prob(X).mean()
    np.testing.assert_allclose(result.model.log_prob(X).mean(), best, atol=1e-3)
