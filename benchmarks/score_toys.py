"""Flow matching on 2-D toys: draws of 16 Heun steps beside data, straightness of paths, whether densities sum to 1.

    python benchmarks/score_toys.py
    python benchmarks/score_toys.py --toys checkerboard --steps 3000

Each toy is standardized, and `flow_matching` is trained for so many steps as take about a minute on one core, with
independent noise and with minibatch optimal transport. Printed are

- the sliced W₂ of 10,000 draws of 16 Heun steps (32 calls of the network) to as many data, and the same of two
  independent samples of data, the floor, both the mean of five pairs;
- the path energy ∫ E|v|² du over W₂² between noise and data, less 1 (exact assignment of 2,000): 0 for straight paths;
- ∫ p dx over a grid, of the density by the probability-flow ODE.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from pairing import environment, write_json
from scipy.optimize import linear_sum_assignment

import probgen
from probgen.data import toys
from probgen.score import Heun, ProbabilityFlow, flow_matching

TOYS = {"eight_gaussians": toys.eight_gaussians, "two_moons": toys.two_moons, "checkerboard": toys.checkerboard}
DRAWS, PROJECTIONS, GRID = 10_000, 256, 101


def standardized(name: str) -> Any:
    """Draws of a toy, with mean 0 and variance 1."""
    sample = TOYS[name](jax.random.key(99), 100_000)
    mean, scale = sample.mean(0), sample.std(0)
    return lambda key, num: (TOYS[name](key, num) - mean) / scale


def sliced_w2(a: Array, b: Array) -> float:
    """The root mean square, over directions, of W₂ of the projections."""
    angles = np.linspace(0.0, np.pi, PROJECTIONS, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    a, b = (np.sort(np.asarray(x) @ directions, 0) for x in (a, b))
    return float(np.sqrt(np.mean((a - b) ** 2)))


def excess_energy(model: Any, draw: Any) -> float:
    """∫ E|v|² du / W₂² − 1 along the model's own paths from noise."""
    noise = jax.random.normal(jax.random.key(5), (2000, 2))
    sampler, sde = Heun(64, straight=True), model.sde
    denoise = model.denoiser.under(sde)
    path = jax.jit(jax.vmap(lambda z: sampler.path(jax.random.key(0), denoise, sde, z)))(noise)
    moved = np.diff(np.asarray(path, float), axis=1)
    energy = float((moved**2).sum(-1).mean(0).sum() * moved.shape[1])  # Σ |Δx|² / Δu, Δu = 1 / steps
    costs = ((noise[:, None] - np.asarray(draw(jax.random.key(6), 2000))[None]) ** 2).sum(-1)
    return energy / float(np.asarray(costs)[linear_sum_assignment(costs)].mean()) - 1.0


def mass(model: Any) -> float:
    """∫ p dx by the ODE, over [−4, 4]²."""
    axis = jnp.linspace(-4.0, 4.0, GRID)
    grid = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
    log_prob = jax.jit(lambda model, x: model.log_prob_ode(x, flow=ProbabilityFlow(1e-4)))
    parts = [np.exp(np.asarray(log_prob(model, grid[i : i + 3000]), float)).sum() for i in range(0, len(grid), 3000)]
    return float(sum(parts) * (axis[1] - axis[0]) ** 2)


def train(draw: Any, transport: bool, steps: int, seed: int) -> tuple[Any, float]:
    """(the model, seconds of a CPU)."""
    init_key, data_key, key = jax.random.split(jax.random.key(seed), 3)
    model = flow_matching((2,), width=128, depth=3, optimal_transport=transport, key=init_key)
    data, batch = draw(data_key, 200_000), 256
    used = time.process_time()
    result = probgen.fit(
        model, data, steps=steps, batch_size=batch, key=key, ema=0.999, progress=False,
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, steps)),
    )  # fmt: skip
    return result.model, time.process_time() - used


def main() -> None:
    """Train and report all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toys", default=",".join(TOYS))
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    options, found = parser.parse_args(), []
    print(environment("scipy"))
    for name in options.toys.split(","):
        draw = standardized(name)
        data = draw(jax.random.key(1), DRAWS)
        floor = float(np.mean([sliced_w2(data, draw(jax.random.key(i), DRAWS)) for i in range(2, 7)]))
        for transport in (False, True):
            model, seconds = train(draw, transport, options.steps, options.seed)
            draw_some = jax.jit(lambda model, key: model.sample(key, (DRAWS,)))
            far = np.mean([sliced_w2(data, draw_some(model, jax.random.key(i))) for i in range(2, 7)])
            row = {
                "toy": name, "transport": transport, "steps": options.steps, "seconds": seconds,
                "sliced_w2": float(far), "floor": floor,
                "excess_energy": excess_energy(model, draw), "mass": mass(model),
            }  # fmt: skip
            found.append(row)
            print(
                f"{name:16s} {'optimal transport' if transport else 'independent noise'}: sliced W₂ "
                f"{row['sliced_w2']:.4f} = {row['sliced_w2'] / floor:.2f} × floor {floor:.4f}, excess path energy "
                f"{row['excess_energy']:.3f}, ∫ p = {row['mass']:.4f}; {options.steps:,d} steps, "
                f"{seconds:.0f} s of a CPU",
                flush=True,
            )
    write_json(options.json, {"environment": environment("scipy"), "results": found})


if __name__ == "__main__":
    main()
