"""Autoregressive models: products of conditional distributions in an order; recipes."""

from probgen.autoregressive.autoregressive import Autoregressive
from probgen.autoregressive.made import made
from probgen.autoregressive.pixel_cnn import pixel_cnn, gated_pixel_cnn, pixel_cnn_pp
from probgen.autoregressive.sequences import char_rnn, wavenet, transformer
from probgen.autoregressive.orders import Order
from probgen.autoregressive.ensemble import OrderEnsemble
from probgen.autoregressive.partial import Completion, Ragged
from probgen.autoregressive.sampling import step_by_step, pass_by_pass, fixed_point
from probgen.autoregressive.generation import generate

__all__ = [
    "Autoregressive",
    # recipes: of any event, of images, of sequences
    "made",
    "pixel_cnn",
    "gated_pixel_cnn",
    "pixel_cnn_pp",
    "char_rnn",
    "wavenet",
    "transformer",
    # in which order
    "Order",
    "OrderEnsemble",
    # parts of events
    "Completion",
    "Ragged",
    # how a draw is made
    "step_by_step",
    "pass_by_pass",
    "fixed_point",
    "generate",
]
