"""Latent-variable models: prior, likelihood and posterior, each any distribution or conditional; recipes."""

from probgen.latent.latent_variable import ElboTerms, LatentVariableModel
from probgen.latent.semi_amortized import SemiAmortized
from probgen.latent.vae import vae
from probgen.latent.priors import Resampled
from probgen.latent.posteriors import FullCovariance, LowRank, MixturePosterior, AtFeatures

__all__ = [
    "LatentVariableModel",
    "ElboTerms",
    "SemiAmortized",
    "vae",
    # priors
    "Resampled",
    # posteriors
    "FullCovariance",
    "LowRank",
    "MixturePosterior",
    "AtFeatures",
]
