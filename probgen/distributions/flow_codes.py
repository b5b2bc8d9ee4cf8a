"""How a flow is coded: local bits-back, with a little noise that comes back.

Of y on a grid, with z = f⁻¹(y) and J = ∂f⁻¹/∂y there:

    read z̄ by Normal(z, σ² J Jᵀ), write y by Normal(f(z̄), σ² I), write z̄ by the base

Where f is straight over a length of σ, that costs −log₂ p(y) less the grid's bits. It is in double precision, since a
reader has to find the same f(z̄).

References: Compression with Flows via Local Bits-Back Coding (Ho, Lohn, Abbeel 2019), arXiv:1905.08500, algorithm 1.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.distributions.coding import Correlated, Message, Normals, check_lanes, coded, in_double, over_lanes

_NOISE = 4.0  # σ, in steps of the grid of y
_FINER = 2.0**-12  # of the grid of z̄
_BITS = 18  # about, of one number that is read


def push_flow(d: Any, message: Message, y: np.ndarray) -> None:
    """Write events of the message's grid, [lanes, *event_shape].

    Args:
        d: a `Transformed`, of batch shape () or (lanes,).
        message: to write to.
        y: the events.
    """
    check_lanes(d)
    sigma, noise_grid = _NOISE * message.width, message.on_grid(message.width * _FINER)
    message.stir(_BITS * math.prod(d.event_shape))
    with jax.enable_x64(True):
        wide = in_double(d)
        z = _noise_of(wide, y, sigma).pop(noise_grid)
        _data_of(wide, z, sigma).push(message, y)
        _base_of(wide, np.arange(message.lanes)).push(noise_grid, z.reshape(-1, *_base_shape(d)))


def pop_flow(d: Any, message: Message) -> np.ndarray:
    """Read events of the message's grid, [lanes, *event_shape].

    Args:
        d: as it was there.
        message: to read.
    """
    sigma, noise_grid = _NOISE * message.width, message.on_grid(message.width * _FINER)
    with jax.enable_x64(True):
        wide = in_double(d)
        z = _base_of(wide, np.arange(message.lanes)).pop(noise_grid).reshape(message.lanes, -1)
        y: np.ndarray = _data_of(wide, z, sigma).pop(message)
        _noise_of(wide, y, sigma).push(noise_grid, z)
    message.stir(_BITS * math.prod(d.event_shape))
    return y


def _base_shape(d: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = _base(getattr(d, "model", d)).event_shape
    return shape


def _base(d: Any) -> Any:
    return _base(d.base) if hasattr(d, "bijector") else d


@jax.jit
def _base_of(d: Any, lanes: Array) -> Any:
    return over_lanes(d, lambda d, _: coded(_base(d), ()), lanes)


@jax.jit
def _noise_of(d: Any, y: Array, sigma: Array) -> Correlated:
    """Return what codes z̄ given y."""

    def one(d: Any, y: Array) -> Correlated:
        noise = lambda flat: _inverse(d, flat.reshape(y.shape)).reshape(-1)
        flat = y.reshape(-1).astype(float)
        jacobian = jax.jacfwd(noise)(flat)
        r = jnp.linalg.qr(jacobian.T, mode="r")  # J Jᵀ = Rᵀ R
        return Correlated(noise(flat), sigma * r.T * jnp.sign(jnp.diagonal(r)))

    found: Correlated = over_lanes(d, one, y)
    return found


@jax.jit
def _data_of(d: Any, z: Array, sigma: Array) -> Normals:
    """Return what codes y given z̄."""

    def one(d: Any, z: Array) -> Normals:
        y = _forward(d, z.reshape(_base(d).event_shape))
        return Normals(y, jnp.full(y.shape, sigma))

    found: Normals = over_lanes(d, one, z)
    return found


def _inverse(d: Any, y: Array) -> Array:
    return _inverse(d.base, d.bijector.inverse(y)) if hasattr(d, "bijector") else y


def _forward(d: Any, z: Array) -> Array:
    return d.bijector.forward(_forward(d.base, z)) if hasattr(d, "bijector") else z
