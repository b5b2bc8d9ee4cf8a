"""Discrete data under a continuous density: uniform dequantization."""

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.core import check_sizes, split_key
from probgen.distributions.base import Distribution


class Dequantized(Distribution):
    """The integers ⌊y⌋ of a continuous y ~ density on [0, levels)ᴰ.

        P(x) = ∫_{[0,1)ᴰ} p(x + u) du  ≥  exp E_u log p(x + u)

    The integral has no closed form, so there is only a bound, by u ~ Uniform[0, 1)ᴰ; it tightens with the particles.

    Args: `density`: a distribution over real events whose numbers fall into [0, levels); `levels`.

    References: A note on the evaluation of generative models (Theis, van den Oord, Bethge 2016), arXiv:1511.01844.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> model = Dequantized(dist.Uniform(0.0, 4 * jnp.ones(2)).to_event(1), levels=4)
    >>> bool(jnp.allclose(model.log_prob_bound(jax.random.key(0), jnp.array([1, 3])), -2 * jnp.log(4)))
    True
    """

    pytree_data_fields = ("density",)
    pytree_aux_fields = ("levels",)
    kind = "weights"

    def __init__(self, density: Distribution, levels: int, *, validate_args: bool | None = None):
        check_sizes(2, levels=levels)
        self.density, self.levels = density, levels
        super().__init__(density.batch_shape, density.event_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.independent(constraints.integer_interval(0, self.levels - 1), self.event_dim)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        y = self.density.sample(key, sample_shape)
        return jnp.clip(jnp.floor(y), 0, self.levels - 1).astype(jnp.int32)

    def _log_weights(self, key: Array, value: Array) -> Array:
        # the largest float below 1 keeps x + u inside the bin after rounding
        u = jax.random.uniform(split_key(key, ()), value.shape, maxval=1 - 1e-6)
        return self.density.log_prob(value + u)
