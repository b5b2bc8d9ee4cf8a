"""Networks on integer events, and of logits for their levels."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from probgen.core import check_sizes, sequential, static_functions
from probgen.networks.dropout import Dropout, refuse_dropout


def place(x: Array, levels: int) -> Array:
    """Return 2 x / (levels − 1) − 1: the integers 0..levels−1 evenly in [−1, 1].

    Args:
        x: integers, [...].
        levels: how many, at least 2.

    >>> import jax.numpy as jnp
    >>> place(jnp.arange(3), 3).tolist()
    [-1.0, 0.0, 1.0]
    """
    check_sizes(2, levels=levels)
    return 2.0 / (levels - 1) * x - 1.0


class Pixels(eqx.Module):
    """A network of reals that takes integer events 0..levels−1: reshaped, and the levels spread over [−1, 1].

    Args:
        network: reals of `shape` (and a context, if any) → anything.
        levels: how many integers, at least 2.
        shape: of the reals that the network takes.
        dropout: the rate at which numbers are dropped once a key is bound.

    Raises ValueError where there are fewer levels.

    >>> import jax.numpy as jnp
    >>> Pixels(lambda x: x, levels=3, shape=(4,))(jnp.array([[0, 1], [2, 2]])).tolist()
    [-1.0, 0.0, 1.0, 1.0]
    """

    network: Any = eqx.field(converter=static_functions)
    levels: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dropout: Dropout

    def __init__(self, network: Any, levels: int, shape: tuple[int, ...], *, dropout: float = 0.0):
        if levels < 2:
            raise ValueError(f"levels: expected at least 2, got {levels}")
        self.network, self.levels, self.shape, self.dropout = network, int(levels), shape, Dropout(dropout)

    def __call__(self, x: Array, *context: Array) -> Array:
        """Apply the network to one event."""
        return self.network(self.dropout(place(x, self.levels).reshape(self.shape)), *context)

    def sequential(self) -> "Pixels | None":
        """Return the network's steps, told integers; None where it has none. Raises ValueError where dropout is
        bound."""
        refuse_dropout(self.dropout)
        steps = sequential(self.network)
        return None if steps is None else Pixels(steps, self.levels, self.shape)

    def init(self, *context: Array) -> Any:
        """Return the cache before the first step."""
        return self.network.init(*context)

    def step(self, cache: Any, value: Array, i: Array) -> tuple[Any, Array]:
        """Take one step of the network's."""
        return self.network.step(cache, place(value, self.levels), i)


class LevelFeatures(eqx.Module):
    """Logits of many levels at every place, out of few numbers of a network: a last layer that all places share.

        F_dk = b_dk + Σ_r G_dr B_rk,   B_rk = cos(π r (k + ½) / L) at the start, r = 1..R

    A layer from a width W to all D·L logits has W·D·L weights; here it is W·D·R, and (R + D) L more. All of G, B and b
    are learned.

    Args:
        network: anything → D·R numbers G.
        size: D.
        levels: L.
        rank: R.

    References: that of low rank as in Breaking the Softmax Bottleneck (Yang et al. 2018), arXiv:1711.03953, section 2.

    >>> LevelFeatures(lambda x: x, size=2, levels=5, rank=3)(jnp.zeros(6)).shape
    (10,)
    """

    network: Any = eqx.field(converter=static_functions)
    basis: Array
    bias: Array

    def __init__(self, network: Any, *, size: int, levels: int, rank: int):
        check_sizes(size=size, levels=levels, rank=rank)
        self.network, self.bias = network, jnp.zeros((size, levels))
        self.basis = jnp.cos(jnp.pi / levels * jnp.arange(1, rank + 1)[:, None] * (jnp.arange(levels) + 0.5))

    def __call__(self, *args: Array) -> Array:
        """Return the logits of one event, [D·L]."""
        features = self.network(*args).reshape(len(self.bias), -1)
        return (features @ self.basis + self.bias).ravel()


class Reshaped(eqx.Module):
    """A network that takes events of another shape: vectors of images, for a dense one.

    Args:
        network: `shape` (and a context, if any) → anything.
        shape: of the events that the network takes.

    >>> import jax.numpy as jnp
    >>> Reshaped(lambda x: x, (4,))(jnp.ones((2, 2, 1))).shape
    (4,)
    """

    network: Any = eqx.field(converter=static_functions)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x: Array, *context: Array) -> Array:
        """Apply the network to one event."""
        return self.network(x.reshape(self.shape), *context)
