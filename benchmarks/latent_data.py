"""Latent-variable models on real data: nats of test rows by 5,000 importance weights, and what the latents do.

    python benchmarks/latent_data.py --data binarized_mnist --out models
    python benchmarks/latent_data.py --data optdigits --models vae,top_down --steps 4000 --seeds 0 1 2
    python benchmarks/latent_data.py --data binarized_mnist --models vae,vd_vae --steps 400000  # with an accelerator

The files are those of `probgen.data`, in the folder that PROBGEN_DATA names (by default ../shared/data). MNIST is
Larochelle's static binarization (50,000 / 10,000 / 10,000), optdigits 8×8 of 17 levels with 500 validation rows held
out of 3,823. The importance-weighted bound of 50 particles is trained from where that of 5 ended. The learning rate
falls to 0 over a fixed number of steps; the best on validation rows counts. `--rows` of the test rows are evaluated;
models are compared row by row.
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
import jax.numpy as jnp
import numpy as np
import optax
from autoregressive_data import Images, load_images
from jax import Array
from pairing import environment, write_json

import probgen
from probgen import latent
from probgen.inference.objectives import ELBO, Beta

PUBLISHED = {
    "vae": "88.56 (VampPrior's authors), 89.9 (pythae)",
    "vamp": "85.57 (2018)",
    "flow": "82.95 → 79.99 (ResNet VAE: standard → RealNVP prior, Xu et al. 2019)",
    "iwae": "87.1 (pythae)",
}


class Recipe(NamedTuple):
    """How a model is built and trained, by default."""

    make: Callable[[Images, Array], Any]
    batch: int = 100
    rate: float = 1e-3
    steps: int = 50_000
    warm_up: float = 0.0  # the share of the steps until the KL has its whole weight
    start: str | None = None  # the model, trained before it in the same run, whose params it starts from


def _dense(images: Images, key: Array, recipe: Callable[..., Any] = latent.vae, **options: Any) -> Any:
    """The network 784-300-300-40 both ways, or one as large for 64 numbers."""
    shape, levels = images.train.shape[1:], images.levels
    size: dict[str, Any] = {"hidden": (300, 300), "latent_dim": 40} if math.prod(shape) == 784 else {}
    if recipe in (latent.hierarchical_vae, latent.vq_vae):
        size.pop("latent_dim", None)
    components = {"components": 0 if levels == 2 else 3}
    if levels > 2 and recipe in (latent.vae, latent.top_down_vae):
        size |= {"dropout": 0.02, "input_dropout": 0.02}
    return recipe(shape, levels, **{**size, **components, **options}, key=key)


def _pixels(images: Images, key: Array) -> Any:
    components = 0 if images.levels == 2 else 3
    size = {"layers": (1, 2, 2), "channels": 32} if images.levels == 2 else {"layers": (1, 2), "channels": 32}
    return latent.vd_vae(images.train.shape[1:], images.levels, components=components, key=key, **size)


def _with(recipe: Callable[..., Any], **options: Any) -> Callable[[Images, Array], Any]:
    return functools.partial(_dense, recipe=recipe, **options)


RECIPES: dict[str, Recipe] = {
    "vae": Recipe(_dense),
    "iwae5": Recipe(_with(latent.iwae, num_particles=5)),
    "iwae": Recipe(_with(latent.iwae, num_particles=50), batch=40, rate=5e-4, steps=36_000, start="iwae5"),
    "flow": Recipe(_with(latent.flow_prior_vae)),
    "vamp": Recipe(
        lambda images, key: _dense(images, key, latent.vamp_vae, pseudo_inputs=500, data=images.train),
        steps=25_000,
    ),
    "iaf": Recipe(_with(latent.iaf_vae)),
    "hierarchical": Recipe(_with(latent.hierarchical_vae, latent_dims=(40, 20))),
    "top_down": Recipe(_with(latent.top_down_vae, layers=2, latent_dim=20, width=300), steps=30_000, warm_up=1 / 3),
    "vq": Recipe(_with(latent.vq_vae, codes=64, code_shape=(8,), dim=8)),
    "vd_vae": Recipe(_pixels, batch=50, rate=2e-3, steps=10_000, warm_up=1 / 4),
}


def _fit(model: Any, images: Images, recipe: Recipe, steps: int, key: Array, optimizer: Any, **options: Any) -> Any:
    rising = optax.linear_schedule(0.0, 1.0, int(recipe.warm_up * steps))
    return probgen.fit(
        model, images.train, steps=steps, batch_size=recipe.batch, optimizer=optimizer, key=key, ema=0.999,
        objective=Beta(ELBO(), rising) if recipe.warm_up else None, progress=sys.stderr.isatty(), **options,
    )  # fmt: skip


def train(model: Any, images: Images, recipe: Recipe, key: Array) -> tuple[Any, int, float]:
    """(the model that is best on validation rows, steps, seconds)."""
    steps = recipe.steps
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.rate, min(1000, steps // 10), steps)
    adam = optax.chain(optax.clip_by_global_norm(100.0), optax.adam(rate))
    began = time.perf_counter()
    looks = {"validation": images.validation[:2000], "validate_every": max(50, steps // 25)}
    result = _fit(model, images, recipe, steps, key, adam, **looks)
    return result.model, steps, time.perf_counter() - began


def evenly(x: np.ndarray, rows: int) -> np.ndarray:
    """So many rows, from all over: MNIST's test rows are not in a random order, the first thousand are bolder."""
    return x[np.linspace(0, len(x), min(rows, len(x)), endpoint=False).astype(int)]


