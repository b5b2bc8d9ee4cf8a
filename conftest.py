"""What all tests and doctests share: fast compilation, pictures without a screen, and a folder for what they write."""

import os

import jaxlib
import matplotlib
import pytest

# Most of the tests' time is XLA's, which compiles code that runs once: as little of that as it can. By version, since
# a process whose XLA does not know a flag aborts.
if jaxlib.__version__.startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0")

matplotlib.use("Agg")
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    pyplot.close("all")
