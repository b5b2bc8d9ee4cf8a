"""Files of real images by their models: what a model claims, what a file takes, and what common programs take.

    python benchmarks/compression_data.py --data optdigits --models demo,integer_flow --out models
    python benchmarks/compression_data.py --data binarized_mnist --models vae --out models
    python benchmarks/compression_data.py --data binarized_mnist --models gated --minutes 50 --out models

Models are trained as `latent_data.py`, `autoregressive_data.py` or the demo train them (or read from `--out`, where
they are kept), and code all test rows into one file, which is read back and compared. Printed are bits a number:
claimed, coded, and with what bits-back coding borrowed; which share of the time the coder takes, the rest being the
network. `score` is coded at `--layers` steps of its chain.
"""

import argparse
import bz2
import gzip
import importlib
import importlib.util
import io
import lzma
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import autoregressive_data
import jax
import latent_data
import numpy as np
from autoregressive_data import Images, Recipe, load_images
from pairing import environment, write_json
from PIL import Image

import probgen
from probgen.cli.models import DEMO as DEMO_MODELS
from probgen.cli.splits import Split
from probgen.compression import Codec
from probgen.compression.stack import Stack
from probgen.distributions import Distribution
from probgen.flows import integer_flow
from probgen.score import Ancestral

DEMO = {entry.name: entry for entry in DEMO_MODELS}
INTEGER_FLOW = Recipe(
    lambda images, key: integer_flow(images.train.shape[1:], images.levels, layers=8, hidden=(256,), key=key),
    64, 5e-3, 1e-3, 3000,
)  # fmt: skip
PUBLISHED = {
    "vae": "BB-ANS 0.19 bits/pixel (Townsend, Bird, Barber 2019; stochastic binarization)",
    "gated": "a gated PixelCNN of 83.4 nats claims 0.1535",
}


def trained(name: str, images: Images, minutes: float, steps: int | None) -> Any:
    """A model by its recipe."""
    init_key, fit_key = jax.random.split(jax.random.key(0))
    if name in DEMO and images.levels > 2:
        rows = Split("optdigits", images.train, images.validation, images.test, images.levels)
        return DEMO[name].train(rows, key=fit_key).model
    if name in latent_data.RECIPES:
        recipe = latent_data.RECIPES[name]
        recipe = recipe._replace(steps=steps or recipe.steps)
        return latent_data.train(recipe.make(images, init_key), images, recipe, fit_key)[0]
    data = "optdigits" if images.levels > 2 else "binarized_mnist"
    chosen = INTEGER_FLOW if name == "integer_flow" else autoregressive_data.RECIPES[data, "cpu"][name]
    chosen = chosen._replace(steps=steps or chosen.steps)
    return autoregressive_data.train(chosen.make(images, init_key), images, chosen, minutes, fit_key)[0]


@contextmanager
def timed_coder() -> Iterator[dict[str, float]]:
    """Count the seconds that the coder takes, of all that happens within."""
    seconds, originals = {"coder": 0.0}, {}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            began = time.perf_counter()
            found = function(*args)
            seconds["coder"] += time.perf_counter() - began
            return found

        return run

    for name in ("push", "pop", "push_normal", "pop_normal", "stir"):
        originals[name] = getattr(Stack, name)
        setattr(Stack, name, timed(originals[name]))
    try:
        yield seconds
    finally:
        for name, original in originals.items():
            setattr(Stack, name, original)


def coded(
    name: str, model: Distribution, x: np.ndarray, lanes: int, width: float | None, portable: bool
) -> dict[str, Any]:
    """Code all rows, read them back, and print a line."""
    codec = Codec(model, lanes=lanes, chunk=len(x), width=width, portable=portable)
    codec.encode(x[: lanes + 1])  # compiles
    with timed_coder() as coder:
        report = codec.report(x)
    began = time.perf_counter()
    assert np.array_equal(codec.decode(codec.encode(x)), x), f"{name}: what was read is not what was written"
    found = {
        "model": name, "lanes": lanes, "portable": portable, "claimed": report.claimed / x.size,
        "coded": report.coded / x.size, "borrowed": report.borrowed / x.size, "file": report.file,
        "bytes": report.file / len(x),
        "overhead": report.overhead, "coder": coder["coder"] / report.seconds, "seconds": report.seconds,
        "symbols a second": x.size / report.seconds, "both ways": time.perf_counter() - began,
    }  # fmt: skip
    files = f"{lanes} lanes" + (", portable" if portable else "")
    print(
        f"{name:16s} claimed {found['claimed']:.4f}, coded {found['coded'] - found['borrowed']:.4f} "
        f"({100 * report.overhead:+.3f} %), with {found['borrowed']:.4f} borrowed {found['coded']:.4f} bits a number; "
        f"{report.file:,d} bytes, {found['bytes']:.2f} a row; {x.size / report.seconds:,.0f} numbers a second, "
        f"the coder {100 * found['coder']:.0f} % of the time; {files}; read back, equal",
        flush=True,
    )
    return found


