"""`probgen train`, `evaluate` and `sample`."""

import argparse
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen import data as datasets
from probgen import evaluation
from probgen.autoregressive import Autoregressive
from probgen.cli import report
from probgen.cli.models import MODELS, Split, up_to_lengths
from probgen.core import load, save
from probgen.core.files import MissingRecipe
from probgen.distributions import ConditionalModel
from probgen.distributions.conditionals import inner_model
from probgen.distributions.events import as_arrays, check_rows
from probgen.evaluation.likelihood import has_bound_of_draws


def load_rows(name: str, context: str | None = None) -> Split:
    """Load a data set, split once and for all; beside its rows are labels as one-hot contexts, or their lengths.

    Where no test rows are published, a tenth is held out. Raises ValueError where it has no such context.
    """
    data = datasets.load(name)
    if context is not None and (context != "labels" or "train_labels" not in data.parts):
        raise ValueError(f"--context: {name} has no {context} beside its rows")
    ragged = context is None and "train_lengths" in data.parts
    classes = 1 + max(int(data[part].max()) for part in data.parts if part.endswith("_labels")) if context else None

    def part(name: str) -> Any:
        if ragged:
            return data[name], data[f"{name}_lengths"]
        return (data[name], np.eye(classes, dtype=np.float32)[data[f"{name}_labels"]]) if classes else data[name]

    train, count = part("train"), len(data.train)
    train, test = (train, part("test")) if "test" in data.parts else _held_out(train, count // 10)
    train, validation = _held_out(train, min(500, count // 4))
    return Split(name, train, validation, test, data.levels or 0, classes, ragged)


def _held_out(rows: Any, size: int) -> tuple[Any, Any]:
    rest, held = datasets.holdout(np.arange(len(jax.tree.leaves(rows)[0])), size=size)
    return jax.tree.map(lambda x: x[rest], rows), jax.tree.map(lambda x: x[held], rows)


def train(options: argparse.Namespace) -> None:
    """Train one model, print its test likelihood, write its file."""
    entry = next(entry for entry in MODELS if entry.name == options.model)
    if options.context and not entry.conditional:
        raise ValueError(f"--context: {entry.name} takes none; {', '.join(e.name for e in MODELS if e.conditional)} do")
    data = load_rows(options.data, options.context)
    if not data.levels or len(data.shape) != entry.event_dim:
        kind = "images" if entry.event_dim == 2 else "sequences"
        raise ValueError(f"{data.name}: {entry.name} is for {kind} with integer levels")
    out = file_to_write(options.out or f"{options.model}.safetensors")
    trained = entry.train(data, key=jax.random.key(options.seed), quick=options.quick)
    save(out, trained.model)
    model, rows = _with_rows(trained.model, data)
    result = evaluation.evaluate(model, rows, key=jax.random.key(options.seed), num_particles=entry.particles)
    print(f"{entry.name} on the test rows of {data.name}: {result}")
    print(f"written: {out}")


def _with_rows(model: Any, data: Split) -> tuple[Any, Any]:
    """Return the model with the test rows; of ragged ones, where it goes through them in order, up to their lengths
    only."""
    if not data.ragged:
        return model, data.test
    in_order = isinstance(model, Autoregressive) and model.order.is_raster
    return (up_to_lengths(model), data.test) if in_order else (model, data.test[0])


def _load(path: str, context: str | None) -> Any:
    try:
        model = load(path)
    except MissingRecipe:
        raise ValueError(
            f"{path} names no recipe that makes its model, so that the command line cannot rebuild it: in Python, "
            "probgen.load(path, like=model) reads it into a model of its structure"
        ) from None
    if isinstance(model, ConditionalModel) and context is None:
        raise ValueError(f"--context: expected one, for {path} holds a conditional model of {_numbers(model)}")
    if context is not None and not isinstance(model, ConditionalModel):
        raise ValueError(f"--context: expected none, for the model of {path} is not conditional")
    return model


def _numbers(model: ConditionalModel) -> str:
    """Return what contexts a model takes, in words."""
    return f"contexts of {math.prod(model.context_shape)} numbers"


def evaluate(options: argparse.Namespace) -> None:
    """Print the test likelihood of a model file; write it with all else that can be said of the model."""
    json_file, page_file = _report_files(options)
    if options.particles is not None:
        at_least_one("--particles", options.particles)
    model, data = _load(options.file, options.context), load_rows(options.data, options.context)
    if data.classes and model.context_shape != (data.classes,):
        raise ValueError(f"--context: {data.name} has {data.classes} classes, {options.file} takes {_numbers(model)}")
    model, rows = _with_rows(model, data)
    check_rows(f"{data.name} is no data for {options.file}", model, as_arrays(data.name, rows)[:2])
    default = {"weights": 256, "bound": 64}[inner_model(model).kind] if has_bound_of_draws(model) else 1
    particles = default if options.particles is None else options.particles
    result = evaluation.evaluate(model, rows, key=jax.random.key(options.seed), num_particles=particles)
    print(result, flush=True)
    if json_file or page_file:
        outputs = {"json_file": json_file, "page_file": page_file}
        report.write(options.file, model, rows, data, result, seed=options.seed, **outputs)


def _report_files(options: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Return where to write the report as JSON, and as a page. Raises ValueError where it would replace the model."""
    json_file, page_file = (
        None if name is None else file_to_write(name, option)
        for option, name in (("--json", options.json), ("--report", options.report))
    )
    if page_file and page_file.suffix != ".html":
        raise ValueError(f"--report: expected a name ending in .html, got {page_file}")
    for option, file in (("--json", json_file), ("--report", page_file)):
        if file and file.resolve() == Path(options.file).resolve():
            raise ValueError(f"{option}: {file} is the model file itself")
    if json_file and page_file and json_file.resolve() == page_file.resolve():
        raise ValueError(f"--json: expected another file than --report, got {json_file} for both")
    return json_file, page_file


def sample(options: argparse.Namespace) -> None:
    """Draw from a model file into a picture, an array or a text."""
    at_least_one("--num", options.num)
    model, out = _load(options.file, options.context), file_to_write(options.out)
    if out.suffix not in (".png", ".npy", ".txt"):
        raise ValueError(f"--out: expected a name ending in .png, .npy or .txt, got {out}")
    if (out.suffix == ".txt") != (options.data is not None):
        raise ValueError("--data: a text (.txt), and nothing else, takes a data set, whose alphabet spells it")
    if options.context is not None:
        model = model(_context(options.context, model.context_shape))
    if out.suffix == ".png" and len(model.event_shape) != 2:
        raise ValueError(f"--out: {options.file} models events {model.event_shape}, no images: use .npy, or .txt")
    alphabet = _alphabet(options, model) if out.suffix == ".txt" else ""
    draws = np.asarray(jax.jit(lambda m, k: m.sample(k, (options.num,)))(model, jax.random.key(options.seed)))
    if out.suffix == ".npy":
        np.save(out, draws)
    elif out.suffix == ".txt":  # a row ends at the first symbol, which fills it up
        out.write_text("".join("".join(alphabet[i] for i in row).split(alphabet[0])[0] + "\n" for row in draws))
    else:
        write_grid(out, draws)
    print(f"written: {out}")


def _context(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a context's numbers, or a class where the model takes a vector."""
    size = math.prod(shape)
    if len(shape) == 1 and text.isdecimal() and int(text) < size > 1:
        return np.eye(size, dtype=np.float32)[int(text)]
    try:
        numbers = np.array(text.split(","), np.float32)
    except ValueError:
        numbers = np.array(np.nan)
    if numbers.shape != (size,) or not np.isfinite(numbers).all():
        a_class = f", or a class 0..{size - 1}" if len(shape) == 1 and size > 1 else ""
        raise ValueError(f"--context: expected {size} numbers with commas between them{a_class}, got {text!r}")
    return numbers.reshape(shape)


def _alphabet(options: argparse.Namespace, model: Any) -> str:
    """Return the characters of the symbols that a model draws. Raises ValueError where it draws others."""
    alphabet = getattr(datasets.DATASETS.get(options.data), "alphabet", "")
    if not alphabet:
        raise ValueError(f"--data: expected the name of a data set that has an alphabet, got {options.data}")
    if len(model.event_shape) != 1 or model.support(jnp.full(model.event_shape, len(alphabet))):
        raise ValueError(f"--data: {options.file} does not model sequences of the symbols of {options.data}")
    return alphabet


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
