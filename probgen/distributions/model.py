"""The base of models of one event, which need not know about batches."""

from jax import Array

from probgen.core import split_key, vectorize
from probgen.distributions.base import Distribution
from probgen.distributions.lifting import map_elements


class Model(Distribution):
    """A distribution of one event, of batch shape (); this class maps it over batches.

    A subclass sets its fields, calls `super().__init__(event_shape)`, has a property `support`, and writes for ONE
    event: `sample_event(key) -> x`, and `log_prob_event(x)`, or with `kind = "weights"` `log_weight_event(key, x)`,
    the logarithm of an unbiased estimate of p(x); where it knows them, `_mean()` and the other closed forms.

    Args:
        event_shape: the shape of one event.

    >>> import jax, jax.numpy as jnp
    >>> from numpyro.distributions import constraints
    >>> class Exponential(Model):
    ...     pytree_data_fields = ("log_rate",)
    ...     learnable_fields = ("log_rate",)
    ...     support = constraints.positive
    ...
    ...     def __init__(self, log_rate):
    ...         self.log_rate = jnp.asarray(log_rate)
    ...         super().__init__(())
    ...
    ...     def sample_event(self, key):
    ...         return jax.random.exponential(key) * jnp.exp(-self.log_rate)
    ...
    ...     def log_prob_event(self, x):
    ...         return self.log_rate - jnp.exp(self.log_rate) * x
    >>> Exponential(0.0).log_prob(jnp.ones(3)).shape
    (3,)
    """

    def __init__(self, event_shape: tuple[int, ...], *, validate_args: bool | None = None):
        super().__init__((), tuple(event_shape), validate_args=validate_args)

    def sample_event(self, key: Array) -> Array:
        """Return one draw, of `event_shape`."""
        raise NotImplementedError(f"{type(self).__name__} has no sampler: write sample_event(key)")

    def log_prob_event(self, x: Array) -> Array:
        """Return log p(x) of one event."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob: write log_prob_event(x)")

    def log_weight_event(self, key: Array, x: Array) -> Array:
        """Return the log of an unbiased estimate of p(x), of one event."""
        raise NotImplementedError(f"{type(self).__name__} has no importance weights: use log_prob_bound(key, x)")

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return vectorize(self.sample_event, 0)(split_key(key, sample_shape))

    def _log_prob(self, value: Array) -> Array:
        return vectorize(self.log_prob_event, self.event_dim)(value)

    def _log_weights(self, key: Array, value: Array) -> Array:
        one = lambda _, key, x: self.log_weight_event(key, x)
        return map_elements(one, None, (), (key, value), ("key", "event"), event_ndims=self.event_dim)
