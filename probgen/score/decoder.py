"""Decoders: what data are, how they are put in ℝᴰ, and the distribution of data at the least noise."""

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions import constraints

from probgen.core import as_integer, check_sizes
from probgen.networks import place

_RARE = 1e-6  # what a level beside x̂ has at least


class Decoder(eqx.Module):
    """The distribution p(x | z₀), number by number, at the data's end of an SDE: the base of those below, and of users'
    own.

    A subclass has `support` of a number, `place(x)` and `__call__(z, x̂, λ)`, the distribution of the numbers of one
    event. z = α x + σ ε with α² + σ² = 1, and x̂ is the denoiser's E[x | z].
    """

    @property
    def support(self) -> constraints.Constraint:
        """The set in which a number of the data lies."""
        raise NotImplementedError(f"{type(self).__name__} has no support")

    def place(self, x: Array) -> Array:
        """Return the reals that noise is added to."""
        return x

    def __call__(self, z: Array, x: Array, log_snr: Array) -> dist.Distribution:
        """Return the distribution of the data's numbers, of batch shape that of z."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def log_prob(self, value: Array, z: Array, x: Array, log_snr: Array) -> Array:
        """Return log p(value | z₀) of one event, in nats."""
        value = value.astype(int) if value.dtype == bool else value  # numpyro's categoricals take no booleans
        return jnp.sum(self(z, x, log_snr).log_prob(value))


class NormalDecoder(Decoder):
    """Reals: Normal(x̂, e^{−λ}), of as much noise as there is in z / α.

    >>> import jax.numpy as jnp
    >>> NormalDecoder()(jnp.zeros(2), jnp.zeros(2), jnp.array(0.0)).scale.item()
    1.0
    """

    @property
    def support(self) -> constraints.Constraint:
        """The set of the reals."""
        return constraints.real

    def __call__(self, z: Array, x: Array, log_snr: Array) -> dist.Distribution:
        """Return normals about x̂."""
        return dist.Normal(x, jnp.exp(-0.5 * log_snr))


class LevelDecoder(Decoder):
    """Integers 0..L−1, put at v_k evenly from −1 to 1, Δ apart: the levels beside x̂ have the odds that it says.

        P(k | z) ∝ exp(m logit(w) − ½ e^λ Δ² m (m − 1)),   x̂ = v_l + w Δ,  m = k − l

    This is the normal of precision e^λ on the levels, moved so that levels l and l + 1 have odds w : 1 − w. Where no
    others are likely, and with two levels always, it is the posterior whose mean is x̂.

    Args:
        levels: L.

    >>> import jax.numpy as jnp
    >>> LevelDecoder(3)(jnp.zeros(1), jnp.array([0.25]), jnp.array(9.0)).probs.round(4).tolist()
    [[0.0, 0.75, 0.25]]
    """

    levels: int = eqx.field(static=True, converter=as_integer)

    def __check_init__(self) -> None:
        check_sizes(2, levels=self.levels)

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1."""
        return constraints.integer_interval(0, self.levels - 1)

    def place(self, x: Array) -> Array:
        """Return the v of each level. Raises ValueError where x are floating-point numbers."""
        if jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"value: the model is over integers, got dtype {x.dtype}")
        return place(x, self.levels)

    def __call__(self, z: Array, x: Array, log_snr: Array) -> dist.Distribution:
        """Return categoricals of the levels."""
        step = 2.0 / (self.levels - 1)
        where = (x + 1.0) / step
        below = jnp.clip(jnp.floor(lax.stop_gradient(where)), 0, self.levels - 2)
        share = jnp.clip(where - below, _RARE, 1.0 - _RARE)
        m = jnp.arange(self.levels) - below[..., None]
        odds = jnp.log(share) - jnp.log1p(-share)
        return dist.Categorical(logits=m * odds[..., None] - 0.5 * jnp.exp(log_snr) * step**2 * m * (m - 1.0))
