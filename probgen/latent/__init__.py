"""Latent-variable models: prior, likelihood and posterior, each any distribution or conditional; recipes."""

from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.model import ElboTerms, Latent
from probgen.latent.vae import vae
from probgen.latent.parts import BoundedNormalHead

__all__ = ["LatentVariableModel", "Latent", "ElboTerms", "vae", "BoundedNormalHead"]
