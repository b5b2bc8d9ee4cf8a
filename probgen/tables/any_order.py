"""The any-order autoregressive model of a table's rows."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.core import check_instances, check_sizes, map_batch, split_key
from probgen.core.even_times import even
from probgen.data.columns import Column
from probgen.distributions import Model, lifted, verb
from probgen.distributions.in_blocks import map_particles
from probgen.tables.completion import Completed
from probgen.tables.layout import CellHead, Layout, layout_of
from probgen.tables.support import Rows


class AnyOrderTable(Model):
    """A density of rows of mixed columns: a product of conditionals, in any order, by one network.

        p(x) = 1/M Σ_m Π_i p(x_{σ_{m,i}} | x_{σ_{m,1}}, …, x_{σ_{m,i−1}})

    It is trained on all orders σ at once, with one call of the network for each row,

        loss = −E_σ Σ_i log p(x_{σ_i} | x_{σ_1}, …, x_{σ_{i−1}}),

    so that any cells can be known and any others asked for: `given` conditions, and draws what is missing; `Observed`
    is the density of rows of which cells are missing. Reported is the mixture of M orders, which is exact.

    Of a category, or of a number that is rounded, the conditional is a mass; of another number it is a density of the
    standardized number (`tables.log_prob` is that of the table's own units).

    Args:
        network: (features of the known cells, which cells are known [D]) → the raw numbers of all cells.
        columns: of the table; those that are constant, or repeat others, are no part of an event.
        components: K logistics for each column of numbers.
        orders: M orders of the D columns; that of the table by default. `model.replace(orders=…)` changes them, after
            training too.

    Raises ValueError where an order is no permutation, or the network's output has another size.

    References: A Deep and Tractable Density Estimator (Uria, Murray, Larochelle 2014), arXiv:1310.1757; Autoregressive
    Diffusion Models (Hoogeboom et al. 2022), arXiv:2110.02037.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.data import Column
    >>> columns = (Column("colour", "categorical", "str", ("blue", "red")), Column("size", "real", "float"))
    >>> uniform = AnyOrderTable(lambda features, known: jnp.zeros(6), columns, components=1)
    >>> uniform.log_prob(jnp.array([1.0, 0.0])).round(4)  # log 1/2, and a logistic of scale 0.49
    Array(-1.3669, dtype=float32)
    """

    pytree_data_fields = ("network",)
    pytree_aux_fields = ("columns", "components", "orders")
    loss_is_bound = False

    def __init__(
        self,
        network: Callable[[Array, Array], Array],
        columns: Sequence[Column],
        *,
        components: int = 8,
        orders: Sequence[Sequence[int]] | None = None,
        validate_args: bool | None = None,
    ):
        self.network, self.columns, self.components = network, tuple(columns), components
        self.orders = ([range(self.layout.size)]) if orders is None else orders
        self._check_fields()
        super().__init__((self.layout.size,), validate_args=validate_args)

    def _check_fields(self) -> None:
        check_instances(network=self.network)
        check_sizes(components=self.components)
        size = self.layout.size
        numbers = all(isinstance(i, int | np.integer) for order in self.orders for i in order)
        self.orders = tuple(tuple(map(int, order)) for order in self.orders) if numbers else tuple(self.orders)
        if not numbers or not self.orders or any(sorted(order) != list(range(size)) for order in self.orders):
            raise ValueError(f"orders: expected permutations of 0..{size - 1}, got {self.orders}")

    @property
    def layout(self) -> Layout:
        """Which columns are categories, and which are numbers."""
        return layout_of(self.columns)

    @property
    def head(self) -> CellHead:
        """What makes distributions of raw numbers."""
        return CellHead(self.layout, self.components)

    @property
    def support(self) -> Rows:
        """The rows of the table."""
        return Rows(self.columns)

    @verb
    def given(self, x: Array, mask: Any) -> Completed:
        """Return the distribution of whole rows of which those cells of x are known where `mask` is True, any of them.

        Args:
            x: rows, [..., D]; what is unknown may be anything, such as NaN.
            mask: booleans, [..., D].

        Raises ValueError where `mask` is of another dtype or shape.
        """
        x, known = jnp.broadcast_arrays(jnp.asarray(x, float), self.as_mask(mask))
        return Completed(self, jnp.where(known, x, self.layout.feasible), known)

    def as_mask(self, mask: Any) -> Array:
        """Return a mask as an array; raise ValueError where it holds no booleans or is of another shape."""
        known = jnp.asarray(mask)
        if known.dtype != bool or known.shape[-1:] != self.event_shape:
            raise ValueError(f"mask: expected booleans [..., {self.event_shape[0]}], got {known.dtype}{known.shape}")
        return known

    # -- one row

    def log_prob_event(self, x: Array) -> Array:
        """Return log p of a whole row."""
        none = jnp.zeros(self.event_shape, bool)
        return self._log_prob_between(x, none, ~none)

    def sample_event(self, key: Array) -> Array:
        """Draw one row, in one of the orders."""
        return self._draw_from(key, jnp.asarray(self.layout.feasible), jnp.zeros(self.event_shape, bool))

    def _raw(self, x: Array, known: Array) -> Array:
        known = known.astype(x.dtype)
        raw, size = self.network(self.layout.features(x, known), known), self.head.num_params
        if raw.shape != (size,):
            raise ValueError(f"network: expected an output of {size} numbers, got shape {raw.shape}")
        return raw

    def _log_prob_between(self, x: Array, known: Array, observed: Array) -> Array:
        """Return log p of the observed cells given the known ones, of one row."""
        places = jnp.asarray(np.argsort(np.asarray(self.orders), -1))

        def conditional(places: Array, i: Array) -> Array:
            before = known | (observed & (places < places[i]))
            here = self.head.log_prob(self._raw(x, before), x)[i]
            return jnp.where(observed[i] & ~known[i], here, 0.0)

        columns = jnp.arange(x.size)
        each = jax.vmap(lambda places: jnp.sum(jax.vmap(conditional, (None, 0))(places, columns)))(places)
        return jax.nn.logsumexp(each) - math.log(len(self.orders))

    def _loss(self, key: Array, u: Array, x: Array, observed: Array) -> Array:
        """Return −log p of the observed cells in an order that is drawn, an estimate of its mean by one conditional of
        each cell that comes late in it."""
        noise = jnp.where(observed, jax.random.uniform(key, x.shape), 2.0)
        order = jnp.argsort(jnp.argsort(noise))
        count = jnp.sum(observed)
        late = jnp.minimum(1 + jnp.floor(u * count).astype(count.dtype), count)  # how many are asked for
        known = observed & (order < count - late)
        log_p = self.head.log_prob(self._raw(x, known), x)
        return -jnp.sum(jnp.where(observed & ~known, log_p, 0.0)) * count / jnp.maximum(late, 1)

    def _draw_from(self, key: Array, x: Array, known: Array) -> Array:
        which_key, key = jax.random.split(key)
        order = jnp.asarray(self.orders)[jax.random.randint(which_key, (), 0, len(self.orders))]

        def one(i: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
            x, known = both
            here = order[i]
            drawn = self.head.sample(jax.random.fold_in(key, i), self._raw(x, known))[here]
            return jnp.where(known[here], x, x.at[here].set(drawn)), known.at[here].set(True)

        return lax.fori_loop(0, x.size, one, (x, known))[0]

    # -- many rows

    def _training_loss(self, key: Array, value: Array, num_particles: int) -> Array:
        return self._losses(key, value, jnp.ones(value.shape, bool), num_particles)

    def _losses(self, key: Array, value: Array, observed: Array, num_particles: int) -> Array:
        u_key, order_key = jax.random.split(key)
        u = even(u_key, value.shape[:-1], num_particles)
        loss = lambda _, key, u, x, observed: self._loss(key, u, x, observed)
        particle = lambda keys, u: map_batch(loss, None, (), (keys, u, value, observed), (0, 0, 1, 1))
        return jnp.mean(map_particles(particle, (split_key(order_key, u.shape), u), value.size), 0)

    @lifted("event", "event", "event")
    def log_prob_after(self, x: Array, known: Array, observed: Array) -> Array:
        """Return log p(the observed cells of x | the known ones), of rows and masks [..., D]."""
        return self._log_prob_between(x, known, observed)

    @lifted("keys", "event", "event")
    def draw_after(self, key: Array, x: Array, known: Array) -> Array:
        """Draw rows which have the cells of x where they are known; there is a key for each."""
        return self._draw_from(key, x, known)
