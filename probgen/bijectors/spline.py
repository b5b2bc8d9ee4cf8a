"""Monotone rational-quadratic splines, with linear tails, on an interval, or around a circle."""

import enum
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.bijectors.support import covers
from probgen.bijectors.traits import Elementwise
from probgen.core import check_interval, check_sizes

MIN_BIN = 1e-3  # least share of the interval that a bin takes, of its width and of its height
MIN_SLOPE = 1e-3
_RAW_OF_SLOPE_1 = math.log(math.expm1(1.0 - MIN_SLOPE))


class Tails(enum.Enum):
    """The behaviour of a spline at the ends of its interval: the identity outside, no outside, or a circle."""

    LINEAR = "linear"
    """The identity outside, so that it maps ℝ to ℝ; the slopes at the ends are 1."""
    BOUNDED = "bounded"
    """It maps the interval onto itself and is not defined outside; the slopes at the ends are learned."""
    CIRCULAR = "circular"
    """The interval is a circle: the slopes at its ends are one, and learned."""

    def num_slopes(self, bins: int) -> int:
        """Return how many slopes are learned for so many bins."""
        return bins + {Tails.LINEAR: -1, Tails.BOUNDED: 1, Tails.CIRCULAR: 0}[self]


def check_bins(bins: int) -> None:
    """Raise ValueError where there is no such number of bins, or where their least shares fill the interval."""
    check_sizes(bins=bins)
    if MIN_BIN * bins >= 1:
        raise ValueError(f"bins: expected fewer than {1 / MIN_BIN:.0f}, each of which takes {MIN_BIN}, got {bins}")


class Spline(Elementwise):
    """A monotone rational-quadratic spline of each number of the event, from [low, high] onto itself.

    In the bin [x_k, x_k + w] → [y_k, y_k + h], with s = h / w, slopes d₀ and d₁ at its ends, and z = (x − x_k) / w,

        y = y_k + h (s z² + d₀ z(1−z)) / (s + (d₀ + d₁ − 2s) z(1−z))
        dy/dx = s² (d₁ z² + 2 s z(1−z) + d₀ (1−z)²) / (s + (d₀ + d₁ − 2s) z(1−z))²

    Widths and heights are softmaxes, the slopes softpluses of raw numbers; raw zeros are the identity. Values and
    gradients are finite at any raw numbers.

    Args:
        raw: widths, heights, slopes, learned: [*event, 3 · bins − 1] (`LINEAR`), [*event, 3 · bins + 1] (`BOUNDED`) or
            [*event, 3 · bins] (`CIRCULAR`).
        interval: (low, high), both finite.
        tails: what it does at the ends of the interval.

    Raises ValueError where the number of raw numbers fits no number of bins below 1,000, or where not low < high, both
    finite.

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
    parameter_axes = 1
    closed = increasing = True

    def __init__(self, raw: Array, *, interval: tuple[float, float] = (-3.0, 3.0), tails: Tails = Tails.LINEAR):
        check_interval(interval=interval)
        low, high = (float(end) for end in interval)
        self.raw, self.interval, self.tails = raw, (low, high), tails
        if not jnp.ndim(raw) or 2 * self.bins + tails.num_slopes(self.bins) != raw.shape[-1] or self.bins < 1:
            raise ValueError(
                f"raw: expected 3 · bins {tails.num_slopes(0):+d} numbers on the last axis, got {jnp.shape(raw)}"
            )
        check_bins(self.bins)

    @property
    def bins(self) -> int:
        """The number of bins."""
        return (self.raw.shape[-1] - self.tails.num_slopes(0)) // 3

    @property
    def domain(self) -> constraints.Constraint:
        return constraints.real if self.tails is Tails.LINEAR else constraints.interval(*self.interval)

    @property
    def codomain(self) -> constraints.Constraint:
        return self.domain

    def image(self, support: constraints.Constraint) -> constraints.Constraint:
        return support if self._keeps(support) else super().image(support)

    def preimage(self, support: constraints.Constraint) -> constraints.Constraint:
        return support if self._keeps(support) else super().preimage(support)

    def _keeps(self, support: constraints.Constraint) -> bool:
        """Return whether the support stays as it is: no spline moves the ends of its interval, nor those of ℝ."""
        return covers(support, constraints.interval(*self.interval))

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        return _on_interval(_forward, x, self)

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        return _on_interval(_inverse, y, self)


def _on_interval(function: Callable[..., tuple[Array, Array]], x: Array, spline: Spline) -> tuple[Array, Array]:
    """Apply a map of the interval, and the identity (of log-slope 0) outside."""
    low, high = spline.interval
    raw = jnp.broadcast_to(spline.raw, (*x.shape, spline.raw.shape[-1]))
    inside = (x >= low) & (x <= high)
    y, log_slope = function(jnp.where(inside, x, 0.5 * (low + high)), raw, (low, high, spline.tails))
    return jnp.where(inside, y, x), jnp.where(inside, log_slope, 0.0)


# -- The spline of numbers x [...] by raw numbers [..., P]. What is summed or looked up lies on the last axis. Bins are
# measured in shares of the interval, each from its left end, but the last one from its right: so both ends of the
# interval are mapped to themselves to the last bit, and have exactly the slopes of their raw numbers.

_Span = tuple[float, float, Tails]  # low, high, tails


def _slope_places(tails: Tails, bins: int, bin_: Array) -> tuple[np.ndarray, Array]:
    """Return the ends of bins at which slopes are learned, and the end that follows each number's bin."""
    if tails is Tails.LINEAR:
        return np.arange(1, bins), bin_ + 1
    if tails is Tails.BOUNDED:
        return np.arange(bins + 1), bin_ + 1
    return np.arange(bins), jnp.where(bin_ == bins - 1, 0, bin_ + 1)


