"""Networks: arrays in, arrays out, one event at a time."""

from probgen.networks.dropout import Dropout
from probgen.networks.mlp import MLP, Linear
from probgen.networks.time import NoiseEmbedding, ResidualMLP

__all__ = ["MLP", "Dropout", "Linear", "NoiseEmbedding", "ResidualMLP"]
