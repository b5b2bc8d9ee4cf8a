"""What every model with latent variables can do, given its prior, its likelihood and its approximate posterior."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions import constraints
from numpyro.distributions.batch_util import promote_batch_shape

from probgen.core import bind, check_sizes, logmeanexp, module, split_key
from probgen.distributions import Model, lifted, observe, verb
from probgen.distributions.coding import Message, bits_of, coded, over_lanes
from probgen.distributions.enumeration import levels
from probgen.distributions.in_blocks import map_particles
from probgen.distributions.supports import check_within, draws_outside
from probgen.distributions.wrapped import elementwise, family, log_density, unmasked
from probgen.latent.programs import as_rows, draw_latents, infer_latents, rows_plate

_DRAWS = 64  # for the mean of a distribution that does not know it


class ElboTerms(NamedTuple):
    """The terms of a lower bound of log p(x), in nats, [...].

    Attributes:
        log_likelihood: log p(x | z), the reconstruction.
        kl: KL(q(z | x) ‖ p(z)).
        kl_of_each: of each latent number, [..., *latent_shape], where q and p are products of such numbers whose KL is
            known in closed form; None elsewhere.
    """

    log_likelihood: Array
    kl: Array
    kl_of_each: Array | None


class Latent(Model):
    """The base of models p(x) = ∫ p(z) p(x | z) dz with an approximate posterior q(z | x), whatever these are made of.

        log w = log p(z) + log p(x | z) − log q(z | x),   z ~ q(z | x),   E[w] = p(x)

    A subclass sets its fields, calls `super().__init__(event_shape)`, and says `kind`, `latent_shape` (of one z),
    `latent_prior`, `likelihood(z)` and `posterior(x)`.

    Args:
        event_shape: the shape of one x.
    """

    pytree_aux_fields: tuple[str, ...] = ("context_shape", "trained_on")
    context_shape: tuple[int, ...] | None = None
    trained_on: tuple[float, int]  # β and the particles of the bound that `fit` takes of its own accord
    latent_shape: tuple[int, ...]
    likelihood: Any
    posterior: Any

    def __init__(self, event_shape: tuple[int, ...], *, validate_args: bool | None = None):
        self.trained_on = (1.0, 1)
        super().__init__(event_shape, validate_args=validate_args)

    @property
    def latent_prior(self) -> dist.Distribution:
        """The distribution p(z) of one z."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its prior is: write latent_prior")

    @property
    def prior_parts(self) -> Any:
        """What the prior is made of: where none of it takes a context, the prior is the same for all."""
        return self.latent_prior

    @property
    def nested(self) -> "Latent | None":
        """The prior, where that is a model with latent variables in its turn."""
        return None

    def _likelihood_of_zeros(self) -> dist.Distribution:
        """Return p(x | z) at z = 0; what is read of it depends on no context."""
        model = self if self.context_shape is None else bind(self, jnp.zeros(self.context_shape))
        return model.likelihood(jnp.zeros(self.latent_shape))

    @property
    def support(self) -> constraints.Constraint:
        """The likelihood's support."""
        return self._first()._likelihood_of_zeros().support

    def sample_event(self, key: Array) -> Array:
        """Draw z from the prior, then x from the likelihood."""
        latent_key, key = jax.random.split(key)
        return self.likelihood(self.latent_prior.sample(latent_key)).sample(key)

    def log_weight_event(self, key: Array, x: Array) -> Array:
        """Return log p(z) + log p(x | z) − log q(z | x) at one draw z from q(z | x)."""
        prior_key, likelihood_key = (jax.random.fold_in(key, i) for i in (1, 2))
        z, log_q = self._infer(key, x)
        return log_density(self.latent_prior, prior_key, z) + log_density(self.likelihood(z), likelihood_key, x) - log_q

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        keys = split_key(key, (num_particles,))
        return jnp.mean(map_particles(lambda k: self._log_weights(k, value), (keys,), value.size), 0)

    def _log_prob_estimate(self, key: Array, value: Array) -> Array:
        return self._log_weights(key, value)  # in the mean a bound, but for the tolerance

    def _training_loss(self, key: Array, value: Array, num_particles: int) -> Array:
        if num_particles == 1 or self.kind != "weights":
            return super()._training_loss(key, value, num_particles)
        return self._weighted_loss(key, value, num_particles=num_particles)

    @lifted("key", "event")
    def _weighted_loss(self, key: Array, x: Array, *, num_particles: int) -> Array:
        """Return −L_K, with the gradient of −log w of one particle, drawn with the chance of its weight.

        ∇L_K = Σ_k w_k ∇log w_k / Σ_k w_k is the mean of that, so that K − 1 particles need no backward pass.
        """
        pick_key, key = jax.random.split(key)
        keys, held = jax.random.split(key, num_particles), lax.stop_gradient(self)
        log_w = map_particles(lambda key: held.log_weight_event(key, x), (keys,), x.size)
        one = self.log_weight_event(keys[jax.random.categorical(pick_key, log_w)], x)
        return lax.stop_gradient(one - logmeanexp(log_w)) - one

    def _infer(self, key: Array, x: Array) -> tuple[Array, Array]:
        q = self._posterior_of(x)
        z, intermediates = q.sample_with_intermediates(key)
        log_q = q.log_prob(z, intermediates) if intermediates else q.log_prob(z)
        return z, log_q if q.has_rsample else without_gradient(log_q)

    def _posteriors(self, x: Array) -> dist.Distribution:
        """Return q(z | x) of rows [..., *event_shape]."""
        posteriors: dist.Distribution = self.posterior(x)
        return posteriors

    def _posterior_of(self, x: Array) -> dist.Distribution:
        q = self._posteriors(x)
        if q.batch_shape or q.event_shape != self.latent_shape:
            raise ValueError(
                f"posterior: expected batch shape () and event shape {self.latent_shape} for one x, "
                f"got {q.batch_shape} and {q.event_shape}"
            )
        p = self.prior_parts  # a prior made of the posterior has its support
        if not isinstance(p, dist.Distribution):
            return q
        if draws_outside(q, p):
            raise ValueError(
                f"posterior: expected draws within the prior's support {p.support}, got {type(family(q)).__name__} on "
                f"{q.support}, where the bound is −∞"
            )
        if not isinstance(family(q), dist.Delta) and draws_outside(p, q):
            raise ValueError(
                f"posterior: expected draws of the whole of the prior's support {p.support}, got "
                f"{type(family(q)).__name__} on {q.support}, whose weights never average to p(x)"
            )
        return q

    @lifted("key", "event", within=True)
    def kl(self, key: Array, x: Array) -> Array:
        """Return KL(q(z | x) ‖ p(z)) of rows [..., *event_shape], in nats, [...].

        It is in closed form where `numpyro.distributions.kl.kl_divergence` knows one; else log q(z | x) − log p(z) at
        one draw from q(z | x), whose mean it is; or with a bound of log p(z), and then no less in the mean.
        """
        return self._kl(key, x)

    def _kl(self, key: Array, x: Array) -> Array:
        try:
            return dist.kl_divergence(self._posterior_of(x), self.latent_prior)
        except NotImplementedError:
            z, log_q = self._infer(key, x)
            return log_q - log_density(self.latent_prior, jax.random.fold_in(key, 1), z)

    @verb
    def encode(self, x: Array) -> dist.Distribution:
        """Return the posterior q(z | x) of rows [..., *event_shape], of batch shape [...]; at N contexts, of rows
        [..., N, *event_shape]."""
        x = self._as_events(x)
        check_within("value", x, self._first())
        return _over_draws(self, lambda d, x: d._posteriors(x), x, len(self.event_shape))

    @verb
    def decode(self, z: Array) -> dist.Distribution:
        """Return the likelihood p(x | z) of rows [..., *latent_shape], of batch shape [...]; at N contexts, of rows
        [..., N, *latent_shape]."""
        z, shape = jnp.asarray(z), self.latent_shape
        if z.shape[z.ndim - len(shape) :] != shape:
            raise ValueError(f"z: expected [..., {', '.join(map(str, shape))}], got {z.shape}")
        check_within("z", z, self._first().latent_prior)
        return _over_draws(self, lambda d, z: d.likelihood(z), z, len(shape))

    @lifted("key", "event", within=True)
    def reconstruct(self, key: Array, x: Array) -> Array:
        """Return E[x' | z] at one draw z from q(z | x) for each row, [..., *event_shape].

        A mean that has no closed form, such as an autoregressive likelihood's, is that of 64 draws.
        `decode(encode(x).sample(key)).sample(key)` would be draws of x'.
        """
        return mean_of(self.likelihood(self._posterior_of(x).sample(key)), jax.random.fold_in(key, 1))

    @lifted("event", "event", within=True)
    def interpolate(self, x: Array, y: Array, *, steps: int = 8) -> Array:
        """Return E[x' | z] along the line from the mean of q(z | x) to that of q(z | y), [..., steps, *event_shape].

        A mean that has no closed form, of a flow's z or of an autoregressive likelihood's x', is that of 64 draws. Of
        bits the line goes through numbers between 0 and 1.

        Args:
            x: where the line begins, [..., *event_shape].
            y: where it ends, [..., *event_shape].
            steps: how many points it has, the ends among them; at least 2.

        Raises ValueError where z is made of integers other than bits: there is no line between them.
        """
        check_sizes(2, steps=steps)
        support = self.latent_prior.support
        if support.is_discrete and levels(support) != (0, 2):
            raise ValueError(
                f"interpolate: expected latent numbers that a line can go through, got {support}; decode codes of your "
                "own choice"
            )
        start, end = self._center(x), self._center(y)
        at = lambda t: mean_of(self.likelihood(start + t * (end - start)), jax.random.key(1))
        return jax.vmap(at)(jnp.linspace(0.0, 1.0, steps))

    def _center(self, x: Array) -> Array:
        return mean_of(self._posterior_of(x), jax.random.key(0))

    @lifted("key", "event", within=True)
    def elbo_terms(self, key: Array, x: Array) -> ElboTerms:
        """Return what the evidence lower bound of each row consists of, in nats, at one draw from q(z | x).

            log p(x) ≥ E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))

        The KL is that of `kl`: where it has no closed form, a draw that may be negative. Averaged over rows, the terms
        are distortion and rate (Alemi et al. 2018, arXiv:1711.00464); the dimensions with almost no KL are those that
        say nothing.
        """
        return self._elbo_terms(key, x)

    def _elbo_terms(self, key: Array, x: Array) -> ElboTerms:
        z, _ = self._infer(key, x)
        given_z = log_density(self.likelihood(z), jax.random.fold_in(key, 2), x)
        return ElboTerms(given_z, self._kl(key, x), _kl_of_each(self._posterior_of(x), self.latent_prior))

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write events [lanes, *event_shape]: read z by q(z | x), then write x by p(x | z) and z by p(z)."""
        posterior = _posterior_code(self, x)
        message.stir(bits_of(posterior, math.prod(self.latent_shape)))
        z = posterior.pop(message)
        likelihood_code(self, z).push(message, x)
        _prior_code(self, message.lanes).push(message, z)

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read events [lanes, *event_shape], and give back the bits that their z took."""
        z = _prior_code(self, message.lanes).pop(message)
        x = likelihood_code(self, z).pop(message)
        posterior = _posterior_code(self, x)
        posterior.push(message, z)
        message.stir(bits_of(posterior, math.prod(self.latent_shape)))
        return x

    @verb
    def program(self, x: Array | None, *, size: int | None = None, name: str | None = "model") -> Array:
        """Run the numpyro program z ~ p(z), x ~ p(x | z), and return x.

        Where the prior is such a model in its turn, its latents are sites of their own: z2 ~ p(z₂), z ~ p(z | z₂), and
        so on upwards. Its params are one site `name$params`, shared with `guide`:
        `probgen.from_params(result.params, name, model)`
        gives the learned model.

        Args:
            x: rows, [B, *event_shape]; None draws `size` rows.
            size: of how many rows these are; of all by default.
            name: of the param site; with None it registers nothing, and is the program of the model as it is.

        Raises ValueError where neither `x` nor `size` is given, or where they do not fit.

        >>> import jax, jax.numpy as jnp, optax, probgen
        >>> from numpyro.infer import SVI, Trace_ELBO
        >>> model = probgen.latent.vae((3,), 2, latent_dim=2, hidden=(8,), key=jax.random.key(0))
        >>> svi = SVI(model.program, model.guide, optax.adam(1e-3), Trace_ELBO())
        >>> result = svi.run(jax.random.key(1), 2, jnp.zeros((5, 3), int), progress_bar=False)
        >>> probgen.from_params(result.params, "model", model).log_prob_bound(
        ...     jax.random.key(2), jnp.zeros(3, int)
        ... ).shape
        ()
        """
        model = self if name is None else module(name, self)
        x = x if x is None else as_rows(self, x)
        with rows_plate(x, size):
            z = draw_latents(model)
            return observe("x", model._at_rows(lambda d, z: d.likelihood(z), z), x)

    @verb
    def guide(self, x: Array, *, size: int | None = None, name: str | None = "model") -> Array:
        """Run the numpyro guide z ~ q(z | x) of `program`, and of the nested layers above, and return z."""
        model = self if name is None else module(name, self)
        x = as_rows(self, x)
        with rows_plate(x, size):
            return infer_latents(model, x)


