"""Pictures: arrays and callables in, matplotlib Axes out."""

from probgen.plotting.curves import learning_curve
from probgen.plotting.images import image_grid

__all__ = ["image_grid", "learning_curve"]
