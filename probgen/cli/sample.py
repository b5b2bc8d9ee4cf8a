"""`probgen sample`."""

import argparse
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen import data as datasets
from probgen.cli.files import at_least_one, check_context, file_to_write, is_of_table, load_model, write_grid
from probgen.cli.splits import alphabet_of
from probgen.cli.table_models import Model, sample_table
from probgen.distributions import ConditionalModel


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sample`.

    Args:
        parser: of the command.
    """
    parser.add_argument("file", help="model file that demo or train wrote")
    parser.add_argument("--num", type=int, default=64, help="number of draws (default 64)")
    parser.add_argument(
        "--context",
        action="append",
        default=[],
        help="of a conditional model: a class, or as many numbers as it takes, --context=0.5,-1,2; of a table: "
        "COLUMN=VALUE, and may be repeated",
    )
    parser.add_argument("--data", help="name or file of the data whose alphabet spells a text")
    parser.add_argument("--text", choices=("characters", "bytes", "lines"), help="how a .txt file was read")
    parser.add_argument(
        "--out",
        help="a picture (.png), an array (.npy), a text (.txt), or of a table .csv, .tsv or .parquet (default "
        "samples.png, of a table samples.csv)",
    )


def sample(options: argparse.Namespace) -> None:
    """Draw from a model file into a picture, an array or a text."""
    at_least_one("--num", options.num)
    model = load_model(options.file)
    out = file_to_write(options.out or ("samples.csv" if is_of_table(model) else "samples.png"))
    if is_of_table(model):
        _sample_table(model, out, options)
        return
    if len(options.context) > 1:
        raise ValueError(f"--context: expected one, got {len(options.context)}; a table takes several")
    context = options.context[0] if options.context else None
    check_context(options.file, model, context)
    if out.suffix not in (".png", ".npy", ".txt"):
        raise ValueError(f"--out: expected a name ending in .png, .npy or .txt, got {out}")
    if (out.suffix == ".txt") != (options.data is not None):
        raise ValueError("--data: a text (.txt), and nothing else, takes a data set, whose alphabet spells it")
    if context is not None:
        model = model(_context(context, model))
    if out.suffix == ".png" and len(model.event_shape) != 2:
        raise ValueError(f"--out: {options.file} models events {model.event_shape}, no images: use .npy, or .txt")
    draws = np.asarray(jax.jit(lambda m, k: m.sample(k, (options.num,)))(model, jax.random.key(options.seed)))
    if out.suffix == ".npy":
        np.save(out, draws)
    elif out.suffix == ".txt":
        out.write_text(_spelled(options, model, draws), encoding="utf-8")
    else:
        write_grid(out, draws)
    print(f"written: {out}")


def _sample_table(model: Model, out: Path, options: argparse.Namespace) -> None:
    """Draw rows of a table into a file."""
    if options.data is not None:
        raise ValueError("--data: a table has its own columns, and takes no alphabet")
    if out.suffix not in (".csv", ".tsv", ".parquet"):
        raise ValueError(f"--out: expected a name ending in .csv, .tsv or .parquet for a table, got {out}")
    sample_table(model, options.num, options.context, key=jax.random.key(options.seed)).save(out)
    print(f"written: {out}")


def _context(text: str, model: ConditionalModel) -> np.ndarray:
    """Return a label, or a context's numbers, as a conditional model takes them."""
    if (levels := model.levels) is not None:
        if not text.isdecimal() or int(text) >= levels:
            raise ValueError(f"--context: expected a class 0..{levels - 1}, got {text!r}")
        return np.array(int(text))
    size = math.prod(model.context_shape)
    try:
        numbers = np.array(text.split(","), np.float32)
    except ValueError:
        numbers = np.array(np.nan)
    if numbers.shape != (size,) or not np.isfinite(numbers).all():
        raise ValueError(f"--context: expected {size} numbers with commas between them, got {text!r}")
    return numbers.reshape(model.context_shape)


def _spelled(options: argparse.Namespace, model: Any, draws: np.ndarray) -> str:
    """Return draws as lines; those of words end at the first symbol, which fills them up.

    Raises ValueError where the data have no alphabet, or the model draws other symbols.
    """
    is_file = Path(options.data).is_file()
    data = datasets.read(options.data, text=options.text) if is_file else None
    alphabet = getattr(data, "alphabet", "") or alphabet_of(options.data)
    if len(model.event_shape) != 1 or model.support(jnp.full(model.event_shape, len(alphabet))):
        raise ValueError(f"--data: {options.file} does not model sequences of the symbols of {options.data}")
    rows = ["".join(alphabet[i] for i in row) for row in draws]
    of_words = "train_lengths" in getattr(data or datasets.load(options.data), "parts", {})
    rows = [row.split(alphabet[0])[0] for row in rows] if of_words else rows
    return "".join(row + "\n" for row in rows)
