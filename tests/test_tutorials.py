"""The programs of the tutorials and the gallery name what is there, which is known long before `make docs` has run."""

import ast
import builtins
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = [*sorted((ROOT / "tutorials").glob("*.md")), ROOT / "docs" / "gallery.md"]


def bound(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id


def of_probgen(tree):
    """(module, name) of what is asked of probgen's modules, by `from … import` or by an attribute of one."""
    modules = {"probgen": "probgen"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("probgen"):
            yield from ((node.module, alias.name) for alias in node.names)
            found = importlib.import_module(node.module)
            inner = [alias for alias in node.names if hasattr(getattr(found, alias.name, None), "__path__")]
            modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in inner}
    for node in ast.walk(tree):
        name, _, last = ast.unparse(node).rpartition(".") if isinstance(node, ast.Attribute) else ("", "", "")
        if name in modules:
            yield modules[name], last


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_names_are_there(page):
    cells = re.findall(
        r"^```\{code-cell\}[^\n]*\n(?:---\n.*?---\n|(?::[^\n]*\n)*)(.*?)^```$", page.read_text(), re.M | re.S
    )
    tree = ast.parse("\n".join(cells))
    known, imported = set(dir(builtins)), set()
    for statement in tree.body:
        new = set(bound(statement))
        assert not new & imported, f"{new & imported} was imported, and is something else from here on"
        imported |= new if isinstance(statement, ast.Import | ast.ImportFrom) else set()
        known |= new
        used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        assert used <= known, f"{used - known} is not known yet: {ast.unparse(statement)[:200]}"
    for module, name in of_probgen(tree):
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"
