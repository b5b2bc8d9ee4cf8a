"""The reference and the architecture page say what is there: every public name, every room, every path."""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest
from test_house import INSIDE_EVALUATION, INSIDE_INFERENCE, MAY

import probgen

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
docstrings = importlib.import_module("docstrings")
PAGES = {page: page.read_text() for page in (DOCS / "reference").glob("*.md")}


def modules():
    return {part: importlib.import_module(f"probgen.{part}") for part in docstrings.PARTS}


def test_every_part_that_shows_names_is_in_the_reference():
    packages = [module.name for module in pkgutil.walk_packages(probgen.__path__, "probgen.") if module.ispkg]
    shows = {name for name in packages if getattr(importlib.import_module(name), "__all__", None)}
    parts = {f"probgen.{part}" for part in docstrings.PARTS}
    assert shows - {"probgen.cli"} <= parts
    shown = re.findall(r"automodule:: (\S+)", "".join(PAGES.values()))
    assert sorted(shown) == sorted(parts | {"probgen"})  # each once, with all that its `__all__` says


def test_every_page_is_in_the_index():
    index = PAGES[DOCS / "reference" / "index.md"]
    assert set(re.findall(r"^(\w+)$", index, re.M)) == {page.stem for page in PAGES} - {"index"}


@pytest.mark.parametrize("part", docstrings.PARTS)
def test_a_public_name_says_what_it_is(part):
    module = modules()[part]
    assert docstrings.public(module)
    for name in docstrings.public(module):
        thing = getattr(module, name)
        if isinstance(thing, ModuleType):
            assert f"{part}.{name}" in docstrings.PARTS
        else:
            value = docstrings.is_value(thing)
            text = docstrings.about(f"probgen.{part}", name) if value else vars(thing).get("__doc__") or thing.__doc__
            assert text and len(text) > 20, f"{part}.{name} has no docstring, so that the reference leaves it out"


def listed(text):
    """The names of a docstring's list of arguments, or of attributes, in their order; an item is `name: text`."""
    items = re.search(r"^(?:Args|Attributes):\n((?: {4}.*\n?)+)", inspect.cleandoc(text or ""), re.M)
    names = re.findall(r"^ {4}([\w*]+(?:, \*\*\w+)?): \S", items.group(1), re.M) if items else []
    return re.findall(r"\w+", " ".join(names))


def takes(thing):
    """The names of a signature. `validate_args` means everywhere what it means for numpyro; a class of which nothing is
    known but `*args, **kwargs` is made by its subclasses."""
    parameters = inspect.signature(thing).parameters
    if isinstance(thing, type) and all(x.kind in (x.VAR_POSITIONAL, x.VAR_KEYWORD) for x in parameters.values()):
        return []
    return [name for name in parameters if name != "validate_args"]


@pytest.mark.parametrize("part", docstrings.PARTS)
def test_every_argument_has_a_line(part):
    """Of a public function or class, in the order of the signature."""
    module, wrong = modules()[part], {}
    for name in docstrings.public(module):
        thing = getattr(module, name)
        takes_none = isinstance(thing, type) and (
            issubclass(thing, Enum | BaseException) or getattr(thing, "_is_protocol", False)
        )
        if docstrings.is_value(thing) or isinstance(thing, ModuleType) or takes_none:
            continue
        if listed(vars(thing).get("__doc__") or thing.__doc__) != takes(thing):
            wrong[name] = takes(thing)
    assert not wrong, wrong


def documented():
    """Every function and class of the library that has a docstring, with its file."""
    for file in (ROOT / "probgen").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
                yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node, ast.get_docstring(node)


def test_a_list_of_arguments_is_whole():
    """Of methods and private functions too, where there is one; what is no item would run into the one before it."""
    wrong = []
    for where, node, text in documented():
        wrong += [f"{where}: arguments in a paragraph"] * bool(re.search(r"\b(Args|Attributes): ", text))
        for items in re.findall(r"^(?:Args|Attributes):\n((?: {4}.*\n?)+)", text, re.M):
            good = lambda line: re.match(r" {8}\S| {4}[\w*]+(, \*\*\w+)?: \S", line)
            wrong += [f"{where}: {line}" for line in items.splitlines() if not good(line)]
            if isinstance(node, ast.FunctionDef):
                a = node.args
                own = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
                names = [arg.arg for arg in own if arg.arg not in ("self", "cls", "validate_args")]
                wrong += [f"{where}: expected {names}"] * (listed(text) != names)
    assert not wrong, "\n".join(wrong)


