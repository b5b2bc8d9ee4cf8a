"""What there is to train: a numpyro program, its guide and its objective, for a model or for a user's program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpyro
from jax import Array
from numpyro.infer import ELBO, Trace_ELBO

from probgen.core import Rest, combine, evaluating, from_params, has_update, module, partition
from probgen.distributions import ConditionalModel, Distribution, observe
from probgen.inference.checks import check_events, check_observed
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
        update if has_update(model) else None,
        score,
        "=" if inner.exact else "≤",
        True,
    )


def program_task(
    program: Callable,
    guide: Callable | None,
    data: tuple[tuple, dict],
    held_out: tuple[tuple, dict] | None,
    batch_size: int,
    objective: ELBO | None,
    key: Array,
) -> Task:
    """Stochastic variational inference of a user's program, its plates made to weigh what the full data would."""
    guide = (lambda *args, **kwargs: None) if guide is None else guide
    rows = count(data)
    check_observed("data", program, data, batch_size)
    if held_out is not None:
        check_observed("validation", program, held_out, count(held_out))
    names = _plates(program, guide, data, held_out, batch_size, key)
    objective = PerRow(Trace_ELBO() if objective is None else objective, rows)

    def scaled(size: int) -> tuple[Callable, Callable]:
        """The program and the guide as `size` rows are to weigh, with `rest` as their first argument."""
        both = [ScalePlates(fn, found, rows / size) for fn, found in zip((program, guide), names, strict=True)]
        return _after_rest(both[0]), _after_rest(both[1])

    def score(params: dict, rest: Any, key: Array, /, *args: Any, **kwargs: Any) -> Array:
        with evaluating():
            return objective.loss(key, params, *scaled(count((args, kwargs))), rest, *args, **kwargs)

    return Task(
        *scaled(batch_size),
        objective,
        None,
        None,
        lambda params, rest: evaluating(numpyro.handlers.substitute(program, data=params)),
        None,
        score,
        "≤",
        False,
    )


def _after_rest(fn: Callable) -> Callable:
    return lambda rest, /, *args, **kwargs: fn(*args, **kwargs)


def _plates(
    program: Callable,
    guide: Callable,
    data: tuple[tuple, dict],
    held_out: tuple[tuple, dict] | None,
    batch_size: int,
    key: Array,
) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the plates of program and guide whose scale depends on how many rows there are."""
    rows = count(data)
    size = batch_size if batch_size < rows or held_out is None else count(held_out)
    if size == rows:
        return frozenset(), frozenset()
    first = jax.tree.map(lambda x: x[:batch_size], data)
    with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
        guide(*first[0], **first[1])  # an automatic guide sets itself up when it first runs, and not abstractly
    instead = "train on all rows at once (batch_size=None)" if size == batch_size else "leave validation out"
    return plates_to_scale(program, guide, *data, rows, size, instead)


def count(data: tuple[tuple, dict]) -> int:
    """The number of rows."""
    return jax.tree.leaves(data)[0].shape[0]


def is_model(model: Any) -> bool:
    """Whether `fit` got a distribution (or a conditional one), and not a numpyro program."""
    return isinstance(model, Distribution | ConditionalModel)
