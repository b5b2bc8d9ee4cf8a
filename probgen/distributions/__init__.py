"""The base class, what is made of bijectors, heads, conditionals, and the distributions of discrete data."""

from probgen.distributions.base import Distribution
from probgen.distributions.conditionals import Conditional, ConditionalModel, Given
from probgen.distributions.dequantized import Dequantized
from probgen.distributions.discretized import DiscretizedLogistic, DiscretizedLogisticMixture
from probgen.distributions.heads import (
    BernoulliHead,
    CategoricalHead,
    DiscretizedLogisticHead,
    DiscretizedLogisticMixtureHead,
    NormalHead,
    integer_head,
)
from probgen.distributions.interop import as_transform, from_distrax
from probgen.distributions.mixture import EM, CategoricalMixture, histogram, mixture
from probgen.distributions.model import Model
from probgen.distributions.observe import Bounded, observe
from probgen.distributions.transformed import Transformed

__all__ = [
    "EM",
    "BernoulliHead",
    "Bounded",
    "CategoricalHead",
    "CategoricalMixture",
    "Conditional",
    "ConditionalModel",
    "Dequantized",
    "DiscretizedLogistic",
    "DiscretizedLogisticHead",
    "DiscretizedLogisticMixture",
    "DiscretizedLogisticMixtureHead",
    "Distribution",
    "Given",
    "Model",
    "NormalHead",
    "Transformed",
    "as_transform",
    "from_distrax",
    "histogram",
    "integer_head",
    "mixture",
    "observe",
]
