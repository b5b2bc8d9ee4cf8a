"""Objectives: what SVI minimizes, subclasses of numpyro's ELBO."""

from probgen.inference.objectives.elbo import ELBO
from probgen.inference.objectives.importance import ImportanceWeighted
from probgen.inference.objectives.weighted import Beta, FreeBits, count_steps

__all__ = ["ELBO", "ImportanceWeighted", "Beta", "FreeBits", "count_steps"]
