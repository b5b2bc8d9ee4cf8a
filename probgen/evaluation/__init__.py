"""Evaluation: likelihoods that say what they are, posteriors that are calibrated, figures for ArviZ."""

from probgen.evaluation.likelihood import evaluate, Evaluation, pointwise
from probgen.evaluation.comparison import compare, Comparison
from probgen.evaluation.normalization import check_normalized, Normalization
from probgen.evaluation.bounds import check_bound, BoundCheck
from probgen.evaluation.annealing import ais, Annealed
from probgen.evaluation.enumeration import enumerated
from probgen.evaluation.pareto import pareto_k, smoothed_evidence
from probgen.evaluation.psis import psis, Corrected
from probgen.evaluation.calibration import sbc_ranks, rank_uniformity, Uniformity
from probgen.evaluation.coverage import expected_coverage, tarp, Coverage
from probgen.evaluation.probability_integral import pit, pit_uniformity
from probgen.evaluation.two_sample import mmd_test, energy_test, TwoSample
from probgen.evaluation.classifier import classifier_test, neural_classifier
from probgen.evaluation.sliced import sliced_wasserstein, SlicedWasserstein
from probgen.evaluation.neighbours import precision_recall, PrecisionRecall, memorization, Memorization
from probgen.evaluation.typicality import entropy, in_typical_set, typicality_test, Typicality
from probgen.evaluation.density_of_states import density_of_states, DensityOfStates, gradient_norms
from probgen.evaluation.outlier_scores import likelihood_ratio, perturbed, complexity_corrected, png, auroc, Area
from probgen.evaluation.rate_distortion import (
    rate_distortion,
    RateDistortion,
    rate_distortion_point,
    RateDistortionPoint,
)
from probgen.evaluation.representation import elbo_surgery, Surgery, infonce, nwj, sandwich, Information
from probgen.evaluation.probes import linear_probe, neighbour_probe, Probe
from probgen.evaluation.disentanglement import mig, Gaps, dci, Disentanglement
from probgen.evaluation.arviz_export import to_arviz

__all__ = [
    "evaluate",
    "Evaluation",
    "pointwise",
    "compare",
    "Comparison",
    "check_normalized",
    "Normalization",
    "check_bound",
    "BoundCheck",
    "ais",
    "Annealed",
    "enumerated",
    "pareto_k",
    "smoothed_evidence",
    "psis",
    "Corrected",
    "sbc_ranks",
    "rank_uniformity",
    "Uniformity",
    "expected_coverage",
    "tarp",
    "Coverage",
    "pit",
    "pit_uniformity",
    # samples beside data
    "mmd_test",
    "energy_test",
    "classifier_test",
    "neural_classifier",
    "TwoSample",
    "sliced_wasserstein",
    "SlicedWasserstein",
    "precision_recall",
    "PrecisionRecall",
    "memorization",
    "Memorization",
    # what is typical of a model, and what is an outlier
    "entropy",
    "in_typical_set",
    "typicality_test",
    "Typicality",
    "density_of_states",
    "DensityOfStates",
    "gradient_norms",
    "likelihood_ratio",
    "perturbed",
    "complexity_corrected",
    "png",
    "auroc",
    "Area",
    # what latent numbers say
    "rate_distortion",
    "RateDistortion",
    "rate_distortion_point",
    "RateDistortionPoint",
    "elbo_surgery",
    "Surgery",
    "infonce",
    "nwj",
    "sandwich",
    "Information",
    "linear_probe",
    "neighbour_probe",
    "Probe",
    "mig",
    "Gaps",
    "dci",
    "Disentanglement",
    "to_arviz",
]
