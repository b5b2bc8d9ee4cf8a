"""How docstrings become the pages of the reference: links for names in backticks, literal blocks for formulas."""

import ast
import functools
import importlib
import inspect
import pydoc
import re
import sys
from itertools import pairwise
from types import FunctionType, ModuleType
from typing import Any

PARTS = (
    "core bijectors networks distributions mixtures flows autoregressive latent score tables inference "
    "inference.estimators inference.objectives inference.laboratory evaluation compression data data.toys plotting "
    "testing"
).split()

# Where others document their objects; distrax has no pages, so that its links go to the source.
_NUMPYRO = "https://num.pyro.ai/en/stable"
_JAX = "https://docs.jax.dev/en/latest"
_DISTRAX = "https://github.com/google-deepmind/distrax/blob/master"
_PAGES = {
    "numpyro.distributions": "distributions",
    "numpyro.infer.svi": "svi",
    "numpyro.infer.elbo": "svi",
    "numpyro.infer.autoguide": "autoguide",
    "numpyro.infer.reparam": "reparam",
    "numpyro.infer.mcmc": "mcmc",
    "numpyro.infer.util": "utilities",
    "numpyro.handlers": "handlers",
    "numpyro.primitives": "primitives",
}
_MODULE = "https://docs.kidger.site/equinox/api/module/module/#equinox.Module"
_NONE = inspect.Signature()
_OF_LABELS: set[str] = set()  # recipes that take labels as contexts
_SHORT = {"jnp": "jax.numpy", "dist": "numpyro.distributions"}
_BARE = ("numpyro.infer", "numpyro.infer.reparam", "numpyro.distributions")  # in which a capitalized word may be


def as_in_the_source() -> None:
    """Take away the signatures that recipes add `context_levels` to: Sphinx reads defaults off the source, which has
    none of it; `with_levels` puts it back."""
    for part in PARTS:
        module = importlib.import_module(f"probgen.{part}")
        for name in public(module):
            thing = getattr(module, name)
            if (
                isinstance(thing, FunctionType)
                and "context_levels" in getattr(thing, "__signature__", _NONE).parameters
            ):
                del thing.__signature__
                _OF_LABELS.add(f"probgen.{part}.{name}")


