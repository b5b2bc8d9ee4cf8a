"""Pictures: arrays and callables in, matplotlib Axes out."""

from probgen.plotting.calibration import rank_histogram
from probgen.plotting.curves import learning_curve
from probgen.plotting.gradients import learning_bands, variance_against_cost, variance_along
from probgen.plotting.images import image_grid

__all__ = [
    "image_grid",
    "learning_bands",
    "learning_curve",
    "rank_histogram",
    "variance_against_cost",
    "variance_along",
]
