"""Models of tables beside what others use: CTGAN, TVAE, Gaussian copulas, and columns taken alone.

    taskset -c 0 python benchmarks/tables.py [--data wine,german,census] [--models any_order,…] [--steps 3000]
        [--seconds 60] [--seeds 0,1,2] [--json FILE]

A fifth of the rows is held out to test on, a tenth of the others to choose by; a seed is another split and other
weights. probgen's models are trained as `probgen train --model table` and `--model nsf` do it, for `--steps`, and a
sixth of them for the flow, whose steps take so much longer. CTGAN and TVAE train for as many epochs as take `--seconds`
of CPU time, by default as many as any_order took on the first seed, its compilation included; their own start is not
counted. All of them get the rows in which nothing is missing, and the columns that repeat no other. The CPU-seconds of
every fit are printed, from the second seed on with what XLA compiled before.

- nats: of a test row, ± one standard error over rows. All columns are categories or rounded, so that it is the
  probability of a row, of all on the same footing. That of mixed_flow and of copula is a bound (≤) by 64 particles.
- told apart: how often a classifier is right on rows that are half drawn and half test rows, a network's and that of
  boosted trees; 0.5 is best.
- energy: the energy distance of drawn and test rows (`probgen.evaluation.energy_test`).
- AUC: of boosted trees on test rows, trained on drawn rows.

The first line, real rows, is of the training rows in the place of drawn ones.

Peers that are not installed are left out with a word. It needs scikit-learn.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pairing import environment, write_json
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from tables_data import TASKS, Task, complete, features
from tables_models import Fit, by_command, copula, independent

from probgen.data import Table
from probgen.evaluation import classifier_test, energy_test

MODELS = ("any_order", "mixed_flow", "copula", "independent", "copulas", "CTGAN", "TVAE")
PEERS = {"copulas": "copulas", "CTGAN": "ctgan", "TVAE": "ctgan"}


def contender(name: str, steps: int) -> Fit:
    """What fits a model of that name."""
    if name in PEERS:
        import tables_peers

        return tables_peers.of_copulas if name == "copulas" else tables_peers.of_ctgan(name)
    own: dict[str, Fit] = {"copula": copula, "independent": independent}
    if name in own:
        return own[name]
    return by_command("table", steps) if name == "any_order" else by_command("nsf", steps // 6)


def trees(key: Any, rows: Any, labels: Any) -> Any:
    """Boosted trees as a classifier of `classifier_test`."""
    found = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(np.asarray(rows), np.asarray(labels))
    return lambda x: jnp.asarray(found.decision_function(np.asarray(x)))


def auc(task: Task, train: Table, test: Table) -> float:
    """Of boosted trees that predict the label, trained on one table and tested on another."""
    place = task.table.names.index(task.label)
    parts = ((np.delete(t.array, place, 1), task.positive(t.array[:, place])) for t in (train, test))
    (train_x, train_y), (test_x, test_y) = parts
    if len(set(train_y.tolist())) < 2:
        return 0.5  # a model that draws one label says nothing of it
    found = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(train_x, train_y)
    return float(roc_auc_score(test_y, found.predict_proba(test_x)[:, 1]))


def compared(task: Task, drawn: Table, train: Table, test: Table, seed: int) -> list[float]:
    """How well drawn rows, as many as of `train`, stand for test rows: told apart twice, energy distance and AUC."""
    x, y = (features(part, of=train)[: min(len(test), 1000)] for part in (drawn, test))
    told = [
        classifier_test(x, y, num_permutations=1, key=jax.random.key(seed), **options).statistic
        for options in ({}, {"classifier": trees})
    ]
    energy = energy_test(x, y, num_permutations=1, key=jax.random.key(seed)).statistic
    return [*told, energy, auc(task, drawn, test)]


def show(name: str, values: Any, said: str) -> None:
    """One line."""
    nats, se, *others = values
    likelihood = f"{nats:9.3f} ± {se:.3f}" if np.isfinite(nats) else f"{'–':>17s}"
    print(f"{name:12s}{likelihood}  " + "".join(f"{value:10.3f}" for value in others) + f"   {said}", flush=True)


def contest(name: str, fits: dict[str, Fit], args: argparse.Namespace) -> dict[str, Any]:
    """All models on one table."""
    task, found = TASKS[name](), dict[str, list[list[float]]]()
    table, seconds = complete(task.table), args.seconds
    print(f"\n{name}: {task.table}\n{len(table)} rows are complete; the label is {task.label!r}", flush=True)
    for seed in args.seeds:
        rest, test = table.split(test=0.2, seed=seed)
        train, validation = rest.split(test=0.1, seed=seed)
        order = np.random.default_rng(seed).permutation(len(train))
        real = [np.nan, np.nan, *compared(task, train[order], train, test, seed)]
        found.setdefault("real rows", []).append(real)
        print(f"seed {seed}: {len(train)}, {len(validation)} and {len(test)} rows; load {os.getloadavg()[0]:.1f}")
        show("real rows", real, "")
        for model, fit in fits.items():
            began = time.process_time()
            fitted = fit(train, validation, seconds or 60.0, seed)
            took = time.process_time() - began
            seconds = seconds or (took if model == "any_order" else None)
            log_p = fitted.log_prob(test) if fitted.log_prob else np.array([np.nan, np.nan])
            likelihood = [-float(log_p.mean()), float(log_p.std(ddof=1) / len(log_p) ** 0.5)]
            row = [*likelihood, *compared(task, fitted.sample(len(train), seed), train, test, seed)]
            found.setdefault(model, []).append(row)
            show(model, row, f"{fitted.said}, {took:.0f} CPU-s")
    print(f"{name}, medians of {len(args.seeds)} seeds\n{'':12s}{'nats':>9s}{'told apart':>23s}{'':6s}energy     AUC")
    for model, rows in found.items():
        show(model, np.median(rows, 0), "")
    return {model: {"seeds": rows, "median": np.median(rows, 0).tolist()} for model, rows in found.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    among = lambda known, text: [part for part in text.split(",") if part in known or parser.error(f"what is {part}?")]
    parser.add_argument("--data", type=partial(among, TASKS), default=list(TASKS))
    parser.add_argument("--models", type=partial(among, MODELS), default=list(MODELS))
    parser.add_argument("--seconds", type=float, help="of CPU time, of CTGAN and TVAE (default as any_order)")
    parser.add_argument("--steps", type=int, default=3000, help="of any_order (the default of `probgen train`)")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    for name in [name for name in args.models if name in PEERS and not importlib.util.find_spec(PEERS[name])]:
        print(f"{PEERS[name]} is not installed: {name} is left out")
        args.models.remove(name)
    packages = {PEERS[name] for name in args.models if name in PEERS} | {"scikit-learn", "pandas"}
    packages |= {"torch"} if {"CTGAN", "TVAE"} & set(args.models) else set()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment(*sorted(packages))}
    print(f"{report['command']}\n{report['environment']}, load {os.getloadavg()[0]:.1f}", flush=True)
    jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp())
    fits = {name: contender(name, args.steps) for name in args.models}
    for name in args.data:
        report[name] = contest(name, fits, args)
        write_json(args.json, report)


if __name__ == "__main__":
    main()
