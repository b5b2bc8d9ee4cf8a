"""A denoiser that sees its own first guess."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import given, row_number, with_key
from probgen.score.denoiser import Denoiser, NetworkDenoiser


class SelfConditioned(Denoiser):
    """A denoiser D whose network sees z and a guess of the data side by side: x̂ = D(z, λ; D(z, λ; 0)).

    The guess carries no gradient, and in training half of the rows have 0 for it, so that D(z, λ; 0) learns too. Two
    calls of the network make it a function of z and λ, with a bound and an ODE as any other denoiser.

    Args:
        denoiser: D; its network takes events twice as long on their last axis.
        key: the randomness of one training step; `core.with_key` sets it.

    Raises ValueError where that is no `NetworkDenoiser`.

    References: Analog Bits (Chen, Zhang, Hinton 2023), arXiv:2208.04202, section 3.2.
    """

    denoiser: NetworkDenoiser
    key: Array | None = given(default=None)

    def __check_init__(self) -> None:
        if not isinstance(self.denoiser, NetworkDenoiser):
            raise ValueError(f"denoiser: expected a score.NetworkDenoiser, got {type(self.denoiser).__name__}")

    def bind_key(self, key: Array) -> "SelfConditioned":
        """Return the same denoiser with the randomness of one training step."""
        inner, own = jax.random.split(key)
        return SelfConditioned(with_key(self.denoiser, inner), own)

    def without_context(self) -> "SelfConditioned":
        """Return the denoiser of all data, whatever their context. Raises ValueError where there is none."""
        return SelfConditioned(self.denoiser.without_context(), self.key)

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z]."""
        guess = lax.stop_gradient(self._seeing(jnp.zeros_like(z))(z, log_snr))
        if self.key is not None:
            guess = guess * jax.random.bernoulli(jax.random.fold_in(self.key, row_number()), 0.5)
        return self._seeing(guess)(z, log_snr)

    def _seeing(self, guess: Array) -> NetworkDenoiser:
        return eqx.tree_at(lambda d: d.network, self.denoiser, _Beside(self.denoiser.network, guess))


class _Beside(eqx.Module):
    """A network that sees an event and a given one side by side."""

    network: Any
    other: Array = given()

    def __call__(self, event: Array, context: Array) -> Array:
        return self.network(jnp.concatenate([event, self.other], -1), context)
