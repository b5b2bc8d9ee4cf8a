"""What all tests and doctests share: fast compilation, pictures without a screen, and a folder for what they write."""

import gc
import os

import jaxlib
import matplotlib
import pytest

# Most of the tests' time is XLA's, which compiles code that runs once: as little of that as it can. By version, since
# a process whose XLA does not know a flag aborts.
if jaxlib.__version__.startswith("0.10."):
    flags = "use_fusion_emitters=false", "parallel_codegen_split_count=1"
    os.environ.setdefault(
        "XLA_FLAGS", " ".join(f"--xla_cpu_{flag}" for flag in flags) + " --xla_backend_optimization_level=0"
    )

matplotlib.use("Agg")
from matplotlib import pyplot


def pytest_collection_finish():
    """What was imported stays: the garbage collector, a sixteenth of all time, looks at the rest, and less often."""
    gc.freeze()
    gc.set_threshold(50_000, 20)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    pyplot.close("all")
