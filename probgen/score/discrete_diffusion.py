"""The base of diffusions of integers, whose noise puts integers in the place of others."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.core import as_shape, check_instances, map_batch, split_key
from probgen.core.even_times import even
from probgen.distributions import Model
from probgen.distributions.heads import Head
from probgen.distributions.in_blocks import map_particles


class DiscreteDiffusion(Model):
    """A model of integers 0..levels−1 with a bound that is a mean over noise, and over u ~ Uniform(0, 1).

    A subclass writes `sample_event(key)` and `bound_event(key, u, x)`, of one event. u says how much noise there is; it
    is spread evenly over particles and rows.

    Args:
        network: any callable pytree.
        head: raw numbers [..., num_params] → distribution of integers 0..levels−1.
        event_shape: the shape of one event.
    """

    pytree_data_fields = ("network",)
    pytree_aux_fields: tuple[str, ...] = ("head",)
    kind = "bound"

    def __init__(
        self,
        network: Callable[..., Array],
        head: Head,
        event_shape: Sequence[int],
        *,
        validate_args: bool | None = None,
    ):
        self.network, self.head = network, head
        self._check_fields()
        super().__init__(as_shape(event_shape), validate_args=validate_args)

    def _check_fields(self) -> None:
        check_instances(network=self.network, head=self.head)
        self.levels  # noqa: B018 (or the head is refused)

    @property
    def levels(self) -> int:
        """L, how many integers a number takes."""
        support = self._of_number
        if support is constraints.boolean:
            return 2
        if isinstance(support, type(constraints.integer_interval(0, 1))) and support.lower_bound == 0:
            return int(support.upper_bound) + 1
        raise ValueError(f"head: expected one of integers 0..levels−1, got one over {support}")

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1, at every position."""
        return constraints.independent(self._of_number, self.event_dim)

    def bound_event(self, key: Array, u: Array, x: Array) -> Array:
        """Return the bound of one event; uniform u makes it unbiased."""
        raise NotImplementedError(f"{type(self).__name__} has no bound: write bound_event(key, u, x)")

    @property
    def _of_number(self) -> constraints.Constraint:
        return self.head(jnp.zeros(self.head.num_params)).support

    def _raw_of(self, x: Array, *args: Array) -> Array:
        """Return what the network says of one event, [*event_shape, head.num_params]."""
        raw, shape = self.network(x, *args), (*self.event_shape, self.head.num_params)
        if raw.size != math.prod(shape):
            raise ValueError(f"network: expected an output of shape {shape}, got {raw.shape}")
        return raw.reshape(shape)

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        u_key, noise_key = jax.random.split(key)
        u = even(u_key, value.shape[: value.ndim - self.event_dim], num_particles)
        bound = lambda _, key, u, x: self.bound_event(key, u, x)
        particle = lambda keys, u: map_batch(bound, None, (), (keys, u, value), (0, 0, self.event_dim))
        return jnp.mean(map_particles(particle, (split_key(noise_key, u.shape), u), value.size), 0)

    def _as_events(self, value: Any) -> Array:
        value = super()._as_events(value)
        if jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"value: the model is over integers, got dtype {value.dtype}")
        inside = self._of_number(value) if value.size else jnp.array(True)
        if not isinstance(inside, jax.core.Tracer) and not inside.all():
            raise ValueError(f"value: expected integers 0..{self.levels - 1}, got some outside")
        return value
