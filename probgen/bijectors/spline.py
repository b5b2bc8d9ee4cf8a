"""Monotone rational-quadratic splines, with linear tails, on an interval, or around a circle."""

import enum
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
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
    >>> [round(float(number), 5) for number in y], abs(round(float(log_det), 5))
    ([0.3, 7.0], 0.0)
    """

    raw: Array
    interval: tuple[float, float] = eqx.field(static=True)
    tails: Tails = eqx.field(static=True)
    rank: int = eqx.field(static=True)

    def __init__(self, raw: Array, *, interval: tuple[float, float] = (-3.0, 3.0), tails: Tails = Tails.LINEAR):
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
    def event_shape(self) -> tuple[int, ...]:
        return self.raw.shape[:-1]

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
    y, log_slope = function(u, raw, spline.tails)
    return jnp.where(inside, low + (high - low) * y, x), jnp.where(inside, log_slope, 0.0)


# -- The spline on [0, 1]: u [...] and raw numbers [..., P]. What is summed or looked up lies on the last axis.


def _slope_places(tails: Tails, bins: int, bin_: Array) -> tuple[np.ndarray, Array]:
    """The ends of bins at which slopes are learned, and the end that follows each number's bin."""
    if tails is Tails.LINEAR:
        return np.arange(1, bins), bin_ + 1
    if tails is Tails.BOUNDED:
        return np.arange(bins + 1), bin_ + 1
    return np.arange(bins), jnp.where(bin_ == bins - 1, 0, bin_ + 1)


class _Bin(NamedTuple):
    """The bin of each number: which, its (x_k, w, y_k, h, d₀, d₁), and the softmaxes of all widths and heights."""

    number: Array
    knots: tuple[Array, ...]
    widths: Array
    heights: Array


def _find(u: Array, raw: Array, tails: Tails, *, by_height: bool) -> _Bin:
    bins = (raw.shape[-1] - tails.num_slopes(0)) // 3
    softmaxes = [_softmax(raw[..., :bins]), _softmax(raw[..., bins : 2 * bins])]
    scale = 1.0 - MIN_BIN * bins
    before = scale * np.triu(np.ones((bins, bins), raw.dtype), 1)
    starts = [p @ before + MIN_BIN * np.arange(bins, dtype=raw.dtype) for p in softmaxes]
    index = jnp.sum(u[..., None] >= starts[by_height][..., 1:], -1)
    places = []
    for start, p in zip(starts, softmaxes, strict=True):
        places += [_take(start, index), MIN_BIN + scale * _take(p, index)]
    raw_slopes = raw[..., 2 * bins :]
    if tails is Tails.LINEAR:
        raw_slopes = jnp.pad(raw_slopes, [(0, 0)] * (raw.ndim - 1) + [(1, 1)])
    _, following = _slope_places(tails, bins, index)
    slopes = [MIN_SLOPE + jax.nn.softplus(_take(raw_slopes, i) + _RAW_OF_SLOPE_1) for i in (index, following)]
    return _Bin(index, (*places, *slopes), *softmaxes)


def _softmax(raw: Array) -> Array:
    powers = jnp.exp(raw - jnp.max(raw, -1, keepdims=True))
    return powers / jnp.sum(powers, -1, keepdims=True)


def _take(values: Array, index: Array) -> Array:
    return jnp.take_along_axis(values, index[..., None], -1, mode="promise_in_bounds")[..., 0]


def _pull_back(found: _Bin, cotangents: Sequence[Array], tails: Tails) -> Array:
    """Cotangents of the bin's (x_k, w, y_k, h, d₀, d₁) as those of the raw numbers, [..., P]."""
    bins = found.widths.shape[-1]
    scale, ks, index = 1.0 - MIN_BIN * bins, np.arange(bins), found.number[..., None]

    def of_softmax(p: Array, start: Array, size: Array, to_start: Array, to_size: Array) -> Array:
        mean = to_start * (start - MIN_BIN * found.number) + to_size * (size - MIN_BIN)
        to_p = jnp.where(ks < index, to_start[..., None], jnp.where(ks == index, to_size[..., None], 0.0))
        return p * (scale * to_p - mean[..., None])

    x, w, y, h, d0, d1 = found.knots
    to_x, to_w, to_y, to_h, to_d0, to_d1 = cotangents
    places, following = _slope_places(tails, bins, found.number)
    # the derivative of the softplus, from its value
    to_d0, to_d1 = (to * -jnp.expm1(MIN_SLOPE - d) for to, d in ((to_d0, d0), (to_d1, d1)))
    to_slopes = jnp.where(places == index, to_d0[..., None], 0.0)
    to_slopes = to_slopes + jnp.where(places == following[..., None], to_d1[..., None], 0.0)
    parts = [of_softmax(found.widths, x, w, to_x, to_w), of_softmax(found.heights, y, h, to_y, to_h), to_slopes]
    return jnp.concatenate(parts, -1)


