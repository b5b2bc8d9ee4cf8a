"""Objectives that weigh the latent part of the bound: β, annealing, free bits. They wrap an ELBO, and one another."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import primitives
from numpyro.primitives import Messenger

from probgen.core import check_instances, check_sizes
from probgen.inference.engine.plan import Values
from probgen.inference.engine.surrogate import Key
from probgen.inference.objectives.elbo import ELBO
from probgen.inference.objectives.importance import ImportanceWeighted

_STEP = "step$objective"


class Weighted(ELBO):
    """The base of objectives that wrap one and multiply its weights by their own.

    The loss that is reported stays −ELBO, the true bound; the weights are in the gradient only.
    """

    def __init__(self, objective: ELBO):
        check_instances(objective=objective)
        if not isinstance(objective, ELBO):
            raise ValueError(f"objective: expected an objectives.ELBO to wrap, got {type(objective).__name__}")
        if isinstance(objective, ImportanceWeighted):
            raise ValueError("objective: expected an ELBO, whose terms can be weighed, got ImportanceWeighted")
        self.objective = objective
        super().__init__(objective.num_particles, objective.vectorize_particles, analytic_kl=objective.analytic_kl)

    def weigh(self, values: Values) -> Mapping[Key, Any]:
        """Return the weights of latent sites' terms."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a site weighs: write its weigh(values)")

    @property
    def scheduled(self) -> bool:  # type: ignore[override]
        """Whether it, or what it wraps, needs to know the step."""
        return self.objective.scheduled

    def coefficients(self, values: Values) -> Mapping[Key, Any]:
        """Return the wrapped objective's weights times this one's. Raises ValueError where there is nothing to
        weigh."""
        if not _latents(values):
            raise ValueError(f"{type(self).__name__}: the guide draws no latent site, whose KL could be weighed")
        inner, mine = self.objective.coefficients(values), self.weigh(values)
        return {key: inner.get(key, 1.0) * mine.get(key, 1.0) for key in inner.keys() | mine.keys()}


def _check_weight(name: str, weight: Any, expected: str) -> None:
    """Raise ValueError for what is no finite number of at least 0, as far as it is known (not traced)."""
    if isinstance(weight, jax.core.Tracer):
        return
    number = isinstance(weight, int | float | np.number | np.ndarray | Array) and not isinstance(weight, bool)
    if not number or np.ndim(weight) or not 0 <= weight < np.inf:
        raise ValueError(f"{name}: expected {expected}, got {weight!r}")


def _latents(values: Values) -> dict[str, list[Key]]:
    """Return the terms of each latent site."""
    terms = {name: [key for key in values.terms if key[1] == name] for name in values.units}
    return {name: keys for name, keys in terms.items() if keys}


class Beta(Weighted):
    """Train on E[log p(x | z)] − β KL(q(z) ‖ p(z)): a β-VAE, or an annealed bound.

    What is reported (the `losses` of SVI and `fit`, and their validation) is −ELBO, the plain bound, whatever β is.

    Args:
        objective: an `ELBO`, or what wraps one.
        beta: β ≥ 0, or a schedule, a function of the step (such as optax's). `fit` counts the steps; for `SVI` wrap the
            guide by `count_steps`. Warm-up is `optax.linear_schedule(0.0, 1.0, steps)`; again and again, `cyclic`.

    Raises ValueError for a number below 0, and for `ImportanceWeighted`, which has no KL to weigh.

    References: β-VAE (Higgins et al. 2017); annealing: Generating Sentences from a Continuous Space (Bowman et al.
    2016), arXiv:1511.06349.

    >>> import optax
    >>> objective = Beta(ELBO(num_particles=2), beta=optax.linear_schedule(0.0, 1.0, 1000))
    """

    def __init__(self, objective: ELBO, beta: float | Array | Callable[[Array], Any]):
        if not callable(beta):
            _check_weight("beta", beta, "a number of at least 0 or a schedule")
        self.beta = beta
        super().__init__(objective)

    @property
    def scheduled(self) -> bool:  # type: ignore[override]
        """Whether β follows the step."""
        return callable(self.beta) or self.objective.scheduled

    def weigh(self, values: Values) -> dict[Key, Any]:
        """Return β for every latent site."""
        beta = self.beta(self._step(values)) if callable(self.beta) else self.beta
        return {key: beta for keys in _latents(values).values() for key in keys}

    def _step(self, values: Values) -> Array:
        if _STEP not in values.mutables:
            raise ValueError("Beta: a schedule needs to know the step: wrap the guide, objectives.count_steps(guide)")
        return jnp.maximum(values.mutables[_STEP]["count"] - 1, 0)


