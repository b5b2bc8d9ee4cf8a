"""Our distributions expanded, masked, and with batch axes read as event axes; and what lies under such wrappers.

numpyro puts the axis over which `scan` or `vmap` went into a distribution's batch shape by `promote_batch_shape`. Ours
count that axis by themselves; wrapped, they need their own way, since numpyro's subtracts an expansion's axes from a
batch shape that does not have them yet, and takes all axes of an event for reinterpreted ones.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.batch_util import promote_batch_shape

from probgen.core import DensityKind


def kind_of(d: dist.Distribution) -> DensityKind:
    """Return of what kind the density of a distribution is, ours or numpyro's, which are exact."""
    return getattr(d, "kind", "exact")


def log_density(d: Any, key: Array, value: Array) -> Array:
    """Return log p(value), or where it is not exact one log weight (one term of the bound) for each element."""
    if kind_of(d) == "exact":
        return d.log_prob(value)
    return d.log_prob_estimate(key, value) if d.kind == "estimate" else d.log_prob_bound(key, value)


def unmasked(fn: dist.Distribution) -> dist.Distribution:
    """Return the distribution that is drawn from, under every mask; expansions and reinterpreted axes stay.

    Args:
        fn: any distribution.

    >>> unmasked(dist.Normal(0.0, 1.0).expand((3,)).mask(False).to_event(1)).log_prob(jnp.zeros(3)).round(2)
    Array(-2.76, dtype=float32)
    """
    if isinstance(fn, dist.MaskedDistribution):
        return unmasked(fn.base_dist).expand(fn.batch_shape)
    if isinstance(fn, dist.ExpandedDistribution):
        return unmasked(fn.base_dist).expand(fn.batch_shape)
    if isinstance(fn, dist.Independent):
        return unmasked(fn.base_dist).to_event(fn.reinterpreted_batch_ndims)
    return fn


def is_masked(fn: dist.Distribution) -> bool:
    """Return whether a mask covers any part of the distribution."""
    if isinstance(fn, dist.MaskedDistribution):
        return True
    return isinstance(fn, dist.ExpandedDistribution | dist.Independent) and is_masked(fn.base_dist)


def family(fn: dist.Distribution) -> dist.Distribution:
    """Return the distribution under masks, expansions and reinterpreted axes, by whose class one knows what it is.

    Args:
        fn: any distribution.

    >>> type(family(dist.Bernoulli(0.5).expand((3,)).mask(False).to_event(1))).__name__
    'BernoulliProbs'
    """
    while isinstance(fn, dist.MaskedDistribution | dist.ExpandedDistribution | dist.Independent):
        fn = fn.base_dist
    return fn


def elementwise(fn: dist.Distribution) -> dist.Distribution:
    """Return an unmasked distribution of independent numbers with the axes of its events among those of the batch.

    Args:
        fn: a distribution that no mask covers.

    >>> elementwise(dist.Normal(0.0, 1.0).expand((2, 3)).to_event(1)).batch_shape
    (2, 3)
    """
    if isinstance(fn, dist.Independent):
        return elementwise(fn.base_dist)
    if isinstance(fn, dist.ExpandedDistribution):
        inner = elementwise(fn.base_dist)
        return inner.expand((*fn.batch_shape, *fn.event_shape[: fn.event_dim - inner.event_dim]))
    product = fn._as_product() if hasattr(fn, "_as_product") else None
    return fn if product is None else elementwise(product)


class Wrapping(dist.Distribution):
    """The base of distributions whose `expand`, `to_event` and `mask` make the wrappers below."""

    def expand(self, batch_shape: Sequence[int]) -> dist.Distribution:
        """Return the same distribution with its batch axes broadcast to `batch_shape`."""
        return self if tuple(batch_shape) == self.batch_shape else Expanded(self, tuple(batch_shape))

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> dist.Distribution:
        """Return the distribution with its last batch axes (all by default) as the first of the event."""
        ndims = len(self.batch_shape) if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        return Independent(self, ndims) if ndims else self

    def mask(self, mask: Any) -> dist.Distribution:
        """Return the distribution whose log-density is 0 where `mask` is False."""
        return self if mask is True else Masked(self, mask)


