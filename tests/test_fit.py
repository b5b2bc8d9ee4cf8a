"""`fit`: against hand-written loops and conjugate posteriors, and what it does when something is wrong."""

import contextlib
import itertools
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from numpyro.infer.svi import SVIRunResult
from registry import DISTRIBUTIONS

import probgen
from probgen import combine, fit, partition
from probgen.distributions import Conditional, Model, NormalHead, Transformed
from probgen.flows import real_nvp
from probgen.inference import PowerEMA
from probgen.inference.training.loop import CHUNK, Loop
from probgen.inference.training.watch import Watch
from probgen.networks import MLP

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (96, 2)) * jnp.array([2.0, 0.5]) + 1.0


@jax.jit
def log_prob(model, x):
    return model.log_prob(x)


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
    np.testing.assert_allclose(log_prob(again, X), log_prob(result.model, X), rtol=1e-6)
    assert result.history["train"].shape == (7,) and result.history.attrs["unit"] == "nats per datum"
    np.testing.assert_allclose(result.history["train_bits_per_dim"], losses / (2 * np.log(2)), rtol=1e-6)
    assert state.optim_state is not None


def test_chunks_do_not_show(monkeypatch):
    """The host's chunks depend on the clock; the numbers must not."""
    one = quiet(flow(), epochs=4, batch_size=16)
    monkeypatch.setattr("probgen.inference.training.clock._CHUNK_SECONDS", 1e-9)  # every chunk has one step
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
        "optimizer": optax.adam(optax.exponential_decay(0.03, 8000, 0.01)),
        "objective": Trace_ELBO(num_particles=32),  # the noise of one would leave the sd uncertain by a tenth
    }
    result = quiet(program, ROWS, guide=guide, steps=8000, batch_size=100, **options)
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


def mean_and(likelihood):
    """A program with the mean's prior, and `likelihood(mean, x)`."""

    def program(x):
        likelihood(numpyro.sample("mean", dist.Normal(0.0, 10.0)), x)

    return program


def by_factor(mean, x):
    numpyro.factor("f", dist.Normal(mean, 1.0).log_prob(x).sum())


def by_statistic(mean, x):
    numpyro.sample("total", dist.Normal(mean, x.shape[0] ** -0.5), obs=x.mean())


def by_halves(mean, x):
    for i, part in enumerate(jnp.split(x[: x.shape[0] // 2 * 2], 2)):
        with numpyro.plate(f"N{i}", x.shape[0] // 2):
            numpyro.sample(f"x{i}", dist.Normal(mean, 1.0), obs=part)


def by_own_subsample(mean, x):
    with numpyro.plate("N", NUM, subsample_size=50) as index:
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[index])


def by_pairs(mean, x):
    with numpyro.plate("N", x.shape[0]), numpyro.plate("M", x.shape[0]):
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[:, None] - x)


def by_rows_of_a_param(mean, x):
    shift = numpyro.param("shift", jnp.zeros(x.shape[0]))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mean + shift, 1.0), obs=x)


def by_index(mean, x):
    shift = numpyro.param("shift", jnp.zeros(NUM))
    with numpyro.plate("N", NUM, subsample_size=x.shape[0]) as index:
        numpyro.sample("x", dist.Normal(mean + shift[index], 1.0), obs=x)


def by_a_prior_of_the_batch(mean, x):
    level = numpyro.sample("level", dist.Normal(x.mean(), 1.0))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mean + level, 1.0), obs=x)


def by_fixed_size(mean, x):
    with numpyro.plate("N", NUM, subsample_size=100):
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x)


