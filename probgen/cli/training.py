"""How the command line trains: the options that a user may set, and one way for all models that learn by gradients."""

import argparse
import ast
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from probgen.core import check_positive, check_sizes, count_parameters
from probgen.inference import FitResult, fit
from probgen.inference.objectives import ELBO

_WARM_UP = 200  # steps, where only the clock says how many there will be


class Trained(NamedTuple):
    """A trained model, the history of its training, and how many numbers were learned."""

    model: Any
    history: Any
    parameters: int


class Plan(NamedTuple):
    """How a model is trained where nothing else is said.

    Attributes:
        epochs: how many.
        batch_size: rows in a step.
        rate: the highest learning rate.
        objective: of the training, the model's own where it is None.
        steps: in place of epochs.
    """

    epochs: int
    batch_size: int
    rate: float
    objective: ELBO | None = None
    steps: int | None = None


class Settings(NamedTuple):
    """What the user says of a training; None where nothing.

    Attributes:
        quick: little training of small models.
        steps: of training.
        minutes: after which it ends.
        batch_size: rows in a step.
        learning_rate: the highest.
        options: of the recipe.
        checkpoint: a folder for checkpoints.
        resume: whether to go on from the newest of them.
    """

    quick: bool = False
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    options: dict[str, Any] = {}
    checkpoint: str | None = None
    resume: bool = False

    @property
    def of_gradients(self) -> list[str]:
        """The options that were given and apply to training by gradients alone."""
        given: dict[str, Any] = {
            "--minutes": self.minutes,
            "--batch-size": self.batch_size,
            "--learning-rate": self.learning_rate,
            "--checkpoint": self.checkpoint,
        }
        return [name for name, value in given.items() if value is not None]


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add what a user may say of a training.

    Args:
        parser: of the command.
    """
    parser.add_argument("--steps", type=int, help="of training (default by the model)")
    parser.add_argument("--minutes", type=float, help="end training after so many, alone or beside --steps")
    parser.add_argument("--batch-size", type=int, help="rows in a step (default by the model)")
    parser.add_argument("--learning-rate", type=float, help="the highest (default by the model)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the model's recipe, such as width=64 or hidden=64,64; may be repeated",
    )
    parser.add_argument("--quick", action="store_true", help="little training")
    parser.add_argument("--checkpoint", metavar="FOLDER", help="write checkpoints of the training into this folder")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint there, if there is one")


def settings_of(options: argparse.Namespace) -> Settings:
    """Return what was said of the training. Raises ValueError where a number is out of range.

    Args:
        options: of the command.
    """
    for name in ("steps", "batch_size"):
        if (number := getattr(options, name)) is not None:
            check_sizes(**{f"--{name.replace('_', '-')}": number})
    for name in ("minutes", "learning_rate"):
        if (value := getattr(options, name)) is not None:
            check_positive(**{f"--{name.replace('_', '-')}": value})
    given = dict(_pair(text) for text in options.set)
    if options.resume and options.checkpoint is None:
        raise ValueError("--resume: expected the folder of --checkpoint to go on from")
    numbers = options.steps, options.minutes, options.batch_size, options.learning_rate
    return Settings(options.quick, *numbers, given, options.checkpoint, options.resume)


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"--set: expected OPTION=VALUE, such as width=64, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def with_options(recipe: Callable[..., Any], defaults: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the options that a recipe is called with: the command line's own, and the user's in their place.

    Args:
        recipe: that makes the model.
        defaults: what the command line says.
        settings: what the user says.

    Raises ValueError where the recipe has no such option, or what it gets is of another type.
    """
    known = inspect.signature(recipe).parameters
    free = [name for name in known if name not in ("key", "context_dim", "levels", "columns", "dim", "event_shape")]
    free = [name for name in free if known[name].kind is inspect.Parameter.KEYWORD_ONLY]
    for name, value in settings.options.items():
        if name not in free:
            raise ValueError(f"--set: {recipe.__name__} has the options {', '.join(free)}, and no {name!r}")
        default = known[name].default
        if isinstance(default, int | float) and not isinstance(value, int | float):
            raise ValueError(f"--set: {name} expects a number, as its default {default}, got {value!r}")
    tuples = {name: (value,) if name == "hidden" and isinstance(value, int) else value
              for name, value in settings.options.items()}  # fmt: skip
    return {**defaults, **tuples}


def by_gradients(
    model: Any, train: Any, validation: Any, name: str, plan: Plan, settings: Settings, *, key: jax.Array
) -> FitResult:
    """Train by AdamW with a warm-up and a cosine decay, clipped gradients, averaged params, the best on validation.

    Where the clock alone says when training ends, the rate stays as it is after the warm-up.

    Args:
        model: as `fit` takes it.
        train: its rows.
        validation: rows to choose by.
        name: for the bar.
        plan: where the user says nothing.
        settings: what the user says.
        key: the randomness.
    """
    rows = len(jax.tree.leaves(train)[0])
    batch_size = min(settings.batch_size or plan.batch_size, rows)
    per_epoch, rate = rows // batch_size, settings.learning_rate or plan.rate
    steps = settings.steps or (None if settings.minutes else plan.steps or plan.epochs * per_epoch)
    if steps is None:
        schedule: Any = optax.linear_schedule(0.0, rate, _WARM_UP)
        every, long = max(50, per_epoch), True
    else:
        schedule = optax.cosine_onecycle_schedule(steps, rate, pct_start=0.1)
        every, long = max(1, per_epoch * max(1, steps // per_epoch // 25)), steps > 1000
        every = min(every, max(1, steps // 10))
    return fit(
        model,
        train,
        steps=steps,
        minutes=settings.minutes,
        batch_size=batch_size,
        optimizer=optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(schedule, weight_decay=1e-2)),
        objective=plan.objective,
        key=key,
        validation=validation,
        validate_every=every,
        ema=0.998 if long else 0.98,
        checkpoint=settings.checkpoint,
        resume=settings.resume,
        progress=name,
    )


def trained(result: FitResult, model: Any) -> Trained:
    """Return a trained model with what the command line says of it.

    Args:
        result: of the training.
        model: what is kept of it.
    """
    return Trained(model, result.history, count_parameters(model))
