"""Bridges: a bijector as a numpyro transform, a distrax distribution at a numpyro sample site."""

import contextlib
from typing import Any

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform

from probgen.bijectors import Bijector, Inverse, as_bijector
from probgen.bijectors.support import UnknownSupport, widen
from probgen.distributions.base import Distribution


class BijectorTransform(Transform):
    """A bijector as a numpyro transform, which `as_transform` returns."""

    def __init__(self, bijector: Bijector):
        self.bijector = bijector

    @property
    def domain(self) -> constraints.Constraint:
        """The set on which the bijector is defined, such as ℝᵈ."""
        return widen(self.bijector.domain, self.bijector.event_ndims_in)

    @property
    def codomain(self) -> constraints.Constraint:
        """The image of the domain."""
        return widen(self.bijector.codomain, self.bijector.event_ndims_out)

    def __call__(self, x: Array) -> Array:
        """Return f(x)."""
        return self.bijector.forward(x)

    def _inverse(self, y: Array) -> Array:
        return self.bijector.inverse(y)

    def call_with_intermediates(self, x: Array) -> tuple[Array, Array]:
        """Return f(x) and its log-determinant, which numpyro hands back to `log_abs_det_jacobian`."""
        return self.bijector.forward_and_log_det(x)

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Array | None = None) -> Array:
        """Return log|det ∂f/∂x|."""
        return self.bijector.forward_log_det_jacobian(x) if intermediates is None else intermediates

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape after f."""
        return _through(self.bijector, shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape before f."""
        return _through(Inverse(self.bijector), shape)

    def tree_flatten(self) -> Any:
        """Return the bijector as the only child."""
        return (self.bijector,), (("bijector",), {})

    def eq(self, other: object, static: bool = False) -> Any:
        """Return whether two transforms hold equal bijectors."""
        return isinstance(other, BijectorTransform) and eqx.tree_equal(self.bijector, other.bijector)


def _through(bijector: Bijector, shape: tuple[int, ...]) -> tuple[int, ...]:
    lead = len(shape) - bijector.event_ndims_in
    event = shape[lead:]
    return (*jnp.broadcast_shapes(shape[:lead], bijector.batch_shape(event)), *bijector.forward_shape(event))


def as_transform(bijector: Any) -> BijectorTransform:
    """Return a bijector as a numpyro `Transform`, for `TransformedDistribution` and reparameterization.

    Args:
        bijector: ours or distrax's.

    Raises ValueError where a part of a chain is not defined on what the one before it makes of the domain.

    >>> import distrax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> d = dist.TransformedDistribution(dist.Normal(0.0, 1.0), as_transform(distrax.Tanh()))
    >>> d.support
    Interval(lower_bound=-1.0, upper_bound=1.0)
    """
    bijector = as_bijector(bijector)
    with contextlib.suppress(UnknownSupport):  # what is not known is taken
        _ = bijector.codomain  # its parts refuse what they are not defined on
    return BijectorTransform(bijector)


_SUPPORTS: dict[str, constraints.Constraint] = {
    "Normal": constraints.real,
    "LogStddevNormal": constraints.real,
    "Laplace": constraints.real,
    "Logistic": constraints.real,
    "Gumbel": constraints.real,
    "Gamma": constraints.positive,
    "Beta": constraints.unit_interval,
    "Dirichlet": constraints.simplex,
    "VonMises": constraints.circular,
    "Bernoulli": constraints.boolean,
    "MultivariateNormalDiag": constraints.real_vector,
    "MultivariateNormalTri": constraints.real_vector,
    "MultivariateNormalFullCovariance": constraints.real_vector,
    "MultivariateNormalDiagPlusLowRank": constraints.real_vector,
}


def _support(d: Any) -> constraints.Constraint:
    name = type(d).__name__
    if name in _SUPPORTS:
        return _SUPPORTS[name]
    if isinstance(d, distrax.OneHotCategorical):  # (a Categorical too)
        return constraints.multinomial(1)
    if isinstance(d, distrax.Multinomial):
        return constraints.multinomial(d.total_count)
    if isinstance(d, distrax.Categorical):
        return constraints.integer_interval(0, d.num_categories - 1)
    if isinstance(d, distrax.Uniform):
        return constraints.interval(d.low, d.high)
    if isinstance(d, distrax.Independent):
        return constraints.independent(_support(d.distribution), len(d.event_shape) - len(d.distribution.event_shape))
    if isinstance(d, distrax.MixtureSameFamily):
        return _support(d.components_distribution)
    raise ValueError(f"support= is needed: distrax's {name} does not say where it lives")


class FromDistrax(Distribution):
    """A distrax distribution as a numpyro one, which `from_distrax` returns."""

    pytree_data_fields = ("arrays",)
    pytree_aux_fields = ("_structure", "_given_support")

    def __init__(self, distribution: Any, support: constraints.Constraint | None):
        leaves, self._structure = jax.tree.flatten(distribution)
        self.arrays = tuple(jnp.asarray(leaf) for leaf in leaves)
        self._given_support = support
        if support is None:
            _support(distribution)
        super().__init__(tuple(distribution.batch_shape), tuple(distribution.event_shape))

    @property
    def distribution(self) -> Any:
        """The distrax distribution."""
        return jax.tree.unflatten(self._structure, self.arrays)

    @property
    def support(self) -> constraints.Constraint:
        """The set of values on which the distribution lives."""
        return _support(self.distribution) if self._given_support is None else self._given_support

    @property
    def has_rsample(self) -> bool:
        """Whether samples carry gradients: distrax reparameterizes its continuous distributions, but for mixtures."""
        return not self.support.is_discrete and not isinstance(self.distribution, distrax.MixtureSameFamily)

    def _sample(self, key: Array, sample_shape: tuple[int, ...]) -> Array:
        return self.distribution.sample(seed=key, sample_shape=sample_shape)

    def _log_prob(self, value: Array) -> Array:
        return self.distribution.log_prob(self._real(value))

    def _mean(self) -> Array:
        return self.distribution.mean()

    def _variance(self) -> Array:
        return self.distribution.variance()

    def _mode(self) -> Array:
        return self.distribution.mode()

    def _entropy(self) -> Array:
        return self.distribution.entropy()

    def _cdf(self, value: Array) -> Array:
        return self.distribution.cdf(self._real(value))

    def _real(self, value: Array) -> Array:
        """Return reals in float32 at least, since distrax computes in the value's precision."""
        if self.support.is_discrete:
            return value
        return value.astype(jnp.result_type(value.dtype, jnp.float32))


def from_distrax(distribution: Any, *, support: constraints.Constraint | None = None) -> FromDistrax:
    """Return a distrax distribution as a numpyro one, for a `sample` site; its parameters are values and pass
    gradients.

    Args:
        distribution: a distrax distribution.
        support: the numpyro constraint, needed where distrax cannot tell it.

    Raises ValueError where the support is needed and missing.

    >>> import distrax, jax, numpyro
    >>> with numpyro.handlers.seed(rng_seed=0):
    ...     z = numpyro.sample("z", from_distrax(distrax.Normal(jax.numpy.zeros(3), 1.0)))
    >>> z.shape
    (3,)
    """
    return FromDistrax(distribution, support)