def with_levels(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    """Return the signature of a recipe as callers see it; Sphinx calls this for each."""
    plain = "context_dim: int | None = None"
    if name not in _OF_LABELS or signature is None:
        return None
    return signature.replace(plain, f"{plain}, context_levels: int | None = None"), returned


def public(module: ModuleType) -> list[str]:
    """Return the names of what a part shows: its `__all__`, or what it defines without an underscore."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return list(getattr(module, "__all__", [name for name in own if not name.startswith("_")]))


def is_value(thing: Any) -> bool:
    """Whether a public name is neither a class nor a function nor a module."""
    return not isinstance(thing, type | FunctionType | ModuleType)


def about(part: str, name: str) -> str:
    """Return the string that stands beneath a value, wherever in its part that is."""
    for module in [module for path, module in sorted(sys.modules.items()) if path.startswith(f"{part}.")]:
        body = ast.parse(inspect.getsource(module)).body
        for statement, after in pairwise(body):
            target = getattr(statement, "target", None) or getattr(statement, "targets", [None])[0]
            if getattr(target, "id", "") == name and isinstance(after, ast.Expr):
                return str(ast.literal_eval(after.value))
    raise ValueError(f"{part}.{name}: expected a string beneath it that says what it is")


@functools.cache
def ours() -> set[str]:
    """Return the full name of everything that is public."""
    modules = [importlib.import_module(f"probgen.{part}") for part in PARTS]
    return {f"{module.__name__}.{name}" for module in modules for name in public(module)}


def elsewhere(name: str) -> str | None:
    """Return the address of the page on an object of JAX, numpyro or distrax; None where there is none."""
    head, _, rest = name.replace("jax.jaxlib._jax.", "jax.").partition(".")
    name = f"{_SHORT.get(head, head)}.{rest}"
    if name in ("equinox.Module", "equinox._module._module.Module"):
        return _MODULE
    found = pydoc.locate(name) if name.startswith(("jax.", "numpyro.", "distrax.")) else None
    if found is None:
        return None
    if name.startswith("jax."):
        return f"{_JAX}/{name}.html" if isinstance(found, ModuleType) else f"{_JAX}/_autosummary/{name}.html"
    module = getattr(found, "__module__", "") or ""
    if module.startswith("distrax."):
        return f"{_DISTRAX}/{module.replace('.', '/')}.py"
    page = next((page for start, page in _PAGES.items() if module.startswith(start)), None)
    return page and f"{_NUMPYRO}/{page}.html#{module}.{getattr(found, '__qualname__', name)}"


def _ending(name: str) -> list[str]:
    return [full for full in sorted(ours()) if full.endswith(f".{name}")]


def _target(text: str, where: str) -> str | None:
    """Return the full name of what stands in backticks in the part `where`."""
    near = [full for full in (f"{where}.{text}", f"probgen.{text}", text) if full in ours()]
    top = _ending(text.removeprefix("probgen.")) if text.startswith("probgen.") else []  # `probgen.fit` and the like
    anywhere = _ending(text) if text[:1].isupper() else []
    if near or top or len(anywhere) == 1:
        return (near or top or anywhere)[0]
    bare = [f"{module}.{text}" for module in _BARE] if re.fullmatch(r"[A-Z]\w+", text) else []
    return next((name for name in (text, *bare) if elsewhere(name)), None)


def _code(code: str, where: str) -> str:
    code = " ".join(code.split())
    target = _target(code, where)
    return f":py:obj:`{code} <{target}>`" if target else f"``{code}``"


def _prose(text: str, where: str) -> str:
    """Return a paragraph in reStructuredText: escaped, its code linked, its papers linked, its labels in bold."""
    pieces = text.split("`")
    for i, piece in enumerate(pieces):
        if i % 2:
            before = r"\ " if re.search(r"[^\s(\[{]\Z", pieces[i - 1]) else ""
            after = r"\ " if re.match(r"\w", pieces[i + 1]) else ""
            pieces[i] = before + _code(piece, where) + after
        else:
            piece = re.sub(r"[*|\\]|_(?!\w)", r"\\\g<0>", piece)
            pieces[i] = re.sub(r"arXiv:(\d+\.\d+)", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", piece)
    text = re.sub(r"^(\s*[A-Za-z0-9])\. ", r"\1\\. ", "".join(pieces), flags=re.M)  # an initial begins no list
    return re.sub(r"^(References|Sources?): ", r"**\1:** ", text)


def _arguments(text: str) -> str:
    """Return the arguments, one in each item of a list."""
    head, _, items = text.partition(":\n")
    items = re.sub(r"^ {8}", "  ", items, flags=re.M)
    items = re.sub(r"^ {4}([\w*\\, ]+):(?= )", r"- **\1**:", items, flags=re.M)
    return f"**{head}:**\n\n{items}"


def render(lines: list[str], where: str) -> list[str]:
    """Return a docstring of the part `where` in reStructuredText: what is indented, and no list, is a formula."""
    out = []
    for block in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines).strip("\n")):
        prose, *examples = re.split(r"^(?=\s*>>> )", block, maxsplit=1, flags=re.M)
        if prose.startswith("    "):
            out += [".. code-block:: none", "", *block.split("\n"), ""]
            continue
        text = _prose(prose, where)
        text = _arguments(text) if re.match(r"(Args|Attributes):\n", block) else text
        out += [*(text + "".join(examples)).split("\n"), ""]
    return out


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Render a docstring; beneath a part's, put the table of what it shows, and its values, which have none."""
    where = max((f"probgen.{part}" for part in PARTS if name.startswith(f"probgen.{part}")), key=len, default="probgen")
    lines[:] = render([about(where, name.rpartition(".")[2])] if what == "data" else lines, where)
    if what == "module":
        shown = [n for n in public(obj) if not isinstance(getattr(obj, n), ModuleType)]
        table = shown
        if name == "probgen":  # they stand where they are from
            table = [f"~{_ending(n)[0].removeprefix('probgen.')}" for n in shown]
        lines += ["", ".. autosummary::", "   :nosignatures:", "", *(f"   {n}" for n in table), ""]
        for n in shown:
            if is_value(getattr(obj, n)):
                lines += [f".. py:data:: {n}", "", *(f"   {line}" for line in render([about(name, n)], name)), ""]


def link(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve what is not of probgen."""
    from docutils import nodes  # the tests have no docutils

    uri = elsewhere(node.get("reftarget", ""))
    return uri and nodes.reference("", "", content, internal=False, refuri=uri)
