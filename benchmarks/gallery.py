"""A picture of every recipe on toys in the plane: the trained density, draws from it, and its integral over a grid.

    python benchmarks/gallery.py --picture docs/figures/flows_gallery.png

Each flow takes `--steps` steps of 256 rows; mixtures are trained by expectation–maximization, histograms counted. Over
each density stand its nats on held-out rows. Exits with 1 where a density does not integrate to 1 within 1 %.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from jax import Array, lax
from pairing import environment, write_json

import probgen
from probgen import distributions, flows, mixtures
from probgen.data import toys

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from probgen import plotting

ROWS, BOX = 20_000, 10.0
TOYS = {  # what draws rows, and the box of the picture
    "checkerboard": (toys.checkerboard, {"low": -4.5, "high": 4.5}),
    "two moons": (toys.two_moons, {"low": (-1.7, -2.0), "high": (2.7, 2.4)}),
    "pinwheel": (toys.pinwheel, {"low": -4.5, "high": 4.5}),
}
NETS = {"hidden": (64, 64)}
Make = Callable[[Array, Array], Any]

RECIPES: dict[str, Make] = {
    "histogram": lambda x, key: flows.histogram_flow(2, low=-BOX, high=BOX, bins=200, data=x),
    "affine_flow": lambda x, key: flows.affine_flow(2, key=key),
    "cdf_flow": lambda x, key: flows.cdf_flow(2, key=key),
    "gaussian_mixture": lambda x, key: mixtures.gaussian_mixture(2, components=32, data=x, key=key),
    "nice": lambda x, key: flows.nice(2, layers=8, **NETS, key=key),
    "real_nvp": lambda x, key: flows.real_nvp(2, layers=8, **NETS, key=key),
    "maf": lambda x, key: flows.maf(2, layers=8, **NETS, key=key),
    "iaf": lambda x, key: flows.iaf(2, layers=8, **NETS, key=key),
    "mixture_flow": lambda x, key: flows.mixture_flow(2, layers=2, components=16, **NETS, key=key),
    "bayes_net_flow": lambda x, key: flows.bayes_net_flow([[0, 0], [1, 0]], bins=16, **NETS, key=key),
    "nsf, couplings": lambda x, key: flows.nsf(2, layers=6, bins=16, **NETS, key=key),
    "nsf, autoregressive": lambda x, key: flows.nsf(2, layers=3, bins=16, passes=None, **NETS, key=key),
}


def train(make: Make, x: Array, steps: int, key: Array) -> Any:
    """The trained model of rows x."""
    model = make(x, key)
    run = partial(probgen.fit, data=x, key=key, progress=False)
    if isinstance(model, mixtures.GaussianMixture):
        return run(mixtures.EM(model), steps=100).model.model
    if "histogram" in model.recipe.name:
        return model
    rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 20, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(rate))
    return run(distributions.initialize(model, x), steps=steps, batch_size=256, optimizer=optimizer).model


def log_probs(model: Any, x: Array) -> np.ndarray:
    return np.asarray(jax.jit(lambda model, x: lax.map(model.log_prob, x, batch_size=10_000))(model, x), float)


def integral(model: Any, cells: int = 1000) -> float:
    """Of the density over the box, by the midpoints of cells."""
    middles = BOX * ((2 * jnp.arange(cells) + 1) / cells - 1)
    grid = jnp.stack(jnp.meshgrid(middles, middles), -1).reshape(-1, 2)
    return float(np.exp(log_probs(model, grid)).sum() * (2 * BOX / cells) ** 2)


def cell(axes: Any, toy: str, name: str, steps: int) -> dict[str, Any]:
    """Train one recipe on one toy, measure it, and draw its density above draws from it."""
    draw, box = TOYS[toy]
    keys = jax.random.split(jax.random.key(0), 4)
    began = time.perf_counter()
    model = train(RECIPES[name], draw(keys[0], ROWS), steps, keys[1])
    seconds, nats, mass = time.perf_counter() - began, log_probs(model, draw(keys[2], ROWS)), integral(model)
    mean, error = float(nats.mean()), float(2 * nats.std() / np.sqrt(ROWS))
    print(f"{toy:14s}{name:20s}{mean:8.3f} ± {error:.3f} nats   integral {mass:.4f}{seconds:6.0f} s", flush=True)
    plotting.density(partial(log_probs, model), **box, ax=axes[0]).set_title(f"{mean:.2f}", fontsize="small")
    plotting.samples(jax.jit(lambda model: model.sample(keys[3], (3000,)))(model), **box, ax=axes[1])
    return {"toy": toy, "recipe": name, "nats": mean, "two_se": error, "integral": mass, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="FILE", default="flows_gallery.png")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    figure, axes = plt.subplots(2 * len(TOYS), 1 + len(RECIPES), figsize=(17, 8.2), layout="constrained")
    found = []
    for row, (toy, (draw, box)) in enumerate(TOYS.items()):
        plotting.samples(draw(jax.random.key(1), 3000), **box, ax=axes[2 * row, 0]).set_title(toy, fontsize="small")
        axes[2 * row + 1, 0].set_axis_off()
        for column, name in enumerate(RECIPES, 1):
            found.append(cell(axes[2 * row : 2 * row + 2, column], toy, name, args.steps))
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for ax, name in zip(axes[0, 1:], RECIPES):
        ax.set_title(f"{name.replace(', ', chr(10))}\n{ax.get_title()}", fontsize="small")
    figure.savefig(args.picture, dpi=100)
    write_json(args.json, {"environment": environment(), "steps": args.steps, "models": found})
    sys.exit(max(abs(model["integral"] - 1) for model in found) > 0.01)


if __name__ == "__main__":
    main()
