"""What a sampler costs beside its network, Euler–Maruyama beside diffrax's, and a training step beside one by hand.

    python benchmarks/score_speed.py [--contests overhead,diffrax,train] [--rounds 15] [--steps 400] [--json FILE]

- `overhead`: a step of `DDIM` and `Ancestral` for 256 rows, beside one bare call of the same residual network (width
  256, depth 3) for as many rows, both in a `lax.scan`.
- `diffrax`: a step of `EulerMaruyama` for 256 rows, beside diffrax's Euler with a fixed step and a virtual Brownian
  tree or an unsafe Brownian path, each row with a path of its own; of a closed-form denoiser, whose cost is next to
  nothing, and of the network.
- `train`: a step of `vp_score` under `fit`, beside a jitted loop by hand with the same network and the same loss.

All take turns in one process, bound to one core (`taskset -c 0`); what is measured is the process's CPU time, which
other work on that core does not lengthen.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from pairing import Timing, environment, paired, show, write_json
from trainer import FIT, OPTIMIZER, beside_fit

import probgen.inference.training.clock as clock
from probgen.core import combine, partition
from probgen.score import DDIM, Ancestral, EulerMaruyama, GaussianDenoiser, ScoreModel, coefficients, vp_score

ROWS, DIM, STEPS = 256, 64, 50
KEY = jax.random.key(0)


def network_model() -> ScoreModel:
    """The score model whose network the first contest is about."""
    model = vp_score((DIM,), width=256, depth=3, key=KEY)
    params, rest = partition(model)
    moved = {p: v + 0.01 * jax.random.normal(KEY, v.shape) for p, v in params.items()}  # (its last layer starts at 0)
    found = combine(moved, rest)
    assert isinstance(found, ScoreModel)
    return found


def sampling(sampler: Any, model: ScoreModel) -> Callable[[], Array]:
    """All steps of a sampler for all rows, compiled."""

    @jax.jit
    def run(model: ScoreModel, key: Array, z: Array) -> Array:
        one = lambda key, z: sampler(key, model.denoiser.under(model.sde), model.sde, z)
        return jax.vmap(one)(jax.random.split(key, ROWS), z)

    z = jax.random.normal(KEY, (ROWS, DIM))
    return lambda: run(model, KEY, z)


def bare(model: ScoreModel) -> Callable[[], Array]:
    """As many calls of the network alone, each on what the last one gave."""
    denoiser: Any = model.denoiser
    contexts = jax.vmap(denoiser.embedding)(jnp.linspace(-7.0, 7.0, STEPS))

    @jax.jit
    def run(network: Any, z: Array) -> Array:
        call = lambda z, context: (jax.vmap(network, (0, None))(z, context), None)
        return lax.scan(call, z, contexts)[0]

    z = jax.random.normal(KEY, (ROWS, DIM))
    return lambda: run(denoiser.network, z)


def by_diffrax(model: ScoreModel, path: Callable[[Any, Array], Any]) -> Callable[[], Array]:
    """The same reverse SDE by diffrax's Euler with as many steps."""
    import diffrax
    import lineax

    sde = model.sde

    @jax.jit
    def run(model: ScoreModel, key: Array, z: Array) -> Array:
        denoise = model.denoiser.under(sde)

        def drift(s: Array, z: Array, _: Any) -> Array:
            t = 1.0 - s
            alpha, sigma = sde.marginal(t)
            return sde.diffusion(t) ** 2 * (alpha * denoise(z, t) - z) / sigma**2 - sde.drift(t) * z

        def diffusion(s: Array, z: Array, _: Any) -> Any:
            return lineax.DiagonalLinearOperator(jnp.full(z.shape, sde.diffusion(1.0 - s)))

        def one(key: Array, z: Array) -> Array:
            noise = path(jax.ShapeDtypeStruct(z.shape, z.dtype), key)
            terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, noise))
            ends, adjoint = (0.0, 1.0, 1.0 / STEPS), diffrax.ForwardMode()  # which an unsafe path needs
            found = diffrax.diffeqsolve(terms, diffrax.Euler(), *ends, z, adjoint=adjoint, max_steps=STEPS + 1)
            return found.ys[-1]

        return jax.vmap(one)(jax.random.split(key, ROWS), z)

    z = jax.random.normal(KEY, (ROWS, DIM))
    return lambda: run(model, KEY, z)


def brownian_paths() -> dict[str, Callable[[Any, Array], Any]]:
    """diffrax's two, by name."""
    import diffrax

    return {
        "diffrax, virtual tree": lambda shape, key: diffrax.VirtualBrownianTree(
            0.0, 1.0, 1.0 / (2 * STEPS), shape, key
        ),
        "diffrax, unsafe path": lambda shape, key: diffrax.UnsafeBrownianPath(shape, key),
    }


