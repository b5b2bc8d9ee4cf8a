"""`probgen evaluate`."""

import argparse
from pathlib import Path
from typing import Any

import jax

from probgen import evaluation
from probgen.autoregressive import Autoregressive
from probgen.cli import report
from probgen.cli.files import at_least_one, check_context, file_to_write, is_of_table, load_model, numbers
from probgen.cli.models import up_to_lengths
from probgen.cli.splits import Split, TableSplit, add_data_option, load_split
from probgen.cli.table_models import Model, evaluate_table
from probgen.distributions.conditionals import inner_model
from probgen.distributions.events import as_arrays, check_rows
from probgen.evaluation.likelihood.row_by_row import has_bound_of_draws


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`.

    Args:
        parser: of the command.
    """
    parser.add_argument("file", help="model file that demo or train wrote")
    add_data_option(parser, "data")
    parser.add_argument("--all-rows", action="store_true", help="of a file: all rows, not the held-out tenth")
    parser.add_argument(
        "--context", metavar="COLUMN", help="labels, of a conditional model; of a table's, the column that is given"
    )
    parser.add_argument("--particles", type=int, help="particles of a bound (default by the model)")
    parser.add_argument("--report", metavar="FILE.html", help="page to write, with all numbers and pictures in it")
    parser.add_argument("--json", metavar="FILE", help="file to write all numbers to")


def evaluate(options: argparse.Namespace) -> None:
    """Print the test likelihood of a model file; write it with all else that can be said of the model."""
    json_file, page_file = _report_files(options)
    if options.particles is not None:
        at_least_one("--particles", options.particles)
    model = load_model(options.file)
    if is_of_table(model):
        _evaluate_table(model, options, json_file, page_file)
        return
    check_context(options.file, model, options.context)
    data = load_split(options.data, options.context, text=options.text, drop=options.drop, all_rows=options.all_rows)
    if isinstance(data, TableSplit):
        raise ValueError(f"{options.file} is no model of a table, as {data.name} is")
    if data.classes and model.levels != data.classes:
        raise ValueError(f"--context: {data.name} has {data.classes} classes, {options.file} takes {numbers(model)}")
    model, rows = with_rows(model, data)
    check_rows(f"{data.name} is no data for {options.file}", model, as_arrays(data.name, rows)[:2])
    default = {"weights": 256, "bound": 64}[inner_model(model).kind] if has_bound_of_draws(model) else 1
    particles = default if options.particles is None else options.particles
    result = evaluation.evaluate(model, rows, key=jax.random.key(options.seed), num_particles=particles)
    print(result, flush=True)
    if json_file or page_file:
        outputs = {"json_file": json_file, "page_file": page_file}
        report.write(options.file, model, rows, data, result, seed=options.seed, **outputs)


def _evaluate_table(model: Model, options: argparse.Namespace, json_file: Path | None, page_file: Path | None) -> None:
    """Print the likelihood of the held-out tenth of a table; write it with what else can be said."""
    data = load_split(
        options.data,
        options.context,
        columns=model.columns,
        text=options.text,
        drop=options.drop,
        all_rows=options.all_rows,
    )
    if not isinstance(data, TableSplit):
        raise ValueError(f"{options.file} is a model of a table, and {data.name} is none")
    key = jax.random.key(options.seed)
    found = evaluate_table(model, data.test, options.context, key=key, particles=options.particles)
    print(found, flush=True)
    if json_file or page_file:
        outputs = {"json_file": json_file, "page_file": page_file}
        report.write_of_table(options.file, model, data, found, seed=options.seed, **outputs)


def with_rows(model: Any, data: Split) -> tuple[Any, Any]:
    """Return the model with the test rows; of ragged ones, where it goes through them in order, up to their lengths
    only."""
    if not data.ragged:
        return model, data.test
    in_order = isinstance(model, Autoregressive) and model.order.is_raster
    return (up_to_lengths(model), data.test) if in_order else (model, data.test[0])


def page_to_write(name: str | None) -> Path | None:
    """Return where to write a page. Raises ValueError where that is no place for one."""
    page = None if name is None else file_to_write(name, "--report")
    if page and page.suffix != ".html":
        raise ValueError(f"--report: expected a name ending in .html, got {page}")
    return page


def _report_files(options: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Return where to write the report as JSON, and as a page. Raises ValueError where it would replace the model."""
    json_file = None if options.json is None else file_to_write(options.json, "--json")
    page_file = page_to_write(options.report)
    for option, file in (("--json", json_file), ("--report", page_file)):
        if file and file.resolve() == Path(options.file).resolve():
            raise ValueError(f"{option}: {file} is the model file itself")
    if json_file and page_file and json_file.resolve() == page_file.resolve():
        raise ValueError(f"--json: expected another file than --report, got {json_file} for both")
    return json_file, page_file
