"""Moments, entropies, distribution functions: in closed form, by exact sums, or an error that says what else to do."""

from typing import NoReturn, Self

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.distributions.enumeration import MOST, are_few, events_of, number_of_events
from probgen.distributions.pytree import PytreeDistribution


class ClosedForms(PytreeDistribution):
    """The base of distributions that answer what users ask beside densities and draws.

    A subclass that knows a closed form writes `_mean()`, `_variance()`, `_mode()`, `_entropy()`, `_cdf(value)` or
    `_icdf(q)`. What it does not write is an exact sum where the density is exact and all values of an event have at
    most 65,536 numbers (so many integers, or 4,096 rows of 12 bits), and otherwise raises NotImplementedError.

    >>> import jax, jax.numpy as jnp, probgen
    >>> made = probgen.autoregressive.made((3,), 2, key=jax.random.key(0))
    >>> made.mean.shape, made.enumerate_support().shape
    ((3,), (8, 3))
    """

    @property
    def exact(self) -> bool:
        """Whether `log_prob` is the log-density."""
        return True

    # -- what users call: lifted over added axes

    @property
    def mean(self) -> Array:
        """E[x], of shape [*batch, *event]."""
        return self._each(lambda d: d._mean())

    @property
    def variance(self) -> Array:
        """The variance of every number of an event, of shape [*batch, *event]."""
        return self._each(lambda d: d._variance())

    @property
    def mode(self) -> Array:
        """The likeliest event, of shape [*batch, *event]."""
        return self._each(lambda d: d._mode())

    def entropy(self) -> Array:
        """Return −E[log p(x)] in nats, of shape [*batch]."""
        return self._each(lambda d: d._entropy())

    def cdf(self, value: Array) -> Array:
        """Return P(X ≤ value) of events of one number, of shape [*sample, *batch]; `value` is
        [*sample, *batch, *event].

        An event of shape (1,) keeps its axis in `value` and has none in the probability: values [N, 1] have N of them.
        """
        return self._each(lambda d, x: d._cdf(x), jnp.asarray(value), ranks=("event",))

    def icdf(self, q: Array) -> Array:
        """Return the least event of one number with P(X ≤ x) ≥ q, of shape [*sample, *batch, *event]; `q` is
        [*sample, *batch], in [0, 1]. Events of shape (1,) have their axis again: [N] probabilities give [N, 1] of them.
        """
        return self._each(lambda d, q: d._icdf(q), jnp.asarray(q), ranks=(0,))

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether `enumerate_support` has values: of integers, where there are few."""
        return are_few(self)

    def enumerate_support(self, expand: bool = True) -> Array:
        """Return all values of an event, [n, *batch, *event]; with `expand=False` the batch axes are of size one.

        Raises NotImplementedError where they are reals, or have more than 65,536 numbers.
        """
        events = events_of(self)
        if events is None:
            count = number_of_events(self)
            size = "its support is infinite" if count is None else f"its values have more than {MOST:,} numbers"
            raise NotImplementedError(f"{type(self).__name__} has no enumerate_support: {size}; draw by sample(key)")
        lead = self.batch_shape if expand else (1,) * len(self.batch_shape)
        whole = events.reshape(len(events), *[1] * len(lead), *self.event_shape)
        return jnp.broadcast_to(whole, (len(events), *lead, *self.event_shape))

    # -- what a subclass may write

    def _mean(self) -> Array:
        values, log_p = self._all("mean", "average draws, sample(key, (n,)).mean(0)")
        return jnp.tensordot(jnp.exp(log_p), values.astype(log_p.dtype), (0, 0))

    def _variance(self) -> Array:
        values, log_p = self._all("variance", "take that of draws, sample(key, (n,)).var(0)")
        mean = jnp.tensordot(jnp.exp(log_p), values.astype(log_p.dtype), (0, 0))
        away = values.reshape(len(values), *[1] * (log_p.ndim - 1), *self.event_shape) - mean
        return jnp.sum(jnp.exp(log_p).reshape(*log_p.shape, *[1] * self.event_dim) * away**2, 0)

    def _mode(self) -> Array:
        values, log_p = self._all("mode", "climb log_prob from draws")
        return values[jnp.argmax(log_p, 0)]

    def _entropy(self) -> Array:
        how = "average -log_prob over draws" if self.exact else "average -log_prob_bound over draws, which is no less"
        _, log_p = self._all("entropy", how)
        return jnp.sum(-jnp.exp(log_p) * jnp.maximum(log_p, jnp.finfo(log_p.dtype).min), 0)  # 0 log 0 = 0

    def _cdf(self, value: Array) -> Array:
        values, up_to = self._up_to("cdf", "count draws, (sample(key, (n,)) <= value).mean(0)", value.ndim)
        place = jnp.floor(value).astype(jnp.int32) - values[0]
        lead = jnp.broadcast_shapes(place.shape, up_to.shape[1:])
        at = jnp.broadcast_to(jnp.clip(place, 0, len(values) - 1), lead)
        found = jnp.take_along_axis(jnp.broadcast_to(up_to, (len(values), *lead)), at[None], 0)[0]
        return jnp.where(place < 0, 0.0, jnp.where(place >= len(values) - 1, 1.0, found))

    def _icdf(self, q: Array) -> Array:
        values, up_to = self._up_to("icdf", "take that of draws, jnp.quantile(sample(key, (n,)), q, 0)", q.ndim)
        return values[jnp.clip(jnp.sum(up_to < q, 0), 0, len(values) - 1)]

    def _itself(self) -> Self:
        """Return the distribution, without what is about it (how it is trained)."""
        return self

    def _as_normal(self) -> dist.MultivariateNormal | None:
        """Return the same normal of flat events, where it is one."""
        return None

    def _as_product(self) -> dist.Distribution | None:
        """Return the same distribution as one of independent numbers, where it is one."""
        return None

    def _all(self, what: str, instead: str) -> tuple[Array, Array]:
        """Return all values [n, *event] and their log-probabilities [n, *batch]; NotImplementedError where there are
        none."""
        values = events_of(self) if self.exact else None
        if values is None:
            self._refuse(what, instead)
        return values, self.log_prob(self.enumerate_support(expand=False))

    def _up_to(self, what: str, instead: str, ndim: int) -> tuple[Array, Array]:
        """Return all values [n] and the probabilities up to them, [n, *batch], to be broadcast with arrays of `ndim`
        axes."""
        if self.event_shape:
            self._refuse(what, f"an event has shape {self.event_shape}; {instead}")
        values, log_p = self._all(what, instead)
        up_to = jnp.cumsum(jnp.exp(log_p), 0)
        return values, up_to.reshape(len(values), *[1] * (ndim - up_to.ndim + 1), *up_to.shape[1:])

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} has no {what} in closed form: {instead}")