def contest(title: str, contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """Print milliseconds of a step, and the ratios to the first."""
    turns = paired(contenders, rounds=rounds, steps=1, clock=time.process_time)
    per_step = type(turns)({name: [s / STEPS for s in seconds] for name, seconds in turns.seconds.items()})
    reference = next(iter(contenders))
    found = {name: per_step.timing(name, to=reference) for name in contenders}
    show(title, found, reference)
    return found


class HandWritten:
    """The training loop by hand: `run(n)` takes n steps and waits for their losses."""

    def __init__(self, model: ScoreModel, x: np.ndarray, batch: int):
        denoiser: Any = model.denoiser
        network, self.rest = partition(denoiser.network)
        self.embedding, self.sde, self.scale = denoiser.embedding, model.sde, denoiser.scale
        self.state = jax.tree.map(jnp.copy, (network, OPTIMIZER.init(network), jax.random.key(2)))
        self.x, self.batch, self.epoch, self.done = jnp.asarray(x), batch, len(x) // batch, 0
        self.many = jax.jit(self._many, donate_argnums=0)

    def denoised(self, network: Any, z: Array, log_snr: Array) -> Array:
        """E[x | z] of rows."""
        alpha, sigma = (part[:, None] for part in coefficients(log_snr))
        total = jnp.sqrt((alpha * self.scale) ** 2 + sigma**2)
        raw = jax.vmap(network)(z / total, jax.vmap(self.embedding)(log_snr))
        return alpha * self.scale**2 / total**2 * z + sigma * self.scale / total * raw

    def loss(self, params: Any, key: Array, x: Array) -> Array:
        """Minus the bound: score matching at t, and what is missed at the data's end."""
        network, (time_key, *keys) = combine(params, self.rest), jax.random.split(key, 3)
        t = (jnp.arange(len(x)) / len(x) + jax.random.uniform(time_key)) % 1.0
        log_snr = jnp.concatenate([jnp.full(len(x), self.sde.log_snr(0.0)), jax.vmap(self.sde.log_snr)(t)])
        alpha, sigma = (part[:, None] for part in coefficients(log_snr))
        noise = jnp.concatenate([jax.random.normal(k, x.shape) for k in keys])
        twice = jnp.concatenate([x, x])
        found = self.denoised(network, alpha * twice + sigma * noise, log_snr)
        missed = jnp.sum((twice - found) ** 2, -1)
        rate = jnp.concatenate([jnp.ones(len(x)), -jax.vmap(self.sde.log_snr_rate)(t)])
        return 0.5 * jnp.mean(rate * jnp.exp(log_snr) * missed) * 2.0

    def _many(self, state: Any, x: Array, order: Array, first: Array, steps: Array) -> tuple[Any, Array]:
        def one(i: Array, both: tuple[Any, Array]) -> tuple[Any, Array]:
            (params, moments, key), losses = both
            key, draw_key = jax.random.split(key)
            rows = x[lax.dynamic_slice(order, ((first + i) * self.batch,), (self.batch,))]
            loss, gradient = jax.value_and_grad(self.loss)(params, draw_key, rows)
            updates, moments = OPTIMIZER.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments, key), losses.at[i].set(loss)

        return lax.fori_loop(0, steps, one, (state, jnp.zeros(1024)))

    def run(self, steps: int) -> None:
        while steps:
            first = self.done % self.epoch
            if not first:
                self.order = jax.random.permutation(jax.random.key(self.done), len(self.x))
            here = min(steps, self.epoch - first)
            self.state, losses = self.many(self.state, self.x, self.order, first, here)
            jax.block_until_ready(losses)
            self.done, steps = self.done + here, steps - here


def training(steps: int, batch: int = 256) -> dict[str, Timing]:
    """Print fit's step beside the hand-written one."""
    x = np.asarray(jax.random.normal(KEY, (64 * batch, DIM)) * jnp.linspace(0.1, 2.0, DIM))
    model = vp_score((DIM,), width=256, depth=3, key=KEY)
    assert isinstance(model, ScoreModel)
    hand = HandWritten(model, x, batch)
    hand.run(3)
    options: dict[str, Any] = {"steps": steps, "batch_size": batch, "optimizer": OPTIMIZER, "progress": False}
    turns, _ = beside_fit(
        model, x, {"hand-written loop": hand.run}, clock=time.process_time, key=jax.random.key(3), **options
    )
    found = {name: turns.timing(name, to="hand-written loop") for name in ("hand-written loop", FIT)}
    show("training step of vp_score, 64 numbers, width 256, batch 256 (at most 1.05)", found, "hand-written loop")
    return found


def main() -> None:
    """Run the contests that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contests", default="overhead,diffrax,train")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=400, help="of fit, and of the loop beside it")
    parser.add_argument("--chunk", type=float, default=0.1, metavar="SECONDS", help="from one look of fit to the next")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    clock._CHUNK_SECONDS = args.chunk
    contests = args.contests.split(",")
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment("diffrax")}
    report["load"] = os.getloadavg()[0]
    print(f"{report['command']}\n{report['environment']}, load {report['load']:.1f}", flush=True)
    asdict = lambda found: {name: timing._asdict() for name, timing in found.items()}
    model = network_model()
    if "overhead" in contests:
        runs = {"bare network": bare(model)}
        runs |= {type(s).__name__: sampling(s, model) for s in (DDIM(STEPS), Ancestral(STEPS))}
        title = f"one step, {ROWS} rows of {DIM} numbers, width 256 (at most 1.05)"
        report["overhead"] = asdict(contest(title, runs, args.rounds))
    if "diffrax" in contests:
        closed = model.replace(denoiser=GaussianDenoiser(jnp.zeros(DIM), jnp.linspace(0.1, 2.0, DIM)))
        for name, of in (("closed-form denoiser", closed), ("network", model)):
            runs = {"EulerMaruyama": sampling(EulerMaruyama(STEPS), of)}
            runs |= {path_name: by_diffrax(of, path) for path_name, path in brownian_paths().items()}
            title = f"one step of Euler–Maruyama, {name} (at least 4 of the closed-form one)"
            report[f"diffrax, {name}"] = asdict(contest(title, runs, args.rounds))
    if "train" in contests:
        report["train"] = asdict(training(args.steps))
    write_json(args.json, report)


if __name__ == "__main__":
    main()
