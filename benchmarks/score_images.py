"""Diffusion of images: bits/dim of test rows, the ODE's figure beside the bound, draws of 20 network calls.

    python benchmarks/score_images.py --data mnist
    python benchmarks/score_images.py --data fashion_mnist --pictures docs/figures
    python benchmarks/score_images.py --data mnist --recipe gpu
    python benchmarks/score_images.py --data optdigits --recipe small --ode-rows 200

The learning rate falls to 0 over a fixed number of steps; the averaged params count. `cpu` takes 40 minutes of a free
core.
Pixels are integers, noise is continuous in time; the network is a U-Net, of `small` a `ResidualCNN`. `bound` is that of
2,000 test rows, `--particles` times for each, and what it is made of; `ODE` is the importance weight of `exact_by`
of `--ode-rows` rows, an unbiased estimate of the density of what the ODE draws, whose logarithm is a bound in the mean.
"""

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib
import numpy as np
import optax
from pairing import environment, write_json

import probgen
from probgen import score
from probgen.score import DPMSolver, ProbabilityFlow, vp_score

TEST_ROWS = 2000


class Recipe(NamedTuple):
    """How the network is built and trained."""

    channels: int | tuple[int, ...]
    depth: int
    dropout: float
    batch: int
    rate: float
    steps: int


RECIPES = {
    "cpu": Recipe((24, 48, 48), 1, 0.0, 32, 2e-3, 8000),
    "small": Recipe(32, 3, 0.05, 64, 4e-3, 1800),
    "gpu": Recipe((64, 128, 128), 2, 0.1, 128, 1e-3, 100_000),
}


def load(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Images [N, H, W] to train on, and of the test, and how many levels a pixel takes."""
    os.environ.setdefault("PROBGEN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    data = probgen.data.load(name)
    return np.asarray(data.train), np.asarray(data.test), data.levels


def train(model: Any, x: np.ndarray, recipe: Recipe, steps: int, key: jax.Array) -> tuple[Any, float, float]:
    """(the model, seconds, seconds of a CPU)."""
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.rate, max(1, min(500, steps // 10)), steps)
    began, used = time.perf_counter(), time.process_time()
    result = probgen.fit(
        model, x, steps=steps, batch_size=recipe.batch, key=key, ema=0.999 if steps > 5000 else 0.998,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-4)),
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    return result.model, time.perf_counter() - began, time.process_time() - used


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["mnist", "fashion_mnist", "optdigits"], default="mnist")
    parser.add_argument("--recipe", choices=list(RECIPES), default="cpu")
    parser.add_argument("--steps", type=int, help="in place of the recipe's")
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--ode-rows", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", help="the folder of a picture of 64 draws")
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    recipe, (x, test, levels) = RECIPES[options.recipe], load(options.data)
    init_key, fit_key, key = jax.random.split(jax.random.key(options.seed), 3)
    start = vp_score(
        x.shape[1:], levels=levels, channels=recipe.channels, depth=recipe.depth, dropout=recipe.dropout, key=init_key
    )
    steps = options.steps or recipe.steps
    model, seconds, used = train(start, x, recipe, steps, fit_key)
    bits = np.log(2) * test[0].size

    report = score.evaluate(model, test[:TEST_ROWS], key=key, num_particles=options.particles)
    found: dict[str, Any] = {
        "data": options.data, "recipe": options.recipe, "steps": steps, "seconds": seconds,
        "cpu seconds": used,
        "parameters": probgen.core.count_parameters(model), "bits": -report.bound / bits,
        "report": {name: np.asarray(value).tolist() for name, value in dataclasses.asdict(report).items()},
    }  # fmt: skip
    print(
        f"{options.data}: {found['parameters']:,d} parameters, {steps:,d} steps of {recipe.batch} "
        f"in {seconds / 60:.1f} min, {used / 60:.1f} of a CPU"
    )
    print(f"bound ≤ {found['bits']:.4f} bits/dim\n{report}", flush=True)
    if options.ode_rows:
        rows = test[: options.ode_rows]
        by_flow = model.exact_by(ProbabilityFlow(1e-3, probes=8))
        weights = jax.jit(lambda m, x: m.log_prob_bound(key, x))(by_flow, rows)
        bound = jax.jit(lambda m, x: m.log_prob_bound(key, x, 256))(model, rows)
        found["ode"], found["bound of the same rows"] = (-float(v.mean()) / bits for v in (weights, bound))
        print(f"of {len(rows)} rows: ODE {found['ode']:.4f}, bound {found['bound of the same rows']:.4f}", flush=True)
    if options.pictures:
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        few = model.replace(sampler=DPMSolver(20))
        draws = jax.jit(lambda m: m.sample(key, (64,)))(few)
        probgen.plotting.image_grid(draws, levels=levels, title=f"{options.data}, 20 calls of the network")
        plt.savefig(Path(options.pictures) / f"score_{options.data}.png", dpi=150, bbox_inches="tight")
    write_json(options.json, {"environment": environment(), "results": found})


if __name__ == "__main__":
    main()
