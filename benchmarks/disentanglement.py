"""How disentangled codes are whose data have known factors: the factors themselves, turned, noise, PCA, and β-VAEs.

    python benchmarks/disentanglement.py
    python benchmarks/disentanglement.py --betas 1,4,16 --steps 5000 --seeds 3

The images are all those of `probgen.data.toys.sprites`, each of them once; a VAE's code is the mean of its encoder.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import probgen
from probgen.data.toys import SPRITE_FACTORS, sprite_images
from probgen.evaluation import dci, mig
from probgen.inference.objectives import ELBO, Beta

LATENT = 10


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return all images and their factors, in no order."""
    factors = np.stack(np.meshgrid(*map(range, SPRITE_FACTORS.values())), -1).reshape(-1, len(SPRITE_FACTORS))
    factors = np.random.default_rng(0).permutation(factors)
    return np.asarray(sprite_images(jnp.asarray(factors))), factors


def turned(factors: np.ndarray) -> np.ndarray:
    """Return the standardized factors after a rotation."""
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    return (factors - factors.mean(0)) / factors.std(0) @ rotation


def components(images: np.ndarray, count: int) -> np.ndarray:
    """Return principal components."""
    rows = images.reshape(len(images), -1) - images.reshape(len(images), -1).mean(0)
    return rows @ np.linalg.svd(rows, full_matrices=False)[2][:count].T


def vae_code(images: np.ndarray, beta: float, steps: int, key: jax.Array) -> np.ndarray:
    """Return the means of the posteriors of a β-VAE."""
    init_key, fit_key = jax.random.split(key)
    model = probgen.latent.vae(images.shape[1:], 17, latent_dim=LATENT, hidden=(256, 256), key=init_key)
    found = probgen.fit(
        model, images, objective=Beta(ELBO(), beta), steps=steps, batch_size=128, optimizer=optax.adam(1e-3),
        key=fit_key, progress=False,
    )  # fmt: skip
    return np.asarray(jax.jit(lambda model, x: model.encode(x).mean)(found.model, images))


def row(name: str, code: np.ndarray, factors: np.ndarray, seconds: float | None = None) -> None:
    """Print one line of the table."""
    found = dci(code, factors)
    took = "" if seconds is None else f"{seconds:.0f}"
    scores = (mig(code, factors).score, *found[:3])
    print(f"| {name} | {' | '.join(f'{score:.3f}' for score in scores)} | {took} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--betas", default="1,4")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    images, factors = data()
    print("| code | MIG | disentanglement | completeness | informativeness | s |\n|---|---|---|---|---|---|")
    row("the factors, in another order", factors[:, ::-1], factors)
    row("the factors, turned", turned(factors), factors)
    row("noise", np.random.default_rng(2).normal(size=factors.shape), factors)
    for count in (5, LATENT):
        row(f"{count} principal components", components(images, count), factors)
    for beta in map(float, options.betas.split(",")):
        for seed in range(options.seeds):
            began = time.perf_counter()
            code = vae_code(images, beta, options.steps, jax.random.key(seed))
            row(f"VAE, β = {beta:g}, key {seed}", code, factors, time.perf_counter() - began)


if __name__ == "__main__":
    main()