@pytest.mark.parametrize(("likelihood", "batch_size", "message"), [
    (by_factor, 100, r"site 'f' depends on the rows .* numpyro.plate\('data', 10000, subsample_size=x.shape\[0\]\)"),
    (by_statistic, 100, "site 'total' depends on the rows"),
    (by_halves, 100, "site 'x0' depends on the rows"),
    (by_halves, 101, "plate 'N0' has 50 elements for 101 rows and 51 for 102"),
    (by_own_subsample, 100, "plate 'N' draws its own subsample"),
    (by_pairs, 100, "site 'x' stands under several plates of the rows"),
    (by_rows_of_a_param, 100, "param 'shift' has a value for each row"),
    (by_index, 100, r"site 'x' looks something up by the indices of plate 'N'.* pass jnp.arange\(10000\)"),
    (by_a_prior_of_the_batch, 100, "site 'level' depends on the rows"),
    (by_fixed_size, 100, "plate 'N' draws its own subsample: open it with subsample_size=x.shape"),
])  # fmt: skip
def test_what_a_batch_cannot_stand_for_is_refused(likelihood, batch_size, message):
    program = mean_and(likelihood)
    with pytest.raises(ValueError, match=message):
        quiet(program, ROWS, guide=AutoDelta(program), steps=2, batch_size=batch_size)


def test_a_factor_under_a_plate_and_flat_priors_are_weighed():
    def program(x):
        mean = numpyro.sample("mean", dist.ImproperUniform(dist.constraints.real, (), ()))
        with numpyro.plate("N", x.shape[0]):
            numpyro.factor("f", dist.Normal(mean, 1.0).log_prob(x))

    result = quiet(program, ROWS, guide=AutoDelta(program), steps=2, batch_size=100, optimizer=optax.sgd(0.0))
    mean = result.params["mean_auto_loc"]
    assert abs(result.losses.mean() + dist.Normal(mean, 1.0).log_prob(ROWS).mean()) < 0.5


def test_plates_within_a_scan_are_weighed():
    """As those of the same program with its loop unrolled."""
    x = jax.random.normal(KEY, (400, 4))

    def looped(x):
        drift = numpyro.sample("drift", dist.Normal(0.0, 1.0))
        with numpyro.plate("N", 400, subsample_size=x.shape[0]):
            for i in range(4):
                numpyro.sample(f"x{i}", dist.Normal(drift, 1.0), obs=x[:, i])

    def scanned(plate):
        def program(x):
            drift = numpyro.sample("drift", dist.Normal(0.0, 1.0))

            def step(carry, now):
                with plate(x):
                    numpyro.sample("x", dist.Normal(drift, 1.0), obs=now)
                return carry, None

            scan(step, 0.0, x.T)

        return program

    scaled, unscaled = (
        lambda x: numpyro.plate("N", 400, subsample_size=x.shape[0]),
        lambda x: numpyro.plate("N", len(x)),
    )
    options = {"steps": 3, "batch_size": 50, "validation": x[:30]}
    results = [
        quiet(program, x, guide=AutoDelta(program), **options)
        for program in (looped, scanned(scaled), scanned(unscaled))
    ]
    for result in results[1:]:
        np.testing.assert_allclose(result.losses, results[0].losses, rtol=1e-4)
        np.testing.assert_allclose(result.history["validation"], results[0].history["validation"], rtol=1e-4)


# every row has a latent value z ~ N(mean, 2), observed with noise 0.3, so that y ~ N(mean, √(4 + 0.09))
LATENT_ROWS = 1.0 + np.sqrt(4.09) * jax.random.normal(jax.random.key(4), (2000,))


