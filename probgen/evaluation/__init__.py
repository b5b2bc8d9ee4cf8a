"""Evaluation: likelihoods that say what they are, posteriors that are calibrated, figures for ArviZ."""

from probgen.evaluation.arviz_export import to_arviz
from probgen.evaluation.calibration import Uniformity, rank_uniformity, sbc_ranks
from probgen.evaluation.likelihood import Likelihood, likelihood

__all__ = ["likelihood", "Likelihood", "sbc_ranks", "rank_uniformity", "Uniformity", "to_arviz"]
