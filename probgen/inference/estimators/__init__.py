"""Gradient estimators: how the gradient of an expectation passes a random site, chosen site by site."""

from probgen.inference.estimators.base import Estimator, Signal
from probgen.inference.estimators.baselines import (
    Baseline,
    Constant,
    Learned,
    MovingAverage,
    OptimalCoefficient,
    OtherParticles,
)
from probgen.inference.estimators.enumeration import Enumerate
from probgen.inference.estimators.implicit import Implicit
from probgen.inference.estimators.path import Pathwise, StickingTheLanding, StraightThrough
from probgen.inference.estimators.score import LeaveOneOut, ScoreFunction
from probgen.inference.estimators.use import use

__all__ = [
    "Baseline",
    "Constant",
    "Enumerate",
    "Estimator",
    "Implicit",
    "Learned",
    "LeaveOneOut",
    "MovingAverage",
    "OptimalCoefficient",
    "OtherParticles",
    "Pathwise",
    "ScoreFunction",
    "Signal",
    "StickingTheLanding",
    "StraightThrough",
    "use",
]