def _over_draws(d: Any, part: Callable[..., Any], rows: Array, rank: int) -> dist.Distribution:
    """Return `part(model, rows)`; where there are contexts, over all axes of the rows before theirs."""
    if d.batch_shape and rows.ndim > rank + len(d.batch_shape):
        return promote_batch_shape(jax.vmap(lambda rows: _over_draws(d, part, rows, rank))(rows))
    found: dist.Distribution = d._at_rows(part, rows)
    return found


@jax.jit
def _posterior_code(model: Any, x: Array) -> Any:
    if _is_stacked(model):
        return over_lanes(model, lambda d, x: coded(d._posteriors(x), ()), x)
    return coded(model.encode(x), x.shape[:1])


@jax.jit
def likelihood_code(model: Any, z: Array) -> Any:
    """Return what codes events [lanes, *event_shape] of p(x | z)."""
    if _is_stacked(model):
        return over_lanes(model, lambda d, z: coded(d.likelihood(z), ()), z)
    return coded(model.decode(z), z.shape[:1])


@partial(jax.jit, static_argnums=1)
def _prior_code(model: Any, lanes: int) -> Any:
    if _is_stacked(model):
        return over_lanes(model, lambda d, _: coded(d.latent_prior, ()), jnp.arange(lanes))
    varies = model._varies(model.prior_parts)
    return coded(model._at_rows(lambda d: d.latent_prior) if varies else model.latent_prior, (lanes,))


