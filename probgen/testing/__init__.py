"""The laws of bijectors, distributions, networks and estimators, as checks for users' own classes.

Each check raises AssertionError that says which law is broken and by how much. They are what probgen's own registry
is tested with.
"""

from probgen.testing.bijectors import check_bijector
from probgen.testing.densities import check_normalized, check_samples, check_pytree
from probgen.testing.gradients import check_gradients, check_learnable
from probgen.testing.causality import check_causal, influence
from probgen.testing.estimators import check_estimator
from probgen.testing.baselines import check_baseline

__all__ = [
    "check_bijector",
    "check_normalized",
    "check_samples",
    "check_pytree",
    "check_gradients",
    "check_learnable",
    "check_causal",
    "influence",
    "check_estimator",
    "check_baseline",
]
