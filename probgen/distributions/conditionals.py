"""Conditionals: functions from a context to a distribution, whose batch shape comes from the context."""

import dataclasses
from collections.abc import Callable
from types import MethodType
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.batch_util import promote_batch_shape

from probgen.core import (
    Recipe,
    as_shape,
    bind,
    check_instances,
    check_sizes,
    combine,
    is_conditional,
    partition,
    static_functions,
    vectorize,
)
from probgen.distributions.base import Distribution
from probgen.distributions.delegate import Delegate
from probgen.distributions.heads import Head
from probgen.distributions.pytree import Family


class Conditional(eqx.Module):
    """context → head(network(context)): a distribution with independent numbers in an event of `event_shape`.

    Args:
        network: any callable pytree, one context → numbers of size prod(event_shape) · head.num_params (row-major,
            parameters last).
        head: raw numbers [..., num_params] → numpyro distribution.
        event_shape: the shape of one event.
        context_ndims: the rank of one context.

    Raises ValueError where the network's output has another size.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.distributions import NormalHead
    >>> from probgen.networks import MLP
    >>> conditional = Conditional(MLP(3, 4, hidden=(8,), key=jax.random.key(0)), NormalHead(), event_shape=(2,))
    >>> d = conditional(jnp.ones((5, 3)))
    >>> d.batch_shape, d.event_shape
    ((5,), (2,))
    """

    network: Any = eqx.field(converter=static_functions)
    head: Head
    event_shape: tuple[int, ...] = eqx.field(static=True)
    context_ndims: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        as_shape(self.event_shape, fewest=0)
        check_sizes(0, context_ndims=self.context_ndims)
        check_instances(head=self.head)

    def __call__(self, context: Array) -> dist.Distribution:
        """Return the distribution given a context [*batch, *context]."""
        return self.of_raw(self.raw(context))

    def raw(self, context: Array) -> Array:
        """Return the network's raw numbers [*batch, *event_shape, num_params]."""
        shape = (*self.event_shape, self.head.num_params)

        def of_one(context: Array) -> Array:
            out = self.network(context)
            if out.size != jnp.zeros(shape).size:
                raise ValueError(f"network: expected {shape} numbers for an event, got an output of shape {out.shape}")
            return out.reshape(shape)

        return vectorize(of_one, self.context_ndims)(context)

    def of_raw(self, raw: Array) -> dist.Distribution:
        """Return the distribution that raw numbers [*batch, *event_shape, num_params] say."""
        return self.head(raw).to_event(len(self.event_shape))


class ConditionalModel(eqx.Module):
    """context → model | context, for any model with `Contextual` parts (a flow, an autoregressive model, …).

    With a `network`, the context moves all numbers θ that the model learns, so that any model can be conditional: a
    mixture becomes a mixture density network. θ still learns, and is what the model starts at.

        p(x | c) = p(x; θ + network(c))

    Args:
        model: a probgen distribution.
        context_shape: the shape of one context.
        network: one context → as many numbers as
            `probgen.count_parameters(model)`, in the order of `probgen.partition`.
        recipe: how it was made, as a file says it; recipes set it.
        levels: K, where contexts are labels 0..K−1; `of_labels` sets it.

    Raises ValueError where a context, or the network's output, has another size, or where a model with a network has
    batch axes.

    References: Mixture Density Networks (Bishop 1994), NCRG/94/004; HyperNetworks (Ha, Dai, Le 2017),
    arXiv:1609.09106.

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
    network: Any = eqx.field(default=None, converter=static_functions)
    recipe: Recipe | None = eqx.field(static=True, default=None)
    levels: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.network is not None and self.model.batch_shape:
            raise ValueError(f"model: expected batch shape (), got {self.model.batch_shape}")

    def __call__(self, context: Array) -> "AtContext":
        """Return the distribution given a context [*batch, *context_shape]."""
        if isinstance(context, tuple) and any(getattr(part, "ndim", 0) for part in context):
            raise ValueError(
                f"context: expected one array, got a tuple of {len(context)} arrays: it takes the context alone, and "
                "model(context).log_prob(x) the rows"
            )
        context = jnp.asarray(context)
        if self.levels is not None:
            self.check_labels("context", context)
            return AtContext(self.model, jax.nn.one_hot(context, self.levels), 1, self.network)
        ndims = len(self.context_shape)
        if context.ndim < ndims or context.shape[context.ndim - ndims :] != self.context_shape:
            wanted = f"[..., {', '.join(map(str, self.context_shape))}]"
            raise ValueError(f"context: expected {wanted}, got {shape_of_context(context, self.context_shape)}")
        return AtContext(self.model, context, ndims, self.network)

    def of_labels(self) -> Self:
        """Return the same model whose contexts are labels 0..K−1, integers, which it makes one-hot vectors of its K
        numbers. Raises ValueError where its contexts are no vectors.

        >>> import jax, jax.numpy as jnp, probgen
        >>> conditional = probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_levels=3, key=jax.random.key(0))
        >>> conditional.levels, conditional(jnp.array([2, 0])).log_prob(jnp.zeros(2)).shape
        (3, (2,))
        """
        if len(self.context_shape) != 1:
            raise ValueError(f"context_shape: expected that of vectors, (K,), got {self.context_shape}")
        return dataclasses.replace(self, context_shape=(), levels=self.context_shape[0])

    def check_labels(self, name: str, labels: Any) -> None:
        """Raise ValueError where labels are no integers, or are known to be none of 0..K−1.

        Args:
            name: of the argument, for the error.
            labels: [...].
        """
        most = (self.levels or 0) - 1
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(f"{name}: expected integers 0..{most}, labels, got {labels.dtype}{labels.shape}")
        if isinstance(labels, jax.core.Tracer) or not labels.size:
            return
        if labels.min() < 0 or labels.max() > most:
            found = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(f"{name}: expected labels 0..{most}, got {found}")

    @property
    def has_update(self) -> bool:
        """Whether the model has an `update`, written for rows at their contexts too (a `verb`)."""
        return getattr(getattr(type(self.model), "update", None), "is_verb", False)

    def update(self, batch: Array, context: Array, key: Array) -> Self:
        """Return the conditional model with the model's state changed by rows at their contexts, as `fit` does it."""
        return eqx.tree_at(lambda c: c.model, self, self(context).update(batch, key).model)

    def __getattr__(self, name: str) -> Any:
        if hasattr(Distribution, name) or hasattr(type(self.model), name):
            raise AttributeError(f"a ConditionalModel has no {name!r}: call it with a context first, model(context)")
        raise AttributeError(f"'ConditionalModel' object has no attribute {name!r}")


