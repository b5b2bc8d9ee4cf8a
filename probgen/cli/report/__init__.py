"""`probgen evaluate --json --report`: all that the library can say of a model and its test rows, in one place."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpyro

import probgen
from probgen.cli.splits import Split, TableSplit
from probgen.cli.table_models import Model, TableResult
from probgen.cli.report import calibration, latents, likelihood, of_tables, samples
from probgen.cli.report.findings import Section, as_json, as_text
from probgen.cli.report.page import as_page
from probgen.cli.report.subject import Subject, prepared
from probgen.core import count_parameters
from probgen.core.recipes import Recipe
from probgen.evaluation import Evaluation

_LONGEST = 600  # characters of a recipe


def write(
    file: str,
    model: Any,
    rows: Any,
    split: Split,
    evaluation: Evaluation,
    *,
    seed: int,
    json_file: Path | None = None,
    page_file: Path | None = None,
) -> None:
    """Print all numbers, and write them as JSON and as a page with pictures.

    Args:
        file: the name of the model file.
        model: as it was evaluated.
        rows: the test rows, as they were evaluated.
        split: where they are from.
        evaluation: what was found.
        seed: of all randomness.
        json_file: where to write the numbers.
        page_file: where to write the page.
    """
    about = prepared(model, rows, split, evaluation, key=jax.random.key(seed))
    sections = [
        likelihood.section(about),
        samples.section(about),
        calibration.section(about),
        latents.section(about),
        likelihood.ends(about),
    ]
    _write(_facts(file, about, seed), str(about.evaluation), sections, json_file, page_file)


def write_of_table(
    file: str,
    model: Model,
    data: TableSplit,
    found: TableResult,
    *,
    seed: int,
    json_file: Path | None = None,
    page_file: Path | None = None,
) -> None:
    """Print all numbers of a model of a table, and write them as JSON and as a page with pictures.

    Args:
        file: the name of the model file.
        model: that was evaluated.
        data: the table.
        found: the likelihood of its test rows.
        seed: of all randomness.
        json_file: where to write the numbers.
        page_file: where to write the page.
    """
    parts = of_tables.sections(model, data, found, key=jax.random.key(seed))
    facts = {
        "model_file": file,
        "recipe": getattr(model.recipe, "name", None),
        "parameters": count_parameters(model),
        "density": found.kind,
        "data": data.name,
        "columns": len(model.columns),
        "given": found.context,
        "training_rows": len(data.train),
        "test_rows": len(data.test),
        "seed": seed,
        **_made(),
    }
    _write(facts, str(found), parts, json_file, page_file)


def _write(
    facts: dict[str, Any],
    found: str,
    sections: list[Section],
    json_file: Path | None,
    page_file: Path | None,
) -> None:
    print(as_text(sections))
    if json_file:
        text = json.dumps({"about": facts, **as_json(sections)}, indent=2, allow_nan=False, ensure_ascii=False)
        json_file.write_text(text + "\n", encoding="utf-8")
    if page_file:
        words = {name.replace("_", " "): _in_words(value) for name, value in facts.items() if value is not None}
        number, _, rest = found.partition(" (")
        headline = number, f"of {facts['data']}: {rest.rstrip(')')}. Less is better."
        rows = f"{facts['test_rows']:,} test rows"
        made = f"Evaluated by probgen {facts['versions']['probgen']} on {facts['made'][:10]}; {rows}."
        title = f"{Path(facts['model_file']).name} on {facts['data']}"
        page_file.write_text(as_page(title, headline, words, sections, made), encoding="utf-8")
    if json_file or page_file:
        print("\nwritten: " + ", ".join(str(path) for path in (json_file, page_file) if path))


def _facts(file: str, about: Subject, seed: int) -> dict[str, Any]:
    """Return what was evaluated, and by what, as JSON holds it."""
    made_by = getattr(about.model, "recipe", None) or getattr(about.inner, "recipe", None)
    return {
        "model_file": file,
        "recipe": in_code(made_by) if isinstance(made_by, Recipe) else None,
        "parameters": count_parameters(about.model),
        "density": about.evaluation.kind,
        "event_shape": list(about.event_shape),
        "data": about.split.name,
        "contexts": "labels" if about.split.classes else "lengths" if len(about.test) > 1 else None,
        "training_rows": about.split.rows,
        "test_rows": about.evaluation.rows,
        "draws": len(about.draws[0]),
        "seed": seed,
        **_made(),
    }


def _made() -> dict[str, Any]:
    """Return by what, and when."""
    versions = {
        "probgen": probgen.__version__,
        "jax": jax.__version__,
        "numpyro": numpyro.__version__,
        "python": platform.python_version(),
    }
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"device": jax.devices()[0].device_kind, "versions": versions, "made": made}


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {of}" for name, of in value.items())
    if isinstance(value, list):
        return "×".join(map(str, value)) or "a number"
    return f"{value:,}" if isinstance(value, int) else str(value)


def in_code(made_by: Recipe) -> str:
    """Return the call that makes a model, as one would write it.

    Args:
        made_by: a recipe, with its arguments.

    >>> in_code(Recipe("flows.real_nvp", '{"dim": 2, "hidden": [8]}'))
    'flows.real_nvp(dim=2, hidden=(8,))'
    """
    call = _call(made_by.name, json.loads(made_by.arguments))
    return call if len(call) <= _LONGEST else call[:_LONGEST] + " …"


def _call(name: str, arguments: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={_argument(value)}' for key, value in arguments.items())})"


def _argument(value: Any) -> str:
    match value:
        case {"recipe": str(name), "arguments": str(arguments)}:
            return _call(name, json.loads(arguments))
        case {"function": str(name)}:
            return name
        case {"constraint": str(name), "arguments": dict(arguments)}:
            return _call(name, arguments) if arguments else name
        case list():
            inner = ", ".join(map(_argument, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)
