"""Inference for programs that can only be run: amortized posteriors from simulations."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
from jax import Array
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import AffineTransform, ComposeTransform, ReshapeTransform, Transform

from probgen.core import Frozen, Recipe, check_sizes, recipe, split_key
from probgen.distributions import ConditionalModel, Transformed
from probgen.inference.training.fit import fit

Simulator = Callable[[Array, Array], Array]


class Posterior(eqx.Module):
    """The function x → q(θ | x) that `npe` returns: an ordinary distribution for each x, with the support of the prior.

        θ = constrain(mean + sd ⊙ y),   y ~ flow((x − mean_x) / sd_x)

    The density is exact for q, and q approximates the posterior.

    Args:
        flow: the trained conditional.
        to_theta: the map from its space to θ.
        statistics: the mean and the sd of x.
        recipe: how it was made, as a file says it; `npe` sets it.

    >>> import jax, jax.numpy as jnp, probgen
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_dim=3, key=jax.random.key(0))
    >>> q = Posterior(flow, dist.transforms.SigmoidTransform(), Frozen((jnp.zeros(3), jnp.ones(3))))(jnp.ones((5, 3)))
    >>> q.batch_shape, q.event_shape, q.support.base_constraint
    ((5,), (2,), Interval(lower_bound=0.0, upper_bound=1.0))
    """

    flow: ConditionalModel
    to_theta: Transform
    statistics: Frozen
    recipe: Recipe | None = eqx.field(static=True, default=None)

    def __call__(self, x: Array) -> Transformed:
        """Return the distribution of θ given data [*batch, *context]; raise ValueError where they have another
        shape."""
        return Transformed(self.flow(self.standardize(jnp.asarray(x))), self.to_theta)

    def standardize(self, x: Array) -> Array:
        """Return data as the flow sees them: of mean 0 and sd 1 over the simulations."""
        mean, sd = self.statistics.value
        if x.shape[x.ndim - mean.ndim :] != mean.shape:
            raise ValueError(f"x: expected [..., {', '.join(map(str, mean.shape))}], got {x.shape}")
        return (x - mean) / sd


def npe(
    simulator: Simulator,
    prior: dist.Distribution,
    flow: ConditionalModel,
    *,
    num_simulations: int,
    steps: int,
    batch_size: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    validation_fraction: float = 0.1,
    key: Array,
    progress: bool | str = True,
) -> Posterior:
    """Return one flow that is the posterior of every data set: amortized neural posterior estimation.

        max_φ E_{θ ~ prior, x ~ simulator(θ)} [log q_φ(θ | x)],   which is attained by q = p(θ | x)

    The flow lives in the unconstrained space of the prior; there θ, and x, are standardized by the simulations' means
    and sds. What it is worth is measured by `probgen.evaluation.sbc_ranks`.

    Args:
        simulator: `(key, theta [*event]) -> x [*context]`, as for `simulate`: of JAX or of NumPy.
        prior: a numpyro distribution of a number or a vector, of batch shape () (`.to_event(1)` makes it so).
        flow: a conditional over vectors of as many numbers as the prior has in unconstrained space (a simplex has one
            less), whose context is x: `probgen.flows.real_nvp(D, context_dim=…, key=…)`.
        num_simulations: how many are drawn, all before training.
        steps: of `fit`.
        batch_size: of `fit`; by default 256, or all simulations where they are fewer.
        optimizer: an optax transformation; by default Adam whose rate falls from 1e-3 to 0 as a cosine.
        validation_fraction: of the simulations, held out; the params that were best on them are returned.
        key: a `jax.random.key`.
        progress: as for `fit`.

    Its file is loaded by its path alone where a recipe made the flow, and the prior's support is one that a recipe can
    keep.

    Raises ValueError, before training, where prior, flow and simulator do not fit together, where the prior cannot be
    drawn from, or simulations are not finite (and how many). A UserWarning says where the batch is larger than
    there are simulations.

    References: Fast ε-free Inference of Simulation Models with Bayesian Conditional Density Estimation (Papamakarios,
    Murray 2016), arXiv:1605.06376; Automatic Posterior Transformation for Likelihood-free Inference (Greenberg,
    Nonnenmacher, Macke 2019), arXiv:1905.07488.

    >>> import jax, probgen
    >>> prior = dist.Uniform(0.0, 1.0).expand([2]).to_event(1)
    >>> simulator = lambda key, theta: theta + 0.1 * jax.random.normal(key, (2,))
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), context_dim=2, key=jax.random.key(0))
    >>> posterior = npe(simulator, prior, flow, num_simulations=300, steps=3, key=jax.random.key(1), progress=False)
    >>> posterior(jax.numpy.array([0.5, 0.2])).sample(jax.random.key(2), (10,)).shape
    (10, 2)
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction: expected a number in [0, 1), got {validation_fraction}")
    simulation_key, fit_key = split_key(key, (2,))
    constrain = _constrain(prior)
    _check_fit(simulator, prior, flow, constrain)
    held_out = round(validation_fraction * num_simulations)
    batch_size = _batch_size(batch_size, num_simulations - held_out)
    theta, x = simulate(simulator, prior, num_simulations, key=simulation_key)
    y = _within(constrain.inv(theta))
    standard = _standard(y)
    posterior = dataclasses.replace(  # a recipe with the numbers of these simulations
        amortized(flow, prior.support),
        to_theta=ComposeTransform([standard, constrain]),
        statistics=Frozen(_moments(x)),
    )
    rows = (standard.inv(y), posterior.standardize(x))
    result = fit(
        flow,
        tuple(row[held_out:] for row in rows),
        optimizer=optax.adam(optax.cosine_decay_schedule(1e-3, steps)) if optimizer is None else optimizer,
        steps=steps,
        batch_size=batch_size,
        validation=tuple(row[:held_out] for row in rows) if held_out else None,
        key=fit_key,
        progress=progress,
    )
    return dataclasses.replace(posterior, flow=result.model)


