"""A mixture of normals as a product of conditionals: number by number, each a mixture of normals."""

from typing import NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.distributions.discretized import IntegerCategorical


class GaussianSteps(NamedTuple):
    """The conditionals of a mixture of normals; the cache is log π_k + log p(x_{<i} | k), [K], and x_{<i}, [D]."""

    log_weights: Array
    loc: Array  # [K, D]
    regression: Array  # [K, D, D]
    scale: Array  # [K, D]

    def init(self) -> tuple[Array, Array]:
        """Return the cache before the first number."""
        return self.log_weights, jnp.zeros_like(self.loc[0])

    def step(
        self, cache: tuple[Array, Array], before: Array, i: Array
    ) -> tuple[tuple[Array, Array], dist.Distribution]:
        """Return the new cache, and the mixture of the number at place i."""
        log_weights, x = cache
        log_weights = jnp.where(i > 0, log_weights + self._component(x, i - 1).log_prob(before), log_weights)
        x = jnp.where(jnp.arange(len(x)) == i - 1, before, x)
        here = dist.MixtureSameFamily(IntegerCategorical(log_weights), self._component(x, i))
        return (log_weights, x), here

    def _component(self, x: Array, i: Array) -> dist.Distribution:
        loc, regression, scale = self.loc[:, i], self.regression[:, i], self.scale[:, i]
        return dist.Normal(loc + jnp.sum(regression * (x - self.loc), -1), scale)