class _Wrapper(Wrapping):
    base_dist: Any

    @property
    def kind(self) -> DensityKind:
        """The wrapped distribution's kind of density."""
        return kind_of(self.base_dist)

    @property
    def tolerance(self) -> float:
        """The wrapped distribution's tolerance."""
        return getattr(self.base_dist, "tolerance", 0.0)

    @property
    def exact(self) -> bool:
        """Whether the wrapped distribution's density is exact."""
        return self.kind == "exact"

    def log_prob_bound(self, key: Array, value: Array, num_particles: int = 1) -> Array:
        """Return the wrapped distribution's bound, with a key of its own for each element."""
        return self._of_base(self.base_dist.log_prob_bound(key, self._rows(value), num_particles))

    def log_weights(self, key: Array, value: Array, num_particles: int) -> Array:
        """Return the wrapped distribution's weights, with a key of its own for each element."""
        return self._of_base(self.base_dist.log_weights(key, self._rows(value), num_particles))

    def log_prob_estimate(self, key: Array, value: Array) -> Array:
        """Return the wrapped distribution's estimate."""
        return self._of_base(self.base_dist.log_prob_estimate(key, self._rows(value)))

    def training_loss(self, key: Array, value: Array, num_particles: int = 1) -> Array:
        """Return the wrapped distribution's loss."""
        return self._of_base(self.base_dist.training_loss(key, self._rows(value), num_particles))

    def _rows(self, value: Array) -> Array:
        lead = jnp.broadcast_shapes(jnp.shape(value)[: jnp.ndim(value) - self.event_dim], self.batch_shape)
        return jnp.broadcast_to(value, lead + self.event_shape)

    def _of_base(self, log_prob: Array) -> Array:
        return log_prob

    def _refuse(self, what: str) -> NoReturn:
        raise NotImplementedError(f"a {type(self).__name__} distribution has no {what}: ask its base_dist")

    @property
    def mode(self) -> Array:
        """The wrapped distribution's mode."""
        return jnp.broadcast_to(self.base_dist.mode, self.batch_shape + self.event_shape)

    def cdf(self, value: Array) -> Array:
        """Return the wrapped distribution's."""
        return self.base_dist.cdf(value)

    def icdf(self, q: Array) -> Array:
        """Return the wrapped distribution's."""
        return self.base_dist.icdf(q)


class Expanded(_Wrapper, dist.ExpandedDistribution):
    """One of our distributions after `expand`."""

    def enumerate_support(self, expand: bool = True) -> Array:
        """Return all values of an event, [n, *batch, *event]; with `expand=False` the batch axes are of size one."""
        values = self.base_dist.enumerate_support(expand=False)
        lead = (1,) * len(self.batch_shape)
        values = values.reshape(len(values), *lead, *self.event_shape)
        return jnp.broadcast_to(values, (len(values), *(self.batch_shape if expand else lead), *self.event_shape))


class Independent(_Wrapper, dist.Independent):
    """One of our distributions after `to_event`."""

    def log_prob(self, value: Array, intermediates: list[Any] | None = None) -> Array:
        """Return the sum over the axes that were the batch's."""
        log_prob = self.base_dist.log_prob(value, *([] if intermediates is None else [intermediates]))
        return self._of_base(log_prob)

    def _of_base(self, log_prob: Array) -> Array:
        return jnp.sum(log_prob, tuple(range(-self.reinterpreted_batch_ndims, 0)))

    def expand(self, batch_shape: Sequence[int]) -> dist.Distribution:
        """Return the same distribution with its batch axes broadcast to `batch_shape`."""
        return dist.Independent.expand(self, batch_shape)

    def cdf(self, value: Array) -> Array:
        """Refuse: more than one number has no distribution function."""
        self._refuse("cdf")

    def icdf(self, q: Array) -> Array:
        """Refuse: more than one number has no quantile."""
        self._refuse("icdf")

    def enumerate_support(self, expand: bool = True) -> Array:
        """Refuse: elements of the batch are enumerated in lock-step."""
        self._refuse("enumerate_support")


class Masked(_Wrapper, dist.MaskedDistribution):
    """One of our distributions after `mask`."""

    def _of_base(self, log_prob: Array) -> Array:
        return jnp.where(self._mask, log_prob, 0.0)

    def entropy(self) -> Array:
        """Refuse: a masked density does not integrate to 1."""
        self._refuse("entropy")


@promote_batch_shape.register
def _(d: Expanded) -> dist.Distribution:
    base = promote_batch_shape(d.base_dist)
    own = len(d._batch_shape) - len(d._expanded_sizes)  # axes of the base when it was expanded
    new = base.batch_shape[: len(base.batch_shape) - own]
    axes = tuple(range(len(new), len(new) + len(d._expanded_sizes)))
    base = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, axes), base)
    return promote_batch_shape(base).expand((*new, *d._batch_shape))


@promote_batch_shape.register
def _(d: Independent) -> dist.Distribution:
    return promote_batch_shape(d.base_dist).to_event(d.reinterpreted_batch_ndims)


@promote_batch_shape.register
def _(d: Masked) -> dist.Distribution:
    return Masked(promote_batch_shape(d.base_dist), d._mask)
