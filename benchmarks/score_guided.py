"""Classifier-free guidance on optdigits: how many guided draws a classifier of real digits calls by their right name.

    python benchmarks/score_guided.py [--pictures docs/figures] [--json FILE]

A convolutional classifier is trained on the 3,823 training images and judged on the 1,797 of the test, other writers'.
A conditional score model of the same images, `vp_score` with `drop_context`, is drawn from in 20 calls of a
`DPMSolver` (40 of the network, two for each), 200 draws of each digit at each weight of guidance; weight 1 is none.
Beside the accuracy stands the spread of the draws: the mean variance of a pixel within a class, over that of real ones.
"""

import argparse
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from jax import Array
from pairing import environment, write_json

import probgen
from probgen.networks import Convolution, Linear
from probgen.score import DPMSolver, guided, vp_score

WEIGHTS, EACH = (1.0, 1.5, 2.0, 3.0, 4.0), 200


class Classifier(eqx.Module):
    """[8, 8] of 0..16 → 10 logits: two convolutions, the second of stride 2, and two dense layers."""

    first: Convolution
    second: Convolution
    dense: Linear
    out: Linear

    def __init__(self, key: Array):
        keys = jax.random.split(key, 4)
        self.first, self.second = Convolution(1, 32, key=keys[0]), Convolution(32, 64, stride=2, key=keys[1])
        self.dense, self.out = Linear(16 * 64, 128, key=keys[2]), Linear(128, 10, key=keys[3])

    def __call__(self, x: Array) -> Array:
        """Return the logits of one image."""
        h = jax.nn.relu(self.second(jax.nn.relu(self.first(x[..., None] / 16.0))))
        return self.out(jax.nn.relu(self.dense(h.reshape(-1))))


def train_classifier(x: np.ndarray, labels: np.ndarray, key: Array, steps: int = 2000) -> Classifier:
    """Adam on the cross-entropy of batches of 128, images moved by up to a pixel."""
    adam = optax.adamw(optax.cosine_decay_schedule(2e-3, steps), weight_decay=1e-2)
    init_key, key = jax.random.split(key)
    params, rest = eqx.partition(Classifier(init_key), eqx.is_inexact_array)

    def loss(params: Any, x: Array, y: Array) -> Array:
        logits = jax.vmap(eqx.combine(params, rest))(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params: Any, state: Any, key: Array) -> tuple[Any, Any]:
        rows_key, move_key = jax.random.split(key)
        i = jax.random.randint(rows_key, (128,), 0, len(x))
        move = jax.random.randint(move_key, (128, 2), 0, 3)
        padded = jnp.pad(jnp.asarray(x, float)[i], ((0, 0), (1, 1), (1, 1)))
        moved = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, at, (8, 8)))(padded, move)
        updates, state = adam.update(jax.grad(loss)(params, moved, jnp.asarray(labels)[i]), state, params)
        return optax.apply_updates(params, updates), state

    state = adam.init(params)
    for k in jax.random.split(key, steps):
        params, state = step(params, state, k)
    return eqx.combine(params, rest)


def main() -> None:
    """Train both and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200, help="of the score model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", help="the folder of a picture of guided draws")
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    os.environ.setdefault("PROBGEN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    data = probgen.data.load("optdigits")
    x, labels = np.asarray(data.train), np.asarray(data.parts["train_labels"])
    classifier_key, init_key, fit_key, key = jax.random.split(jax.random.key(options.seed), 4)
    named = jax.jit(jax.vmap(train_classifier(x, labels, classifier_key)))
    right = lambda x, y: float((np.asarray(named(x)).argmax(-1) == y).mean())
    found: dict[str, Any] = {"classifier": right(np.asarray(data.test), np.asarray(data.parts["test_labels"]))}
    print(f"the classifier is right about {100 * found['classifier']:.2f} % of the real test images", flush=True)

    batch = 128
    steps = options.epochs * (len(x) // batch)
    model = vp_score((8, 8), levels=17, dropout=0.1, context_dim=10, drop_context=0.1, key=init_key)
    began = time.process_time()
    model = probgen.fit(
        model, (x, np.eye(10, dtype=np.float32)[labels]), steps=steps, batch_size=batch, key=fit_key, ema=0.998,
        optimizer=optax.chain(
            optax.clip_by_global_norm(10.0), optax.adamw(optax.cosine_onecycle_schedule(steps, 2e-3), weight_decay=1e-2)
        ),
        progress=False,
    ).model  # fmt: skip
    found |= {"steps": steps, "cpu seconds": time.process_time() - began}
    print(f"{steps:,d} steps of {batch}, {found['cpu seconds']:.0f} seconds of processor")

    of_real = np.mean([x[labels == c].var(0).mean() for c in range(10)])
    few = dataclasses.replace(model, model=model.model.replace(sampler=DPMSolver(20)))
    sample = jax.jit(lambda model: model(jnp.eye(10)).sample(key, (EACH,)))
    pictures = {}
    for weight in WEIGHTS:
        draws = np.asarray(sample(guided(few, weight=weight)))  # [EACH, 10, 8, 8]
        accuracy = right(draws.reshape(-1, 8, 8), np.tile(np.arange(10), EACH))
        spread = float(draws.var(0).mean() / of_real)
        found[f"weight {weight}"] = {"right": accuracy, "spread": spread}
        print(f"weight {weight}: {100 * accuracy:.2f} % right, spread {spread:.2f} of real", flush=True)
        pictures[weight] = draws
    if options.pictures:
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(1, 2, figsize=(9, 4.5))
        for weight, ax in zip((1.0, 2.0), axes, strict=True):
            title = "no guidance" if weight == 1.0 else f"guidance of weight {weight:.0f}"
            rows = pictures[weight][:10].swapaxes(0, 1).reshape(-1, 8, 8)
            probgen.plotting.image_grid(rows, levels=17, columns=10, title=title, ax=ax)
        plt.savefig(Path(options.pictures) / "score_guided.png", dpi=150, bbox_inches="tight")
    write_json(options.json, {"environment": environment(), "results": found})


if __name__ == "__main__":
    main()
