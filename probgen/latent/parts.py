"""What latent-variable models are put together from: a bounded posterior."""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import check_positive


def _bounded(raw: Array, bound: float) -> Array:
    return bound * jnp.tanh(raw / bound)


class BoundedNormalHead(eqx.Module):
    """Normal(raw₀, σ) with log σ = b tanh(raw₁ / b): the scale stays in (e⁻ᵇ, eᵇ), and is 1 at raw 0.

    An unbounded log-scale is how training a VAE ends in NaN.

    Args:
        bound: b, the largest |log σ|.

    >>> import jax.numpy as jnp
    >>> BoundedNormalHead()(jnp.array([[0.0, -1e9], [0.0, 0.0]])).scale.round(4)
    Array([0.0067, 1.    ], dtype=float32)
    """

    bound: float = eqx.field(static=True, default=5.0)

    def __check_init__(self) -> None:
        check_positive(bound=self.bound)

    @property
    def num_params(self) -> int:
        """Two numbers: location and raw log-scale."""
        return 2

    def __call__(self, raw: Array) -> dist.Distribution:
        """Return normals of batch shape [...] from [..., 2]."""
        return dist.Normal(raw[..., 0], jnp.exp(_bounded(raw[..., 1], self.bound)))