def test_what_a_function_does_is_a_sentence():
    """It begins with its verb, "Return the inverse of …"; a recipe may be what it makes, a property what it is."""
    wrong = []
    for where, node, text in documented():
        nouns = {"property", "cached_property", "abstractproperty", "recipe"}
        marks = {name for mark in node.decorator_list for name in re.findall(r"\w+", ast.unparse(mark))}
        if isinstance(node, ast.FunctionDef) and not marks & nouns:
            start = r"(The|An?|One|All|Both|Every|What|Whether|Where|How|Which|Those?|That|As|Of|Whatever|[\W_])\b"
            wrong += [f"{where}: {text.splitlines()[0]}"] * bool(re.match(start, text))
    assert not wrong, "\n".join(wrong)


def test_docstrings_become_restructuredtext():
    text = """y = |x| * `maf`,
`probgen.fit`, and `SVI`s.

    y_ = *x*

Args:
    a: of `unknown`, arXiv:1705.07057.
        More of it.

>>> `this` * stays
"""
    assert docstrings.render(text.splitlines(), "probgen.flows") == [
        r"y = \|x\| \* :py:obj:`maf <probgen.flows.maf>`,",
        r":py:obj:`probgen.fit <probgen.inference.fit>`, and :py:obj:`SVI <numpyro.infer.SVI>`\ s.",
        "", ".. code-block:: none", "", "    y_ = *x*", "",
        "**Args:**", "",
        "- **a**: of ``unknown``, `arXiv:1705.07057 <https://arxiv.org/abs/1705.07057>`__.",
        "  More of it.", "",
        ">>> `this` * stays", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name, address",
    [
        ("jnp.clip", "https://docs.jax.dev/en/latest/_autosummary/jax.numpy.clip.html"),
        ("jax.jaxlib._jax.Array", "https://docs.jax.dev/en/latest/_autosummary/jax.Array.html"),
        ("dist.Normal", "https://num.pyro.ai/en/stable/distributions.html#numpyro.distributions.continuous.Normal"),
        ("numpyro.infer.SVI", "https://num.pyro.ai/en/stable/svi.html#numpyro.infer.svi.SVI"),
        (
            "distrax.Bijector",
            "https://github.com/google-deepmind/distrax/blob/master/distrax/_src/bijectors/bijector.py",
        ),
        ("jax.no_such_thing", None),
        ("probgen.fit", None),
    ],
)
def test_links_lead_elsewhere(name, address):
    assert docstrings.elsewhere(name) == address


def rows(heading):
    """The rows of the table of the architecture page below a heading, as lists of cells."""
    after = (DOCS / "architecture.md").read_text().split(heading)[1]
    table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", after, re.M).group(1)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def test_the_page_has_the_layering_table():
    code = lambda cell: set(re.findall(r"`(\w+)`", cell))
    assert {code(part).pop(): code(may) for part, may in rows("## Who may use whom")} == MAY
    for heading, inside in (
        ("Within `inference` the arrows", INSIDE_INFERENCE),
        ("And within `evaluation`", INSIDE_EVALUATION),
    ):
        assert {code(part).pop(): code(may) for part, may, _ in rows(heading)} == inside


def test_rooms_stand_on_those_that_they_may_use():
    sys.path.insert(0, str(DOCS / "figures"))
    rooms = importlib.import_module("rooms").ROOMS
    assert rooms.keys() == MAY.keys() | {"cli"}
    for name, below in MAY.items():
        for other in below:
            assert rooms[other][1] + rooms[other][3] <= rooms[name][1], f"{name} is not above {other}"
    assert all(f">{name}<" in (DOCS / "figures" / "rooms.svg").read_text() for name in rooms)


def test_where_to_add_names_files_and_what_is_in_them():
    for cells in rows("## Where do I add"):
        places = re.findall(r"`(probgen/[\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", " ".join(cells))
        assert places, cells
        for path, names in places:
            text = (ROOT / path).read_text()
            for name in re.findall(r"`(\w+)`", names):
                assert re.search(rf"^(class|def) {name}\b", text, re.M), f"{path} has no {name}"


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_paths_exist(page):
    for path in re.findall(r"`((?:probgen|tests|docs|training|engine)/[\w./]*)`", (ROOT / page).read_text()):
        base = ROOT / "probgen" / "inference" if path.startswith(("training", "engine")) else ROOT
        assert (base / path).exists(), path
