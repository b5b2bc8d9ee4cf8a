"""What `fit` returns."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpyro.infer.svi import SVIRunResult, SVIState


class Best(NamedTuple):
    """The validation at which the loss was least.

    Attributes:
        step: after how many steps.
        loss: in nats per datum.
    """

    step: int
    loss: float


class TrainingStatus(NamedTuple):
    """How far a training has come: what `fit` gives its `callback`.

    Attributes:
        step: how many steps were taken.
        loss: the mean of those since the last call, in nats per datum.
        validation: the latest validation loss, in nats per datum, or None where there are no such rows.
        metrics: the latest values of the user's.
    """

    step: int
    loss: float
    validation: float | None
    metrics: Mapping[str, np.ndarray]


class FitResult(SVIRunResult):
    """The result of `fit`: numpyro's `SVIRunResult` and what else there is to know.

    Attributes:
        params: of the `param` sites, `{name: value}`, as they are in `model`.
        state: numpyro's `SVIState` after the last step.
        losses: of each step, in nats per datum.
        model: the trained distribution, or the program with its params substituted; the best on validation data where
            there were any.
        history: an `xarray.Dataset` of the losses, and of the metrics at each validation.
        best: a `Best`, or None without validation.
        stopped: why it ended: "finished", "patience", "minutes", "callback", "interrupted", or what went wrong and at
            which step.
        source: the program and the guide as they were given, with which `fit(result, …)` goes on; of a model None.
    """

    model: Any
    history: Any
    best: Best | None
    stopped: str
    source: tuple[Callable, Callable | None] | None

    def __new__(
        cls,
        params: dict,
        state: SVIState,
        losses: Any,
        *,
        model: Any,
        history: Any,
        best: Best | None,
        stopped: str,
        source: tuple[Callable, Callable | None] | None,
    ) -> "FitResult":
        """Make a named tuple of three, with the rest as attributes."""
        result = super().__new__(cls, params, state, losses)
        result.model, result.history, result.best, result.stopped = model, history, best, stopped
        result.source = source
        return result


def make_history(
    losses: np.ndarray,
    validation: list[tuple[int, float]],
    metrics: Mapping[str, list[np.ndarray]],
    event_size: int | None,
    kind: str,
    stopped: str,
) -> Any:
    """Return the losses as an `xarray.Dataset`: `train` per step, `validation` at `validation_step`, in nats per
    datum; and the metrics beside it."""
    import xarray

    variables: dict[str, tuple[Any, np.ndarray]] = {"train": ("step", losses)}
    coordinates = {"step": np.arange(1, len(losses) + 1)}
    if validation:
        steps, values = zip(*validation, strict=True)
        variables["validation"] = ("validation_step", np.asarray(values))
        coordinates["validation_step"] = np.asarray(steps)
    for name in list(variables):
        if event_size is not None:
            dim, nats = variables[name]
            variables[f"{name}_bits_per_dim"] = (dim, nats / (event_size * np.log(2)))
    for name, found in metrics.items():
        variables[name] = (("validation_step", f"{name}_dim")[: 1 + found[0].ndim], np.stack(found))
    attributes = {"unit": "nats per datum", "kind": kind, "stopped": stopped}
    return xarray.Dataset(variables, coordinates, attributes)
