"""Posteriors that are more than independent normals: functions of x that return a distribution of z."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from probgen.core import as_integer, check_positive, check_sizes, static_functions, vectorize
from probgen.distributions import BoundedNormalHead, ConditionalModel
from probgen.distributions.discretized import IntegerCategorical


class _OfRawNumbers(eqx.Module):
    """The base of posteriors that a network's raw numbers say: a subclass writes `num_params` and `of_raw`."""

    network: Any = eqx.field(converter=static_functions)
    dim: int = eqx.field(static=True, converter=as_integer)
    context_ndims: int = eqx.field(static=True, default=1, kw_only=True)
    bound: float = eqx.field(static=True, default=5.0, kw_only=True)

    def __check_init__(self) -> None:
        check_sizes(dim=self.dim)
        check_sizes(0, context_ndims=self.context_ndims)
        check_positive(bound=self.bound)

    @property
    @abc.abstractmethod
    def num_params(self) -> int:
        """How many raw numbers the network returns."""

    @abc.abstractmethod
    def of_raw(self, raw: Array) -> dist.Distribution:
        """Return the distribution, of batch shape [...], that raw numbers [..., num_params] say."""

    def raw(self, x: Array) -> Array:
        """Return the network's raw numbers [..., num_params] for rows [..., *event_shape]."""
        return vectorize(self._raw_of_one, self.context_ndims)(x)

    def _raw_of_one(self, x: Array) -> Array:
        out = self.network(x)
        if out.size != self.num_params:
            raise ValueError(f"network: expected {self.num_params} numbers for an x, got an output of {out.shape}")
        return out.reshape(-1)

    def __call__(self, x: Array) -> dist.Distribution:
        """Return the posteriors, of batch shape [...], of rows [..., *event_shape]."""
        return self.of_raw(self.raw(x))

    def _scales(self, raw: Array) -> Array:
        return BoundedNormalHead(self.bound)(jnp.stack([raw, raw], -1)).scale


class FullCovariance(_OfRawNumbers):
    """q(z | x) = Normal(μ(x), L(x) L(x)ᵀ), L triangular, with the log of its diagonal bounded.

    Raw zeros are a standard normal. The raw numbers are μ, the logs of the diagonal, and what is below it, by rows.

    Args:
        network: one x → dim + dim + dim (dim − 1) / 2 numbers, any callable pytree; `Contextual` at contexts.
        dim: the size of z.
        context_ndims: the rank of one x.
        bound: the largest |log L_ii|.

    Raises ValueError where an argument is out of its range, or the network returns another number of numbers.

    >>> import jax.numpy as jnp
    >>> q = FullCovariance(lambda x: jnp.concatenate([x, jnp.array([0.0, 0.0, 3.0])]), 2)(jnp.ones((7, 2)))
    >>> q.batch_shape, q.scale_tril[0].tolist()
    ((7,), [[1.0, 0.0], [3.0, 1.0]])
    """

    @property
    def num_params(self) -> int:
        """How many raw numbers the network returns."""
        return 2 * self.dim + self.dim * (self.dim - 1) // 2

    def of_raw(self, raw: Array) -> dist.Distribution:
        """Return the normals, of batch shape [...], that raw numbers [..., num_params] say."""
        dim = self.dim
        loc, diagonal, below = jnp.split(raw, (dim, 2 * dim), -1)
        tril = jnp.zeros((*raw.shape[:-1], dim, dim), raw.dtype)
        tril = tril.at[..., *np.tril_indices(dim, -1)].set(below)
        return dist.MultivariateNormal(loc, scale_tril=tril + self._scales(diagonal)[..., None] * jnp.eye(dim))


