"""Heads: raw network output in, a numpyro distribution of scalars out.

A head says how many raw numbers it takes for one scalar (`num_params`). Raw zeros give a broad distribution.
"""

from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import as_integer, check_not_negative, check_sizes
from probgen.distributions.differentiable import differentiable
from probgen.distributions.discretized import DiscretizedLogistic, DiscretizedLogisticMixture, IntegerCategorical


class Head(Protocol):
    """The protocol of heads, as a conditional or an autoregressive model asks for it."""

    @property
    def num_params(self) -> int:
        """The raw numbers for one scalar, how many there are."""
        ...

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return a distribution of batch shape [...] from raw numbers [..., num_params]."""
        ...


def _scale(raw: Array, smallest: float) -> Array:
    """Return a positive scale, 1 at raw 0, linear above; bounded away from zero so that densities stay finite."""
    return smallest + jax.nn.softplus(raw + 0.5413248546) * (1.0 - smallest)  # softplus⁻¹(1)


def _components(raw: Array) -> tuple[Array, Array, Array]:
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
        return dist.Normal(raw[..., 0], _scale(raw[..., 1], self.min_scale))


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
        logits, loc, scale = _components(raw)
        parts = dist.Normal(loc, _scale(scale, self.min_scale))
        return dist.MixtureSameFamily(IntegerCategorical(logits), parts)


class BernoulliHead(eqx.Module):
    """Bernoulli with logit raw₀. It learns from a logit of exactly 0 too, where numpyro's does not.

    >>> import jax.numpy as jnp
    >>> BernoulliHead()(jnp.zeros((3, 1))).batch_shape
    (3,)
    """

    @property
    def num_params(self) -> int:
        """One number: the logit."""
        return 1

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return bernoullis of batch shape [...] from [..., 1]."""
        return differentiable(dist.Bernoulli(logits=raw[..., 0]))

    def raw_of(self, x: Array) -> Array:
        """Return raw numbers [..., 1] of the frequencies in rows x [N, ...], smoothed as `CategoricalHead.raw_of`
        does."""
        logs = CategoricalHead(2).raw_of(x)
        return logs[..., 1:] - logs[..., :1]


class CategoricalHead(eqx.Module):
    """Categorical over 0..levels−1 with logits raw.

    Args:
        levels: how many integers.

    >>> import jax.numpy as jnp
    >>> CategoricalHead(17)(jnp.zeros((8, 8, 17))).batch_shape
    (8, 8)
    """

    levels: int = eqx.field(static=True, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(2, levels=self.levels)

    @property
    def num_params(self) -> int:
        """One logit for each level."""
        return self.levels

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return categoricals of batch shape [...] from [..., levels]."""
        return IntegerCategorical(raw)

    def raw_of(self, x: Array) -> Array:
        """Return raw numbers [..., levels] of the frequencies in rows x [N, ...]: log (n_l + ½) / (N + levels / 2).

        References: The Performance of Universal Encoding (Krichevsky, Trofimov 1981).

        >>> import jax.numpy as jnp
        >>> jnp.exp(CategoricalHead(2).raw_of(jnp.array([0, 0, 1]))).tolist()
        [0.625, 0.375]
        """
        counts = jnp.stack([jnp.sum(x == level, 0) for level in range(self.levels)], -1)
        return jnp.log((counts + 0.5) / (len(x) + self.levels / 2))


class DiscretizedLogisticHead(eqx.Module):
    """A logistic cut into the bins 0..levels−1; raw zeros put it in the middle, a quarter of the range wide.

    Args:
        levels: how many integers.

    >>> import jax.numpy as jnp
    >>> DiscretizedLogisticHead(17)(jnp.zeros((8, 2))).loc[0]
    Array(8., dtype=float32)
    """

    levels: int = eqx.field(static=True, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(2, levels=self.levels)

    @property
    def num_params(self) -> int:
        """Two numbers: location and scale."""
        return 2

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return discretized logistics of batch shape [...] from [..., 2]."""
        return DiscretizedLogistic(*_in_levels(raw[..., 0], raw[..., 1], self.levels), self.levels)


class DiscretizedLogisticMixtureHead(eqx.Module):
    """A mixture of `components` logistics cut into the bins 0..levels−1.

    Args:
        levels: how many integers.
        components: K, how many.

    References: PixelCNN++ (Salimans, Karpathy, Chen, Kingma 2017), arXiv:1701.05517.

    >>> import jax.numpy as jnp
    >>> DiscretizedLogisticMixtureHead(17, 5)(jnp.zeros((8, 8, 15))).batch_shape
    (8, 8)
    """

    levels: int = eqx.field(static=True, converter=as_integer)
    components: int = eqx.field(static=True, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(2, levels=self.levels)
        check_sizes(components=self.components)

    @property
    def num_params(self) -> int:
        """Three numbers for each component: logit, location, scale."""
        return 3 * self.components

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return mixtures of batch shape [...] from [..., 3 · components]."""
        logits, loc, scale = _components(raw)
        return DiscretizedLogisticMixture(logits, *_in_levels(loc, scale, self.levels), self.levels)


def _in_levels(loc: Array, scale: Array, levels: int) -> tuple[Array, Array]:
    half = (levels - 1) / 2
    return half * (1.0 + loc), half / 2 * _scale(scale, 0.02 / half)


def integer_head(levels: int, *, components: int = 0) -> Head:
    """Return the head of integers 0..levels−1: `components` discretized logistics mixed, or a categorical where that is
    0.

    Two levels without components are a Bernoulli.

    Args:
        levels: how many integers, at least 2.
        components: how many logistics, or 0 for a categorical.

    Raises ValueError where `levels` is no integer of at least 2, or `components` none of at least 0.

    >>> integer_head(17).num_params, integer_head(17, components=3).num_params, integer_head(2).num_params
    (17, 9, 1)
    """
    check_sizes(2, levels=levels)
    check_sizes(0, components=components)
    if components:
        return DiscretizedLogisticMixtureHead(levels, components)
    return BernoulliHead() if levels == 2 else CategoricalHead(levels)
