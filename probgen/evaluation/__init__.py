"""Evaluation: likelihoods that say what they are, posteriors that are calibrated, figures for ArviZ."""

from probgen.evaluation.likelihood import likelihood, Likelihood
from probgen.evaluation.annealing import ais, Annealed
from probgen.evaluation.enumeration import enumerated
from probgen.evaluation.pareto import pareto_k, smoothed_evidence
from probgen.evaluation.calibration import sbc_ranks, rank_uniformity, Uniformity
from probgen.evaluation.arviz_export import to_arviz

__all__ = [
    "likelihood",
    "Likelihood",
    "ais",
    "Annealed",
    "enumerated",
    "pareto_k",
    "smoothed_evidence",
    "sbc_ranks",
    "rank_uniformity",
    "Uniformity",
    "to_arviz",
]
