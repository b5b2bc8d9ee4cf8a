"""Masked dense networks: output d sees only the inputs that come before it in an order."""

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.networks.dropout import Dropout
from probgen.networks.mlp import Linear


class MaskedLinear(eqx.Module):
    """y = (W ⊙ M) x + b, with M_ij = 1 where out_degrees_i ≥ in_degrees_j.

    The degrees are static integers, and the mask is made from them at trace time: a mask that is an array among the
    leaves could be trained.

    >>> import jax, jax.numpy as jnp
    >>> layer = MaskedLinear((1, 2, 3), (1, 2), key=jax.random.key(0))
    >>> jax.jacobian(layer)(jnp.ones(3)) == 0
    Array([[False,  True,  True],
           [False, False,  True]], dtype=bool)
    """

    linear: Linear
    in_degrees: tuple[int, ...] = eqx.field(static=True)
    out_degrees: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, in_degrees: Sequence[int], out_degrees: Sequence[int], *, scale: float = 1.0, key: Array):
        self.in_degrees, self.out_degrees = tuple(in_degrees), tuple(out_degrees)
        self.linear = Linear(len(self.in_degrees), len(self.out_degrees), scale=scale, key=key)

    def __call__(self, x: Array) -> Array:
        """Apply the layer to a vector."""
        mask = np.greater_equal.outer(np.array(self.out_degrees), np.array(self.in_degrees))
        return jnp.where(mask, self.linear.weight, 0.0) @ x + self.linear.bias


class MADE(eqx.Module):
    """A masked MLP, x [D] (and a context) → [D, num_params], whose row d depends only on x before d in the order.

    The input with position i in the order (from 1) has degree i; hidden units go through the degrees 1..D−1 in turn
    (0 too with a context, which every unit of the first layer sees); the output of position i has degree i − 1.

    Args: `dim` D; `num_params` for each output; `hidden` widths; `order`: a permutation of 0..D−1, the first to be
    generated first (0..D−1 by default); `context_dim`; `activation`; `dropout` after each hidden layer; `out_scale`.
    Raises ValueError where `order` is no permutation.

    References: MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray, Larochelle 2015),
    arXiv:1502.03509.

    >>> import jax, jax.numpy as jnp
    >>> net = MADE(3, 2, hidden=(8,), key=jax.random.key(0))
    >>> net(jnp.ones(3)).shape
    (3, 2)
    """

    layers: tuple[MaskedLinear, ...]
    context: Linear | None
    dropout: Dropout
    num_params: int = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        num_params: int,
        *,
        hidden: Sequence[int] = (256, 256),
        order: Sequence[int] | None = None,
        context_dim: int | None = None,
        activation: Callable[[Array], Array] = jax.nn.silu,
        dropout: float = 0.0,
        out_scale: float = 0.1,
        key: Array,
    ):
        order = tuple(range(dim)) if order is None else tuple(order)
        if sorted(order) != list(range(dim)):
            raise ValueError(f"order: expected a permutation of 0..{dim - 1}, got {order}")
        position = np.empty(dim, int)
        position[list(order)] = np.arange(1, dim + 1)
        lowest = 0 if context_dim else min(1, dim - 1)
        units = [lowest + np.arange(size) % max(dim - lowest, 1) for size in hidden]
        every: list[np.ndarray] = [position, *units, np.repeat(position - 1, num_params)]
        degrees = [tuple(int(d) for d in layer) for layer in every]
        keys = jax.random.split(key, len(degrees))
        scales = [math.sqrt(2.0)] * len(hidden) + [out_scale]
        self.layers = tuple(
            MaskedLinear(i, o, scale=s, key=k)
            for i, o, s, k in zip(degrees[:-1], degrees[1:], scales, keys, strict=False)
        )
        self.context = Linear(context_dim, len(degrees[1]), key=keys[-1]) if context_dim else None
        self.dropout, self.num_params, self.activation = Dropout(dropout), int(num_params), activation

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to a vector, and to a context where it was built with `context_dim`."""
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            if i == 0 and self.context is not None and context is not None:
                x = x + self.context(context)
            x = self.dropout(self.activation(x))
        return self.layers[-1](x).reshape(-1, self.num_params)
