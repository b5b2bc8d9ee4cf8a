"""What latent-variable models are put together from: a bounded posterior, a mixture prior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.distributions import Model


def _bounded(raw: Array, bound: float) -> Array:
    return bound * jnp.tanh(raw / bound)


class BoundedNormalHead(eqx.Module):
    """Normal(raw₀, σ) with log σ = b tanh(raw₁ / b): the scale stays in (e⁻ᵇ, eᵇ), and is 1 at raw 0.

    An unbounded log-scale is how training a VAE ends in NaN.

    >>> import jax.numpy as jnp
    >>> BoundedNormalHead()(jnp.array([[0.0, -1e9], [0.0, 0.0]])).scale.round(4)
    Array([0.0067, 1.    ], dtype=float32)
    """

    bound: float = eqx.field(static=True, default=5.0)

    @property
    def num_params(self) -> int:
        """Two: location and raw log-scale."""
        return 2

    def __call__(self, raw: Array) -> dist.Distribution:
        """Normals of batch shape [...] from [..., 2]."""
        return dist.Normal(raw[..., 0], jnp.exp(_bounded(raw[..., 1], self.bound)))


class GaussianMixture(Model):
    """A learned mixture of diagonal normals, p(z) = Σ_k π_k Normal(z; μ_k, diag σ_k²), as a prior.

    Args: `logits` of π, [K]; `loc` μ, [K, D]; `raw_scale`, [K, D], with log σ = 5 tanh(raw_scale / 5).

    References: VAE with a VampPrior (Tomczak, Welling 2018), arXiv:1705.07120, where this is one of the baselines.

    >>> import jax.numpy as jnp
    >>> prior = GaussianMixture(jnp.zeros(3), jnp.zeros((3, 2)), jnp.zeros((3, 2)))
    >>> prior.log_prob(jnp.zeros(2)).round(3)
    Array(-1.838, dtype=float32)
    """

    pytree_data_fields = ("logits", "loc", "raw_scale")
    learnable_fields = ("logits", "loc", "raw_scale")
    support = constraints.real_vector

    def __init__(self, logits: Array, loc: Array, raw_scale: Array, *, validate_args: bool | None = None):
        self.logits, self.loc, self.raw_scale = (jnp.asarray(a, float) for a in (logits, loc, raw_scale))
        if not self.logits.shape + self.loc.shape[1:] == self.loc.shape == self.raw_scale.shape:
            raise ValueError(
                f"expected logits [K], loc and raw_scale [K, D], got "
                f"{self.logits.shape}, {self.loc.shape} and {self.raw_scale.shape}"
            )
        super().__init__(self.loc.shape[-1:], validate_args=validate_args)

    def _components(self) -> dist.Distribution:
        return BoundedNormalHead()(jnp.stack([self.loc, self.raw_scale], -1)).to_event(1)

    def log_prob_event(self, x: Array) -> Array:
        """log p(z) of one z."""
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + self._components().log_prob(x))

    def sample_event(self, key: Array) -> Array:
        """A component, then z."""
        which, where = jax.random.split(key)
        return self._components().sample(where)[jax.random.categorical(which, self.logits)]
