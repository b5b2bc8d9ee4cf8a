"""`probgen train`, `evaluate` and `sample`."""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

from probgen import data as datasets
from probgen.cli.models import MODELS, Images
from probgen.core import load, save
from probgen.core.files import MissingRecipe
from probgen.evaluation import likelihood
from probgen.inference.training.checks import as_arrays, check_events


def load_images(name: str) -> Images:
    """Load a data set of integer images, its training rows split once and for all. Raises ValueError for other data."""
    data = datasets.load(name)
    if data.levels is None or np.ndim(data.train) < 2:
        raise ValueError(f"{name}: the models of the command line are for images with integer levels")
    train, validation = datasets.holdout(data.train, size=min(500, len(data.train) // 4))
    return Images(name, np.asarray(train), np.asarray(validation), np.asarray(data.test), data.levels)


def train(options: argparse.Namespace) -> None:
    """Train one model, print its test likelihood, write its file."""
    images = load_images(options.data)
    entry = next(entry for entry in MODELS if entry.name == options.model)
    out = file_to_write(options.out or f"{options.model}.safetensors")
    trained = entry.train(images, key=jax.random.key(options.seed), quick=options.quick)
    save(out, trained.model)
    result = likelihood(trained.model, images.test, key=jax.random.key(options.seed), num_particles=entry.particles)
    print(f"{entry.name} on the test rows of {images.name}: {result}")
    print(f"written: {out}")


def _load(path: str) -> Any:
    try:
        model = load(path)
    except MissingRecipe:
        raise ValueError(
            f"{path} names no recipe that makes its model, so that the command line cannot rebuild it: in Python, "
            "probgen.load(path, like=model) reads it into a model of its structure"
        ) from None
    if not hasattr(model, "log_prob_bound"):
        raise ValueError(f"{path} holds a conditional model, which needs a context")
    return model


def evaluate(options: argparse.Namespace) -> None:
    """Print the test likelihood of a model file."""
    if options.particles is not None:
        at_least_one("--particles", options.particles)
    model, data = _load(options.file), datasets.load(options.data)
    (rows,), _, _ = as_arrays(options.data, np.asarray(data.test))
    check_events(f"{options.data} is no data for {options.file}", model, rows)
    default = 64 if model.kind in ("weights", "bound") else 1
    particles = default if options.particles is None else options.particles
    print(likelihood(model, rows, key=jax.random.key(options.seed), num_particles=particles))


def sample(options: argparse.Namespace) -> None:
    """Draw from a model file into a picture or an array."""
    at_least_one("--num", options.num)
    model, out = _load(options.file), file_to_write(options.out)
    if out.suffix not in (".png", ".npy"):
        raise ValueError(f"--out: expected a name ending in .png or .npy, got {out}")
    if out.suffix == ".png" and len(model.event_shape) != 2:
        raise ValueError(f"--out: {options.file} models events {model.event_shape}, no images: write them as .npy")
    draws = np.asarray(jax.jit(lambda m, k: m.sample(k, (options.num,)))(model, jax.random.key(options.seed)))
    if out.suffix == ".npy":
        np.save(out, draws)
    else:
        write_grid(out, draws)
    print(f"written: {out}")


def at_least_one(option: str, number: int) -> None:
    """Raise ValueError for a number below one."""
    if number < 1:
        raise ValueError(f"{option}: expected at least 1, got {number}")


def file_to_write(name: str) -> Path:
    """Return a file in a folder that is there. Raises ValueError, before any work is done for it."""
    out = Path(name)
    if not out.parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    if out.is_dir():
        raise ValueError(f"--out: {out} is a folder")
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
