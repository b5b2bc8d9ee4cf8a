"""Recurrent networks of sequences."""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import check_sizes
from probgen.networks.dropout import Dropout, refuse_dropout
from probgen.networks.mlp import Linear, each
from probgen.networks.sequences import Embed, Previous


class _Cell(eqx.Module):
    """A gated recurrent unit: from the gates' inputs and the state, the next state."""

    inputs: Linear
    recurrent: Linear

    def __init__(self, in_dim: int, width: int, *, key: Array):
        keys = jax.random.split(key)
        self.inputs, self.recurrent = Linear(in_dim, 3 * width, key=keys[0]), Linear(width, 3 * width, key=keys[1])

    def __call__(self, state: Array, from_input: Array) -> Array:
        ours, theirs = jnp.split(self.recurrent(state), 3), jnp.split(from_input, 3)
        update, reset = (jax.nn.sigmoid(a + b) for a, b in zip(ours[:2], theirs[:2], strict=True))
        return (1.0 - update) * jnp.tanh(theirs[2] + reset * ours[2]) + update * state


class GRU(eqx.Module):
    """Gated recurrent units: what was seen is remembered in a state of fixed size.

        z, r = σ(W e_i + U h_{i−1} + b),   ñ = tanh(W_n e_i + r ⊙ (U_n h_{i−1})),   h_i = (1 − z) ⊙ ñ + z ⊙ h_{i−1}

    e_i is the vector of x_{i−1}. A density takes as many sequential steps as a draw; the receptive field is unlimited.

    Args:
        embed: one value → [width], or an integer: so many symbols.
        num_params: how many raw numbers a place has.
        width: of the states.
        layers: how many.
        dropout: the rate between the layers, in training.
        context_dim: the size of a context, if it takes one.
        key: draws the first weights.

    References: Learning Phrase Representations using RNN Encoder–Decoder (Cho et al. 2014), arXiv:1406.1078.

    >>> import jax, jax.numpy as jnp
    >>> GRU(5, 5, width=8, key=jax.random.key(0))(jnp.array([0, 4, 2])).shape
    (3, 5)
    """

    previous: Previous
    cells: tuple[_Cell, ...]
    out: Linear
    dropout: Dropout

    def __init__(
        self,
        embed: Embed | int,
        num_params: int,
        *,
        width: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        context_dim: int | None = None,
        key: Array,
    ):
        check_sizes(width=width, layers=layers)
        check_sizes(0, context_dim=context_dim or 0)
        keys = jax.random.split(key, layers + 2)
        self.previous = Previous(embed, width, context_dim, key=keys[0])
        self.cells = tuple(_Cell(width, width, key=k) for k in keys[2:])
        self.out = Linear(width, num_params, scale=0.1, key=keys[1])
        self.dropout = Dropout(dropout)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to one sequence [T, …], and to a context where it was built with `context_dim`."""
        h = self.previous(x, context)
        for cell in self.cells:
            one = lambda state, inputs, cell=cell: (cell(state, inputs),) * 2
            _, h = lax.scan(one, jnp.zeros(h.shape[-1], h.dtype), each(cell.inputs, self.dropout(h)))
        return each(self.out, self.dropout(h))

    def sequential(self) -> Self:
        """Return the network itself: a step takes the state to the next."""
        refuse_dropout(self.dropout)
        return self

    def init(self, context: Array | None = None) -> Any:
        """Return the cache before the first step: the states, and what the context adds."""
        state = jnp.zeros((len(self.cells), self.previous.start.shape[-1]), self.previous.start.dtype)
        return state, self.previous.bind(context)

    def step(self, cache: Any, value: Array, i: Array) -> tuple[Any, Array]:
        """Return the next cache and raw numbers [num_params] of place i, told the value before."""
        states, bound = cache
        h, new = self.previous.step(value, i, bound), []
        for cell, state in zip(self.cells, states, strict=True):
            h = cell(state, cell.inputs(h))
            new.append(h)
        return (jnp.stack(new), bound), self.out(h)
