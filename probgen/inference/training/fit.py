"""`fit`: one call that trains a model or a numpyro program."""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax import Array
from numpyro.infer import ELBO, SVI

from probgen.core import check_instances, split_key
from probgen.distributions.events import Data, widened
from probgen.inference.training.averages import PowerEMA, as_average
from probgen.inference.training.checkpoint import Checkpoints, Store, as_checkpoints
from probgen.inference.training.checks import check_objective
from probgen.inference.training.clock import Clock
from probgen.inference.training.devices import Devices
from probgen.inference.training.guards import check_loss, look
from probgen.inference.training.identity import identity
from probgen.inference.training.interrupt import Interrupt
from probgen.inference.training.loop import Carry, Loop
from probgen.inference.training.options import (
    as_optimizer,
    as_source,
    check_choices,
    check_looks,
    steps_between_looks,
    total_steps,
    validation_data,
)
from probgen.inference.training.progress import Progress
from probgen.inference.training.result import FitResult, make_history
from probgen.inference.training.stream import Rows, as_rows
from probgen.inference.training.task import ModelTask, ProgramTask, Task, is_model
from probgen.inference.training.training import Callback, Training
from probgen.inference.training.watch import Metric, Metrics, Watch, check_metrics

_BLOCK = 256  # rows that are validated together, at least


def fit(
    model: Any,
    data: Any,
    *,
    guide: Callable | None = None,
    objective: ELBO | None = None,
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | optax.Schedule | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    key: Array,
    validation: Any = None,
    validate_every: int | None = None,
    patience: int | None = None,
    metrics: Mapping[str, Metric] | None = None,
    ema: float | PowerEMA | None = None,
    num_particles: int | None = None,
    learnable: Callable[[str, Any], bool] | None = None,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | Checkpoints | None = None,
    resume: bool = False,
    mesh: jax.sharding.Mesh | int | None = None,
    progress: bool | str = True,
) -> FitResult:
    """Train a distribution by maximum likelihood (or its bound), or a numpyro program by variational inference.

        loss = −1/N Σ_n log p(x_n)   or   −ELBO / N,   in nats per datum, minimized by numpyro's SVI

    Args:
        model: a probgen distribution of batch shape (), a `ConditionalModel` (then `data` is `(x, context)`), or a
            numpyro program; a program is called with the data: `program(*data)` for a tuple, `program(**data)` for a
            dict, else `program(data)`. Or the `FitResult` of one of them, which goes on from its params; the optimizer
            begins anew.
        data: arrays (or lists of numbers) with the rows on axis 0. Or what memory does not hold, and a thread reads
            ahead of the steps: arrays in files, `np.load(file, mmap_mode="r")`; a source with `len(source)` and
            `source[i]`, one row or a tuple or dict, as grain's are, `probgen.data.ImageFolder` and `ParquetRows`; an
            iterable of batches that begins anew in each epoch.
        guide: of a program, as for `SVI`; without it the program has no latent sites. A model with latent variables
            brings its own `program` and `guide`, and is trained as they would be.
        objective: as for `SVI`; `objectives.ELBO(num_particles)` by default.
        optimizer: an optax transformation, `optax.adam(1e-3)` by default; clip gradients there, and give params rates
            of their own by `optax.multi_transform` over `{site: value}`, where a model is
            `{"model$params": {path: array}}`.
        learning_rate: of Adam, a number or an optax schedule, in place of `optimizer`.
        steps: how many; these, `epochs` or `minutes`.
        epochs: how many, each of ⌊N / batch_size⌋ steps, reshuffled each time. What is read on the way is shuffled
            within windows of some 64 MB, whose blocks come from all over it; an iterable has its own order, unless
            `probgen.inference.ShuffledBatches` gives it another one.
        minutes: of wall clock, after which training stops, alone or beside `steps` or `epochs`, whichever are over
            first; a resumed training has as many again.
        batch_size: rows in a step; all of them by default, where they are in memory. A program's plates over the rows
            are scaled by N / B, so that batches reproduce what the full data would; a program or guide of which that
            cannot be said is refused.
        key: a `jax.random.key`.
        validation: rows like `data`; their loss (a program's as if they stood for all N) is taken at the start, every
            `validate_every` steps and at the end, and the params that were best are returned.
        validate_every: steps from one validation, and call of `callback`, to the next; an epoch by default.
        patience: stop after so many validations without a better one.
        metrics: `{name: function(model, key, rows)}`, each a number or a vector, taken with the validation of the model
            at that moment (or the program with its params), without dropout, on all rows of `validation`: for
            `history`, numbers for the bar too. They are compiled where that is possible.
        ema: decay of an exponential moving average of the params, or a `PowerEMA`; the average is then what is
            validated and returned.
        num_particles: particles of the default objective, or of the bound where a model has only that (1 by default).
        learnable: `(path, leaf) -> bool`, narrows what learns of a model.
        callback: `function(status)` of a `TrainingStatus`, called every `validate_every` steps; training stops where it
            returns True.
        checkpoint: a folder for checkpoints, or `Checkpoints` that say how often one is written.
        resume: go on from the newest checkpoint in that folder, if there is one: what is returned is bit for bit what
            the same call, uninterrupted, would have returned. One of another model, optimizer, key or other data is
            refused, and so is a folder that has some where this is False. Data are known by a thousand of their rows,
            where they are read on the way by some hundred, and those of an iterable by its first batch. Numbers of an
            optimizer, and what is in a callback, are not in a checkpoint: give the same.
        mesh: devices, or how many, over which the rows of each batch are spread, all axes of a mesh taken together; the
            params are on each of them while training goes on.
        progress: a bar with the running loss (bits/dim of a model, nats of a program); a string names it.

    Returns a `FitResult`: `params, state, losses` as numpyro's, and `model`, `history`, `best`, `stopped`. How far the
    guide of a program can be trusted is said by `probgen.evaluation.psis(result, data=data, key=key)`. A `DataWarning`
    names columns on which the density of a continuous model grows without bound, or which lie far from where a flow
    begins, before training; and after it a loss that the rounding of the rows does not allow. A non-finite loss or
    gradient stops with a RuntimeWarning that names the step, and the last good params are returned; so are those at a
    Ctrl-C (a second one raises KeyboardInterrupt). Raises ValueError for unusable data or arguments, data outside the
    support of a program's observed sites and options that would do nothing among them, before training compiles; of
    rows that are read on the way, when they are first read.

    >>> import jax, probgen
    >>> x = jax.random.normal(jax.random.key(0), (64, 2)) * 2 + 1
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(1))
    >>> result = fit(flow, x, steps=20, batch_size=32, key=jax.random.key(2), progress=False)
    >>> result.losses.shape, result.stopped
    ((20,), 'finished')
    """
    clock = Clock(minutes)
    checkpoints = as_checkpoints(checkpoint, resume)
    rows = as_rows(data, batch_size)
    optimizer = as_optimizer(optimizer, learning_rate)
    total = total_steps(steps, epochs, minutes, rows)
    rows.expect(total)
    devices = Devices(mesh, rows.batch_size)
    check_looks(validation, validate_every, patience, callback)
    every = steps_between_looks(validate_every, validation is not None or callback is not None, rows)
    average = as_average(ema)
    check_metrics(metrics, validation)
    check_instances(model=model, guide=guide, objective=objective)
    check_objective(objective)
    check_choices(num_particles, learnable, progress)
    model, guide, begun = as_source(model, guide)
    held_out = None if validation is None else validation_data(validation, rows.first)
    init_key, loop_key, score_key = split_key(key, (3,))
    block = max(rows.batch_size, _BLOCK)
    task = _task(model, guide, rows, held_out, block, (objective, num_particles), learnable, init_key, begun)
    floor = look(model, rows.some, task.kind) if is_model(model) else None
    svi = SVI(task.program, task.guide, optimizer, task.objective)
    state = task.init(svi, init_key, widened(rows.first))
    order_key, update_key = split_key(loop_key, (2,))
    loop = Loop(task, svi, rows.batches(order_key, devices), update_key, average, devices)
    measured = Metrics(task, metrics or {}, validation, devices.everywhere(held_out), score_key)
    watch = Watch(task, loop, devices.everywhere(held_out), block, every, patience, measured, score_key)
    carry = loop.start(state)
    about = {} if checkpoints is None else identity(loop, carry, key, rows, held_out, metrics or ())
    store = contextlib.nullcontext() if checkpoints is None else Store(checkpoints, resume, about)
    with Interrupt() as interrupt, Progress(total, task.event_size, progress) as bar, rows, store as opened:
        training = Training(loop, watch, rows, total, clock, callback, bar, interrupt)
        carry, stopped = training.run(carry, opened)
        check_loss(floor if rows.holds_all else None, training.losses, rows.epoch_steps or 1)
        return _result(training, carry, stopped, None if is_model(model) else (model, guide))


