"""Heads of integers 0..levels−1: raw network output in, a numpyro distribution out."""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import as_integer, check_sizes
from probgen.distributions.beta_binomial import BetaBinomial
from probgen.distributions.differentiable import differentiable
from probgen.distributions.discretized import DiscretizedLogistic, DiscretizedLogisticMixture, IntegerCategorical
from probgen.distributions.heads import Head, bounded, mixture_parts, positive


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
        logits, loc, scale = mixture_parts(raw)
        return DiscretizedLogisticMixture(logits, *_in_levels(loc, scale, self.levels), self.levels)


class BetaBinomialHead(eqx.Module):
    """A beta-binomial over 0..levels−1, which is ordinal, uniform at raw zeros.

        log α = b tanh((raw₁ + raw₀ / 2) / b),   log β = b tanh((raw₁ − raw₀ / 2) / b),   b = 8

    Args:
        levels: how many integers.

    >>> import jax.numpy as jnp
    >>> BetaBinomialHead(3)(jnp.zeros(2)).mean
    Array(1., dtype=float32)
    """

    levels: int = eqx.field(static=True, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(2, levels=self.levels)

    @property
    def num_params(self) -> int:
        """Two numbers: the logit of the mean, and how concentrated it is."""
        return 2

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return beta-binomials of batch shape [...] from [..., 2]."""
        log_alpha, log_beta = (bounded(raw[..., 1] + sign * raw[..., 0], 8.0) for sign in (0.5, -0.5))
        return BetaBinomial(jnp.exp(log_alpha), jnp.exp(log_beta), self.levels)


def _in_levels(loc: Array, scale: Array, levels: int) -> tuple[Array, Array]:
    half = (levels - 1) / 2
    return half * (1.0 + loc), half / 2 * positive(scale, 0.02 / half)


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
