"""Networks: arrays in, arrays out, one event at a time."""

from probgen.networks.mlp import MLP, Linear
from probgen.networks.masked import MADE
from probgen.networks.residual import ResidualMLP, ResidualCNN, NoiseEmbedding
from probgen.networks.pixel_cnn import PixelCNN
from probgen.networks.gated_pixel_cnn import GatedPixelCNN
from probgen.networks.recurrent import GRU
from probgen.networks.wavenet import WaveNet
from probgen.networks.attention import Transformer
from probgen.networks.integers import Pixels, LevelFeatures, place, Reshaped
from probgen.networks.masked_levels import MaskedLevels
from probgen.networks.convolution import CausalConvolution
from probgen.networks.images import ImageEncoder, ImageDecoder, ResidualBlocks, Convolution, Upsample
from probgen.networks.unet import UNet
from probgen.networks.dit import DiT
from probgen.networks.sequences import Embedding
from probgen.networks.dropout import Dropout
from probgen.networks.with_params import WithParams
from probgen.networks.outputs import with_output_bias

__all__ = [
    # of vectors
    "MLP",
    "MADE",
    "ResidualMLP",
    # of images
    "ImageEncoder",
    "ImageDecoder",
    "PixelCNN",
    "GatedPixelCNN",
    "ResidualCNN",
    "UNet",
    "DiT",
    # of sequences
    "GRU",
    "WaveNet",
    "Transformer",
    # of integers
    "Pixels",
    "MaskedLevels",
    "LevelFeatures",
    "place",
    # what they are built of
    "Linear",
    "Convolution",
    "Upsample",
    "ResidualBlocks",
    "CausalConvolution",
    "Embedding",
    "NoiseEmbedding",
    "Dropout",
    # other libraries' networks, and networks in use
    "WithParams",
    "Reshaped",
    "with_output_bias",
]
