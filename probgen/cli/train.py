"""`probgen train`, `models` and `describe`."""

import argparse
from typing import Any

import jax

from probgen import data as datasets
from probgen import evaluation
from probgen.cli import report
from probgen.cli.evaluate import page_to_write, with_rows
from probgen.cli.files import file_to_write
from probgen.cli.models import MODELS, Entry
from probgen.cli.splits import Split, TableSplit, add_data_option, load_split
from probgen.cli.table_models import TABLE_MODELS, check_given, evaluate_table, train_table
from probgen.cli.training import add_training_options, settings_of
from probgen.core import save
from probgen.data import Table


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`.

    Args:
        parser: of the command.
    """
    add_data_option(parser, "--data")
    parser.add_argument("--model", help="one of what `probgen models` lists (default by the data)")
    parser.add_argument(
        "--context",
        metavar="COLUMN",
        help="labels: a model of each class; of a table, a column: what is reported is of the others, given it",
    )
    parser.add_argument("--report", metavar="FILE.html", help="page to write of the trained model, as evaluate does")
    parser.add_argument("--out", help="model file to write (default MODEL.safetensors)")
    add_training_options(parser)


def train(options: argparse.Namespace) -> None:
    """Train one model, print its test likelihood, write its file, and what else can be said of it."""
    settings, key = settings_of(options), jax.random.key(options.seed)
    data = load_split(options.data, options.context, text=options.text, drop=options.drop)
    name = options.model or _default(data)
    out = file_to_write(options.out or f"{name}.safetensors")
    page = page_to_write(options.report)
    if isinstance(data, TableSplit):
        entry = _entry(TABLE_MODELS, name, "a table")
        if name != "table":
            check_given(options.context)
        done = train_table(entry, data, settings, key=key)
        save(out, done.model)
        found = evaluate_table(done.model, data.test, options.context, key=key)
        print(f"{name} on a held-out tenth of {data.name}: {found}", flush=True)
        if page:
            report.write_of_table(str(out), done.model, data, found, seed=options.seed, page_file=page)
    else:
        entry = _entry(MODELS, name, "images" if len(data.shape) == 2 else "sequences")
        _check_fits(entry, data, options.context)
        done = entry.train(data, key=key, settings=settings)
        save(out, done.model)
        model, rows = with_rows(done.model, data)
        result = evaluation.evaluate(model, rows, key=key, num_particles=entry.particles)
        print(f"{entry.name} on the test rows of {data.name}: {result}", flush=True)
        if page:
            report.write(str(out), model, rows, data, result, seed=options.seed, page_file=page)
    print(f"written: {out}")


def _default(data: Split | TableSplit) -> str:
    """Return the model that is trained where none is named."""
    if isinstance(data, TableSplit):
        return "table"
    return "pixel_cnn" if len(data.shape) == 2 else "char_rnn"


def _entry(entries: list[Any], name: str, what: str) -> Any:
    found = next((entry for entry in entries if entry.name == name), None)
    if found is None:
        raise ValueError(f"--model: {name} is no model of {what}: {', '.join(entry.name for entry in entries)} are")
    return found


def _check_fits(entry: Entry, data: Split, context: str | None) -> None:
    """Raise ValueError where a model is not of such rows."""
    if context and not entry.conditional:
        raise ValueError(f"--context: {entry.name} takes none; {', '.join(e.name for e in MODELS if e.conditional)} do")
    if not data.levels or len(data.shape) != entry.event_dim:
        kind = "images" if entry.event_dim == 2 else "sequences"
        raise ValueError(f"{data.name}: {entry.name} is for {kind} with integer levels")


def models(options: argparse.Namespace) -> None:
    """Print the models that `train` knows, and the options of their recipes."""
    for title, entries in (("images and sequences of integers", MODELS), ("tables", TABLE_MODELS)):
        print(f"of {title}:")
        for entry in entries:
            print(f"  {entry.name:<12} {entry.what.partition(',')[0] if entries is MODELS else entry.what}")
    print("train says, of --set, which options a model's recipe has; its docstring says what they are")


def describe(options: argparse.Namespace) -> None:
    """Print what a file holds, and what is done with it."""
    found = datasets.read(options.file, drop=options.drop or None)
    print(found.describe() if isinstance(found, Table) else found)
