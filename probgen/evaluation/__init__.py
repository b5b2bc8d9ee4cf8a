"""What a model is worth: likelihoods that say what they are; and figures as ArviZ takes them."""

from probgen.evaluation.arviz_export import to_arviz
from probgen.evaluation.likelihood import Likelihood, likelihood

__all__ = ["Likelihood", "likelihood", "to_arviz"]
