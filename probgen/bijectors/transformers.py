"""Transformers: raw network output in, an elementwise distrax bijector out.

A transformer says how many raw numbers it takes for one coordinate (`num_params`). Raw zeros give the identity.
"""

from typing import Protocol

import distrax
import equinox as eqx
import jax.numpy as jnp
from jax import Array


class Transformer(Protocol):
    """What a coupling or an autoregressive bijector asks of a transformer."""

    @property
    def num_params(self) -> int:
        """Raw numbers for one coordinate."""
        ...

    def __call__(self, raw: Array) -> distrax.Bijector:
        """An elementwise bijector of shape [...] from raw numbers [..., num_params]."""
        ...


class AffineTransformer(eqx.Module):
    """y = exp(s) · x + t with s = c · tanh(raw₁ / c) and t = raw₀.

    The bound c on the log-scale keeps deep flows stable at any raw output; near zero it changes nothing.

    Args: `max_log_scale`: c, in nats for one coordinate.

    References: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio 2017), arXiv:1605.08803.

    >>> import jax.numpy as jnp
    >>> AffineTransformer()(jnp.zeros((3, 2))).forward(jnp.ones(3))
    Array([1., 1., 1.], dtype=float32)
    """

    max_log_scale: float = eqx.field(static=True, default=3.0)

    @property
    def num_params(self) -> int:
        """Two: shift and log-scale."""
        return 2

    def __call__(self, raw: Array) -> distrax.Bijector:
        """The affine bijector of shape [...] from raw numbers [..., 2]."""
        log_scale = self.max_log_scale * jnp.tanh(raw[..., 1] / self.max_log_scale)
        return distrax.ScalarAffine(shift=raw[..., 0], log_scale=log_scale)


class ShiftTransformer(eqx.Module):
    """y = x + t: additive, of unit determinant.

    References: NICE: Non-linear Independent Components Estimation (Dinh, Krueger, Bengio 2015), arXiv:1410.8516.

    >>> import jax.numpy as jnp
    >>> ShiftTransformer()(jnp.ones((3, 1))).forward(jnp.ones(3))
    Array([2., 2., 2.], dtype=float32)
    """

    @property
    def num_params(self) -> int:
        """One: the shift."""
        return 1

    def __call__(self, raw: Array) -> distrax.Bijector:
        """The shift of shape [...] from raw numbers [..., 1]."""
        return distrax.ScalarAffine(shift=raw[..., 0], log_scale=jnp.zeros_like(raw[..., 0]))