def _rational(x: Array, left: Array, w: Array, bottom: Array, h: Array, d0: Array, d1: Array) -> tuple[Array, Array]:
    """(y, log dy/dx) in one bin."""
    z = (x - left) / w
    s, mixed = h / w, z * (1.0 - z)
    below = s + (d0 + d1 - 2.0 * s) * mixed
    y = bottom + h * (s * z * z + d0 * mixed) / below
    above = d1 * z * z + 2.0 * s * mixed + d0 * (1.0 - z) ** 2
    return y, 2.0 * jnp.log(s) + jnp.log(above) - 2.0 * jnp.log(below)


def _solve(y: Array, left: Array, w: Array, bottom: Array, h: Array, d0: Array, d1: Array) -> Array:
    """x with `_rational(x)[0]` = y: the root of a quadratic in z, without cancellation, and one Newton step."""
    v, s = jnp.clip(y - bottom, 0.0, h), h / w
    bend = v * (d0 + d1 - 2.0 * s)
    a, b, c = h * (s - d0) + bend, h * d0 - bend, -s * v
    root = jnp.sqrt(jnp.maximum(b * b - 4.0 * a * c, 0.0))
    tiny = jnp.finfo(y.dtype).tiny
    z = jnp.where(b >= 0, -2.0 * c / jnp.maximum(b + root, tiny), (root - b) / jnp.where(b >= 0, 1.0, 2.0 * a))
    x = left + w * jnp.clip(z, 0.0, 1.0)
    got, log_slope = _rational(x, left, w, bottom, h, d0, d1)
    return jnp.clip(x - (got - y) * jnp.exp(-log_slope), left, left + w)


def _forward_plain(u: Array, raw: Array, tails: Tails) -> tuple[Array, Array]:
    """(y, log dy/du) of u in [0, 1]."""
    return _rational(u, *_find(u, raw, tails, by_height=False).knots)


def _inverse_plain(v: Array, raw: Array, tails: Tails) -> tuple[Array, Array]:
    """(u, log du/dv) of v in [0, 1]."""
    knots = _find(v, raw, tails, by_height=True).knots
    u = _solve(v, *knots)
    return u, -_rational(u, *knots)[1]


# Reverse mode is written out: it keeps u and the raw numbers and nothing else, which is twice as fast as what autodiff
# makes of the above, and leaves out the derivatives of looking up. Hessians (forward over reverse) go through it;
# forward mode alone does not.


def _forward_bwd(tails: Tails, residuals: Any, cotangents: Any) -> Any:
    u, raw = residuals
    found = _find(u, raw, tails, by_height=False)
    to_u, *to_knots = jax.vjp(_rational, u, *found.knots)[1](cotangents)
    return to_u, _pull_back(found, to_knots, tails)


def _inverse_bwd(tails: Tails, residuals: Any, cotangents: Any) -> Any:
    v, raw = residuals
    found = _find(v, raw, tails, by_height=True)
    u, (to_u, to_log) = _solve(v, *found.knots), cotangents
    (_, log_slope), vjp = jax.vjp(_rational, u, *found.knots)
    # f(u, θ) = v: what reaches u, directly and by the slope, is handed on to v and θ through f
    along_u, *_ = vjp((jnp.zeros_like(u), -to_log))
    to_v = (to_u + along_u) * jnp.exp(-log_slope)
    _, *to_knots = vjp((-to_v, -to_log))
    return to_v, _pull_back(found, to_knots, tails)


def _reversible(plain: Callable[..., Any], pull_back: Callable[..., Any]) -> Callable[..., tuple[Array, Array]]:
    function = jax.custom_vjp(plain, nondiff_argnums=(2,))
    function.defvjp(lambda u, raw, tails: (plain(u, raw, tails), (u, raw)), pull_back)
    return function


_forward = _reversible(_forward_plain, _forward_bwd)
_inverse = _reversible(_inverse_plain, _inverse_bwd)
