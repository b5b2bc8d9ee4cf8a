"""Gradient estimators: how the gradient of an expectation passes a random site, chosen site by site."""

from probgen.distributions.wrapped import elementwise, family, unmasked
from probgen.inference.estimators.antithetic import DisARM
from probgen.inference.estimators.base import Estimator, Signal, detached, draw_cut
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
