"""The base class, what is made of bijectors, heads, conditionals, and the distributions of discrete data."""

from probgen.distributions import divergences  # noqa: F401  (registers with numpyro's kl_divergence)
from probgen.distributions.base import Distribution
from probgen.distributions.model import Model
from probgen.distributions.lifting import verb, lifted
from probgen.distributions.transformed import Transformed, initialize
from probgen.distributions.on_support import on_support
from probgen.distributions.conditionals import Conditional, ConditionalModel
from probgen.distributions.observe import observe, Bounded
from probgen.distributions.dequantized import Dequantized
from probgen.distributions.discretized import DiscretizedLogistic, DiscretizedLogisticMixture
from probgen.distributions.beta_binomial import BetaBinomial
from probgen.distributions.continuous_bernoulli import ContinuousBernoulli
from probgen.distributions.heads import NormalHead, NormalMixtureHead, BoundedNormalHead, ContinuousBernoulliHead
from probgen.distributions.integer_heads import (
    BernoulliHead,
    CategoricalHead,
    DiscretizedLogisticHead,
    DiscretizedLogisticMixtureHead,
    BetaBinomialHead,
    integer_head,
)
from probgen.distributions.interop import as_transform, from_distrax
from probgen.distributions.differentiable import differentiable

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
    "BetaBinomial",
    # numbers in [0, 1]
    "ContinuousBernoulli",
    # heads: raw network output in, a numpyro distribution out
    "NormalHead",
    "NormalMixtureHead",
    "BoundedNormalHead",
    "ContinuousBernoulliHead",
    "BernoulliHead",
    "CategoricalHead",
    "DiscretizedLogisticHead",
    "DiscretizedLogisticMixtureHead",
    "BetaBinomialHead",
    "integer_head",
    # to numpyro, and from distrax
    "as_transform",
    "from_distrax",
    "differentiable",
]
