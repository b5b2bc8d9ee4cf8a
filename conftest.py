"""What all tests and doctests share: pictures without a screen, and a folder of their own for what they write."""

import os

import matplotlib
import pytest

# most of the suite's time is compilation, of programs that run for milliseconds
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

matplotlib.use("Agg")
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    pyplot.close("all")
