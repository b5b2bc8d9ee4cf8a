"""`probgen demo`: four families, one table."""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from probgen.cli.files import folder_to_write
from probgen.cli.models import DEMO, Entry
from probgen.cli.splits import Split, load_rows
from probgen.cli.training import Settings
from probgen.compression import Codec
from probgen.core import load, save
from probgen.evaluation import Evaluation, evaluate


class Row(NamedTuple):
    """A model of the demo, trained and measured."""

    entry: Entry
    test: Evaluation
    parameters: int
    train_seconds: float
    ms_per_sample: float
    history: Any
    bytes_per_image: float | None
    draws: np.ndarray
    what: str


def run(options: argparse.Namespace) -> None:
    """Train, measure and write all models; print the table."""
    images, out = load_rows("optdigits"), folder_to_write(options.out)
    print(
        f"optdigits: {len(images.train)} train, {len(images.validation)} validation, {len(images.test)} test images, "
        f"{images.shape[0]}×{images.shape[1]}, levels 0..{images.levels - 1}"
    )
    with _compiling_fast(options.quick):
        rows = [
            _train_and_measure(entry, images, jax.random.fold_in(jax.random.key(options.seed), i), options.quick, out)
            for i, entry in enumerate(DEMO)
        ]
    print(table(rows))
    (out / "leaderboard.json").write_text(json.dumps(leaderboard(images, rows), indent=2) + "\n")
    _write_pictures(out, images, rows)
    print(f"written to {out}/: leaderboard.json, samples.png, curves.png and a .safetensors file for each model")


@contextmanager
def _compiling_fast(quick: bool) -> Iterator[None]:
    """Let XLA optimize less where `quick`: little training is over before optimized code has paid for its
    compilation."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", quick or before)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def _train_and_measure(entry: Entry, images: Split, key: Any, quick: bool, out: Path) -> Row:
    train_key, test_key, draw_key = jax.random.split(key, 3)
    began = time.perf_counter()
    trained = entry.train(images, key=train_key, settings=Settings(quick))
    seconds = time.perf_counter() - began
    file = out / f"{entry.name}.safetensors"
    save(file, trained.model)
    model = load(file)  # what is measured is what was written
    particles = min(entry.particles, 8) if quick else entry.particles
    test = evaluate(model, images.test, key=test_key, num_particles=particles)
    draw = jax.jit(lambda m, k: m.sample(k, (64,)))
    draw(model, test_key).block_until_ready()
    began = time.perf_counter()
    draws = np.asarray(draw(model, draw_key))
    ms_per_sample = (time.perf_counter() - began) / 64 * 1000
    what = entry.what.format(particles=test.num_particles)
    if hasattr(model, "kl"):  # near zero the latent variables would say nothing
        what += f", KL {float(jax.jit(lambda m: m.kl(test_key, images.test).mean())(model)):.1f} nats"
    size = _bytes_per_image(model, images.test[:100] if quick else images.test)
    return Row(entry, test, trained.parameters, seconds, ms_per_sample, trained.history, size, draws, what)


def _bytes_per_image(model: Any, x: np.ndarray) -> float | None:
    """Return the size of a file of all images, which is read again; None where no code is known of the model."""
    codec = Codec(model, lanes=128 if model.exact else 8)  # each lane borrows some bytes
    try:
        file = codec.encode(x)
    except ValueError:
        return None
    if not np.array_equal(codec.decode(file), x):
        raise RuntimeError("what was read from a file is not what was written")
    return len(file) / len(x)


def leaderboard(images: Split, rows: list[Row]) -> dict[str, Any]:
    """Return what `leaderboard.json` holds."""
    models = [
        {
            "model": row.entry.name,
            "bits_per_dim": row.test.bits_per_dim,
            "kind": row.test.kind,
            "se": row.test.se,
            "nats": row.test.nats,
            "parameters": row.parameters,
            "train_seconds": row.train_seconds,
            "ms_per_sample": row.ms_per_sample,
            "bytes_per_image": row.bytes_per_image,
        }
        for row in rows
    ]
    return {"data": f"{images.name}, {len(images.test)} test images", "models": models}


def table(rows: list[Row]) -> str:
    """Return the table as text; models that lose to the mixture are marked."""
    mixture = next((row.test.nats for row in rows if row.entry.name == "mixture"), float("inf"))
    names = f"{'nats/image':>14}{'parameters':>12}{'train s':>9}{'ms/sample':>11}{'bytes':>8}  what"
    head = f"\n{'model':<15}{'bits/dim':>20}{names}"
    lines = [head, "─" * (len(head) - 1 + 30)]
    for row in rows:
        test = row.test
        bits = f"{test.sign} {test.bits_per_dim:.4f} ± {test.se:.4f}"
        size = "–" if row.bytes_per_image is None else f"{row.bytes_per_image:.2f}"
        mark = "" if test.nats <= mixture else "  (loses to the mixture)"
        lines.append(
            f"{row.entry.name:<15}{bits:>20}{test.nats:>14.2f}{row.parameters:>12,}{row.train_seconds:>9.1f}"
            f"{row.ms_per_sample:>11.3f}{size:>8}  {row.what}{mark}"
        )
    lines.append("on the test split; = exact, ≤ a bound: the truth is at most this; ± standard error over images;")
    lines.append("bytes of an image, of a file of all of them by this model, which was read again; – without a code")
    return "\n".join(lines) + "\n"


def _write_pictures(out: Path, images: Split, rows: list[Row]) -> None:
    from matplotlib.figure import Figure

    from probgen.plotting import image_grid, learning_curve

    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    image_grid(images.test[:64], levels=images.levels, title="real digits", ax=axes[0])
    for ax in axes[len(rows) + 1 :]:
        ax.set_axis_off()
    for ax, row in zip(axes[1:], rows, strict=False):
        image_grid(
            row.draws,
            levels=images.levels,
            title=f"{row.entry.name}  {row.test.sign} {row.test.bits_per_dim:.2f}",
            ax=ax,
        )
    figure.savefig(out / "samples.png", dpi=150)

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.add_subplot()
    for row in rows:
        label = row.entry.name + (" (its loss)" if row.history.attrs["kind"] == "a loss" else "")
        learning_curve(row.history, label=label, ax=ax)
    ax.set_ylim(1.5, 3.5)
    ax.legend(title="validation (thick), training (thin)")
    figure.savefig(out / "curves.png", dpi=150)
