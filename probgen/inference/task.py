"""What there is to train: a numpyro program, its guide and its objective, for a model or for a user's program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpyro
from jax import Array
from numpyro.infer import ELBO, Trace_ELBO

from probgen.core import Rest, combine, from_params, module, partition
from probgen.distributions import ConditionalModel, Distribution, observe
from probgen.inference.checks import check_events
from probgen.inference.plates import ScalePlates, plates_to_scale


class Task(NamedTuple):
    """`program(rest, *args, **kwargs)` and `guide` with the same arguments are what SVI trains.

    `rest` is what of a model does not learn by gradients; `event_size` the numbers in an event, where there is one;
    `finish(params, rest)` the trained model or program; `update(params, rest, key, *args)` the new rest, if any;
    `score(params, rest, key, *args)` the loss of rows that are not trained on, in nats per row.
    """

    program: Callable
    guide: Callable
    objective: ELBO
    rest: Rest | None
    event_size: int | None
    finish: Callable[[dict, Any], Any]
    update: Callable | None
    score: Callable[..., Array]
    kind: str
    abstract_init: bool


class PerRow(ELBO):
    """An objective divided by the number of rows that it counts, so that losses and gradients are per datum."""

    def __init__(self, objective: ELBO, rows: int):
        self.objective, self.rows = objective, rows
        self.can_infer_discrete = objective.can_infer_discrete
        self.multi_sample_guide = getattr(objective, "multi_sample_guide", False)
        super().__init__(objective.num_particles, objective.vectorize_particles)

    def loss(self, *args: Any, **kwargs: Any) -> Any:
        """The objective's loss per row."""
        return self.objective.loss(*args, **kwargs) / self.rows

    def loss_with_mutable_state(self, *args: Any, **kwargs: Any) -> Any:
        """The objective's loss per row, and its state."""
        result = self.objective.loss_with_mutable_state(*args, **kwargs)
        return {**result, "loss": result["loss"] / self.rows}


def model_task(
    model: Any, args: tuple, batch_size: int, objective: ELBO | None, num_particles: int, learnable: Any
) -> Task:
    """Maximum likelihood, or of the bound, for a probgen distribution or a `ConditionalModel` of (x, context)."""
    conditional = isinstance(model, ConditionalModel)
    if len(args) != 1 + conditional:
        raise ValueError(f"data: expected {'(x, context)' if conditional else 'one array x'}, got {len(args)} arrays")
    inner = model.model if conditional else model
    if inner.batch_shape:
        raise ValueError(f"model: expected batch shape (), got {inner.batch_shape}; train each of them by itself")
    check_events("data", inner, args[0])
    params, rest = partition(model, learnable)
    given = lambda m, context: m(*context) if conditional else m

    def program(rest: Rest, x: Array, *context: Array) -> None:
        trained = module("model", combine(params, rest), learnable=learnable)
        with numpyro.plate("data", x.shape[0]):
            observe("x", given(trained, context), x, num_particles=num_particles)

    def score(params: dict, rest: Rest, key: Array, x: Array, *context: Array) -> Array:
        trained = combine(params.get("model$params", {}), rest)
        return -given(trained, context).log_prob_bound(key, x, num_particles)

    def update(params: dict, rest: Rest, key: Array, *args: Array) -> Rest:
        trained = combine(params.get("model$params", {}), rest)
        return partition(trained.update(*args, key), learnable)[1]

    return Task(
        program,
        lambda rest, *args: None,
        PerRow(Trace_ELBO() if objective is None else objective, batch_size),
        rest,
        max(1, jax.numpy.zeros(inner.event_shape).size),
        lambda params, rest: from_params(
            params, "model", combine(partition(model, learnable)[0], rest), learnable=learnable
        ),
        update if hasattr(model, "update") else None,
        score,
        "=" if inner.exact else "≤",
        True,
    )


def program_task(
    program: Callable,
    guide: Callable | None,
    args: tuple,
    kwargs: dict,
    rows: int,
    batch_size: int,
    objective: ELBO | None,
) -> Task:
    """Stochastic variational inference of a user's program, its plates made to weigh what the full data would."""
    guide = (lambda *args, **kwargs: None) if guide is None else guide
    objective = PerRow(Trace_ELBO() if objective is None else objective, rows)
    names = frozenset() if batch_size == rows else plates_to_scale(program, args, kwargs, rows, batch_size)

    def scaled(fn: Callable, factor: float) -> Callable:
        fn = ScalePlates(fn, names, factor) if names else fn
        return lambda rest, *args, **kwargs: fn(*args, **kwargs)

    def score(params: dict, rest: Any, key: Array, *args: Any, **kwargs: Any) -> Array:
        factor = rows / jax.tree.leaves((args, kwargs))[0].shape[0]
        pair = (scaled(program, factor), scaled(guide, factor))
        return objective.loss(key, params, *pair, rest, *args, **kwargs)

    return Task(
        scaled(program, rows / batch_size),
        scaled(guide, rows / batch_size),
        objective,
        None,
        None,
        lambda params, rest: numpyro.handlers.substitute(program, data=params),
        None,
        score,
        "≤",
        False,
    )


def is_model(model: Any) -> bool:
    """Whether `fit` got a distribution (or a conditional one), and not a numpyro program."""
    return isinstance(model, Distribution | ConditionalModel)
