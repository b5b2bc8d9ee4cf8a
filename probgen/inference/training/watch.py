"""What is looked at while training goes on: the loss of held-out rows, and metrics of the user's."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import evaluating
from probgen.distributions.events import Data, count, widened
from probgen.inference.training.checkpoint import flattened, restored
from probgen.inference.training.loop import Carry, Loop
from probgen.inference.training.result import Best
from probgen.inference.training.rows import CHUNK
from probgen.inference.training.task import Task

Metric = Callable[[Any, Array, Any], Any]  # (model, key, rows) -> a number or a vector
_TAKEN = ("train", "validation", "step", "validation_step", "train_bits_per_dim", "validation_bits_per_dim")
_NOT_TRACED = (TypeError, jax.errors.JAXIndexError)  # of what needs to know numbers, or returns other things


def check_metrics(metrics: Any, validation: Any) -> None:
    """Raise ValueError for what are no metrics, and for metrics without rows to measure on."""
    if metrics is None:
        return
    if not isinstance(metrics, Mapping):
        raise ValueError(f"metrics: expected {{name: function(model, key, rows)}}, got {type(metrics).__name__}")
    if validation is None:
        raise ValueError("metrics: expected validation rows to go with them, got none")
    taken = {*_TAKEN, *(f"{name}_dim" for name in metrics)}
    for name, metric in metrics.items():
        if not isinstance(name, str) or name in taken:
            raise ValueError(f"metrics: expected another name than {name!r}, which the history has")
        if not callable(metric) or isinstance(metric, type):
            raise ValueError(f"metrics[{name!r}]: expected a function of model, key and rows, got {metric!r}")


class Metrics:
    """The user's metrics on held-out rows; `history` has the values of each look."""

    def __init__(self, task: Task, metrics: Mapping[str, Metric], validation: Any, held_out: Data | None, key: Array):
        self.task, self.metrics, self.key = task, dict(metrics), key
        self.history: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
        if held_out is not None:
            args, kwargs = widened(held_out)
            self.rows = kwargs or (args if isinstance(validation, tuple) else args[0])
        self._compiled = {name: jax.jit(self._evaluated(metric)) for name, metric in metrics.items()}
        self._eager: set[str] = set()

    @property
    def numbers(self) -> dict[str, float]:
        """The latest values of those that are numbers."""
        return {name: float(value) for name, value in self.latest.items() if not value.ndim}

    @property
    def latest(self) -> dict[str, np.ndarray]:
        """The latest values of all."""
        return {name: values[-1] for name, values in self.history.items() if values}

    def _evaluated(self, metric: Metric) -> Callable:
        def evaluated(params: Any, rest: Any, key: Array, rows: Any) -> Any:
            with evaluating():
                return metric(self.task.finish(params, rest), key, rows)

        return evaluated

    def measure(self, params: Any, rest: Any) -> None:
        """Evaluate all."""
        for name, metric in self.metrics.items():
            value = np.asarray(self._value(name, metric, params, rest))
            if value.ndim > 1 or (not np.issubdtype(value.dtype, np.number) and value.dtype != bool):
                raise ValueError(
                    f"metrics[{name!r}]: expected a number or a vector, got {value.dtype} of shape {value.shape}"
                )
            self.history[name].append(value)

    def _value(self, name: str, metric: Metric, params: Any, rest: Any) -> Any:
        if name not in self._eager:
            try:
                return self._compiled[name](params, rest, self.key, self.rows)
            except _NOT_TRACED:
                self._eager.add(name)
        kept = jax.tree.map(lambda x: jnp.array(x, copy=True), (params, rest))  # what training goes on with is donated
        return self._evaluated(metric)(*kept, self.key, self.rows)


