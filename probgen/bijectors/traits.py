"""Three kinds of bijectors that know what becomes of a support: of one number, of each number, and what moves them."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.base import Bijector
from probgen.bijectors.support import UnknownSupport, as_interval, inside, map_support, move_end, require_within


class Scalar(Bijector):
    """A monotone map of one number, hence of each number of a larger event: an interval goes to where its ends go.

    A subclass is two maps, `forward_each(x) -> (y, log|dy/dx|)` and `inverse_each(y) -> (x, log|dx/dy|)`, and a line
    `codomain = …` (or `domain = …`) where it maps ℝ (or is defined) to less than ℝ. The maps need not mind the ends: a
    value that rounded to one comes to them as the last number before it, so that its density stays finite, and one
    beyond as NaN; with `closed = True`, for maps that are right at the ends too, all values come as they are. It may
    rise or fall: which of the two is found out where it matters, unless a line `increasing = …` says so.

    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> from probgen.distributions import Transformed
    >>> class Gumbel(Scalar):
    ...     codomain = constraints.unit_interval
    ...
    ...     def forward_each(self, x):
    ...         return jnp.exp(-jnp.exp(-x)), -x - jnp.exp(-x)
    ...
    ...     def inverse_each(self, y):
    ...         x = -jnp.log(-jnp.log(y))
    ...         return x, x + jnp.exp(-x)
    >>> Gumbel().inverse(jnp.array([0.0, 0.5, 1.0])).round(2)  # both ends are finite
    Array([-4.47,  0.37, 16.64], dtype=float32)
    >>> Transformed(dist.HalfNormal(), Gumbel()).support  # from 1/e to 1
    Interval(lower_bound=0.3678794503211975, upper_bound=1.0)
    """

    event_ndims_in = 0
    closed: ClassVar[bool] = False
    increasing: ClassVar[bool | None] = None

    @abstractmethod
    def forward_each(self, x: Array) -> tuple[Array, Array]:
        """Return (f(x), log|f'(x)|), number by number."""

    @abstractmethod
    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        """Return (f⁻¹(y), the logarithm of its derivative's size), number by number."""

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return _summed(*self.forward_each(x if self.closed else inside(x, self.domain)))

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return _summed(*self.inverse_each(y if self.closed else inside(y, self.codomain)))

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        require_within(support, self.domain, type(self).__name__)
        return self._moved(self.forward, support, self.domain, self.codomain) or super().image(support)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        require_within(support, self.codomain, f"the inverse of {type(self).__name__}")
        return self._moved(self.inverse, support, self.codomain, self.domain) or super().preimage(support)

    def _moved(
        self, function: Callable[[Array], Array], *supports: constraints.Constraint
    ) -> constraints.Constraint | None:
        return map_support(function, *supports, shape=self.event_shape or (), increasing=self.increasing)


def _summed(y: Array, log_slope: Array) -> tuple[Array, Array]:
    return y, jnp.sum(jnp.broadcast_to(log_slope, y.shape))


class Elementwise(Scalar):
    """A `Scalar` of parameters, of which each number of an event has its own.

        y_i = f(x_i; θ_i),   log|det| = Σ_i log|dy_i/dx_i|

    A subclass is that and its parameters: arrays of the event's shape, with `parameter_axes` more at the end where one
    number takes several. The rank and the shape of events follow from them; supports may have bounds that are arrays.
    Where parameters are traced, only `increasing = …` tells where half a line goes.

    >>> import jax.numpy as jnp
    >>> class Sinh(Elementwise):
    ...     width: Array
    ...
    ...     def forward_each(self, x):
    ...         return jnp.sinh(x / self.width), jnp.log(jnp.cosh(x / self.width) / self.width)
    ...
    ...     def inverse_each(self, y):
    ...         return self.width * jnp.arcsinh(y), jnp.log(self.width) - 0.5 * jnp.log1p(y**2)
    >>> sinh = Sinh(jnp.array([1.0, 2.0]))
    >>> sinh.event_ndims_in, sinh.forward(jnp.zeros(2)), sinh.image(constraints.positive)
    (1, Array([0., 0.], dtype=float32), GreaterThan(lower_bound=[0. 0.]))
    """

    # as it was when made: later, leaves may carry layers or copies on axes in front
    rank: int = eqx.field(static=True, init=False, default=0)
    parameter_axes: ClassVar[int] = 0

    def __check_init__(self) -> None:
        ranks = [np.ndim(leaf) for leaf in jax.tree.leaves(self)]
        object.__setattr__(self, "rank", max(ranks, default=self.parameter_axes) - self.parameter_axes)

    @property
    def event_ndims_in(self) -> int:  # type: ignore[override]
        return self.rank

    @property
    def event_shape(self) -> tuple[int, ...]:
        ends = [(np.shape(leaf), np.ndim(leaf) - self.parameter_axes) for leaf in jax.tree.leaves(self)]
        return np.broadcast_shapes(*(shape[max(end - self.rank, 0) : max(end, 0)] for shape, end in ends))


class Rearranging(Bijector):
    """A bijector that moves the numbers of an event and changes none: log|det| = 0, integers stay integers, and the
    bounds of a support move with the numbers that they bound.

    A subclass is two maps, `move(x) -> y` and `move_back(y) -> x`, of one event; and `shapes` where the shape changes.

    >>> import jax.numpy as jnp
    >>> class Swap(Rearranging):
    ...     def move(self, x):
    ...         return jnp.roll(x, 1)
    ...
    ...     def move_back(self, y):
    ...         return jnp.roll(y, -1)
    >>> Swap().image(constraints.interval(jnp.array([0.0, 1.0]), 2.0))
    Interval(lower_bound=[1. 0.], upper_bound=2.0)
    """

    is_constant_jacobian = True
    moves_only = True

    @abstractmethod
    def move(self, x: Array) -> Array:
        """Return f(x) of one event."""

    @abstractmethod
    def move_back(self, y: Array) -> Array:
        """Return f⁻¹(y) of one event."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of its events before and after; empty where any will do."""
        return self.event_shape or (), self.event_shape or ()

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self.move(x), _no_log_det(x)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self.move_back(y), _no_log_det(y)

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return self._moved(self.forward, support, *self.shapes)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        return self._moved(self.inverse, support, *self.shapes[::-1])

    def _moved(
        self,
        function: Callable[[Array], Array],
        support: constraints.Constraint,
        old: tuple[int, ...],
        new: tuple[int, ...],
    ) -> constraints.Constraint:
        interval = as_interval(support)
        if interval is None:
            raise UnknownSupport(f"{type(self).__name__} cannot say where it maps the support {support}")
        whole = lambda end: function(jnp.broadcast_to(end, jnp.broadcast_shapes(jnp.shape(end), old)))
        lower, upper = (end if end is None or not jnp.ndim(end) else move_end(whole, end) for end in interval[:2])
        return interval._replace(
            lower=lower, upper=upper, event_dim=interval.event_dim + len(new) - len(old)
        ).constraint()


def _no_log_det(x: Array) -> Array:
    return jnp.zeros((), jnp.promote_types(x.dtype, jnp.float32))
