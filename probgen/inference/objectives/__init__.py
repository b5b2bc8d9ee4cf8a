"""Objectives: what SVI minimizes, subclasses of numpyro's ELBO."""

from probgen.inference.objectives.elbo import ELBO

__all__ = ["ELBO"]
