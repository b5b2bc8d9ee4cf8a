"""AutoFlow beside numpyro's guides on eight posteriors, each trained for the same time.

    python benchmarks/posteriors.py --seconds 30 --seeds 0 1 2 --json posteriors.json
    python benchmarks/posteriors.py --only funnel --guides AutoFlow AutoBNAFNormal

The programs and their gold draws are those of `posterior_programs.py`. Every guide learns by numpyro's `SVI`: the ELBO
of 16 draws, Adam whose rate falls from 0.01 to 0 as a cosine of the time spent, gradients clipped at norm 10, in
double precision. They take turns, so that what else the machine does meets all alike; compiling is not counted, and
printed. With 50,000 draws θ of the trained guide q and their weights w = p(x, θ) / q(θ) are reported, the median over
seeds:

    ELBO        mean log w
    mean, sd    root mean square, over parameters, of (mean − gold mean) / gold sd and of sd / gold sd − 1
    k̂           the Pareto shape of the largest weights: above 0.7 importance sampling is unreliable
    ESS, ESS/s  1 / Σ ŵ² with smoothed weights that sum to 1, and per second of drawing and weighing

References: Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao, Gabry 2015), arXiv:1507.02646; Yes, but
Did It Work?: Evaluating Variational Inference (Yao, Vehtari, Simpson, Gelman 2018), arXiv:1802.02538.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import arviz
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
from jax import Array, lax
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoBNAFNormal, AutoGuide, AutoIAFNormal, AutoMultivariateNormal, AutoNormal
from numpyro.infer.util import log_density
from pairing import environment, write_json
from posterior_programs import NAMES, Posterior, as_columns, load

from probgen import distributions, flows
from probgen.inference import AutoFlow

PARTICLES, RATE, TURNS, DRAWS, BLOCK = 16, 1e-2, 50, 50_000, 1000


normal_recipe = partial(flows.iaf, layers=4, hidden=(32,))


def recipe(dim: int, *, key: Array) -> distributions.Transformed:
    """An IAF on Student's t: weights p / q stay bounded where tails of p are as light as the normal's."""
    flow = normal_recipe(dim, key=key)
    return flow.replace(base=dist.StudentT(20.0, jnp.zeros(dim), 1.0).to_event(1))


GUIDES: dict[str, Callable[[Callable, Array], AutoGuide]] = {
    "AutoNormal": lambda program, key: AutoNormal(program),
    "AutoMultivariateNormal": lambda program, key: AutoMultivariateNormal(program),
    "AutoIAFNormal": lambda program, key: AutoIAFNormal(program, hidden_dims=[32, 32]),
    "AutoBNAFNormal": lambda program, key: AutoBNAFNormal(program),
    "AutoFlow, normal base": lambda program, key: AutoFlow(program, normal_recipe, key=key),
    "AutoFlow": lambda program, key: AutoFlow(program, recipe, key=key),
}


class Clock:
    """Seconds in which this process ran: the lesser of wall and CPU time."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        return min(time.perf_counter() - self.began[0], time.process_time() - self.began[1])


class Training:
    """One guide on its way: its steps are taken in turns with others, `spent` seconds in all."""

    def __init__(self, program: Callable, make: Callable[[Callable, Array], AutoGuide], key: Array):
        clock = Clock()
        guide_key, init_key = jax.random.split(key)
        self.program, self.guide = program, make(program, guide_key)
        adam = optax.inject_hyperparams(optax.adam)(learning_rate=RATE)
        optimizer = optax.chain(optax.clip_by_global_norm(10.0), adam)
        self.svi = SVI(program, self.guide, optimizer, Trace_ELBO(PARTICLES, vectorize_particles=True))
        self.state = self.svi.init(init_key)
        self.advance = jax.jit(self._advance)
        self.run(1, 0.0)
        self.run(1, 0.0)  # the types of the state change with the first step
        self.compile_seconds, clock = clock.seconds(), Clock()
        self.run(10, 0.0)
        self.spent, self.steps, self.step_seconds = 0.0, 0, clock.seconds() / 10

    def _advance(self, state: Any, rate: Array, steps: Array) -> Any:
        state = state._replace(optim_state=optax.tree_utils.tree_set(state.optim_state, learning_rate=rate))
        return lax.fori_loop(0, steps, lambda _, state: self.svi.stable_update(state)[0], state)

    def run(self, steps: int, rate: float) -> None:
        self.state = jax.block_until_ready(self.advance(self.state, jnp.asarray(rate, float), jnp.asarray(steps)))

    def turn(self, until: float, share: float) -> None:
        """Train until `until` seconds are spent, at the rate of a cosine at `share` of the way."""
        steps = max(1, round((until - self.spent) / self.step_seconds))
        clock = Clock()
        self.run(steps, RATE * 0.5 * (1 + np.cos(np.pi * share)))
        took = clock.seconds()
        self.spent, self.steps, self.step_seconds = self.spent + took, self.steps + steps, took / steps

    def weighted_draws(self, key: Array) -> tuple[dict[str, Array], Array, float]:
        """DRAWS draws of all parameters, their log weights log p(x, θ) − log q(θ), and the seconds that they took."""
        params = self.svi.get_params(self.state)
        one = partial(log_weight, self.program, self.guide)
        block = jax.jit(lambda params, keys: lax.map(lambda keys: jax.vmap(one, (None, 0))(params, keys), keys))
        keys = jax.random.split(key, (DRAWS // BLOCK, BLOCK))
        jax.block_until_ready(block(params, keys))
        clock = Clock()
        draws, log_weights = jax.block_until_ready(block(params, keys))
        seconds = clock.seconds()
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), draws), log_weights.ravel(), seconds


