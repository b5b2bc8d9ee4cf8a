"""Latent-variable models: prior, likelihood and posterior, each any distribution or conditional; recipes."""

from probgen.latent.latent_variable import ElboTerms, LatentVariableModel
from probgen.latent.vae import vae

__all__ = ["LatentVariableModel", "ElboTerms", "vae"]
