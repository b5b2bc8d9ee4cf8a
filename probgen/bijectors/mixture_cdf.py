"""The distribution function of a mixture as a bijector: one layer that can represent any density of one number."""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors.inversion import invert_increasing
from probgen.bijectors.traits import Elementwise

MAX_LOG_SCALE = 7.0


class Kernel(NamedTuple):
    """A symmetric standard distribution of one number, by the logarithms of its functions.

    Args:
        log_cdf: x ↦ log G(x).
        log_pdf: x ↦ log g(x).
        log_ratio: x ↦ log G(x) − log g(x), which is small where both are huge.
        quantile: (log p, log q) ↦ the quantile of a probability p whose complement is q.
    """

    log_cdf: Callable[[Array], Array]
    log_pdf: Callable[[Array], Array]
    log_ratio: Callable[[Array], Array]
    quantile: Callable[[Array, Array], Array]


def _log_mills(x: Array) -> Array:
    """Return log Φ(x) − log φ(x), by Mills' ratio's series where the two, near −x²/2, have no digits left to differ
    by."""
    end = -10.0 if x.dtype == jnp.float32 else -30.0
    far = jnp.minimum(x, end)
    series, u = jnp.zeros_like(x), 1.0 / far**2
    for odd in (15, 13, 11, 9, 7, 5, 3, 1):
        series = -odd * u * (1.0 + series)
    near = jnp.maximum(x, end)
    plain = jax.scipy.special.log_ndtr(near) - jax.scipy.stats.norm.logpdf(near)
    return jnp.where(x < end, jnp.log1p(series) - jnp.log(-far), plain)


@jax.custom_jvp
def _log_ndtr(x: Array) -> Array:
    return jax.scipy.special.log_ndtr(x)


@_log_ndtr.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dot,) = primals, tangents
    return _log_ndtr(x), jnp.exp(-_log_mills(x)) * dot


@jax.custom_jvp
def _log_ndtri(log_p: Array) -> Array:
    """Return the x ≤ 0 with log Φ(x) = log_p, however small p is."""
    far = jnp.minimum(log_p, -1.0)
    tail = -jnp.sqrt(jnp.maximum(-2.0 * far - jnp.log(-2.0 * far * 2.0 * math.pi), 0.0))
    x = jnp.where(log_p > -3.0, jax.scipy.special.ndtri(jnp.exp(jnp.maximum(log_p, -3.0))), tail)
    for _ in range(3):  # log Φ is concave and smooth: three steps are enough from either start
        value = jax.scipy.special.log_ndtr(x)
        x = x - (value - log_p) * jnp.exp(_log_mills(x))
    return x


@_log_ndtri.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (log_p,), (dot,) = primals, tangents
    x = _log_ndtri(log_p)
    return x, jnp.exp(_log_mills(x)) * dot


LOGISTIC = Kernel(
    lambda x: -jax.nn.softplus(-x),
    lambda x: -jax.nn.softplus(x) - jax.nn.softplus(-x),
    jax.nn.softplus,
    lambda log_p, log_q: log_p - log_q,
)
"""The standard logistic distribution, F(x) = 1 / (1 + exp(−x))."""

GAUSSIAN = Kernel(
    _log_ndtr,
    jax.scipy.stats.norm.logpdf,
    _log_mills,
    lambda log_p, log_q: jnp.where(log_p < log_q, 1.0, -1.0) * _log_ndtri(jnp.minimum(log_p, log_q)),
)
"""The standard normal distribution, F(x) = Φ(x); its quantiles are accurate in both tails."""


class _Tails(NamedTuple):
    """Of numbers x: z_k and log σ_k, log π_k G(z_k) and log π_k G(−z_k), log F(x) and log(1 − F(x))."""

    z: Array
    log_scales: Array
    below: Array
    above: Array
    log_p: Array
    log_q: Array


