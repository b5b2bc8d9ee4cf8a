"""Latent-variable models: prior, likelihood and posterior, each any distribution or conditional; recipes."""

from probgen.latent.latent_variable import ElboTerms, LatentVariableModel
from probgen.latent.vae import vae
from probgen.latent.discrete import discrete_vae
from probgen.latent.vector_quantized import Quantized, VectorQuantized
from probgen.latent.vq_vae import vq_vae
from probgen.latent.monitor import active_units, kl_of_units, mutual_information
from probgen.latent.parts import BoundedNormalHead

__all__ = [
    "LatentVariableModel",
    "ElboTerms",
    "vae",
    "discrete_vae",
    "VectorQuantized",
    "Quantized",
    "vq_vae",
    "active_units",
    "kl_of_units",
    "mutual_information",
    "BoundedNormalHead",
]
