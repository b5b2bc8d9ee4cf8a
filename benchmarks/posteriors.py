"""placeholder docstring"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import arviz
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
from jax import Array, lax
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoBNAFNormal, AutoGuide, AutoIAFNormal, AutoMultivariateNormal, AutoNormal
from pairing import environment, write_json
from posterior_programs import NAMES, Posterior, as_columns, load

import probgen
from probgen.inference import AutoFlow

PARTICLES, TURNS, DRAWS, BLOCK = 16, 50, 50_000, 1000
MakeGuide = Callable[[Callable, Array], AutoGuide]

recipe = partial(probgen.flows.iaf, layers=3, hidden=(32,))

CONTENDERS: dict[str, tuple[MakeGuide, float]] = {
    "AutoNormal": (lambda program, key: AutoNormal(program), 1e-2),
    "AutoMultivariateNormal": (lambda program, key: AutoMultivariateNormal(program), 1e-2),
    "AutoIAFNormal": (lambda program, key: AutoIAFNormal(program, hidden_dims=[32, 32]), 1e-2),
    "AutoBNAFNormal": (lambda program, key: AutoBNAFNormal(program), 1e-2),
    "AutoFlow": (lambda program, key: AutoFlow(program, recipe, key=key), 1e-2),
}


class Training:
    """One guide on its way: its steps are taken in turns with others, `spent` seconds in all."""

    def __init__(
        self, program: Callable, make: MakeGuide, rate: float, key: Array, particles: int = PARTICLES, objective=None
    ):
        began = time.perf_counter()
        guide_key, self.key = jax.random.split(key)
        self.program, self.guide, self.rate = program, make(program, guide_key), rate
        optimizer = optax.chain(
            optax.clip_by_global_norm(10.0), optax.inject_hyperparams(optax.adam)(learning_rate=rate)
        )
        self.svi = SVI(program, self.guide, optimizer, objective or Trace_ELBO(particles, vectorize_particles=True))
        self.state = self.svi.init(self.key)
        self.advance = jax.jit(self._advance)
        self.run(1, 0.0)
        self.run(1, 0.0)  # a second time, for the state's dtypes change with the first step
        self.compile_seconds = time.perf_counter() - began
        began = time.perf_counter()
        self.run(10, 0.0)
        self.spent, self.steps, self.step_seconds = 0.0, 0, (time.perf_counter() - began) / 10

    def _advance(self, state: Any, rate: Array, steps: Array) -> Any:
        state = state._replace(optim_state=optax.tree_utils.tree_set(state.optim_state, learning_rate=rate))
        return lax.fori_loop(0, steps, lambda _, state: self.svi.stable_update(state)[0], state)

    def run(self, steps: int, rate: float) -> None:
        self.state = jax.block_until_ready(self.advance(self.state, jnp.asarray(rate, float), jnp.asarray(steps)))

    def turn(self, until: float, share: float) -> None:
        """Train until `until` seconds are spent, at the rate of a cosine at `share` of the way."""
        steps = max(1, round((until - self.spent) / self.step_seconds))
        began = time.perf_counter()
        self.run(steps, self.rate * 0.5 * (1 + np.cos(np.pi * share)))
        took = time.perf_counter() - began
        self.spent, self.steps, self.step_seconds = self.spent + took, self.steps + steps, took / steps

    def weighted_draws(self, key: Array) -> tuple[dict[str, Array], Array, float]:
        """DRAWS draws of all parameters, their log weights log p(x, θ) − log q(θ), and the seconds that they took."""
        params = self.svi.get_params(self.state)
        one = partial(log_weight, self.program, self.guide)

        @jax.jit
        def block(params: Any, keys: Array) -> Any:
            return lax.map(lambda keys: jax.vmap(one, (None, 0))(params, keys), keys)

        keys = jax.random.split(key, (DRAWS // BLOCK, BLOCK))
        jax.block_until_ready(block(params, keys))
        began = time.perf_counter()
        draws, log_weights = jax.block_until_ready(block(params, keys))
        seconds = time.perf_counter() - began
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), draws), log_weights.ravel(), seconds


def log_weight(program: Callable, guide: Callable, params: Any, key: Array) -> tuple[dict[str, Array], Array]:
    """One draw from a guide: the program's latent and deterministic sites, and log p − log q."""
    with numpyro.handlers.seed(rng_seed=key), numpyro.handlers.trace() as q, numpyro.handlers.substitute(data=params):
        guide()
    with numpyro.handlers.seed(rng_seed=key), numpyro.handlers.trace() as p, numpyro.handlers.replay(trace=q):
        program()
    latent = {name: site["value"] for name, site in p.items() if not site.get("is_observed", False)}
    return latent, log_density(p) - log_density(q)


def log_density(trace: Mapping[str, Any]) -> Array:
    sites = [site for site in trace.values() if site["type"] == "sample"]
    with_cache = lambda site: (site["value"], *([site["intermediates"]] if site["intermediates"] else []))
    return sum((jnp.sum(site["fn"].log_prob(*with_cache(site))) for site in sites), start=jnp.zeros(()))


class Result(NamedTuple):
    elbo: float
    elbo_se: float
    mean_error: float
    sd_error: float
    khat: float
    ess: float
    ess_per_second: float
    steps: int
    seconds: float
    compile_seconds: float


def measure(training: Training, posterior: Posterior, key: Array) -> Result:
    draws, log_weights, seconds = training.weighted_draws(key)
    _, ours = as_columns(draws, posterior.names)
    w = np.asarray(log_weights, float)
    gold, sd = posterior.gold, posterior.gold.std(0)
    rms = lambda x: float(np.sqrt(np.mean(x**2)))
    smoothed, khat = arviz.psislw(np.where(np.isfinite(w), w, -1e30))
    ess = float(1 / np.exp(2 * np.asarray(smoothed)).sum())
    return Result(
        float(w.mean()), float(w.std() / np.sqrt(len(w))),
        rms((ours.mean(0) - gold.mean(0)) / sd), rms(ours.std(0) / sd - 1),
        float(khat), ess, ess / seconds, training.steps, training.spent, training.compile_seconds,
    )  # fmt: skip


def compare(posterior: Posterior, seconds: float, seed: int, contenders=None) -> dict[str, Result]:
    contenders = contenders or CONTENDERS
    keys = jax.random.split(jax.random.key(seed), 2)
    trainings = {name: Training(posterior.program, *spec, keys[0]) for name, spec in contenders.items()}
    for turn in range(1, TURNS + 1):
        for training in trainings.values():
            training.turn(seconds * turn / TURNS, (turn - 0.5) / TURNS)
    return {name: measure(training, posterior, keys[1]) for name, training in trainings.items()}


def show(name, results):
    print(f"\n{name}")
    for who, r in results.items():
        print(
            f"{who:24s} elbo {r.elbo:10.3f} ± {r.elbo_se:.3f}  mean {r.mean_error:6.3f} sd {r.sd_error:6.3f}  "
            f"khat {r.khat:5.2f}  ess {r.ess:7.0f} /s {r.ess_per_second:9.0f}  steps {r.steps:6d} "
            f"{r.seconds:5.1f}s compile {r.compile_seconds:5.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for name in [args.only] if args.only else NAMES:
        show(name, compare(load(name), args.seconds, 0))


if __name__ == "__main__":
    main()
