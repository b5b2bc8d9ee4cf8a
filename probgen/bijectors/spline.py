"""Monotone rational-quadratic splines, with linear tails, on an interval, or around a circle."""

import enum
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.bijectors.base import Bijector

MIN_BIN = 1e-3  # least share of the interval that a bin takes, of its width and of its height
MIN_SLOPE = 1e-3
_RAW_OF_SLOPE_1 = math.log(math.expm1(1.0 - MIN_SLOPE))


class Tails(enum.Enum):
    """What a spline does at the ends of its interval."""

    LINEAR = "linear"
    """The identity outside, so that it maps ℝ to ℝ; the slopes at the ends are 1."""
    BOUNDED = "bounded"
    """It maps the interval onto itself and is not defined outside; the slopes at the ends are learned."""
    CIRCULAR = "circular"
    """The interval is a circle: the slopes at its ends are one, and learned."""

    def num_slopes(self, bins: int) -> int:
        """How many slopes are learned."""
        return bins + {Tails.LINEAR: -1, Tails.BOUNDED: 1, Tails.CIRCULAR: 0}[self]


class Spline(Bijector):
    """A monotone rational-quadratic spline of each number of the event, from [low, high] onto itself.

    In the bin [x_k, x_k + w] → [y_k, y_k + h], with s = h / w, slopes d₀ and d₁ at its ends, and z = (x − x_k) / w,

        y = y_k + h (s z² + d₀ z(1−z)) / (s + (d₀ + d₁ − 2s) z(1−z))
        dy/dx = s² (d₁ z² + 2 s z(1−z) + d₀ (1−z)²) / (s + (d₀ + d₁ − 2s) z(1−z))²

    Widths and heights are softmaxes, the slopes softpluses of raw numbers; raw zeros are the identity. Values and
    gradients are finite at any raw numbers.

    Args: `raw`, [*event, 3 · bins − 1] (`LINEAR`), [*event, 3 · bins + 1] (`BOUNDED`) or [*event, 3 · bins]
    (`CIRCULAR`): widths, heights, slopes; learned. `interval` (low, high); `tails`. Raises ValueError where the
    number of raw numbers fits no number of bins, or low ≥ high.

    References: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios 2019), arXiv:1906.04032; on circles:
    Normalizing Flows on Tori and Spheres (Rezende et al. 2020), arXiv:2002.02428.

    >>> import jax.numpy as jnp
    >>> y, log_det = Spline(jnp.zeros((2, 23))).forward_and_log_det(jnp.array([0.3, 7.0]))
    >>> y.round(5).tolist(), abs(round(float(log_det), 5))
    ([0.30000001192092896, 7.0], 0.0)
    """

    raw: Array
    interval: tuple[float, float] = eqx.field(static=True)
    tails: Tails = eqx.field(static=True)
    rank: int = eqx.field(static=True)

    def __init__(
        self, raw: Array, *, interval: tuple[float, float] = (-3.0, 3.0), tails: Tails = Tails.LINEAR
    ):
        low, high = (float(end) for end in interval)
        if not low < high:
            raise ValueError(f"interval: expected low < high, got {interval}")
        self.raw, self.interval, self.tails, self.rank = raw, (low, high), tails, jnp.ndim(raw) - 1
        if self.rank < 0 or 2 * self.bins + tails.num_slopes(self.bins) != raw.shape[-1] or self.bins < 1:
            raise ValueError(
                f"raw: expected 3 · bins {tails.num_slopes(0):+d} numbers on the last axis, got {jnp.shape(raw)}"
            )

    @property
    def bins(self) -> int:
        """The number of bins."""
        return (self.raw.shape[-1] - self.tails.num_slopes(0)) // 3

    @property
    def event_ndims_in(self) -> int:
        return self.rank

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.real if self.tails is Tails.LINEAR else constraints.interval(*self.interval)

    @property
    def codomain(self) -> constraints.Constraint:
        return self.domain

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        inner = support.base_constraint if isinstance(support, constraints.independent) else support
        whole = isinstance(inner, constraints.interval) and (inner.lower_bound, inner.upper_bound) == self.interval
        return support if whole else super().image(support)

    preimage = image

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        y, log_det = _on_interval(_forward, x, self)
        return y, jnp.sum(log_det)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        x, log_det = _on_interval(_inverse, y, self)
        return x, jnp.sum(log_det)


