"""`fit` that is stopped and goes on: minutes, callbacks, checkpoints, and from the result of another."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import orbax.checkpoint as orbax
import pytest
from numpyro.infer.autoguide import AutoNormal

import probgen
from probgen import fit
from probgen.inference import Checkpoints, TrainingStatus, estimators, objectives
from probgen.inference.training import clock
from probgen.inference.training.loop import Loop

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (96, 2)) * jnp.array([2.0, 0.5]) + 1.0
INTEGERS = jax.random.bernoulli(jax.random.key(1), 0.4, (96, 6)).astype(jnp.uint8)


def flow(seed=2, **kwargs):
    return probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(seed), **kwargs)


def quiet(model, data=X, **kwargs):
    return fit(model, data, **{"key": KEY, "progress": False, "batch_size": 16, **kwargs})


def same(one, other):
    """All that the two results have is equal, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, (one.params, one.losses), (other.params, other.losses))
    jax.tree.map(np.testing.assert_array_equal, one.state.optim_state, other.state.optim_state)
    assert one.history.identical(other.history)
    assert one.best == other.best and one.stopped == other.stopped


def lines(x, y):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    noise = numpyro.param("noise", 1.0, constraint=dist.constraints.positive)
    kind = numpyro.sample("kind", dist.Bernoulli(0.4))
    with numpyro.plate("N", len(x)):
        numpyro.sample("y", dist.Normal(slope * x + kind, noise), obs=y)


@functools.partial(estimators.use, estimators={"kind": estimators.ScoreFunction(estimators.MovingAverage())})
def guide(x, y):
    numpyro.sample("slope", dist.Normal(numpyro.param("loc", 0.1), 0.3))
    numpyro.sample("kind", dist.Bernoulli(logits=numpyro.param("logits", jnp.zeros(()))))


LINES = {"x": X[:, 0], "y": X[:, 0] * 0.3 + X[:, 1]}
SPREAD = {"spread": lambda model, key, rows: model.sample(key, (20,)).std(0), "one": lambda model, key, rows: 1}
TRAININGS = {
    "a flow": lambda: (flow(dropout=0.1), X, {"validation": X[:40], "validate_every": 7, "metrics": SPREAD}),
    "with an average": lambda: (flow(), X, {"ema": 0.9, "validation": X, "patience": 100}),
    "all rows": lambda: (flow(), X, {"batch_size": None, "optimizer": optax.sgd(1e-2, momentum=0.9)}),
    "a latent variable": lambda: (
        probgen.latent.vae((6,), 2, latent_dim=1, hidden=(4,), key=KEY),
        INTEGERS,
        {"validation": INTEGERS[:8]},
    ),
    "a schedule": lambda: (
        probgen.latent.vae((6,), 2, latent_dim=1, hidden=(4,), key=KEY),
        INTEGERS,
        {"objective": objectives.Beta(objectives.ELBO(), objectives.cyclic(20))},
    ),
    "with a state": lambda: (
        probgen.latent.vq_vae((6,), 2, codes=4, code_shape=(2,), dim=2, hidden=(4,), key=KEY),
        INTEGERS,
        {},
    ),
    "a program": lambda: (lines, LINES, {"guide": guide, "learning_rate": optax.cosine_decay_schedule(0.1, 60)}),
    "an automatic guide": lambda: (
        lambda x: numpyro.sample("x", dist.Normal(numpyro.sample("loc", dist.Normal(0, 1)), 1).expand([len(x)]), obs=x),
        X[:, 0],
        {"guide": AutoNormal(lambda x: numpyro.sample("loc", dist.Normal(0, 1))), "batch_size": None},
    ),
}


# -- checkpoints


@pytest.mark.parametrize("name", TRAININGS)
def test_a_resumed_training_equals_one_that_went_through(name, tmp_path):
    """Twice interrupted, at steps that are no epochs' ends, where the last validation would not have been."""
    model, data, options = TRAININGS[name]()
    whole = quiet(model, data, steps=60, **options)
    for steps in (17, 41, 60):
        model, data, options = TRAININGS[name]()
        resumed = quiet(model, data, steps=steps, checkpoint=tmp_path / "night", resume=True, **options)
    same(whole, resumed)
    same(whole, quiet(model, data, steps=60, checkpoint=tmp_path / "night", resume=True, **options))  # no step is left


