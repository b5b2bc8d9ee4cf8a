"""Flows: recipes that return a base distribution pushed through a chain of bijectors."""

from probgen.flows.coupling import real_nvp, nice
from probgen.flows.spline import nsf, cdf_flow
from probgen.flows.masked_autoregressive import maf, iaf, mixture_flow, bayes_net_flow
from probgen.flows.continuous import cnf, ffjord
from probgen.flows.affine import affine_flow
from probgen.flows.histogram import histogram_flow
from probgen.flows.on_levels import on_levels
from probgen.flows.integer_flow import integer_flow, IntegerFlow, IntegerCoupling, IntegerLayers

__all__ = [
    # couplings
    "real_nvp",
    "nice",
    "nsf",
    # autoregressive
    "maf",
    "iaf",
    "mixture_flow",
    "bayes_net_flow",
    # continuous in time
    "cnf",
    "ffjord",
    # baselines, and flows of one number
    "affine_flow",
    "histogram_flow",
    "cdf_flow",
    # any flow, over integers
    "on_levels",
    # of integers themselves
    "integer_flow",
    "IntegerFlow",
    "IntegerLayers",
    "IntegerCoupling",
]
