"""Diffusions of integers on optdigits, in the demo's budget of about a minute of one core: bits/dim of test rows.

    python benchmarks/score_discrete.py --models masked,masked-images,uniform --json found.json

A bound is the mean of 64 draws for each row. Of the masked ones it is also told what a draw in few steps costs
(`InSteps`), with the same weights; and, of 300 test rows, the exact figure in raster order (`InOrder`).
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from autoregressive_data import load_images
from jax import Array, lax
from pairing import environment, write_json

import probgen
from probgen.autoregressive import Autoregressive
from probgen.score import (
    InOrder,
    InSteps,
    cosine_share,
    linear_share,
    masked_diffusion,
    uniform_diffusion,
)

# of each: the model, epochs, rows of a batch, rate
RECIPES: dict[str, tuple[Callable[..., Any], int, int, float]] = {
    "masked": (lambda shape, n, key: masked_diffusion(shape, levels=n, dropout=0.1, key=key), 100, 128, 2e-3),
    "masked-images": (
        lambda shape, n, key: masked_diffusion(shape, levels=n, channels=32, dropout=0.1, key=key),
        20,
        64,
        4e-3,
    ),
    "uniform": (lambda shape, n, key: uniform_diffusion(shape, levels=n, dropout=0.1, key=key), 100, 128, 2e-3),
}


def bits(log_prob: Callable[[Any, Array], Array], model: Any, x: np.ndarray) -> tuple[float, float]:
    """Mean bits/dim of rows, and its standard error."""
    cost = -np.asarray(jax.jit(log_prob)(model, x), float) / (np.log(2) * x[0].size)
    return float(cost.mean()), float(cost.std(ddof=1) / np.sqrt(len(cost)))


def bound(model: Any, x: Array) -> Array:
    """The bound of rows, in nats."""
    return model.log_prob_bound(jax.random.key(9), x, 64)


def report(name: str, kind: str, found: tuple[float, float], **more: Any) -> dict[str, Any]:
    """Print a line; and the same for JSON."""
    notes = "".join(f"  {key} {value}" for key, value in more.items())
    print(f"{name:44s}{kind} {found[0]:.4f} ± {found[1]:.4f} bits/dim{notes}", flush=True)
    return {"model": name, "kind": kind, "bits": found[0], "se": found[1], **more}


def train(name: str, seed: int) -> list[dict[str, Any]]:
    """Train one model, the best on validation rows, and report it in all its forms."""
    make, epochs, batch, rate = RECIPES[name]
    images = load_images("optdigits")
    init_key, fit_key = jax.random.split(jax.random.key(seed))
    model = make(images.train.shape[1:], images.levels, init_key)
    per_epoch = len(images.train) // batch
    schedule = optax.cosine_onecycle_schedule(epochs * per_epoch, rate, pct_start=0.1)
    adam = optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(schedule, weight_decay=1e-2))
    began, used = time.perf_counter(), time.process_time()
    result = probgen.fit(
        model, images.train, epochs=epochs, batch_size=batch, optimizer=adam, key=fit_key,
        validation=images.validation, validate_every=per_epoch * max(1, epochs // 25), ema=0.998, progress=False,
    )  # fmt: skip
    seconds = {"wall": round(time.perf_counter() - began), "cpu": round(time.process_time() - used)}
    model, test = result.model, images.test
    found = [report(f"{name}, validation", "≤", bits(bound, model, images.validation), **seconds)]
    found.append(report(name, "≤", bits(bound, model, test), parameters=probgen.core.count_parameters(model)))
    if name == "uniform":
        more = [(f"{name}, {steps} steps", model.replace(steps=steps)) for steps in (20, 1000)]
    else:
        ways = [(steps, share) for steps in (8, 16, 32) for share in (linear_share, cosine_share)]
        more = [(f"{name}, {n} steps, {s.__name__}", model.replace(unmasking=InSteps(n, s))) for n, s in ways]
        order = tuple(range(test[0].size))
        exact = Autoregressive(InOrder(model, order), model.head, model.event_shape, order=order)
        log_prob = lambda model, x: lax.map(model.log_prob, x, batch_size=10)
        found.append(report(f"{name}, the first 300 rows", "≤", bits(bound, model, test[:300])))
        found.append(report(f"{name}, the first 300 rows in raster order", "=", bits(log_prob, exact, test[:300])))
    return found + [report(name, "≤", bits(bound, model, test)) for name, model in more]


def main() -> None:
    """Train and report what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    found = [line for name in options.models.split(",") for line in train(name, options.seed)]
    write_json(options.json, {"environment": environment(), "results": found})


if __name__ == "__main__":
    main()
