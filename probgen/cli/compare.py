"""`probgen compare-estimators`: bias, variance and cost of gradient estimators on built-in problems."""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from numpyro.infer import Trace_ELBO, TraceGraph_ELBO

from probgen.cli.files import at_least_one, folder_to_write
from probgen.inference import gradient_report
from probgen.inference.laboratory import Problem, bernoulli_toy, bits, gaussian_square, table, three_sites

if TYPE_CHECKING:
    import xarray

SHORT_NAMES: Mapping[str, Callable[[], Problem]] = {
    "bernoulli": bernoulli_toy,
    "gaussian": gaussian_square,
    "bits": bits,
    "three-sites": three_sites,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--problem", metavar="NAME", help=f"one of {', '.join(SHORT_NAMES)} (default all)")
    parser.add_argument("--replicates", type=int, default=2000, help="gradients of each estimator (default 2000)")
    parser.add_argument("--particles", type=int, default=1, help="particles of each gradient (default 1)")
    parser.add_argument("--stock", action="store_true", help="compare numpyro's Trace_ELBO and TraceGraph_ELBO too")
    parser.add_argument(
        "--out", default="probgen-estimators", help="folder for the results (default probgen-estimators)"
    )


def run(options: argparse.Namespace) -> None:
    """Measure the contenders of each problem, print their tables, write figures and pictures."""
    if options.replicates < 2:
        raise ValueError(f"--replicates: expected at least 2, for a variance, got {options.replicates}")
    at_least_one("--particles", options.particles)
    problems, out = _problems(options.problem), folder_to_write(options.out)
    reports = []
    for index, problem in problems:
        key = jax.random.fold_in(jax.random.key(options.seed), index)
        reports.append(_report(problem, key, options))
        print(f"\n{problem.name}: {problem.what}\n{table(reports[-1])}", flush=True)
    board = {
        "seed": options.seed,
        "replicates": options.replicates,
        "particles": options.particles,
        "problems": [
            {"problem": problem.name, "what": problem.what, **figures(report)}
            for (_, problem), report in zip(problems, reports, strict=True)
        ],
    }
    text = json.dumps(board, indent=2, allow_nan=False, ensure_ascii=False)
    (out / "estimators.json").write_text(text + "\n", encoding="utf-8")
    _write_picture(out / "estimators.png", [problem.name for _, problem in problems], reports)
    print(f"\nwritten to {out}/: estimators.json, estimators.png")


def _problems(name: str | None) -> list[tuple[int, Problem]]:
    """Return one problem, by its short name or its own, or all, numbered: a problem's draws do not depend on the
    others."""
    built = {short: make() for short, make in SHORT_NAMES.items()}
    chosen = [(i, problem) for i, (short, problem) in enumerate(built.items()) if name in (None, short, problem.name)]
    if not chosen:
        raise ValueError(f"--problem: there is no problem {name}; there are {', '.join(built)}")
    return chosen


def _report(problem: Problem, key: jax.Array, options: argparse.Namespace) -> "xarray.Dataset":
    stock = {
        "numpyro Trace_ELBO": Trace_ELBO(options.particles),
        "numpyro TraceGraph_ELBO": TraceGraph_ELBO(options.particles),
    }
    return gradient_report(
        key,
        problem.params,
        problem.model,
        problem.guide,
        estimators={**problem.contenders, **(stock if options.stock else {})},
        num_replicates=options.replicates,
        num_particles=options.particles,
        reference=problem.loss,
    )


def figures(report: "xarray.Dataset") -> dict[str, Any]:
    """Return all of a report as JSON holds it: `null` for what is not finite."""
    grouped = [name for name, variable in report.items() if "group" in variable.dims]
    single = [name for name, variable in report.items() if variable.dims == ("estimator",)]
    estimators = []
    for name in report["estimator"].values:
        one = report.sel(estimator=name)
        groups = {
            str(group): {key: _plain(one[key].sel(group=group)) for key in grouped} for group in report["group"].values
        }
        estimators.append({"estimator": str(name), **{key: _plain(one[key]) for key in single}, "groups": groups})
    return {
        "reference": report.attrs["reference"],
        "bias_limit": _plain(report["bias_limit"]),
        "estimators": estimators,
    }


def _plain(value: "xarray.DataArray") -> int | float | str | None:
    plain = value.item()
    return plain if isinstance(plain, str) or math.isfinite(plain) else None


def _write_picture(path: Path, titles: list[str], reports: list[Any]) -> None:
    from matplotlib.figure import Figure

    from probgen.plotting import variance_against_cost

    columns = min(len(reports), 2)
    rows = math.ceil(len(reports) / columns)
    figure = Figure(figsize=(6 * columns, 4.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in panels[len(reports) :]:
        ax.set_axis_off()
    for ax, title, report in zip(panels, titles, reports, strict=False):
        variance_against_cost(report, ax=ax)
        ax.set_title(title)
    figure.savefig(path, dpi=150)
