"""Flows: recipes that return a base distribution pushed through a chain of bijectors."""

from probgen.flows.affine import affine_flow
from probgen.flows.coupling import nice, real_nvp
from probgen.flows.histogram import histogram_flow
from probgen.flows.masked_autoregressive import bayes_net_flow, iaf, maf, mixture_flow
from probgen.flows.on_levels import on_levels
from probgen.flows.spline import cdf_flow, nsf

__all__ = [
    "affine_flow",
    "bayes_net_flow",
    "cdf_flow",
    "histogram_flow",
    "iaf",
    "maf",
    "mixture_flow",
    "nice",
    "nsf",
    "on_levels",
    "real_nvp",
]
