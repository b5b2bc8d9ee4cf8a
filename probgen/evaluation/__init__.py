"""What a model is worth: likelihoods that say what they are."""

from probgen.evaluation.likelihood import Likelihood, likelihood

__all__ = ["Likelihood", "likelihood"]
