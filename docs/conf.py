"""How the documentation is built (`make docs`): pages of the repository as they lie, notebooks executed."""

import os
import sys
from pathlib import Path
from typing import Any

import jaxlib

sys.path.insert(0, str(Path(__file__).parent))
import docstrings

project = "probgen"
copyright = "the probgen authors, Apache-2.0"
html_title = "probgen"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
# Sphinx is run from the repository's root, so that links and pictures work as they do on GitHub.
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**.md", "tutorials/*.md", "benchmarks/README.md"]
exclude_patterns = [".*", "build", "dist"]

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# Every build runs every cell: what the text says is what the library does, or the build fails.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # seconds for one cell, on a busy machine
nb_execution_in_temp = True
nb_output_stderr = "remove-warn"
nb_merge_streams = True

# The reference: what each part's `__all__` says, in its order, with the docstrings that are there.
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autosummary_generate = False
python_maximum_signature_line_length = 100
add_module_names = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]


def setup(app: Any) -> None:
    """Connect the docstrings; and what the notebooks' kernels inherit: they mostly compile, so compile fast."""
    docstrings.as_in_the_source()
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("autodoc-process-signature", docstrings.with_levels)
    app.connect("missing-reference", docstrings.link)
    flags = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
    if jaxlib.__version__.startswith("0.10."):  # a process whose XLA does not know a flag aborts
        flags += " --xla_cpu_use_fusion_emitters=false"
    os.environ.setdefault("XLA_FLAGS", flags)