def _on_interval(function: Callable[..., tuple[Array, Array]], x: Array, spline: Spline) -> tuple[Array, Array]:
    """A map of [0, 1] as one of the interval, and the identity (of log-slope 0) outside."""
    low, high = spline.interval
    raw = jnp.broadcast_to(spline.raw, (*x.shape, spline.raw.shape[-1]))
    inside = (x >= low) & (x <= high)
    u = jnp.where(inside, (x - low) / (high - low), 0.5)
    y, log_slope = function(u, _unstack(raw), spline.tails)
    return jnp.where(inside, low + (high - low) * y, x), jnp.where(inside, log_slope, 0.0)


def _unstack(raw: Array) -> list[Array]:
    # its transpose is one concatenation, where that of indexing pads every number to the full size
    return [part[..., 0] for part in lax.split(raw, [1] * raw.shape[-1], axis=raw.ndim - 1)]


# -- The spline on [0, 1]. Bins are unrolled and never an axis of an array, so that the compiler makes one loop over the
# numbers of all of it.


def _bins(raw: Sequence[Array], tails: Tails) -> tuple[Sequence[Array], Sequence[Array], list[Array | None]]:
    """Raw widths, heights and the bins + 1 slopes; None where a slope is 1."""
    bins = (len(raw) - tails.num_slopes(0)) // 3
    slopes: list[Array | None] = list(raw[2 * bins :])
    if tails is Tails.LINEAR:
        slopes = [None, *slopes, None]
    elif tails is Tails.CIRCULAR:
        slopes = [*slopes, slopes[0]]
    return raw[:bins], raw[bins : 2 * bins], slopes


