"""Inference: gradient estimators, objectives, and training by `fit`, over numpyro's SVI."""

from probgen.inference import estimators, laboratory, objectives
from probgen.inference.explain import Explanation, explain
from probgen.inference.guides import AutoFlow
from probgen.inference.laboratory import gradient_report
from probgen.inference.result import Best, FitResult
from probgen.inference.simulation import Posterior, npe, simulate
from probgen.inference.trainer import fit

__all__ = [
    "AutoFlow",
    "Best",
    "Explanation",
    "FitResult",
    "Posterior",
    "estimators",
    "explain",
    "fit",
    "gradient_report",
    "laboratory",
    "npe",
    "objectives",
    "simulate",
]
