"""The continuous Bernoulli: a likelihood of numbers in [0, 1], such as grey values."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.distributions.base import Distribution


class ContinuousBernoulli(Distribution):
    """The density on [0, 1] that is proportional to a Bernoulli's mass, λ^x (1 − λ)^{1−x}.

        p(x) = exp(l x) / E(l),   l = log λ/(1 − λ),   E(l) = (exp(l) − 1)/l

    It is uniform at l = 0, and all of it is exact near there. Its draws, x = log(1 + u (exp(l) − 1))/l for uniform u,
    carry gradients.

    Args:
        logits: l, [...].

    References: The continuous Bernoulli: fixing a pervasive error in variational autoencoders (Loaiza-Ganem, Cunningham
    2019), arXiv:1907.06845.

    >>> import jax.numpy as jnp
    >>> ContinuousBernoulli(jnp.array([0.0, 32.0])).mean
    Array([0.5    , 0.96875], dtype=float32)
    """

    pytree_data_fields = ("logits",)
    support = constraints.unit_interval

    def __init__(self, logits: Array, *, validate_args: bool | None = None):
        self.logits = jnp.asarray(logits, float)
        super().__init__(self.logits.shape, (), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Draws carry gradients."""
        return True

    def _log_prob(self, value: Array) -> Array:
        inside = (value >= 0) & (value <= 1)
        return jnp.where(inside, self.logits * value - _log_normalizer(self.logits), -jnp.inf)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._icdf(jax.random.uniform(key, (*sample_shape, *self._batch_shape), self.logits.dtype))

    def _mean(self) -> Array:
        return _slope(_log_normalizer)(self.logits)

    def _variance(self) -> Array:
        return _slope(_slope(_log_normalizer))(self.logits)

    def _mode(self) -> Array:
        return jnp.where(self.logits > 0, 1.0, 0.0)

    def _entropy(self) -> Array:
        return _log_normalizer(self.logits) - self.logits * self._mean()

    def _cdf(self, value: Array) -> Array:
        x, up, size = jnp.clip(value, 0.0, 1.0), self.logits > 0, _size(self.logits)
        return x * _expm1_ratio(-size * x) / _expm1_ratio(-size) * jnp.exp(jnp.where(up, -size * (1.0 - x), 0.0))

    def _icdf(self, q: Array) -> Array:
        up, size = self.logits > 0, _size(self.logits)
        q = jnp.where(up, 1.0 - q, q)  # of the density that falls
        small = q * jnp.expm1(-size) > -0.5
        near = q * _expm1_ratio(-size) * _log1p_ratio(jnp.where(small, q * jnp.expm1(-size), 0.0))
        left = jnp.where(small, 1.0, jnp.maximum(1.0 - q + q * jnp.exp(-size), jnp.finfo(q.dtype).tiny))
        far = jnp.minimum(-jnp.log(left) / jnp.where(small, 1.0, size), 1.0)
        x = jnp.where(small, near, far)
        return jnp.clip(jnp.where(up, 1.0 - x, x), 0.0, 1.0)


def _size(logits: Array) -> Array:
    """Return |l|, of derivative −1 at 0, as the branch that is taken there."""
    return jnp.where(logits > 0, logits, -logits)


def _log_normalizer(logits: Array) -> Array:
    """Return log E(l) = max(l, 0) + log E(−|l|)."""
    size = _size(logits)
    near = size < 0.5
    far = jnp.where(near, 1.0, size)  # in logarithms, whose derivatives do not overflow
    inner = jnp.where(
        near, jnp.log(_expm1_ratio(jnp.where(near, -size, 0.0))), jnp.log1p(-jnp.exp(-far)) - jnp.log(far)
    )
    return jnp.where(logits > 0, logits, 0.0) + inner


def _slope(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return the derivative of a function of each number."""
    return jax.grad(lambda x: jnp.sum(function(x)))


def _expm1_ratio(t: Array) -> Array:
    """Return E(t) = (exp(t) − 1)/t and right derivatives at 0, for t ≤ 0."""
    near = jnp.abs(t) < 0.5
    small, far = jnp.where(near, t, 0.0), jnp.where(near, -1.0, t)
    series = jnp.ones_like(t)
    for n in range(15, 1, -1):
        series = 1.0 + small / n * series
    return jnp.where(near, series, jnp.expm1(far) / far)


def _log1p_ratio(t: Array) -> Array:
    """Return log(1 + t)/t and right derivatives at 0, for t > −1."""
    near = jnp.abs(t) < 0.1
    small, far = jnp.where(near, t, 0.0), jnp.where(near, -0.5, t)
    series = jnp.zeros_like(t)
    for n in range(17, 0, -1):
        series = 1.0 / n - small * series
    return jnp.where(near, series, jnp.log1p(far) / far)
