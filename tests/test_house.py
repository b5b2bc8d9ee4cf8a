"""The house: who imports whom, what an import costs, and that words and files are what they are called."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import probgen

PACKAGE = Path(probgen.__file__).parent
FAMILIES = {"flows", "autoregressive", "latent", "score"}
MAY = {
    "core": set(),
    "networks": {"core"},
    "bijectors": {"core"},
    "data": {"core"},
    "plotting": {"core"},
    "distributions": {"core", "bijectors"},
    "mixtures": {"core", "bijectors", "distributions", "networks"},
    **{
        family: {"core", "networks", "bijectors", "data", "plotting", "distributions", "mixtures"}
        for family in FAMILIES
    },
    "tables": {"core", "networks", "data", "distributions", "flows"},
    "inference": {"core", "distributions"},
    "evaluation": {"core", "distributions", "inference"},
    "compression": {"core", "distributions"},
    # checks for users' classes, beside the parts
    "testing": {"core", "inference"},
}


INSIDE_INFERENCE = {
    "estimators": set(),
    "engine": {"estimators"},
    "objectives": {"estimators", "engine"},
    "training": {"estimators", "engine", "objectives"},
    "laboratory": {"estimators", "engine", "objectives"},
    "guides": set(),
    "simulation": {"training"},
}
INSIDE_EVALUATION = {
    "posteriors": set(),
    "likelihood": {"posteriors"},
    "calibration": set(),
    "typicality": {"likelihood"},
    "samples": {"typicality"},
    "representation": {"likelihood"},
}


def imports(file):
    """Names of modules that a file imports, lazily or not."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""
            if node.module == "probgen":
                yield from (f"probgen.{name.name}" for name in node.names)


def part(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_layers():
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        mine = part(file)
        if mine in ("__init__", "__main__", "cli"):
            continue
        for name in imports(file):
            if name == "probgen":
                continue
            if name.startswith("probgen."):
                other = name.split(".")[1]
                if other != mine and other not in MAY[mine]:
                    wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not wrong, wrong


@pytest.mark.parametrize(("whole", "may"), [("inference", INSIDE_INFERENCE), ("evaluation", INSIDE_EVALUATION)])
def test_layers_inside(whole, may):
    wrong = []
    for file in (PACKAGE / whole).rglob("*.py"):
        mine = file.relative_to(PACKAGE / whole).parts[0].removesuffix(".py")
        for name in imports(file):
            other = (name.split(".") + [""] * 3)[2] if name.startswith(f"probgen.{whole}.") else mine
            if mine != "__init__" and other != mine and other not in may[mine]:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not wrong, wrong


def test_what_happens_within_training_is_its_own():
    """What others need too, such as what checks events of data, is in `distributions`."""
    for file in PACKAGE.rglob("*.py"):
        if part(file) != "inference":
            assert not any(name.startswith("probgen.inference.training") for name in imports(file)), file


def test_no_circle_of_files():
    """Not even of imports that only type checkers, or functions, make."""
    name = lambda file: ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    files = {name(file): file for file in PACKAGE.rglob("*.py")}

    def imported(file):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                inner = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from (module if module in files else node.module for module in inner)

    graph = {module: set(imported(file)) for module, file in files.items()}
    while graph:  # take away what imports nothing that is left
        free = {module for module, others in graph.items() if not others & graph.keys()}
        assert free, f"a circle among {sorted(graph)}"
        graph = {module: others for module, others in graph.items() if module not in free}


def test_nothing_imports_the_command_line():
    for file in PACKAGE.rglob("*.py"):
        if part(file) not in ("cli", "__main__"):
            assert not any(name.startswith("probgen.cli") for name in imports(file)), file


def test_heavy_libraries_are_imported_where_they_are_used():
    heavy = ["matplotlib", "arviz", "diffrax", "constriction", "xarray", "pooch", "orbax", "pandas", "flowjax"]
    # what numpyro and distrax import themselves is theirs
    code = f"""import sys, numpyro, distrax
before = set(sys.modules)
import probgen
print([name for name in {heavy!r} if name in set(sys.modules) - before])"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_matplotlib_belongs_to_plotting_and_the_command_line():
    for file in PACKAGE.rglob("*.py"):
        if part(file) not in ("plotting", "cli"):
            assert not any(name.split(".")[0] == "matplotlib" for name in imports(file)), file


def test_file_names_say_what_is_inside():
    names = {file.stem for file in PACKAGE.rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_no_assert_for_users():
    for file in PACKAGE.rglob("*.py"):
        found = [node.lineno for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Assert)]
        assert not found, f"{file}: {found}"


def test_what_is_not_implemented_says_what_to_use():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name | ast.Call):
                called = isinstance(node.exc, ast.Call) and node.exc.args
                name = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                assert getattr(name, "id", "") != "NotImplementedError" or called, f"{file}:{node.lineno}"


def test_public_names_have_docstrings_with_examples_where_they_are_models():
    parts = ["flows", "autoregressive", "latent", "score", "mixtures", "distributions", "bijectors", "networks"]
    for module in (getattr(probgen, part) for part in parts):
        for name in module.__all__:
            text = getattr(module, name).__doc__ or ""
            assert len(text) > 40, f"{module.__name__}.{name} has no docstring"


def test_options_have_one_word_for_one_thing():
    """The third column of the table in CONTRIBUTING.md names what no public function or constructor takes."""
    table = (PACKAGE.parent / "CONTRIBUTING.md").read_text().split("## Words of options")[1].split("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    refused = {word for row in rows for word in re.findall(r"`(\w+)`(?! of)", row[3])}
    assert len(refused) > 20
    numpyros = {"rng_key"}  # what overrides a method of numpyro's keeps its words
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
                takes = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
                objective = {"param_map"} <= takes
                assert not takes & (refused - (numpyros if objective else set())), f"{file.name}: {node.name}"


def test_ruff_before_a_commit_is_the_one_that_is_pinned():
    config = PACKAGE.parent / ".pre-commit-config.yaml"
    if config.exists():
        pinned = re.search(r'"ruff>=([\d.]+),', (PACKAGE.parent / "pyproject.toml").read_text()).group(1)
        assert re.search(r"rev: v(.*)", config.read_text()).group(1) == pinned


def test_the_version_is_said_once_in_each_place():
    project = PACKAGE.parent / "pyproject.toml"
    if project.exists():
        assert re.search(r'^version = "(.*)"', project.read_text(), re.M).group(1) == probgen.__version__