class LowRank(_OfRawNumbers):
    """q(z | x) = Normal(μ(x), F(x) F(x)ᵀ + diag σ(x)²), F of shape [dim, rank].

    The raw numbers are μ, log σ, and F by rows, to which 0.1 is added on its diagonal: at F = 0 its gradient would
    vanish.

    Args:
        network: one x → dim · (2 + rank) numbers, any callable pytree; `Contextual` at contexts.
        dim: the size of z.
        rank: of F F ᵀ.
        context_ndims: the rank of one x.
        bound: the largest |log σ|.

    Raises ValueError where an argument is out of its range, or the network returns another number of numbers.

    References: Stochastic Backpropagation and Approximate Inference in Deep Generative Models (Rezende, Mohamed,
    Wierstra 2014), arXiv:1401.4082, section 4.3.

    >>> import jax.numpy as jnp
    >>> LowRank(lambda x: jnp.zeros(9), 3, 1)(jnp.ones((7, 2))).variance[0].round(2)
    Array([1.01, 1.  , 1.  ], dtype=float32)
    """

    rank: int = eqx.field(static=True, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(rank=self.rank)

    @property
    def num_params(self) -> int:
        """How many raw numbers the network returns."""
        return self.dim * (2 + self.rank)

    def of_raw(self, raw: Array) -> dist.Distribution:
        """Return the normals, of batch shape [...], that raw numbers [..., num_params] say."""
        loc, log_scale, factor = jnp.split(raw, (self.dim, 2 * self.dim), -1)
        factor = factor.reshape(*raw.shape[:-1], self.dim, self.rank) + 0.1 * jnp.eye(self.dim, self.rank)
        return dist.LowRankMultivariateNormal(loc, factor, self._scales(log_scale) ** 2)


class MixturePosterior(_OfRawNumbers):
    """q(z | x) = Σ_k π_k(x) Normal(μ_k(x), diag σ_k(x)²): a posterior with several modes.

    Its draws carry no gradient: the model learns by its `program` and `guide`, as `fit` does it, with an estimator for
    mixtures (leave-one-out by default, or `estimators.Implicit`). The components start apart, along the diagonal. The
    raw numbers are the logits of π, all μ, and all log σ.

    Args:
        network: one x → components · (1 + 2 dim) numbers, any callable pytree; `Contextual` at contexts.
        dim: the size of z.
        components: how many.
        context_ndims: the rank of one x.
        bound: the largest |log σ|.

    Raises ValueError where an argument is out of its range, or the network returns another number of numbers.

    >>> import jax.numpy as jnp
    >>> q = MixturePosterior(lambda x: jnp.zeros(10), 2, 2)(jnp.ones((7, 2)))
    >>> q.batch_shape, q.component_distribution.mean[0].tolist()
    ((7,), [[-1.0, -1.0], [1.0, 1.0]])
    """

    components: int = eqx.field(static=True, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(components=self.components)

    @property
    def num_params(self) -> int:
        """How many raw numbers the network returns."""
        return self.components * (1 + 2 * self.dim)

    def of_raw(self, raw: Array) -> dist.Distribution:
        """Return the mixtures, of batch shape [...], that raw numbers [..., num_params] say."""
        logits, normals = jnp.split(raw, (self.components,), -1)
        normals = normals.reshape(*raw.shape[:-1], 2, self.components, self.dim)
        apart = jnp.linspace(-1.0, 1.0, self.components)[:, None] if self.components > 1 else 0.0
        parts = dist.Normal(normals[..., 0, :, :] + apart, self._scales(normals[..., 1, :, :])).to_event(1)
        return dist.MixtureSameFamily(IntegerCategorical(logits), parts)


class AtFeatures(eqx.Module):
    """q(z | x) = conditional(network(x)): any conditional model, such as a flow, at features of x.

    An inverse autoregressive flow serves best (`flows.iaf` with a `context_dim`): a posterior only scores what it drew,
    and that never inverts.

    Args:
        network: one x → one context of the conditional, any callable pytree; `Contextual` at contexts of the model.
        conditional: features [..., F] → distribution of z.
        context_ndims: the rank of one x.

    References: Improved Variational Inference with Inverse Autoregressive Flow (Kingma, Salimans, Jozefowicz, Chen,
    Sutskever, Welling 2016), arXiv:1606.04934.

    >>> import jax, jax.numpy as jnp, probgen
    >>> flow = probgen.flows.iaf(2, layers=1, hidden=(8,), context_dim=3, key=jax.random.key(0))
    >>> q = AtFeatures(lambda x: x.ravel()[:3], flow, context_ndims=2)(jnp.ones((7, 4, 4)))
    >>> q.batch_shape, q.event_shape, q.has_rsample
    ((7,), (2,), True)
    """

    network: Any = eqx.field(converter=static_functions)
    conditional: ConditionalModel
    context_ndims: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        check_sizes(0, context_ndims=self.context_ndims)

    def __call__(self, x: Array) -> dist.Distribution:
        """Return the posteriors, of batch shape [...], of rows [..., *event_shape]."""
        return self.conditional(vectorize(self.network, self.context_ndims)(x))
