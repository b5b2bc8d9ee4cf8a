"""The twisted diffusion sampler: particles that follow guidance, weighed so that their posterior is right."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import check_functions, check_sizes, in_words, logmeanexp
from probgen.distributions import Distribution
from probgen.score.score_model import ScoreModel
from probgen.score.stochastic_samplers import Ancestral


class WeightedParticles(NamedTuple):
    """What `twisted` draws.

    Attributes:
        values: events, [num_particles, *event_shape].
        log_weights: logs of their weights, which sum to 1, [num_particles]; −∞ all of them where no particle has a
            likelihood above 0.
        log_evidence: the log of an unbiased estimate of ∫ p(x) likelihood(x) dx, in nats; NaN where a log-likelihood
            was NaN.
    """

    values: Array
    log_weights: Array
    log_evidence: Array


def twisted(
    key: Array,
    model: Distribution,
    log_likelihood: Callable[[Array], Array],
    *,
    num_particles: int = 256,
    threshold: float = 0.5,
    twist: Callable[[Array, Array], Array] | None = None,
) -> WeightedParticles:
    """Draw weighted particles from the posterior of a score model and a likelihood, by sequential Monte Carlo.

        z_s ~ Normal(μ + v ∇ log g_t(z_t), v),   w_s = w_t p(z_s | z_t) g_s(z_s) / (Normal(z_s; …) g_t(z_t))

    along the model's ancestral steps p(z_s | z_t) = Normal(μ, v), with twists g_t(z) = likelihood(x̂(z, t)) that foresee
    the likelihood; at the end x ~ p(x | z_0) and w = w_0 likelihood(x) / g_0(z_0). The weights are proper: whatever the
    denoiser and the twists, the posterior becomes that of the model's own draws as the particles grow, and the evidence
    is unbiased. Particles are resampled, systematically, where their effective number falls. Where log g is −∞, because
    the likelihood is 0 at x̂, a particle goes unguided and keeps the twist that it had: x may have a likelihood.

    Args:
        key: a `jax.random.key`.
        model: a `ScoreModel` whose sampler is `Ancestral`, or a conditional one at its contexts, of which each gets
            particles of its own.
        log_likelihood: log p(y | x) of one event, in nats, of which JAX has the derivative; of data that are no reals
            it takes where the decoder places them. −∞ where x is impossible.
        num_particles: how many.
        threshold: the share of the particles below which their effective number makes them be resampled, in [0, 1].
        twist: log g of (x̂, λ); by default the log-likelihood of x̂. A sharp likelihood needs one that is wider where
            there is noise, such as `Measurement.twist`.

    Raises ValueError where the model is no score model or has another sampler, `threshold` is out of its range, or the
    log-likelihood is no single number.

    References: Practical and Asymptotically Exact Conditional Sampling in Diffusion Models (Wu, Trippe, Naesseth, Blei,
    Cunningham 2023), arXiv:2306.17775; Sequential Monte Carlo Samplers (Del Moral, Doucet, Jasra 2006), JRSS B 68.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR
    >>> prior = ScoreModel(GaussianDenoiser(jnp.zeros(1), jnp.array(1.0)), LinearLogSNR(), (1,))
    >>> found = twisted(jax.random.key(0), prior, lambda x: -0.5 * jnp.sum((1.0 - x) ** 2), num_particles=64)
    >>> mean = jnp.exp(found.log_weights) @ found.values  # 0.5 in truth
    >>> bool(abs(mean[0] - 0.5) < 0.2)
    True
    """
    check_sizes(num_particles=num_particles)
    check_functions("log p(y | x)", log_likelihood=log_likelihood)
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold: expected a number in [0, 1], got {threshold}")
    if not isinstance(model, Distribution):
        raise ValueError(f"model: expected a ScoreModel, got {in_words(model)}")
    foresee = (lambda x, _: log_likelihood(x)) if twist is None else twist
    one = lambda model, key: _Run(model, log_likelihood, foresee, num_particles, threshold).run(key)
    found: WeightedParticles = model._each(one, key, ranks=("key",))
    return found


class _Seen(NamedTuple):
    """A particle at one time, with what its next step needs: x̂, ∇ log g, log g along its path, and the last log g that
    was not −∞."""

    z: Array
    x: Array
    slope: Array
    log_twist: Array
    last: Array


class _Run(NamedTuple):
    """One run, of a model at one context."""

    model: Any
    log_likelihood: Callable[[Array], Array]
    twist: Callable[[Array, Array], Array]
    num_particles: int
    threshold: float

    def run(self, key: Array) -> WeightedParticles:
        """Take all steps."""
        model = self.model
        if not isinstance(model, ScoreModel):
            raise ValueError(f"model: expected a ScoreModel, got {in_words(model)}")
        if type(model.sampler) is not Ancestral:
            raise ValueError(f"model: expected Ancestral for its sampler, got {in_words(model.sampler)}")
        noise_key, steps_key, data_key = jax.random.split(key, 3)
        noise = model.sde.prior(model.event_shape).sample(noise_key, (self.num_particles,))
        times = model.sampler.grid(model.sde, model.sampler.steps).astype(noise.dtype)
        first = jax.vmap(self._look, (0, None))(noise, times[0])
        start = first, first.log_twist, jnp.zeros((), noise.dtype)
        keys = jax.random.split(steps_key, model.sampler.steps)
        (last, log_w, log_z), _ = lax.scan(self._step, start, (keys, times[:-1], times[1:]))
        values, moved = jax.vmap(self._data)(jax.random.split(data_key, self.num_particles), last)
        log_w = log_w + moved
        total = jax.nn.logsumexp(log_w)
        share = log_w - jnp.where(total == -jnp.inf, 0.0, total)
        return WeightedParticles(values, share, log_z + total - math.log(self.num_particles))

    def _look(self, z: Array, t: Array) -> _Seen:
        """Return what there is to see at z."""
        sde = self.model.sde

        def ahead(z: Array) -> tuple[Array, Array]:
            x = self.model.denoiser.under(sde)(z, t)
            log_twist = jnp.asarray(self.twist(x, sde.log_snr(t)))
            if log_twist.shape:
                raise ValueError(f"log_likelihood, twist: expected one number, got shape {log_twist.shape}")
            return log_twist, x

        (log_twist, x), slope = jax.value_and_grad(ahead, has_aux=True)(z)
        out = log_twist == -jnp.inf
        return _Seen(z, x, jnp.where(out, 0.0, slope), jnp.where(out, 0.0, log_twist), log_twist)

    def _step(self, carry: tuple[_Seen, Array, Array], now: tuple[Array, Array, Array]) -> tuple[Any, None]:
        """Resample where few particles carry the weight; then step from t to s, and weigh the step."""
        (seen, log_w, log_z), (key, t, s) = carry, now
        resample_key, key = jax.random.split(key)
        share = jax.nn.softmax(log_w)
        few = 1.0 / jnp.sum(share**2) < self.threshold * self.num_particles
        chosen = jnp.where(few, systematic(resample_key, share), jnp.arange(self.num_particles))
        seen = jax.tree.map(lambda leaf: leaf[chosen], seen)
        log_z = log_z + jnp.where(few, logmeanexp(log_w), 0.0)
        log_w = jnp.where(few, 0.0, log_w)
        seen, moved = jax.vmap(self._move, (0, 0, None, None))(jax.random.split(key, len(log_w)), seen, t, s)
        return (seen, log_w + moved, log_z), None

    def _move(self, key: Array, seen: _Seen, t: Array, s: Array) -> tuple[_Seen, Array]:
        """Return a particle at s, and the log of what its weight is multiplied by."""
        mean, deviation = self.model.sampler.transition(seen.x, self.model.sde, seen.z, t, s)
        eps = jax.random.normal(key, mean.shape, mean.dtype)
        from_prior = deviation * seen.slope + eps  # the same step in units of the untwisted one
        moved = self._look(mean + deviation * from_prior, s)
        log_ratio = 0.5 * (jnp.sum(eps**2) - jnp.sum(from_prior**2))
        out = moved.last == -jnp.inf
        # log g rises from where it was seen last, so that a particle pays nothing for being seen for the first time
        rise = jnp.where(out | (seen.last == -jnp.inf), 0.0, moved.last - seen.last)
        last = jnp.where(out, seen.last, moved.last)
        return moved._replace(log_twist=seen.log_twist + rise, last=last), log_ratio + rise

    def _data(self, key: Array, seen: _Seen) -> tuple[Array, Array]:
        """Return an event of a particle at t = 0, and the log of what its weight is multiplied by."""
        model = self.model
        z, log_snr = seen.z / model.sde.scale(0.0), model.sde.log_snr(0.0)
        value = model.decoder(z, seen.x, log_snr).sample(key)
        return value, self.log_likelihood(model.decoder.place(value)) - seen.log_twist


def systematic(key: Array, share: Array) -> Array:
    """Return the numbers of the particles that take the place of all, [n]: each k about n · share[k] times, and so
    often on average.

    Args:
        key: the randomness.
        share: the weights, which sum to 1, [n].

    >>> import jax, jax.numpy as jnp
    >>> systematic(jax.random.key(0), jnp.array([0.0, 0.25, 0.5, 0.25])).tolist()
    [1, 2, 2, 3]
    """
    count = len(share)
    places = (jnp.arange(count) + jax.random.uniform(key, dtype=share.dtype)) / count
    return jnp.minimum(jnp.searchsorted(jnp.cumsum(share), places), count - 1)