def _sizes(raw: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """The softmax p of raw numbers, and the sizes of bins made of it."""
    largest = raw[0]
    for r in raw[1:]:
        largest = jnp.maximum(largest, r)
    powers = [jnp.exp(r - largest) for r in raw]
    scale = 1.0 / sum(powers[1:], powers[0])
    p = [power * scale for power in powers]
    return p, [MIN_BIN + (1.0 - MIN_BIN * len(raw)) * one for one in p]


def _choose(at: Sequence[Array], values: Sequence[Array]) -> Array:
    """values[k] at the k of the bin, where at[k] says that the bin is k + 1 or later."""
    chosen = values[0]
    for later, value in zip(at, values[1:], strict=True):
        chosen = jnp.where(later, value, chosen)
    return chosen


def _starts(sizes: Sequence[Array]) -> list[Array]:
    starts = [jnp.zeros_like(sizes[0])]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    return starts


def _raw_slopes(at: Sequence[Array], slopes: Sequence[Array | None], fill: Array) -> tuple[Array, Array]:
    filled = [fill if slope is None else slope for slope in slopes]
    return _choose(at, filled[:-1]), _choose(at, filled[1:])


def _find(u: Array, raw: Sequence[Array], tails: Tails, *, by_height: bool) -> tuple[list[Array], tuple[Array, ...]]:
    """Which bin u is in (as `_choose` takes it), and that bin's (x_k, w, y_k, h, d₀, d₁)."""
    raw_widths, raw_heights, raw_slopes = _bins(raw, tails)
    widths, heights = _sizes(raw_widths)[1], _sizes(raw_heights)[1]
    lefts, bottoms = _starts(widths), _starts(heights)
    at = [u >= start for start in (bottoms if by_height else lefts)[1:]]
    slopes = _raw_slopes(at, raw_slopes, jnp.zeros_like(u))
    d0, d1 = (MIN_SLOPE + jax.nn.softplus(slope + _RAW_OF_SLOPE_1) for slope in slopes)
    return at, (_choose(at, lefts), _choose(at, widths), _choose(at, bottoms), _choose(at, heights), d0, d1)


def _rational(x: Array, left: Array, w: Array, bottom: Array, h: Array, d0: Array, d1: Array) -> tuple[Array, Array]:
    """(y, log dy/dx) in one bin."""
    z = (x - left) / w
    s, mixed = h / w, z * (1.0 - z)
    below = s + (d0 + d1 - 2.0 * s) * mixed
    y = bottom + h * (s * z * z + d0 * mixed) / below
    above = d1 * z * z + 2.0 * s * mixed + d0 * (1.0 - z) ** 2
    return y, 2.0 * jnp.log(s) + jnp.log(above) - 2.0 * jnp.log(below)


def _solve(y: Array, left: Array, w: Array, bottom: Array, h: Array, d0: Array, d1: Array) -> Array:
    """x with `_rational(x)[0]` = y: the root of a quadratic in z, in the form without cancellation, and a Newton step."""
    v, s = jnp.clip(y - bottom, 0.0, h), h / w
    bend = v * (d0 + d1 - 2.0 * s)
    a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * v
    root = jnp.sqrt(jnp.maximum(b * b - 4.0 * a * c, 0.0))
    tiny = jnp.finfo(y.dtype).tiny
    z = jnp.where(b >= 0, -2.0 * c / jnp.maximum(b + root, tiny), (root - b) / jnp.where(b >= 0, 1.0, 2.0 * a))
    x = left + w * jnp.clip(z, 0.0, 1.0)
    got, log_slope = _rational(x, left, w, bottom, h, d0, d1)
    return jnp.clip(x - (got - y) * jnp.exp(-log_slope), left, left + w)


def _tangents(
    at: Sequence[Array], raw: Sequence[Array], raw_dot: Sequence[Array], tails: Tails
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The change of the bin's (x_k, w, y_k, h, d₀, d₁) with the raw numbers."""
    raw_widths, raw_heights, raw_slopes = _bins(raw, tails)
    widths_dot, heights_dot, slopes_dot = _bins(raw_dot, tails)

    def sizes_dot(raw: Sequence[Array], dot: Sequence[Array]) -> tuple[Array, Array]:
        p, _ = _sizes(raw)
        weighted = [one * d for one, d in zip(p, dot, strict=True)]
        mean = sum(weighted[1:], weighted[0])
        scale = 1.0 - MIN_BIN * len(raw)
        change = [scale * (one - q * mean) for one, q in zip(weighted, p, strict=True)]
        return _choose(at, _starts(change)), _choose(at, change)

    zero = jnp.zeros_like(raw[0])
    d_dot = [
        dot * jax.nn.sigmoid(slope + _RAW_OF_SLOPE_1)
        for dot, slope in zip(_raw_slopes(at, slopes_dot, zero), _raw_slopes(at, raw_slopes, zero), strict=True)
    ]
    return (*sizes_dot(raw_widths, widths_dot), *sizes_dot(raw_heights, heights_dot), d_dot[0], d_dot[1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _forward(u: Array, raw: list[Array], tails: Tails) -> tuple[Array, Array]:
    """(y, log dy/du) of u in [0, 1]."""
    return _rational(u, *_find(u, raw, tails, by_height=False)[1])


@_forward.defjvp
def _forward_jvp(tails: Tails, primals: Any, tangents: Any) -> Any:
    (u, raw), (u_dot, raw_dot) = primals, tangents
    at, knots = _find(u, raw, tails, by_height=False)
    return jax.jvp(_rational, (u, *knots), (u_dot, *_tangents(at, raw, raw_dot, tails)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _inverse(v: Array, raw: list[Array], tails: Tails) -> tuple[Array, Array]:
    """(u, log du/dv) of v in [0, 1]."""
    knots = _find(v, raw, tails, by_height=True)[1]
    u = _solve(v, *knots)
    return u, -_rational(u, *knots)[1]


@_inverse.defjvp
def _inverse_jvp(tails: Tails, primals: Any, tangents: Any) -> Any:
    (v, raw), (v_dot, raw_dot) = primals, tangents
    at, knots = _find(v, raw, tails, by_height=True)
    u = _solve(v, *knots)
    along, still = _tangents(at, raw, raw_dot, tails), [jnp.zeros_like(u)] * 6
    (_, log_slope), (f_dot, log_slope_dot) = jax.jvp(_rational, (u, *knots), (jnp.zeros_like(u), *along))
    _, (slope, bend) = jax.jvp(_rational, (u, *knots), (jnp.ones_like(u), *still))
    u_dot = (v_dot - f_dot) / slope  # f(u, θ) = v, so that f_u u̇ + f_θ θ̇ = v̇
    return (u, -log_slope), (u_dot, -(log_slope_dot + bend * u_dot))
