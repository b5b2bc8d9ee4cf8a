"""Equal-time races: probgen's flows beside flowjax's and zuko's on real tables, in the same CPU seconds on one thread.

    python benchmarks/races.py --out races.jsonl [--seconds 6] [--tables wine_red,sachs] [--flows nsf] [--core 1]
    python benchmarks/races.py --out races.jsonl --show

One flow of each library for each table and kind: 4 layers, conditioners of 2×64 with relu, splines of 8 bins on [−3, 3]
(`flows_architecture.py`), batches of 128, Adam on gradients of norm at most 5, in float32, with each library's own
initialization and order between layers. The tables are those of `density.py`, standardized; of POWER 20,000 rows.

Every contender runs in a process of its own, on one thread. It is given seconds of its process's CPU time, in which it
trains and looks at the validation rows every 50 steps; imports, compilation and a warm-up are outside. It stops early
after 40 looks without a gain, and the parameters of the best look are tested. Everyone's learning rate is that of
`RATES` that is best on validation rows, with a seed of its own and half of the seconds. probgen and flowjax train in
the same compiled loop, zuko eagerly with PyTorch's fused Adam.

The file gets a line of JSON for each seed at once; what it has already is not run again. The difference to the better
peer is paired by seed, its standard error that over seeds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from density_data import NAMES, Rows, load_rows
from flows_architecture import PEERS, Architecture

FLOWS = {"real_nvp": "coupling-affine", "maf": "maf", "nsf": "maf-spline"}
LIBRARIES = ("probgen", "flowjax", "zuko")
TABLES = ("wine_red", "parkinsons", "sachs", "power", "wine_white")
LAYERS, HIDDEN, BATCH, CLIP = 4, (64, 64), 128, 5.0
RATES, TRIAL_SEED = (1e-3, 3e-3), 1000
EVERY, PATIENCE = 50, 40  # steps between two looks at the validation rows, and looks without a gain
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}
Look = Callable[[], tuple[float, Callable[[], Any]]]


class Contender:
    """`start(seed, rate)` gives a call that trains for `EVERY` steps: the validation loss, and the parameters' keeper;
    `test(parameters)` nats of the test rows."""

    def __init__(self, start: Callable[[int, float], Look], test: Callable[[Any], np.ndarray]):
        self.start, self.test = start, test


def in_jax(build: Callable[[int], tuple[Any, Any, Callable[[Any], Any]]], rows: Rows) -> Contender:
    """A flow of JAX as (parameters, the rest, their join), in a loop compiled once for all seeds and rates. A shuffled
    order is one of the rest, and another for each seed: single orders are up to 0.2 nats better than others."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    train, validation, test = (jnp.asarray(part) for part in rows)
    transform = optax.inject_hyperparams(
        lambda rate: optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(rate)), static_args=()
    )
    _, rest, join = build(0)
    static = eqx.filter(rest, eqx.is_array, inverse=True)
    log_prob = lambda params, orders, x: join(params, eqx.combine(orders, static)).log_prob(x)
    loss = lambda params, orders, x: -jnp.mean(log_prob(params, orders, x))

    @jax.jit
    def many(params: Any, orders: Any, state: Any, key: Any) -> tuple[Any, Any, Any]:
        def step(carry: Any, key: Any) -> tuple[Any, None]:
            params, state = carry
            x = train[jax.random.randint(key, (BATCH,), 0, len(train))]
            updates, state = transform(rate=1.0).update(jax.grad(loss)(params, orders, x), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (params, state), jax.random.split(key, EVERY))
        return params, state, loss(params, orders, validation)

    def start(seed: int, rate: float) -> Look:
        params, rest, _ = build(seed)
        orders = eqx.filter(rest, eqx.is_array)
        state, looks = transform(rate=rate).init(params), 0

        def look() -> tuple[float, Callable[[], Any]]:
            nonlocal params, state, looks
            looks += 1
            params, state, value = many(params, orders, state, jax.random.fold_in(jax.random.key(seed), looks))
            kept = params, orders
            return float(value), lambda: kept

        return look

    nats = jax.jit(lambda params, orders: log_prob(params, orders, test))
    return Contender(start, lambda kept: np.asarray(nats(*kept), float))


def of_probgen(architecture: Architecture, rows: Rows) -> Contender:
    import flows_jax
    import jax

    import probgen

    def build(seed: int) -> tuple[Any, Any, Callable[[Any], Any]]:
        flow = flows_jax.probgen_flow(architecture, jax.random.key(seed))
        return *probgen.partition(flow), probgen.combine

    return in_jax(build, rows)


def of_flowjax(architecture: Architecture, rows: Rows) -> Contender:
    import equinox as eqx
    import flows_flowjax
    import jax
    import paramax

    def build(seed: int) -> tuple[Any, Any, Callable[[Any], Any]]:
        flow = flows_flowjax.flow(architecture, jax.random.key(seed))
        parts = eqx.partition(flow, eqx.is_inexact_array, is_leaf=flows_flowjax.is_frozen)
        return *parts, lambda params, rest: paramax.unwrap(eqx.combine(params, rest))

    return in_jax(build, rows)


