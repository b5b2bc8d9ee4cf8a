"""The beta-binomial over the integers 0..levels−1."""

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.core import check_sizes
from probgen.distributions.base import Distribution


class BetaBinomial(Distribution):
    """How many of n = levels − 1 coins show heads, whose probability is drawn from a beta.

        P(x) = C(n, x) (α)_x (β)_{n−x} / (α + β)_n,   (a)_k = a (a + 1) … (a + k − 1)

    The logarithm is a sum over n ratios, which loses nothing at large α and β, as differences of gamma functions do.

    Args:
        alpha: α > 0, [...].
        beta: β > 0, [...].
        levels: how many integers, at least 2.

    >>> import jax.numpy as jnp
    >>> bool(jnp.allclose(jnp.exp(BetaBinomial(2.0, 1.0, 3).log_prob(jnp.arange(3))), jnp.array([1, 2, 3]) / 6))
    True
    """

    pytree_data_fields = ("alpha", "beta")
    pytree_aux_fields = ("levels",)

    def __init__(self, alpha: Array, beta: Array, levels: int, *, validate_args: bool | None = None):
        self.alpha, self.beta = jnp.broadcast_arrays(jnp.asarray(alpha, float), jnp.asarray(beta, float))
        check_sizes(2, levels=levels)
        self.levels = levels
        super().__init__(self.alpha.shape, (), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.integer_interval(0, self.levels - 1)

    def _log_prob(self, value: Array) -> Array:
        n, x = self.levels - 1, value[..., None]
        i = jnp.arange(n)
        alpha, beta = self.alpha[..., None], self.beta[..., None]
        heads, tails = (alpha + i) * ((n - i) / (i + 1.0)), beta + jnp.maximum(i - x, 0)
        return jnp.sum(jnp.log(jnp.where(i < x, heads, tails) / (alpha + beta + i)), -1)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        of_beta, of_coins = jax.random.split(key)
        heads = jax.random.beta(of_beta, self.alpha, self.beta, (*sample_shape, *self._batch_shape))
        return jax.random.binomial(of_coins, self.levels - 1.0, heads).astype(jnp.int32)

    def _mean(self) -> Array:
        return (self.levels - 1) * self.alpha / (self.alpha + self.beta)

    def _variance(self) -> Array:
        n, total = self.levels - 1, self.alpha + self.beta
        return n * (self.alpha / total) * (self.beta / total) * (total + n) / (total + 1.0)
