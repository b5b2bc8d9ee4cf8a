"""The laboratory: bias, variance and cost of gradient estimators, on any program and on built-in problems."""

from probgen.inference.laboratory.report import gradient_report, Point
from probgen.inference.laboratory.trajectory import shared_trajectory
from probgen.inference.laboratory.table import table
from probgen.inference.laboratory.problems import PROBLEMS, Problem, bernoulli_toy, bits, gaussian_square, three_sites

__all__ = [
    # measuring
    "gradient_report",
    "Point",
    "shared_trajectory",
    "table",
    # built-in problems
    "PROBLEMS",
    "Problem",
    "bernoulli_toy",
    "bits",
    "gaussian_square",
    "three_sites",
]
