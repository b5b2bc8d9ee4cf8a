"""What it costs to train on more rows than memory holds.

    python benchmarks/streaming.py [--gigabytes 10] [--steps 2000] [--folder /tmp]

A sparse file of so many gigabytes is made on the spot, its rows are mapped into memory, and `probgen.fit` trains a flow
on them. Reported are the greatest resident memory of that process, and the time of a step beside that of the same
training on a few of the rows, in memory: both are processes of their own, and take turns. The time of a step is the
mean after the first quarter of them, all that happens between them included: by the clock, and in seconds of
processors, which other processes on the machine do not change.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

DIM, BATCH, EVERY = 64, 512, 50
IN_MEMORY = 100_000  # rows


def make(path: Path, gigabytes: float) -> int:
    """Make a sparse file of rows of which every thousandth is written, and return their number."""
    rows = int(gigabytes * 1e9) // (4 * DIM)
    with path.open("wb") as file:
        file.truncate(rows * 4 * DIM)
    written = np.memmap(path, np.float32, "r+", shape=(rows, DIM))
    chance = np.random.default_rng(0)
    for start in range(0, rows, 1_000_000):
        written[start : start + 1_000] = chance.normal(size=(min(1_000, rows - start), DIM))
    written.flush()
    return rows


def train(path: str, rows: int, steps: int, in_memory: bool) -> None:
    """Train, and print the seconds of a step and the greatest resident memory in gigabytes."""
    import jax

    import probgen

    x: Any = np.memmap(path, np.float32, "r", shape=(rows, DIM))
    x = np.array(x[:IN_MEMORY]) if in_memory else x
    flow = probgen.flows.real_nvp(DIM, layers=4, hidden=(128, 128), key=jax.random.key(1))
    marks: list[tuple[float, float]] = []
    probgen.fit(
        flow,
        x,
        steps=steps,
        batch_size=BATCH,
        key=jax.random.key(2),
        validate_every=EVERY,
        callback=lambda status: marks.append((time.perf_counter(), time.process_time())),
        progress=False,
    )
    counted = marks[len(marks) // 4 :]
    wall, cpu = (np.array(counted[-1]) - counted[0]) / EVERY / (len(counted) - 1)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"wall": wall, "cpu": cpu, "memory": memory}))


def measure(path: Path, rows: int, steps: int, in_memory: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--train", str(path), "--rows", str(rows), "--steps", str(steps)]
    command += ["--in-memory"] if in_memory else []
    environment = {**os.environ, "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--train", metavar="FILE", help="be one of the trainings")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--in-memory", action="store_true")
    args = parser.parse_args()
    if args.train:
        train(args.train, args.rows, args.steps, args.in_memory)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "rows.bin"
        rows = make(path, args.gigabytes)
        print(f"{rows} rows of {DIM} float32, {path.stat().st_size / 1e9:.1f} GB, batches of {BATCH}", flush=True)
        ratios = []
        for _ in range(args.turns):
            both = [measure(path, rows, args.steps, in_memory) for in_memory in (False, True)]
            ratios.append([both[0][clock] / both[1][clock] for clock in ("wall", "cpu")])
            for name, found in zip(("streamed", "in memory"), both):
                times = f"{1e3 * found['wall']:.2f} ms, {1e3 * found['cpu']:.2f} ms of processors"
                print(f"{name:10} a step {times}, at most {found['memory']:.2f} GB", flush=True)
        wall, cpu = (statistics.median(column) for column in zip(*ratios))
        print(f"median ratio {wall:.3f} by the clock, {cpu:.3f} of processors (at most 1.10; memory at most 1.5 GB)")


if __name__ == "__main__":
    main()
