"""The latent-variable model: a prior, a likelihood and an amortized posterior, trained and evaluated by bounds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.batch_util import promote_batch_shape

from probgen.core import bind, is_conditional, module
from probgen.distributions import Given, Model

_Conditional = Callable[[Array], dist.Distribution]


class Programmed:
    """The numpyro program and guide of a model with a prior, a likelihood and a posterior, which it gives at rows."""

    def _at_rows(self, part: str, *args: Array) -> dist.Distribution:
        raise NotImplementedError(f"{type(self).__name__} does not say what its {part} is")

    def program(self, x: Array | None, *, size: int | None = None, name: str | None = "model") -> Array:
        """The numpyro program z ~ p(z), x ~ p(x | z) for rows [B, *event_shape] out of `size` (all of them by default).

        Its params are one site `name$params`, shared with `guide`: `probgen.from_params(result.params, name, model)`
        gives the learned model. With x=None it draws `size` rows; with name=None it registers nothing, and is the
        program of the model as it is.

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
            z = numpyro.sample("z", model._at_rows("prior"))
            return numpyro.sample("x", model._at_rows("likelihood", z), obs=x)

    def guide(self, x: Array, *, size: int | None = None, name: str | None = "model") -> Array:
        """The numpyro guide z ~ q(z | x) of `program`."""
        model = self if name is None else module(name, self)
        with _rows_plate(x, size):
            return numpyro.sample("z", model._at_rows("posterior", x))


class GivenLatentVariable(Programmed, Given):
    """A conditional latent-variable model with its context: what such a model can do, at one context or one a row."""

    def kl(self, key: Array, x: Array) -> Array:
        """KL(q(z | x) ‖ p(z)) of rows, each at its context, in nats."""
        return self._with_keys("kl", key, jnp.asarray(x))

    def _at_rows(self, part: str, *args: Array) -> Any:
        at_one = lambda context, *args: bind(self.model, context)._at_rows(part, *args)
        if not self._context_batch or not (args or is_conditional(self.model.prior)):
            return at_one(self.context, *args)
        if len(self._context_batch) > 1:
            raise ValueError(f"context: expected one, or one a row, got batch shape {self._context_batch}")
        return promote_batch_shape(jax.vmap(at_one)(self.context, *args))


class LatentVariableModel(Programmed, Model):
    """p(x) = ∫ p(z) p(x | z) dz, with an approximate posterior q(z | x) from which its bounds are drawn.

        log w = log p(z) + log p(x | z) − log q(z | x),   z ~ q(z | x),   E[w] = p(x)

    The parts may be anything: a flow or a mixture as the prior, an autoregressive likelihood, a flow posterior.

    Args:
        prior: the distribution of one z, of batch shape (), ours or numpyro's.
        likelihood: z [..., *latent_shape] → distribution of x (a `Conditional`, a `ConditionalModel`, any callable
        pytree). posterior: x [..., *event_shape] → distribution of z whose samples carry gradients. Its draws are never
        inverted. context_shape: the shape of one context where parts are `Contextual`; wrap the model in a
        `ConditionalModel` then.

    Raises ValueError where the parts' shapes do not fit, or where the posterior's samples carry no gradient.

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
    pytree_aux_fields = ("context_shape",)
    exact = False
    conditioned = GivenLatentVariable

    def __init__(
        self,
        prior: dist.Distribution,
        likelihood: _Conditional,
        posterior: _Conditional,
        *,
        context_shape: tuple[int, ...] | None = None,
        validate_args: bool | None = None,
    ):
        if prior.batch_shape:
            raise ValueError(f"prior: expected batch shape (), got {prior.batch_shape}; use .to_event()")
        self.prior, self.likelihood, self.posterior = prior, likelihood, posterior
        self.context_shape = context_shape
        given_z = self._likelihood_of_zeros(likelihood)
        if given_z.batch_shape:
            raise ValueError(
                f"likelihood: expected batch shape () for one z, got {given_z.batch_shape}; use .to_event()"
            )
        super().__init__(given_z.event_shape, validate_args=validate_args)

    def _likelihood_of_zeros(self, likelihood: Any) -> dist.Distribution:
        if self.context_shape is not None:  # what is read of it depends on no context
            likelihood = bind(likelihood, jnp.zeros(self.context_shape))
        return likelihood(jnp.zeros(self.prior.event_shape))

    @property
    def support(self) -> constraints.Constraint:
        """As the likelihood's."""
        first = (0,) * len(self._added_shape)
        return self._likelihood_of_zeros(jax.tree.map(lambda leaf: leaf[first], self.likelihood)).support

    def sample_event(self, key: Array) -> Array:
        """z from the prior, then x from the likelihood."""
        latent_key, key = jax.random.split(key)
        return self.likelihood(self.prior.sample(latent_key)).sample(key)

    def log_weight_event(self, key: Array, x: Array) -> Array:
        """log p(z) + log p(x | z) − log q(z | x) at one draw z from q(z | x)."""
        z, log_q = self._infer(key, x)
        return self.prior.log_prob(z) + self.likelihood(z).log_prob(x) - log_q

    def _infer(self, key: Array, x: Array) -> tuple[Array, Array]:
        q = self._posterior_of(x)
        z, intermediates = q.sample_with_intermediates(key)
        return z, q.log_prob(z, intermediates) if intermediates else q.log_prob(z)

    def _posterior_of(self, x: Array) -> dist.Distribution:
        q = self.posterior(x)
        if q.batch_shape or q.event_shape != self.prior.event_shape:
            raise ValueError(
                f"posterior: expected batch shape () and event shape {self.prior.event_shape} for one x, "
                f"got {q.batch_shape} and {q.event_shape}"
            )
        if not q.has_rsample:
            raise ValueError(f"posterior: samples of {type(q).__name__} carry no gradient")
        return q

    def kl(self, key: Array, x: Array) -> Array:
        """KL(q(z | x) ‖ p(z)) of rows [..., *event_shape], in nats, [...].

        In closed form where `numpyro.distributions.kl.kl_divergence` knows one; else log q(z | x) − log p(z) at one
        draw from q(z | x), whose mean it is.
        """
        return self._rows(self._kl_event, key, jnp.asarray(x))

    def _kl_event(self, key: Array, x: Array) -> Array:
        try:
            return dist.kl_divergence(self._posterior_of(x), self.prior)
        except NotImplementedError:
            z, log_q = self._infer(key, x)
            return log_q - self.prior.log_prob(z)

    def _at_rows(self, part: str, *args: Array) -> Any:
        """One of the parts, a prior as it is and a conditional at rows."""
        return getattr(self, part)(*args) if args else getattr(self, part)


def _rows_plate(x: Array | None, size: int | None) -> Any:
    if x is None and size is None:
        raise ValueError("size: expected the number of rows to draw where x is None")
    rows = size if x is None else x.shape[0]
    return numpyro.plate("data", rows if size is None else size, subsample_size=rows)
