"""Pictures: arrays and callables in, matplotlib Axes out."""

from probgen.plotting.densities import density_curve, density, samples
from probgen.plotting.motion import warped_grid, trajectories
from probgen.plotting.images import image_grid
from probgen.plotting.curves import learning_curve
from probgen.plotting.graphs import graph, jacobian_zeros
from probgen.plotting.pixels import receptive_field, order_map, entropy_map
from probgen.plotting.tries import trie
from probgen.plotting.calibration import rank_histogram, pit_histogram, coverage_curve
from probgen.plotting.comparison import forest
from probgen.plotting.typicality import typical_set
from probgen.plotting.representation import rate_distortion_plane, latent_space
from probgen.plotting.gradients import variance_against_cost, variance_along, learning_bands

__all__ = [
    # densities, draws and training
    "density_curve",
    "density",
    "samples",
    "image_grid",
    "learning_curve",
    # what moves points
    "warped_grid",
    "trajectories",
    # what depends on what
    "graph",
    "jacobian_zeros",
    # what a model says of pixels
    "receptive_field",
    "order_map",
    "entropy_map",
    # codes
    "trie",
    # models beside each other
    "forest",
    # calibration
    "rank_histogram",
    "pit_histogram",
    "coverage_curve",
    # what is typical of a model, and what its codes say
    "typical_set",
    "rate_distortion_plane",
    "latent_space",
    # the laboratory's figures
    "variance_against_cost",
    "variance_along",
    "learning_bands",
]
