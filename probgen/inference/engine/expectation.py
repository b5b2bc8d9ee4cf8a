"""An expectation as a function to be differentiated, outside of any program."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.primitives import CondIndepStackFrame

from probgen.core import check_instances, check_sizes, split_key
from probgen.distributions import differentiable
from probgen.distributions.wrapped import unmasked
from probgen.inference.engine.plan import Static, estimate, make_plan
from probgen.inference.engine.sites import Drawing
from probgen.inference.engine.surrogate import Run, to_plates
from probgen.inference.estimators.base import Estimator, check_kind


def expectation(
    key: Array,
    distribution: dist.Distribution,
    f: Callable[[Array], Array],
    estimator: Estimator | None = None,
    *,
    num_samples: int = 1,
) -> Array:
    """Return E_{z ~ distribution}[f(z)], estimated; `jax.grad` of it is the estimator's gradient.

        value: 1/K Σ_k f(z_k);   gradient: with respect to whatever the distribution and f depend on

    Args:
        key: draws z.
        distribution: of z, any of numpyro's or ours.
        f: from ONE draw [*batch, *event] to a scalar, or to `[*batch]` where the elements of the batch are independent:
            the result is then their sum, and each element's score meets its own cost only.
        estimator: the best unbiased one by default.
        num_samples: K, at least as many as the estimator needs.

    Raises ValueError where the estimator does not serve the distribution, keeps state, or f has another shape.

    >>> import jax, numpyro.distributions as dist
    >>> from probgen.inference.estimators import Enumerate, LeaveOneOut
    >>> loss = lambda p, e, n: expectation(
    ...     jax.random.key(0), dist.Bernoulli(p), lambda b: (b - 0.45) ** 2, e, num_samples=n
    ... )
    >>> jax.grad(loss)(0.3, Enumerate(), 1).round(3)
    Array(0.1, dtype=float32, weak_type=True)
    >>> abs(float(jax.grad(loss)(0.3, LeaveOneOut(), 1000)) - 0.1) < 0.01
    True
    """
    check_instances(distribution=distribution)
    if estimator is not None:
        check_kind("estimator", estimator, Estimator, "LeaveOneOut()")
    if estimator is not None and (estimator.init_state() is not None or estimator.learns):
        raise ValueError(
            f"{estimator} keeps something from step to step: an expectation has no steps, use it in a guide"
        )
    check_sizes(num_samples=num_samples)
    key = split_key(key, ())
    plan = make_plan(_Integrand(distribution, f, estimator), key)
    found = estimate(plan, key, num_samples, lambda run, keys: jax.vmap(run)(keys))
    return found.values.terms["f", "z"] + found.score


class _Integrand:
    """One site and one term."""

    def __init__(self, distribution: dist.Distribution, f: Callable, estimator: Estimator | None):
        self.distribution, self.f, self.estimator = distribution, f, estimator

    def __call__(self, key: Array, decided: Mapping[str, Estimator], values: Mapping[str, Array]) -> tuple[Run, Static]:
        infer = {} if self.estimator is None else {"estimator": self.estimator}
        drawing, fn = Drawing(decided, values), differentiable(self.distribution)
        with drawing, numpyro.handlers.trace() as trace, numpyro.handlers.seed(rng_seed=split_key(key, ())):
            numpyro.sample("z", fn, infer=infer)
        site = trace["z"]
        cost = jnp.asarray(self.f(site["value"]))
        if cost.shape not in ((), fn.batch_shape):
            raise ValueError(f"f: expected a scalar or the batch shape {fn.batch_shape}, got {cost.shape}")
        # the elements of a batch are plates, where f keeps them apart
        rank = cost.ndim
        frames = tuple(CondIndepStackFrame(f"batch {axis}", axis, cost.shape[axis]) for axis in range(-rank, 0))
        drawn = drawing.sites["z"]._replace(frames=frames)
        log_q = to_plates(unmasked(fn).log_prob(site["value"]), frames, rank)
        extra = drawn.estimator.observe(fn, lax.stop_gradient(site["value"]))
        run = Run(
            {("f", "z"): cost},
            {"z": log_q},
            {"z": jnp.ones((1,) * rank)},
            {} if extra is None else {"z": to_plates(extra, frames, rank)},
            {},
            {},
        )
        return run, Static({"z": drawn}, {("f", "z"): frames}, {})
