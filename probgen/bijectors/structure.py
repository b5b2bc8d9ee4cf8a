"""Bijectors made of bijectors."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.bijectors.base import Bijector, apply, refuse_batch
from probgen.bijectors.constant import as_bijector
from probgen.bijectors.elementwise import Sigmoid
from probgen.bijectors.support import require_within
from probgen.core import as_float, bind, check_sizes, given, is_random, with_keys


class Chain(Bijector):
    """The composition f₁ ∘ f₂ ∘ … of a list: the last one is applied first, as in distrax.

        log|det| = the sum of the parts' log-determinants

    Parts may differ in rank: a scalar bijector acts on every number of the event.

    Args:
        bijectors: at least one, ours, distrax's or numpyro's; `Chain([f, g])` is f ∘ g.

    Raises ValueError where the list is empty.

    >>> import distrax, jax.numpy as jnp
    >>> from probgen.bijectors import Affine, Sigmoid
    >>> Chain([Sigmoid(), Affine(jnp.zeros(3), jnp.ones(3))]).event_ndims_in
    1
    """

    bijectors: tuple[Bijector, ...]

    def __init__(self, bijectors: Sequence[Any]):
        if not bijectors:
            raise ValueError("bijectors: expected at least one, got an empty list")
        self.bijectors = tuple(as_bijector(b) for b in bijectors)

    @property
    def event_ndims_in(self) -> int:
        rank, change = 0, 0
        for b in reversed(self.bijectors):  # the least rank at which every part sees a whole event
            rank = max(rank, b.event_ndims_in - change)
            change += b.event_ndims_out - b.event_ndims_in
        return rank

    @property
    def event_ndims_out(self) -> int:
        return self.event_ndims_in + sum(b.event_ndims_out - b.event_ndims_in for b in self.bijectors)

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return self.bijectors

    @property
    def domain(self) -> constraints.Constraint:
        return self.bijectors[-1].domain

    @property
    def codomain(self) -> constraints.Constraint:
        return self.image(self.domain)

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        total = jnp.zeros((), jnp.float32)
        for b in reversed(self.bijectors):
            x, log_det = apply(b, x)
            total = total + log_det
        return x, total

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        total = jnp.zeros((), jnp.float32)
        for b in self.bijectors:
            y, log_det = apply(b, y, inverse=True)
            total = total + log_det
        return y, total

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        cut = len(shape) - self.event_ndims_in
        lead, shape = shape[:cut], shape[cut:]
        for b in reversed(self.bijectors):
            if b.batch_shape(shape):
                refuse_batch(b)
            shape = b.forward_shape(shape)
        return (*lead, *shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for b in self.bijectors:
            shape = b.inverse_shape(shape)
        return shape

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        for b in reversed(self.bijectors):
            require_within(support, b.domain, type(b).__name__)
            support = b.image(support)
        return support

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        for b in self.bijectors:
            require_within(support, b.codomain, f"the inverse of {type(b).__name__}")
            support = b.preimage(support)
        return support

    def initialize(self, batch: Array, *, inverse: bool, context: Array | None = None) -> tuple[Bijector, Array]:
        new = []
        for b in self.bijectors if inverse else reversed(self.bijectors):
            b, batch = b.initialize(batch, inverse=inverse, context=context)
            new.append(b)
        return Chain(new if inverse else new[::-1]), batch


class Inverse(Bijector):
    """The inverse of a bijector: forward and inverse change places.

    Args:
        bijector: the one to invert, ours, distrax's or numpyro's.

    >>> from probgen.bijectors import Sigmoid
    >>> Inverse(Sigmoid()).forward(0.5)
    Array(0., dtype=float32)
    """

    bijector: Bijector

    def __init__(self, bijector: Any):
        self.bijector = as_bijector(bijector)

    @property
    def event_ndims_in(self) -> int:
        return self.bijector.event_ndims_out

    @property
    def event_ndims_out(self) -> int:
        return self.bijector.event_ndims_in

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.bijector,)

    @property
    def domain(self) -> constraints.Constraint:
        return self.bijector.codomain

    @property
    def codomain(self) -> constraints.Constraint:
        return self.bijector.domain

    def batch_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.bijector.batch_shape(self.bijector.inverse_shape(event_shape))

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self.bijector.inverse_event(x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self.bijector.forward_event(y)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        return self.bijector.inverse_and_log_det(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        return self.bijector.forward_and_log_det(y)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.bijector.inverse_shape(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.bijector.forward_shape(shape)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return self.bijector.preimage(support)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        return self.bijector.image(support)

    def initialize(self, batch: Array, *, inverse: bool, context: Array | None = None) -> tuple[Bijector, Array]:
        bijector, batch = self.bijector.initialize(batch, inverse=not inverse, context=context)
        return Inverse(bijector), batch


def Logit() -> Inverse:
    """Return y = log x − log(1 − x): (0, 1) → ℝ, the inverse of `Sigmoid`.

    >>> Logit().forward(0.5)
    Array(0., dtype=float32)
    """
    return Inverse(Sigmoid())


class Stacked(Bijector):
    """Equal layers, run by one `lax.scan`, so that compile time does not grow with depth.

    The order is `Chain`'s: layer L−1 is applied first by `forward`. The layers keep the event's shape.

    Args:
        layers: one bijector whose leaves carry the L layers on axis 0; `stack` makes it from a list, or construct it
            under `vmap`.
        unroll: how many layers the compiler sees at once, or True for all.
        context: the context that all layers share; `core.bind` sets it.

    >>> import jax.numpy as jnp
    >>> from probgen.bijectors import Affine
    >>> two = stack([Affine(jnp.ones(3), jnp.zeros(3)), Affine(jnp.zeros(3), jnp.ones(3))])
    >>> two.forward(jnp.zeros(3))
    Array([1., 1., 1.], dtype=float32)
    """

    layers: Bijector
    unroll: int | bool = eqx.field(static=True, default=1)
    context: Array | None = given(default=None)

    def __check_init__(self) -> None:
        if isinstance(self.layers, list | tuple):
            raise ValueError("layers: expected one bijector with stacked leaves, got several: `stack` makes it of them")
        if not isinstance(self.unroll, bool):
            check_sizes(unroll=self.unroll)

    @property
    def event_ndims_in(self) -> int:
        return self.layers.event_ndims_in

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.layers,)

    @property
    def depth(self) -> int:
        """The number of layers."""
        return jax.tree.leaves(self.layers)[0].shape[0]

    @property
    def is_random(self) -> bool:
        """Whether the layers hold dropout."""
        return is_random(self.layers)

    def bind_context(self, context: Array) -> "Stacked":
        """Return the same layers with a context, which is shared by all of them and bound inside the scan."""
        return Stacked(self.layers, self.unroll, context)

    def bind_key(self, key: Array) -> "Stacked":
        """Return the same layers, each with a key of its own."""
        return Stacked(with_keys(self.layers, key), self.unroll, self.context)

    def _scan(self, x: Array, *, inverse: bool) -> tuple[Array, Array]:
        def one(carry: tuple[Array, Array], layer: Bijector) -> tuple[tuple[Array, Array], None]:
            x, total = carry
            layer = layer if self.context is None else bind(layer, self.context)
            y, log_det = apply(layer, x, inverse=inverse)
            return (y, total + log_det), None

        first = jax.tree.map(lambda leaf: leaf[0], self.layers)
        out = jax.eval_shape(lambda x: one((x, jnp.zeros((), x.dtype)), first)[0], x)
        start = (x.astype(out[0].dtype), jnp.zeros((), out[1].dtype))
        return lax.scan(one, start, self.layers, reverse=not inverse, unroll=self.unroll)[0]

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self._scan(x, inverse=False)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self._scan(y, inverse=True)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        for i in reversed(range(self.depth)):
            support = jax.tree.map(lambda leaf: leaf[i], self.layers).image(support)  # noqa: B023 (used at once)
        return support

    def initialize(self, batch: Array, *, inverse: bool, context: Array | None = None) -> tuple[Bijector, Array]:
        def one(batch: Array, layer: Bijector) -> tuple[Array, Bijector]:
            layer, out = layer.initialize(batch, inverse=inverse, context=context)
            return out.astype(batch.dtype), layer

        batch, layers = lax.scan(one, as_float(batch), self.layers, reverse=not inverse)
        return Stacked(layers, self.unroll, self.context), batch


def stack(layers: Sequence[Bijector], *, unroll: int | bool = 1) -> Stacked:
    """Return equal layers as one `Stacked`.

    Args:
        layers: bijectors of one structure, in the order of `Chain`.
        unroll: how many layers the compiler sees at once, or True for all.

    Raises ValueError where their structures differ.
    """
    structures = {jax.tree.structure(layer) for layer in layers}
    if len(structures) != 1:
        raise ValueError(f"layers: expected equal structures, got {len(structures)} different ones")
    return Stacked(jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers), unroll)