@pytest.mark.parametrize("stepwise", [False, True])
def test_chunks_and_checkpoints_do_not_show(monkeypatch, stepwise, tmp_path):
    monkeypatch.setattr(Loop, "_convolves_on_cpu", lambda self, carry, data: stepwise)
    whole = quiet(flow(), steps=50)
    monkeypatch.setattr(clock, "_CHUNK_SECONDS", 1e-9)  # every chunk has one step
    quiet(flow(), steps=20, checkpoint=Checkpoints(tmp_path, every=3))
    monkeypatch.setattr(clock, "_CHUNK_SECONDS", 1e9)
    same(whole, quiet(flow(), steps=50, checkpoint=Checkpoints(tmp_path, every=8), resume=True))


def test_the_newest_are_kept_and_an_unfinished_one_is_none(tmp_path):
    quiet(flow(), steps=31, checkpoint=Checkpoints(tmp_path, every=10, keep=2))
    there = lambda: sorted(path.name for path in tmp_path.iterdir())
    assert there() == ["30", "31"]
    (tmp_path / "40.orbax-checkpoint-tmp").mkdir()
    resumed = quiet(flow(), steps=33, checkpoint=Checkpoints(tmp_path, every_minutes=1e-9, keep=1), resume=True)
    assert there() == ["33"] and len(resumed.losses) == 33


