"""probgen's flows beside their own bare networks, flowjax, zuko and nflows: one process, everybody in turns.

    python benchmarks/flows_vs_peers.py [--contests step,compile,draws,finite] [--flows coupling-affine,maf,…]
        [--dims 8,43,64] [--layers 5,32] [--peers flowjax,zuko,nflows] [--rounds 20] [--json FILE]

The same architecture everywhere: conditioners of 2×256 with relu, 5 or 32 layers, 8 bins on [−3, 3], batches of 512 in
float32, Adam with a rate of 1e-3, and a data set of 16 batches of standard normal numbers. What still differs:
flowjax's splines learn two slopes more; flowjax shuffles between layers, where the others reverse the order or swap the
halves; the affine scales are exponentials, softpluses or sigmoids of what the networks say.

- step: the training step, by maximum likelihood. The reference are the bare conditioners, trained alike. flowjax
  appears with its own step and in probgen's; zuko eagerly and through torch.compile. Targets are judged by the faster.
- compile: the first call of a fresh step less the second one, by depth; the caches are cleared before each.
- draws: from a MAF, with the agreement of the numbers (`flows_sampling.py`).
- finite: splines at wild raw numbers (`flows_finiteness.py`).

Peers that are not installed are left out with a word.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import flows_finiteness
import flows_sampling
import jax
from flows_architecture import KINDS, PEERS, Architecture, Contender, standard_normal_batches
from flows_jax import networks_step, probgen_step
from flows_outcomes import Outcome, Target, contest, show_targets
from pairing import Turns, compile_seconds, environment, show, write_json

NETWORKS = "networks alone"
MOST_OF_NETWORKS = {"coupling-affine": 1.1, "maf": 0.9}
MOST_OF_FLOWJAX = {"coupling-spline": 0.7, "maf-spline": 0.7}
MOST_OF_ZUKO, SHALLOW, DEEP, MOST_OF_SHALLOW = 0.5, 4, 32, 1.3


def step_contenders(architecture: Architecture, args: argparse.Namespace) -> dict[str, Contender]:
    batches, key = standard_normal_batches(architecture.dim), jax.random.key(0)
    found = {
        NETWORKS: networks_step(architecture, batches, key),
        "probgen": probgen_step(architecture, batches, key),
    }
    if "flowjax" in args.peers:
        import flows_flowjax

        found["flowjax"] = flows_flowjax.own_step(architecture, batches, key)
        found["flowjax (hand-written step)"] = flows_flowjax.hand_step(architecture, batches, key)
    if torch_peers := [peer for peer in ("zuko", "nflows") if peer in args.peers]:
        import flows_torch

        for peer in torch_peers:
            found |= flows_torch.steps(peer, architecture, batches, compile_limit=args.compile_limit)
    return found


def against(turns: Turns, peer: str) -> float:
    """The ratio of probgen's step to the peer's faster one."""
    own = [name for name in turns.seconds if name.startswith(peer)]
    if not own:
        return float("nan")
    return turns.timing("probgen", to=min(own, key=lambda name: turns.timing(name, to=name).ms)).ratio


def step_contests(args: argparse.Namespace) -> Iterator[Outcome]:
    for architecture in (Architecture(k, d, n) for k in args.flows for d in args.dims for n in args.layers):
        found = step_contenders(architecture, args)
        title = f"training step, {architecture}"
        turns, measured = contest(title, found, reference=NETWORKS, rounds=args.rounds, steps=args.steps)
        limits = {NETWORKS: MOST_OF_NETWORKS.get(architecture.kind)}
        limits |= {"flowjax": MOST_OF_FLOWJAX.get(architecture.kind), "zuko": MOST_OF_ZUKO}
        what = f"step, {architecture.kind}, D = {architecture.dim}, {architecture.layers} layers: probgen / "
        asked = {name: limit for name, limit in limits.items() if limit and (name == NETWORKS or name in args.peers)}
        yield Outcome(
            title, measured, [Target(what + name, against(turns, name), limit) for name, limit in asked.items()]
        )


def compile_contests(args: argparse.Namespace) -> Iterator[Outcome]:
    """Depth 4 and depth 32, at the greatest of the dimensions, in turns; each time a new flow and a new jit."""
    builders: dict[str, Callable[..., Contender]] = {"probgen": probgen_step}
    if "flowjax" in args.peers:
        import flows_flowjax

        builders["flowjax"] = flows_flowjax.hand_step
    batches = standard_normal_batches(max(args.dims), number=2)
    for kind in args.flows:
        seconds: dict[str, list[float]] = {f"{name}, {n}": [] for name in builders for n in (SHALLOW, DEEP)}
        for _ in range(args.compilations):
            for name, build in builders.items():
                for layers in (SHALLOW, DEEP):
                    step = build(Architecture(kind, max(args.dims), layers), batches, jax.random.key(0)).call
                    jax.clear_caches()
                    seconds[f"{name}, {layers}"].append(compile_seconds(step) - compile_seconds(step))
        yield compile_outcome(f"compilation of a step by depth, {kind}, D = {max(args.dims)}", kind, Turns(seconds))


def compile_outcome(title: str, kind: str, turns: Turns) -> Outcome:
    shallow, deep = (f"probgen, {n}" for n in (SHALLOW, DEEP))
    timings = {name: turns.timing(name, to=shallow) for name in turns.seconds}
    show(title, timings, shallow)
    ratio = lambda a, b: turns.timing(a, to=b).ratio
    targets = [Target(f"compilation, {kind}: {DEEP} layers / {SHALLOW} layers", ratio(deep, shallow), MOST_OF_SHALLOW)]
    for n in (SHALLOW, DEEP):
        if f"flowjax, {n}" in turns.seconds:
            measured = ratio(f"probgen, {n}", f"flowjax, {n}")
            targets.append(Target(f"compilation, {kind}, {n} layers: probgen / flowjax", measured, 1.0))
    return Outcome(title, {name: timing._asdict() for name, timing in timings.items()}, targets)


CONTESTS: dict[str, Callable[[argparse.Namespace], Iterator[Outcome]]] = {
    "step": step_contests,
    "compile": compile_contests,
    "draws": lambda args: flows_sampling.contests(args.peers, args.draws, rounds=args.draw_rounds),
    "finite": lambda args: flows_finiteness.contests(args.peers),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: [part for part in text.split(",") if part]
    numbers = lambda text: [int(part) for part in names(text)]
    pairs = lambda text: [tuple(map(int, part.split("x"))) for part in names(text)]
    parser.add_argument("--contests", type=names, default=list(CONTESTS))
    parser.add_argument("--flows", type=names, default=list(KINDS))
    parser.add_argument("--dims", type=numbers, default=[8, 43, 64])
    parser.add_argument("--layers", type=numbers, default=[5, 32])
    parser.add_argument("--peers", type=names, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=20, help="of the training steps")
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    parser.add_argument("--draws", type=pairs, default=flows_sampling.CASES, help="dimensions×draws: 64x512,64x1")
    parser.add_argument("--draw-rounds", type=int, default=7)
    parser.add_argument("--compilations", type=int, default=3, help="of each depth")
    parser.add_argument("--compile-limit", type=float, default=900.0, help="seconds for torch.compile; 0: not at all")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    for given, known in ((args.contests, list(CONTESTS)), (args.flows, KINDS), (args.peers, PEERS)):
        if unknown := set(given) - set(known):
            parser.error(f"expected some of {', '.join(known)}; got {', '.join(sorted(unknown))}")
    return args


def installed(peers: list[str]) -> list[str]:
    found = [peer for peer in peers if importlib.util.find_spec(peer)]
    for peer in peers:
        if peer not in found:
            print(f"{peer} is not installed: left out")
    return found


def main() -> None:
    args = arguments()
    args.peers = installed(args.peers)
    packages = [*args.peers, *(["torch"] if {"zuko", "nflows"} & set(args.peers) else [])]
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment(*packages), "contests": {}}
    print(f"{report['command']}\n{report['environment']}", flush=True)
    targets: list[Target] = []
    for name in args.contests:
        for outcome in CONTESTS[name](args):
            targets += outcome.targets
            report["contests"][outcome.title] = outcome.measured
            report["targets"] = [{**target._asdict(), "met": target.met} for target in targets]
            write_json(args.json, report)  # after every contest: a long run may be stopped
            sys.stdout.flush()
    show_targets(targets)


if __name__ == "__main__":
    main()