@recipe
def amortized(flow: ConditionalModel, support: constraints.Constraint) -> Posterior:
    """The posterior that `npe` trains, before it has seen simulations: of mean 0 and sd 1 in all numbers.

    Args:
        flow: as for `npe`.
        support: the prior's.
    """
    moments = lambda shape: (jnp.zeros(shape), jnp.ones(shape))
    standard = AffineTransform(*moments(flow.model.event_shape))
    return Posterior(flow, ComposeTransform([standard, _onto(support)]), Frozen(moments(flow.context_shape)))


def _batch_size(batch_size: int | None, rows: int) -> int:
    if batch_size is not None and batch_size > rows:
        warnings.warn(
            f"batch_size: {batch_size} is more than the {rows} simulations that are trained on: all go into each step",
            UserWarning,
            stacklevel=3,
        )
    return min(256 if batch_size is None else batch_size, rows)


def simulate(
    simulator: Simulator, prior: dist.Distribution, num_simulations: int, *, key: Array
) -> tuple[Array, Array]:
    """Draw (θ, x), θ ~ prior and x = simulator(key, θ): [N, *event] and [N, *context].

    Args:
        simulator: `(key, theta [*event]) -> x [*context]`, mapped over simulations by `vmap` where JAX can trace it.
            One that it cannot trace, or that draws by itself, so that two calls with one key differ, is called with
            NumPy arrays, simulation after simulation; `np.random.default_rng(np.asarray(jax.random.key_data(key)))`
            makes its draws those of the key.
        prior: a numpyro distribution, of batch shape ().
        num_simulations: N.
        key: the randomness.

    Raises ValueError where some are not finite, and says how many, or where their shapes differ.

    >>> import jax
    >>> theta, x = simulate(lambda key, theta: theta + jax.random.normal(key), dist.Normal(), 5, key=jax.random.key(0))
    >>> theta.shape, x.shape
    ((5,), (5,))
    """
    check_sizes(num_simulations=num_simulations)
    prior_key, simulator_key = split_key(key, (2,))
    theta = prior.sample(prior_key, (num_simulations,))
    _check_finite("prior", theta, theta)
    x = jnp.asarray(_run(simulator, split_key(simulator_key, (num_simulations,)), theta))
    x = x.astype(jnp.result_type(x, float))
    _check_finite("simulator", x, theta)
    return theta, x


def _run(simulator: Simulator, keys: Array, theta: Array) -> Any:
    mapped = jax.vmap(lambda key, theta: jnp.asarray(simulator(key, theta)))
    if _can_trace(simulator, mapped, keys, theta):
        return jax.jit(mapped)(keys, theta)
    x = [_on_numbers(simulator, key, row) for key, row in zip(keys, np.asarray(theta), strict=True)]
    if len(shapes := sorted({row.shape for row in x})) > 1:
        raise ValueError(f"simulator: expected arrays of one shape, got {shapes[0]} and {shapes[1]}")
    return np.stack(x)


