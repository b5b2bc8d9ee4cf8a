"""Training: `fit`, over numpyro's SVI."""

from probgen.inference.result import Best, FitResult
from probgen.inference.trainer import fit

__all__ = ["Best", "FitResult", "fit"]
