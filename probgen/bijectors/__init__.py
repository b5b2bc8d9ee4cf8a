"""One event in, one event and a log-determinant out. Directions and order are distrax's: forward is base → data."""

from probgen.bijectors.base import Bijector
from probgen.bijectors.traits import Scalar, Elementwise, Rearranging
from probgen.bijectors.structure import Chain, Inverse, Stacked, stack, Logit
from probgen.bijectors.blocks import Concatenate, Vmap
from probgen.bijectors.constant import Constant, as_bijector
from probgen.bijectors.coupling import Coupling
from probgen.bijectors.masked_autoregressive import MaskedAutoregressive, step_by_step, pass_by_pass, fixed_point
from probgen.bijectors.elementwise import Affine, Power, LeakyReLU, Exp, Softplus, Sigmoid, Tanh, GaussianCDF
from probgen.bijectors.spline import Spline, Tails
from probgen.bijectors.mixture_cdf import MixtureCDF, LOGISTIC, GAUSSIAN
from probgen.bijectors.piecewise_linear import PiecewiseLinear
from probgen.bijectors.inversion import invert_increasing
from probgen.bijectors.linear import ActNorm, LU, Triangular, LowRank
from probgen.bijectors.orthogonal import Householder, Rotation
from probgen.bijectors.ode import ODE, ODESolver, Velocity
from probgen.bijectors.reorder import Permute, Reverse, Reshape
from probgen.bijectors.transformers import (
    AffineTransformer,
    ShiftTransformer,
    SplineTransformer,
    MixtureCDFTransformer,
    LeakyReLUTransformer,
    PowerTransformer,
    Composed,
)

__all__ = [
    # what to derive from
    "Bijector",
    "Scalar",
    "Elementwise",
    "Rearranging",
    # bijectors made of bijectors
    "Chain",
    "Inverse",
    "Stacked",
    "stack",
    "Concatenate",
    "Vmap",
    "Constant",
    "as_bijector",
    # a part of the event, or what comes before, transforms the rest
    "Coupling",
    "MaskedAutoregressive",
    "step_by_step",
    "pass_by_pass",
    "fixed_point",
    # number by number
    "Affine",
    "Spline",
    "Tails",
    "MixtureCDF",
    "LOGISTIC",
    "GAUSSIAN",
    "PiecewiseLinear",
    "Power",
    "LeakyReLU",
    "Exp",
    "Softplus",
    "Sigmoid",
    "Logit",
    "Tanh",
    "GaussianCDF",
    "invert_increasing",
    # all numbers of a vector together
    "ActNorm",
    "LU",
    "Triangular",
    "LowRank",
    "Householder",
    "Rotation",
    "Permute",
    "Reverse",
    "Reshape",
    # along the solution of a differential equation
    "ODE",
    "ODESolver",
    "Velocity",
    # transformers: raw network output in, an elementwise bijector out
    "AffineTransformer",
    "ShiftTransformer",
    "SplineTransformer",
    "MixtureCDFTransformer",
    "LeakyReLUTransformer",
    "PowerTransformer",
    "Composed",
]