def _on_numbers(simulator: Callable, key: Array, theta: Any) -> np.ndarray:
    return np.asarray(simulator(key, np.asarray(theta)))


def _can_trace(simulator: Simulator, mapped: Callable, keys: Array, theta: Array) -> bool:
    """Return whether a simulator may be compiled: randomness of its own would be one draw for all simulations there."""
    try:
        jax.eval_shape(mapped, keys, theta)
    except Exception:  # whatever it is: on numbers it runs, or says itself what is wrong
        return False
    first, second = (np.asarray(simulator(keys[0], theta[0])) for _ in range(2))
    return np.array_equal(first, second, equal_nan=True)


def _check_finite(name: str, draws: Array, theta: Array) -> None:
    bad = ~np.isfinite(np.asarray(draws)).reshape(len(draws), -1).all(1)
    if bad.any():
        raise ValueError(
            f"{name}: {bad.sum()} of {len(draws)} draws are not finite, the first at theta = {theta[bad.argmax()]}"
        )


def _constrain(prior: dist.Distribution) -> Transform:
    """Return the map from a vector of unconstrained numbers to θ. Raises ValueError where the prior is not of the kind
    that is needed."""
    if not isinstance(prior, dist.Distribution):
        raise ValueError(f"prior: expected a numpyro distribution, got {type(prior).__name__}")
    name = type(prior).__name__
    if prior.batch_shape or len(prior.event_shape) > 1:
        raise ValueError(
            f"prior: expected the distribution of a number or a vector, got batch shape {prior.batch_shape} and event "
            f"shape {prior.event_shape}" + ("; .to_event(1) makes a batch an event" if prior.batch_shape else "")
        )
    try:
        support: Any = prior.support
        discrete = support is None or support.is_discrete
        if not discrete:
            biject_to(support)
        jax.eval_shape(prior.sample, jax.random.key(0))
    except NotImplementedError:
        raise ValueError(f"prior: {name} has no density over a known support, or cannot be drawn from") from None
    if discrete:
        raise ValueError(f"prior: expected a distribution with a density, got {name}, whose support is discrete")
    return _onto(support)


def _onto(support: constraints.Constraint) -> Transform:
    """Return the map from a vector of unconstrained numbers onto a support of numbers or of vectors."""
    constrain = biject_to(support)
    return constrain if support.event_dim else ComposeTransform([ReshapeTransform((), (1,)), constrain])


def _check_fit(simulator: Simulator, prior: dist.Distribution, flow: ConditionalModel, constrain: Transform) -> None:
    if not isinstance(flow, ConditionalModel):
        raise ValueError(
            f"flow: expected a ConditionalModel, such as real_nvp(…, context_dim=…), got {type(flow).__name__}"
        )
    wanted = constrain.inverse_shape(prior.event_shape)
    if flow.model.event_shape != wanted:
        raise ValueError(
            f"flow: expected events of shape {wanted}, the prior's unconstrained numbers, got {flow.model.event_shape}"
        )
    made = _shape_of_data(simulator, prior)
    if made != flow.context_shape:
        raise ValueError(
            f"flow: expected contexts of shape {made}, which the simulator returns, got {flow.context_shape}"
        )


def _shape_of_data(simulator: Simulator, prior: dist.Distribution) -> tuple[int, ...]:
    key = jax.random.key(0)
    theta = jax.ShapeDtypeStruct(prior.event_shape, jnp.result_type(float))
    try:
        return jax.eval_shape(lambda key, theta: jnp.asarray(simulator(key, theta)), key, theta).shape
    except Exception:  # as in `_can_trace`
        return _on_numbers(simulator, key, prior.sample(key)).shape


def _within(y: Array) -> Array:
    """Return the draws, where one that rounded to an end of the support, at infinity here, is put beside the outermost
    of the others."""
    finite = jnp.isfinite(y)
    low, high = jnp.min(y, 0, where=finite, initial=jnp.inf), jnp.max(y, 0, where=finite, initial=-jnp.inf)
    return jnp.clip(y, low, high)


def _standard(y: Array) -> AffineTransform:
    mean, sd = y.mean(0), y.std(0)
    if not (sd > 0).all():
        raise ValueError(f"prior: number {int(jnp.argmin(sd > 0))} (unconstrained) is the same in all {len(y)} draws")
    return AffineTransform(mean, sd)


def _moments(x: Array) -> tuple[Array, Array]:
    sd = x.std(0)
    return x.mean(0), jnp.where(sd > 0, sd, 1.0)  # what never varies says nothing, and does no harm
