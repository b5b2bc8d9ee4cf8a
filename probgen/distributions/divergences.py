"""`numpyro.distributions.kl_divergence` of our distributions, and of what heads return."""

import math
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from probgen.core import map_batch
from probgen.distributions.base import Distribution
from probgen.distributions.conditionals import AtContext
from probgen.distributions.enumeration import events_of, levels, number_of_events
from probgen.distributions.transformed import Transformed
from probgen.distributions.wrapped import elementwise, family, is_masked


@dist.kl_divergence.register(Distribution, Distribution)  # type: ignore[attr-defined]
def kl_divergence(p: Distribution, q: Distribution) -> Array:
    """Return KL(p ‖ q) = E_p[log p(x) − log q(x)] in nats, of shape [*batch].

    That of the bases where both are pushed through the same bijector; that of normals for affine flows and single
    components; the sum of the positions' for histograms; the exact sum over all values where there are few. Raises
    NotImplementedError otherwise, ValueError where the event shapes differ.

    >>> import distrax, jax.numpy as jnp
    >>> pushed = lambda loc: Transformed(dist.Normal(loc, 1.0), distrax.Tanh())
    >>> float(dist.kl_divergence(pushed(0.0), pushed(1.0)))
    0.5
    """
    if p.event_shape != q.event_shape:
        raise ValueError(f"expected equal event shapes, got {p.event_shape} and {q.event_shape}")
    p, q = p._itself(), q._itself()
    if p._axes or q._axes:
        return _of_batches(p, q)
    p, q = (d._at(d.context) if isinstance(d, AtContext) else d for d in (p, q))
    for rule in (_of_bases, _of_normals, _of_products, _of_values):
        found = rule(p, q)
        if found is not None:
            return jnp.broadcast_to(found, jnp.broadcast_shapes(p.batch_shape, q.batch_shape))
    _refuse(p, q)


def _refuse(p: dist.Distribution, q: dist.Distribution) -> NoReturn:
    raise NotImplementedError(
        f"no closed form is known for KL({type(p).__name__} ‖ {type(q).__name__}): average p.log_prob(x) - "
        "q.log_prob(x) over draws x of p"
    )


def _of_batches(p: Distribution, q: Distribution) -> Array:
    lead = jnp.broadcast_shapes(p._axes, q._axes)
    if any(len(d.batch_shape) != len(d._axes) for d in (p, q)):
        raise NotImplementedError("the KL of distributions with batch axes of two kinds: use jax.vmap over them")
    (p_parts, p_axes, p_at), (q_parts, q_axes, q_at) = (d._family() or (d, (), lambda d: d) for d in (p, q))
    whole = lambda parts, axes: jax.tree.map(lambda x: jnp.broadcast_to(x, lead + x.shape[len(axes) :]), parts)
    pair = lambda parts: kl_divergence(p_at(parts[0]), q_at(parts[1]))
    return map_batch(pair, (whole(p_parts, p_axes), whole(q_parts, q_axes)), lead, (), ())


def _of_bases(p: Distribution, q: Distribution) -> Array | None:
    if not (isinstance(p, Transformed) and isinstance(q, Transformed) and _same(p.bijector, q.bijector)):
        return None
    return dist.kl_divergence(p.base, q.base)