def costs(model: Any, x: np.ndarray, particles: int, batch: int) -> np.ndarray:
    """−log p of each row, or its bound with so many particles."""
    bound = jax.jit(lambda model, key, x: model.log_prob_bound(key, x, particles))
    parts = [bound(model, jax.random.key(i), x[i : i + batch]) for i in range(0, len(x), batch)]
    return -np.concatenate([np.asarray(part, float) for part in parts])


def active(model: Any, x: np.ndarray) -> str:
    """How many latent numbers are active, layer by layer from the top, where the model has such."""
    key = jax.random.key(3)
    if isinstance(model, latent.TopDown):
        each = [np.var(np.asarray(jax.jit(jax.vmap(model._center))(x)), 0) > 0.01]
        sums = model.path.of_layers(jnp.asarray(each[0], float)).astype(int).tolist()
        return f"active {sums}"
    if not isinstance(model, latent.LatentVariableModel):
        return ""
    counts, rows, layer = [], x, model
    while layer is not None:
        counts.append(int(latent.active_units(layer, key, rows)))
        rows, layer = layer.encode(rows).sample(key), layer.nested
    return f"active {counts[::-1]}"


def report(name: str, images: Images, model: Any, steps: int, seconds: float, particles: int, rows: int) -> dict:
    """Print a line; and the same for JSON."""
    x, began = evenly(images.test, rows), time.perf_counter()
    one = costs(model, x, 1, 500).mean()
    quantized = isinstance(model, latent.VectorQuantized)
    each = costs(model, x, 1, 500) if quantized else costs(model, x, particles, 20)
    mean, error = float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))
    bits = mean / (np.log(2) * x[0].size)
    print(
        f"{name:16s} ≤ {mean:8.3f} ± {error:.3f} nats ({bits:.4f} bits/dim), one sample {one:8.3f}, "
        f"{probgen.core.count_parameters(model):10,d} parameters, {steps:7,d} steps in {seconds / 60:5.1f} min, "
        f"evaluated in {time.perf_counter() - began:4.0f} s; {active(model, evenly(images.test, 1000))}",
        flush=True,
    )
    found = {"model": name, "nats": mean, "se": error, "bits": bits, "one": float(one), "steps": steps}
    return {**found, "seconds": seconds, "rows": rows, "particles": particles, "each": each.tolist()}


def compare(found: list[dict]) -> None:
    """Print how much better than the first each is, on the same rows, with the standard error of the difference."""
    first = np.asarray(found[0]["each"])
    for other in found[1:]:
        gain = first - np.asarray(other["each"])
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        print(f"{other['model']:16s} better than {found[0]['model']} by {gain.mean():7.3f} ± {error:.3f} nats")


def main() -> None:
    """Train and report what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["binarized_mnist", "optdigits"], required=True)
    parser.add_argument("--models", default=",".join(RECIPES))
    parser.add_argument("--steps", type=int, help="for each model, in place of its own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, default=10_000, help="of the test rows, evaluated, evenly spread")
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument(
        "--out", type=Path, help="a folder of trained models: those that are there are not trained again"
    )
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    images, found = load_images(options.data), []
    for seed in options.seeds:
        trained: dict[str, Any] = {}
        for name in options.models.split(","):
            recipe = RECIPES[name]
            recipe = recipe._replace(steps=options.steps or recipe.steps)
            init_key, fit_key = jax.random.split(jax.random.key(seed))
            file = None if options.out is None else options.out / f"{name}-{seed}.safetensors"
            if file is not None and file.exists():
                model, steps, seconds = probgen.load(file), 0, 0.0
            else:
                model = recipe.make(images, init_key)
                if recipe.start is not None:
                    if recipe.start not in trained:
                        parser.error(f"--models: {name} starts from {recipe.start}, which has to stand before it")
                    model = probgen.combine(probgen.partition(trained[recipe.start])[0], probgen.partition(model)[1])
                model, steps, seconds = train(model, images, recipe, fit_key)
                if file is not None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    probgen.save(file, model)
            trained[name], title = model, f"{name}, seed {seed}"
            found.append(report(title, images, model, steps, seconds, options.particles, options.rows))
            if options.data == "binarized_mnist" and name in PUBLISHED:
                print(f"    published: {PUBLISHED[name]}", flush=True)
    compare(found)
    write_json(options.json, {"environment": environment(), "results": found})


if __name__ == "__main__":
    main()
