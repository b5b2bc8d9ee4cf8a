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
    "BernoulliHead",
    "Bounded",
    "CategoricalHead",
    "Conditional",
    "ConditionalModel",
    "Dequantized",
    "DiscretizedLogistic",
    "DiscretizedLogisticHead",
    "DiscretizedLogisticMixture",
    "DiscretizedLogisticMixtureHead",
    "Distribution",
    "Model",
    "NormalHead",
    "NormalMixtureHead",
    "Transformed",
    "as_transform",
    "differentiable",
    "from_distrax",
    "initialize",
    "integer_head",
    "lifted",
    "observe",
    "on_support",
    "verb",
]
