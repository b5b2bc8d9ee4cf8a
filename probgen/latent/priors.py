"""Priors that a latent-variable model learns with its other parts."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.core import check_distributions, check_instances, check_interval, check_sizes, log1mexp, logmeanexp
from probgen.distributions import Model
from probgen.distributions.discretized import IntegerCategorical


class VampPrior(eqx.Module):
    """p(z) = Σ_k w_k q(z | u_k): the posterior at learned pseudo-inputs u, mixed by learned weights.

    It is a prior in want of a posterior, which a `LatentVariableModel` gives it, and holds once. Draws choose a
    component. It costs the encoder's pass over K inputs in every step.

    Args:
        pseudo_inputs: u at the start, [K, *event_shape], such as rows of the data.
        interval: (low, high), in which u stays; None where x is real.

    Raises ValueError where the interval is none, where the inputs are not within it or not finite, or, once there is a
    posterior, where that does not take them.

    References: VAE with a VampPrior (Tomczak, Welling 2018), arXiv:1705.07120.

    >>> import jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> prior = VampPrior(jnp.array([[-1.0], [1.0]]))(lambda x: dist.Normal(x, 0.5).to_event(1))
    >>> round(float(prior.log_prob(jnp.array([1.0]))), 3)
    -0.919
    """

    raw: Array
    logits: Array
    interval: tuple[float, float] | None = eqx.field(static=True)

    def __init__(self, pseudo_inputs: Array, *, interval: tuple[float, float] | None = None):
        u = jnp.asarray(pseudo_inputs, float)
        check_sizes(pseudo_inputs=u.shape[0] if u.ndim else 0)
        if interval is None:
            if not isinstance(u, jax.core.Tracer) and not bool(jnp.isfinite(u).all()):
                raise ValueError(f"pseudo_inputs: expected finite numbers, got {u.min()} to {u.max()}")
        else:
            check_interval(interval=interval)
            low, high = interval
            if not bool(jnp.all((u >= low) & (u <= high))):
                raise ValueError(f"pseudo_inputs: expected numbers within {interval}, got {u.min()} to {u.max()}")
            inside = jnp.clip((u - low) / (high - low), 0.02, 0.98)  # where the sigmoid still moves
            u = jnp.log(inside) - jnp.log1p(-inside)
        self.raw, self.logits, self.interval = u, jnp.zeros(len(u)), interval

    @property
    def pseudo_inputs(self) -> Array:
        """The inputs u, [K, *event_shape]."""
        if self.interval is None:
            return self.raw
        low, high = self.interval
        return low + (high - low) * jax.nn.sigmoid(self.raw)

    def __call__(self, posterior: Callable[[Array], dist.Distribution]) -> dist.Distribution:
        """Return the mixture of this posterior's distributions at the pseudo-inputs."""
        u = self.pseudo_inputs
        try:
            q = posterior(u)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"pseudo_inputs: the posterior takes no events of shape {u.shape[1:]} ({error})"
            ) from error
        if q.batch_shape != u.shape[:1]:
            raise ValueError(
                f"pseudo_inputs: expected {len(u)} events of x, got shape {u.shape}, of which the posterior makes "
                f"batch shape {q.batch_shape}"
            )
        return dist.MixtureSameFamily(IntegerCategorical(self.logits), q)


