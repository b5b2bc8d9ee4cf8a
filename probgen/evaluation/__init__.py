"""Evaluation: likelihoods that say what they are, posteriors that are calibrated, figures for ArviZ."""

from probgen.evaluation.likelihood.row_by_row import evaluate, Evaluation, pointwise
from probgen.evaluation.likelihood.comparison import compare, Comparison
from probgen.evaluation.likelihood.normalization import check_normalized, Normalization
from probgen.evaluation.likelihood.bounds import check_bound, BoundCheck
from probgen.evaluation.likelihood.annealing import ais, Annealed
from probgen.evaluation.likelihood.enumeration import enumerated
from probgen.evaluation.posteriors.pareto import pareto_k, smoothed_evidence
from probgen.evaluation.posteriors.psis import psis, Corrected
from probgen.evaluation.calibration.ranks import sbc_ranks, rank_uniformity, Uniformity
from probgen.evaluation.calibration.coverage import expected_coverage, tarp, Coverage
from probgen.evaluation.calibration.probability_integral import pit, pit_uniformity
from probgen.evaluation.samples.two_sample import mmd_test, energy_test, TwoSample
from probgen.evaluation.samples.classifier import classifier_test, neural_classifier
from probgen.evaluation.samples.sliced import sliced_wasserstein, SlicedWasserstein
from probgen.evaluation.samples.neighbours import precision_recall, PrecisionRecall, memorization, Memorization
from probgen.evaluation.typicality.typical_set import entropy, in_typical_set, typicality_test, Typicality
from probgen.evaluation.typicality.density_of_states import density_of_states, DensityOfStates, gradient_norms
from probgen.evaluation.typicality.outlier_scores import (
    likelihood_ratio,
    perturbed,
    complexity_corrected,
    png,
    auroc,
    Area,
)
from probgen.evaluation.representation.rate_distortion import (
    rate_distortion,
    RateDistortion,
    rate_distortion_point,
    RateDistortionPoint,
)
from probgen.evaluation.representation.information import elbo_surgery, Surgery, infonce, nwj, sandwich, Information
from probgen.evaluation.representation.probes import linear_probe, neighbour_probe, Probe
from probgen.evaluation.representation.disentanglement import mig, Gaps, dci, Disentanglement
from probgen.evaluation.posteriors.arviz_export import to_arviz

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
