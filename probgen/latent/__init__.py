"""Latent-variable models: prior, likelihood and posterior, each any distribution or conditional; recipes."""

from probgen.latent.latent_variable import LatentVariableModel
from probgen.latent.parts import BoundedNormalHead
from probgen.latent.vae import vae

__all__ = ["LatentVariableModel", "vae", "BoundedNormalHead"]
