"""Data in numpyro programs: one call for exact densities and for bounds."""

import numpyro
from jax import Array

from probgen.core import check_sizes
from probgen.distributions.base import Distribution
from probgen.distributions.delegate import Guise
from probgen.distributions.wrapped import kind_of


class Bounded(Guise):
    """A model whose `log_prob` is its bound (or its estimate) at a fixed key: what `observe` puts at a `sample` site.

    The site then has a value and a density as any other, so that traces, `condition`, plates and `Predictive` work.

    Args:
        model: one without an exact density.
        key: the randomness of the bound.
        num_particles: K of the bound.
    """

    pytree_data_fields = ("key",)
    pytree_aux_fields = ("num_particles",)

    def __init__(self, model: Distribution, key: Array, num_particles: int = 1):
        check_sizes(num_particles=num_particles)
        self.model, self.key, self.num_particles = model, key, num_particles
        super().__init__(model.batch_shape, model.event_shape)

    kind = "exact"  # at the key that it holds
    fused = False
    has_rsample = False

    def _log_prob(self, value: Array) -> Array:
        if self.model.kind == "estimate":
            return self.model.log_prob_estimate(self.key, value)
        return self.model.log_prob_bound(self.key, value, self.num_particles)


def observe(name: str, model: Distribution, x: Array | None, *, num_particles: int = 1) -> Array:
    """Condition a numpyro program on x under a model, exact or bounded; with x=None, sample it.

    A bound makes the program's density a random lower bound: right under SVI, refused (ValueError) where the program
    runs without a seed, as MCMC runs it.

    Args:
        name: the site's.
        model: any distribution of ours.
        x: events, [*batch, *event], or None to sample.
        num_particles: K of the bound, where it is one.

    >>> import jax, jax.numpy as jnp, numpyro
    >>> import numpyro.distributions as dist
    >>> from probgen.distributions import Dequantized
    >>> model = Dequantized(dist.Uniform(jnp.zeros(2), 4.0).to_event(1), levels=4)
    >>> with numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
    ...     x = observe("x", model, jnp.array([1, 3]))
    >>> trace["x"]["is_observed"]
    True
    """
    check_sizes(num_particles=num_particles)
    if x is None or kind_of(model) == "exact":
        return numpyro.sample(name, model, obs=x)
    key = numpyro.prng_key()
    if key is None or not _is_seeded():
        raise ValueError(
            f"{name}: {type(model).__name__} has only a random bound, and this program runs without a seed: "
            "use SVI (MCMC needs an exact density)"
        )
    return numpyro.sample(name, Bounded(model, key, num_particles), obs=x)


def _is_seeded() -> bool:
    """Return whether the program runs under a seed. MCMC has none, and hands one fixed key to whoever asks; the set-up
    of an automatic guide does the same, but within the seed of SVI."""
    return any(isinstance(handler, numpyro.handlers.seed) for handler in numpyro.primitives._PYRO_STACK)
