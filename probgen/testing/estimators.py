"""The laws of gradient estimators."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from probgen.inference import expectation
from probgen.inference.estimators import Enumerate, Estimator, ScoreFunction, Signal, detached, draw_cut
from probgen.inference.estimators.base import check_kind
from probgen.inference.laboratory.replicates import Moments, flat, limit, replicate, z_scores
from probgen.testing.law import require

_LEVEL = 1e-3
Integrand = Callable[[Array], Array]


def check_estimator(
    estimator: Estimator,
    make: Callable[[Any], dist.Distribution],
    f: Integrand,
    theta: Any,
    *,
    exact: Callable[[Any], Array] | None = None,
    num: int = 20_000,
    key: Array | None = None,
) -> None:
    """Check that gradients of E_{z ~ make(θ)}[f(z)] are right in the mean: of one draw, of a batch, and of a batch in
    one cost.

        z-scores of 1/N Σ_n g_n − ∇_θ E[f(z)], and of the values, all at once

    A right estimator fails by chance in one of a thousand keys (Bonferroni over all components; the normal limit,
    widened by what a value too rare to be drawn may hide). Beside the means: draws have the shape that was asked for;
    gradients are finite; without `couples`, no particle's term reads the costs of others. An estimator that says
    `unbiased = False` is held to all but the means.

    Args:
        estimator: to be checked.
        make: from θ to a distribution that the estimator serves.
        f: from one draw to a scalar, or to one cost for each element of the batch, as for `expectation`.
        theta: θ, any pytree of floats.
        exact: θ ↦ E[f(z)], by default the sum over a finite support, or a quadrature over a number on the line.
        num: N.
        key: a fixed one by default.

    Raises ValueError where the estimator does not serve the distribution or keeps something from step to step, and
    where `exact` is needed.

    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> from probgen.inference.estimators import Estimator, LeaveOneOut, draw_cut
    >>> bit, cost = lambda logit: dist.Bernoulli(logits=logit), lambda b: (b - 0.45) ** 2
    >>> check_estimator(LeaveOneOut(), bit, cost, 0.5)
    >>> class Straight(Estimator):  # the gradient of the mean, which is right for a linear cost alone
    ...     def draw(self, key, fn, sample_shape):
    ...         b = draw_cut(key, fn, sample_shape)
    ...         return b + fn.mean - jax.lax.stop_gradient(fn.mean)
    >>> check_estimator(Straight(), bit, lambda b: 3.0 * b, 0.5)
    >>> check_estimator(Straight(), bit, cost, 0.5)
    Traceback (most recent call last):
    AssertionError: the mean is the exact gradient: of one draw, component 0: 0.08... ± ..., and not 0.0235 (|z| = ...)
    """
    check_kind("estimator", estimator, Estimator, "LeaveOneOut()")
    theta = jax.tree.map(lambda x: jnp.asarray(x, float), theta)
    key = jax.random.key(0) if key is None else key
    _check_shapes(estimator, make(theta), key)
    if estimator.scored and not estimator.couples and estimator.copies == 1:
        _check_uncoupled(estimator, make(theta), key)
    truth, gradient = jax.jit(jax.value_and_grad(exact or _expected(make, f, theta)))(theta)
    apart = lambda z: jax.vmap(f)(z)
    together = lambda z: jnp.prod(jax.vmap(f)(z))
    doubled = jax.tree.map(lambda g: 2 * truth * g, gradient)
    cases = [
        ("one draw", make, f, 1, truth, gradient),
        ("a batch", lambda t: _repeated(make(t), 3), apart, 2, 3 * truth, jax.tree.map(lambda g: 3 * g, gradient)),
        ("a batch in one cost", lambda t: _repeated(make(t), 2), together, 1, truth**2, doubled),
    ]
    for case, of, g, times, value, slope in cases:
        if case.endswith("one cost") and make(theta).batch_shape:
            continue
        right = {**flat({"gradient": slope}), "value": jnp.ravel(value)}
        found = _moments(estimator, of, g, theta, times * estimator.particles, key, num, right)
        _check_means(estimator, case, found, right)


def _repeated(fn: dist.Distribution, count: int) -> dist.Distribution:
    return fn.expand((count, *fn.batch_shape))


def _moments(
    estimator: Estimator, make: Any, f: Integrand, theta: Any, count: int, key: Array, num: int, right: dict[str, Array]
) -> Moments:
    """Return the moments of the gradient, and of the value beside it."""

    def one(key: Array) -> tuple[Array, dict[str, Array]]:
        loss = lambda t: expectation(key, make(t), f, estimator, num_samples=count)
        value, gradient = jax.value_and_grad(loss)(theta)
        return value, {**flat({"gradient": gradient}), "value": value[None]}

    return jax.jit(lambda key: replicate(one, key, num, right))(key)


def _check_means(estimator: Estimator, case: str, found: Moments, right: dict[str, Array]) -> None:
    most = limit(_LEVEL, 3 * sum(x.size for x in right.values()))
    for group, law in (("value", "the mean is the exact value"), ("gradient", "the mean is the exact gradient")):
        require(f"finite {group}", np.isfinite(found.mean[group]), f"of {case}")
        if not estimator.unbiased:
            continue
        z = np.abs(z_scores(found, right[group], (1e-5 * (1 + np.abs(right[group]))) ** 2, group))
        i = int(np.argmax(z))
        mean, error = found.mean[group][i], (found.variance[group][i] / found.gradients) ** 0.5
        where = f"of {case}, component {i}: {mean:.4g} ± {error:.2g}, and not {right[group][i]:.4g}"
        require(law, z <= most, f"{where} (|z| = {z[i]:.1f}, of {most:.1f} at most)")


def _check_shapes(estimator: Estimator, fn: dist.Distribution, key: Array) -> None:
    for d in (fn, _repeated(fn, 3), _repeated(fn, 3).to_event(1)):
        for sample_shape in ((), (2,)):
            drawn = jax.eval_shape(lambda k: estimator.draw(k, d, sample_shape), key)  # noqa: B023
            if drawn is not None:
                want = ((estimator.copies,) if estimator.copies > 1 else ()) + d.shape(sample_shape)
                require(
                    "shape of a draw", drawn.shape == want, f"sample_shape {sample_shape}: {drawn.shape}, not {want}"
                )


def _check_uncoupled(estimator: Estimator, fn: dist.Distribution, key: Array) -> None:
    """Check that an estimator without `couples` reads no costs of others: importance weights hand each particle what
    the others expect of it, and costs of their own would be false there."""
    count = 2 * estimator.particles

    @jax.jit
    def moves(key: Array) -> Array:
        value = jax.vmap(lambda k: draw_cut(k, fn))(jax.random.split(key, count))
        log_q = jnp.asarray(fn.log_prob(value), float)
        extra = jax.vmap(lambda z: estimator.observe(fn, z))(value)
        first, second = jax.random.normal(key, (2, *log_q.shape))
        others = (first.sum(0, keepdims=True) - first) / (count - 1)

        def terms(cost: Array) -> Array:
            signal = Signal(log_q, cost, 1.0, others, 1.0, estimator.init_state(), extra, 0)
            return jax.grad(lambda log_q: estimator.surrogate(signal._replace(log_q=log_q))[0])(log_q)

        before = terms(first)
        return jax.vmap(lambda k: jnp.max(jnp.abs(terms(second.at[k].set(first[k])) - before)[k]))(jnp.arange(count))

    moved = np.asarray(moves(key))
    law = "a particle's term reads no costs of other particles"
    detail = "couples = True says so (objectives with importance weights then refuse it), or `others` serves"
    require(law, moved < 1e-4, f"they moved it by {moved.max():.2g}: {detail}")


def _expected(make: Callable[[Any], dist.Distribution], f: Integrand, theta: Any) -> Callable[[Any], Array]:
    """Return θ ↦ E[f(z)], by the sum over all values, or by trapezoids over the line that the support is mapped to."""
    if Enumerate().problem(make(theta)) is None:
        return lambda t: expectation(jax.random.key(0), make(t), f, Enumerate())
    held = detached(make(theta))
    if held.event_dim or held.support.is_discrete:
        raise ValueError(f"exact: expected θ ↦ E[f(z)], since {type(held).__name__} is neither finite nor a number")
    onto = dist.biject_to(held.support)
    draws = onto.inv(held.sample(jax.random.key(0), (1000,)))
    steps = jnp.arange(-2000.0, 2001.0).reshape(-1, *[1] * (draws.ndim - 1))
    width = draws.std(0) / 200  # ten standard deviations to either side
    x = draws.mean(0) + width * steps
    z = onto(x)
    volume = jnp.exp(onto.log_abs_det_jacobian(x, z)) * width
    lost = float(jnp.max(jnp.abs(jnp.sum(jnp.exp(held.log_prob(z)) * volume, 0) - 1)))
    if not lost < 1e-4:
        raise ValueError(f"exact: expected θ ↦ E[f(z)], since a quadrature of the density is wrong by {lost:.1g}")

    def mean(t: Any) -> Array:
        fn = make(t)
        if problem := ScoreFunction().problem(fn):
            raise ValueError(f"exact: expected θ ↦ E[f(z)], since {problem}")
        return jnp.sum(jax.vmap(f)(z) * jnp.exp(fn.log_prob(z)) * volume)

    return mean