def _is_stacked(model: Any) -> bool:
    """Return whether these are models of the lanes, as the prior of one at contexts may be."""
    return isinstance(model, Latent) and bool(model._added_shape)


def mean_of(q: dist.Distribution, key: Array) -> Array:
    """Return a distribution's mean, or that of 64 draws where it has no closed form."""
    try:
        mean: Array = q.mean
    except NotImplementedError:
        return jnp.mean(q.sample(key, (_DRAWS,)), 0)
    return mean


def _kl_of_each(q: dist.Distribution, p: dist.Distribution) -> Array | None:
    """Return KL(q ‖ p) of each number, where both are products of such and it is known; else None."""
    q, p = elementwise(unmasked(q)), elementwise(unmasked(p))
    if q.event_shape or p.event_shape:
        return None
    try:
        return jnp.broadcast_to(dist.kl_divergence(q, p), q.batch_shape)
    except NotImplementedError:
        return None


@jax.custom_jvp
def without_gradient(log_q: Array) -> Array:
    """Return log q at draws that have no gradient path: differentiating it would leave out what the draws
    contribute."""
    return log_q


@without_gradient.defjvp
def _(primals: Any, tangents: Any) -> NoReturn:
    raise NotImplementedError(
        "the posterior's draws carry no gradient, so that that of this bound would be biased: train by the model's "
        "program and guide, as fit does, with an estimator of inference.estimators (a prior's posterior has to have a "
        "gradient)"
    )
