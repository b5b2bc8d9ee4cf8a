"""What there is to train: a numpyro program, its guide and its objective, for a model or for a user's program.

`program(rest, *args, **kwargs)` and `guide` with the same arguments are what SVI trains; `rest` is what of a model does
not learn by gradients, and `updates` tells whether `update` changes it after each step. `kind`: "=" where the loss is
exact, "≤" where it is a bound, "≈" an estimate, "a loss" where it is none of them. `event_size`: the numbers in an
event of a model.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array
from numpyro.infer import ELBO as Objective

from probgen.core import Rest, combine, evaluating, from_params, has_update, module, partition
from probgen.core.density import sign_of
from probgen.distributions import Bounded, ConditionalModel, Distribution
from probgen.distributions.conditionals import inner_model
from probgen.distributions.events import Data, check_like, check_rows, count, widened
from probgen.inference.engine.differentiable import Differentiable
from probgen.inference.objectives import ELBO, Beta, count_steps
from probgen.inference.training.checks import Observed
from probgen.inference.training.plates import ScalePlates, plates_to_scale
from probgen.inference.training.result import FitResult
from probgen.inference.training.stream import Rows


class PerRow(Objective):
    """An objective divided by the number of rows that it counts, so that losses and gradients are per datum; of the
    arguments it sees the data alone."""

    def __new__(cls, objective: Objective, rows: int) -> "PerRow":
        """Make it under the name of the objective's class, by which numpyro's warnings speak of it."""
        return super().__new__(type(type(objective).__name__, (cls,), {}))

    def __init__(self, objective: Objective, rows: int):
        self.objective, self.rows = objective, rows
        self.can_infer_discrete = objective.can_infer_discrete
        self.multi_sample_guide = getattr(objective, "multi_sample_guide", False)
        super().__init__(objective.num_particles, objective.vectorize_particles)

    def loss(
        self, key: Array, params: dict, program: Callable, guide: Callable, rest: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Return the objective's loss per row."""
        program, guide = (functools.partial(fn, rest) for fn in (program, guide))
        return self.objective.loss(key, params, program, guide, *args, **kwargs) / self.rows

    def loss_with_mutable_state(
        self, key: Array, params: dict, program: Callable, guide: Callable, rest: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Return the objective's loss per row, and its state."""
        program, guide = (functools.partial(fn, rest) for fn in (program, guide))
        result = self.objective.loss_with_mutable_state(key, params, program, guide, *args, **kwargs)
        return {**result, "loss": result["loss"] / self.rows}


class Trained(Bounded):
    """A model whose `log_prob` is minus its training loss at a fixed key."""

    def _log_prob(self, value: Array) -> Array:
        return -self.model.training_loss(self.key, value, self.num_particles)


class ModelTask:
    """A probgen distribution, or a `ConditionalModel` of (x, context).

    One with latent variables is trained by its own `program` and `guide`, unless it brings a bound of many particles;
    any other by its density or its bound.
    """

    def __init__(
        self,
        model: Any,
        rows: Rows,
        held_out: Data | None,
        objective: Objective | None,
        num_particles: int | None,
        learnable: Callable[[str, Any], bool] | None,
    ):
        self.conditional, self.learnable = isinstance(model, ConditionalModel), learnable
        inner = inner_model(model)
        rows.check(lambda data, first: check_rows("data", model, data, first=first))
        if held_out is not None:
            check_rows("validation", model, held_out)
            check_like("validation", held_out, rows.first)
        self.params, self.rest = partition(model, learnable)
        self.updates = has_update(model)
        if not (self.params or self.updates):
            narrowed = " that `learnable` lets learn" if learnable else ""
            raise ValueError(f"model: {type(inner).__name__} has no parameter{narrowed}, and no state to update")
        latent = hasattr(type(inner), "program")
        _check_particles(inner, latent, objective, num_particles)
        beta, own_particles = getattr(inner, "trained_on", (1.0, 1))
        if own_particles > 1 and num_particles is not None:
            raise ValueError(
                f"num_particles: the model brings its own bound, of {own_particles}; give an objective for another"
            )
        # a latent-variable model's particles are its objective's, another bound's its own
        self.latent = latent and (objective is not None or own_particles == 1)
        self.bound_particles = own_particles if latent else num_particles or 1
        objective = _own_objective(self.latent, beta, num_particles) if objective is None else objective
        self.objective = PerRow(objective, rows.batch_size)
        self.guide = _counting(self._guide, self.objective.objective)
        self.event_size: int | None = max(1, jnp.zeros(inner.event_shape).size)
        self.kind = sign_of(inner.kind, inner.tolerance) if inner.loss_is_bound else "a loss"
        self.reports_density = inner.exact and type(inner)._training_loss is Distribution._training_loss

    def _model(self, rest: Rest, context: tuple[Array, ...]) -> Any:
        model = module("model", combine(self.params, rest), learnable=self.learnable)
        return model(*context) if self.conditional else model

    def program(self, rest: Rest, x: Array, *context: Array) -> None:
        """Observe the data under the model."""
        model = self._model(rest, context)
        if self.latent:
            model.program(x, name=None)
            return
        with numpyro.plate("data", x.shape[0]):
            if not self.reports_density:
                model = Trained(model, numpyro.prng_key(), self.bound_particles)
            numpyro.sample("x", model, obs=x)

    def _guide(self, rest: Rest, x: Array, *context: Array) -> None:
        if self.latent:
            self._model(rest, context).guide(x, name=None)

    def init(self, svi: Any, key: Array, batch: Data) -> Any:
        """Return SVI's first state, compiled whole."""
        return jax.jit(svi.init)(key, self.rest, *batch[0])

    def score(self, params: dict, rest: Rest, key: Array, data: Data) -> Array:
        """Return the objective's loss of other rows, in nats per row."""
        objective = PerRow(self.objective.objective, count(data))
        with evaluating():
            return objective.loss(key, params, self.program, self.guide, rest, *data[0])

    def update(self, params: dict, rest: Rest, key: Array, data: Data) -> Rest:
        """Return what of the model changes without gradients, after a step."""
        model = combine(params.get("model$params", {}), rest)
        return partition(model.update(*data[0], key), self.learnable)[1]

    def finish(self, params: dict, rest: Rest) -> Any:
        """Return the trained model."""
        return from_params(params, "model", combine(self.params, rest), learnable=self.learnable)


def _own_objective(latent: bool, beta: float, num_particles: int | None) -> Objective:
    """Return what a model is trained on of its own accord, with the β that its recipe has written down."""
    elbo = ELBO(num_particles=num_particles or 1) if latent else ELBO()
    return elbo if beta == 1 else Beta(elbo, beta)


def _check_particles(inner: Distribution, latent: bool, objective: Objective | None, num_particles: int | None) -> None:
    if num_particles is not None and inner.kind in ("exact", "estimate"):
        what = "an exact density" if inner.exact else "an estimate of its density"
        raise ValueError(f"num_particles: {type(inner).__name__} has {what}, which particles do not change")
    if not inner.random_bound and (num_particles or (objective and objective.num_particles > 1)):
        particles = "num_particles" if num_particles else "objective"
        raise ValueError(
            f"{particles}: {type(inner).__name__} has a bound without draws, which particles do not change"
        )
    if num_particles is not None and latent and objective is not None:
        raise ValueError("num_particles: an objective has its own: set them there")
    if objective is not None and objective.num_particles > 1 and inner.exact:
        raise ValueError(
            f"objective: {type(inner).__name__} has an exact density, which {objective.num_particles} particles do not "
            "change"
        )


class ProgramTask:
    """A user's program, trained by stochastic variational inference, its plates made to weigh what the full data
    would; it begins with the params of `begun`, where that is given, and else with those that it registers."""

    event_size: int | None = None
    rest: Rest | None = None
    kind = "≤"
    updates = False

    def __init__(
        self,
        program: Callable,
        guide: Callable | None,
        rows: Rows,
        held_out: Data | None,
        block: int,
        objective: Objective | None,
        num_particles: int | None,
        key: Array,
        begun: FitResult | None,
    ):
        if num_particles is not None and objective is not None:
            raise ValueError("num_particles: an objective has its own: set them there")
        if num_particles is not None and guide is None:
            raise ValueError("num_particles: expected a guide to draw them from, got none")
        self.source = program, (lambda *args, **kwargs: None) if guide is None else guide
        self.begun = begun
        if rows.rows is None:
            raise ValueError(
                "data: a program has to know how many rows there are in all, which an iterable does not say"
            )
        self.rows = rows.rows
        rows.check(Observed("data", program, rows.first))
        if held_out is not None:
            check_like("validation", held_out, rows.first)
            some = jax.tree.map(lambda x: x[:block], held_out)
            Observed("validation", program, some)(held_out, 0)
        self.plates = _plates(*self.source, rows, held_out, key)
        self.objective = PerRow(
            ELBO(num_particles=1 if num_particles is None else num_particles) if objective is None else objective,
            self.rows,
        )
        self.program, self.guide = self._scaled(rows.batch_size)

    def _scaled(self, size: int) -> tuple[Callable, Callable]:
        """Return the program and the guide as `size` rows are to weigh, with `rest` as their first argument."""
        program, guide = (
            Differentiable(ScalePlates(fn, names, self.rows / size))
            for fn, names in zip(self.source, self.plates, strict=True)
        )
        return _after_rest(program), _counting(_after_rest(guide), self.objective.objective)

    def init(self, svi: Any, key: Array, batch: Data) -> Any:
        """Return SVI's first state. Automatic guides set themselves up here, on numbers."""
        state = svi.init(key, self.rest, *batch[0], **batch[1])
        if not jax.tree.leaves(svi.get_params(state)) and state.mutable_state is None:
            jax.eval_shape(  # which tells of a site that the guide does not draw
                lambda: self.objective.loss(key, {}, self.program, self.guide, self.rest, *batch[0], **batch[1])
            )
            raise ValueError("model: the program and its guide register no param: there is nothing to learn")
        return state if self.begun is None else self._go_on(self.begun, svi, state, key, batch)

    def _go_on(self, begun: FitResult, svi: Any, state: Any, key: Array, batch: Data) -> Any:
        """Return the first state with the params that were trained, and what else the program keeps."""
        shapes = lambda tree: jax.tree.map(jnp.shape, tree)
        if (here := shapes(svi.get_params(state))) != (there := shapes(begun.params)):
            name = next(name for name in {**there, **here} if there.get(name) != here.get(name))
            raise ValueError(
                f"model: param {name!r} was trained in shape {there.get(name)}, and on these data it has "
                f"{here.get(name)}"
            )
        state = svi.init(key, self.rest, *batch[0], init_params=begun.params, **batch[1])
        return state._replace(mutable_state=begun.state.mutable_state)

    def score(self, params: dict, rest: None, key: Array, data: Data) -> Array:
        """Return the objective's loss of other rows, as if they stood for all, in nats per row."""
        with evaluating():
            return self.objective.loss(key, params, *self._scaled(count(data)), rest, *data[0], **data[1])

    def update(self, params: dict, rest: None, key: Array, data: Data) -> None:
        """Return None: nothing of a program changes but by gradients and its own mutable state."""

    def finish(self, params: dict, rest: None) -> Any:
        """Return the program with its params."""
        return evaluating(numpyro.handlers.substitute(self.source[0], data=params))


def _counting(guide: Callable, objective: Objective) -> Callable:
    """Return the guide, counting the steps where the objective follows a schedule."""
    return count_steps(guide) if getattr(objective, "scheduled", False) else guide


def _after_rest(fn: Callable) -> Callable:
    return lambda rest, /, *args, **kwargs: fn(*args, **kwargs)


def _plates(
    program: Callable, guide: Callable, rows: Rows, held_out: Data | None, key: Array
) -> tuple[frozenset[str], frozenset[str]]:
    """Return names of the plates of program and guide whose scale depends on how many rows there are."""
    size = rows.batch_size if rows.batch_size < rows.rows or held_out is None else count(held_out)  # type: ignore[operator]
    if size == rows.rows:
        return frozenset(), frozenset()
    first = widened(rows.first)
    with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
        guide(*first[0], **first[1])  # an automatic guide sets itself up when it first runs, and not abstractly
    instead = "train on all rows at once (batch_size=None)" if size == rows.batch_size else "leave validation out"
    args, kwargs = jax.eval_shape(widened, rows.shapes)
    return plates_to_scale(program, guide, args, kwargs, rows.rows, size, instead)  # type: ignore[arg-type]


Task = ModelTask | ProgramTask


def is_model(model: Any) -> bool:
    """Return whether `fit` got a distribution (or a conditional one), and not a numpyro program."""
    return isinstance(model, Distribution | ConditionalModel)