class Watch:
    """Validation: the loss of held-out rows, what else is measured, the best params so far, and patience."""

    def __init__(
        self,
        task: Task,
        loop: Loop,
        held_out: Data | None,
        block: int,
        every: int,
        patience: int | None,
        metrics: Metrics,
        key: Array,
    ):
        self.loop, self.held_out, self.every, self.patience, self.metrics = loop, held_out, every, patience, metrics
        self.history: list[tuple[int, float]] = []
        self.kept: tuple[Any, Any] | None = None
        size = 0 if held_out is None else _block_size(count(held_out), block)
        self._score = jax.jit(lambda params, rest, data: _mean_score(task, size, key, params, rest, data))

    @property
    def last(self) -> float | None:
        """The latest validation loss."""
        return self.history[-1][1] if self.history else None

    @property
    def best(self) -> Best | None:
        """The validation at which the loss was least."""
        if not self.history:
            return None
        numbers = [item for item in self.history if not np.isnan(item[1])] or self.history[-1:]
        return Best(*min(numbers, key=lambda item: item[1]))

    @property
    def has_lost_patience(self) -> bool:
        """Whether there were too many validations without a better one."""
        if self.patience is None or (best := self.best) is None:
            return False
        return sum(1 for at, _ in self.history if at > best.step) >= self.patience

    def due(self, step: int) -> bool:
        """Return whether it is time to look."""
        return self.held_out is not None and step % self.every == 0

    def steps_until_next(self, step: int) -> int:
        """Return how many steps may be taken before the next look."""
        return CHUNK if self.held_out is None else min(CHUNK, self.every - step % self.every)

    def _current(self, carry: Carry) -> tuple[Any, Any]:
        params = self.loop.svi.get_params(carry.svi) if self.loop.ema is None else carry.average
        return {**params, **(carry.svi.mutable_state or {})}, carry.rest

    def look(self, carry: Carry, step: int) -> None:
        """Validate, unless it was done at this step."""
        if self.held_out is None or (self.history and self.history[-1][0] == step):
            return
        params, rest = self._current(carry)
        loss = float(self._score(params, rest, self.held_out))
        self.metrics.measure(params, rest)
        self.history.append((step, loss))
        if self.best.step == step:  # type: ignore[union-attr]
            self.kept = jax.tree.map(lambda x: jnp.array(x, copy=True), (params, rest))

    def state(self) -> dict[str, np.ndarray]:
        """Return all that later looks depend on."""
        metrics = {name: np.stack(values) for name, values in self.metrics.history.items() if values}
        kept = {} if self.kept is None else flattened("kept", self.kept)
        return {**flattened("validation", np.array(self.history)), **flattened("metric", metrics), **kept}

    def resume(self, carry: Carry, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state, of a training of such a carry."""
        if "validation 0" in state:
            self.history = [(int(step), float(loss)) for step, loss in state["validation 0"]]
            self.kept = restored("kept", self._current(carry), state)
            found = restored("metric", {name: np.zeros(0) for name in self.metrics.history}, state)
            self.metrics.history = {name: list(values) for name, values in found.items()}

    def chosen(self, carry: Carry) -> tuple[Any, Any]:
        """Return the best params on validation data, or the last."""
        return self._current(carry) if self.kept is None else self.kept


def _mean_score(task: Task, size: int, key: Array, params: Any, rest: Any, data: Data) -> Array:
    """Return the loss of all rows, in blocks of `size` and what is left over."""
    rows = count(data)
    whole = rows // size

    def block(i: Array | int, start: Array | int, length: int) -> Array:
        part = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, length), data)
        return length * task.score(params, rest, jax.random.fold_in(key, i), widened(part))

    total = jnp.sum(lax.map(lambda i: block(i, i * size, size), jnp.arange(whole)))
    return (total if whole * size == rows else total + block(whole, whole * size, rows - whole * size)) / rows


def _block_size(rows: int, most: int) -> int:
    """Return the largest number of rows, at most `most`, of which blocks leave none over; or `most`, where that is
    small."""
    if rows <= most:
        return rows
    return next((size for size in range(most, most // 2, -1) if rows % size == 0), most)
