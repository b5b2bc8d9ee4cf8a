"""Transformers: raw network output in, an elementwise distrax bijector out.

A transformer says how many raw numbers it takes for one coordinate (`num_params`). Raw zeros give the identity (of a
mixture: nearly).
"""

from collections.abc import Sequence
from typing import Protocol

import distrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.bijectors.base import Bijector
from probgen.bijectors.elementwise import Affine, LeakyReLU, Power
from probgen.bijectors.mixture_cdf import LOGISTIC, Kernel, MixtureCDF
from probgen.bijectors.spline import Spline, Tails, check_bins
from probgen.bijectors.structure import Chain
from probgen.core import check_interval, check_positive, check_sizes


class Transformer(Protocol):
    """The protocol of transformers, as a coupling or an autoregressive bijector asks for it."""

    @property
    def num_params(self) -> int:
        """The raw numbers for one coordinate, how many there are."""
        ...

    def __call__(self, raw: Array) -> distrax.Bijector:
        """Return an elementwise bijector of shape [...] from raw numbers [..., num_params]."""
        ...


class AffineTransformer(eqx.Module):
    """y = exp(s) · x + t with s = c · tanh(raw₁ / c) and t = raw₀.

    The bound c on the log-scale keeps deep flows stable at any raw output; near zero it changes nothing.

    Args:
        max_log_scale: c, in nats for one coordinate.

    References: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio 2017), arXiv:1605.08803.

    >>> import jax.numpy as jnp
    >>> AffineTransformer()(jnp.zeros((3, 2))).forward(jnp.ones(3))
    Array([1., 1., 1.], dtype=float32)
    """

    max_log_scale: float = eqx.field(static=True, default=3.0)

    def __check_init__(self) -> None:
        check_positive(max_log_scale=self.max_log_scale)

    @property
    def num_params(self) -> int:
        """Two numbers: shift and log-scale."""
        return 2

    def __call__(self, raw: Array) -> Bijector:
        """Return the affine bijector of shape [...] from raw numbers [..., 2]."""
        log_scale = self.max_log_scale * jnp.tanh(raw[..., 1] / self.max_log_scale)
        return Affine(raw[..., 0], log_scale)


class ShiftTransformer(eqx.Module):
    """y = x + t: additive, of unit determinant.

    References: NICE: Non-linear Independent Components Estimation (Dinh, Krueger, Bengio 2015), arXiv:1410.8516.

    >>> import jax.numpy as jnp
    >>> ShiftTransformer()(jnp.ones((3, 1))).forward(jnp.ones(3))
    Array([2., 2., 2.], dtype=float32)
    """

    @property
    def num_params(self) -> int:
        """One number: the shift."""
        return 1

    def __call__(self, raw: Array) -> Bijector:
        """Return the shift of shape [...] from raw numbers [..., 1]."""
        return Affine(raw[..., 0], jnp.zeros_like(raw[..., 0]))


class LeakyReLUTransformer(eqx.Module):
    """y = x where x ≥ 0 and exp(s) · x elsewhere, with s = 3 tanh(raw₀ / 3).

    >>> import jax.numpy as jnp
    >>> LeakyReLUTransformer()(jnp.zeros((3, 1))).forward(-jnp.ones(3))
    Array([-1., -1., -1.], dtype=float32)
    """

    @property
    def num_params(self) -> int:
        """One number: the log-slope."""
        return 1

    def __call__(self, raw: Array) -> Bijector:
        """Return the bijector of shape [...] from raw numbers [..., 1]."""
        return LeakyReLU(3.0 * jnp.tanh(raw[..., 0] / 3.0))


class PowerTransformer(eqx.Module):
    """y = x^p of positive numbers, with log p = 2 tanh(raw₀ / 2).

    >>> import jax.numpy as jnp
    >>> PowerTransformer()(jnp.zeros((2, 1))).forward(jnp.array([1.0, 2.0]))
    Array([1., 2.], dtype=float32)
    """

    @property
    def num_params(self) -> int:
        """One number: the logarithm of the power."""
        return 1

    def __call__(self, raw: Array) -> Bijector:
        """Return the bijector of shape [...] from raw numbers [..., 1]."""
        return Power(2.0 * jnp.tanh(raw[..., 0] / 2.0))