def shape_of_context(context: Any, wanted: tuple[int, ...]) -> str:
    """Return what a context of another shape is, for an error, and what to do with labels."""
    if jnp.issubdtype(context.dtype, jnp.integer) and len(wanted) == 1 and wanted[0] > 1:
        return (
            f"integers of shape {context.shape}: labels go in as jax.nn.one_hot(labels, {wanted[0]}), or as they are "
            f"into a model made with context_levels={wanted[0]}"
        )
    return str(context.shape)


def inner_model(model: Any) -> Distribution:
    """Return the model of a conditional one; else the model itself."""
    return model.model if isinstance(model, ConditionalModel) else model


class AtContext(Delegate):
    """A conditional model with its context: an ordinary distribution, which can do what the model can.

    Gradients reach the context on every path. Each verb of the model, a method marked `verb` or `lifted`, runs on the
    model of each context.
    """

    pytree_data_fields = ("context", "network")
    pytree_aux_fields = ("context_ndims",)

    def __init__(self, model: Distribution, context: Array, context_ndims: int, network: Any = None):
        self.model, self.context, self.context_ndims, self.network = model, context, context_ndims, network
        super().__init__((*self._contexts, *model.batch_shape), model.event_shape)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "model" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found: Any = getattr(type(self.model), name, None)
        return MethodType(found, self) if getattr(found, "is_verb", False) else getattr(self.model, name)

    def replace(self, **fields: Any) -> Self:
        """Return the same distribution with other values of some fields, the model's own among them."""
        own = {name: fields.pop(name) for name in ("context", "network", "model", "recipe") if name in fields}
        new = super().replace(**own)
        return super(AtContext, new).replace(model=new.model.replace(**fields)) if fields else new

    @property
    def _contexts(self) -> tuple[int, ...]:
        return self.context.shape[: self.context.ndim - self.context_ndims]

    @property
    def _axes(self) -> tuple[int, ...]:
        return (*self._contexts, *self.model._axes[len(self._added_shape) :])

    def _as_events(self, value: Array) -> Array:
        return self.model._as_events(value)

    def _family(self) -> Family:
        return super()._family() or (self.context, self._contexts, self._at)

    def _of_rows(self, *args: Any) -> Array:
        return type(self.model)._of_rows(self, *args)  # type: ignore[arg-type]

    def _varies(self, part: Any) -> bool:
        return self.network is not None or is_conditional(part)

    def _at_rows(self, part: Callable[..., Any], *args: Array) -> Any:
        one = lambda context, *args: part(self._at(context), *args)
        if len(self._contexts) > 1:
            raise ValueError(f"context: expected one, or one a row, got batch shape {self._contexts}")
        if self._contexts and (rows := {jnp.shape(x)[:1] for x in args}) - {self._contexts}:
            found = ", ".join(str(*shape) or "no" for shape in sorted(rows))
            raise ValueError(f"expected a row for each of {self._contexts[0]} contexts, got arrays of {found} rows")
        return promote_batch_shape(jax.vmap(one)(self.context, *args)) if self._contexts else one(self.context, *args)

    def _at(self, context: Array) -> Distribution:
        """Return the model at one context."""
        model: Distribution = bind(self.model, context)
        return model if self.network is None else _moved(model, self.network(context).reshape(-1))


def _moved(model: Distribution, moves: Array) -> Distribution:
    """Return the model with every number that it learns moved by its own number."""
    params, rest = partition(model)
    size = sum(value.size for value in params.values())
    if moves.size != size:
        raise ValueError(f"network: expected {size} numbers, one for each that the model learns, got {moves.size}")
    for path, value in params.items():
        move, moves = moves[: value.size], moves[value.size :]
        params[path] = value + move.reshape(value.shape)
    moved: Distribution = combine(params, rest)
    return moved
