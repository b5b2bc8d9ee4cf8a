"""Gradients of samples from the distribution function alone: for samplers that reject, wrap or choose."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from jax.scipy.special import i0e, i1e

from probgen.distributions.wrapped import elementwise, family, unmasked
from probgen.inference.estimators.base import Estimator, detached, draw_cut

_MIXTURES = (dist.MixtureSameFamily, dist.MixtureGeneral)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclasses.dataclass(frozen=True)
class Implicit(Estimator):
    """Implicit reparameterization: draw z by any sampler, and differentiate F(z; θ) = u at fixed u.

        ∂z/∂θ = −(∂F/∂z)⁻¹ ∂F/∂θ

    F is the distribution function; for a vector it is the Rosenblatt transform, F_d(z_d | z_<d), with a triangular
    ∂F/∂z. It takes one evaluation a gradient, and serves von Mises, distributions on the line with a differentiable
    `cdf` (truncated ones among them), and mixtures of such, or of independent normals: the mixture's weights get their
    gradient too.

    Angles are moved around the circle: the gradient is that of a cost which is 2π-periodic in a von Mises angle, as
    those of cos, sin and von Mises likelihoods are, and false for others.

    Where the components of a mixture stand apart, beware: ∂z/∂θ is large where q is small, and most of the gradient
    comes from draws between them that are hardly ever made, so that a sample mean is far off without showing it. The
    default for mixtures is therefore leave-one-out; this one is better where components overlap.

    References: Implicit Reparameterization Gradients (Figurnov, Mohamed, Mnih 2018), arXiv:1805.08498; Stochastic
    Backpropagation through Mixture Density Distributions (Graves 2016), arXiv:1607.05690.

    >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> from probgen.inference import expectation
    >>> pair = dist.Normal(jnp.array([-1.0, 1.0]), 0.5)
    >>> mixture = lambda logit: dist.MixtureSameFamily(dist.Categorical(logits=jnp.array([0.0, logit])), pair)
    >>> mean = lambda x: expectation(jax.random.key(0), mixture(x), lambda z: z, Implicit(), num_samples=20_000)
    >>> abs(float(jax.grad(mean)(0.0)) - 0.5) < 0.02  # E[z] = tanh(logit / 2)
    True
    """

    needs: ClassVar[str] = "a distribution function that can be differentiated (von Mises, truncated, mixtures)"
    reference: ClassVar[str] = "Figurnov, Mohamed, Mnih 2018, arXiv:1805.08498"

    def problem(self, fn: dist.Distribution) -> str | None:
        """Return why not, where no distribution function is known."""
        if getattr(fn.support, "is_discrete", True):
            return "its values are discrete"
        return (
            None if _rosenblatt(unmasked(fn)) is not None else "no differentiable distribution function of it is known"
        )

    def draw(self, key: Array, fn: dist.Distribution, sample_shape: tuple[int, ...]) -> Array:
        """Draw by the distribution's own sampler, with the implicit gradient."""
        fn = unmasked(fn)
        return with_implicit_gradient(fn, draw_cut(key, fn, sample_shape))


def has_conditions(fn: dist.Distribution) -> str | None:
    """Return why the implicit gradient of a distribution may be false or far off, though it is there; None where it is
    not."""
    if isinstance(family(fn), _MIXTURES):
        return "components that stand apart have no good path (where they overlap, Implicit() serves)"
    if isinstance(family(fn), dist.VonMises):
        return "a cost may not be periodic (where it is, Implicit() serves)"
    return None


def with_implicit_gradient(fn: dist.Distribution, value: Array) -> Array:
    """Return z − (∂F/∂z)⁻¹ (F(z; θ) − stop F): the value, with ∂z/∂θ as its only derivative."""
    value, found = lax.stop_gradient(value), _rosenblatt(fn)
    if found is None:
        raise ValueError(f"no differentiable distribution function of {type(family(fn)).__name__} is known")
    transform, solve = found
    u = transform(value)
    return value - solve(value, u - lax.stop_gradient(u))


Rosenblatt = tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]


def _rosenblatt(fn: dist.Distribution) -> Rosenblatt | None:
    """Return F of shape [..., event] as a function of z, and `solve(z, du) = (∂F/∂z)⁻¹ du`; None where they are not
    known."""
    inner, held = family(fn), detached(fn)
    if isinstance(inner, _MIXTURES) and inner.event_dim == 1:
        return _mixture_of_vectors(fn, inner)
    if inner.event_dim or not _has_cdf(inner):
        return None
    element = elementwise(held)
    return _cdf(elementwise(fn)), lambda z, du: du * jnp.exp(-element.log_prob(z))


def _has_cdf(fn: dist.Distribution) -> bool:
    if isinstance(fn, dist.VonMises):
        return True
    if isinstance(fn, dist.MixtureSameFamily):
        return _has_cdf(family(fn.component_distribution))
    if isinstance(fn, dist.MixtureGeneral):
        return all(_has_cdf(family(d)) for d in fn.component_distributions)
    if isinstance(fn, dist.TransformedDistribution):
        return _differentiable_cdf(type(family(fn.base_dist)))
    return _differentiable_cdf(type(fn))


def _differentiable_cdf(cls: Any) -> bool:
    """Return whether a class writes a `cdf` that can be differentiated in every parameter (betainc cannot)."""
    if issubclass(cls, dist.Beta | dist.StudentT | dist.BetaProportion):
        return False
    return cls.cdf is not dist.Distribution.cdf


