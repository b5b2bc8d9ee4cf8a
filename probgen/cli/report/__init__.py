"""`probgen evaluate --json --report`: all that the library can say of a model and its test rows, in one place."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpyro

import probgen
from probgen.cli.models import Split
from probgen.cli.report import calibration, latents, likelihood, samples
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
    print(as_text(sections))
    facts = _facts(file, about, seed)
    if json_file:
        found = {"about": facts, **as_json(sections)}
        text = json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False)
        json_file.write_text(text + "\n", encoding="utf-8")
    if page_file:
        page_file.write_text(_page(file, about, facts, sections), encoding="utf-8")
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
        "device": jax.devices()[0].device_kind,
        "versions": {
            "probgen": probgen.__version__,
            "jax": jax.__version__,
            "numpyro": numpyro.__version__,
            "python": platform.python_version(),
        },
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _page(file: str, about: Subject, facts: dict[str, Any], sections: list[Section]) -> str:
    found = about.evaluation
    headline = str(found).partition(" (")
    versions = facts["versions"]
    words = {name.replace("_", " "): _in_words(value) for name, value in facts.items() if value is not None}
    made = f"Evaluated by probgen {versions['probgen']} on {facts['made'][:10]}; {found.rows:,} test rows."
    what = f"of {about.split.name}: {headline[2].rstrip(')')}. Less is better."
    return as_page(f"{Path(file).name} on {about.split.name}", (headline[0], what), words, sections, made)


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
