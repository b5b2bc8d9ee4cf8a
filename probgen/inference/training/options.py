"""What is wrong with the options of `fit`, and what those mean that are given in short."""

from collections.abc import Callable
from typing import Any

import jax
import numpyro.distributions as dist
import optax

from probgen.core import check_positive, check_sizes
from probgen.distributions import Conditional
from probgen.distributions.events import Data, as_arrays
from probgen.inference.training.result import FitResult
from probgen.inference.training.stream import Rows
from probgen.inference.training.task import is_model


def as_optimizer(optimizer: Any, learning_rate: Any) -> optax.GradientTransformation:
    """Return the optimizer, Adam at the given rate, or Adam at 1e-3."""
    if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"optimizer: expected an optax transformation, got {type(optimizer).__name__}")
    if learning_rate is None:
        return optimizer or optax.adam(1e-3)
    if optimizer is not None:
        raise ValueError("learning_rate: an optimizer has its own: give one of the two")
    if not callable(learning_rate) or isinstance(learning_rate, type):
        check_positive(learning_rate=learning_rate)
    return optax.adam(learning_rate)


def as_source(model: Any, guide: Callable | None) -> tuple[Any, Callable | None, FitResult | None]:
    """Return what there is to train, and of a program its guide and the result to begin with."""
    if isinstance(model, FitResult) and model.source is None:
        return model.model, guide, None
    if isinstance(model, FitResult):
        if guide is not None:
            raise ValueError("guide: a FitResult brings the one that it was trained with")
        return *model.source, model  # type: ignore[misc]
    callable_value = isinstance(model, dist.Distribution | Conditional)  # both of which are callable
    if not is_model(model) and (not callable(model) or callable_value):
        raise ValueError(
            "model: expected a probgen distribution, a ConditionalModel or a numpyro program, "
            f"got {type(model).__name__}"
        )
    return model, guide, None


def check_looks(validation: Any, validate_every: int | None, patience: int | None, callback: Any) -> None:
    """Raise ValueError for what says when to look, with nothing to look at."""
    if callback is not None and (not callable(callback) or isinstance(callback, type)):
        raise ValueError(f"callback: expected a function of a TrainingStatus, got {callback!r}")
    if validate_every is not None:
        if validation is None and callback is None:
            raise ValueError("validate_every: expected validation rows or a callback to go with it, got neither")
        check_sizes(validate_every=validate_every)
    if patience is not None:
        if validation is None:
            raise ValueError("patience: expected validation rows to go with it, got none")
        check_sizes(patience=patience)


def check_choices(num_particles: int | None, learnable: Any, progress: Any) -> None:
    """Raise ValueError for choices that are none."""
    if num_particles is not None:
        check_sizes(num_particles=num_particles)
    if learnable is not None and not callable(learnable):
        raise ValueError(f"learnable: expected a function of path and leaf, got {learnable!r}")
    if not isinstance(progress, bool | str):
        raise ValueError(f"progress: expected True, False or a name, got {progress!r}")


def total_steps(steps: int | None, epochs: int | None, minutes: float | None, rows: Rows) -> int | None:
    """Return how many steps there are to take, or None where only time ends them."""
    if minutes is not None:
        check_positive(minutes=minutes)
    if (steps is None) == (epochs is None) and (minutes is None or steps is not None):
        raise ValueError(f"expected steps or epochs, or minutes, got steps={steps}, epochs={epochs}, minutes={minutes}")
    if steps is not None:
        check_sizes(steps=steps)
        return steps
    if epochs is None:
        return None
    check_sizes(epochs=epochs)
    if rows.epoch_steps is None:
        raise ValueError("epochs: an iterable does not say how many batches there are: give steps, or minutes")
    return epochs * rows.epoch_steps


def steps_between_looks(validate_every: int | None, looks: bool, rows: Rows) -> int:
    """Return how many steps there are from one look to the next."""
    if validate_every is None and looks and rows.epoch_steps is None:
        raise ValueError("validate_every: expected steps, for an iterable does not say how many batches there are")
    return validate_every or rows.epoch_steps or 1


def validation_data(validation: Any, data: Data) -> Data:
    """Return the held-out rows, of the structure that the data have."""
    args, kwargs, _ = as_arrays("validation", validation)
    structure: Any = jax.tree.structure(data)
    if structure != jax.tree.structure((args, kwargs)):
        raise ValueError("validation: expected the same structure of arrays as data")
    return args, kwargs
