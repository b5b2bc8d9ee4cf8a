"""Bijectors that act on the parts of an event, each on its own."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.base import Bijector, apply
from probgen.bijectors.constant import as_bijector
from probgen.bijectors.support import UnknownSupport, as_interval, is_real, widen
from probgen.core import bind, given, is_random, with_keys


class Concatenate(Bijector):
    """Consecutive parts of a vector, each through a bijector of its own.

        y = [f₁(x₁), …, f_n(x_n)],   log|det| = Σ log|det f_i|

    The support is the parts' supports in a row (numpyro's `constraints.cat`), where each is an interval.

    Args:
        bijectors: the parts' bijectors, of scalars or vectors.
        sizes: how many coordinates each takes of x.

    Raises ValueError where the lists differ in length, a size is less than 1, or a part takes or makes anything but
    vectors of its size.

    >>> import distrax, jax.numpy as jnp
    >>> from probgen.bijectors import Affine
    >>> both = Concatenate([Affine(jnp.ones(2), jnp.zeros(2)), distrax.Tanh()], (2, 1))
    >>> both.forward(jnp.zeros(3))
    Array([1., 1., 0.], dtype=float32)
    """

    bijectors: tuple[Bijector, ...]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, bijectors: Sequence[Any], sizes: Sequence[int]):
        self.bijectors = tuple(as_bijector(b) for b in bijectors)
        self.sizes = tuple(int(n) for n in sizes)
        if len(self.bijectors) != len(self.sizes) or not self.sizes or min(self.sizes) < 1:
            raise ValueError(
                f"sizes: expected one size, at least 1, for each of {len(self.bijectors)} bijectors, got {self.sizes}"
            )
        for i, b in enumerate(self.bijectors):
            if b.event_ndims_in > 1 or b.event_ndims_out != b.event_ndims_in:
                ranks = f"{b.event_ndims_in} → {b.event_ndims_out}"
                raise ValueError(f"bijectors: expected vectors or scalars, but part {i} has events of rank {ranks}")

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return self.bijectors

    @property
    def _sizes_out(self) -> tuple[int, ...]:
        return tuple(b.forward_shape((n,))[-1] for b, n in zip(self.bijectors, self.sizes))

    def _split(self, x: Array, sizes: tuple[int, ...]) -> list[Array]:
        if x.shape[-1] != sum(sizes):
            raise ValueError(f"Concatenate expects {' + '.join(map(str, sizes))} coordinates, got shape {x.shape}")
        return jnp.split(x, np.cumsum(sizes)[:-1], axis=-1)

    def _both(self, x: Array, *, inverse: bool) -> tuple[Array, Array]:
        parts = self._split(x, self._sizes_out if inverse else self.sizes)
        done, log_dets = zip(*(apply(b, part, inverse=inverse) for b, part in zip(self.bijectors, parts)))
        return jnp.concatenate(done), sum(log_dets, jnp.zeros((), x.dtype))

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self._both(x, inverse=False)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self._both(y, inverse=True)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._exchange(shape, self.sizes, self._sizes_out)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._exchange(shape, self._sizes_out, self.sizes)

    def _exchange(self, shape: tuple[int, ...], old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
        if shape[-1:] != (sum(old),):
            raise ValueError(
                f"Concatenate expects {' + '.join(map(str, old))} coordinates, got events of shape {shape}"
            )
        return (*shape[:-1], sum(new))

    @property
    def domain(self) -> constraints.Constraint:
        return self._join([b.domain for b in self.bijectors], self.sizes, 1)

    @property
    def codomain(self) -> constraints.Constraint:
        return self._join([b.codomain for b in self.bijectors], self._sizes_out, 1)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        parts = [b.image(part) for b, part in zip(self.bijectors, self._divide(support, self.sizes))]
        return self._join(parts, self._sizes_out, support.event_dim)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        parts = [b.preimage(part) for b, part in zip(self.bijectors, self._divide(support, self._sizes_out))]
        return self._join(parts, self.sizes, support.event_dim)

    def _divide(self, support: constraints.Constraint, sizes: tuple[int, ...]) -> list[constraints.Constraint]:
        """Return the support of each part."""
        base = support.base_constraint if isinstance(support, constraints.independent) else support
        if isinstance(base, constraints.cat) and base.dim == -1 and base.lengths == sizes:
            return [widen(part, support.event_dim) for part in base.cseq]
        if as_interval(support) is None:
            raise UnknownSupport(f"Concatenate cannot divide the support {support}")
        cuts = [slice(end - n, end) for n, end in zip(sizes, np.cumsum(sizes))]
        return [jax.tree.map(lambda b: b[..., cut] if jnp.ndim(b) else b, support) for cut in cuts]  # noqa: B023

    def _join(
        self, parts: list[constraints.Constraint], sizes: tuple[int, ...], event_dim: int
    ) -> constraints.Constraint:
        """Return the support of a vector whose parts have these supports."""
        intervals = [as_interval(part) for part in parts]
        if all(is_real(part) for part in parts):
            return widen(constraints.real, event_dim)
        if any(interval is None for interval in intervals):
            raise UnknownSupport(f"Concatenate cannot join the supports {parts}")
        scalars = [interval._replace(event_dim=0).constraint() for interval in intervals if interval]
        return widen(constraints.cat(scalars, dim=-1, lengths=sizes), max(event_dim, 1))

    def initialize(self, batch: Array, *, inverse: bool, context: Array | None = None) -> tuple[Bijector, Array]:
        parts = self._split(batch, self._sizes_out if inverse else self.sizes)
        both = [b.initialize(part, inverse=inverse, context=context) for b, part in zip(self.bijectors, parts)]
        return Concatenate([b for b, _ in both], self.sizes), jnp.concatenate([part for _, part in both], -1)


class Vmap(Bijector):
    """Independent copies along a new first axis of the event, each with parameters of its own.

        y_i = f_i(x_i),   log|det| = Σ_i log|det f_i|

    One bijector that all rows share needs no wrapper: it acts along the leading axes of a larger event anyway.

    Args:
        copies: one bijector whose leaves carry the copies on axis 0, made under `vmap`.
        context: the context that all copies share; `core.bind` sets it.

    Raises ValueError where an event has another number of rows.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.bijectors import Affine
    >>> rows = Vmap(jax.vmap(Affine)(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.zeros((2, 2))))
    >>> rows.forward(jnp.zeros((2, 2))).tolist()
    [[0.0, 0.0], [1.0, 2.0]]
    """

    copies: Bijector
    context: Array | None = given(default=None)

    @property
    def size(self) -> int:
        """The number of copies."""
        return jax.tree.leaves(self.copies)[0].shape[0]

    @property
    def event_ndims_in(self) -> int:
        return self.copies.event_ndims_in + 1

    @property
    def event_ndims_out(self) -> int:
        return self.copies.event_ndims_out + 1

    @property
    def parts(self) -> tuple[Bijector, ...]:
        return (self.copies,)

    @property
    def is_random(self) -> bool:
        """Whether the copies hold dropout."""
        return is_random(self.copies)

    def bind_context(self, context: Array) -> "Vmap":
        """Return the same copies with a context, which is shared by all of them and bound inside the map."""
        return Vmap(self.copies, context)

    def bind_key(self, key: Array) -> "Vmap":
        """Return the same copies, each with a key of its own."""
        return Vmap(with_keys(self.copies, key), self.context)

    def _copy(self, i: int) -> Bijector:
        return jax.tree.map(lambda leaf: leaf[i], self.copies)

    def _both(self, x: Array, *, inverse: bool) -> tuple[Array, Array]:
        self._check(x.shape, x.ndim)

        def one(copy: Bijector, x: Array) -> tuple[Array, Array]:
            return apply(copy if self.context is None else bind(copy, self.context), x, inverse=inverse)

        y, log_det = jax.vmap(one)(self.copies, x)
        return y, jnp.sum(log_det)

    def _check(self, shape: tuple[int, ...], ndims: int) -> None:
        if len(shape) < ndims or shape[len(shape) - ndims] != self.size:
            raise ValueError(f"Vmap expects events of {self.size} rows in {ndims} axes, got shape {shape}")

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self._both(x, inverse=False)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self._both(y, inverse=True)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check(shape, self.event_ndims_in)
        cut = len(shape) - self.copies.event_ndims_in
        return (*shape[:cut], *self._copy(0).forward_shape(shape[cut:]))

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check(shape, self.event_ndims_out)
        cut = len(shape) - self.copies.event_ndims_out
        return (*shape[:cut], *self._copy(0).inverse_shape(shape[cut:]))

    @property
    def domain(self) -> constraints.Constraint:
        return self._join([self._copy(i).domain for i in range(self.size)], self.event_ndims_in)

    @property
    def codomain(self) -> constraints.Constraint:
        return self._join([self._copy(i).codomain for i in range(self.size)], self.event_ndims_out)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        rows = [self._row(support, i, self.event_ndims_in) for i in range(self.size)]
        return self._join([self._copy(i).image(row) for i, row in enumerate(rows)], self.event_ndims_out)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        rows = [self._row(support, i, self.event_ndims_out) for i in range(self.size)]
        return self._join([self._copy(i).preimage(row) for i, row in enumerate(rows)], self.event_ndims_in)

    def _row(self, support: constraints.Constraint, i: int, rank: int) -> constraints.Constraint:
        """Return the support of one row, of an event whose last `rank` axes are the bijector's."""
        if isinstance(support, constraints.independent):
            base, axes = support.base_constraint, support.reinterpreted_batch_ndims - 1
            support = constraints.independent(base, axes) if axes else base
        elif support.event_dim:
            raise UnknownSupport(f"Vmap cannot divide the support {support} into rows")
        one = lambda end: jnp.take(end, min(i, end.shape[-rank] - 1), axis=-rank) if jnp.ndim(end) >= rank else end
        return jax.tree.map(one, support)

    def _join(self, rows: list[constraints.Constraint], rank: int) -> constraints.Constraint:
        """Return the support of an event whose rows have these supports."""
        if len({jax.tree.structure(row) for row in rows}) != 1:
            raise UnknownSupport(f"Vmap cannot join the supports of its rows, {rows}")

        def join(*ends: Any) -> Array:
            full = [jnp.reshape(end, (1,) * (rank - 1 - jnp.ndim(end)) + jnp.shape(end)) for end in ends]
            return jnp.stack(full, axis=-rank)

        return constraints.independent(jax.tree.map(join, *rows), 1)

    def initialize(self, batch: Array, *, inverse: bool, context: Array | None = None) -> tuple[Bijector, Array]:
        axes = (-self.event_ndims_in, -self.event_ndims_out)
        before, after = axes[::-1] if inverse else axes
        one = lambda copy, rows: copy.initialize(rows, inverse=inverse, context=context)
        copies, batch = jax.vmap(one, in_axes=(0, before), out_axes=(0, after))(self.copies, batch)
        return Vmap(copies, self.context), batch
