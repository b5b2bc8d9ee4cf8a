"""Diffusion of images by a U-Net: bits/dim of test rows, the ODE's figure beside the bound, draws of 20 network calls.

    python benchmarks/score_images.py --data mnist --minutes 60
    python benchmarks/score_images.py --data fashion_mnist --minutes 60 --pictures docs/figures
    python benchmarks/score_images.py --data mnist --recipe gpu --minutes 60

A step is timed first, and the learning rate falls to 0 over as many as fit into `--minutes`; the averaged params count.
What is trained is the bound of pixels 0..255 as integers, continuous in time. `bound` is that bound of 2,000 test rows,
`--particles` times for each, and what it is made of; `ODE` is the importance weight of `exact_by` of `--ode-rows` rows,
an unbiased estimate of the density of what the ODE draws, whose logarithm is a bound in the mean.
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

LEVELS, TEST_ROWS = 256, 2000


class Recipe(NamedTuple):
    """How the network is built and trained."""

    channels: tuple[int, ...]
    depth: int
    dropout: float
    batch: int
    rate: float


RECIPES = {
    "cpu": Recipe((24, 48, 48), 1, 0.0, 32, 2e-3),
    "gpu": Recipe((64, 128, 128), 2, 0.1, 128, 1e-3),
}


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, H, W] to train on, and of the test."""
    os.environ.setdefault("PROBGEN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    data = probgen.data.load(name)
    return np.asarray(data.train), np.asarray(data.test)


def train(model: Any, x: np.ndarray, recipe: Recipe, minutes: float, key: jax.Array) -> tuple[Any, int, float]:
    """(the model, steps, seconds)."""

    def fit(steps: int) -> Any:
        rate = optax.warmup_cosine_decay_schedule(0.0, recipe.rate, min(500, steps // 10), steps)
        return probgen.fit(
            model, x, steps=steps, batch_size=recipe.batch, key=key, ema=0.999 if steps > 5000 else 0.99,
            optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-4)),
            progress=sys.stderr.isatty(),
        )  # fmt: skip

    took = []
    for few in (10, 30):  # both compile
        began = time.perf_counter()
        fit(few)
        took.append(time.perf_counter() - began)
    steps = max(30, int((60 * minutes - took[0]) * 20 / (took[1] - took[0])))
    began = time.perf_counter()
    return fit(steps).model, steps, time.perf_counter() - began


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["mnist", "fashion_mnist"], default="mnist")
    parser.add_argument("--recipe", choices=list(RECIPES), default="cpu")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--ode-rows", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", help="the folder of a picture of 64 draws")
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    recipe, (x, test) = RECIPES[options.recipe], load(options.data)
    init_key, fit_key, key = jax.random.split(jax.random.key(options.seed), 3)
    start = vp_score(
        x.shape[1:], levels=LEVELS, channels=recipe.channels, depth=recipe.depth, dropout=recipe.dropout, key=init_key
    )
    model, steps, seconds = train(start, x, recipe, options.minutes, fit_key)
    bits = np.log(2) * test[0].size

    report = score.evaluate(model, test[:TEST_ROWS], key=key, num_particles=options.particles)
    found: dict[str, Any] = {
        "data": options.data, "recipe": options.recipe, "steps": steps, "seconds": seconds,
        "parameters": probgen.core.count_parameters(model), "bits": -report.bound / bits,
        "report": {name: np.asarray(value).tolist() for name, value in dataclasses.asdict(report).items()},
    }  # fmt: skip
    print(
        f"{options.data}: {found['parameters']:,d} parameters, {steps:,d} steps of {recipe.batch} "
        f"in {seconds / 60:.1f} min"
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
        probgen.plotting.image_grid(draws, levels=LEVELS, title=f"{options.data}, 20 calls of the network")
        plt.savefig(Path(options.pictures) / f"score_{options.data}.png", dpi=150, bbox_inches="tight")
    write_json(options.json, {"environment": environment(), "results": found})


if __name__ == "__main__":
    main()