class _Bin(NamedTuple):
    """The bin of each number: which, whether it is measured from the right, x_k, w, y_k, h, the slopes at the end that
    it is measured from and at the other, and the softmaxes of all widths and heights."""

    number: Array
    last: Array
    x: Array
    w: Array
    y: Array
    h: Array
    near: Array
    far: Array
    widths: Array
    heights: Array

    @property
    def shape(self) -> tuple[Array, ...]:
        """The arguments of `_rational`."""
        return self.w, self.h, self.near, self.far


def _find(x: Array, raw: Array, span: _Span, *, by_height: bool) -> _Bin:
    low, high, tails = span
    bins = (raw.shape[-1] - tails.num_slopes(0)) // 3
    softmaxes = [_softmax(raw[..., :bins]), _softmax(raw[..., bins : 2 * bins])]
    scale = 1.0 - MIN_BIN * bins
    before = scale * np.triu(np.ones((bins, bins), raw.dtype), 1)
    starts = [p @ before + MIN_BIN * np.arange(bins, dtype=raw.dtype) for p in softmaxes]
    index = jnp.sum(((x - low) / (high - low))[..., None] >= starts[by_height][..., 1:], -1)
    last = (index == bins - 1) & (x > 0.5 * (low + high))  # (a single bin holds both ends)
    left, bottom = (_take(start, index) for start in starts)
    w, h = (MIN_BIN + scale * _take(p, index) for p in softmaxes)
    raw_slopes = raw[..., 2 * bins :]
    if tails is Tails.LINEAR:
        raw_slopes = jnp.pad(raw_slopes, [(0, 0)] * (raw.ndim - 1) + [(1, 1)])
    _, following = _slope_places(tails, bins, index)
    left_slope, right_slope = (
        MIN_SLOPE + jax.nn.softplus(_take(raw_slopes, i) + _RAW_OF_SLOPE_1) for i in (index, following)
    )
    near, far = _from_near(last, left_slope, right_slope)
    return _Bin(index, last, left, w, bottom, h, near, far, *softmaxes)


def _softmax(raw: Array) -> Array:
    powers = jnp.exp(raw - jnp.max(raw, -1, keepdims=True))
    return powers / jnp.sum(powers, -1, keepdims=True)


def _take(values: Array, index: Array) -> Array:
    return jnp.take_along_axis(values, index[..., None], -1, mode="promise_in_bounds")[..., 0]


def _from_near(last: Array, left: Array, right: Array) -> tuple[Array, Array]:
    """Return what belongs to the left and the right end of a bin, as that of the near and of the far one."""
    return lax.select(last, right, left), lax.select(last, left, right)


def _measure(x: Array, last: Array, start: Array, size: Array, span: _Span) -> Array:
    """Return how far x is from the near end of its bin."""
    low, high, _ = span
    return jnp.clip(jnp.where(last, high - x, x - low) / (high - low) - jnp.where(last, 0.0, start), 0.0, size)


def _place(far: Array, last: Array, start: Array, span: _Span) -> Array:
    """Return the number that lies so far from the near end of its bin."""
    low, high, _ = span
    return jnp.clip(jnp.where(last, high - (high - low) * far, low + (high - low) * (start + far)), low, high)


def _rational(t: Array, w: Array, h: Array, near: Array, far: Array) -> tuple[Array, Array]:
    """Return (rise, log slope) at t from the near end of a bin."""
    z = t / w
    s, mixed = h / w, z * (1.0 - z)
    below = s + (near + far - 2.0 * s) * mixed
    rise = h * (s * z * z + near * mixed) / below
    above = far * z * z + 2.0 * s * mixed + near * (1.0 - z) ** 2
    return rise, 2.0 * jnp.log(s) + jnp.log(above) - 2.0 * jnp.log(below)


def _solve(v: Array, w: Array, h: Array, near: Array, far: Array) -> Array:
    """Return t with `_rational(t)[0]` = v: the root of a quadratic in z, without cancellation, and one Newton step."""
    s = h / w
    bend = v * (near + far - 2.0 * s)
    a, b, c = h * (s - near) + bend, h * near - bend, -s * v
    root = jnp.sqrt(jnp.maximum(b * b - 4.0 * a * c, 0.0))
    tiny = jnp.finfo(v.dtype).tiny
    z = jnp.where(b >= 0, -2.0 * c / jnp.maximum(b + root, tiny), (root - b) / jnp.where(b >= 0, 1.0, 2.0 * a))
    t = w * jnp.clip(z, 0.0, 1.0)
    got, log_slope = _rational(t, w, h, near, far)
    return jnp.clip(t - (got - v) * jnp.exp(-log_slope), 0.0, w)


