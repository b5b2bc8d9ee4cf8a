"""`probgen compress` and `decompress`: files of any bytes by a model of bytes, arrays by a model of their rows."""

import argparse
import contextlib
import lzma
import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from probgen.cli.files import file_to_write
from probgen.compression import array_files, byte_files
from probgen.core import load

_ENDING = ".pg"
_PIECE = 1 << 20


def add_file_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options of `compress` and `decompress`.

    Args:
        parser: of the command.
        default: what the output is called without `--out`, in words.
    """
    parser.add_argument("file", metavar="FILE", help="the file to read; a .npy file where the model is of arrays")
    parser.add_argument("--model", help="model file that train-codec wrote (default: one of English that comes along)")
    parser.add_argument("-o", "--out", help=f"the file to write (default {default})")
    parser.add_argument("--force", action="store_true", help="replace the output if it is there")


def compress(options: argparse.Namespace) -> None:
    """Compress a file, and print what it takes, by others too.

    Args:
        options: of the command.
    """
    path = file_to_read(options.file)
    out = output(options.out or f"{path}{_ENDING}", options.force, path)
    model, size = _model(options.model), path.stat().st_size
    began = time.perf_counter()
    with path.open("rb") as source, _whole(out) as target:
        if byte_files.is_of_bytes(model):
            done = byte_files.compress(source, target, model, size=size, portable=options.portable, progress=path.name)
        else:
            done = array_files.compress(source, target, model, portable=options.portable)
    seconds = time.perf_counter() - began
    rate = f", {done.bits_per_byte:.3f} bits/byte" if done.size else ""
    print(f"{path}: {done.size:,} bytes, {out}: {done.file:,} bytes{rate}, in {seconds:.1f} s")
    with path.open("rb") as source:
        print(f"for comparison, {_in_words(others_of(source), done.file)}")


def decompress(options: argparse.Namespace) -> None:
    """Restore a file.

    Args:
        options: of the command.
    """
    path = file_to_read(options.file)
    if options.out is None and (path.suffix != _ENDING or not path.stem):
        raise ValueError(f"--out: expected the name of the file to write, for {path} does not end in {_ENDING}")
    out = output(options.out or str(path.with_suffix("")), options.force, path)
    model = _model(options.model)
    with path.open("rb") as source, _whole(out) as target:
        try:
            if byte_files.is_of_bytes(model):
                byte_files.decompress(source, target, model, progress=path.name)
            else:
                array_files.decompress(source, target, model)
        except ValueError as error:
            others = str(error).startswith(("the file's model", "the file's event_shape"))
            hint = "; --model names the one that it was compressed with" if others else ""
            raise ValueError(f"{path} cannot be read: {error}{hint}") from None
    print(f"{path}: {path.stat().st_size:,} bytes, {out}: {out.stat().st_size:,} bytes")


def _model(path: str | None) -> Any:
    return byte_files.bundled() if path is None else load(path)


def file_to_read(name: str) -> Path:
    """Return a file that is there. Raises ValueError where there is none."""
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"there is no file at {path}")
    return path


def output(name: str, force: bool, source: Path | None = None) -> Path:
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


def others_of(source: BinaryIO) -> dict[str, int]:
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
