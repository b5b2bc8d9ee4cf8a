"""How a diffusion of a finite number of steps is coded: bits-back, layer by layer, from the data up.

    read z_0 by q(z_0 | x), write x by p(x | z_0); then for i = 1, …, T read z_i by q(z_i | z_{i−1}), and write z_{i−1}
    by p(z_{i−1} | z_i); write z_T by Normal(0, I)

Each layer gives its bits back to the next, so that hardly more than one layer's bits have to be borrowed.

References: Bit-Swap (Kingma, Abbeel, Ho 2019), arXiv:1905.06845; Variational Diffusion Models (Kingma, Salimans, Poole,
Ho 2021), arXiv:2107.00630.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.distributions.coding import Message, Normals, coded, over_lanes
from probgen.score.sde import coefficients, posterior

_BITS = 12  # about, of one number of a layer
_FINENESS = 4.0  # steps of the grid in the narrowest of the normals


def push_chain(model: Any, message: Message, x: np.ndarray) -> None:
    """Write events [lanes, *event_shape].

    Args:
        model: a `stepwise` score model, of batch shape () or (lanes,).
        message: to write to.
        x: the events.
    """
    found, bits = log_snrs(model), _BITS * x[0].size
    message = message.on_grid(_width(found))
    message.stir(bits)
    z = _noisier(found, 0, np.asarray(_placed(model, x))).pop(message)
    _data(model, z).push(message, x)
    for i in range(1, len(found)):
        message.stir(bits)
        upper = _noisier(found, i, z).pop(message)
        _cleaner(model, i, upper).push(message, z)
        z = upper
    _prior(z).push(message, z)


def pop_chain(model: Any, message: Message) -> np.ndarray:
    """Read events [lanes, *event_shape].

    Args:
        model: as it was there.
        message: to read.
    """
    found = log_snrs(model)
    message = message.on_grid(_width(found))
    z = _prior(np.zeros((message.lanes, *model.event_shape))).pop(message)
    bits = _BITS * z[0].size
    for i in reversed(range(1, len(found))):
        lower = _cleaner(model, i, z).pop(message)
        _noisier(found, i, lower).push(message, z)
        message.stir(bits)
        z = lower
    x: np.ndarray = _data(model, z).pop(message)
    _noisier(found, 0, np.asarray(_placed(model, x))).push(message, z)
    message.stir(bits)
    return x


def log_snrs(model: Any) -> np.ndarray:
    """Return λ of z_0 to z_T. Raises ValueError where the model's bound is not that of so many steps."""
    inner = getattr(model, "model", model)
    if not inner.stepwise:
        raise ValueError(
            "model: a diffusion in continuous time has no layers to code; model.replace(sampler=Ancestral(steps), "
            "stepwise=True) has"
        )
    found = np.asarray(inner.sde.log_snr(inner.step_times()[::-1]), np.float64)
    if not np.all(np.diff(found) < 0):
        raise ValueError(f"model: expected steps with ever more noise, got λ {found}")
    return found


def _width(found: np.ndarray) -> float:
    """Return the steps of a grid as fine as the narrowest of the chain's normals asks for."""
    _, spreads = _steps_up(found)
    least = min(spreads.min(initial=1.0), 1 / math.sqrt(1 + math.exp(found[0])))
    return 2.0 ** math.floor(math.log2(least / _FINENESS))


def _steps_up(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor and the spread of q(z_i | z_{i−1}), i = 1..T."""
    alpha_squared = 1 / (1 + np.exp(-found))
    ratio = alpha_squared[1:] / alpha_squared[:-1]
    # σ_i² − ratio σ_{i−1}² = σ_i² (1 − e^{λ_i − λ_{i−1}})
    return np.sqrt(ratio), np.sqrt((1 - alpha_squared[1:]) * -np.expm1(np.diff(found)))


def _noisier(found: np.ndarray, i: int, below: np.ndarray) -> Normals:
    """Return what codes z_i given z_{i−1}, or z_0 given placed data: float64, whatever the model's floats are."""
    if i == 0:
        factor, spread = 1 / math.sqrt(1 + math.exp(-found[0])), 1 / math.sqrt(1 + math.exp(found[0]))
    else:
        factors, spreads = _steps_up(found)
        factor, spread = factors[i - 1], spreads[i - 1]
    loc = factor * np.asarray(below, np.float64)
    return Normals(loc, np.full_like(loc, spread))  # type: ignore[arg-type]


def _prior(z: np.ndarray) -> Normals:
    return Normals(np.zeros(z.shape), np.ones(z.shape))  # type: ignore[arg-type]


@jax.jit
def _placed(model: Any, x: Array) -> Array:
    v: Array = over_lanes(model, lambda d, x: d.decoder.place(x), x)
    return v


@jax.jit
def _data(model: Any, z: Array) -> Any:
    def one(d: Any, z: Array) -> Any:
        log_snr = d.sde.log_snr(d.step_times()[-1])
        return coded(d.decoder(z, d.denoiser.checked(z, log_snr), log_snr).to_event(z.ndim), ())

    return over_lanes(model, one, z)


@jax.jit
def _cleaner(model: Any, i: Array, z: Array) -> Any:
    """Return what codes z_{i−1} given z_i."""

    def one(d: Any, z: Array) -> Any:
        found = d.sde.log_snr(d.step_times()[::-1])
        log_snr, noisier = found[i - 1], found[i]
        v = d.denoiser.checked(z, noisier)
        mean, spread = posterior(v, z, coefficients(noisier)[0], coefficients(log_snr), log_snr - noisier)
        return Normals(mean, jnp.broadcast_to(spread, z.shape))

    return over_lanes(model, one, z)
