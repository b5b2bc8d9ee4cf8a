"""What an `objectives.ELBO` step costs beside numpyro's `Trace_ELBO`: FLOPs, time, compilation.

    python benchmarks/estimators.py [--rounds 40] [--json FILE]

Each contender is `SVI.update` under `jax.jit`, with the same program, guide, optimizer and number of particles, in
turns in one process. Three programs: a VAE with normal latents (pathwise sites), a Bayesian logistic regression with
a subsampled plate and an automatic guide (pathwise), and a VAE with Bernoulli latents (leave-one-out, K particles;
numpyro's objective gives that guide no gradient, and is here as the cost of K particles). Reported: the ratio of the
compiled FLOPs, of the lower quartiles of the step times, and of the times to a first step.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from pairing import compile_seconds, environment, paired, write_json

import probgen
from probgen.inference.estimators import LeaveOneOut, use
from probgen.inference.objectives import ELBO

K = 4


def vae(latent: str, batch: int = 128, dim: int = 784, size: int = 50) -> tuple[Callable, Callable, tuple]:
    keys = jax.random.split(jax.random.key(0), 3)
    outputs = 2 * size if latent == "normal" else size
    encoder = probgen.networks.MLP(dim, outputs, hidden=(200, 200), key=keys[0])
    decoder = probgen.networks.MLP(size, dim, hidden=(200, 200), key=keys[1])
    x = jax.random.bernoulli(keys[2], 0.3, (batch, dim)).astype(float)

    def prior() -> Any:
        return (
            dist.Normal(jnp.zeros(size), 1.0) if latent == "normal" else dist.Bernoulli(jnp.full(size, 0.5))
        ).to_event(1)

    def model(x: Any) -> None:
        decode = probgen.module("decoder", decoder)
        with numpyro.plate("data", 60_000, subsample_size=batch):
            z = numpyro.sample("z", prior())
            logits = jax.vmap(decode)(z.astype(float))
            numpyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x: Any) -> None:
        encode = probgen.module("encoder", encoder)
        with numpyro.plate("data", 60_000, subsample_size=batch):
            raw = jax.vmap(encode)(x)
            q = dist.Normal(raw[:, :size], jnp.exp(raw[:, size:])) if latent == "normal" else dist.Bernoulli(logits=raw)
            numpyro.sample("z", q.to_event(1))

    return model, guide, (x,)


def logistic(rows: int = 20_000, dim: int = 50, batch: int = 512) -> tuple[Callable, Callable, tuple]:
    x = jax.random.normal(jax.random.key(0), (rows, dim))
    y = jax.random.bernoulli(jax.random.key(1), jax.nn.sigmoid(x[:, 0])).astype(int)

    def model(x: Any, y: Any) -> None:
        w = numpyro.sample("w", dist.Normal(jnp.zeros(dim), 1.0).to_event(1))
        with numpyro.plate("data", rows, subsample_size=batch) as index:
            numpyro.sample("y", dist.Bernoulli(logits=x[index] @ w), obs=y[index])

    return model, AutoNormal(model), (x, y)


class Contender:
    """One SVI, compiled; calling it takes a step."""

    def __init__(self, model: Callable, guide: Callable, objective: Any, args: tuple):
        self.svi, self.args = SVI(model, guide, optax.adam(1e-3), objective), args
        self.state = self.svi.init(jax.random.key(0), *args)
        self.step = jax.jit(self.svi.update)
        self.compilation = compile_seconds(lambda: self.step(self.state, *args))
        self.flops = self.step.lower(self.state, *args).compile().cost_analysis()["flops"]

    def __call__(self) -> Any:
        self.state, loss = self.step(self.state, *self.args)
        return loss


def compare(
    name: str, pair: tuple, ours: Any, stock: Any, rounds: int, guide: Callable | None = None
) -> dict[str, float]:
    model, plain, args = pair
    compilations: list[float] = []
    for _ in range(3):  # in turns: the first of all pays for what is compiled once
        numpyros = Contender(model, plain, stock, args)
        mine = Contender(model, guide or plain, ours, args)
        compilations.append(mine.compilation / numpyros.compilation)
    seconds = paired({"numpyro": numpyros, "probgen": mine}, rounds=rounds, steps=4).seconds
    low = {who: statistics.quantiles(times, n=4)[0] for who, times in seconds.items()}
    found = {
        "numpyro_ms": 1e3 * low["numpyro"],
        "probgen_ms": 1e3 * low["probgen"],
        "time": low["probgen"] / low["numpyro"],
        "flops": mine.flops / numpyros.flops,
        "compilation": statistics.median(compilations),
    }
    print(
        f"{name:44s}{found['numpyro_ms']:10.3f}{found['probgen_ms']:10.3f}{found['time']:8.3f}"
        f"{found['flops']:8.3f}{found['compilation']:9.2f}",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment(), "programs": {}}
    print(f"{report['command']}\n{report['environment']}\n")
    print(f"{'step (lower quartiles)':44s}{'numpyro':>10s}{'probgen':>10s}{'time':>8s}{'FLOPs':>8s}{'compile':>9s}")
    bits = vae("bernoulli")
    cases = {
        "pathwise VAE": (vae("normal"), ELBO(), Trace_ELBO()),
        "pathwise VAE, sampled KL": (vae("normal"), ELBO(analytic_kl=False), Trace_ELBO()),
        f"pathwise VAE, {K} particles": (vae("normal"), ELBO(K), Trace_ELBO(K)),
        "pathwise logistic regression, AutoNormal": (logistic(), ELBO(), Trace_ELBO()),
    }
    for name, (pair, ours, stock) in cases.items():
        report["programs"][name] = compare(name, pair, ours, stock, args.rounds)
    name = f"leave-one-out VAE, {K} particles"
    guide = use(bits[1], {"z": LeaveOneOut()})
    report["programs"][name] = compare(name, bits, ELBO(K), Trace_ELBO(K), args.rounds, guide)
    write_json(args.json, report)


if __name__ == "__main__":
    main()