def local_program(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
    with numpyro.plate("N", y.shape[0]):
        z = numpyro.sample("z", dist.Normal(mean, 2.0))
        numpyro.sample("y", dist.Normal(z, 0.3), obs=y)


def local_scaled_program(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
    with numpyro.plate("N", 2000, subsample_size=y.shape[0]):
        z = numpyro.sample("z", dist.Normal(mean, 2.0))
        numpyro.sample("y", dist.Normal(z, 0.3), obs=y)


def local_guide(plate, *, amortized=True):
    def guide(y):
        scale = numpyro.param("mean_scale", 0.05, constraint=dist.constraints.positive)
        numpyro.sample("mean", dist.Normal(numpyro.param("mean_loc", 0.0), scale))
        weight, bias = numpyro.param("weight", 0.5), numpyro.param("bias", 0.0)
        loc = weight * y + bias if amortized else numpyro.param("loc", jnp.zeros(50))
        with plate(y):
            numpyro.sample("z", dist.Normal(loc, numpyro.param("scale", 0.3, constraint=dist.constraints.positive)))

    return guide


@pytest.mark.parametrize("program", [local_program, local_scaled_program])
@pytest.mark.parametrize("auto", [AutoNormal, AutoDiagonalNormal])
def test_automatic_guides_of_what_belongs_to_the_rows_are_refused(program, auto):
    """The rows of the first batch would lend their params to all others."""
    with pytest.raises(ValueError, match=r"site 'z' is drawn for each row|AutoContinuous guide does not support local"):
        quiet(program, LATENT_ROWS, guide=auto(program), steps=2, batch_size=100)
    assert quiet(program, LATENT_ROWS, guide=auto(program), steps=2).losses.shape == (2,)
    with pytest.raises(ValueError, match=r"site 'z' .* leave validation out"):
        quiet(program, LATENT_ROWS, guide=auto(program), steps=2, validation=LATENT_ROWS[:100])


def test_an_automatic_guide_with_plates_of_its_own_looks_up_by_index():
    create = lambda y: numpyro.plate("N", 2000, subsample_size=y.shape[0])
    guide = AutoNormal(local_scaled_program, create_plates=create)
    with pytest.raises(ValueError, match="site 'z' of the guide looks something up by the indices of plate 'N'"):
        quiet(local_scaled_program, LATENT_ROWS, guide=guide, steps=2, batch_size=100)


@pytest.mark.parametrize(("guide", "message"), [
    (local_guide(lambda y: contextlib.nullcontext()), "site 'z' of the guide depends on the rows"),
    (local_guide(lambda y: numpyro.plate("Z", 50), amortized=False), "site 'z' is drawn for each row, but not so by"),
    (local_guide(lambda y: numpyro.plate("M", y.shape[0])), "site 'z' stands under plate 'M' .* under plate 'N' in"),
    (local_guide(lambda y: numpyro.plate("M", 2000, subsample_size=y.shape[0])), "site 'z' stands under plate 'M'"),
])  # fmt: skip
def test_guides_without_the_models_plate_of_the_rows_are_refused(guide, message):
    with pytest.raises(ValueError, match=message):
        quiet(local_program, LATENT_ROWS, guide=guide, steps=2, batch_size=50)


def test_a_guide_whose_global_site_depends_on_the_batch_is_refused():
    def guide(x):
        numpyro.sample("mean", dist.Normal(numpyro.param("weight", 1.0) * x.mean(), 0.1))

    with pytest.raises(ValueError, match="site 'mean' of the guide depends on the rows"):
        quiet(unscaled_program, ROWS, guide=guide, steps=2, batch_size=100)


@pytest.mark.parametrize(("program", "plate"), [
    (local_program, lambda y: numpyro.plate("N", y.shape[0])),
    (local_scaled_program, lambda y: numpyro.plate("N", 2000, subsample_size=y.shape[0])),
])  # fmt: skip
def test_an_amortized_guide_weighs_what_the_model_does(program, plate):
    """The exact posterior of z is N(·, 1 / √(1/4 + 1/0.09))."""
    result = quiet(
        program,
        LATENT_ROWS,
        guide=local_guide(plate),
        steps=4000,
        batch_size=100,
        optimizer=optax.adam(optax.exponential_decay(0.03, 4000, 0.01)),
        objective=Trace_ELBO(num_particles=4),
    )
    params = {name: float(value) for name, value in result.params.items()}
    precision = 1 / 4 + 1 / 0.09
    assert params["scale"] * np.sqrt(precision) == pytest.approx(1, abs=0.1)
    assert params["weight"] == pytest.approx(1 / 0.09 / precision, abs=0.02)
    assert params["mean_loc"] == pytest.approx(float(LATENT_ROWS.mean()), abs=0.15)
    assert result.losses[-50:].mean() > 2.0  # a q that weighs less than p would seem better than the truth


@pytest.mark.parametrize("program", [scaled_program, unscaled_program])
@pytest.mark.parametrize("batch_size", [None, 1000])
def test_validation_is_per_row_and_weighs_what_the_data_would(program, batch_size):
    """1000 rows in place of 10,000: their likelihood ten times, the prior once, per 10,000 rows."""
    held_out = ROWS[:1000] + 1.0
    result = quiet(
        program, ROWS, guide=AutoDelta(program), steps=1, batch_size=batch_size, validation=held_out,
        optimizer=optax.sgd(0.0),
    )  # fmt: skip
    mean = result.params["mean_auto_loc"]
    want = -dist.Normal(mean, 1.0).log_prob(held_out).mean() - dist.Normal(0.0, 10.0).log_prob(mean) / NUM
    np.testing.assert_allclose(result.history["validation"], want, rtol=1e-4)


def test_validation_of_another_size_that_cannot_be_weighed_is_refused():
    program = mean_and(by_factor)
    with pytest.raises(ValueError, match=r"1000 of 10000 rows cannot stand for all: site 'f'.*leave validation out"):
        quiet(program, ROWS, guide=AutoDelta(program), steps=2, validation=ROWS[:1000])


def counted(x, mask):
    rate = numpyro.param("rate", 1.0, constraint=dist.constraints.positive)
    with numpyro.plate("N", x.shape[0]), numpyro.handlers.mask(mask=mask):
        numpyro.sample("x", dist.Poisson(rate), obs=x)


def one_hot(x, mask):
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample(
            "x", dist.Poisson(numpyro.param("rate", 2.0)).expand([1]).mask(mask[:, None]).to_event(1), obs=x[:, None]
        )


@pytest.mark.parametrize("program", [counted, one_hot])
@pytest.mark.parametrize("batch_size", [None, 10])
def test_programs_data_outside_the_support(program, batch_size):
    x, seen = jnp.arange(64) % 5, jnp.ones(64, bool)
    bad = x.at[61].set(-1)
    with pytest.raises(ValueError, match=r"^data: site 'x' observes \[?-1.*outside the support of its Poisson"):
        quiet(program, (bad, seen), steps=1, batch_size=batch_size)
    with pytest.raises(ValueError, match=r"^validation: site 'x' observes"):
        quiet(program, (x, seen), steps=1, batch_size=batch_size, validation=(bad, seen))
    result = quiet(program, (bad, seen.at[61].set(False)), steps=1, batch_size=batch_size)
    assert np.isfinite(result.losses).all()


def test_validation_of_other_rows_than_the_datas_is_refused():
    """A column [n, 1] would be broadcast against the plate, and a loss of n × n terms reported."""
    y = ROWS[:12]
    for program, data, other, message in (
        (scaled_program, y, y[:4, None], r"^validation: expected rows of shape \(\) as in data, got \(1,\)"),
        (scaled_program, y, y[:4].astype(int), "^validation: expected rows of floating-point numbers as in data, got"),
        (counted, (y.astype(int), y > 0), (y.astype(int), y), "^validation: expected rows of booleans as in data"),
    ):
        with pytest.raises(ValueError, match=message):
            quiet(program, data, guide=AutoDelta(program), steps=1, validation=other)
    conditional = real_nvp(2, layers=2, hidden=(4,), context_dim=1, key=KEY)
    with pytest.raises(ValueError, match=r"^validation: expected contexts \[N, 1\] beside x, got \(\d+,\)"):
        quiet(conditional, (X, X[:, :1]), steps=1, validation=(X, X[:, 0]))


def column_against_a_scalar(y):
    mean = numpyro.param("mean", 0.0)
    with numpyro.plate("N", len(y)):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def row_against_a_column(y):
    weight = numpyro.param("weight", jnp.zeros((1, 1)))
    with numpyro.plate("N", len(y)):
        numpyro.sample("y", dist.Normal(y @ weight, 1.0), obs=y[:, 0])


def without_a_plate(y):
    numpyro.sample("y", dist.Normal(y[:, 0] * numpyro.param("w", 0.0), 1.0), obs=y)


def six(shift):
    def program(y):
        with numpyro.plate("d", 6):
            numpyro.sample("y", dist.Normal(numpyro.param("m", 0.0) + shift * y, 1.0), obs=y)

    return program


@pytest.mark.parametrize(("shift", "message"), [
    (0.0 * jnp.ones(()), "^data: the program fails on 2 rows, and its plate 'd' has 6 elements"),
    (None, "^data: site 'y' observes 2 values in plate 'd', which has 6 elements"),
])  # fmt: skip
def test_a_plate_of_another_size_than_a_batch_is_named(shift, message):
    def without(y):
        with numpyro.plate("d", 6):
            numpyro.sample("y", dist.Normal(numpyro.param("m", 0.0), 1.0), obs=y)

    with pytest.raises(ValueError, match=message + r".*subsample_size=x.shape\[0\]"):
        quiet(without if shift is None else six(shift), ROWS[:6], steps=1, batch_size=2)


def test_a_guide_that_draws_nothing_is_told_which_site():
    for guide in (None, lambda x: None):
        with pytest.raises(ValueError, match=r"^site 'mean' of the model is neither observed nor drawn by the guide"):
            quiet(scaled_program, ROWS[:6], guide=guide, steps=1)


def test_numpyros_warnings_name_the_users_objective():
    def program(x):
        numpyro.sample("z", dist.Bernoulli(numpyro.param("p", 0.5)))

    with pytest.warns(UserWarning, match="SVI with Trace_ELBO loss does not support models with discrete"):
        quiet(program, ROWS[:2], guide=program, objective=Trace_ELBO(), steps=1)


@pytest.mark.parametrize("program", [column_against_a_scalar, row_against_a_column, without_a_plate])
def test_observations_that_would_count_more_than_once_are_refused(program):
    y = ROWS[:4, None]
    with pytest.raises(ValueError, match=r"^data: site 'y' has \[4, 4\] log-densities, but no plate on axis -2"):
        quiet(program, y, steps=1)


def test_a_support_that_depends_on_what_is_learned_is_not_judged():
    def program(x):
        top = numpyro.param("top", 10.0)
        with numpyro.plate("N", x.shape[0]):
            numpyro.sample("x", dist.Uniform(0.0, top), obs=x)

    assert quiet(program, jnp.linspace(1.0, 9.0, 32), steps=1, batch_size=8).losses.shape == (1,)


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
    best = -log_prob(result.model, held_out).mean()
    np.testing.assert_allclose(best, result.best.loss, rtol=1e-4)
    assert result.history["validation_step"].values[0] == 0
    np.testing.assert_allclose(result.history["validation"][0], -log_prob(model, held_out).mean(), rtol=1e-4)
    assert result.history["validation"].min() == pytest.approx(result.best.loss)


def test_the_last_state_is_validated_too():
    result = quiet(flow(), steps=5, batch_size=16, validation=X, optimizer=optax.adam(1e-2))  # less than an epoch
    assert result.history["validation_step"].values.tolist() == [0, 5]
    assert result.best.step == 5 and not np.array_equal(log_prob(result.model, X), log_prob(flow(), X))
    result = quiet(flow(), steps=15, batch_size=16, validation=X)  # two epochs and a half
    assert result.history["validation_step"].values.tolist() == [0, 6, 12, 15]


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


def test_a_power_ema_weighs_the_steps_by_a_power_of_their_number():
    average = PowerEMA(0.2)
    gamma, n = average.exponent, 40
    position, weight = np.polynomial.legendre.leggauss(200)
    u, density = (position + 1) / 2, weight / 2 * (gamma + 1) * ((position + 1) / 2) ** gamma
    assert np.sqrt(density @ u**2 - (density @ u) ** 2) == pytest.approx(0.2, rel=1e-4)
    assert PowerEMA(12**-0.5).exponent == pytest.approx(0.0, abs=1e-6)  # the mean of all steps
    model, steps = flow(), (1, 2, 3)
    paths = [partition(quiet(model, steps=k, optimizer=optax.sgd(0.1)).model)[0] for k in steps]
    got = partition(quiet(model, steps=3, optimizer=optax.sgd(0.1), ema=average).model)[0]
    weights = np.diff(np.arange(4.0) ** (gamma + 1)) / 3.0 ** (gamma + 1)
    for path in got:
        want = sum(w * params[path] for w, params in zip(weights, paths, strict=True))
        np.testing.assert_allclose(got[path], want, rtol=1e-4, atol=1e-6)
    with jax.enable_x64(True):
        held = np.eye(n)[0] * 0.0
        for i in range(n):
            share = float(average.share(jnp.int32(i)))
            held = (1 - share) * held + share * np.eye(n)[i]
        np.testing.assert_allclose(held, np.diff(np.arange(n + 1.0) ** (gamma + 1)) / n ** (gamma + 1), rtol=1e-9)


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
    assert float(log_prob(noisy.model, X).sum()) == float(log_prob(noisy.model, X).sum())
    with_mask = probgen.with_key(noisy.model, KEY)
    assert not np.allclose(log_prob(with_mask, X), log_prob(noisy.model, X))


def test_update_changes_state():
    x = jax.random.randint(KEY, (64, 2), 0, 3)
    result = quiet(probgen.mixtures.EM(probgen.mixtures.histogram((2,), 3), smoothing=0.0), x, steps=1)
    want = np.stack([np.bincount(x[:, d], minlength=3) / 64 for d in range(2)])
    np.testing.assert_allclose(jax.nn.softmax(result.model.model.position_logits[0]), want, rtol=1e-4)


def test_conditional_models_take_pairs():
    context = jnp.sign(jax.random.normal(KEY, (256, 1)))
    x = 2 * context + 0.1 * jax.random.normal(jax.random.key(9), (256, 2))
    model = flow(context_dim=1)
    held_out = (x[:64], context[:64])
    result = quiet(model, (x, context), steps=300, batch_size=64, optimizer=optax.adam(1e-2), validation=held_out)
    near, far = (log_prob(result.model(sign * jnp.ones(1)), 2 * jnp.ones(2)) for sign in (1, -1))
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
    (X[:, 0].at[3].set(jnp.nan), "finite numbers, got nan in row 3"),
    (np.array([[1.0, 2.0], [1e300, 0.0]]), r"fit float32 .*, got 1e\+300 in row 1"),
    (X[:0], "at least one row"),
    (X[:, :1], r"rows of shape \(2,\), got \(1,\)"),
    (X.astype(int), "floating-point numbers, got dtype int32; .* `levels=` in many recipes"),
    (np.array([["a", "b"]]), "expected numbers"),
    ([[1.0, 2.0], [3.0]], "expected numbers in rows of one length, got a ragged list"),
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
    (np.array([[0, 1], [2, 2**32 + 1]]), r"fit int32 .*, got 4294967297 in row 1"),
])  # fmt: skip
def test_data_outside_the_support(x, message):
    with pytest.raises(ValueError, match=message):
        quiet(probgen.mixtures.histogram((2,), 3), x, steps=1)


