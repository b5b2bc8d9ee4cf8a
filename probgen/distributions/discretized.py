"""Discretized logistics and categoricals: distributions over the integers 0..levels−1."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import check_sizes, log1mexp
from probgen.distributions.base import Distribution


def _log_mass(value: Array, loc: Array, scale: Array, levels: int) -> Array:
    """Return log(σ(b) − σ(a)) at the bin's edges, by σ(b) − σ(a) = σ(b) σ(−a) (1 − e^{a−b}); the end bins reach to
    ±∞."""
    upper = (value + 0.5 - loc) / scale
    lower = (value - 0.5 - loc) / scale
    inner = log1mexp(jnp.broadcast_to(1.0 / scale, upper.shape))
    below = jnp.where(value < levels - 1, jax.nn.log_sigmoid(upper), 0.0)
    above = jnp.where(value > 0, jax.nn.log_sigmoid(-lower), 0.0)
    return below + above + jnp.where((value > 0) & (value < levels - 1), inner, 0.0)


def _draw(key: Array, loc: Array, scale: Array, levels: int, shape: tuple[int, ...]) -> Array:
    x = loc + scale * jax.random.logistic(key, shape, dtype=jnp.result_type(loc, scale))
    return jnp.clip(jnp.round(x), 0, levels - 1).astype(jnp.int32)


class IntegerCategorical(dist.CategoricalLogits):
    """numpyro's categorical as one of integers, which have a mean and a variance; numpyro says that they are NaN.

    It may have no rows too, whose logits numpyro cannot validate.

    >>> import jax.numpy as jnp
    >>> IntegerCategorical(jnp.zeros(5)).mean
    Array(2., dtype=float32)
    """

    def __init__(self, logits: Array, *, validate_args: bool | None = None):
        super().__init__(logits, validate_args=validate_args if logits.size else False)

    @property
    def mean(self) -> Array:
        """The mean, Σ_k k P(k)."""
        return self.probs @ jnp.arange(self.logits.shape[-1], dtype=self.probs.dtype)

    @property
    def variance(self) -> Array:
        """The variance, Σ_k (k − mean)² P(k)."""
        away = jnp.arange(self.logits.shape[-1], dtype=self.probs.dtype) - self.mean[..., None]
        return jnp.sum(self.probs * away**2, -1)


class DiscretizedLogistic(Distribution):
    """A logistic whose mass is collected in the bins [x − ½, x + ½) of x = 0..levels−1, the end bins reaching to ±∞.

        P(x) = σ((x + ½ − μ)/s) − σ((x − ½ − μ)/s)

    It sums to 1 and its draws lie on the grid. Computed in log space, finite at any μ and s > 0.

    Args:
        loc: μ, [...], in levels.
        scale: s > 0, [...], in levels.
        levels: how many integers, at least 2.

    References: Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al. 2016), arXiv:1606.04934.

    >>> import jax.numpy as jnp
    >>> d = DiscretizedLogistic(jnp.array(3.0), jnp.array(2.0), 8)
    >>> float(jnp.exp(d.log_prob(jnp.arange(8))).sum().round(5))
    1.0
    """

    pytree_data_fields = ("loc", "scale")
    pytree_aux_fields = ("levels",)

    def __init__(self, loc: Array, scale: Array, levels: int, *, validate_args: bool | None = None):
        self.loc, self.scale = jnp.broadcast_arrays(jnp.asarray(loc, float), jnp.asarray(scale, float))
        check_sizes(2, levels=levels)
        self.levels = levels
        super().__init__(self.loc.shape, (), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.integer_interval(0, self.levels - 1)

    def _log_prob(self, value: Array) -> Array:
        return _log_mass(value, self.loc, self.scale, self.levels)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return _draw(key, self.loc, self.scale, self.levels, (*sample_shape, *self._batch_shape))


class DiscretizedLogisticMixture(Distribution):
    """A mixture of discretized logistics, P(x) = Σ_k π_k P_k(x): ordinal, and multimodal where it must be.

    Args:
        logits: of the weights π, [..., K].
        loc: μ, [..., K], in levels.
        scale: s > 0, [..., K], in levels.
        levels: how many integers, at least 2.

    References: PixelCNN++ (Salimans, Karpathy, Chen, Kingma 2017), arXiv:1701.05517; unlike its code, the masses sum
    to 1 and draws are rounded to the grid.

    >>> import jax.numpy as jnp
    >>> d = DiscretizedLogisticMixture(jnp.zeros(2), jnp.array([1.0, 6.0]), jnp.array([0.1, 3.0]), 8)
    >>> float(jnp.exp(d.log_prob(jnp.arange(8))).sum().round(5))
    1.0
    """

    pytree_data_fields = ("logits", "loc", "scale")
    pytree_aux_fields = ("levels",)

    def __init__(self, logits: Array, loc: Array, scale: Array, levels: int, *, validate_args: bool | None = None):
        arrays = (jnp.asarray(x, float) for x in (logits, loc, scale))
        self.logits, self.loc, self.scale = jnp.broadcast_arrays(*arrays)
        check_sizes(2, levels=levels)
        self.levels = levels
        super().__init__(self.loc.shape[:-1], (), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.integer_interval(0, self.levels - 1)

    def _log_prob(self, value: Array) -> Array:
        masses = _log_mass(value[..., None], self.loc, self.scale, self.levels)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + masses, axis=-1)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        which, where = jax.random.split(key)
        shape = (*sample_shape, *self._batch_shape)
        k = jax.random.categorical(which, self.logits, shape=shape)[..., None]
        loc, scale = (jnp.take_along_axis(jnp.broadcast_to(x, (*shape, x.shape[-1])), k, -1)[..., 0]
                      for x in (self.loc, self.scale))  # fmt: skip
        return _draw(where, loc, scale, self.levels, shape)
