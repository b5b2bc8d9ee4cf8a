"""The base class, what is made of bijectors, heads, conditionals, and the distributions of discrete data."""

from probgen.distributions import divergences  # noqa: F401  (registers with numpyro's kl_divergence)
from probgen.distributions.base import Distribution
from probgen.distributions.conditionals import Conditional, ConditionalModel
from probgen.distributions.dequantized import Dequantized
from probgen.distributions.differentiable import differentiable
from probgen.distributions.discretized import DiscretizedLogistic, DiscretizedLogisticMixture
from probgen.distributions.heads import (
    BernoulliHead,
    CategoricalHead,
    DiscretizedLogisticHead,
    DiscretizedLogisticMixtureHead,
    NormalHead,
    NormalMixtureHead,
    integer_head,
)
from probgen.distributions.interop import as_transform, from_distrax
from probgen.distributions.lifting import lifted, verb
from probgen.distributions.model import Model
from probgen.distributions.observe import Bounded, observe
from probgen.distributions.on_support import on_support
from probgen.distributions.transformed import Transformed, initialize

__all__ = [
    # what to derive from
    "Distribution",
    "Model",
    "verb",
    "lifted",
    # what is made of bijectors
    "Transformed",
    "initialize",
    "on_support",
    # given a context
    "Conditional",
    "ConditionalModel",
    # data in programs
    "observe",
    "Bounded",
    # discrete data
    "Dequantized",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    # heads: raw network output in, a numpyro distribution out
    "NormalHead",
    "NormalMixtureHead",
    "BernoulliHead",
    "CategoricalHead",
    "DiscretizedLogisticHead",
    "DiscretizedLogisticMixtureHead",
    "integer_head",
    # to numpyro, and from distrax
    "as_transform",
    "from_distrax",
    "differentiable",
]
