"""Pictures: arrays and callables in, matplotlib Axes out."""

from probgen.plotting.densities import density, samples
from probgen.plotting.images import image_grid
from probgen.plotting.curves import learning_curve
from probgen.plotting.graphs import graph, jacobian_zeros
from probgen.plotting.tries import trie
from probgen.plotting.calibration import rank_histogram
from probgen.plotting.gradients import variance_against_cost, variance_along, learning_bands

__all__ = [
    # densities, draws and training
    "density",
    "samples",
    "image_grid",
    "learning_curve",
    # what depends on what
    "graph",
    "jacobian_zeros",
    # codes
    "trie",
    # calibration
    "rank_histogram",
    # the laboratory's figures
    "variance_against_cost",
    "variance_along",
    "learning_bands",
]
