"""Autoregressive models: products of conditional distributions in an order; recipes."""

from probgen.autoregressive.autoregressive import Autoregressive
from probgen.autoregressive.made import made
from probgen.autoregressive.pixel_cnn import gated_pixel_cnn

__all__ = ["Autoregressive", "gated_pixel_cnn", "made"]
