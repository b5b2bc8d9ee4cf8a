"""Latent-variable models on real data: nats of test rows by 5,000 importance weights, and what the latents do.

    python benchmarks/latent_data.py --data binarized_mnist --models vae,iwae,vamp,flow --minutes 20
    python benchmarks/latent_data.py --data optdigits --models vae,top_down --minutes 2 --seeds 0 1 2
    python benchmarks/latent_data.py --data binarized_mnist --models vae,top_down_conv --recipe gpu

The files are those of `probgen.data`, in the folder that PROBGEN_DATA names (by default ../shared/data). MNIST is
Larochelle's static binarization (50,000 / 10,000 / 10,000), optdigits 8×8 of 17 levels with 500 validation rows held
out of 3,823. A step is timed first, and the learning rate falls to 0 over as many steps as fit into `--minutes`; the
best on validation rows counts. `--steps` instead of `--minutes` makes a run that can be repeated. `--rows` of the test rows are evaluated.
"""

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from autoregressive_data import Images, load_images
from jax import Array
from pairing import environment, write_json

import probgen
from probgen import flows, latent
from probgen.inference import objectives

PUBLISHED = {
    "vae": "88.56 (VampPrior's authors), 89.9 (pythae)",
    "vamp": "85.57 (2018)",
    "flow": "82.95 → 79.99 (ResNet VAE: standard → RealNVP prior, Xu et al. 2019)",
    "iwae": "87.1 (pythae)",
}


class Recipe(NamedTuple):
    """How a model is built and trained; `steps` of None are as many as the time allows."""

    make: Callable[[Images, Array], Any]
    objective: Callable[[], Any] | None = None
    batch: int = 100
    rate: float = 1e-3
    steps: int | None = None


def _dense(images: Images, key: Array, recipe: Callable[..., Any] = latent.vae, **options: Any) -> Any:
    """The network 784-300-300-40 both ways, or one as large for 64 numbers."""
    shape, levels = images.train.shape[1:], images.levels
    size = {"hidden": (300, 300), "latent_dim": 40} if math.prod(shape) == 784 else {"latent_dim": 16}
    components = {"components": 0 if levels == 2 else 3}
    return recipe(shape, levels, **{**size, **components, **options}, key=key)


def _flow(images: Images, key: Array) -> Any:
    dim = 40 if images.levels == 2 else 16
    return _dense(images, key, prior=flows.real_nvp(dim, layers=6, hidden=(128, 128), key=jax.random.fold_in(key, 1)))


RECIPES: dict[str, Recipe] = {
    "vae": Recipe(_dense),
    "iwae": Recipe(_dense, functools.partial(objectives.ImportanceWeighted, 50)),
    "flow": Recipe(_flow),
}


def seconds_of_steps(model: Any, images: Images, recipe: Recipe, steps: int = 60) -> float:
    """Seconds of one step of `fit`, compilation left out."""
    took = []
    for count in (20, 20 + steps):
        began = time.perf_counter()
        _fit(model, images, recipe, count, jax.random.key(0), optax.adam(1e-4))
        took.append(time.perf_counter() - began)
    return max(1e-4, (took[1] - took[0]) / steps)


def _fit(model: Any, images: Images, recipe: Recipe, steps: int, key: Array, optimizer: Any, **options: Any) -> Any:
    objective = None if recipe.objective is None else recipe.objective()
    return probgen.fit(
        model, images.train, steps=steps, batch_size=recipe.batch, optimizer=optimizer, objective=objective, key=key,
        ema=0.999, progress=sys.stderr.isatty(), **options,
    )  # fmt: skip


def train(model: Any, images: Images, recipe: Recipe, minutes: float, key: Array) -> tuple[Any, int, float]:
    """(the model that is best on validation rows, steps, seconds)."""
    steps = recipe.steps or max(100, int(60 * minutes / (1.05 * seconds_of_steps(model, images, recipe))))
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.rate, min(1000, steps // 10), steps)
    adam = optax.chain(optax.clip_by_global_norm(100.0), optax.adam(rate))
    began = time.perf_counter()
    looks = {"validation": images.validation[:2000], "validate_every": max(50, steps // 25)}
    result = _fit(model, images, recipe, steps, key, adam, **looks)
    return result.model, steps, time.perf_counter() - began


def report(name: str, images: Images, model: Any, steps: int, seconds: float, rows: int, particles: int) -> dict:
    """Print a line; and the same for JSON."""
    test, began = images.test[:rows], time.perf_counter()
    one = probgen.evaluation.likelihood(model, test, key=jax.random.key(1), num_particles=1)
    many = probgen.evaluation.likelihood(model, test, key=jax.random.key(2), num_particles=particles, batch_size=20)
    size = probgen.core.count_parameters(model)
    print(
        f"{name:24s} ≤ {many.nats:8.3f} ± {many.se_nats:.3f} nats ({many.bits_per_dim:.4f} bits/dim), "
        f"ELBO {one.nats:8.3f}, {size:10,d} parameters, {steps:7,d} steps in {seconds / 60:5.1f} min, "
        f"evaluated in {time.perf_counter() - began:4.0f} s",
        flush=True,
    )
    return {
        "model": name, "nats": many.nats, "se": many.se_nats, "bits": many.bits_per_dim, "elbo": one.nats,
        "steps": steps, "seconds": seconds, "rows": rows, "particles": particles,
    }  # fmt: skip


def main() -> None:
    """Train and report what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["binarized_mnist", "optdigits"], required=True)
    parser.add_argument("--models", default=",".join(RECIPES))
    parser.add_argument("--minutes", type=float, default=20.0, help="for each model")
    parser.add_argument("--steps", type=int, help="for each model, instead of the time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, default=10_000, help="of the test rows, evaluated")
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="a folder for the trained models")
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    images, found = load_images(options.data), []
    for seed in options.seeds:
        for name in options.models.split(","):
            recipe = RECIPES[name]._replace(steps=options.steps)
            init_key, fit_key = jax.random.split(jax.random.key(seed))
            model, steps, seconds = train(recipe.make(images, init_key), images, recipe, options.minutes, fit_key)
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                probgen.save(options.out / f"{name}-{seed}.safetensors", model)
            title = f"{name}, seed {seed}"
            found.append(report(title, images, model, steps, seconds, options.rows, options.particles))
            if options.data == "binarized_mnist" and name in PUBLISHED:
                print(f"    published: {PUBLISHED[name]}", flush=True)
    write_json(options.json, {"environment": environment(), "results": found})


if __name__ == "__main__":
    main()