def test_a_damaged_checkpoint_is_named(tmp_path):
    quiet(flow(), steps=20, checkpoint=Checkpoints(tmp_path, every=10))
    for file in (tmp_path / "20" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(ValueError, match=r"^checkpoint: .*20 is damaged; without that folder .* \(\w+\)$"):
        quiet(flow(), steps=30, checkpoint=tmp_path, resume=True)
    (tmp_path / "20").rename(tmp_path.parent / "damaged")
    same(quiet(flow(), steps=30), quiet(flow(), steps=30, checkpoint=tmp_path, resume=True))


def test_a_full_disk_is_no_end(tmp_path, monkeypatch):
    """As orbax tells of it, at the next checkpoint or when it is closed."""
    save, close = orbax.CheckpointManager.save, orbax.CheckpointManager.close

    def full(self, step, *args, **kwargs):
        if 20 <= step < 60:
            raise OSError("No space left on device")
        return save(self, step, *args, **kwargs)

    def fail(self):
        close(self)
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.warns(RuntimeWarning) as warned:
        patch.setattr(orbax.CheckpointManager, "save", full)
        patch.setattr(orbax.CheckpointManager, "close", fail)
        result = quiet(flow(), steps=100, checkpoint=Checkpoints(tmp_path, every=10, keep=9))
    said = f"checkpoint: {tmp_path} cannot be written to: No space left on device"
    assert [str(warning.message) for warning in warned] == [said] * 5
    assert sorted(os.listdir(tmp_path)) == ["10", "100", "60", "70", "80", "90"]
    same(result, quiet(flow(), steps=100, checkpoint=tmp_path, resume=True))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    quiet(flow(), steps=3, validation=X, metrics=SPREAD, checkpoint=folder)
    return folder


@pytest.mark.parametrize(("other", "message"), [
    ({"model": flow(3)}, r"another beginning: a weighted sum of params\['model\$params'\].* is .* there and .* here$"),
    ({"model": probgen.flows.real_nvp(2, layers=2, hidden=(9,), key=KEY)},
     r"another model: .*bias'\] is float32\[2, 8\] there and float32\[2, 9\] here$"),
    ({"model": flow(activation=jax.nn.gelu)}, "another model or objective: the loss beside the first params is"),
    ({"data": X[:80]}, r"another data: array 0 is float32\[96, 2\] with checksum \d+ there and float32\[80, 2\] with"),
    ({"data": X.at[95, 1].add(1e-3)}, r"another data: array 0 is float32\[96, 2\] with checksum"),
    ({"batch_size": 8}, "another batch size: batch_size is 16 there and 8 here"),
    ({"optimizer": optax.sgd(0.1)}, r"another optimizer: .* is int32\[\] there and missing here"),
    ({"key": jax.random.key(1)}, r"another key: key is \[0, 0\] there and \[0, 1\] here"),
    ({"validation": X[:40]}, r"another validation: array 0 is float32\[96, 2\]"),
    ({"validation": None, "metrics": None}, "another validation: array 0 is .* there and missing here"),
    ({"metrics": {"one": SPREAD["one"]}}, "another metrics: spread is measured there and missing here"),
    ({"ema": 0.9}, r"another average: ema is None there and Decay\(decay=0.9\) here"),
    ({"resume": False}, "has checkpoints already: go on from them by resume=True, or give another folder"),
])  # fmt: skip
def test_what_is_of_another_training_is_refused(night, other, message):
    before = sorted(night.rglob("*"))
    options = {"model": flow(), "validation": X, "metrics": SPREAD, "resume": True, **other}
    with pytest.raises(ValueError, match=rf"^checkpoint: .*{message}"):
        quiet(steps=6, checkpoint=night, **options)
    assert sorted(night.rglob("*")) == before


def test_numbers_of_the_optimizer_are_the_users(night):
    options = {"steps": 3, "validation": X, "metrics": SPREAD, "learning_rate": 0.5}
    assert len(quiet(flow(), checkpoint=night, resume=True, **options).losses) == 3


def test_fewer_steps_than_were_taken_are_refused(night):
    with pytest.raises(ValueError, match="steps: expected at least 3, which the checkpoint has taken already, got 2"):
        quiet(flow(), steps=2, validation=X, metrics=SPREAD, checkpoint=night, resume=True)


def test_a_training_without_steps_left_is_over_for_the_reason_it_was(tmp_path):
    options = {"steps": 90, "validation": X, "validate_every": 5, "patience": 2, "learning_rate": 3.0}
    whole = quiet(flow(), checkpoint=tmp_path / "patience", **options)
    assert whole.stopped == "patience" and len(whole.losses) < 90
    same(whole, quiet(flow(), checkpoint=tmp_path / "patience", resume=True, **options))
    options = {"steps": 90, "validate_every": 5, "callback": lambda status: status.step >= 15}
    whole = quiet(flow(), checkpoint=tmp_path / "callback", **options)
    assert whole.stopped == "callback" and len(whole.losses) == 15
    same(whole, quiet(flow(), checkpoint=tmp_path / "callback", resume=True, **options))


def test_it_goes_on_after_a_failure_at_the_last_good_step(tmp_path):
    explode = optax.chain(optax.sgd(0.1), optax.scale_by_schedule(lambda step: jnp.where(step < 20, 1.0, jnp.inf)))
    with pytest.warns(RuntimeWarning, match="step 21"):
        quiet(flow(), steps=30, optimizer=explode, checkpoint=tmp_path)
    gentle = optax.chain(optax.sgd(0.1), optax.scale_by_schedule(lambda step: 1.0))
    resumed = quiet(flow(), steps=30, optimizer=gentle, checkpoint=tmp_path, resume=True)
    same(quiet(flow(), steps=30, optimizer=gentle), resumed)


@pytest.mark.parametrize(("options", "message"), [
    ({"resume": True}, "resume: expected a checkpoint folder to go on from, got none"),
    ({"resume": 1, "checkpoint": "night"}, "resume: expected True or False, got 1"),
    ({"checkpoint": 3}, "checkpoint: expected a folder, or Checkpoints of one, got 3"),
    ({"checkpoint": ""}, "checkpoint: expected a folder, or Checkpoints of one, got ''"),
    ({"checkpoint": __file__}, "checkpoint: expected a folder, got the file .*test_interrupted.py"),
    ({"minutes": 0}, "minutes: expected a positive number, got 0"),
    ({"minutes": "1"}, "minutes: expected a positive number, got '1'"),
    ({"callback": 3}, "callback: expected a function of a TrainingStatus, got 3"),
    ({"learning_rate": 0.0}, "learning_rate: expected a positive number, got 0.0"),
    ({"learning_rate": "fast"}, "learning_rate: expected a positive number, got 'fast'"),
    ({"learning_rate": 0.1, "optimizer": optax.sgd(0.1)}, "learning_rate: an optimizer has its own"),
])  # fmt: skip
def test_unusable_options(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        quiet(flow(), steps=1, **options)


@pytest.mark.parametrize(("options", "message"), [
    ({"every": 0}, "every: expected an integer of at least 1, got 0"),
    ({"every_minutes": -1.0}, "every_minutes: expected a positive number, got -1.0"),
    ({"keep": 0}, "keep: expected an integer of at least 1, got 0"),
])  # fmt: skip
def test_checkpoints_of_no_number_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Checkpoints("night", **options)


def test_killed_at_random_moments_it_ends_where_it_would_have():
    script = Path(__file__).parent.parent / "benchmarks" / "interrupted.py"
    command = [sys.executable, str(script), "--kills", "3", "--steps", "300"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.count("kill ") == 3 and "3 kills, 32 arrays, 300 losses: 0 arrays differ" in out


# -- minutes and callbacks


@pytest.mark.parametrize("options", [{}, {"epochs": 1000}, {"steps": 1000}])
def test_minutes_end_it_and_the_last_validation_is_made(monkeypatch, options):
    """By a clock that a step of one minute moves on."""
    now = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    take = Loop.run

    def run(self, carry, data, steps, stop):
        now[0] += 60.0 * steps
        return take(self, carry, data, steps, stop)

    monkeypatch.setattr(Loop, "run", run)
    result = quiet(flow(), minutes=5, validation=X, validate_every=3, **options)
    assert result.stopped == "minutes" and len(result.losses) == 5
    assert result.history["validation_step"].values.tolist() == [0, 3, 5]
    np.testing.assert_array_equal(result.losses, quiet(flow(), steps=5).losses)


def test_steps_that_are_over_before_the_minutes():
    assert quiet(flow(), minutes=1e6, steps=3).stopped == "finished"
    with pytest.raises(ValueError, match="expected steps or epochs, or minutes, got steps=1, epochs=1, minutes=1"):
        quiet(flow(), minutes=1, steps=1, epochs=1)


def test_a_callback_sees_the_means_and_can_stop():
    seen = []
    options = {"steps": 60, "validation": X, "validate_every": 7, "metrics": SPREAD}
    whole = quiet(flow(), callback=seen.append, **options)
    assert whole.stopped == "finished" and [status.step for status in seen] == list(range(7, 61, 7))
    assert all(isinstance(status, TrainingStatus) for status in seen)
    for i, status in enumerate(seen):
        np.testing.assert_allclose(status.loss, whole.losses[7 * i : 7 * i + 7].mean(), rtol=1e-6)
        assert status.validation == whole.history["validation"].values[i + 1]
        np.testing.assert_array_equal(status.metrics["spread"], whole.history["spread"][i + 1])
    stopped = quiet(flow(), callback=lambda status: status.step == 14, **options)
    assert stopped.stopped == "callback" and len(stopped.losses) == 14
    np.testing.assert_array_equal(stopped.losses, whole.losses[:14])


def test_a_callback_without_validation_is_called_every_epoch():
    seen = []
    quiet(flow(), epochs=2, callback=lambda status: seen.append(status))
    assert [(status.step, status.validation, status.metrics) for status in seen] == [(6, None, {}), (12, None, {})]


# -- from where another has ended


def test_a_model_goes_on_from_its_result():
    first = quiet(flow(), steps=10)
    same(quiet(first.model, steps=7, key=jax.random.key(5)), quiet(first, steps=7, key=jax.random.key(5)))


def test_a_program_goes_on_from_its_params_and_what_it_keeps():
    first = quiet(lines, LINES, guide=guide, steps=40, learning_rate=0.05, batch_size=None)
    second = quiet(first, LINES, steps=1, optimizer=optax.sgd(1e-9), batch_size=None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), second.params, first.params)
    weight = lambda result: float(result.state.mutable_state["kind$estimator"]["weight"])
    assert weight(first) == pytest.approx(1 - 0.9**40) and weight(second) == pytest.approx(1 - 0.9**41)
    with pytest.raises(ValueError, match="guide: a FitResult brings the one that it was trained with"):
        quiet(first, LINES, guide=guide, steps=1)


def test_a_program_that_was_validated_goes_on_without_being_evaluated():
    """It has dropout again, and the params that were best."""

    def program(x):
        with numpyro.plate("N", len(x)):
            numpyro.sample("x", probgen.module("flow", flow(dropout=0.5)), obs=x)

    first = quiet(program, steps=20, validation=X)
    second = quiet(first, steps=1, validation=X, optimizer=optax.sgd(0.0))
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert second.best.loss == first.best.loss and second.losses[0] != second.best.loss


def test_params_of_other_rows_are_refused():
    def program(x):
        with numpyro.plate("N", len(x)):
            numpyro.sample("x", dist.Normal(numpyro.param("own", jnp.zeros(len(x))), 1.0), obs=x)

    first = quiet(program, X[:, 0], steps=1, batch_size=None)
    with pytest.raises(ValueError, match=r"^model: param 'own' was trained in shape \(96,\), .* it has \(50,\)"):
        quiet(first, X[:50, 0], steps=1, batch_size=None)


def test_a_learning_rate_is_adams():
    for rate in (0.05, optax.linear_schedule(0.1, 0.0, 20)):
        same(quiet(flow(), steps=20, learning_rate=rate), quiet(flow(), steps=20, optimizer=optax.adam(rate)))
