"""Mixtures, EM as a way to train them, and those of independent categoricals: the baselines of discrete data."""

import math
from typing import Self

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.core import as_shape, check_not_negative, check_sizes, recipe
from probgen.distributions.model import Model
from probgen.distributions.rows import block_size, sum_over_rows
from probgen.distributions.wrapped import Wrapped


class Mixture(Model):
    """K components with weights π = softmax(logits), learned by gradients or, in an `EM`, by its steps.

        p(x) = Σ_k π_k p(x | k)

    A subclass has a field `logits` [K] and writes, for one event, `log_components(x)`, all log p(x | k), [K], and
    `sample_component(key, k)`; and for EM `em_step(x, smoothing, shrinkage)`.
    """

    logits: Array

    def log_components(self, x: Array) -> Array:
        """log p(x | k) of one event, [K]."""
        raise NotImplementedError(f"{type(self).__name__} has no components: write log_components(x)")

    def sample_component(self, key: Array, k: Array) -> Array:
        """One draw of component k."""
        raise NotImplementedError(f"{type(self).__name__} has no sampler: write sample_component(key, k)")

    def em_step(self, x: Array, smoothing: float = 0.1, shrinkage: float = 0.0) -> Self:
        """One step of expectation–maximization on rows [N, *event_shape], with the pseudo-rows that `EM` explains."""
        raise NotImplementedError(f"{type(self).__name__} has no EM step: write em_step(x), or train by gradients")

    def log_joint(self, x: Array) -> Array:
        """log π_k + log p(x | k) of one event, [K]; its softmax is p(k | x)."""
        return jax.nn.log_softmax(self.logits) + self.log_components(x)

    def log_prob_event(self, x: Array) -> Array:
        """log p(x) of one event."""
        return jax.nn.logsumexp(self.log_joint(x))

    def sample_event(self, key: Array) -> Array:
        """A component, then an event of it."""
        which, where = jax.random.split(key)
        return self.sample_component(where, jax.random.categorical(which, self.logits))


class CategoricalMixture(Mixture):
    """A mixture whose components take all positions to be independent.

        P(x) = Σ_k π_k Π_d θ_k[d, x_d]

    Args: `logits` of π, [K]; `position_logits` of θ, [K, *event_shape, levels]; both are learned.

    References: Latent class analysis (Lazarsfeld, Henry 1968); its EM: Dempster, Laird, Rubin (1977).

    >>> import jax, jax.numpy as jnp
    >>> model = mixture((2,), 3, components=4, key=jax.random.key(0))
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
        """log P(x | k) of one event, [K]."""
        log_theta = jax.nn.log_softmax(self.position_logits)
        chosen = jnp.take_along_axis(log_theta, x[None, ..., None].astype(jnp.int32), axis=-1)
        return chosen.reshape(len(self.logits), -1).sum(-1)

    def sample_component(self, key: Array, k: Array) -> Array:
        """All positions, of component k."""
        return jax.random.categorical(key, self.position_logits[k]).astype(jnp.int32)

    def _moments(self) -> tuple[Array, Array]:
        """The mean and the variance."""
        values = jnp.arange(self.levels, dtype=self.position_logits.dtype)
        mass = jnp.einsum("k,k...->...", jax.nn.softmax(self.logits), jax.nn.softmax(self.position_logits))
        mean = mass @ values
        return mean, jnp.sum(mass * (values - mean[..., None]) ** 2, -1)

    def _mean(self) -> Array:
        return self._moments()[0]

    def _variance(self) -> Array:
        return self._moments()[1]

    def _entropy(self) -> Array:
        if len(self.logits) > 1:
            return super()._entropy()
        log_theta = jax.nn.log_softmax(self.position_logits)
        return -jnp.sum(jnp.exp(log_theta) * log_theta)

    def em_step(self, x: Array, smoothing: float = 0.1, shrinkage: float = 0.0) -> "CategoricalMixture":
        """One step of expectation–maximization on rows [N, *event_shape], with the pseudo-rows that `EM` explains.

        Block by block, so that memory does not grow with the rows.
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


class EM(Wrapped):
    """A mixture as `fit` trains it by expectation–maximization: its parameters are state, and `update` is one step.

    With all rows in one batch every step raises the posterior density. The trained mixture is `em.model`.

    Args: `model`: a `Mixture`, of categoricals or of normals; `smoothing`: pseudo-counts that know nothing of the
    data: of categoricals for each level (Laplace's rule is 1); of normals so many rows about the component's own mean,
    with the data's variances and no correlations; `shrinkage`: pseudo-rows that every component gets of the data as a
    whole, so that a component with few rows of its own falls back on it. Together, and with one pseudo-row for each
    weight, they are a conjugate prior (Dirichlet; normal–inverse-Wishart), and the steps climb to a mode.

    References: Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird, Rubin 1977).

    >>> import jax, probgen
    >>> x = jax.random.randint(jax.random.key(0), (50, 2), 0, 3)
    >>> em = EM(mixture((2,), 3, components=2, key=jax.random.key(1)))
    >>> result = probgen.fit(em, x, steps=3, batch_size=50, key=jax.random.key(2), progress=False)
    >>> result.model.model.event_shape
    (2,)
    """

    pytree_aux_fields = ("shrinkage", "smoothing")
    state_fields = ("model",)

    def __init__(self, model: Mixture, *, smoothing: float = 0.1, shrinkage: float = 0.0):
        check_not_negative(smoothing=smoothing, shrinkage=shrinkage)
        self.model, self.smoothing, self.shrinkage = model, smoothing, shrinkage
        super().__init__((), model.event_shape)

    def _log_prob(self, value: Array) -> Array:
        return self.model.log_prob(value)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self.model.sample(key, sample_shape)

    def _mean(self) -> Array:
        return self.model.mean

    def _variance(self) -> Array:
        return self.model.variance

    def _mode(self) -> Array:
        return self.model.mode

    def _entropy(self) -> Array:
        return self.model.entropy()

    def _cdf(self, value: Array) -> Array:
        return self.model.cdf(value)

    def update(self, batch: Array, key: Array) -> "EM":
        """One EM step on a batch of rows."""
        return self.replace(model=self.model.em_step(batch, self.smoothing, self.shrinkage))


@recipe
def mixture(event_shape: tuple[int, ...], levels: int, *, components: int, key: Array) -> CategoricalMixture:
    """A mixture of independent categoricals with random, well separated components, for EM or gradients.

    For integers; that of normals, for real vectors, is `probgen.flows.gaussian_mixture`.

    >>> import jax
    >>> mixture((8, 8), 17, components=10, key=jax.random.key(0)).position_logits.shape
    (10, 8, 8, 17)
    """
    event_shape = as_shape(event_shape, fewest=0)
    check_sizes(2, levels=levels)
    check_sizes(components=components)
    return CategoricalMixture(jnp.zeros(components), jax.random.normal(key, (components, *event_shape, levels)))


@recipe
def histogram(event_shape: tuple[int, ...], levels: int, *, key: Array | None = None) -> CategoricalMixture:
    """Independent positions, each with a histogram over its levels: one component; one EM step counts it.

    For integers; that of real numbers in bins is `probgen.flows.histogram`.

    >>> histogram((8, 8), 17).event_shape
    (8, 8)
    """
    check_sizes(2, levels=levels)
    return CategoricalMixture(jnp.zeros(1), jnp.zeros((1, *as_shape(event_shape, fewest=0), levels)))
