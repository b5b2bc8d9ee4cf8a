"""Gradient estimators: how the gradient of an expectation passes a random site, chosen site by site."""

from probgen.inference.estimators.use import use
from probgen.inference.estimators.path import Pathwise, StickingTheLanding, StraightThrough
from probgen.inference.estimators.implicit import Implicit
from probgen.inference.estimators.enumeration import Enumerate
from probgen.inference.estimators.score import ScoreFunction, LeaveOneOut
from probgen.inference.estimators.antithetic import DisARM
from probgen.inference.estimators.baselines import (
    Constant,
    MovingAverage,
    Learned,
    OtherParticles,
    OptimalCoefficient,
    Baseline,
)
from probgen.inference.estimators.base import Estimator, Signal, draw_cut, detached
from probgen.distributions.wrapped import family, unmasked, elementwise

__all__ = [
    "use",
    # the estimators
    "Pathwise",
    "StickingTheLanding",
    "Implicit",
    "StraightThrough",
    "Enumerate",
    "ScoreFunction",
    "LeaveOneOut",
    "DisARM",
    # the baselines of the score function
    "Constant",
    "MovingAverage",
    "Learned",
    "OtherParticles",
    "OptimalCoefficient",
    # for estimators and baselines of one's own
    "Estimator",
    "Baseline",
    "Signal",
    "family",
    "unmasked",
    "elementwise",
    "draw_cut",
    "detached",
]