def test_small_integers_do_not_wrap_around():
    x = np.full((8, 2), 200, np.uint8)
    result = quiet(
        probgen.flows.on_levels(probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=KEY), (2,), 256), x, steps=2
    )
    assert np.isfinite(result.losses).all()


@pytest.mark.parametrize(("options", "message"), [
    ({}, "steps or epochs"),
    ({"steps": 1, "epochs": 1}, "steps or epochs"),
    ({"steps": 0}, "steps: expected an integer of at least 1, got 0"),
    ({"steps": 2.5}, "steps: expected an integer of at least 1, got 2.5"),
    ({"steps": True}, "steps: expected an integer of at least 1, got True"),
    ({"epochs": 0.5}, "epochs: expected an integer of at least 1, got 0.5"),
    ({"steps": 1, "batch_size": 97}, "expected 1 to 96"),
    ({"steps": 1, "batch_size": 0}, "batch_size: expected an integer of at least 1, got 0"),
    ({"steps": 1, "batch_size": 2.5}, "batch_size: expected an integer of at least 1, got 2.5"),
    ({"steps": 1, "validation": X, "validate_every": 1.5}, "validate_every: expected an integer of at least 1"),
    ({"steps": 1, "progress": None}, "progress: expected True, False or a name, got None"),
    ({"steps": 1, "learnable": 3}, "learnable: expected a function"),
    ({"steps": 1, "validation": X, "ema": True}, "ema: expected a decay"),
    ({"steps": 1, "guide": lambda x: None}, "guide"),
    ({"steps": 1, "patience": 3}, "patience: expected validation rows"),
    ({"steps": 1, "validate_every": 3}, "validate_every: expected validation rows"),
    ({"steps": 1, "validation": X, "patience": 0}, "patience: expected an integer of at least 1"),
    ({"steps": 1, "ema": 1.0}, "ema: expected a decay"),
    ({"steps": 1, "ema": "0.9"}, "ema: expected a decay in .0, 1., or a PowerEMA, got '0.9'"),
    ({"steps": 1, "ema": PowerEMA}, "ema: expected a decay"),
])  # fmt: skip
def test_unusable_options(options, message):
    with pytest.raises(ValueError, match=message):
        quiet(flow(), **options)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.29, float("nan"), "0.1"])
