"""The latent-variable model: a prior, a likelihood and an amortized posterior, trained and evaluated by bounds."""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Self

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import DensityKind, bind, check_instances, check_sizes, module, split_key, weakest
from probgen.distributions import Bounded, Model, lifted, observe, verb
from probgen.distributions.in_blocks import map_particles
from probgen.distributions.wrapped import elementwise, kind_of, log_density, unmasked

_Conditional = Callable[[Array], dist.Distribution]


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


class LatentVariableModel(Model):
    """p(x) = ∫ p(z) p(x | z) dz, with an approximate posterior q(z | x) from which its bounds are drawn.

        log w = log p(z) + log p(x | z) − log q(z | x),   z ~ q(z | x),   E[w] = p(x)

    The parts may be anything: a flow or a mixture as the prior, an autoregressive likelihood, a flow posterior.

    Args:
        prior: the distribution of one z, of batch shape (), ours or numpyro's. One that has weights or a bound only
            will do, such as another latent-variable model, if draws of its posterior carry gradients.
        likelihood: z [..., *latent_shape] → distribution of x (a `Conditional`, a `ConditionalModel`, any callable
            pytree).
        posterior: x [..., *event_shape] → distribution of z. Its draws are never inverted. Where they carry no
            gradient, as those of bits, the model learns by its `program` and `guide`, as `fit` does it; the gradient of
            a bound of it raises NotImplementedError.
        context_shape: the shape of one context where parts are `Contextual`; wrap the model in a `ConditionalModel`
            then.

    Raises ValueError where the parts' shapes do not fit.

    References: Auto-Encoding Variational Bayes (Kingma, Welling 2014), arXiv:1312.6114; Stochastic Backpropagation and
    Approximate Inference in Deep Generative Models (Rezende, Mohamed, Wierstra 2014), arXiv:1401.4082.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> normal = lambda scale: lambda loc: dist.Normal(loc / 2, scale).to_event(1)
    >>> prior = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    >>> model = LatentVariableModel(prior, lambda z: dist.Normal(z, 1.0).to_event(1), normal(0.5**0.5))
    >>> bound = model.log_prob_bound(jax.random.key(0), jnp.ones(2))  # q is the exact posterior: the bound is tight
    >>> bool(jnp.allclose(bound, dist.Normal(0, 2**0.5).log_prob(jnp.ones(2)).sum()))
    True
    """

    pytree_data_fields = ("likelihood", "posterior", "prior")
    pytree_aux_fields: tuple[str, ...] = ("context_shape", "likelihood_kind")

    def __init__(
        self,
        prior: dist.Distribution,
        likelihood: _Conditional,
        posterior: _Conditional,
        *,
        context_shape: tuple[int, ...] | None = None,
        validate_args: bool | None = None,
    ):
        check_instances(prior=prior, likelihood=likelihood, posterior=posterior)
        if prior.batch_shape:
            raise ValueError(f"prior: expected batch shape (), got {prior.batch_shape}; use .to_event()")
        self.prior, self.likelihood, self.posterior = prior, likelihood, posterior
        self.context_shape = context_shape
        given_z = self._likelihood_of_zeros(likelihood)
        if given_z.batch_shape:
            raise ValueError(
                f"likelihood: expected batch shape () for one z, got {given_z.batch_shape}; use .to_event()"
            )
        self.likelihood_kind: DensityKind = kind_of(given_z)
        super().__init__(given_z.event_shape, validate_args=validate_args)

    def _likelihood_of_zeros(self, likelihood: Any) -> dist.Distribution:
        if self.context_shape is not None:  # what is read of it depends on no context
            likelihood = bind(likelihood, jnp.zeros(self.context_shape))
        return likelihood(jnp.zeros(self.prior.event_shape))

    @property
    def kind(self) -> DensityKind:  # type: ignore[override]
        """The kind "weights"; a bound where prior or likelihood have no more; an estimate where one of them is one."""
        return weakest("weights", kind_of(self.prior), self.likelihood_kind)

    @property
    def tolerance(self) -> float:  # type: ignore[override]
        """How far the estimates of prior and likelihood can move a bound of the model, in nats."""
        parts = (self.prior, self._likelihood_of_zeros(self._first().likelihood))
        return sum(getattr(part, "tolerance", 0.0) for part in parts)

    def replace(self, **fields: Any) -> Self:
        """Return the same model with other values of some fields."""
        new = super().replace(**fields)
        if "likelihood" in fields:  # known only by running it, which `kind` is asked for too often to do
            new.likelihood_kind = kind_of(new._likelihood_of_zeros(new._first().likelihood))
        return new

    @property
    def support(self) -> constraints.Constraint:
        """The likelihood's support."""
        return self._likelihood_of_zeros(self._first().likelihood).support

    def sample_event(self, key: Array) -> Array:
        """Draw z from the prior, then x from the likelihood."""
        latent_key, key = jax.random.split(key)
        return self.likelihood(self.prior.sample(latent_key)).sample(key)

    def log_weight_event(self, key: Array, x: Array) -> Array:
        """Return log p(z) + log p(x | z) − log q(z | x) at one draw z from q(z | x)."""
        prior_key, likelihood_key = (jax.random.fold_in(key, i) for i in (1, 2))
        z, log_q = self._infer(key, x)
        return log_density(self.prior, prior_key, z) + log_density(self.likelihood(z), likelihood_key, x) - log_q

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        keys = split_key(key, (num_particles,))
        return jnp.mean(map_particles(lambda k: self._log_weights(k, value), (keys,), value.size), 0)

    def _log_prob_estimate(self, key: Array, value: Array) -> Array:
        return self._log_weights(key, value)  # in the mean a bound, but for the tolerance

    def _infer(self, key: Array, x: Array) -> tuple[Array, Array]:
        q = self._posterior_of(x)
        z, intermediates = q.sample_with_intermediates(key)
        log_q = q.log_prob(z, intermediates) if intermediates else q.log_prob(z)
        return z, log_q if q.has_rsample else _without_gradient(log_q)

    def _posteriors(self, x: Array) -> dist.Distribution:
        """Return q(z | x) of rows [..., *event_shape]."""
        return self.posterior(x)

    def _posterior_of(self, x: Array) -> dist.Distribution:
        q = self._posteriors(x)
        if q.batch_shape or q.event_shape != self.prior.event_shape:
            raise ValueError(
                f"posterior: expected batch shape () and event shape {self.prior.event_shape} for one x, "
                f"got {q.batch_shape} and {q.event_shape}"
            )
        return q

    @lifted("key", "event")
    def kl(self, key: Array, x: Array) -> Array:
        """Return KL(q(z | x) ‖ p(z)) of rows [..., *event_shape], in nats, [...].

        It is in closed form where `numpyro.distributions.kl.kl_divergence` knows one; else log q(z | x) − log p(z) at
        one draw from q(z | x), whose mean it is; or with a bound of log p(z), and then no less in the mean.
        """
        return self._kl(key, x)

    def _kl(self, key: Array, x: Array) -> Array:
        try:
            return dist.kl_divergence(self._posterior_of(x), self.prior)
        except NotImplementedError:
            z, log_q = self._infer(key, x)
            return log_q - log_density(self.prior, jax.random.fold_in(key, 1), z)

    @verb
    def encode(self, x: Array) -> dist.Distribution:
        """Return the posterior q(z | x) of rows [..., *event_shape], of batch shape [...]; at contexts, of a row for
        each."""
        posterior: dist.Distribution = self._at_rows(lambda d, x: d._posteriors(x), self._as_events(x))
        return posterior

    @verb
    def decode(self, z: Array) -> dist.Distribution:
        """Return the likelihood p(x | z) of rows [..., *latent_shape], of batch shape [...]; at contexts, of a row for
        each."""
        z, shape = jnp.asarray(z), self.prior.event_shape
        if z.shape[z.ndim - len(shape) :] != shape:
            raise ValueError(f"z: expected [..., {', '.join(map(str, shape))}], got {z.shape}")
        likelihood: dist.Distribution = self._at_rows(lambda d, z: d.likelihood(z), z)
        return likelihood

    @lifted("key", "event")
    def reconstruct(self, key: Array, x: Array) -> Array:
        """Return E[x' | z] at one draw z from q(z | x) for each row, [..., *event_shape].

        `decode(encode(x).sample(key)).sample(key)` would be draws of x'.
        """
        return self.likelihood(self._posterior_of(x).sample(key)).mean

    @lifted("event", "event")
    def interpolate(self, x: Array, y: Array, *, steps: int = 8) -> Array:
        """Return E[x' | z] along the line from the mean of q(z | x) to that of q(z | y), [..., steps, *event_shape].

        Args:
            x: where the line begins, [..., *event_shape].
            y: where it ends, [..., *event_shape].
            steps: how many points it has, the ends among them; at least 2.
        """
        check_sizes(2, steps=steps)
        start, end = self._posterior_of(x).mean, self._posterior_of(y).mean
        return jax.vmap(lambda t: self.likelihood(start + t * (end - start)).mean)(jnp.linspace(0.0, 1.0, steps))

    @lifted("key", "event")
    def elbo_terms(self, key: Array, x: Array) -> ElboTerms:
        """Return what the evidence lower bound of each row consists of, in nats, at one draw from q(z | x).

            log p(x) ≥ E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))

        The KL is that of `kl`: where it has no closed form, a draw that may be negative. Averaged over rows, the terms
        are distortion and rate (Alemi et al. 2018, arXiv:1711.00464); the dimensions with almost no KL are those that
        say nothing.
        """
        z, _ = self._infer(key, x)
        given_z = log_density(self.likelihood(z), jax.random.fold_in(key, 2), x)
        return ElboTerms(given_z, self._kl(key, x), _kl_of_each(self._posterior_of(x), self.prior))

    @verb
    def program(self, x: Array | None, *, size: int | None = None, name: str | None = "model") -> Array:
        """Run the numpyro program z ~ p(z), x ~ p(x | z), and return x.

        Its params are one site `name$params`, shared with `guide`: `probgen.from_params(result.params, name, model)`
        gives the learned model.

        Args:
            x: rows, [B, *event_shape]; None draws `size` rows.
            size: of how many rows these are; of all by default.
            name: of the param site; with None it registers nothing, and is the program of the model as it is.

        Raises ValueError where neither `x` nor `size` is given.

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
        with _rows_plate(x, size):
            prior = model._at_rows(lambda d: d.prior) if model._varies(model.prior) else model.prior
            prior = prior if kind_of(prior) == "exact" else Bounded(prior, numpyro.prng_key())
            z = numpyro.sample("z", prior)
            return observe("x", model._at_rows(lambda d, z: d.likelihood(z), z), x)

    @verb
    def guide(self, x: Array, *, size: int | None = None, name: str | None = "model") -> Array:
        """Run the numpyro guide z ~ q(z | x) of `program`, and return z."""
        model = self if name is None else module(name, self)
        with _rows_plate(x, size):
            return numpyro.sample("z", model._at_rows(lambda d, x: d._posteriors(x), x))


def _kl_of_each(q: dist.Distribution, p: dist.Distribution) -> Array | None:
    q, p = elementwise(unmasked(q)), elementwise(unmasked(p))
    if q.event_shape or p.event_shape:
        return None
    try:
        return jnp.broadcast_to(dist.kl_divergence(q, p), q.batch_shape)
    except NotImplementedError:
        return None


@jax.custom_jvp
def _without_gradient(log_q: Array) -> Array:
    """Return log q at draws that have no gradient path: differentiating it would leave out what the draws
    contribute."""
    return log_q


@_without_gradient.defjvp
def _(primals: Any, tangents: Any) -> NoReturn:
    raise NotImplementedError(
        "the posterior's draws carry no gradient, so that that of this bound would be biased: train by the model's "
        "program and guide, as fit does, with an estimator of inference.estimators (a prior's posterior has to have a "
        "gradient)"
    )


def _rows_plate(x: Array | None, size: int | None) -> Any:
    if x is None and size is None:
        raise ValueError("size: expected the number of rows to draw where x is None")
    rows = size if x is None else x.shape[0]
    return numpyro.plate("data", rows if size is None else size, subsample_size=rows)
