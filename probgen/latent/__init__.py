"""Latent-variable models: prior, likelihood and posterior, each any distribution or conditional; recipes."""

from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.model import ElboTerms, Latent
from probgen.latent.semi_amortized import SemiAmortized
from probgen.latent.top_down import TopDown, TopDownPosterior, TopDownPrior
from probgen.latent.vector_quantized import Quantized, VectorQuantized
from probgen.latent.vae import conv_vae, pixel_vae, vae
from probgen.latent.vaes_by_bound import beta_vae, iwae
from probgen.latent.vaes_by_posterior import iaf_vae
from probgen.latent.vaes_by_prior import flow_prior_vae, vamp_vae
from probgen.latent.hierarchies import helmholtz_machine, hierarchical_vae, top_down_vae, vd_vae
from probgen.latent.discrete import discrete_vae
from probgen.latent.vq_vae import vq_vae
from probgen.latent.priors import Resampled, VampPrior
from probgen.latent.posteriors import AtFeatures, FullCovariance, LowRank, MixturePosterior
from probgen.latent.path import Layer, Path, Stage
from probgen.latent.dense_layers import DenseEncoder, DenseLayer
from probgen.latent.image_layers import ImageLayer, PyramidDecoder, PyramidEncoder
from probgen.latent.monitor import active_units, kl_of_units, mutual_information

__all__ = [
    # models
    "LatentVariableModel",
    "TopDown",
    "SemiAmortized",
    "VectorQuantized",
    "Latent",
    "ElboTerms",
    "Quantized",
    # recipes
    "vae",
    "conv_vae",
    "pixel_vae",
    "beta_vae",
    "iwae",
    "iaf_vae",
    "vamp_vae",
    "flow_prior_vae",
    "hierarchical_vae",
    "top_down_vae",
    "vd_vae",
    "discrete_vae",
    "helmholtz_machine",
    "vq_vae",
    # what the latents do
    "active_units",
    "kl_of_units",
    "mutual_information",
    # priors
    "VampPrior",
    "Resampled",
    # posteriors
    "FullCovariance",
    "LowRank",
    "MixturePosterior",
    "AtFeatures",
    # of what top-down models are made
    "Path",
    "Stage",
    "Layer",
    "DenseLayer",
    "DenseEncoder",
    "ImageLayer",
    "PyramidEncoder",
    "PyramidDecoder",
    "TopDownPrior",
    "TopDownPosterior",
]
