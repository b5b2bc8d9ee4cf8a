"""Moments, entropies and distribution functions of f(z), z ~ base, where those of the base and the Jacobian tell."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.bijectors.support import UnknownSupport, as_interval
from probgen.core import as_float
from probgen.distributions.wrapped import family, is_masked


def mean(d: Any) -> Array:
    """Return f(E[z]), for a constant Jacobian."""
    _require_constant(d, "mean", "average draws, sample(key, (n,)).mean(0)")
    return jnp.broadcast_to(d.bijector.forward(_base_mean(d)), d._batch_shape + d.event_shape)


def variance(d: Any) -> Array:
    """Return the squared slope times the base's variance; the diagonal of J Σ Jᵀ for vectors."""
    _require_constant(d, "variance", "take that of draws, sample(key, (n,)).var(0)")
    if d.bijector.event_ndims_in == 0:
        slope = jnp.exp(2 * d.bijector.forward_log_det_jacobian(_base_mean(d)))
        return jnp.broadcast_to(slope * d.base.variance, d._batch_shape + d.event_shape)
    return jnp.diagonal(covariance_of(d), axis1=-2, axis2=-1).reshape(d._batch_shape + d.event_shape)


def covariance_of(d: Any) -> Array:
    """Return J Σ Jᵀ of flat events, [*batch, D, D], for a constant Jacobian."""
    _require_constant(d, "covariance", "take that of draws")
    forward = lambda z: d.bijector.forward(z.reshape(d.base.event_shape))
    jacobian = jax.jacobian(forward)(_base_mean(d).reshape(-1, math.prod(d.base.event_shape))[0])
    jacobian = jacobian.reshape(*jacobian.shape[: jacobian.ndim - 1 - d.event_dim], -1, jacobian.shape[-1])
    inner = _covariance(d.base)
    whole = jnp.einsum("...ij,...jk,...lk->...il", jacobian, inner, jacobian, precision="highest")
    return jnp.broadcast_to(whole, d._batch_shape + whole.shape[-2:])


def as_normal(d: Any) -> dist.MultivariateNormal | None:
    """Return the normal of flat events that f(z) is, where z is normal and the Jacobian constant; else None."""
    if not d.bijector.is_constant_jacobian or is_masked(d.base):
        return None
    base: Any = family(d.base)
    ours = getattr(base, "_as_normal", lambda: None)()
    if not isinstance(base, dist.Normal | dist.MultivariateNormal) and ours is None:
        return None
    mean = d.mean.reshape(*d.batch_shape, math.prod(d.event_shape))
    return dist.MultivariateNormal(mean, d._covariance())


def _covariance(base: dist.Distribution) -> Array:
    """Return the covariance of flat events of a base."""
    if hasattr(base, "_covariance"):
        return base._covariance()
    if hasattr(base, "covariance_matrix"):
        return base.covariance_matrix
    inner: Any = base
    while isinstance(inner, dist.Independent | dist.ExpandedDistribution):
        inner = inner.base_dist
    if inner.event_dim:
        raise NotImplementedError(
            f"a {type(inner).__name__} does not say its covariance, so that of what a matrix makes of it is not "
            "known in closed form: take that of draws, sample(key, (n,)).var(0)"
        )
    flat = jnp.broadcast_to(base.variance, base.batch_shape + base.event_shape).reshape(*base.batch_shape, -1)
    return flat[..., None] * jnp.eye(flat.shape[-1], dtype=flat.dtype)


def entropy(d: Any) -> Array:
    """Return h(z) + log|det ∂f/∂z|, where that is constant."""
    if not d.bijector.is_constant_log_det:
        d._refuse("entropy", "average -log_prob over draws: its log-determinant is another at every x")
    shape = d.base.batch_shape + d.base.event_shape
    log_det = d._sum(d.bijector.forward_log_det_jacobian(jnp.asarray(d.base.support.feasible_like(jnp.zeros(shape)))))
    return jnp.broadcast_to(d.base.entropy() + log_det, d._batch_shape)


