"""Networks: arrays in, arrays out, one event at a time."""

from probgen.networks.convolution import CausalConvolution, GatedPixelCNN
from probgen.networks.dropout import Dropout
from probgen.networks.levels import Pixels
from probgen.networks.masked import MADE
from probgen.networks.mlp import MLP, Linear
from probgen.networks.time import NoiseEmbedding, ResidualMLP

__all__ = [
    "MADE",
    "MLP",
    "CausalConvolution",
    "Dropout",
    "GatedPixelCNN",
    "Linear",
    "NoiseEmbedding",
    "Pixels",
    "ResidualMLP",
]
