"""`probgen train-codec`, `compress` and `decompress`: files of any bytes, by a model of bytes."""

import argparse
import contextlib
import io
import lzma
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from probgen.autoregressive import char_rnn, transformer, wavenet
from probgen.cli.commands import at_least_one, file_to_write
from probgen.compression import byte_files
from probgen.core import combine, count_parameters, load, partition, save
from probgen.inference import fit

_ENDING = ".pg"
_BATCH = 32
_ROWS = 1 << 16  # windows that are drawn, at most; with more steps they come again
_KEPT = 2048  # bytes of an event of a model that works at any length: a row begins anew less often
_PIECE = 1 << 20


class _Network(NamedTuple):
    """A recipe, what it calls its width, that width and the learning rate, and whether its length can be changed."""

    recipe: Any
    option: str
    width: int
    rate: float
    any_length: bool


_NETWORKS = {
    "gru": _Network(char_rnn, "width", 256, 4e-3, True),
    "wavenet": _Network(wavenet, "channels", 64, 2e-3, True),
    "transformer": _Network(transformer, "width", 128, 1e-3, False),
}


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train-codec`.

    Args:
        parser: of the command.
    """
    parser.add_argument("files", nargs="+", metavar="FILE", help="text, images, arrays: any bytes")
    parser.add_argument("--model", choices=list(_NETWORKS), default="gru", help="the network (default gru)")
    widths = ", ".join(f"{network.width} for a {name}" for name, network in _NETWORKS.items())
    parser.add_argument("--width", type=int, help=f"of its layers (default {widths})")
    parser.add_argument("--length", type=int, default=256, help="bytes of a window in training (default 256)")
    training = parser.add_mutually_exclusive_group()
    training.add_argument("--minutes", type=float, help="about how long to train (default 5)")
    training.add_argument("--steps", type=int, help=f"of training, each of {_BATCH} windows")
    parser.add_argument("--out", default="codec.safetensors", help="model file to write (default codec.safetensors)")
    parser.add_argument("--force", action="store_true", help="replace the model file if it is there")


def add_file_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options of `compress` and `decompress`.

    Args:
        parser: of the command.
        default: what the output is called without `--out`, in words.
    """
    parser.add_argument("file", metavar="FILE", help="the file to read")
    parser.add_argument("--model", help="model file that train-codec wrote (default: one of English that comes along)")
    parser.add_argument("-o", "--out", help=f"the file to write (default {default})")
    parser.add_argument("--force", action="store_true", help="replace the output if it is there")


def compress(options: argparse.Namespace) -> None:
    """Compress a file, and print what it takes, by others too.

    Args:
        options: of the command.
    """
    path = _file_to_read(options.file)
    out = _output(options.out or f"{path}{_ENDING}", options.force, path)
    model, size = _model(options.model), path.stat().st_size
    began = time.perf_counter()
    with path.open("rb") as source, _whole(out) as target:
        done = byte_files.compress(source, target, model, size=size, progress=path.name)
    seconds = time.perf_counter() - began
    rate = f", {done.bits_per_byte:.3f} bits/byte" if done.size else ""
    print(f"{path}: {done.size:,} bytes, {out}: {done.file:,} bytes{rate}, in {seconds:.1f} s")
    with path.open("rb") as source:
        print(f"for comparison, {_in_words(_others(source), done.file)}")


def decompress(options: argparse.Namespace) -> None:
    """Restore a file.

    Args:
        options: of the command.
    """
    path = _file_to_read(options.file)
    if options.out is None and (path.suffix != _ENDING or not path.stem):
        raise ValueError(f"--out: expected the name of the file to write, for {path} does not end in {_ENDING}")
    out = _output(options.out or str(path.with_suffix("")), options.force, path)
    model = _model(options.model)
    with path.open("rb") as source, _whole(out) as target:
        try:
            size = byte_files.decompress(source, target, model, progress=path.name)
        except ValueError as error:
            others = str(error).startswith(("the file's model", "the file's event_shape"))
            hint = "; --model names the one that it was compressed with" if others else ""
            raise ValueError(f"{path} cannot be read: {error}{hint}") from None
    print(f"{path}: {path.stat().st_size:,} bytes, {out}: {size:,} bytes")


def train_codec(options: argparse.Namespace) -> None:
    """Train a model of bytes, write its file, and print what it takes of bytes that were held out.

    Args:
        options: of the command.
    """
    if options.minutes is not None and not 0 < options.minutes < float("inf"):
        raise ValueError(f"--minutes: expected more than 0, got {options.minutes}")
    for name in ("steps", "width", "length"):
        if (number := getattr(options, name)) is not None:
            at_least_one(f"--{name}", number)
    out = _output(options.out, options.force)
    train, held_out = _split([_file_to_read(name).read_bytes() for name in options.files])
    if len(train) < options.length or not len(held_out):
        raise ValueError(f"FILE: expected at least {options.length} bytes to train on, one window, got {len(train)}")
    print(f"{len(train):,} bytes to train on, {len(held_out):,} held out, the last of each file", flush=True)
    model = _trained(options, train)
    save(out, model)
    print(f"written: {out}, a {options.model} of {count_parameters(model):,} numbers")
    file = io.BytesIO()
    done = byte_files.compress(io.BytesIO(held_out), file, model, size=len(held_out), progress="held out")
    others = {name: 8 * size / done.size for name, size in _others(io.BytesIO(held_out)).items()}
    print(
        f"held out: {8 * done.coded / done.size:.3f} bits/byte, {done.bits_per_byte:.3f} as a file; "
        + ", ".join(f"{name} {rate:.3f}" for name, rate in others.items())
    )


def _split(files: list[bytes]) -> tuple[bytes, bytes]:
    """Return the first 95 % of each file, and the rest of each."""
    cuts = [len(data) - -(-len(data) // 20) for data in files]
    return b"".join(data[:cut] for data, cut in zip(files, cuts)), b"".join(d[cut:] for d, cut in zip(files, cuts))


def _trained(options: argparse.Namespace, data: bytes) -> Any:
    """Return the model after its training on windows at random places."""
    network = _NETWORKS[options.model]
    model_key, fit_key = jax.random.split(jax.random.key(options.seed))
    sizes = {network.option: options.width or network.width, "key": model_key}
    model = network.recipe(options.length, 256, **sizes)
    steps = options.steps
    if steps is None:
        seconds = 60 * (5.0 if options.minutes is None else options.minutes)
        steps = max(1, int(seconds / _step_seconds(model, _windows(data, _BATCH, options))))
    rate = optax.warmup_cosine_decay_schedule(0.0, network.rate, max(1, steps // 20), max(2, steps))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    rows = _windows(data, min(_ROWS, steps * _BATCH), options)
    result = fit(model, rows, steps=steps, batch_size=_BATCH, optimizer=optimizer, key=fit_key, progress=options.model)
    if not network.any_length or options.length >= _KEPT:
        return result.model
    kept = network.recipe(_KEPT, 256, **sizes)  # of the same numbers
    return combine(partition(result.model)[0], partition(kept)[1])


def _windows(data: bytes, rows: int, options: argparse.Namespace) -> np.ndarray:
    symbols, length = np.frombuffer(data, np.uint8), options.length
    starts = np.random.default_rng(options.seed).integers(0, len(symbols) - length + 1, rows)
    return symbols[starts[:, None] + np.arange(length)]


def _step_seconds(model: Any, rows: np.ndarray) -> float:
    """Return what a step of training takes, about: of a gradient, once it is compiled."""
    params, rest = partition(model)
    x = jnp.asarray(rows, jnp.int32)
    gradient = jax.jit(jax.grad(lambda params: -jnp.mean(combine(params, rest).log_prob(x))))
    jax.block_until_ready(gradient(params))
    began = time.perf_counter()
    for _ in range(3):
        jax.block_until_ready(gradient(params))
    return (time.perf_counter() - began) / 3


def _model(path: str | None) -> Any:
    return byte_files.bundled() if path is None else load(path)


def _file_to_read(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"there is no file at {path}")
    return path


def _output(name: str, force: bool, source: Path | None = None) -> Path:
    """Return a file that may be written. Raises ValueError where it is there already, or would replace its source."""
    out = file_to_write(name)
    if source is not None and out.exists() and out.samefile(source):
        raise ValueError(f"--out: {out} is the file to read itself")
    if out.exists() and not out.is_file():
        raise ValueError(f"--out: {out} is no ordinary file")
    if out.exists() and not force:
        raise ValueError(f"--out: {out} is there already; --force replaces it")
    return out


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[BinaryIO]:
    """Open a file beside the output, which takes its place once all was written, and is removed where that fails."""
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as target:
            yield target
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _others(source: BinaryIO) -> dict[str, int]:
    """Return how many bytes gzip and xz take of a file."""
    gz, xz, sizes = zlib.compressobj(9, zlib.DEFLATED, 31), lzma.LZMACompressor(), [0, 0]
    while piece := source.read(_PIECE):
        sizes = [size + len(c.compress(piece)) for size, c in zip(sizes, (gz, xz))]  # type: ignore[attr-defined]
    return dict(zip(("gzip -9", "xz"), (sizes[0] + len(gz.flush()), sizes[1] + len(xz.flush()))))


def _in_words(sizes: dict[str, int], ours: int) -> str:
    """Return what others take, and how many times ours that is."""
    parts = [f"{name} takes {size:,} bytes ({size / ours:.2f} times as many)" for name, size in sizes.items()]
    fewer = [name for name, size in sizes.items() if size < ours]
    return ", ".join(parts) + (f": {' and '.join(fewer)} would be smaller" if fewer else "")
