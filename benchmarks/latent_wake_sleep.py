"""Wake–sleep, reweighted wake–sleep and leave-one-out on a sigmoid belief net of 200–200 bits, static binarized MNIST.

    python benchmarks/latent_wake_sleep.py --seeds 0 1
    python benchmarks/latent_wake_sleep.py --quick

The net is `latent.helmholtz_machine((28, 28), units=(200, 200))`, its batches have 50 rows, Adam's rate falls from 5e-3
to 0 along a cosine (1e-3, 3e-3, 1e-2 and 2e-2 were tried, for wake–sleep and for 5 and 10 particles). All take as many
steps; one more run of the classical algorithm, whose steps are the cheapest, takes `--longer` times as many, which is
about as long. The curve is the importance-weighted bound of K = 10 on validation rows; what is returned is best by its
own loss there. The test rows are evaluated with `--particles`. The data are in the folder that PROBGEN_DATA names (by
default ../shared/data). The figure is written to docs/figures/wake_sleep.png.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from autoregressive_data import Images, load_images
from jax import Array
from latent_data import evenly
from matplotlib.figure import Figure
from numpyro.infer import ELBO
from pairing import environment, write_json

import probgen
from probgen.inference.objectives import ImportanceWeighted, ReweightedWakeSleep, WakeSleep

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "wake_sleep.png"
K, RATE, BATCH, LOOKS, HELD_OUT = 10, 5e-3, 50, 10, 300


class Contender(NamedTuple):
    """An objective, and how many times as many steps it takes as the others."""

    objective: Callable[[], ELBO]
    times: int = 1


def contenders(longer: int) -> dict[str, Contender]:
    """Return what is compared."""
    return {
        "wake–sleep": Contender(WakeSleep),
        f"wake–sleep, {longer}× the steps": Contender(WakeSleep, longer),
        "reweighted, insomnia 1": Contender(lambda: ReweightedWakeSleep(K, insomnia=1.0)),
        "reweighted, insomnia ½": Contender(lambda: ReweightedWakeSleep(K, insomnia=0.5)),
        "importance weights, leave-one-out": Contender(lambda: ImportanceWeighted(K)),
    }


def bound(model: Any, key: Array, x: Array) -> Array:
    """The bound of K particles, in nats, over rows."""
    return model.log_prob_bound(key, x, K).mean()


def train(images: Images, contender: Contender, steps: int, seed: int) -> tuple[Any, float]:
    """(what `fit` returns, the seconds it took)."""
    init_key, key = jax.random.split(jax.random.key(seed))
    model = probgen.latent.helmholtz_machine(images.train.shape[1:], units=(200, 200), key=init_key)
    total, began = steps * contender.times, time.perf_counter()
    result = probgen.fit(
        model, images.train, steps=total, batch_size=BATCH, objective=contender.objective(), key=key,
        optimizer=optax.adam(optax.cosine_decay_schedule(RATE, total)), validation=images.validation[:HELD_OUT],
        validate_every=max(1, total // LOOKS), metrics={"bound": bound}, progress=sys.stderr.isatty(),
    )  # fmt: skip
    return result, time.perf_counter() - began


def evidence(model: Any, x: np.ndarray, particles: int) -> np.ndarray:
    """The bound of so many particles of each row."""
    found = jax.jit(lambda model, key, x: model.log_prob_bound(key, x, particles))
    return np.concatenate([np.asarray(found(model, jax.random.key(i), x[i : i + 10])) for i in range(0, len(x), 10)])


def report(name: str, images: Images, contender: Contender, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train, print a line, and return the same for JSON."""
    result, seconds = train(images, contender, options.steps, seed)
    curve = np.asarray(result.history["bound"], float)
    at = np.asarray(result.history["validation_step"])
    each = evidence(result.model, evenly(images.test, options.rows), options.particles)
    nats, error = float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))
    steps = options.steps * contender.times
    print(
        f"{name:34s} seed {seed}  test {nats:8.2f} ± {error:.2f} nats (K = {options.particles}), "
        f"{steps:6,d} steps, {1000 * seconds / steps:5.1f} ms each, {result.stopped}\n"
        f"    validation, K = {K}: " + " ".join(f"{y:.1f}" for y in curve),
        flush=True,
    )
    curves = {"steps": at.tolist(), "bound": curve.tolist()}
    return {"name": name, "seed": seed, "nats": nats, "se": error, "seconds": seconds, **curves}


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """The curves, one line for each seed, and in one color for each contender."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.add_subplot()
    names = list(dict.fromkeys(row["name"] for row in found))
    for row in found:
        label = row["name"] if row["seed"] == found[0]["seed"] else None
        ax.plot(row["steps"], row["bound"], color=f"C{names.index(row['name'])}", label=label)
    ax.set_ylim(-170.0, None)
    ax.set_xlabel(f"steps of {BATCH} rows")
    ax.set_ylabel(f"validation bound of K = {K} particles, nats")
    ax.set_title("A sigmoid belief net of 200–200 bits, static binarized MNIST", fontsize=10)
    ax.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--longer", type=int, default=5, help="times the steps, of one more run of wake–sleep")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rows", type=int, default=200, help="of the test rows, evaluated, evenly spread")
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a smoke test; the figure goes to the temporary folder")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.rows, options.particles, options.seeds = 24, 10, 10, [0]
    return options


def main() -> None:
    """Train and report all, seed by seed."""
    options = arguments()
    print(environment("matplotlib"))
    images, found = load_images("binarized_mnist"), []
    for seed in options.seeds:
        for name, contender in contenders(options.longer).items():
            found.append(report(name, images, contender, seed, options))
            draw(found, Path(tempfile.gettempdir()) / FIGURE.name if options.quick else FIGURE)
    write_json(options.json, {"environment": environment("matplotlib"), **vars(options), "results": found})


if __name__ == "__main__":
    main()
