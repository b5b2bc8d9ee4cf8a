"""What a VAE's training step costs beside one written by hand and beside Pyro's, and the memory of its evaluation.

    python benchmarks/latent_speed.py [--contests hand,pyro,weights,memory] [--steps 1500] [--rows 500] [--json FILE]

- `hand`: `latent.vae` of 784-300-300-40 with batches of 100, as `fit` trains it, beside a VAE in bare JAX and optax:
  the same networks, the same closed-form KL, batches gathered on the device, and many steps in one jitted `fori_loop`
  with donated state.
- `pyro`: the networks of Pyro's VAE tutorial (784-400-50, softplus, batches of 256, Adam at 1e-3) in both libraries.
  The tutorial's program and guide run as they stand there and compiled by `JitTrace_ELBO`; the faster one judges.
- `weights`: `latent.iwae` with 50 weights, whose gradient is that of one particle, drawn by its weight, beside a loop
  with the gradient of all; batches of 20.
- `memory`: the peak resident memory of processes that each evaluate rows with K importance weights.

fit and the others take turns in one process, as in `trainer.py`, bound to one core (`taskset -c 0`), and what is
measured is the process's CPU time, which other work on that core does not lengthen. PyTorch gets one thread. fit looks
at its losses once a second, which on a busy core is after fewer steps: `--chunk 8` there gives it as many as alone.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from autoregressive_data import load_images
from jax import Array, lax
from pairing import Timing, environment, show, write_json
from trainer import FIT, OPTIMIZER, beside_fit

import probgen
import probgen.inference.training.clock as clock
from probgen import latent
from probgen.distributions import BernoulliHead, BoundedNormalHead, Conditional
from probgen.networks import MLP, Pixels

PIXELS, CHUNK, PARTICLES = 784, 1024, (1, 50, 500, 5000)


class HandWritten:
    """The loop by hand: `run(n)` takes n steps and waits for their losses."""

    def __init__(self, x: np.ndarray, batch: int, hidden: Sequence[int], latent_dim: int):
        keys = iter(jax.random.split(jax.random.key(1), 2 * len(hidden) + 2))
        sizes = (PIXELS, *hidden, 2 * latent_dim), (latent_dim, *hidden[::-1], PIXELS)
        layer = lambda i, o: (jax.random.normal(next(keys), (i, o)) * (2 / i) ** 0.5, jnp.zeros(o))
        params = [[layer(i, o) for i, o in itertools.pairwise(s)] for s in sizes]
        self.state = jax.tree.map(jnp.copy, (params, OPTIMIZER.init(params), jax.random.key(2)))
        self.x, self.batch, self.epoch, self.done = jnp.asarray(x), batch, len(x) // batch, 0
        self.many = jax.jit(self._many, donate_argnums=0)

    @staticmethod
    def loss(params: Any, key: Array, x: Array) -> Array:
        """−ELBO, in nats a row."""

        def network(layers: Any, h: Array) -> Array:
            for weight, bias in layers[:-1]:
                h = jax.nn.silu(h @ weight + bias)
            return h @ layers[-1][0] + layers[-1][1]

        loc, raw = jnp.split(network(params[0], 2.0 * x - 1.0), 2, -1)
        log_scale = 5.0 * jnp.tanh(raw / 5.0)
        scale = jnp.exp(log_scale)
        logits = network(params[1], loc + scale * jax.random.normal(key, loc.shape))
        kl = 0.5 * jnp.sum(loc**2 + scale**2 - 1.0) - jnp.sum(log_scale)
        return (kl + jnp.sum(jax.nn.softplus(logits) - x * logits)) / len(x)

    def _many(self, state: Any, x: Array, order: Array, first: Array, steps: Array) -> tuple[Any, Array]:
        def one(i: Array, both: tuple[Any, Array]) -> tuple[Any, Array]:
            (params, moments, key), losses = both
            key, draw_key = jax.random.split(key)
            rows = lax.dynamic_slice(order, ((first + i) * self.batch,), (self.batch,))
            batch = x[rows].reshape(self.batch, -1).astype(float)
            loss, gradient = jax.value_and_grad(self.loss)(params, draw_key, batch)
            updates, moments = OPTIMIZER.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments, key), losses.at[i].set(loss)

        return lax.fori_loop(0, steps, one, (state, jnp.zeros(CHUNK)))

    def run(self, steps: int) -> None:
        while steps:
            first = self.done % self.epoch
            if not first:
                self.order = jax.random.permutation(jax.random.key(self.done), len(self.x))
            here = min(steps, self.epoch - first)
            self.state, losses = self.many(self.state, self.x, self.order, first, here)
            jax.block_until_ready(losses)
            self.done, steps = self.done + here, steps - here


def pyro_runs(x: np.ndarray, batch: int) -> dict[str, Callable[[int], None]]:
    """n steps of the VAE tutorial (pyro.ai/examples/vae.html), as it stands and compiled."""
    import pyro
    import pyro.distributions as pd
    import torch
    from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
    from torch import nn

    torch.set_num_threads(1)
    rows = torch.as_tensor(x.reshape(len(x), -1), dtype=torch.float32)

    class VAE(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name
            self.into, self.loc, self.scale = nn.Linear(PIXELS, 400), nn.Linear(400, 50), nn.Linear(400, 50)
            self.hidden, self.out = nn.Linear(50, 400), nn.Linear(400, PIXELS)
            self.softplus, self.sigmoid = nn.Softplus(), nn.Sigmoid()

        def model(self, x: Any) -> None:
            pyro.module(self.name, self)
            with pyro.plate("data", x.shape[0]):
                shape = torch.Size((x.shape[0], 50))
                z = pyro.sample("latent", pd.Normal(torch.zeros(shape), torch.ones(shape)).to_event(1))
                p = self.sigmoid(self.out(self.softplus(self.hidden(z))))
                pyro.sample("obs", pd.Bernoulli(p, validate_args=False).to_event(1), obs=x)

        def guide(self, x: Any) -> None:
            pyro.module(self.name, self)
            with pyro.plate("data", x.shape[0]):
                h = self.softplus(self.into(x))
                pyro.sample("latent", pd.Normal(self.loc(h), torch.exp(self.scale(h))).to_event(1))

    def runner(objective: Any) -> Callable[[int], None]:
        vae = VAE(type(objective).__name__)
        svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 1e-3}), loss=objective)

        def run(steps: int) -> None:
            for chosen in torch.randint(len(rows), (steps, batch)):
                svi.step(rows[chosen])

        return run

    return {"pyro, eager": runner(Trace_ELBO()), "pyro, JitTrace_ELBO": runner(JitTrace_ELBO())}


def tutorial_vae(key: Array) -> latent.LatentVariableModel:
    """probgen's with the networks of Pyro's tutorial."""
    keys = jax.random.split(key)
    mlp = lambda i, o, key: MLP(i, o, hidden=(400,), activation=jax.nn.softplus, gain=1.0, key=key)
    encoder = Pixels(mlp(PIXELS, 100, keys[0]), 2, (PIXELS,))
    return latent.LatentVariableModel(
        latent.vae((1,), 2, latent_dim=50, key=key).prior,
        Conditional(mlp(50, PIXELS, keys[1]), BernoulliHead(), (28, 28)),
        Conditional(encoder, BoundedNormalHead(), (50,), context_ndims=2),
    )


def all_weights(x: np.ndarray, batch: int, particles: int) -> Callable[[int], Any]:
    """The loop that trains on the bound of many weights by its own gradient: run(n) takes n steps."""
    params, rest = probgen.partition(network_of_300(jax.random.key(0)))
    rows = jnp.asarray(x)

    def step(i: Array, state: Any) -> Any:
        params, optimizer_state, key = state
        key, rows_key, bound_key = jax.random.split(key, 3)
        chosen = rows[jax.random.randint(rows_key, (batch,), 0, len(rows))]
        loss = lambda params: -probgen.combine(params, rest).log_prob_bound(bound_key, chosen, particles).mean()
        updates, optimizer_state = OPTIMIZER.update(jax.grad(loss)(params), optimizer_state)
        return optax.apply_updates(params, updates), optimizer_state, key

    many = jax.jit(lambda state, steps: lax.fori_loop(0, steps, step, state))
    state = [params, OPTIMIZER.init(params), jax.random.key(2)]

    def run(steps: int) -> None:
        state[:] = jax.block_until_ready(many(tuple(state), steps))

    return run


def network_of_300(key: Array) -> latent.LatentVariableModel:
    """The network 784-300-300-40 both ways."""
    model = latent.vae((28, 28), 2, hidden=(300, 300), latent_dim=40, components=0, key=key)
    assert isinstance(model, latent.LatentVariableModel)
    return model


def contest(title: str, model: Any, x: np.ndarray, batch: int, others: dict[str, Any], steps: int) -> dict[str, Timing]:
    """Print fit's step beside the others', in units of the first of them."""
    for run in others.values():
        run(3)
    options: dict[str, Any] = {"steps": steps, "batch_size": batch, "optimizer": OPTIMIZER, "progress": False}
    turns, chunks = beside_fit(model, x, others, clock=time.process_time, key=jax.random.key(3), **options)
    reference = next(iter(others))
    found = {name: turns.timing(name, to=reference) for name in turns.seconds}
    show(title, found, reference)
    for name in list(others)[1:]:
        print(f"fit is {turns.timing(FIT, to=name).ratio:.3f} of {name}")
    print(f"{len(chunks)} turns, of {statistics.median(chunks):.0f} steps in the median", flush=True)
    return found


def peak_of_evaluation(particles: int, rows: int, small: bool) -> None:
    """Evaluate, and print the most memory that this process has held, in MB, and −log p."""
    x, key = load_images("binarized_mnist").test[:rows], jax.random.key(0)
    model = network_of_300(key)
    if small:
        x = x[:, 6:22:2, 6:22:2]
        model = probgen.latent.vae((8, 8), 2, latent_dim=8, hidden=(32,), components=0, key=key)
    found = probgen.evaluation.evaluate(model, x, key=key, num_particles=particles, batch_size=100)
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(held.split()[1]) / 1024, found.nats)


def memory(rows: int, small: bool) -> dict[int, float]:
    """Peak resident MB of a fresh process for each number of particles."""
    peaks = {}
    print(f"\nPeak resident memory of evaluate(model, {rows:,} rows, num_particles=K)")
    for particles in PARTICLES:
        command = [sys.executable, __file__, "--peak", str(particles), "--rows", str(rows), *["--small"] * small]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        peaks[particles] = float(out[-2])
        print(
            f"K = {particles:5d}   {peaks[particles]:8.1f} MB   ({float(out[-1]):.3f} nats, fresh weights)", flush=True
        )
    return peaks


def main() -> None:
    """Run the contests that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contests", default="hand,pyro,memory")
    parser.add_argument("--steps", type=int, default=1500, help="of fit, and of each of the others")
    parser.add_argument("--chunk", type=float, default=1.0, metavar="SECONDS", help="from one look of fit to the next")
    parser.add_argument("--rows", type=int, default=500, help="that are evaluated")
    parser.add_argument("--small", action="store_true", help="evaluate a VAE of 8×8 pixels, 64-32-8, in `memory`")
    parser.add_argument("--peak", type=int, metavar="K", help=argparse.SUPPRESS)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if args.peak:
        peak_of_evaluation(args.peak, args.rows, args.small)
        return
    clock._CHUNK_SECONDS = args.chunk
    contests = args.contests.split(",")
    peers = ("pyro-ppl", "torch") if "pyro" in contests else ()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment(*peers)}
    report["load"] = os.getloadavg()[0]
    print(f"{report['command']}\n{report['environment']}, load {report['load']:.1f}", flush=True)
    x, key = load_images("binarized_mnist").train, jax.random.key(0)
    asdict = lambda found: {name: timing._asdict() for name, timing in found.items()}
    if "hand" in contests:
        hand = {"hand-written loop": HandWritten(x, 100, (300, 300), 40).run}
        title = "training step, 784-300-300-40, batch 100 (at most 1.05)"
        report["hand"] = asdict(contest(title, network_of_300(key), x, 100, hand, args.steps))
    if "pyro" in contests:
        title = "training step, Pyro's tutorial: 784-400-50, batch 256 (at most 0.5)"
        report["pyro"] = asdict(contest(title, tutorial_vae(key), x, 256, pyro_runs(x, 256), args.steps))
    if "weights" in contests:
        title = "training step on 50 weights, 784-300-300-40, batch 20"
        model = latent.iwae((28, 28), 2, num_particles=50, hidden=(300, 300), latent_dim=40, components=0, key=key)
        report["weights"] = asdict(
            contest(title, model, x, 20, {"the gradient of all weights": all_weights(x, 20, 50)}, args.steps)
        )
    if "memory" in contests:
        report["memory"] = {"rows": args.rows, "peak_mb": memory(args.rows, args.small)}
    write_json(args.json, report)


if __name__ == "__main__":
    main()
