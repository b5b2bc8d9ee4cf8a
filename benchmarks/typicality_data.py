"""A model of one data set likes another as well, or better: by how much, and which scores and tests see it.

    python benchmarks/typicality_data.py --contest fashion_mnist --steps 1000
    python benchmarks/typicality_data.py --contest optdigits --steps 3000

`fashion_mnist`: a gated PixelCNN of Fashion-MNIST, in all its 256 levels, is asked for MNIST. `optdigits`: a MADE of
8×8 digits is asked for blank images, of which up to 3 % of the pixels have the level above 0. (Constant images of a
higher level have a log p far below that of any digit, which sees them at once.) The background model has the same
network, and is trained as long on rows of which a share `--rate` of the pixels is noise. Half of the test rows
calibrate the tests and the density of states, which know nothing of the other data set; the other half are the inliers.
The files are those of `probgen.data`, in the folder that PROBGEN_DATA names (by default ../shared/data).
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from pairing import environment, write_json

import probgen
from probgen.autoregressive import gated_pixel_cnn, made
from probgen.evaluation import (
    auroc,
    complexity_corrected,
    density_of_states,
    entropy,
    in_typical_set,
    likelihood_ratio,
    perturbed,
    png,
    pointwise,
    typicality_test,
)


class Contest(NamedTuple):
    """Images [N, H, W] of integers 0..levels−1, and the images of another kind."""

    train: np.ndarray
    test: np.ndarray
    others: np.ndarray
    levels: int
    batch: int

    def model(self, rows: np.ndarray, key: jax.Array) -> Any:
        """The untrained model of such rows."""
        shape = rows.shape[1:]
        if shape == (8, 8):
            model = made(shape, self.levels, hidden=(512,), dropout=0.3, key=key)
            return probgen.distributions.initialize(model, rows)  # from the frequencies of the pixels on
        return gated_pixel_cnn(shape, self.levels, channels=16, depth=3, reach=2, components=5, key=key)


def contest(name: str, rows: int) -> Contest:
    """The images of a contest, with so many of the test rows and of the others."""
    os.environ.setdefault("PROBGEN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    data = probgen.data.load(name)
    evenly = lambda x: x[np.linspace(0, len(x), min(rows, len(x)), endpoint=False).astype(int)]
    if name == "fashion_mnist":
        return Contest(data.train, evenly(data.test), evenly(probgen.data.load("mnist").test), 256, 16)
    random = np.random.RandomState(0)
    shares = random.uniform(0.0, 0.03, (len(evenly(data.test)), 1, 1))
    others = (random.uniform(size=(len(shares), 8, 8)) < shares).astype(np.int32)
    return Contest(data.train, evenly(data.test), others, 17, 128)


def trained(images: Contest, rows: np.ndarray, steps: int, key: jax.Array) -> tuple[Any, float]:
    """(the model after so many steps, CPU seconds)."""
    init_key, fit_key = jax.random.split(key)
    model = images.model(rows, init_key)
    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, min(200, steps // 10), steps)
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-3))
    began = time.process_time()
    result = probgen.fit(
        model, rows, steps=steps, batch_size=images.batch, optimizer=adam, key=fit_key, ema=0.99,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    return result.model, time.process_time() - began


def scores(images: Contest, model: Any, background: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """What is larger for outliers, of each row."""
    log_p, log_b = pointwise(model, x), pointwise(background, x)
    return {
        "−log p": -log_p,
        "likelihood ratio": likelihood_ratio(log_p, log_b),
        "complexity": complexity_corrected(log_p, x),
    }


def states(found: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """log p, the likelihood ratio and the size of a PNG: the statistics of a density of states."""
    return np.stack([found["−log p"], found["likelihood ratio"], [float(len(png(row))) for row in x]], 1)


def compare(images: Contest, model: Any, background: Any, sizes: list[int]) -> dict[str, Any]:
    """Print the figures; and the same for JSON."""
    known, inliers = images.test[::2], images.test[1::2]
    sets = {"known": known, "inliers": inliers, "others": images.others}
    found = {name: scores(images, model, background, x) for name, x in sets.items()}
    costs = {name: one["−log p"] for name, one in found.items()}
    for name, cost in costs.items():
        print(f"mean log p of {name:8s} {-cost.mean():10.2f} ± {cost.std(ddof=1) / np.sqrt(len(cost)):.2f} nats")
    for one, x in zip(found.values(), sets.values(), strict=True):
        one["states"] = states(one, x)
    density = density_of_states(found["known"]["states"])
    typical = {name: np.abs(cost - costs["known"].mean()) for name, cost in costs.items()}
    areas = {name: auroc(found["inliers"][name], found["others"][name]) for name in _names(found)}
    areas["|log p + Ĥ|, one row"] = auroc(typical["inliers"], typical["others"])
    areas["density of states"] = auroc(*(density.scores(found[name]["states"]) for name in ("inliers", "others")))
    for name, area in areas.items():
        print(f"{name:22s} {area}", flush=True)
    alarms = {name: float((density.p_values(found[name]["states"]) <= 0.01).mean()) for name in ("inliers", "others")}
    print(f"density of states, p ≤ 0.01: {alarms['inliers']:.3f} of the inliers, {alarms['others']:.3f} of the others")
    tests = [tested(costs, size) for size in sizes]
    return {"log_p": {k: -v.mean() for k, v in costs.items()}, "auroc": {k: a.value for k, a in areas.items()},
            "states": alarms, "tests": tests}  # fmt: skip


def _names(found: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """The scores that are numbers of a row each."""
    return [name for name, values in found["inliers"].items() if values.ndim == 1]


def tested(costs: dict[str, np.ndarray], size: int, level: float = 0.01) -> dict[str, float]:
    """Print how many batches of such a size are called atypical."""
    random, shares = np.random.RandomState(0), {}
    for name in ("inliers", "others"):
        batches = [-random.choice(costs[name], size, replace=False) for _ in range(100)]
        results = [
            typicality_test(batch, -costs["known"], level=level, num_resamples=1999, key=jax.random.key(i))
            for i, batch in enumerate(batches)
        ]
        shares[name] = float(np.mean([not result.typical for result in results]))
    print(
        f"typicality test at level {level}, batches of {size}: atypical {shares['inliers']:.2f} of the inliers', "
        f"{shares['others']:.2f} of the others'; the last: {results[-1]}",
        flush=True,
    )
    return {"size": size, **shares}


def main() -> None:
    """Train both models and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contest", choices=["fashion_mnist", "optdigits"], required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000, help="of the test rows, and of the others")
    parser.add_argument("--rate", type=float, default=0.2, help="of noise, for the background model")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 10, 25], help="of batches")
    parser.add_argument("--draws", type=int, default=200, help="for the entropy of the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    images = contest(options.contest, options.rows)
    key, noise_key, draw_key = jax.random.split(jax.random.key(options.seed), 3)
    model, seconds = trained(images, images.train, options.steps, key)
    noisy = np.asarray(perturbed(noise_key, images.train.astype(np.int32), levels=images.levels, rate=options.rate))
    background, more = trained(images, noisy, options.steps, key)
    print(f"trained for {seconds:.0f} and {more:.0f} CPU seconds, {options.steps} steps each")
    figures = compare(images, model, background, options.sizes)
    if options.draws:
        own = entropy(model, num_draws=options.draws, key=draw_key)
        print(f"entropy of the model {own}")
        for name, x in (("test rows", images.test), ("others", images.others)):
            inside = in_typical_set(pointwise(model, x), own.nats, epsilon=2 * own.se_nats * options.draws**0.5)
            print(f"within two standard deviations of its entropy: {inside.mean():.3f} of the {name}")
    write_json(options.json, {"environment": environment(), **figures})


if __name__ == "__main__":
    main()
