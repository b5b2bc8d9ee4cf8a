"""Heads: raw network output in, a numpyro distribution of scalars out.

A head says how many raw numbers it takes for one scalar (`num_params`). Raw zeros give a broad distribution.
"""

from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import as_integer, check_not_negative, check_positive, check_sizes
from probgen.distributions.continuous_bernoulli import ContinuousBernoulli
from probgen.distributions.discretized import IntegerCategorical


class Head(Protocol):
    """The protocol of heads, as a conditional or an autoregressive model asks for it."""

    @property
    def num_params(self) -> int:
        """The raw numbers for one scalar, how many there are."""
        ...

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return a distribution of batch shape [...] from raw numbers [..., num_params]."""
        ...


def positive(raw: Array, smallest: float) -> Array:
    """Return a positive scale, 1 at raw 0, linear above; bounded away from zero so that densities stay finite."""
    return smallest + jax.nn.softplus(raw + 0.5413248546) * (1.0 - smallest)  # softplus⁻¹(1)


def mixture_parts(raw: Array) -> tuple[Array, Array, Array]:
    """Return logits, locations and raw scales of a mixture's components, which start apart, so that they can differ."""
    logits, loc, scale = jnp.split(raw, 3, axis=-1)
    count = loc.shape[-1]
    return logits, loc + (jnp.linspace(-1.0, 1.0, count) if count > 1 else 0.0), scale


class NormalHead(eqx.Module):
    """Normal(raw₀, scale(raw₁)), the scale at least `min_scale`.

    Args:
        min_scale: the least scale.

    >>> import jax.numpy as jnp
    >>> NormalHead()(jnp.zeros((3, 2))).scale.round(3)
    Array([1., 1., 1.], dtype=float32)
    """

    min_scale: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self) -> None:
        check_not_negative(min_scale=self.min_scale)

    @property
    def num_params(self) -> int:
        """Two numbers: location and scale."""
        return 2

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return normals of batch shape [...] from [..., 2]."""
        return dist.Normal(raw[..., 0], positive(raw[..., 1], self.min_scale))


class NormalMixtureHead(eqx.Module):
    """A mixture of `components` normals, the scales at least `min_scale`; its components start apart.

    Args:
        components: K, how many.
        min_scale: the least scale of a component.

    References: Mixture Density Networks (Bishop 1994); RNADE (Uria, Murray, Larochelle 2013), arXiv:1306.0186.

    >>> import jax.numpy as jnp
    >>> NormalMixtureHead(5)(jnp.zeros((3, 15))).batch_shape
    (3,)
    """

    components: int = eqx.field(static=True, converter=as_integer)
    min_scale: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self) -> None:
        check_sizes(components=self.components)
        check_not_negative(min_scale=self.min_scale)

    @property
    def num_params(self) -> int:
        """Three numbers for each component: logit, location, scale."""
        return 3 * self.components

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return mixtures of batch shape [...] from [..., 3 · components]."""
        logits, loc, scale = mixture_parts(raw)
        parts = dist.Normal(loc, positive(scale, self.min_scale))
        return dist.MixtureSameFamily(IntegerCategorical(logits), parts)


def bounded(raw: Array, bound: float) -> Array:
    """Return b tanh(raw / b), the identity near 0."""
    return bound * jnp.tanh(raw / bound)


class BoundedNormalHead(eqx.Module):
    """Normal(raw₀, σ) with log σ = b tanh(raw₁ / b): the scale stays in (e⁻ᵇ, eᵇ), and is 1 at raw 0.

    An unbounded log-scale is how training a VAE ends in NaN.

    Args:
        bound: b, the largest |log σ|.

    >>> import jax.numpy as jnp
    >>> BoundedNormalHead()(jnp.array([[0.0, -1e9], [0.0, 0.0]])).scale.round(4)
    Array([0.0067, 1.    ], dtype=float32)
    """

    bound: float = eqx.field(static=True, default=5.0)

    def __check_init__(self) -> None:
        check_positive(bound=self.bound)

    @property
    def num_params(self) -> int:
        """Two numbers: location and raw log-scale."""
        return 2

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return normals of batch shape [...] from [..., 2]."""
        return dist.Normal(raw[..., 0], jnp.exp(bounded(raw[..., 1], self.bound)))


class ContinuousBernoulliHead(eqx.Module):
    """Continuous Bernoulli with logit raw₀, of numbers in [0, 1].

    References: The continuous Bernoulli (Loaiza-Ganem, Cunningham 2019), arXiv:1907.06845.

    >>> import jax.numpy as jnp
    >>> ContinuousBernoulliHead()(jnp.zeros((3, 1))).mean
    Array([0.5, 0.5, 0.5], dtype=float32)
    """

    @property
    def num_params(self) -> int:
        """One number: the logit."""
        return 1

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return continuous Bernoullis of batch shape [...] from [..., 1]."""
        return ContinuousBernoulli(raw[..., 0])