def _result(
    training: Training, carry: Carry, stopped: str, source: tuple[Callable, Callable | None] | None
) -> FitResult:
    task, watch, losses = training.loop.task, training.watch, training.losses
    (params, rest), state = training.loop.devices.home((watch.chosen(carry), carry.svi))
    return FitResult(
        {name: value for name, value in params.items() if name not in (state.mutable_state or {})},
        state,
        losses,
        model=task.finish(params, rest),
        history=make_history(losses, watch.history, watch.metrics.history, task.event_size, task.kind, stopped),
        best=watch.best,
        stopped=stopped,
        source=source,
    )


def _task(
    model: Any,
    guide: Callable | None,
    rows: Rows,
    held_out: Data | None,
    block: int,
    objective: tuple[ELBO | None, int | None],
    learnable: Callable[[str, Any], bool] | None,
    key: Array,
    begun: FitResult | None,
) -> Task:
    """Return the model's or the program's task; raise ValueError for what applies to the other alone."""
    if is_model(model):
        if guide is not None:
            raise ValueError("guide: a distribution is its own program; write a numpyro program to use a guide")
        return ModelTask(model, rows, held_out, *objective, learnable)
    if learnable is not None:
        raise ValueError("learnable: a program says so itself, probgen.module(name, model, learnable=…)")
    return ProgramTask(model, guide, rows, held_out, block, *objective, key, begun)