def cdf(d: Any, value: Array) -> Array:
    """Return the base's distribution function at f⁻¹(value), from above where f falls; 0 below the support and 1
    above."""
    _require_one_number(d, "cdf", "count draws, (sample(key, (n,)) <= value).mean(0)")
    value = as_float(value)
    low, high, within = _ends(d, value)
    z = d.bijector.inverse(jnp.where((value > low) & (value < high), value, within))
    lead = z.shape[: z.ndim - d.event_dim]
    below = _number(d.base).cdf(z.reshape(lead))
    inner = jnp.where(_falls(d, z), 1 - below, below)
    return jnp.where((value <= low).reshape(lead), 0.0, jnp.where((value >= high).reshape(lead), 1.0, inner))


def _ends(d: Any, value: Array) -> tuple[Array | float, Array | float, Array | float]:
    """Return the ends of the support, infinite where they are not known, and a number between them."""
    try:
        support = d.support
    except UnknownSupport:
        return -jnp.inf, jnp.inf, 0.0
    low, high, _ = as_interval(support) or (None, None, 0)
    ends = -jnp.inf if low is None else low, jnp.inf if high is None else high
    return *ends, jnp.asarray(support.feasible_like(jnp.zeros_like(value)))


def icdf(d: Any, q: Array) -> Array:
    """Return f of the base's quantile at q, at 1 − q where f falls."""
    _require_one_number(d, "icdf", "take that of draws, jnp.quantile(sample(key, (n,)), q, 0)")
    number, event = _number(d.base), d.base.event_shape
    q = jnp.broadcast_to(q, jnp.broadcast_shapes(q.shape, d._batch_shape))
    z = lambda q: number.icdf(q).reshape(*q.shape, *event)
    falls = _falls(d, z(jnp.full(q.shape, 0.5)))
    return d.bijector.forward(z(jnp.where(falls, 1 - q, q)))


def _falls(d: Any, z: Array) -> Array:
    """Return whether f falls, by its slope at each z, or at another where z is infinite and there is none: a bijector
    of one number rises or falls everywhere."""
    try:
        inner = d.base.support.feasible_like(z)
    except UnknownSupport:
        inner = z
    z = jnp.where(jnp.isfinite(z), z, inner)
    return jax.grad(lambda z: jnp.sum(d.bijector.forward(z)))(z).reshape(z.shape[: z.ndim - d.event_dim]) < 0


def _number(base: Any) -> Any:
    """Return a base whose event is one number as a distribution of scalars; ours see to their own event."""
    if isinstance(base, dist.Independent) and not base.base_dist.event_dim:
        return _Squeezed(base.base_dist, base.reinterpreted_batch_ndims)
    return _Squeezed(base, 0, base.event_dim)


class _Squeezed:
    """The distribution functions of a base, whose batch axes of size one that are those of its event are put away."""

    def __init__(self, base: Any, batch: int, event: int = 0):
        self.base, self.batch, self.event = base, batch, event

    def cdf(self, z: Array) -> Array:
        more = z.reshape(*z.shape, *[1] * (self.batch + self.event))
        found = self.base.cdf(more)
        return found.reshape(found.shape[: found.ndim - self.batch])

    def icdf(self, q: Array) -> Array:
        return self.base.icdf(q.reshape(*q.shape, *[1] * self.batch))


def _base_mean(d: Any) -> Array:
    return jnp.broadcast_to(d.base.mean, d.base.batch_shape + d.base.event_shape)


def _require_constant(d: Any, what: str, instead: str) -> None:
    if not d.bijector.is_constant_jacobian:
        d._refuse(what, f"{instead}; its bijector, {type(d.bijector).__name__}, is not affine")


def _require_one_number(d: Any, what: str, instead: str) -> None:
    if math.prod(d.event_shape) != 1 or math.prod(d.base.event_shape) != 1:
        d._refuse(what, f"an event has shape {d.event_shape}; {instead}")
