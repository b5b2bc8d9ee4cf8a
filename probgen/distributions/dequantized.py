"""Discrete data under a continuous density: dequantization."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import DensityKind, check_sizes, split_key, weakest
from probgen.distributions.base import Distribution
from probgen.distributions.coding import Message, coded
from probgen.distributions.in_blocks import map_particles
from probgen.distributions.lifting import verb
from probgen.distributions.wrapped import kind_of, log_density

# a flow is coded at y = x + u on a fine grid, and not close to an integer, where one on an interval is not straight
_WIDTH, _BITS = 2.0**-22, 22
_LEVELS = (1022, 64, 64)  # u is read in these parts, and has as many values, out of 2^22
_EDGE = 2**12


class Dequantized(Distribution):
    """The distribution of the integers ⌊y⌋ of a continuous y ~ density on [0, levels)ᴰ.

        P(x) = ∫_{[0,1)ᴰ} p(x + u) du  ≥  exp E_u log p(x + u)

    The integral has no closed form, so that there are weights p(x + u) / q(u | x), u ~ q, uniform by default; the bound
    by their mean tightens with the particles, and the better the nearer q is to p(x + u) / P(x).

    Args:
        density: a distribution over real events whose numbers fall into [0, levels).
        levels: how many integers, at least 2.
        noise: x ↦ the distribution q(u | x) of events in [0, 1)ᴰ, such as a conditional flow on the unit interval;
            uniform by default.

    References: A note on the evaluation of generative models (Theis, van den Oord, Bethge 2016), arXiv:1511.01844;
    other noise than uniform: Flow++ (Ho, Chen, Srinivas, Duan, Abbeel 2019), arXiv:1902.00275.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> model = Dequantized(dist.Uniform(0.0, 4 * jnp.ones(2)).to_event(1), levels=4)
    >>> bool(jnp.allclose(model.log_prob_bound(jax.random.key(0), jnp.array([1, 3])), -2 * jnp.log(4)))
    True
    """

    pytree_data_fields = ("density", "noise")
    pytree_aux_fields = ("levels",)

    def __init__(
        self,
        density: dist.Distribution,
        levels: int,
        *,
        noise: Callable[[Array], dist.Distribution] | None = None,
        validate_args: bool | None = None,
    ):
        check_sizes(2, levels=levels)
        self.density, self.levels, self.noise = density, levels, noise
        super().__init__(density.batch_shape, density.event_shape, validate_args=validate_args)

    @property
    def kind(self) -> DensityKind:  # type: ignore[override]
        """The kind "weights", or less where the density has less."""
        return weakest("weights", kind_of(self.density))

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.independent(constraints.integer_interval(0, self.levels - 1), self.event_dim)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        y = self.density.sample(key, sample_shape)
        return jnp.clip(jnp.floor(y), 0, self.levels - 1).astype(jnp.int32)

    def _log_weights(self, key: Array, value: Array) -> Array:
        key, noise_key = jax.random.split(split_key(key, ()))
        inside = 1 - 1e-6  # keeps x + u inside the bin after rounding
        if self.noise is None:
            u = jax.random.uniform(noise_key, value.shape, maxval=inside)
            return log_density(self.density, key, value + u)
        q = self.noise(value.astype(float))
        if q.event_shape != self.event_shape:
            raise ValueError(f"noise: expected events of shape {self.event_shape}, got {q.event_shape}")
        u, intermediates = q.sample_with_intermediates(noise_key)
        log_q = q.log_prob(u, intermediates) if intermediates else q.log_prob(u)
        return log_density(self.density, key, value + jnp.minimum(u, inside)) - log_q

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        keys = split_key(key, (num_particles,))
        return jnp.mean(map_particles(lambda k: self._log_weights(k, value), (keys,), value.size), 0)

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write integers [lanes, *event_shape]: read u, uniform on a fine grid, and write x + u by the density."""
        if getattr(self, "noise", None) is not None:
            raise ValueError("model: no code is known of a Dequantized with a noise of its own")
        message.stir(_BITS * math.prod(self.event_shape))
        u = np.zeros(np.shape(x), np.int64)
        for levels in _LEVELS:
            u = u * levels + message.pop_symbols(_even(np.shape(x), levels))
        y = np.asarray(x) + (_EDGE + u) * _WIDTH
        _density_code(self, message.lanes).push(message.on_grid(_WIDTH), y)

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read integers [lanes, *event_shape]."""
        y = _density_code(self, message.lanes).pop(message.on_grid(_WIDTH))
        x = np.floor(y)
        u = np.maximum(np.rint((y - x) / _WIDTH).astype(np.int64) - _EDGE, 0)
        for levels in reversed(_LEVELS):
            message.push_symbols(u % levels, _even(x.shape, levels))
            u = u // levels
        message.stir(_BITS * math.prod(self.event_shape))
        return x.astype(np.int32)


def _even(shape: tuple[int, ...], levels: int) -> np.ndarray:
    return np.full((*shape, levels), -math.log(levels))


def _density_code(model: Any, lanes: int) -> Any:
    return coded(model._at_rows(lambda d: d.density) if model._varies(model.density) else model.density, (lanes,))
