"""Dropout, whose randomness is bound before a training step."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import given, row_number
from probgen.networks.layers import keep


class Dropout(eqx.Module):
    """y = x · m / (1 − rate), m ~ Bernoulli(1 − rate), once a key is bound; y = x without one.

    `core.with_key(model, key)` binds a key for one training step. Rows of a batch get masks of their own, equal rows
    too: the key is folded with a hash of the row's numbers and with the row's number (`core.row_number`), so no key
    axis has to follow the batch through the network. The row's number is known wherever probgen maps over rows: in
    every density, draw, bijector and conditional, and in `core.vectorize(net, ndims)`. A plain `jax.vmap(net)` does
    not tell it, and rows of equal numbers then share a mask.

    Args:
        rate: the probability, below 1, that a number is dropped.
        key: the randomness of one training step; `core.with_key` sets it.

    References: Dropout (Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014), JMLR 15.

    >>> import jax, jax.numpy as jnp
    >>> drop = Dropout(0.5)
    >>> bool((drop(jnp.ones(4)) == 1).all())
    True
    >>> sorted(set(drop.bind_key(jax.random.key(0))(jnp.ones(100)).tolist()))
    [0.0, 2.0]
    """

    rate: float = eqx.field(static=True)
    key: Array | None = given(default=None)

    def __check_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"dropout rate: expected a number in [0, 1), got {self.rate}")

    @property
    def is_random(self) -> bool:
        """Whether it does anything in training."""
        return self.rate > 0.0

    def bind_key(self, key: Array) -> "Dropout":
        """Return the same layer with the randomness of one training step."""
        return Dropout(self.rate, key)

    def __call__(self, x: Array) -> Array:
        """Drop numbers of one event."""
        if self.key is None or not self.is_random:
            return x
        row = jax.random.fold_in(self.key, _hash(x) + row_number())
        seed = keep(jax.random.bits(row, (2,), jnp.uint32))  # the gradient of `scan_layers` finds the same numbers
        kept = _random_bits(seed, x.shape) < jnp.uint32(min(round((1.0 - self.rate) * 2**32), 2**32 - 1))
        return jnp.where(kept, x / (1.0 - self.rate), 0.0)


def _random_bits(seed: Array, shape: tuple[int, ...]) -> Array:
    """Return 32 random bits for each place: its number, hashed with two words of the seed.

    It takes an eighth of the operations of `jax.random.bits`, and they fuse with what reads them, so that nothing is
    stored.
    """
    number = lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _mix(_mix(number * jnp.uint32(0x9E3779B1) + seed[0]) ^ seed[1])


def _mix(bits: Array) -> Array:
    """Permute 32 bits such that every bit of the input moves every bit of the output (Wellons 2018)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def _hash(x: Array) -> Array:
    """Return 32 bits that differ between rows: a multiplicative hash, summed over positions with odd weights of their
    own."""
    bits = _mix(lax.bitcast_convert_type(lax.stop_gradient(x).astype(jnp.float32), jnp.uint32).ravel())
    weights = 2 * jnp.arange(bits.size, dtype=jnp.uint32) * jnp.uint32(0x9E3779B1) + 1
    return jnp.sum(bits * weights, dtype=jnp.uint32)


def refuse_dropout(dropout: Dropout) -> None:
    """Raise ValueError where dropout is bound: another pass would drop other numbers."""
    if dropout.key is not None and dropout.is_random:
        raise ValueError("dropout: a network with a key bound drops other units at each pass, and has no steps")