class MixtureCDF(Elementwise):
    """y = G⁻¹(F(x)) with F(x) = Σ_k π_k G((x − μ_k) / σ_k), for each number of the event.

        log dy/dx = log Σ_k π_k g((x − μ_k) / σ_k) / σ_k − log g(y)

    G is a standard logistic or normal distribution function: y follows it where x follows the mixture. With `uniform`,
    y = F(x) in (0, 1). Both are computed from log F and log(1 − F), so that neither tail is lost. The inverse is
    solved (safeguarded Newton steps between the least and the largest quantile of the components), with implicit
    gradients to every parameter.

    Args:
        logits: of the weights π, [*event, K], learned.
        means: μ, of the same shape, learned.
        raw_scales: of the same shape, learned: log σ = 7 tanh(raw / 7).
        kernel: G, `LOGISTIC` or `GAUSSIAN`.
        uniform: whether y = F(x), in (0, 1).

    Raises ValueError where the three shapes differ.

    References: Flow++ (Ho, Chen, Srinivas, Duan, Abbeel 2019), arXiv:1902.00275 (logistic); Gaussianization Flows
    (Meng, Song, Song, Ermon 2020), arXiv:2003.01941.

    >>> import jax.numpy as jnp
    >>> two = MixtureCDF(jnp.zeros(2), jnp.array([-2.0, 2.0]), jnp.zeros(2), uniform=True)
    >>> float(two.forward(0.0)), [round(float(x), 3) for x in two.inverse(two.forward(jnp.array([-30.0, 0.3])))]
    (0.5, [-30.0, 0.3])
    """

    logits: Array
    means: Array
    raw_scales: Array
    kernel: Kernel = eqx.field(static=True)
    uniform: bool = eqx.field(static=True)
    parameter_axes = 1
    increasing = True

    def __init__(
        self, logits: Array, means: Array, raw_scales: Array, *, kernel: Kernel = LOGISTIC, uniform: bool = False
    ):
        if not jnp.shape(logits) == jnp.shape(means) == jnp.shape(raw_scales) != ():
            raise ValueError(
                f"logits, means, raw_scales: expected equal shapes [*event, K], got {jnp.shape(logits)}, "
                f"{jnp.shape(means)} and {jnp.shape(raw_scales)}"
            )
        self.logits, self.means, self.raw_scales = logits, means, raw_scales
        self.kernel, self.uniform = kernel, uniform

    @property
    def codomain(self) -> constraints.Constraint:
        return constraints.unit_interval if self.uniform else constraints.real

    def _parts(self) -> tuple[Array, Array, Array]:
        """Return log π, μ, log σ."""
        bounded = MAX_LOG_SCALE * jnp.tanh(self.raw_scales / MAX_LOG_SCALE)
        return jax.nn.log_softmax(self.logits), self.means, bounded

    def _tails(self, x: Array) -> _Tails:
        log_weights, means, log_scales = self._parts()
        z = (x[..., None] - means) * jnp.exp(-log_scales)
        below, above = (log_weights + self.kernel.log_cdf(side) for side in (z, -z))
        return _Tails(z, log_scales, below, above, jax.nn.logsumexp(below, -1), jax.nn.logsumexp(above, -1))

    def _log_density(self, tails: _Tails) -> Array:
        """Return log F'(x)."""
        terms = jax.nn.log_softmax(self.logits) + self.kernel.log_pdf(tails.z) - tails.log_scales
        return jax.nn.logsumexp(terms, -1)

    def _log_slope(self, tails: _Tails, y: Array) -> Array:
        """Return log dy/dx. Far out F' and g are beyond all numbers, but F'/F and g/G are not, and there F(x) = G(y).

        F'/F = Σ_k r_k g(z_k) / (G(z_k) σ_k),   r_k ∝ π_k G(z_k)
        """
        right = y > 0  # the nearer tail
        sign = jnp.where(right, -1.0, 1.0).astype(y.dtype)
        log_shares = jnp.where(
            right[..., None], tails.above - tails.log_q[..., None], tails.below - tails.log_p[..., None]
        )
        log_hazards = log_shares - self.kernel.log_ratio(sign[..., None] * tails.z) - tails.log_scales
        return jax.nn.logsumexp(log_hazards, -1) + self.kernel.log_ratio(sign * y)

    def _standard(self, x: Array) -> Array:
        tails = self._tails(x)
        return self.kernel.quantile(tails.log_p, tails.log_q)

    def forward_each(self, x: Array) -> tuple[Array, Array]:
        tails = self._tails(x)
        if self.uniform:
            return jnp.exp(jnp.minimum(tails.log_p, 0.0)), self._log_density(tails)
        y = self.kernel.quantile(tails.log_p, tails.log_q)
        return y, self._log_slope(tails, y)

    def inverse_each(self, y: Array) -> tuple[Array, Array]:
        if self.uniform:
            y = self.kernel.quantile(jnp.log(y), jnp.log1p(-y))
        _, means, log_scales = self._parts()
        quantiles = means + jnp.exp(log_scales) * y[..., None]
        x = invert_increasing(self._standard, y, quantiles.min(-1), quantiles.max(-1))
        tails = self._tails(x)
        return x, -(self._log_density(tails) if self.uniform else self._log_slope(tails, y))
