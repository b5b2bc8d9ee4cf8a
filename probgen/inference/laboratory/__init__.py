"""The laboratory: bias, variance and cost of gradient estimators, on any program and on built-in problems."""

from probgen.inference.laboratory.problems import PROBLEMS, Problem, bernoulli_toy, bits, gaussian_square, three_sites
from probgen.inference.laboratory.report import Point, gradient_report
from probgen.inference.laboratory.table import table
from probgen.inference.laboratory.trajectory import shared_trajectory

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