def cyclic(steps_per_cycle: int, rising: float = 0.5) -> Callable[[Array], Array]:
    """Return a schedule for `Beta` that rises from 0 to 1 and stays there, and begins anew, for good.

        β(t) = min(1, τ / rising),   τ = (t mod T) / T

    Args:
        steps_per_cycle: T, at least 1.
        rising: the part of a cycle in which β rises, in (0, 1].

    Raises ValueError for others.

    References: Cyclical Annealing Schedule (Fu, Li, Liu, Gao, Celikyilmaz, Carin 2019), arXiv:1903.10145.

    >>> schedule = cyclic(8)
    >>> [float(schedule(step)) for step in (0, 2, 4, 7, 8, 9)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 0.25]
    """
    check_sizes(steps_per_cycle=steps_per_cycle)
    if isinstance(rising, bool) or not isinstance(rising, int | float) or not 0 < rising <= 1:
        raise ValueError(f"rising: expected a part in (0, 1], got {rising!r}")
    return lambda step: jnp.minimum(1.0, jnp.asarray(step) % steps_per_cycle / (rising * steps_per_cycle))


class FreeBits(Weighted):
    """Train on E[log p(x | z)] − Σ_sites max(λ, KL_site), with KL per element of the plates: no gradient from a KL
    below λ. At a site of several layers, λ is held against the KL of each.

    The mean over the batch and the particles is held against λ, as in the paper. What is reported (the `losses` of SVI
    and `fit`, and their validation) is −ELBO, the plain bound.

    Args:
        objective: an `ELBO`, or what wraps one.
        nats: λ ≥ 0, for every latent site, or by name.

    Raises ValueError for a number below 0, and for `ImportanceWeighted`, which has no KL to weigh.

    References: Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al. 2016), arXiv:1606.04934.

    >>> objective = FreeBits(ELBO(), nats=2.0)
    """

    def __init__(self, objective: ELBO, nats: float | Mapping[str, float]):
        if isinstance(nats, Mapping) and not nats:
            raise ValueError("nats: expected a number, or one for some latent sites, got none")
        named = {f"nats[{site!r}]": of for site, of in nats.items()} if isinstance(nats, Mapping) else {"nats": nats}
        for name, of in named.items():
            _check_weight(name, of, "a number of at least 0")
        self.nats = nats
        super().__init__(objective)

    def weigh(self, values: Values) -> dict[Key, Any]:
        """Return 1 for a site, or a layer of one, whose KL is above λ, else 0."""
        latents = _latents(values)
        nats = self.nats if isinstance(self.nats, Mapping) else dict.fromkeys(latents, self.nats)
        if missing := sorted(nats.keys() - latents.keys()):
            raise ValueError(f"nats: there is no latent site {missing[0]!r}; there are {sorted(latents)}")
        weights = {}
        for name, least in nats.items():
            for layer in {key[2:] for key in latents[name]}:
                keys = [key for key in latents[name] if key[2:] == layer]
                kl = -sum(values.terms[key] for key in keys) / values.units[name]
                weights.update(dict.fromkeys(keys, jnp.where(kl > least, 1.0, 0.0)))
        return weights


class count_steps(Messenger):
    """A guide that counts how often it has run, in numpyro's mutable state, for schedules; wrapped twice, it counts
    once.

    Args:
        fn: the guide.

    >>> guide = count_steps(lambda: None)
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide."""
        if not any(isinstance(handler, count_steps) for handler in primitives._PYRO_STACK):
            state = primitives.mutable(_STEP, {"count": jnp.full((), -1)})  # SVI.init runs it once, before step 0
            state["count"] = state["count"] + 1  # type: ignore[index]
        return super().__call__(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Return what else the guide has, such as an automatic guide's `sample_posterior`."""
        if name.startswith("__") or self.__dict__.get("fn") is None:
            raise AttributeError(name)
        return getattr(self.fn, name)
