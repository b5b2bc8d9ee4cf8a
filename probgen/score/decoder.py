"""Decoders: what data are, how they are put in ℝᴰ, and the distribution of data at the least noise."""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import as_integer, check_sizes
from probgen.networks import place
from probgen.score.sde import coefficients


class Decoder(eqx.Module):
    """p(x | z₀), number by number, at the data's end of an SDE: the base of those below, and of users' own.

    A subclass has `support` of a number, `place(x)` and `__call__(z, x̂, λ)`, the distribution of the numbers of one
    event. z = α x + σ ε with α² + σ² = 1, and x̂ is the denoiser's E[x | z].
    """

    @property
    def support(self) -> constraints.Constraint:
        """Where a number of the data lies."""
        raise NotImplementedError(f"{type(self).__name__} has no support")

    def place(self, x: Array) -> Array:
        """The reals that noise is added to."""
        return x

    def __call__(self, z: Array, x: Array, log_snr: Array) -> dist.Distribution:
        """The distribution of the data's numbers, of batch shape that of z."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")


class NormalDecoder(Decoder):
    """Reals: Normal(x̂, e^{−λ}), of as much noise as there is in z / α.

    >>> import jax.numpy as jnp
    >>> NormalDecoder()(jnp.zeros(2), jnp.zeros(2), jnp.array(0.0)).scale.item()
    1.0
    """

    @property
    def support(self) -> constraints.Constraint:
        """The reals."""
        return constraints.real

    def __call__(self, z: Array, x: Array, log_snr: Array) -> dist.Distribution:
        """Normals about x̂."""
        return dist.Normal(x, jnp.exp(-0.5 * log_snr))


class LevelDecoder(Decoder):
    """Integers 0..L−1, put at v_k evenly from −1 to 1: P(k | z) ∝ Normal(z; α v_k, σ²).

    Where σ/α = e^{−λ/2} is far below the 1/(L−1) that is half a step, this is certain, and costs nothing.

    Args: `levels` L.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630, equation 7.

    >>> import jax.numpy as jnp
    >>> z = LevelDecoder(5).place(jnp.array([0, 2, 4]))
    >>> LevelDecoder(5)(z, z, jnp.array(9.0)).probs.argmax(-1).tolist()
    [0, 2, 4]
    """

    levels: int = eqx.field(static=True, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(2, levels=self.levels)

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.integer_interval(0, self.levels - 1)

    def place(self, x: Array) -> Array:
        """The v of each level."""
        return place(x, self.levels)

    def __call__(self, z: Array, x: Array, log_snr: Array) -> dist.Distribution:
        """Categoricals of the levels."""
        return dist.Categorical(logits=level_log_likelihood(z, log_snr, self.levels))


def level_log_likelihood(z: Array, log_snr: Array, levels: int) -> Array:
    """log Normal(z_d; α v_k, σ²) but for a constant, [*event, levels].

    >>> import jax.numpy as jnp
    >>> level_log_likelihood(jnp.zeros(1), jnp.array(0.0), 3).round(4).tolist()
    [[-0.5, 0.0, -0.5]]
    """
    alpha, sigma = coefficients(log_snr)
    return -0.5 * ((z[..., None] - alpha * place(jnp.arange(levels), levels)) / sigma) ** 2