def of_zuko(architecture: Architecture, rows: Rows) -> Contender:
    import flows_torch
    import torch

    torch.set_num_threads(1)
    train, validation, test = (torch.from_numpy(part) for part in rows)
    # a fresh module for every seed, seen by its parameters alone
    build = lambda seed: flows_torch.flow("zuko", architecture, seed=seed)

    def start(seed: int, rate: float) -> Look:
        module, log_prob, _ = build(seed)
        optimizer = torch.optim.Adam(module.parameters(), lr=rate, fused=True)

        def look() -> tuple[float, Callable[[], Any]]:
            for _ in range(EVERY):
                optimizer.zero_grad(set_to_none=True)
                loss = -log_prob(train[torch.randint(len(train), (BATCH,))]).mean()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
                optimizer.step()
            with torch.no_grad():
                value = -log_prob(validation).mean().item()
            return value, lambda: {name: leaf.clone() for name, leaf in module.state_dict().items()}

        return look

    def nats(state: Any) -> np.ndarray:
        module, log_prob, _ = build(0)
        module.load_state_dict(state)
        with torch.no_grad():
            return log_prob(test).double().numpy()

    return Contender(start, nats)


def train(look: Look, seconds: float) -> tuple[float, Any, dict[str, Any]]:
    """The least validation loss, its parameters, and what it took; a first look has warmed up."""
    best, kept, since, looks, used = float("inf"), None, 0, 0, 0.0
    began, best_at = time.process_time(), 0
    while used < seconds and since < PATIENCE:
        value, keep = look()
        looks, since = looks + 1, since + 1
        if value < best:
            best, kept, since, best_at = value, keep(), 0, looks
        used = time.process_time() - began
    return best, kept, {"steps": looks * EVERY, "best_at": best_at * EVERY, "cpu_seconds": round(used, 2)}


def run_one(library: str, table: str, flow: str, seeds: Sequence[int], seconds: float, out: Path) -> None:
    """All seeds of one contender, each a line of the file."""
    rows = load_rows(table)
    if table == "power":
        rows = Rows(rows.train[:20_000], rows.validation[:2_000], rows.test[:20_000])
    architecture = Architecture(FLOWS[flow], rows.train.shape[1], LAYERS, HIDDEN)
    make = {"probgen": of_probgen, "flowjax": of_flowjax, "zuko": of_zuko}[library]
    contender = make(architecture, rows)
    contender.start(TRIAL_SEED, RATES[0])()  # compile
    trials = {rate: train(contender.start(TRIAL_SEED, rate), seconds / 2)[0] for rate in RATES}
    rate = min(trials, key=lambda rate: trials[rate])
    for seed in seeds:
        best, kept, took = train(contender.start(seed, rate), seconds)
        nats = contender.test(kept)
        cell = {"library": library, "table": table, "flow": flow, "seed": seed, "seconds": seconds}
        found = {
            "nats": float(nats.mean()),
            "median": float(np.median(nats)),
            "validation": -best,
            "rate": rate,
            **took,
        }
        with out.open("a") as file:
            file.write(json.dumps(cell | found) + "\n")


def results(path: Path) -> list[dict[str, Any]]:
    """The lines of the file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(lines: Sequence[dict[str, Any]]) -> None:
    """A Markdown table: nats ± standard error over seeds, and the paired difference to the better peer."""
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for line in lines:
        by_library = found.setdefault((line["table"], line["flow"]), {})
        by_library.setdefault(line["library"], {})[line["seed"]] = line["nats"]
    error = lambda x: statistics.stdev(x) / len(x) ** 0.5 if len(x) > 1 else float("nan")
    say = lambda x: f"{statistics.mean(x):.3f} ± {error(x):.3f}" if x else ""
    print("| table | flow | probgen | flowjax | zuko | difference to the better peer |\n|---|---|---|---|---|---|")
    for (table, flow), cell in found.items():
        scores = {library: list(cell.get(library, {}).values()) for library in LIBRARIES}
        peers = [name for name in LIBRARIES[1:] if scores[name]]
        row = [say(scores[name]) for name in LIBRARIES]
        if peers and scores["probgen"]:
            peer = max(peers, key=lambda name: statistics.mean(scores[name]))
            ours, theirs = cell["probgen"], cell[peer]
            row.append(say([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]) + f" ({peer})")
        print(f"| {table} | {flow} | {' | '.join(row)} |".replace("-", "−"))


def choices() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    comma = lambda text: text.split(",")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--show", action="store_true", help="what the file has, and run nothing")
    parser.add_argument("--seconds", type=float, default=6.0, help="CPU time of a training")
    parser.add_argument("--tables", type=comma, default=TABLES, help=", ".join(NAMES))
    parser.add_argument("--flows", type=comma, default=tuple(FLOWS))
    parser.add_argument("--libraries", type=comma, default=LIBRARIES, help=f"probgen, {', '.join(PEERS[:2])}")
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=(0, 1, 2))
    parser.add_argument("--core", type=int, help="the one core to run on; by default any")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    args = choices().parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    if args.one:
        run_one(args.libraries[0], args.tables[0], args.flows[0], args.seeds, args.seconds, args.out)
        return
    for table, flow, library in ((t, f, name) for t in args.tables for f in args.flows for name in args.libraries):
        keys = ("library", "table", "flow", "seed", "seconds")
        done = {tuple(line[key] for key in keys) for line in results(args.out)}
        seeds = [seed for seed in args.seeds if (library, table, flow, seed, args.seconds) not in done]
        if args.show or not seeds:
            continue
        command = [
            sys.executable, __file__, "--one", "--out", str(args.out), "--seconds", str(args.seconds),
            "--tables", table, "--flows", flow, "--libraries", library, "--seeds", ",".join(map(str, seeds)),
        ]  # fmt: skip
        code = subprocess.run(command, env={**os.environ, **ONE_THREAD}).returncode
        print(f"{library} {table} {flow}{'' if not code else f': failed with {code}'}", flush=True)
    show(results(args.out))


if __name__ == "__main__":
    main()
