"""Mixtures of independent categoricals, and histograms: the baselines of discrete data."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import Steps, as_shape, check_sizes, recipe
from probgen.distributions.discretized import IntegerCategorical
from probgen.distributions.in_blocks import block_size, sum_over_rows
from probgen.distributions.step_codes import Stepwise
from probgen.mixtures.mixture import Mixture


class _Steps(NamedTuple):
    """The conditionals of a mixture, one place after another: the cache is log π_k + log P(x_{<i} | k), [K]."""

    log_weights: Array
    log_theta: Array  # [K, D, levels]

    def init(self) -> Array:
        return self.log_weights

    def step(self, cache: Array, before: Array, i: Array) -> tuple[Array, dist.Distribution]:
        seen = jnp.take_along_axis(self.log_theta[:, i - 1], jnp.full((len(cache), 1), before), 1)[:, 0]
        cache = jnp.where(i > 0, cache + seen, cache)
        return cache, IntegerCategorical(jax.nn.logsumexp(cache[:, None] + self.log_theta[:, i], 0))


class CategoricalMixture(Stepwise, Mixture):
    """A mixture whose components take all positions to be independent.

        P(x) = Σ_k π_k Π_d θ_k[d, x_d]

    Args:
        logits: of the weights π, [K], learned.
        position_logits: of θ, [K, *event_shape, levels], learned.

    References: Latent class analysis (Lazarsfeld, Henry 1968); its EM: Dempster, Laird, Rubin (1977).

    >>> import jax, jax.numpy as jnp
    >>> model = categorical_mixture((2,), 3, components=4, key=jax.random.key(0))
    >>> grid = jnp.stack(jnp.meshgrid(jnp.arange(3), jnp.arange(3)), -1)
    >>> float(jnp.exp(model.log_prob(grid)).sum().round(5))
    1.0
    """

    pytree_data_fields = ("logits", "position_logits")
    learnable_fields = ("logits", "position_logits")

    def __init__(self, logits: Array, position_logits: Array, *, validate_args: bool | None = None):
        self.logits, self.position_logits = jnp.asarray(logits), jnp.asarray(position_logits)
        super().__init__(self.position_logits.shape[1:-1], validate_args=validate_args)

    @property
    def levels(self) -> int:
        """The number of values that one position takes."""
        return self.position_logits.shape[-1]

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.independent(constraints.integer_interval(0, self.levels - 1), self.event_dim)

    def log_components(self, x: Array) -> Array:
        """Return log P(x | k) of one event, [K]."""
        log_theta = jax.nn.log_softmax(self.position_logits)
        chosen = jnp.take_along_axis(log_theta, x[None, ..., None].astype(jnp.int32), axis=-1)
        return chosen.reshape(len(self.logits), -1).sum(-1)

    def steps(self) -> Steps:
        """Return the conditionals P(x_i | x_{<i}) in raster order, `init()` and `step(cache, before, i)`: what coding
        goes through."""
        log_theta = jax.nn.log_softmax(self.position_logits).reshape(len(self.logits), -1, self.levels)
        return _Steps(jax.nn.log_softmax(self.logits), log_theta)

    def in_order(self, x: Array) -> Array:
        """Return the numbers of one event as the steps go through them, [D]."""
        return x.reshape(-1)

    def sample_component(self, key: Array, k: Array) -> Array:
        """Draw all positions, of component k."""
        return jax.random.categorical(key, self.position_logits[k]).astype(jnp.int32)

    def _moments(self) -> tuple[Array, Array]:
        """Return the mean and the variance."""
        values = jnp.arange(self.levels, dtype=self.position_logits.dtype)
        mass = jnp.einsum("k,k...->...", jax.nn.softmax(self.logits), jax.nn.softmax(self.position_logits))
        mean = mass @ values
        return mean, jnp.sum(mass * (values - mean[..., None]) ** 2, -1)

    def _mean(self) -> Array:
        return self._moments()[0]

    def _variance(self) -> Array:
        return self._moments()[1]

    def _as_product(self) -> dist.Distribution | None:
        if len(self.logits) > 1 or self._axes:
            return None
        logits = self.position_logits[0]
        bits = self.levels == 2
        each = dist.BernoulliLogits(logits[..., 1] - logits[..., 0]) if bits else IntegerCategorical(logits)
        return each.to_event(self.event_dim)

    def _entropy(self) -> Array:
        if len(self.logits) > 1:
            return super()._entropy()
        log_theta = jax.nn.log_softmax(self.position_logits)
        return -jnp.sum(jnp.exp(log_theta) * log_theta)

    def em_step(self, x: Array, smoothing: float = 0.1, shrinkage: float = 0.0) -> "CategoricalMixture":
        """Return the mixture after one step of expectation–maximization on rows [N, *event_shape], with the pseudo-rows
        that `EM` explains.

        It runs block by block, so that memory does not grow with the rows.
        """

        def count(rows: Array) -> tuple[Array, Array, Array]:
            responsibilities = jax.nn.softmax(jax.vmap(self.log_joint)(rows))
            one_hot = jax.nn.one_hot(rows.reshape(len(rows), -1), self.levels)
            return responsibilities.sum(0), jnp.einsum("nk,ndl->kdl", responsibilities, one_hot), one_hot.sum(0)

        size = math.prod(self.event_shape) * max(len(self.logits), self.levels)
        weights, counts, of_all = sum_over_rows(count, (jnp.asarray(x),), block_size(size))
        log_theta = jnp.log(counts + smoothing + shrinkage * of_all / len(x)).reshape(self.position_logits.shape)
        return self.replace(
            logits=jnp.log(weights + 1.0), position_logits=log_theta - log_theta.mean(-1, keepdims=True)
        )


@recipe(formerly=("distributions.mixture",))
def categorical_mixture(
    event_shape: tuple[int, ...], levels: int, *, components: int, key: Array
) -> CategoricalMixture:
    """A mixture of independent categoricals with random, well separated components, for EM or gradients.

    It is for integers; that of normals, for real vectors, is `gaussian_mixture`.

    Args:
        event_shape: the shape of one event, such as (28, 28).
        levels: how many integers one position takes, at least 2.
        components: K, how many.
        key: draws the first components.

    >>> import jax
    >>> categorical_mixture((8, 8), 17, components=10, key=jax.random.key(0)).position_logits.shape
    (10, 8, 8, 17)
    """
    event_shape = as_shape(event_shape, fewest=0)
    check_sizes(2, levels=levels)
    check_sizes(components=components)
    return CategoricalMixture(jnp.zeros(components), jax.random.normal(key, (components, *event_shape, levels)))


@recipe(formerly=("distributions.histogram",))
def histogram(event_shape: tuple[int, ...], levels: int, *, key: Array | None = None) -> CategoricalMixture:
    """Independent positions, each with a histogram over its levels: one component; one EM step counts it.

    It is for integers; that of real numbers in bins is `probgen.flows.histogram_flow`.

    Args:
        event_shape: the shape of one event, such as (28, 28).
        levels: how many integers one position takes, at least 2.
        key: not needed, since it starts uniform; taken as every recipe takes it.

    >>> histogram((8, 8), 17).event_shape
    (8, 8)
    """
    check_sizes(2, levels=levels)
    return CategoricalMixture(jnp.zeros(1), jnp.zeros((1, *as_shape(event_shape, fewest=0), levels)))
