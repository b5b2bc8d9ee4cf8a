"""What a network says before it has learned: the biases that are added last."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jax import Array

from probgen.core import Contextual
from probgen.networks.attention import Transformer
from probgen.networks.gated_pixel_cnn import GatedPixelCNN
from probgen.networks.integers import Pixels
from probgen.networks.masked import MADE
from probgen.networks.pixel_cnn import PixelCNN
from probgen.networks.recurrent import GRU
from probgen.networks.wavenet import WaveNet


def with_output_bias(network: Any, raw: Callable[[int], Array]) -> Any:
    """Return the causal network with the last biases `raw(places)`, [places, num_params]: row d % places for place d.

    A `MADE` has biases for each place, PixelCNNs for each channel, networks of sequences one row for all places.

    Args:
        network: one of those.
        raw: the number of places → their biases.

    Raises ValueError where the network is none of them.

    >>> import jax, jax.numpy as jnp
    >>> net = MADE(2, 1, out_scale=0.0, key=jax.random.key(0))
    >>> with_output_bias(net, lambda places: jnp.arange(5.0, 5.0 + places)[:, None])(jnp.ones(2)).tolist()
    [[5.0], [6.0]]
    """
    if isinstance(network, Contextual | Pixels):
        return eqx.tree_at(lambda net: net.network, network, with_output_bias(network.network, raw))
    if isinstance(network, MADE):
        bias = raw(network.dependence.dim)[np.asarray(network.dependence.order)].reshape(-1)
        return eqx.tree_at(lambda net: net.layers[-1].bias, network, bias)
    if isinstance(network, PixelCNN | GatedPixelCNN):
        return eqx.tree_at(lambda net: net.out.out.bias, network, raw(len(network.out.out.bias)))
    if isinstance(network, GRU | WaveNet | Transformer):
        return eqx.tree_at(lambda net: net.out.bias, network, raw(1)[0])
    raise ValueError(f"network: expected one of probgen.networks, whose last biases are known, got {type(network)}")
