"""The laws of bijectors, distributions, networks and estimators, as checks for users' own classes.

Each check raises AssertionError that says which law is broken and by how much. They are what probgen's own registry
is tested with.
"""

from probgen.testing.baselines import check_baseline
from probgen.testing.bijectors import check_bijector
from probgen.testing.causality import check_causal, influence
from probgen.testing.densities import check_normalized, check_pytree, check_samples
from probgen.testing.estimators import check_estimator
from probgen.testing.gradients import check_gradients, check_learnable

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