def log_weight(program: Callable, guide: Callable, params: Any, key: Array) -> tuple[dict[str, Array], Array]:
    """One draw from a guide: the program's latent and deterministic sites, and log p − log q."""
    log_q, drawn = log_density(handlers.seed(guide, key), (), {}, params)
    log_p, trace = log_density(handlers.replay(handlers.seed(program, key), drawn), (), {}, {})
    latent = {name: site["value"] for name, site in trace.items() if not site.get("is_observed", False)}
    return latent, log_p - log_q


class Result(NamedTuple):
    """What is reported of a trained guide."""

    elbo: float
    mean_error: float
    sd_error: float
    khat: float
    ess: float
    ess_per_second: float
    steps: float
    compile_seconds: float


def measure(training: Training, posterior: Posterior, key: Array) -> Result:
    """A trained guide beside the gold draws, and its weights."""
    draws, log_weights, seconds = training.weighted_draws(key)
    _, ours = as_columns(draws, posterior.names)
    w = np.asarray(log_weights, float)
    gold, sd = posterior.gold, posterior.gold.std(0)
    rms = lambda x: float(np.sqrt(np.mean(x**2)))
    smoothed, khat = arviz.psislw(np.where(np.isfinite(w), w, -1e30))
    ess = float(1 / np.exp(2 * np.asarray(smoothed)).sum())
    return Result(
        float(w.mean()), rms((ours.mean(0) - gold.mean(0)) / sd), rms(ours.std(0) / sd - 1), float(khat),
        ess, ess / seconds, training.steps, training.compile_seconds,
    )  # fmt: skip


def compare(posterior: Posterior, guides: list[str], seconds: float, seed: int) -> dict[str, Result]:
    """Every guide trained for `seconds`, in turns."""
    train_key, draw_key = jax.random.split(jax.random.key(seed))
    trainings = {name: Training(posterior.program, GUIDES[name], train_key) for name in guides}
    for turn in range(1, TURNS + 1):
        for training in trainings.values():
            training.turn(seconds * turn / TURNS, (turn - 0.5) / TURNS)
    return {name: measure(training, posterior, draw_key) for name, training in trainings.items()}


def show(name: str, results: dict[str, Result]) -> None:
    """A table of one posterior."""
    print(
        f"\n{name:23s}{'ELBO':>10s}{'mean':>8s}{'sd':>7s}{'k̂':>7s}{'ESS':>8s}{'ESS/s':>10s}{'steps':>8s}{'compile':>9s}"
    )
    for guide, r in results.items():
        print(
            f"{guide:23s}{r.elbo:10.3f}{r.mean_error:8.3f}{r.sd_error:7.3f}{r.khat:7.2f}{r.ess:8.0f}"
            f"{r.ess_per_second:10.0f}{r.steps:8.0f}{r.compile_seconds:8.1f}s",
            flush=True,
        )


def verdict(found: dict[str, dict[str, Result]], ours: str = "AutoFlow") -> None:
    """k̂ of `ours` beside the least of numpyro's."""
    gaps = {
        name: r[ours].khat - min(x.khat for guide, x in r.items() if not guide.startswith(ours))
        for name, r in found.items()
    }
    print("\nk̂ less the least of numpyro's")
    for name, gap in gaps.items():
        print(f"{name:23s}{gap:7.2f}")
    print(f"lower on {sum(gap < 0 for gap in gaps.values())} of {len(gaps)}; at worst {max(gaps.values()):+.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of training, per guide")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES)
    parser.add_argument("--guides", choices=GUIDES, nargs="+", default=list(GUIDES))
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = {}
    for name in args.only:
        posterior = load(name)
        seeds = [compare(posterior, args.guides, args.seconds, seed) for seed in args.seeds]
        found[name] = {g: Result(*np.median([seed[g] for seed in seeds], axis=0).tolist()) for g in args.guides}
        show(name, found[name])
    if "AutoFlow" in args.guides and len(args.guides) > 1:
        verdict(found)
    settings = {"seconds": args.seconds, "seeds": args.seeds, "particles": PARTICLES, "rate": RATE, "draws": DRAWS}
    as_json = {name: {guide: r._asdict() for guide, r in results.items()} for name, results in found.items()}
    write_json(args.json, {"environment": environment(), "settings": settings, "posteriors": as_json})


if __name__ == "__main__":
    main()
