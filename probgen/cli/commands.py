"""`probgen train`, `evaluate` and `sample`."""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np

from probgen import data as datasets
from probgen.cli.models import MODELS, Images
from probgen.core import load, save
from probgen.evaluation import likelihood


def load_images(name: str) -> Images:
    """A data set of integer images, its training rows split once and for all. Raises ValueError for other data."""
    data = datasets.load(name)
    if data.levels is None or np.ndim(data.train) < 2:
        raise ValueError(f"{name}: the models of the command line are for images with integer levels")
    train, validation = datasets.holdout(data.train, size=min(500, len(data.train) // 4))
    return Images(name, np.asarray(train), np.asarray(validation), np.asarray(data.test), data.levels)


def train(options: argparse.Namespace) -> None:
    """Train one model, print its test likelihood, write its file."""
    images = load_images(options.data)
    entry = next(entry for entry in MODELS if entry.name == options.model)
    out = Path(options.out or f"{options.model}.safetensors")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent}")
    trained = entry.train(images, key=jax.random.key(options.seed), quick=options.quick)
    save(out, trained.model)
    result = likelihood(trained.model, images.test, key=jax.random.key(options.seed), num_particles=entry.particles)
    print(f"{entry.name} on the test rows of {images.name}: {result}")
    print(f"written: {out}")


def _load(path: str) -> Any:
    model = load(path)
    if not hasattr(model, "log_prob_bound"):
        raise ValueError(f"{path} holds a conditional model, which needs a context")
    return model


def evaluate(options: argparse.Namespace) -> None:
    """Print the test likelihood of a model file."""
    model, data = _load(options.file), datasets.load(options.data)
    rows = np.asarray(data.test)
    if rows.shape[1:] != model.event_shape:
        raise ValueError(f"{options.file} models events {model.event_shape}, but {options.data} has {rows.shape[1:]}")
    print(likelihood(model, rows, key=jax.random.key(options.seed), num_particles=options.particles))


def sample(options: argparse.Namespace) -> None:
    """Draw from a model file into a picture or an array."""
    model, out = _load(options.file), Path(options.out)
    if out.suffix not in (".png", ".npy"):
        raise ValueError(f"--out: expected a name ending in .png or .npy, got {out}")
    draws = np.asarray(jax.jit(lambda m, k: m.sample(k, (options.num,)))(model, jax.random.key(options.seed)))
    if out.suffix == ".npy":
        np.save(out, draws)
    else:
        write_grid(out, draws)
    print(f"written: {out}")


def write_grid(path: Path, draws: np.ndarray) -> None:
    """A picture of one grid of images."""
    from matplotlib.figure import Figure

    from probgen.plotting import image_grid

    figure = Figure(figsize=(6, 6), layout="constrained")
    image_grid(draws, ax=figure.add_subplot())
    figure.savefig(path, dpi=150)
