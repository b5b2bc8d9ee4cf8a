"""Inference: gradient estimators, objectives, and training by `fit`, over numpyro's SVI."""

from probgen.inference.training.fit import fit
from probgen.inference.training.averages import PowerEMA
from probgen.inference.training.lagging import aggressive, fit_aggressively
from probgen.inference.training.checkpoint import Checkpoints
from probgen.inference.training.iterated import ShuffledBatches
from probgen.inference.training.guards import DataWarning
from probgen.inference.training.result import FitResult, Best, TrainingStatus
from probgen.inference.guides import AutoFlow
from probgen.inference.simulation import npe, simulate, Posterior
from probgen.inference import estimators, objectives, laboratory
from probgen.inference.engine.expectation import expectation
from probgen.inference.laboratory import gradient_report
from probgen.inference.laboratory.explain import explain, Explanation

__all__ = [
    # training
    "fit",
    "fit_aggressively",
    "aggressive",
    "PowerEMA",
    "Checkpoints",
    "ShuffledBatches",
    "TrainingStatus",
    "FitResult",
    "Best",
    "DataWarning",
    "AutoFlow",
    "npe",
    "simulate",
    "Posterior",
    # which gradient, of what
    "estimators",
    "objectives",
    "expectation",
    # what a gradient is worth
    "gradient_report",
    "explain",
    "Explanation",
    "laboratory",
]
