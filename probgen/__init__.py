"""probgen: generative models as composable numpyro distributions."""

import importlib
from typing import Any

from probgen.inference import fit, FitResult, explain, gradient_report
from probgen.core import (
    save,
    load,
    module,
    random_module,
    evaluating,
    partition,
    combine,
    from_params,
    recipe,
    with_key,
)
from probgen.distributions import observe, as_transform, from_distrax, on_support
from probgen import (
    core,
    networks,
    bijectors,
    distributions,
    mixtures,
    flows,
    autoregressive,
    latent,
    score,
    inference,
    evaluation,
    data,
    tables,
)

__version__ = "0.1.0"

__all__ = [
    # training, files, and models in programs
    "fit",
    "FitResult",
    "save",
    "load",
    "observe",
    "module",
    "random_module",
    "evaluating",
    # what learns, and what is bound
    "partition",
    "combine",
    "from_params",
    "recipe",
    "with_key",
    # to numpyro, and from distrax; other supports
    "as_transform",
    "from_distrax",
    "on_support",
    # gradients
    "explain",
    "gradient_report",
    # the parts
    "core",
    "networks",
    "bijectors",
    "distributions",
    "mixtures",
    "flows",
    "autoregressive",
    "latent",
    "score",
    "inference",
    "evaluation",
    "data",
    "tables",
]


def __getattr__(name: str) -> Any:
    if name in ("compression", "plotting", "testing"):  # what not every program needs is imported when it is asked for
        return importlib.import_module(f"probgen.{name}")
    raise AttributeError(f"module 'probgen' has no attribute {name!r}")
