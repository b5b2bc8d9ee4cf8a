"""`fit`: one call that trains a model or a numpyro program."""

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import optax
from jax import Array
from numpyro.infer import ELBO, SVI

from probgen.core import check_instances, check_sizes, split_key
from probgen.distributions import Conditional
from probgen.distributions.events import Data, as_arrays, widened
from probgen.inference.training.averages import PowerEMA, as_average
from probgen.inference.training.checks import check_objective
from probgen.inference.training.interrupt import Interrupt
from probgen.inference.training.loop import CHUNK, Carry, Loop
from probgen.inference.training.progress import Progress
from probgen.inference.training.result import FitResult, make_history
from probgen.inference.training.task import ModelTask, ProgramTask, Task, is_model
from probgen.inference.training.watch import Metric, Metrics, Watch, check_metrics

_CHUNK_SECONDS = 1.0
_BLOCK = 256  # rows that are validated together, at least


def fit(
    model: Any,
    data: Any,
    *,
    guide: Callable | None = None,
    objective: ELBO | None = None,
    optimizer: optax.GradientTransformation | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    key: Array,
    validation: Any = None,
    validate_every: int | None = None,
    patience: int | None = None,
    metrics: Mapping[str, Metric] | None = None,
    ema: float | PowerEMA | None = None,
    num_particles: int | None = None,
    learnable: Callable[[str, Any], bool] | None = None,
    progress: bool | str = True,
) -> FitResult:
    """Train a distribution by maximum likelihood (or its bound), or a numpyro program by variational inference.

        loss = −1/N Σ_n log p(x_n)   or   −ELBO / N,   in nats per datum, minimized by numpyro's SVI

    Args:
        model: a probgen distribution of batch shape (), a `ConditionalModel` (then `data` is `(x, context)`), or a
            numpyro program; a program is called with the data: `program(*data)` for a tuple, `program(**data)` for a
            dict, else `program(data)`.
        data: arrays (or lists of numbers) with the rows on axis 0.
        guide: of a program, as for `SVI`; without it the program has no latent sites. A model with latent variables
            brings its own `program` and `guide`, and is trained as they would be.
        objective: as for `SVI`; `objectives.ELBO(num_particles)` by default.
        optimizer: an optax transformation, `optax.adam(1e-3)` by default; clip gradients there, and give params rates
            of their own by `optax.multi_transform` over `{site: value}`, where a model is
            `{"model$params": {path: array}}`.
        steps: how many; these or `epochs`.
        epochs: how many, each of ⌊N / batch_size⌋ steps, reshuffled each time.
        batch_size: rows in a step; all of them by default. A program's plates over the rows are scaled by N / B, so
            that batches reproduce what the full data would; a program or guide of which that cannot be said is refused.
        key: a `jax.random.key`.
        validation: rows like `data`; their loss (a program's as if they stood for all N) is taken at the start, every
            `validate_every` steps and at the end, and the params that were best are returned.
        validate_every: steps from one validation to the next; an epoch by default.
        patience: stop after so many validations without a better one.
        metrics: `{name: function(model, key, rows)}`, each a number or a vector, taken with the validation of the model
            at that moment (or the program with its params), without dropout, on all rows of `validation`: for
            `history`, numbers for the bar too. They are compiled where that is possible.
        ema: decay of an exponential moving average of the params, or a `PowerEMA`; the average is then what is
            validated and returned.
        num_particles: particles of the default objective, or of the bound where a model has only that (1 by default).
        learnable: `(path, leaf) -> bool`, narrows what learns of a model.
        progress: a bar with the running loss (bits/dim for discrete events); a string names it.

    Returns a `FitResult`: `params, state, losses` as numpyro's, and `model`, `history`, `best`, `stopped`. A
    non-finite loss or gradient stops with a RuntimeWarning that names the step, and the last good params are
    returned; so are those at a Ctrl-C (a second one raises KeyboardInterrupt). Raises ValueError for unusable data or
    arguments, data outside the support of a program's observed sites and options that would do nothing among them,
    before training compiles.

    >>> import jax, probgen
    >>> x = jax.random.normal(jax.random.key(0), (64, 2)) * 2 + 1
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(1))
    >>> result = fit(flow, x, steps=20, batch_size=32, key=jax.random.key(2), progress=False)
    >>> result.losses.shape, result.stopped
    ((20,), 'finished')
    """
    args, kwargs, rows = as_arrays("data", data)
    if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"optimizer: expected an optax transformation, got {type(optimizer).__name__}")
    batch_size = rows if batch_size is None else batch_size
    total = _total_steps(steps, epochs, rows, batch_size)
    _check_options(validation, validate_every, patience)
    average = as_average(ema)
    check_metrics(metrics, validation)
    check_instances(model=model, guide=guide, objective=objective)
    check_objective(objective)
    _check_choices(num_particles, learnable, progress)
    held_out = None if validation is None else _validation_data(validation, (args, kwargs))
    init_key, loop_key, score_key = split_key(key, (3,))
    block = max(batch_size, _BLOCK)
    chosen = objective, num_particles
    task = _task(model, guide, (args, kwargs), held_out, batch_size, block, chosen, learnable, init_key)
    svi = SVI(task.program, task.guide, optimizer or optax.adam(1e-3), task.objective)
    state = task.init(svi, init_key, widened(jax.tree.map(lambda x: x[:batch_size], (args, kwargs))))
    loop = Loop(task, svi, rows, batch_size, loop_key, average)
    measured = Metrics(task, metrics or {}, validation, held_out, score_key)
    every = validate_every or max(1, rows // batch_size)
    watch = Watch(task, loop, held_out, block, every, patience, measured, score_key)
    with Interrupt() as interrupt, Progress(total, task.event_size, progress) as bar:
        carry, losses, stopped = _train(loop, watch, (args, kwargs), loop.start(state), total, bar, interrupt)
        params, rest = watch.chosen(carry)
        history = make_history(losses, watch.history, measured.history, task.event_size, task.kind, stopped)
        trained = task.finish(params, rest)
    return FitResult(
        {name: value for name, value in params.items() if name not in (carry.svi.mutable_state or {})},
        carry.svi,
        losses,
        model=trained,
        history=history,
        best=watch.best,
        stopped=stopped,
    )


def _task(
    model: Any,
    guide: Callable | None,
    data: Data,
    held_out: Data | None,
    batch_size: int,
    block: int,
    objective: tuple[ELBO | None, int | None],
    learnable: Callable[[str, Any], bool] | None,
    key: Array,
) -> Task:
    """Return the model's or the program's task; raise ValueError for what applies to the other alone."""
    if is_model(model):
        if guide is not None:
            raise ValueError("guide: a distribution is its own program; write a numpyro program to use a guide")
        return ModelTask(model, data, held_out, batch_size, *objective, learnable)
    if learnable is not None:
        raise ValueError("learnable: a program says so itself, probgen.module(name, model, learnable=…)")
    return ProgramTask(_program(model), guide, data, held_out, batch_size, block, *objective, key)


def _program(model: Any) -> Callable:
    if not callable(model) or isinstance(model, dist.Distribution | Conditional):  # both of which are callable
        raise ValueError(
            "model: expected a probgen distribution, a ConditionalModel or a numpyro program, "
            f"got {type(model).__name__}"
        )
    return model


def _check_options(validation: Any, validate_every: int | None, patience: int | None) -> None:
    for name, value in [("validate_every", validate_every), ("patience", patience)]:
        if value is not None and validation is None:
            raise ValueError(f"{name}: expected validation rows to go with it, got none")
        if value is not None:
            check_sizes(**{name: value})


def _check_choices(num_particles: int | None, learnable: Any, progress: Any) -> None:
    if num_particles is not None:
        check_sizes(num_particles=num_particles)
    if learnable is not None and not callable(learnable):
        raise ValueError(f"learnable: expected a function of path and leaf, got {learnable!r}")
    if not isinstance(progress, bool | str):
        raise ValueError(f"progress: expected True, False or a name, got {progress!r}")


def _total_steps(steps: int | None, epochs: int | None, rows: int, batch_size: int) -> int:
    check_sizes(batch_size=batch_size)
    if batch_size > rows:
        raise ValueError(f"batch_size: expected 1 to {rows} (the rows of data), got {batch_size}")
    if (steps is None) == (epochs is None):
        raise ValueError(f"expected steps or epochs, got steps={steps}, epochs={epochs}")
    if steps is not None:
        check_sizes(steps=steps)
        return steps
    check_sizes(epochs=epochs)
    return epochs * (rows // batch_size)  # type: ignore[operator]


def _validation_data(validation: Any, data: Data) -> Data:
    args, kwargs, _ = as_arrays("validation", validation)
    structure: Any = jax.tree.structure(data)
    if structure != jax.tree.structure((args, kwargs)):
        raise ValueError("validation: expected the same structure of arrays as data")
    return args, kwargs


def _train(
    loop: Loop, watch: Watch, data: Data, carry: Carry, total: int, bar: Progress, interrupt: Interrupt
) -> tuple[Carry, np.ndarray, str]:
    """Take chunks of steps until the end, a failure, lost patience or Ctrl-C."""
    losses: list[np.ndarray] = []
    done, chunk, stopped = 0, 1, "finished"
    watch.look(carry, 0)
    while done < total:
        if interrupt.pending:
            stopped = "interrupted"
            break
        began = time.perf_counter()
        steps = min(chunk, total - done, watch.steps_until_next(done))
        carry, host = loop.run(carry, data, steps, lambda: interrupt.pending)
        good = int(carry.step) - done
        losses.append(host[:good])
        done += good
        bar.advance(good, host[:good], watch.last, watch.metrics.numbers)
        if good < len(host):
            stopped = _failure(host[good], done + 1)
            break
        if watch.due(done) and watch.look(carry, done):
            stopped = "patience"
            break
        if done > 1:  # the first chunk compiles
            chunk = int(
                np.clip(steps * _CHUNK_SECONDS / (time.perf_counter() - began + 1e-9), 1, min(CHUNK, 8 * chunk))
            )
    watch.look(carry, done)
    return carry, np.concatenate([*losses, np.zeros(0, np.float32)]), stopped


def _failure(loss: float, step: int) -> str:
    culprit = "gradient" if np.isfinite(loss) else "loss"
    stopped = f"non-finite {culprit} at step {step}"
    warnings.warn(f"fit stopped: {stopped}; the params before it are returned", RuntimeWarning, stacklevel=4)
    return stopped
