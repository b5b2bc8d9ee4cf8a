"""A latent-variable model whose posterior is refined for each datum."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax

from probgen.core import check_positive, check_sizes, split_key, vectorize
from probgen.distributions.wrapped import log_density
from probgen.latent.latent_variable import LatentVariableModel


class SemiAmortized(LatentVariableModel):
    """A latent-variable model whose posterior takes a few gradient steps on its own bound, for each datum.

        r₀ = network(x),   r_{k+1} = r_k + ε ∂L(r_k)/∂r,   q(z | x) = of_raw(r_K)
        L(r) = 1/S Σ_s log p(z_s) + log p(x | z_s) − log q_r(z_s),   z_s = z(r, noise_s)

    The noise is always the same, so that q is one function of x and of the parameters. It costs 2 K S evaluations of
    the likelihood more for each x, in use as well as in training.

    Args:
        prior: as in `LatentVariableModel`.
        likelihood: as in `LatentVariableModel`.
        posterior: a `Conditional`, `FullCovariance` or `LowRank`: any posterior with `raw(x)`, the numbers r that a
            network says, and `of_raw(r)`, a distribution whose draws carry gradients.
        steps: K.
        step_size: ε.
        num_samples: S, at least 2: with one draw a scale could grow without end.
        through: whether gradients pass through the steps, so that the network learns where to start, and the likelihood
            where it is refined well; if not, what the steps added is a constant.
        context_shape: as in `LatentVariableModel`.

    Raises ValueError where an argument is out of its range, or the posterior cannot be refined.

    References: Semi-Amortized Variational Autoencoders (Kim, Wiseman, Miller, Sontag, Rush 2018), arXiv:1802.02550.

    >>> import jax, jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> from probgen.distributions import Conditional, NormalHead
    >>> prior, likelihood = dist.Normal(jnp.zeros(1), 1.0).to_event(1), lambda z: dist.Normal(z, 1.0).to_event(1)
    >>> start = Conditional(lambda x: jnp.zeros(2), NormalHead(), (1,))  # wherever x is
    >>> model = SemiAmortized(prior, likelihood, start, steps=50, num_samples=64)
    >>> float(model.encode(jnp.array([3.0])).mean.round(1)[0])
    1.5
    """

    pytree_aux_fields = ("num_samples", "step_size", "steps", "through")
    posterior: Any

    def __init__(
        self,
        prior: dist.Distribution,
        likelihood: Callable[[Array], dist.Distribution],
        posterior: Any,
        *,
        steps: int = 10,
        step_size: float = 0.1,
        num_samples: int = 8,
        through: bool = True,
        context_shape: tuple[int, ...] | None = None,
        validate_args: bool | None = None,
    ):
        check_sizes(0, steps=steps)
        check_sizes(2, num_samples=num_samples)
        check_positive(step_size=step_size)
        if not (hasattr(posterior, "raw") and hasattr(posterior, "of_raw")):
            expected = "one with raw(x) and of_raw(raw), such as a Conditional or FullCovariance"
            raise ValueError(f"posterior: expected {expected}, got {type(posterior).__name__}")
        self.steps, self.step_size, self.num_samples, self.through = steps, step_size, num_samples, through
        super().__init__(prior, likelihood, posterior, context_shape=context_shape, validate_args=validate_args)

    def _posteriors(self, x: Array) -> dist.Distribution:
        return self.posterior.of_raw(vectorize(self._refined, self.event_dim)(x))

    def _refined(self, x: Array) -> Array:
        """Return the raw numbers of one x after all steps."""
        start = self.posterior.raw(x)
        if not self.posterior.of_raw(start).has_rsample:
            raise ValueError("posterior: expected one whose draws carry gradients, such as normals")
        keys = split_key(jax.random.key(0), (self.num_samples,))
        slope = jax.grad(lambda raw: jnp.mean(jax.vmap(lambda key: self._bound_at(raw, key, x))(keys)))
        refined = lax.fori_loop(0, self.steps, lambda _, raw: raw + self.step_size * slope(raw), start)
        return refined if self.through else start + lax.stop_gradient(refined - start)

    def _bound_at(self, raw: Array, key: Array, x: Array) -> Array:
        q = self.posterior.of_raw(raw)
        z = q.sample(key)
        of_prior, of_x = (jax.random.fold_in(key, i) for i in (1, 2))
        return log_density(self.latent_prior, of_prior, z) + log_density(self.likelihood(z), of_x, x) - q.log_prob(z)
