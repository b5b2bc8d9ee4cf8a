"""The byte model that `probgen compress` has by default: its training, and what it takes of English and of other bytes.

    PROBGEN_DATA=../shared/data python benchmarks/byte_model.py --steps 2200 --out english.safetensors
    PROBGEN_DATA=../shared/data python benchmarks/byte_model.py --report english.safetensors --files a.txt b.bin
    PROBGEN_DATA=../shared/data python benchmarks/byte_model.py --shakespeare --width 416 --dropout 0.3 --steps 2800 \
        --length 256 --out shakespeare.safetensors

A recurrent network of 256 levels is trained on windows of the first 90 % of tiny Shakespeare, of the English prose that
this repository has (docs, tutorials, README, docstrings), and for a few per cent of random and binary bytes, so that
what it has never seen costs little more than 8 bits a byte; with `--shakespeare` on that text alone. Its numbers are
kept as float16. Files are compared as `probgen compress` writes them, headers included, with gzip -9, bz2 -9, xz and,
where its command is there, zstd -22 of the same bytes.
"""

import argparse
import ast
import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from safetensors.numpy import save_file

import probgen
from probgen.autoregressive import char_rnn

ROOT = Path(__file__).parents[1]
SHARES = {"shakespeare": 0.58, "prose": 0.38, "random": 0.02, "binary": 0.02}  # of the windows
LENGTH, WIDTH = 2048, 240  # of the model that is kept: 0.94 MB
FORMAT = "probgen-bytes-1"


def shakespeare() -> tuple[bytes, bytes]:
    """The first 90 % of the file, and the rest."""
    data = (Path(os.environ.get("PROBGEN_DATA", "../shared/data")) / "tinyshakespeare.txt").read_bytes()
    cut = len(data) * 9 // 10
    return data[:cut], data[cut:]


def prose() -> bytes:
    """The repository's English: pages, and docstrings."""
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("tutorials/*.md"))]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    for file in sorted(ROOT.glob("probgen/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                texts.append(ast.get_docstring(node) or "")
    return "\n\n".join(text for text in texts if text).encode()


def binary(rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
    """Bytes as arrays have them: integers of 32 bits, floats, pixels, a few values of their own for each row."""
    out = np.zeros((rows, length), np.uint8)
    for row in out:
        scale = np.exp(rng.uniform(0, 10))
        few = rng.choice(256, rng.integers(2, 64)).astype(np.uint8)
        kinds = [
            (rng.normal(size=length) * scale).astype(np.int32),
            (rng.normal(size=length) * scale).astype(np.float32),
            np.clip(rng.normal(128, 40, size=length), 0, 255).astype(np.uint8),
            rng.choice(few, length),
        ]
        row[:] = np.frombuffer(kinds[rng.integers(len(kinds))].tobytes(), np.uint8)[:length]
    return out


def windows(rng: np.random.Generator, rows: int, length: int, shares: dict[str, float]) -> np.ndarray:
    """Rows of bytes at random places, of each kind its share."""
    parts = []
    for name, share in shares.items():
        count = round(rows * share)
        if name == "random":
            parts.append(rng.integers(0, 256, (count, length)).astype(np.uint8))
        elif name == "binary":
            parts.append(binary(rng, count, length))
        else:
            text = np.frombuffer(shakespeare()[0] if name == "shakespeare" else prose(), np.uint8)
            print(f"{name}: {len(text):,} bytes, {count * length / len(text):.1f} times", flush=True)
            starts = rng.integers(0, len(text) - length + 1, count)
            parts.append(text[starts[:, None] + np.arange(length)])
    return rng.permutation(np.concatenate(parts)).astype(np.int32)


def trained(options: argparse.Namespace) -> Any:
    """The model after its steps, of the length that is kept."""
    shares = {"shakespeare": 1.0} if options.shakespeare else SHARES
    rows = windows(np.random.default_rng(options.seed), options.steps * options.batch, options.length, shares)
    keys = jax.random.split(jax.random.key(options.seed))
    sizes: dict[str, Any] = {"width": options.width, "dropout": options.dropout, "key": keys[0]}
    model = char_rnn(options.length, 256, **sizes)
    rate = optax.warmup_cosine_decay_schedule(0.0, options.rate, options.steps // 20, options.steps)
    began = time.perf_counter()
    result = probgen.fit(
        model,
        rows,
        steps=options.steps,
        batch_size=options.batch,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
        key=keys[1],
        progress="training",
    )
    print(f"{rows.size:,} bytes in {time.perf_counter() - began:.0f} s", flush=True)
    params, _ = probgen.partition(result.model)
    kept = char_rnn(LENGTH, 256, **sizes)
    return probgen.combine(params, probgen.partition(kept)[1])


def write(path: Path, model: Any) -> None:
    """Write the numbers as float16, with the recipe that makes the model."""
    params = {name: np.asarray(value, np.float16) for name, value in probgen.partition(model)[0].items()}
    save_file(params, path, metadata={FORMAT: json.dumps({"recipe": model.recipe})})
    path.chmod(0o644)
    print(f"{path}: {sum(p.size for p in params.values()):,} numbers, {path.stat().st_size:,} bytes", flush=True)


def report(model: Any, files: list[Path]) -> None:
    """Bits a byte of ours and of others, for Shakespeare's rest, what no text is, and files."""
    from probgen.compression import byte_files

    rng = np.random.default_rng(1)
    cases = {"Shakespeare's last 10 %": shakespeare()[1], "random bytes": rng.bytes(50_000)}
    cases |= {"normal float32": rng.normal(size=12_500).astype(np.float32).tobytes()}
    cases |= {str(path): path.read_bytes() for path in files}
    names = "".join(f"{name:>10s}" for name in ("bytes", "probgen", "gzip -9", "bz2 -9", "xz", "zstd -22"))
    print(f"{'':32s}{names}   bits a byte; bytes/s")
    for name, data in cases.items():
        out = io.BytesIO()
        began = time.perf_counter()
        byte_files.compress(io.BytesIO(data), out, model, size=len(data))
        seconds = time.perf_counter() - began
        sizes = [out.tell(), len(gzip.compress(data, 9)), len(bz2.compress(data, 9)), len(lzma.compress(data))]
        sizes += [_zstd(data)] if shutil.which("zstd") else []
        figures = "".join(f"{8 * size / len(data):10.3f}" for size in sizes)
        print(f"{name[-32:]:32s}{len(data):10,}{figures}   {len(data) / seconds:,.0f}", flush=True)


def _zstd(data: bytes) -> int:
    command = ["zstd", "--ultra", "-22", "--stdout", "--no-progress", "-"]
    return len(subprocess.run(command, input=data, capture_output=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=160, help="of a window in training")
    parser.add_argument("--rate", type=float, default=4e-3, help="the highest learning rate")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the GRU")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--shakespeare", action="store_true", help="train on this text alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("english.safetensors"))
    parser.add_argument("--report", type=Path, help="of this file alone, without training")
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="more files to compare on")
    options = parser.parse_args()
    if options.report is None:
        write(options.out, trained(options))
    from probgen.compression import byte_files

    report(byte_files.stored(options.report or options.out), options.files)


if __name__ == "__main__":
    main()
