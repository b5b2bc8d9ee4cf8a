"""Compression: codes of symbols and what they cost; a model of integers as a lossless codec."""

from probgen.compression.information import entropy, cross_entropy, divergence, conditional_entropy
from probgen.compression.prefix import (
    PrefixCode,
    Trie,
    is_prefix_free,
    kraft_sum,
    canonical,
    shannon,
    shannon_fano,
    huffman,
    blocks,
)
from probgen.compression.integers import elias_gamma, elias_delta, golomb, golomb_size
from probgen.compression.arithmetic import integer_cdf, arithmetic_encode, arithmetic_decode
from probgen.compression.codec import Codec, CodecReport
from probgen.compression.byte_files import compress, decompress, bundled, Compressed
from probgen.compression.programs import Sites
from probgen.compression.message import Message
from probgen.compression.stack import Stack

__all__ = [
    # what no code goes below
    "entropy",
    "cross_entropy",
    "divergence",
    "conditional_entropy",
    # codes of symbols
    "PrefixCode",
    "Trie",
    "is_prefix_free",
    "kraft_sum",
    "canonical",
    "shannon",
    "shannon_fano",
    "huffman",
    "blocks",
    # of integers
    "elias_gamma",
    "elias_delta",
    "golomb",
    "golomb_size",
    # of sequences
    "integer_cdf",
    "arithmetic_encode",
    "arithmetic_decode",
    "Stack",
    # of a model's events
    "Sites",
    "Codec",
    "CodecReport",
    "Message",
    # of files of any bytes
    "compress",
    "decompress",
    "Compressed",
    "bundled",
]
