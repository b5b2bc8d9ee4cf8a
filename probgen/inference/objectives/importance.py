"""The importance-weighted bound, with an estimator of its own at every site."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import logmeanexp, split_key
from probgen.inference.engine.plan import Plan, make_plan, mean_of_particles
from probgen.inference.engine.sites import Frames
from probgen.inference.engine.surrogate import Expectation, Key
from probgen.inference.estimators.use import state_site
from probgen.inference.objectives.elbo import ELBO, Pair


class ImportanceWeighted(ELBO):
    """The importance-weighted bound (IWAE), also for programs with discrete sites.

        L_K = E[log 1/K Σ_k w_k],   w_k = p(x, z_k) / q(z_k),   ELBO = L_1 ≤ L_K ≤ log p(x)

    The average is taken within each element of the plates that enclose all sites (a data plate), and summed over them.
    The score of a site meets the whole bound of its element; under `LeaveOneOut` the baseline is the bound with w_k
    replaced by the geometric mean of the others (VIMCO). Nothing is summed out in closed form or by enumeration.

    Args:
        num_particles: K, at least as many as the estimators need.
        vectorize_particles: True for `vmap`, False for `lax.map`, or a function `(f, keys) -> results`.

    Raises ValueError, naming the site, for estimators that are wrong under weights (`Enumerate`, `StickingTheLanding`,
    `OptimalCoefficient`), and where a plate with minibatches does not enclose all sites.

    References: Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov 2016), arXiv:1509.00519; Variational
    Inference for Monte Carlo Objectives (Mnih, Rezende 2016), arXiv:1602.06725.

    >>> objective = ImportanceWeighted(num_particles=5)
    """

    def __init__(self, num_particles: int = 2, vectorize_particles: bool | Callable = True):
        super().__init__(num_particles, vectorize_particles, analytic_kl=False)

    def plan(
        self, rng_key: Array, param_map: dict[str, Any], model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> Plan:
        """Return what would be done: the sites, their estimators and why, what flows where."""
        plate_key, key = split_key(rng_key, (2,))
        plan = make_plan(Pair(model, guide, args, kwargs, param_map, plate_key), key, enumerates=False)
        for name, choice in plan.choices.items():
            estimator = choice.estimator
            if name in plan.supports or not estimator.closed_form or estimator.couples:
                raise ValueError(
                    f"site {name!r}: {estimator} is wrong under importance weights, which couple the particles: "
                    f"{'LeaveOneOut' if estimator.scored or name in plan.supports else 'Pathwise'}() would serve"
                )
        return plan

    def loss_with_mutable_state(
        self, rng_key: Array, param_map: dict[str, Any], model: Callable, guide: Callable, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Return `{"loss": −L_K, "mutable_state": …}`."""
        plan = self.plan(rng_key, param_map, model, guide, *args, **kwargs)
        keys = split_key(split_key(rng_key, (2,))[1], (max(self.num_particles, plan.particles),))
        runs = self.vectorize_particles_fn(plan.run, keys)
        log_w, scale = self._log_weights(plan, runs.terms)
        bound = scale * logmeanexp(log_w)[None]
        others = None if len(log_w) == 1 else scale * _without_each(log_w)
        score, states = jnp.zeros(()), {}
        for name, choice in plan.choices.items():
            if choice.estimator.scored:
                cost = jnp.broadcast_to(bound, log_w.shape)
                signal = Expectation(runs, plan.graph, [], {}).signal(name, cost, others)
                term, state = choice.estimator.surrogate(signal)
                # each particle's score meets the bound itself, where a mean would give it a share
                score = score + len(log_w) * (term - lax.stop_gradient(term))
                if state is not None:
                    states[state_site(name)] = state
        mutables = jax.tree.map(lambda x: mean_of_particles(x, 1), runs.mutables)
        return {"loss": -(jnp.sum(bound) + score), "mutable_state": {**mutables, **states} or None}

    def _log_weights(self, plan: Plan, terms: dict[Key, Array]) -> tuple[Array, float]:
        """Return log w_k over the plates that enclose every site, and what the plates' minibatches are scaled by."""
        frames = {key: plan.graph.frames[key] for key in self.terms(plan)}
        each, scale = over_elements(terms, frames, plan.plate_scales)
        return jnp.stack(list(each.values())).sum(0), scale


def over_elements(
    terms: Mapping[Key, Array], frames: Mapping[Key, Frames], plate_scales: Mapping[str, float]
) -> tuple[dict[Key, Array], float]:
    """Return the terms that have frames, unscaled, over the plates that enclose every site, [K, *plates], and what
    those plates' minibatches are scaled by. Raises ValueError where another plate draws minibatches."""
    common = set.intersection(*map(set, frames.values()))
    for key, mine in frames.items():
        for frame in set(mine) - common:
            if plate_scales[frame.name] != 1:
                raise ValueError(
                    f"plate {frame.name!r} of site {key[1]!r} draws minibatches and does not enclose all sites: "
                    "the logarithm of a sum over particles is not a sum over its elements; use objectives.ELBO"
                )
    scale = math.prod(plate_scales[frame.name] for frame in common)
    rank = max(terms[key].ndim for key in frames) - 1
    outside = tuple(axis for axis in range(-rank, 0) if axis not in {frame.dim for frame in common})
    return {key: jnp.sum(terms[key], outside, keepdims=True) / scale for key in frames}, scale


def _without_each(log_w: Array) -> Array:
    """Return for each particle the bound with its weight replaced by the geometric mean of the others."""
    count = len(log_w)
    means = (jnp.sum(log_w, 0, keepdims=True) - log_w) / (count - 1)
    own = jnp.eye(count, dtype=bool).reshape(count, count, *[1] * (log_w.ndim - 1))
    return logmeanexp(jnp.where(own, means[:, None], log_w), 1)
