"""Training: `fit`, over numpyro's SVI."""

from probgen.inference.fit import fit
from probgen.inference.result import Best, FitResult

__all__ = ["Best", "FitResult", "fit"]