def _cdf(fn: dist.Distribution) -> Callable[[Array], Array]:
    inner = family(fn)
    if isinstance(inner, dist.VonMises):
        return lambda z: von_mises_cdf(z, inner.loc, inner.concentration)
    if isinstance(inner, dist.MixtureSameFamily):
        components = _cdf(inner.component_distribution)
        return lambda z: jnp.sum(inner.mixing_distribution.probs * components(z[..., None]), -1)
    if isinstance(inner, dist.MixtureGeneral):
        parts = [_cdf(d) for d in inner.component_distributions]
        return lambda z: jnp.sum(inner.mixing_distribution.probs * jnp.stack([part(z) for part in parts], -1), -1)
    return inner.cdf


def von_mises_cdf(z: Array, loc: Array, concentration: Array) -> Array:
    """Return F(z) − F(loc) of the von Mises distribution on the line (by quadrature), differentiable in all three
    arguments.

        ∫_loc^z exp(κ cos(t − loc)) / (2π I₀(κ)) dt

    The constant F(loc) does not matter to implicit gradients, and the integral from the mode is exact to rounding for
    any κ. Angles are taken as displacements from `loc` within [−π, π], so that a draw keeps its displacement's sign
    when it wraps.

    >>> import jax.numpy as jnp
    >>> von_mises_cdf(jnp.pi, 0.0, 2.0).round(5)
    Array(0.5, dtype=float32)
    """
    z, loc, concentration = jnp.broadcast_arrays(*(jnp.asarray(x, float) for x in (z, loc, concentration)))
    turns = lax.stop_gradient(jnp.round((z - loc) / (2 * math.pi)))
    x = z - loc - 2 * math.pi * turns
    # nodes are spread over the part of [0, x] that has mass: beyond 12 standard deviations there is none
    width = lax.stop_gradient(jnp.minimum(jnp.abs(x), 12 / jnp.sqrt(jnp.maximum(concentration, 1e-6))))
    outside = jnp.abs(lax.stop_gradient(x)) > width
    end = jnp.where(outside, jnp.sign(x) * width, x)
    t = end[..., None] * jnp.asarray(0.5 * (_NODES + 1), x.dtype)
    density = jnp.exp(concentration[..., None] * (jnp.cos(t) - 1)) / (2 * math.pi * _i0e(concentration)[..., None])
    return end * jnp.sum(density * jnp.asarray(0.5 * _WEIGHTS, x.dtype), -1)


@jax.custom_jvp
def _i0e(x: Array) -> Array:
    return i0e(x)


@_i0e.defjvp
def _i0e_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    # I₁/I₀ − 1 cancels where x is large; its expansion does not
    y = 1 / jnp.maximum(x, 20.0)
    series = -y * (1 / 2 + y * (1 / 8 + y * (1 / 8 + y * (25 / 128 + y * 13 / 32))))
    return i0e(x), dx * jnp.where(x > 30, i0e(x) * series, i1e(x) - i0e(x))


def _mixture_of_vectors(fn: dist.Distribution, mixture: Any) -> Rosenblatt | None:
    """Return the Rosenblatt transform of a mixture of vectors whose coordinates are independent within each
    component."""
    components = (
        [mixture.component_distribution]
        if isinstance(mixture, dist.MixtureSameFamily)
        else mixture.component_distributions
    )
    if not all(isinstance(_under_expansion(d), dist.Independent) and _has_cdf(family(d)) for d in components):
        return None

    def parts(mixture: Any, z: Array) -> tuple[Array, Array]:
        """Return F_k(z_d) and log q_k(z_d), [..., K, D]."""
        if isinstance(mixture, dist.MixtureSameFamily):
            element = elementwise(mixture.component_distribution)
            return _cdf(element)(z[..., None, :]), element.log_prob(z[..., None, :])
        elements = [elementwise(d) for d in mixture.component_distributions]
        return (
            jnp.stack([_cdf(e)(z) for e in elements], -2),
            jnp.stack([e.log_prob(z) for e in elements], -2),
        )

    def transform(mixture: Any, z: Array) -> Array:
        cdf, log_q = parts(mixture, z)
        log_weights = jnp.log(mixture.mixing_distribution.probs)[..., None]
        before = jnp.cumsum(log_q, -1) - log_q  # log q_k(z_<d)
        return jnp.sum(jax.nn.softmax(log_weights + before, -2) * cdf, -2)

    held = detached(mixture)

    def solve(z: Array, du: Array) -> Array:
        shape = jnp.broadcast_shapes(z.shape, du.shape)
        z, du = jnp.broadcast_to(z, shape), jnp.broadcast_to(du, shape)
        # each row of ∂F/∂z from one forward pass a coordinate: the events of a batch do not touch one another
        tangents = jnp.eye(shape[-1], dtype=z.dtype)
        push = lambda e: jax.jvp(lambda z: transform(held, z), (z,), (jnp.broadcast_to(e, shape),))[1]
        jacobian = jnp.moveaxis(jax.vmap(push)(tangents), 0, -1)
        return jax.scipy.linalg.solve_triangular(jacobian, du[..., None], lower=True)[..., 0]

    return (lambda z: transform(mixture, z)), solve


def _under_expansion(fn: dist.Distribution) -> dist.Distribution:
    while isinstance(fn, dist.ExpandedDistribution | dist.MaskedDistribution):
        fn = fn.base_dist
    return fn
