"""Inference: gradient estimators, objectives, and training by `fit`, over numpyro's SVI."""

from probgen.inference import estimators, laboratory, objectives
from probgen.inference.engine.expectation import expectation
from probgen.inference.guides import AutoFlow
from probgen.inference.laboratory import gradient_report
from probgen.inference.laboratory.explain import Explanation, explain
from probgen.inference.simulation import Posterior, npe, simulate
from probgen.inference.training.fit import fit
from probgen.inference.training.result import Best, FitResult

__all__ = [
    "AutoFlow",
    "Best",
    "Explanation",
    "FitResult",
    "Posterior",
    "estimators",
    "expectation",
    "explain",
    "fit",
    "gradient_report",
    "laboratory",
    "npe",
    "objectives",
    "simulate",
]