class SplineTransformer(eqx.Module):
    """A monotone rational-quadratic spline: `Spline`.

    Args:
        bins: how many, below 1,000.
        interval: (low, high), outside of which the spline is the identity with `LINEAR` tails.
        tails: what it does at the ends of the interval.

    References: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios 2019), arXiv:1906.04032.

    >>> import jax.numpy as jnp
    >>> SplineTransformer(4).num_params, SplineTransformer(4)(jnp.zeros((1, 11))).forward(jnp.ones(1)).round(5)
    (11, Array([1.], dtype=float32))
    """

    bins: int = eqx.field(static=True, default=8)
    interval: tuple[float, float] = eqx.field(static=True, default=(-3.0, 3.0))
    tails: Tails = eqx.field(static=True, default=Tails.LINEAR)

    def __check_init__(self) -> None:
        check_bins(self.bins)
        check_interval(interval=self.interval)

    @property
    def num_params(self) -> int:
        """The number of widths, heights, and as many slopes as the tails leave to learn."""
        return 2 * self.bins + self.tails.num_slopes(self.bins)

    def __call__(self, raw: Array) -> Bijector:
        """Return the spline of shape [...] from raw numbers [..., num_params]."""
        return Spline(raw, interval=self.interval, tails=self.tails)


class MixtureCDFTransformer(eqx.Module):
    """The distribution function of a mixture, as a map of ℝ: `MixtureCDF`.

    At raw zeros the components lie side by side, so that they learn different things, and are together nearly the
    kernel: the map is the identity within a few per cent where most of the mass is.

    Args:
        components: K, how many.
        kernel: `LOGISTIC` or `GAUSSIAN`.

    References: Flow++ (Ho, Chen, Srinivas, Duan, Abbeel 2019), arXiv:1902.00275.

    >>> import jax.numpy as jnp
    >>> MixtureCDFTransformer(3)(jnp.zeros((1, 9))).forward(jnp.zeros(1)).round(3)
    Array([0.], dtype=float32)
    """

    components: int = eqx.field(static=True, default=8)
    kernel: Kernel = eqx.field(static=True, default=LOGISTIC)

    def __check_init__(self) -> None:
        check_sizes(components=self.components)

    @property
    def num_params(self) -> int:
        """Three numbers for each component: weight, mean and scale."""
        return 3 * self.components

    def __call__(self, raw: Array) -> Bijector:
        """Return the bijector of shape [...] from raw numbers [..., 3 · components]."""
        logits, means, scales = jnp.split(raw, 3, -1)
        spread = 0.0 if self.components == 1 else 1.0
        places = jnp.asarray(spread * np.linspace(-1.0, 1.0, self.components), raw.dtype)
        return MixtureCDF(logits, means + places, scales - spread * 0.2, kernel=self.kernel)


class Composed(eqx.Module):
    """Transformers one after the other; the last of the list is applied first, as in a `Chain`.

    Args:
        transformers: at least one; the last is applied first.

    Raises ValueError where there is none.

    >>> import jax.numpy as jnp
    >>> spline_then_affine = Composed([AffineTransformer(), SplineTransformer(4)])
    >>> spline_then_affine.num_params, spline_then_affine(jnp.zeros((2, 13))).forward(jnp.ones(2)).round(5)
    (13, Array([1., 1.], dtype=float32))
    """

    transformers: tuple[Transformer, ...]

    def __init__(self, transformers: Sequence[Transformer]):
        if not transformers:
            raise ValueError("transformers: expected at least one, got none")
        self.transformers = tuple(transformers)

    @property
    def num_params(self) -> int:
        """The sum of the parts' numbers."""
        return sum(part.num_params for part in self.transformers)

    def __call__(self, raw: Array) -> Bijector:
        """Return the chain of shape [...] from raw numbers [..., num_params]."""
        ends = np.cumsum([part.num_params for part in self.transformers])[:-1]
        raws = jnp.split(raw, ends, -1)
        return Chain([part(raw) for part, raw in zip(self.transformers, raws, strict=True)])
