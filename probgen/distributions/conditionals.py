"""Conditionals: functions from a context to a distribution, whose batch shape comes from the context."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import Recipe, as_shape, bind, check_sizes, map_batch, split_key, vectorize
from probgen.distributions.base import Distribution
from probgen.distributions.heads import Head


class Conditional(eqx.Module):
    """context → head(network(context)): a distribution with independent numbers in an event of `event_shape`.

    Args: `network`: any callable pytree, one context → numbers of size prod(event_shape) · head.num_params (row-major,
    parameters last); `head`: raw numbers [..., num_params] → numpyro distribution; `context_ndims`: rank of one
    context. Raises ValueError where the network's output has another size.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.distributions import NormalHead
    >>> from probgen.networks import MLP
    >>> conditional = Conditional(MLP(3, 4, hidden=(8,), key=jax.random.key(0)), NormalHead(), event_shape=(2,))
    >>> d = conditional(jnp.ones((5, 3)))
    >>> d.batch_shape, d.event_shape
    ((5,), (2,))
    """

    network: Any
    head: Head
    event_shape: tuple[int, ...] = eqx.field(static=True)
    context_ndims: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        as_shape(self.event_shape, fewest=0)
        check_sizes(0, context_ndims=self.context_ndims)

    def __call__(self, context: Array) -> dist.Distribution:
        """The distribution given a context [*batch, *context]."""
        shape = (*self.event_shape, self.head.num_params)

        def raw(context: Array) -> Array:
            out = self.network(context)
            if out.size != jnp.zeros(shape).size:
                raise ValueError(f"network: expected {shape} numbers for an event, got an output of shape {out.shape}")
            return out.reshape(shape)

        return self.head(vectorize(raw, self.context_ndims)(context)).to_event(len(self.event_shape))


class ConditionalModel(eqx.Module):
    """context → model | context, for any model with `Contextual` parts (a flow, an autoregressive model, …).

    Args: `model`: a probgen distribution; `context_shape`: the shape of one context. A context of another shape is
    refused with ValueError.

    >>> import jax, jax.numpy as jnp, numpyro, probgen
    >>> conditional = probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=jax.random.key(0))
    >>> d = conditional(jnp.ones((5, 3)))
    >>> d.batch_shape, d.log_prob(jnp.zeros(2)).shape
    ((5,), (5,))

    By hand, a `Contextual` network takes the context beside its input:

    >>> from probgen.bijectors import AffineTransformer, Coupling
    >>> net = probgen.networks.MLP(1, 2, hidden=(8,), context_dim=3, key=jax.random.key(0))
    >>> coupling = Coupling(probgen.core.Contextual(net), AffineTransformer(), split=1)
    >>> base = numpyro.distributions.Normal(jnp.zeros(2), 1.0)
    >>> ConditionalModel(probgen.distributions.Transformed(base, coupling), (3,))(jnp.ones((5, 3))).batch_shape
    (5,)
    """

    model: Distribution
    context_shape: tuple[int, ...] = eqx.field(static=True)
    recipe: Recipe | None = eqx.field(static=True, default=None)

    def __call__(self, context: Array) -> "Given":
        """The distribution given a context [*batch, *context_shape]."""
        context = jnp.asarray(context)
        ndims = len(self.context_shape)
        if context.ndim < ndims or context.shape[context.ndim - ndims :] != self.context_shape:
            raise ValueError(f"context: expected [..., {', '.join(map(str, self.context_shape))}], got {context.shape}")
        kind: type[Given] = getattr(type(self.model), "conditioned", Given)  # one that can do what the model can
        return kind(self.model, context, ndims)

    def __getattr__(self, name: str) -> Any:
        if hasattr(Distribution, name):
            raise AttributeError(f"a ConditionalModel has no {name!r}: call it with a context first, model(context)")
        raise AttributeError(f"'ConditionalModel' object has no attribute {name!r}")


class Given(Distribution):
    """A conditional model with its context: an ordinary distribution. Gradients reach the context on every path."""

    pytree_data_fields = ("context", "model")
    pytree_aux_fields = ("context_ndims",)

    def __init__(self, model: Distribution, context: Array, context_ndims: int):
        self.model, self.context, self.context_ndims = model, context, context_ndims
        lead = context.shape[: context.ndim - context_ndims]
        super().__init__((*lead, *model.batch_shape), model.event_shape)

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """As the model's."""
        return self.model.exact

    @property
    def fused(self) -> bool:  # type: ignore[override]
        """As the model's."""
        return self.model.fused

    @property
    def has_rsample(self) -> bool:
        """As the model's."""
        return self.model.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        """As the model's."""
        return self.model.support

    @property
    def _context_batch(self) -> tuple[int, ...]:
        return self.context.shape[: self.context.ndim - self.context_ndims]

    def _map(self, method: str, args: tuple[Array, ...], event_ndims: tuple[int, ...]) -> Any:
        return self._each(lambda model, *args: getattr(model, method)(*args), *args, event_ndims=event_ndims)

    def _each(self, function: Callable[..., Any], *args: Array, event_ndims: tuple[int, ...] = ()) -> Any:
        """`function(model, *args)` for the model at each context."""
        one = lambda context, *args: function(bind(self.model, context), *args)
        return map_batch(one, self.context, self._context_batch, args, event_ndims)

    def _mean(self) -> Array:
        return self._each(lambda model: model.mean)

    def _variance(self) -> Array:
        return self._each(lambda model: model.variance)

    def _mode(self) -> Array:
        return self._each(lambda model: model.mode)

    def _entropy(self) -> Array:
        return self._each(lambda model: model.entropy())

    def _cdf(self, value: Array) -> Array:
        return self._map("cdf", (value,), (len(self.model.batch_shape) + self.event_dim,))

    def _icdf(self, q: Array) -> Array:
        return self._map("icdf", (q,), (len(self.model.batch_shape),))

    def _log_prob(self, value: Array) -> Array:
        return self._map("log_prob", (value,), (len(self.model.batch_shape) + self.event_dim,))

    def _log_weights(self, key: Array, value: Array) -> Array:
        return self._with_keys("_log_weights", key, value)

    def log_prob_bound(self, key: Array, value: Array, num_particles: int = 1) -> Array:
        """As the model's, at each context."""
        if self._added_shape or self.exact:
            return super().log_prob_bound(key, value, num_particles)
        ndims = len(self.model.batch_shape) + self.event_dim
        value = jnp.asarray(value)
        lead = jnp.broadcast_shapes(value.shape[: value.ndim - ndims], self._context_batch)
        one = lambda c, k, x: bind(self.model, c).log_prob_bound(k, x, num_particles)
        return map_batch(one, self.context, self._context_batch, (split_key(key, lead), value), (0, ndims))

    def _with_keys(self, method: str, key: Array, value: Array) -> Array:
        ndims = len(self.model.batch_shape) + self.event_dim
        lead = jnp.broadcast_shapes(value.shape[: value.ndim - ndims], self._context_batch)
        return self._map(method, (split_key(key, lead), value), (0, ndims))

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self._map("sample", (split_key(key, (*sample_shape, *self._context_batch)),), (0,))

    def _sample_and_log_prob(self, key: Array, sample_shape: tuple[int, ...]) -> tuple[Array, Array]:
        return self._map("sample_and_log_prob", (split_key(key, (*sample_shape, *self._context_batch)),), (0,))