def test_an_average_of_another_width_is_refused(width):
    with pytest.raises(ValueError, match="relative_width: expected"):
        PowerEMA(width)


def test_lists_are_arrays_and_what_is_no_key_is_refused():
    assert quiet(flow(), X.tolist(), steps=1).losses == quiet(flow(), X, steps=1).losses
    with pytest.raises(ValueError, match=r"expected a jax.random.key, got 0"):
        quiet(flow(), steps=1, key=0)
    assert quiet(flow(), steps=1, key=jax.random.PRNGKey(0)).losses.shape == (1,)


def test_what_is_no_model_and_models_with_a_batch_shape_are_refused():
    conditional = Conditional(MLP(2, 2, hidden=(4,), key=KEY), NormalHead(), event_shape=())
    for model in (3.0, dist.Normal(0.0, 1.0), conditional):
        with pytest.raises(ValueError, match=rf"ConditionalModel or a numpyro program, got {type(model).__name__}"):
            quiet(model, steps=1)
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


@pytest.mark.parametrize("stepwise", [False, True])
def test_params_that_no_loss_sees_are_good_too(monkeypatch, stepwise):
    """A param overflows in the middle of a chunk, and the loss, which does not depend on it, stays finite."""
    monkeypatch.setattr(Loop, "_convolves_on_cpu", lambda self, carry, data: stepwise)
    monkeypatch.setattr("probgen.inference.training.clock._CHUNK_SECONDS", 1e9)

    def program(x):
        numpyro.param("unseen", 1.0)
        with numpyro.plate("N", len(x)):
            numpyro.sample("x", dist.Normal(numpyro.param("loc", 0.0), 1.0), obs=x)

    def explode(gradient, state, params):
        at = lambda name, g: jnp.where((state >= 20) & (name == "unseen"), jnp.inf, -0.1 * g)
        return {name: at(name, g) for name, g in gradient.items()}, state + 1

    optimizer = optax.GradientTransformation(lambda params: jnp.zeros((), int), explode)
    with pytest.warns(RuntimeWarning, match="step 21"):
        result = quiet(program, X[:, 0], steps=100, batch_size=16, optimizer=optimizer)
    assert len(result.losses) == 20 and result.params["unseen"] == 1.0
    same = quiet(program, X[:, 0], steps=20, batch_size=16, optimizer=optax.sgd(0.1))
    np.testing.assert_array_equal(result.params["loc"], same.params["loc"])


