"""Whether a training that is killed again and again ends where it would have ended.

    python benchmarks/interrupted.py [--kills 20] [--steps 3000] [--seed 0]

A process trains a flow with dropout, an average, validation and a metric, and writes a checkpoint every few steps. It
is killed (SIGKILL, which no process can answer) at a random moment, and another goes on with `resume=True`, until so
many were killed; the last one ends. Its params, losses, and the whole history are compared, bit for bit, with those of
one process that nobody killed. Every process has a hash seed of its own, and its own chunks of steps.
"""

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

EVERY = 10


def train(out: str, folder: str | None, steps: int) -> None:
    """Train, go on from the folder if there is one, tell the steps on the way, and write what there is at the end."""
    import jax

    import probgen

    x = jax.random.normal(jax.random.key(0), (500, 3)) * 2 + 1
    model = probgen.flows.real_nvp(3, layers=2, hidden=(16,), dropout=0.1, key=jax.random.key(1))
    result = probgen.fit(
        model,
        x,
        learning_rate=1e-3,
        steps=steps,
        batch_size=32,
        key=jax.random.key(2),
        validation=x[:100],
        validate_every=EVERY * 2,
        metrics={"spread": lambda model, key, rows: model.sample(key, (50,)).std(0)},
        ema=probgen.inference.PowerEMA(0.1),
        callback=lambda status: print(status.step, flush=True),
        checkpoint=None if folder is None else probgen.inference.Checkpoints(folder, every=EVERY),
        resume=folder is not None,
        progress=False,
    )
    arrays = {f"param {i}": x for i, x in enumerate(jax.tree.leaves((result.params, result.state.optim_state)))}
    history = {name: values.to_numpy() for name, values in result.history.data_vars.items()}
    np.savez(out, **arrays, **history, best=np.array(result.best))


def start(out: Path, folder: Path | None, steps: int) -> subprocess.Popen:
    command = [sys.executable, __file__, "--train", str(out), "--steps", str(steps)]
    command += [] if folder is None else ["--folder", str(folder)]
    environment = {**os.environ, "PYTHONHASHSEED": "random", "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def kill_at_random(out: Path, folder: Path, steps: int, chance: random.Random) -> int | None:
    """Kill a training at a random moment, and return the last step that it told, or None where it came to its end."""
    process, step = start(out, folder, steps), None
    assert process.stdout is not None
    for line in itertools.islice(process.stdout, chance.randint(1, 6)):
        step = int(line)
    time.sleep(chance.random() * 0.2)
    ended = process.poll() is not None
    process.kill()
    process.communicate()
    if ended and process.returncode:
        raise SystemExit(f"a training failed, with {process.returncode}")
    return None if ended else step


def run(kills: int, steps: int, seed: int, folder: Path) -> bool:
    chance, done = random.Random(seed), 0
    whole, resumed = folder / "whole.npz", folder / "resumed.npz"
    start(whole, None, steps).communicate()
    while done < kills:
        step = kill_at_random(resumed, folder / "checkpoints", steps, chance)
        if step is None:
            raise SystemExit(f"a training of {steps} steps was over after {done} kills")
        done += 1
        print(f"kill {done}: after step {step}", flush=True)
    start(resumed, folder / "checkpoints", steps).communicate()
    return same(np.load(whole), np.load(resumed), kills)


def same(whole: Any, resumed: Any, kills: int) -> bool:
    differ = [name for name in whole if not np.array_equal(whole[name], resumed[name], equal_nan=True)]
    print(f"{kills} kills, {len(whole.files)} arrays, {len(whole['train'])} losses: {len(differ)} arrays differ")
    return sorted(whole.files) == sorted(resumed.files) and not differ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", metavar="FILE", help="be one of the trainings, which writes this file")
    parser.add_argument("--folder", help="of its checkpoints")
    args = parser.parse_args()
    if args.train:
        train(args.train, args.folder, args.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if run(args.kills, args.steps, args.seed, Path(folder)) else 1)


if __name__ == "__main__":
    main()
