"""Autoregressive models on real data: nats or bits of test rows; and how much the order matters.

    python benchmarks/autoregressive_data.py --data binarized_mnist --models made,gated --minutes 60
    python benchmarks/autoregressive_data.py --data optdigits --models gated --minutes 10 --seeds 0 1 2
    python benchmarks/autoregressive_data.py --data optdigits --models orders --minutes 4
    python benchmarks/autoregressive_data.py --data binarized_mnist --models gated --recipe gpu

The files are those of `probgen.data`, in the folder that PROBGEN_DATA names (by default ../shared/data). MNIST is
Larochelle's static binarization (50,000 / 10,000 / 10,000), optdigits 8×8 of 17 levels with 500 validation rows held
out of 3,823. A step is timed first, and the learning rate falls to 0 over as many steps as fit into `--minutes`; the
best on validation rows counts. `orders` trains one and the same network under five orders.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from density import step_seconds
from jax import Array, lax
from pairing import environment, write_json

import probgen
from probgen.autoregressive import Order, gated_pixel_cnn, made, transformer

PUBLISHED = {("binarized_mnist", "made"): "88.40 (8,000 units)", ("binarized_mnist", "gated"): "81.3 (PixelCNN)"}


class Images(NamedTuple):
    """Images [N, H, W] of integers 0..levels−1."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    levels: int


class Recipe(NamedTuple):
    """How a model is built and trained; `steps` of None are as many as the time allows."""

    make: Callable[[Images, Array], Any]
    batch: int
    rate: float
    decay: float
    steps: int | None = None


def _of_images(recipe: Callable[..., Any], images: Images, key: Array, **options: Any) -> Any:
    return recipe(images.train.shape[1:], images.levels, key=key, **options)


RECIPES: dict[tuple[str, str], dict[str, Recipe]] = {
    ("binarized_mnist", "cpu"): {
        "made": Recipe(functools.partial(_of_images, made, hidden=(4000,), direct=True, dropout=0.5), 100, 1e-3, 1e-4),
        "gated": Recipe(functools.partial(_of_images, gated_pixel_cnn, channels=32, depth=6, reach=2), 16, 2e-3, 1e-4),
    },
    ("binarized_mnist", "gpu"): {
        "made": Recipe(
            functools.partial(_of_images, made, hidden=(8000,), direct=True, dropout=0.5), 100, 1e-3, 1e-4, 200_000
        ),
        "gated": Recipe(
            functools.partial(_of_images, gated_pixel_cnn, channels=64, depth=12, reach=2, dropout=0.1),
            64,
            1e-3,
            1e-4,
            200_000,
        ),
    },
    ("optdigits", "cpu"): {
        "made": Recipe(functools.partial(_of_images, made, hidden=(512,), dropout=0.3), 128, 2e-3, 1e-3),
        "gated": Recipe(
            functools.partial(_of_images, gated_pixel_cnn, channels=48, depth=5, dropout=0.3), 64, 2e-3, 1e-3
        ),
    },
}


def load_images(name: str) -> Images:
    """The parts of a data set, always the same."""
    os.environ.setdefault("PROBGEN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    data = probgen.data.load(name)
    if name == "binarized_mnist":
        return Images(data.train, data.validation, data.test, 2)
    train, validation = probgen.data.holdout(data.train)
    return Images(train, validation, data.test, 17)


def train(model: Any, images: Images, recipe: Recipe, minutes: float, key: Array) -> tuple[Any, int, float]:
    """(the model that is best on validation rows, steps, seconds), trained from the frequencies of the pixels on."""
    if hasattr(model, "initialized"):
        model = probgen.distributions.initialize(model, images.train)
    rows = images.train.shape[0] // recipe.batch
    steps = recipe.steps or max(100, int(60 * minutes / (1.08 * step_seconds(model, images, recipe, averaged=True))))
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.rate, min(1000, steps // 10), steps)
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=recipe.decay))
    began = time.perf_counter()
    result = probgen.fit(
        model, images.train, steps=steps, batch_size=recipe.batch, optimizer=adam, key=key,
        validation=images.validation[:2000], validate_every=max(rows, steps // 20), ema=0.999,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    return result.model, steps, time.perf_counter() - began


def nats(model: Any, x: np.ndarray) -> np.ndarray:
    """−log p of each row."""
    return -np.asarray(jax.jit(lambda model, x: lax.map(model.log_prob, x, batch_size=200))(model, x), float)


def report(name: str, images: Images, model: Any, steps: int, seconds: float, note: str = "") -> dict[str, Any]:
    """Print a line; and the same for JSON."""
    cost = nats(model, images.test)
    mean, error = float(cost.mean()), float(cost.std(ddof=1) / np.sqrt(len(cost)))
    bits = np.log(2) * images.test[0].size
    size = probgen.core.count_parameters(model)
    print(
        f"{name:22s}{mean:9.3f} ± {error:.3f} nats{mean / bits:9.4f} ± {error / bits:.4f} bits/dim"
        f"{size:12,d} parameters{steps:9,d} steps{seconds:7.0f} s  {note}",
        flush=True,
    )
    return {"model": name, "nats": mean, "se": error, "bits": mean / bits, "steps": steps, "seconds": seconds}


def orders(shape: tuple[int, ...]) -> dict[str, Order]:
    """The five that are compared."""
    raster = Order.raster(shape)
    return {
        "raster": raster,
        "reversed": raster.reversed(),
        "serpentine": Order.serpentine(shape),
        "columns": Order.columns(shape),
        "random": Order.random(shape, key=jax.random.key(0)),
    }


def compare_orders(images: Images, minutes: float, seed: int) -> list[dict[str, Any]]:
    """One transformer, which has no idea of an image, under each order."""
    found, shape = [], images.train.shape[1:]
    size = int(np.prod(shape))
    flat = images._replace(
        **{part: getattr(images, part).reshape(-1, size) for part in ("train", "validation", "test")}
    )
    for name, order in orders(shape).items():
        make = functools.partial(transformer, size, images.levels, width=64, layers=3, dropout=0.1, order=order)
        recipe = Recipe(lambda _, key, make=make: make(key=key), 64, 1e-3, 1e-2)
        init_key, fit_key = jax.random.split(jax.random.key(seed))
        found.append(report(name, flat, *train(recipe.make(flat, init_key), flat, recipe, minutes, fit_key)))
    return found


def main() -> None:
    """Train and report what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["binarized_mnist", "optdigits"], required=True)
    parser.add_argument("--models", default="made,gated")
    parser.add_argument("--recipe", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--minutes", type=float, default=60.0, help="for each model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    images, found = load_images(options.data), []
    for seed in options.seeds:
        for name in options.models.split(","):
            if name == "orders":
                found += compare_orders(images, options.minutes, seed)
                continue
            recipe = RECIPES[options.data, options.recipe][name]
            init_key, fit_key = jax.random.split(jax.random.key(seed))
            trained = train(recipe.make(images, init_key), images, recipe, options.minutes, fit_key)
            note = PUBLISHED.get((options.data, name), "")
            found.append(report(f"{name}, seed {seed}", images, *trained, note=note and f"published {note}"))
    write_json(options.json, {"environment": environment(), "results": found})


if __name__ == "__main__":
    main()
