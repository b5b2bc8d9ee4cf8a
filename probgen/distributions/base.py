"""The base of all distributions: what densities and draws are, by kind of density."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions.util import validate_sample

from probgen.bijectors.support import UnknownSupport
from probgen.core import (
    DensityKind,
    as_numbers,
    as_real,
    check_sizes,
    split_key,
    with_key,
)
from probgen.distributions.closed_forms import ClosedForms
from probgen.distributions.in_blocks import logsumexp_of_particles, map_particles
from probgen.distributions.lifting import check_event, common_lead


class Distribution(ClosedForms):
    """A numpyro distribution whose parts may learn, and which says of what kind its density is.

    A subclass names its array-valued fields in `pytree_data_fields`, its static ones in `pytree_aux_fields`, and
    those of the former whose own float arrays learn in `learnable_fields` (modules in a field learn by themselves).
    It sets them, calls `super().__init__(batch_shape, event_shape)`, has a property `support`, and writes

    - `_sample(key, sample_shape)`, and by `kind` of density: `_log_prob(value)` where it is "exact" or an "estimate"
      within `tolerance`; `_log_weights(key, value)`, logs of unbiased estimates of p, where it is "weights";
      `_log_prob_bound(key, value, num_particles)` where it is a "bound" only;
    - `_training_loss(key, value, num_particles)` where it is trained on something else;
    - `_sample_and_log_prob(key, sample_shape)` where both together are cheaper, and then `fused = True`;
    - where it knows them, closed forms: `_mean()`, `_variance()`, `_mode()`, `_entropy()`, `_cdf(value)`, `_icdf(q)`.

    Made under `vmap`, or stacked, a distribution gets the new axes in front of its `batch_shape`, and all its
    methods follow.

    Args:
        batch_shape: the axes over which its parameters are batched.
        event_shape: the shape of one event.
    """

    kind: DensityKind = "exact"
    tolerance: float = 0.0
    fused: bool = False
    random_bound: bool = True  # whether a bound is the mean of draws, which particles make less random
    loss_is_bound: bool = True  # whether `training_loss` is −log p, a bound or an estimate of it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Draw, as numpyro does at a `sample` site; raise ValueError where it is called as a function of data."""
        if "rng_key" not in kwargs:
            raise ValueError(
                f"{type(self).__name__} is a distribution and no function of data: use its log_prob or sample; "
                "a call draws, and takes rng_key="
            )
        return super().__call__(*args, **kwargs)

    @property
    def has_rsample(self) -> bool:
        """Whether samples carry gradients (numpyro's default would be True)."""
        return False

    @classmethod
    def infer_shapes(cls, *args: Any, **kwargs: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Refuse: the shapes of a model are not a function of the shapes of a few arrays."""
        raise NotImplementedError(f"{cls.__name__} has no infer_shapes; construct it and read its shapes")

    # -- densities and samples

    @property
    def exact(self) -> bool:
        """Whether `log_prob` is the log-density, and neither a bound nor an estimate."""
        return self.kind == "exact"

    @validate_sample
    def log_prob(self, value: Array, intermediates: list[Any] | None = None) -> Array:
        """Return the exact log-density (or mass) in nats, of shape [*sample, *batch].

        Args:
            value: events, [*sample, *batch, *event].
            intermediates: what `sample_with_intermediates` returned with them.

        Raises NotImplementedError where the density is of another kind, naming what there is.
        """
        self._require_exact()
        if intermediates:
            return intermediates[0]
        return self._log_prob_of_events(self._as_events(value))

    def _require_exact(self) -> None:
        if not self.exact:
            instead = "estimate" if self.kind == "estimate" else "bound"
            raise NotImplementedError(
                f"{type(self).__name__} has no exact log_prob: "
                f"use log_prob_{instead}(key, x), or probgen.observe in a program"
            )

    def _log_prob_of_events(self, value: Array) -> Array:
        if 0 in self._lead(value):
            return jnp.zeros(self._lead(value))
        return self._each(lambda d, x: d._log_prob(x), value, ranks=("event",))

    def _lead(self, value: Array) -> tuple[int, ...]:
        """Return the shape of the density of events [*sample, *batch, *event]."""
        return common_lead(self.batch_shape, value.shape[: value.ndim - self.event_dim])

    def _as_events(self, value: Array) -> Array:
        value = as_numbers("value", value) if isinstance(value, np.ma.MaskedArray) else value
        if isinstance(value, tuple) and any(getattr(part, "ndim", 0) for part in value):
            raise ValueError(
                f"value: expected one array of events, got a tuple of {len(value)} arrays: a conditional model takes "
                "its context first, model(context).log_prob(x)"
            )
        value = as_real("value", value)
        check_event("value", value.shape, self.event_shape)
        return value

    def _validate_sample(self, value: Array) -> Array:
        if not jnp.size(value):
            return jnp.array(True)
        try:
            return super()._validate_sample(value)
        except UnknownSupport:  # what is not known cannot be checked
            return jnp.array(True)

    def log_prob_bound(self, key: Array, value: Array, num_particles: int = 1) -> Array:
        """Return a stochastic lower bound of log p(value), in nats; the exact density where there is one.

            L_K = log 1/K Σ_k w_k,   E[w_k] = p(value),   E[L_K] ≤ E[L_{K+1}] ≤ log p(value)

        Where the model has no such weights w_k, it is the mean of K terms of its own bound. Particles are drawn in
        blocks, and memory does not grow with their number.

        Args:
            key: draws the particles.
            value: events, [*sample, *batch, *event].
            num_particles: K.

        Raises NotImplementedError where the density is an estimate, which bounds nothing.

        References: Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov 2016), arXiv:1509.00519.
        """
        check_sizes(num_particles=num_particles)
        if self.exact:
            return self.log_prob(value)
        if self.kind == "estimate":
            raise NotImplementedError(
                f"{type(self).__name__} has no bound: its density is an estimate; use log_prob_estimate(key, x)"
            )
        value = self._as_events(value)
        if 0 in self._lead(value):
            return jnp.zeros(self._lead(value))
        if self.kind == "weights":
            total = self._of_particles(logsumexp_of_particles, key, value, num_particles)
            return total - math.log(num_particles)
        return self._of_rows("_log_prob_bound", key, value, num_particles)

    def log_prob_estimate(self, key: Array, value: Array) -> Array:
        """Return log p(value) within `tolerance` nats, neither exact nor a bound; the exact density where there is one.

        The key is for what of the model is random (`core.with_key`). Raises NotImplementedError where there is a bound.
        """
        if self.exact:
            return self.log_prob(value)
        if self.kind != "estimate":
            raise NotImplementedError(f"{type(self).__name__} has a bound and no estimate: use log_prob_bound(key, x)")
        value = self._as_events(value)
        if 0 in self._lead(value):
            return jnp.zeros(self._lead(value))
        return self._each(lambda d, key, x: d._log_prob_estimate(key, x), key, value, ranks=("key", "event"))

    def training_loss(self, key: Array, value: Array, num_particles: int = 1) -> Array:
        """Return what `fit` minimizes, of each row, in nats: −log p, its bound or its estimate, unless a family says
        otherwise. What is reported of the model keeps its kind."""
        check_sizes(num_particles=num_particles)
        value = self._as_events(value)
        if 0 in self._lead(value):
            return jnp.zeros(self._lead(value))
        return self._of_rows("_training_loss", key, value, num_particles)

    def _of_rows(self, method: str, key: Array, value: Array, num_particles: int) -> Array:
        """Return a method of rows, each at its own parameters; a family whose rows share some randomness overrides."""
        one = lambda d, key, x: getattr(d, method)(key, x, num_particles)
        return self._each(one, key, value, ranks=("key", "event"))

    def log_weights(self, key: Array, value: Array, num_particles: int) -> Array:
        """Return log w_k, [num_particles, *sample, *batch]: the logarithms of unbiased estimates of p(value).

        Many particles are drawn in blocks: memory, that of the gradient too, grows by these numbers alone. Raises
        NotImplementedError where there is a bound or an estimate only.
        """
        check_sizes(num_particles=num_particles)
        value = self._as_events(value)
        lead = self._lead(value)
        if 0 in lead:
            return jnp.zeros((num_particles, *lead))
        if self.exact:
            log_prob = self.log_prob(value)
            return jnp.broadcast_to(log_prob, (num_particles, *log_prob.shape))
        if self.kind != "weights":
            raise NotImplementedError(
                f"{type(self).__name__} has no log_weights: its {self.kind} is not the log of an unbiased estimate of "
                f"p(x); use log_prob_{self.kind}(key, x)"
            )
        return self._of_particles(map_particles, key, value, num_particles)

    def _of_particles(self, reduced: Callable[..., Array], key: Array, value: Array, num_particles: int) -> Array:
        one = lambda d, key, x: d._log_weights(key, x)
        particle = lambda key: self._each(one, key, value, ranks=("key", "event"))
        numbers = math.prod((*self._lead(value), *self.event_shape))
        return reduced(particle, (split_key(key, (num_particles,)),), numbers)

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw values of shape [*sample_shape, *batch_shape, *event_shape]."""
        return self._draw("_sample", key, sample_shape)

    def rsample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw values that carry gradients; raise NotImplementedError where they do not."""
        if not self.has_rsample:
            raise NotImplementedError(f"samples of this {type(self).__name__} carry no gradient: use sample")
        return self.sample(key, sample_shape)

    def sample_and_log_prob(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """Draw values, and return them and their exact log-densities, in one pass where the model can."""
        self._require_exact()
        return self._draw("_sample_and_log_prob", key, sample_shape)

    def sample_with_intermediates(
        self, key: Array | None, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        """Draw values, and return them and what `log_prob` needs so that it never inverts what was just computed (as
        numpyro's)."""
        if not self.fused:
            return self.sample(key, sample_shape), []
        value, log_prob = self.sample_and_log_prob(key, sample_shape)
        return value, [log_prob]

    # -- what a subclass writes

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        raise NotImplementedError(f"{type(self).__name__} has no sampler: write _sample(key, sample_shape)")

    def _log_prob(self, value: Array) -> Array:
        raise NotImplementedError(f"{type(self).__name__} has no log_prob: write _log_prob(value)")

    def _log_weights(self, key: Array, value: Array) -> Array:
        raise NotImplementedError(f"{type(self).__name__} has no importance weights: write _log_weights(key, value)")

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        raise NotImplementedError(f"{type(self).__name__} has no bound: write _log_prob_bound(key, value, n)")

    def _log_prob_estimate(self, key: Array, value: Array) -> Array:
        return with_key(self, key)._log_prob(value)

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        value = self._sample(key, sample_shape)
        return value, self._log_prob(value)

    def _training_loss(self, key: Array, value: Array, num_particles: int) -> Array:
        if self.kind == "estimate":
            return -self.log_prob_estimate(key, value)
        return -self.log_prob_bound(key, value, num_particles)

    def _draw(self, method: str, key: Array | None, sample_shape: tuple[int, ...]) -> Any:
        if key is None:
            raise ValueError("key: expected a jax.random key, got None (in a numpyro program, use handlers.seed)")
        if 0 in sample_shape:  # what one draw looks like; many of numpyro's distributions cannot draw none
            one = jax.eval_shape(lambda key: self._draw(method, key, ()), key)
            return jax.tree.map(lambda x: jnp.zeros((*sample_shape, *x.shape), x.dtype), one)
        axes = self._axes
        if not axes:
            return self._each(lambda d: getattr(d, method)(split_key(key, ()), sample_shape))
        keys = split_key(key, (*sample_shape, *axes))
        return self._each(lambda d, key: getattr(d, method)(key, ()), keys, ranks=("keys",))
