"""Flows: recipes that return a base distribution pushed through a chain of bijectors."""

from probgen.flows.real_nvp import discrete_real_nvp, real_nvp

__all__ = ["discrete_real_nvp", "real_nvp"]
