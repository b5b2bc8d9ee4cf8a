"""One event in, one event and a log-determinant out. Directions and order are distrax's: forward is base → data."""

from probgen.bijectors.base import Bijector
from probgen.bijectors.constant import Constant, as_bijector
from probgen.bijectors.coupling import Coupling
from probgen.bijectors.elementwise import Affine, Sigmoid
from probgen.bijectors.linear import Permute, Reshape, Reverse, Rotation
from probgen.bijectors.structure import Chain, Inverse, Logit, Stacked, stack
from probgen.bijectors.transformers import AffineTransformer, ShiftTransformer

__all__ = [
    "Affine",
    "AffineTransformer",
    "Bijector",
    "Chain",
    "Constant",
    "Coupling",
    "Inverse",
    "Logit",
    "Permute",
    "Reshape",
    "Reverse",
    "Rotation",
    "ShiftTransformer",
    "Sigmoid",
    "Stacked",
    "as_bijector",
    "stack",
]