class Resampled(Model):
    """A proposal π of which draws are accepted with a learned probability a(z), the T-th in any case (LARS).

        p(z) = π(z) ((1 − r) a(z)/Z + r),   r = (1 − Z)^(T−1),   Z = E_π[a(z)]

    Z is a mean over `num_samples` draws from π that are always made of the same noise, so that the density is one
    function of the parameters, and its gradient is the gradient of that function. It is an estimate: log Z has an error
    of at most about √((1 − Z)/(Z S)), and as the density hardly depends on a Z below 1/T, `tolerance` is √(T / S).

    Args:
        proposal: π, the distribution of one z, of batch shape (), ours or numpyro's; ours learns.
        acceptance: z → the logit of a(z), one number: any callable pytree.
        truncation: T, at least 2.
        num_samples: S.

    Raises ValueError where an argument is out of its range, or the network returns more than one number.

    References: Resampled Priors for Variational Autoencoders (Bauer, Mnih 2019), arXiv:1810.11428.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> outside = lambda z: 4.0 * (z @ z - 1.0)  # hardly accepts what lies within the unit circle
    >>> prior = Resampled(dist.Normal(jnp.zeros(2), 1.0).to_event(1), outside)
    >>> bool((jnp.linalg.norm(prior.sample(jax.random.key(0), (1000,)), axis=-1) < 0.5).mean() < 0.02)
    True
    >>> prior.log_prob_estimate(jax.random.key(1), jnp.zeros((5, 2))).shape
    (5,)
    """

    kind = "estimate"
    pytree_data_fields = ("acceptance", "proposal")
    pytree_aux_fields = ("truncation", "num_samples")

    def __init__(
        self,
        proposal: dist.Distribution,
        acceptance: Any,
        *,
        truncation: int = 100,
        num_samples: int = 1024,
        validate_args: bool | None = None,
    ):
        check_distributions("a normal", proposal=proposal)
        check_instances(acceptance=acceptance)
        check_sizes(2, truncation=truncation)
        check_sizes(num_samples=num_samples)
        if proposal.batch_shape:
            raise ValueError(f"proposal: expected batch shape (), got {proposal.batch_shape}; use .to_event()")
        if not getattr(proposal, "exact", True):
            raise ValueError(f"proposal: expected an exact density, got a {type(proposal).__name__}")
        self.proposal, self.acceptance = proposal, acceptance
        self.truncation, self.num_samples = int(truncation), int(num_samples)
        super().__init__(proposal.event_shape, validate_args=validate_args)

    @property
    def tolerance(self) -> float:  # type: ignore[override]
        """√(T / S), in nats."""
        return math.sqrt(self.truncation / self.num_samples)

    @property
    def support(self) -> constraints.Constraint:
        """The proposal's support."""
        return self._first().proposal.support

    def sample_event(self, key: Array) -> Array:
        """Propose until one is accepted, T times at most."""

        def more(state: tuple[Array, Array, Array]) -> Array:
            count, accepted, _ = state
            return ~accepted & (count < self.truncation)

        def propose(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            count, _, _ = state
            draw, toss = jax.random.split(jax.random.fold_in(key, count))
            z = self.proposal.sample(draw)
            return count + 1, jax.random.bernoulli(toss, jnp.exp(self._log_acceptance(z))), z

        return lax.while_loop(more, propose, propose((jnp.array(0), jnp.array(False), jnp.zeros(self.event_shape))))[2]

    def log_prob_event(self, z: Array) -> Array:
        """Return the estimate of log p(z)."""
        log_z = self._log_normalizer()
        last = (self.truncation - 1) * log1mexp(-log_z)  # log r
        accepted = self._log_acceptance(z) - log_z + log1mexp(-last)
        return self.proposal.log_prob(z) + jnp.logaddexp(accepted, last)

    def _log_normalizer(self) -> Array:
        """Return the estimate of log Z, below 0 by more than rounding."""
        z = self.proposal.sample(jax.random.key(0), (self.num_samples,))
        log_a = jax.vmap(self._log_acceptance)(z)
        if not self.proposal.has_rsample:  # the draws carry no gradient of π, and their weights 1 do
            log_p = self.proposal.log_prob(z)
            log_a = log_a + log_p - lax.stop_gradient(log_p)
        return logmeanexp(log_a) - jnp.finfo(log_a.dtype).eps

    def _log_acceptance(self, z: Array) -> Array:
        logit = jnp.asarray(self.acceptance(z))
        if logit.size != 1:
            raise ValueError(f"acceptance: expected one number for a z, got an output of shape {logit.shape}")
        return jax.nn.log_sigmoid(logit.reshape(()))
