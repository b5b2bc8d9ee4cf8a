"""Mixtures and histograms, learned by expectation–maximization or by gradients; k-means."""

from probgen.mixtures.mixture import Mixture, EM
from probgen.mixtures.gaussian import GaussianMixture, gaussian_mixture
from probgen.mixtures.categorical import CategoricalMixture, categorical_mixture, histogram
from probgen.mixtures.kmeans import kmeans, kmeans_plus_plus

__all__ = [
    "Mixture",
    "EM",
    # reals
    "GaussianMixture",
    "gaussian_mixture",
    # integers
    "CategoricalMixture",
    "categorical_mixture",
    "histogram",
    # where to start
    "kmeans",
    "kmeans_plus_plus",
]