def _same(a: Any, b: Any) -> bool:
    """Return whether two bijectors are known to be equal; traced numbers are where they are the same tracer."""
    (ours, structure), (theirs, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    traced = lambda x: isinstance(x, jax.core.Tracer)
    equal = lambda x, y: x is y or (not (traced(x) or traced(y)) and np.array_equal(x, y))
    return bool(structure == other and all(map(equal, ours, theirs)))  # type: ignore[operator]


def _of_normals(p: dist.Distribution, q: dist.Distribution) -> Array | None:
    normals = _normal(p), _normal(q)
    return None if None in normals else dist.kl_divergence(*normals)


def _normal(d: dist.Distribution) -> dist.MultivariateNormal | None:
    """Return a distribution, ours or numpyro's, as a normal of its flat events; None where it is not one."""
    if isinstance(d, Distribution):
        return d._as_normal()
    if isinstance(d, dist.MultivariateNormal):
        return d
    if isinstance(d, dist.LowRankMultivariateNormal):
        return dist.MultivariateNormal(d.loc, d.covariance_matrix)
    if is_masked(d) or not isinstance(family(d), dist.Normal):
        return None
    mean, scale = (x.reshape(*d.batch_shape, math.prod(d.event_shape)) for x in (d.mean, jnp.sqrt(d.variance)))
    return dist.MultivariateNormal(mean, scale_tril=scale[..., None] * jnp.eye(scale.shape[-1], dtype=scale.dtype))


def _of_products(p: dist.Distribution, q: dist.Distribution) -> Array | None:
    """Return the sum of the numbers' divergences, where both are products of such; None elsewhere."""
    if is_masked(p) or is_masked(q):
        return None
    of_p, of_q = elementwise(p), elementwise(q)
    if of_p is p and of_q is q:
        return None
    if of_p.event_shape or of_q.event_shape or _levels(of_p) != _levels(of_q):
        return None
    try:
        each = dist.kl_divergence(of_p, of_q)
    except NotImplementedError:
        return None
    return jnp.sum(each, tuple(range(-p.event_dim, 0)))


def _levels(d: dist.Distribution) -> tuple[int, int] | None:
    return levels(d.support) if d.is_discrete else None


def _of_pairs(p: dist.Distribution, q: dist.Distribution) -> Array:
    """Return KL(p ‖ q) of ours and numpyro's, where both are normals or both are products."""
    if p.event_shape != q.event_shape:
        raise ValueError(f"expected equal event shapes, got {p.event_shape} and {q.event_shape}")
    one = lambda d: d._at(d.context) if isinstance(d, AtContext) and not d._axes else d
    if not (getattr(p, "_axes", ()) or getattr(q, "_axes", ())):
        for rule in (_of_normals, _of_products):
            found = rule(one(p), one(q))
            if found is not None:
                return found
    _refuse(p, q)


_FULL = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)
for _other in (Distribution, dist.Independent):
    for _theirs in (*_FULL, dist.Independent):
        if _other is not _theirs:
            dist.kl_divergence.register(_other, _theirs)(_of_pairs)  # type: ignore[attr-defined]
            dist.kl_divergence.register(_theirs, _other)(_of_pairs)  # type: ignore[attr-defined]
for _pair in ((_FULL[1], _FULL[1]), _FULL, _FULL[::-1]):
    dist.kl_divergence.register(*_pair)(_of_pairs)  # type: ignore[attr-defined]


def _of_values(p: Distribution, q: Distribution) -> Array | None:
    if not (p.exact and q.exact):
        return None
    values = events_of(p)
    if values is None or number_of_events(q) is None or levels(p.support) != levels(q.support):
        return None
    lead = (1,) * max(len(p.batch_shape), len(q.batch_shape))
    return _sum(p, q, values.reshape(len(values), *lead, *p.event_shape))


def _sum(p: dist.Distribution, q: dist.Distribution, values: Array) -> Array:
    log_p, log_q = p.log_prob(values), q.log_prob(values)
    none = jnp.isneginf(log_p)
    return jnp.sum(jnp.where(none, 0.0, jnp.exp(log_p) * (log_p - jnp.where(none, 0.0, log_q))), 0)


@dist.kl_divergence.register(dist.BernoulliLogits, dist.BernoulliLogits)  # type: ignore[attr-defined]
def _(p: dist.BernoulliLogits, q: dist.BernoulliLogits) -> Array:
    return _sum(p, q, jnp.arange(2).reshape(-1, *[1] * max(len(p.batch_shape), len(q.batch_shape))))


@dist.kl_divergence.register(dist.CategoricalLogits, dist.CategoricalLogits)  # type: ignore[attr-defined]
def _(p: dist.CategoricalLogits, q: dist.CategoricalLogits) -> Array:
    log_p, log_q = jax.nn.log_softmax(p.logits), jax.nn.log_softmax(q.logits)
    none = jnp.isneginf(log_p)
    return jnp.sum(jnp.where(none, 0.0, jnp.exp(log_p) * (log_p - jnp.where(none, 0.0, log_q))), -1)