def others(images: Images) -> dict[str, float]:
    """Bits a number by common programs: of all rows in one stream, packed where they are bits, and as pictures."""
    x = images.test
    stream = np.packbits(x.astype(bool)).tobytes() if images.levels == 2 else x.astype(np.uint8).tobytes()
    side = int(np.ceil(np.sqrt(len(x))))
    rows = np.concatenate([x, np.zeros((side**2 - len(x), *x.shape[1:]), x.dtype)])
    mosaic = rows.reshape(side, side, *x.shape[1:]).swapaxes(1, 2).reshape(side * x.shape[1], -1)
    sizes = {
        "gzip -9": len(gzip.compress(stream, 9)),
        "bz2 -9": len(bz2.compress(stream, 9)),
        "xz -9e": len(lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME)),
        "PNG of each": sum(_png(row, images.levels) for row in x),
        "PNG of all": _png(mosaic, images.levels),
        "WebP of all": _png(mosaic, images.levels, "WEBP"),
        "JPEG XL of all": _jpeg_xl(mosaic),
    }
    return {name: 8 * size / x.size for name, size in sizes.items() if size}


def _jpeg_xl(x: np.ndarray) -> int:
    """The bytes of a picture of the integers as they are, where Pillow has its plug-in; else 0."""
    if importlib.util.find_spec("pillow_jxl") is None:
        return 0
    importlib.import_module("pillow_jxl")
    file = io.BytesIO()
    Image.fromarray(x.astype(np.uint8)).save(file, "JXL", lossless=True, effort=9)
    return len(file.getvalue())


def _png(x: np.ndarray, levels: int, kind: str = "PNG") -> int:
    file, scaled = io.BytesIO(), (np.asarray(x, float) * 255 / (levels - 1)).astype(np.uint8)
    picture = Image.fromarray(scaled).convert("1") if levels == 2 and kind == "PNG" else Image.fromarray(scaled)
    try:
        picture.save(file, kind, **({"optimize": True} if kind == "PNG" else {"lossless": True, "method": 6}))
    except (OSError, KeyError):
        return 0
    return len(file.getvalue())


def main() -> None:
    """Train, code and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["binarized_mnist", "optdigits"], required=True)
    parser.add_argument("--models", default="demo", help="recipes' names, or integer_flow; `demo`: all of the demo's")
    parser.add_argument("--minutes", type=float, default=50.0, help="of training, of autoregressive models")
    parser.add_argument("--steps", type=int, help="of training, in place of the recipe's")
    parser.add_argument("--lanes", type=int, help="128 of exact models, else 4: each borrows")
    parser.add_argument("--width", type=float, help="of the grid of latents")
    parser.add_argument("--portable", action="store_true", help="also a file for other machines, in double precision")
    parser.add_argument("--layers", type=int, default=100, help="of a score model's chain")
    parser.add_argument("--rows", type=int, help="the first of the test rows; all by default")
    parser.add_argument("--out", type=Path, help="a folder of trained models")
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment("constriction"))
    images, found = load_images(options.data), []
    names = [name for part in options.models.split(",") for name in (DEMO if part == "demo" else [part])]
    for name in names:
        file = None if options.out is None else options.out / f"{options.data}-{name}.safetensors"
        if file is not None and file.exists():
            model = probgen.load(file)
        else:
            model = trained(name, images, options.minutes, options.steps)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                probgen.save(file, model)
        if isinstance(model, probgen.score.ScoreModel):
            model = model.replace(sampler=Ancestral(options.layers), stepwise=True)
        lanes = options.lanes or (128 if model.kind == "exact" else 4)
        for portable in [False, True][: 1 + options.portable]:
            found.append(coded(name, model, np.asarray(images.test)[: options.rows], lanes, options.width, portable))
        if options.data == "binarized_mnist" and name in PUBLISHED:
            print(f"    published: {PUBLISHED[name]}")
    beside = others(images)
    print(", ".join(f"{name} {bits:.4f}" for name, bits in beside.items()), "bits a number")
    write_json(options.json, {"environment": environment("constriction"), "results": found, "others": beside})


if __name__ == "__main__":
    main()