# The derivatives are written out, linear in the tangents, so that forward mode, reverse mode (by transposition) and
# both in any order go through them. They leave out those of looking up, which makes them faster than autodiff's.


def _push_forward(found: _Bin, dots: Array, tails: Tails) -> tuple[Array, ...]:
    """Return tangents of the raw numbers, [..., P], as those of the bin's x_k, w, y_k, h and slopes, near and far."""
    bins = found.widths.shape[-1]
    scale, ks, index = 1.0 - MIN_BIN * bins, np.arange(bins), found.number[..., None]

    def of_softmax(p: Array, start: Array, size: Array, dots: Array) -> tuple[Array, Array]:
        moved = p * dots
        mean = jnp.sum(moved, -1)
        before, own = (
            jnp.sum(lax.select(which, moved, jnp.zeros_like(moved)), -1) for which in (ks < index, ks == index)
        )
        return scale * before - (start - MIN_BIN * found.number) * mean, scale * own - (size - MIN_BIN) * mean

    of_widths, of_heights, of_slopes = jnp.split(dots, (bins, 2 * bins), -1)  # whose transpose is a concatenation
    places, following = _slope_places(tails, bins, found.number)
    slopes = [
        jnp.sum(lax.select(places == i, of_slopes, jnp.zeros_like(of_slopes)), -1)
        for i in (index, following[..., None])
    ]
    # the derivative of the softplus, from its value
    d = (-jnp.expm1(MIN_SLOPE - d) * dot for d, dot in zip((found.near, found.far), _from_near(found.last, *slopes)))
    return (
        *of_softmax(found.widths, found.x, found.w, of_widths),
        *of_softmax(found.heights, found.y, found.h, of_heights),
        *d,
    )


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _forward(x: Array, raw: Array, span: _Span) -> tuple[Array, Array]:
    """Return (y, log dy/dx) of x in [low, high]."""
    found = _find(x, raw, span, by_height=False)
    rise, log_slope = _rational(_measure(x, found.last, found.x, found.w, span), *found.shape)
    return _place(rise, found.last, found.y, span), log_slope


@_forward.defjvp
@partial(jax.checkpoint, static_argnums=0, prevent_cse=False)
def _(span: _Span, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> Any:
    (x, raw), (x_dot, raw_dot) = primals, tangents
    found, size = _find(x, raw, span, by_height=False), span[1] - span[0]
    start_dot, w_dot, bottom_dot, *others = _push_forward(found, raw_dot, span[2])
    t, t_dot = _measure(x, found.last, found.x, found.w, span), jnp.where(found.last, -x_dot, x_dot - size * start_dot)
    (rise, log_slope), (rise_dot, log_dot) = jax.jvp(_rational, (t, *found.shape), (t_dot / size, w_dot, *others))
    y_dot = size * jnp.where(found.last, -rise_dot, bottom_dot + rise_dot)
    return (_place(rise, found.last, found.y, span), log_slope), (y_dot, log_dot)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _inverse(y: Array, raw: Array, span: _Span) -> tuple[Array, Array]:
    """Return (x, log dx/dy) of y in [low, high]."""
    found = _find(y, raw, span, by_height=True)
    t = _solve(_measure(y, found.last, found.y, found.h, span), *found.shape)
    return _place(t, found.last, found.x, span), -_rational(t, *found.shape)[1]


@_inverse.defjvp
@partial(jax.checkpoint, static_argnums=0, prevent_cse=False)
def _(span: _Span, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> Any:
    # f(x, θ) = y: what θ moves at a still x is taken from what moves y, and divided by the slope
    (y, raw), (y_dot, raw_dot) = primals, tangents
    found, size = _find(y, raw, span, by_height=True), span[1] - span[0]
    start_dot, w_dot, bottom_dot, *others = _push_forward(found, raw_dot, span[2])
    t = _solve(_measure(y, found.last, found.y, found.h, span), *found.shape)
    still, one = jnp.zeros_like(t), jnp.ones_like(t)
    (_, log_slope), (rise_dot, log_dot) = jax.jvp(_rational, (t, *found.shape), (still, w_dot, *others))
    along = jax.jvp(lambda t: _rational(t, *found.shape)[1], (t,), (one,))[1]
    v_dot = jnp.where(found.last, -y_dot, y_dot - size * bottom_dot) / size
    t_dot = (v_dot - rise_dot) * jnp.exp(-log_slope)
    x_dot = size * jnp.where(found.last, -t_dot, start_dot + t_dot)
    return _inverse(y, raw, span), (x_dot, -(log_dot + along * t_dot))
