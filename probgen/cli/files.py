"""The files of the command line: models that are read, and what is written."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from probgen.core import load
from probgen.core.files import MissingRecipe
from probgen.distributions import ConditionalModel
from probgen.distributions.conditionals import inner_model
from probgen.tables import AnyOrderTable, FlowTable


def load_model(path: str) -> Any:
    """Return the model of a file. Raises ValueError where none can be made of it alone."""
    try:
        return load(path)
    except MissingRecipe:
        raise ValueError(
            f"{path} names no recipe that makes its model, so that the command line cannot rebuild it: in Python, "
            "probgen.load(path, like=model) reads it into a model of its structure"
        ) from None


def is_of_table(model: Any) -> bool:
    """Return whether a model is one of a table's rows."""
    return isinstance(inner_model(model), AnyOrderTable | FlowTable)


def check_context(path: str, model: Any, context: str | None) -> None:
    """Raise ValueError where a model takes contexts and there are none, or the other way round."""
    if isinstance(model, ConditionalModel) and context is None:
        raise ValueError(f"--context: expected one, for {path} holds a model of {numbers(model)}")
    if context is not None and not isinstance(model, ConditionalModel):
        raise ValueError(f"--context: expected none, for the model of {path} is not conditional")


def numbers(model: ConditionalModel) -> str:
    """Return what contexts a model takes, in words."""
    if model.levels is not None:
        return f"labels 0..{model.levels - 1}"
    return f"contexts of {math.prod(model.context_shape)} numbers"


def at_least_one(option: str, number: int) -> None:
    """Raise ValueError for a number below one."""
    if number < 1:
        raise ValueError(f"{option}: expected at least 1, got {number}")


def file_to_write(name: str, option: str = "--out") -> Path:
    """Return a file in a folder that is there. Raises ValueError, before any work is done for it."""
    out = Path(name)
    if not out.parent.is_dir():
        raise ValueError(f"{option}: there is no folder {out.parent}")
    if out.is_dir():
        raise ValueError(f"{option}: {out} is a folder")
    return out


def folder_to_write(name: str) -> Path:
    """Make the folder for the results, before there are any, and return it."""
    out = Path(name)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: {out} cannot be made a folder ({error.strerror})") from error
    return out


def write_grid(path: Path, draws: np.ndarray) -> None:
    """Write a picture of one grid of images."""
    from matplotlib.figure import Figure

    from probgen.plotting import image_grid

    figure = Figure(figsize=(6, 6), layout="constrained")
    image_grid(draws, ax=figure.add_subplot())
    figure.savefig(path, dpi=150)