def interrupt_after(monkeypatch, calls, *, stepwise=False, times=1):
    """A real Ctrl-C after so many dispatches, when the old params are donated and the new ones have no name yet."""
    made, name = Loop.__init__, "_one" if stepwise else "_many"

    def init(self, *args):
        made(self, *args)
        dispatch, count = getattr(self, name), itertools.count(1)

        def interrupted(*args):
            result = dispatch(*args)
            if next(count) == calls:
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)
            return result

        setattr(self, name, interrupted)

    monkeypatch.setattr(Loop, "__init__", init)
    monkeypatch.setattr(Loop, "_convolves_on_cpu", lambda self, carry, data: stepwise)


@pytest.fixture
def python_handles_interrupts():
    """As in a terminal: a process that a shell starts in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_handles_interrupts")
@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("options", [{}, {"validation": X, "validate_every": 1000}])
def test_interrupted_returns_what_was_learned(monkeypatch, stepwise, options):
    interrupt_after(monkeypatch, 30 if stepwise else 3, stepwise=stepwise)
    handler = signal.getsignal(signal.SIGINT)
    result = quiet(flow(), steps=10_000, batch_size=16, **options)
    assert result.stopped == "interrupted" and 0 < len(result.losses) < 10_000
    if stepwise:
        assert len(result.losses) == 30
    assert not np.array_equal(log_prob(result.model, X), log_prob(flow(), X))
    assert result.params["model$params"] and all(np.isfinite(x).all() for x in jax.tree.leaves(result.params))
    if options:
        assert result.history["validation_step"].values[-1] == len(result.losses) == result.best.step
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("python_handles_interrupts")
def test_an_interrupt_during_validation(monkeypatch):
    look = Watch.look

    def interrupted(self, carry, step):
        lost = look(self, carry, step)
        if len(self.history) == 4:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)
        return lost

    monkeypatch.setattr(Watch, "look", interrupted)
    result = quiet(flow(), steps=100, validation=X, validate_every=1)
    assert result.stopped == "interrupted" and len(result.losses) == 3
    assert len(result.history["validation"]) == 4


@pytest.mark.usefixtures("python_handles_interrupts")
def test_a_second_interrupt_raises_at_once_and_threads_have_none(monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, 3, times=2)
        quiet(flow(), steps=10_000, batch_size=16)
    assert signal.getsignal(signal.SIGINT) is handler
    with ThreadPoolExecutor() as pool:
        assert pool.submit(quiet, flow(), steps=2).result().stopped == "finished"


def test_the_bar_shows_bits_per_dim_and_can_have_a_name(capsys):
    quiet(flow(), steps=3, progress="my flow", validation=X)
    text = capsys.readouterr().err
    assert "my flow" in text and "bits/dim" in text and "validation" in text
    quiet(flow(), steps=3)
    assert capsys.readouterr().err == ""


# One of each class and kind of density, as each has a training path of its own. That the gradients of every row reach
# every leaf is the law of test_gradients.py.
TRAINED = (
    "real_nvp, permuted, dropout",
    "cnf",
    "on_levels",
    "mixture",
    "made",
    "made, several orders",
    "made, completed",
    "made, ragged",
    "vae",
    "top_down_vae",
    "top-down posterior",
    "diagonal gaussian mixture",
    "vp_score",
    "masked_diffusion",
    "masked_diffusion, completed",
    "uniform_diffusion",
)


@pytest.mark.parametrize("row", [row for row in DISTRIBUTIONS if row.name in TRAINED], ids=lambda row: row.name)
def test_every_family_trains(row):
    """One fit of each family with learnable parts: every parameter moves, without a warning."""
    model = row.make()
    x = jax.jit(lambda model: model.sample(KEY, (64,)))(model)
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


def test_a_program_with_dropout_is_validated_and_returned_without():
    model = real_nvp(2, layers=2, hidden=(32,), dropout=0.5, key=KEY)

    def program(x):
        learned = probgen.module("flow", model)
        with numpyro.plate("N", x.shape[0]):
            numpyro.sample("x", learned, obs=x)

    options = {"steps": 60, "batch_size": 48, "optimizer": optax.adam(1e-2), "validate_every": 20}
    result = quiet(program, validation=X, **options)
    quiet_flow = probgen.from_params(result.params, "flow", model)
    np.testing.assert_allclose(result.best.loss, -log_prob(quiet_flow, X).mean(), rtol=1e-5)
    density = lambda program, params: numpyro.infer.util.log_density(
        numpyro.handlers.seed(numpyro.handlers.substitute(program, data=params), KEY), (X,), {}, {}
    )[0]
    found, noisy = jax.jit(lambda params: (density(result.model, {}), density(program, params)))(result.params)
    np.testing.assert_allclose(found, log_prob(quiet_flow, X).sum(), rtol=1e-5)
    assert abs(noisy - found) > 1.0


def test_a_transformed_base_of_numpyro_does_not_learn():
    model = Transformed(
        dist.Normal(jnp.zeros(2), 1.0).to_event(1), probgen.bijectors.Affine(jnp.zeros(2), jnp.zeros(2))
    )
    result = quiet(model, steps=1500, optimizer=optax.adam(1e-2))
    np.testing.assert_array_equal(result.model.base.base_dist.loc, 0.0)
    np.testing.assert_allclose(result.model.sample(KEY, (4000,)).mean(0), X.mean(0), atol=0.2)
    best = dist.Normal(X.mean(0), X.std(0)).to_event(1).log_prob(X).mean()
    np.testing.assert_allclose(result.model.log_prob(X).mean(), best, atol=1e-3)
