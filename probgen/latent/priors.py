"""Priors of latents that the model learns with its other parts."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.core import check_sizes
from probgen.distributions.discretized import IntegerCategorical
from probgen.distributions.heads import Head


class ProductPrior(eqx.Module):
    """p(z) = Π_i head(r_i)(z_i): independent numbers, whose raw parameters r are learned.

    Args:
        raw: r, [*latent_shape, head.num_params].
        head: raw numbers → distribution of one latent number.

    >>> import jax.numpy as jnp
    >>> from probgen.distributions import BernoulliHead
    >>> ProductPrior(jnp.zeros((5, 1)), BernoulliHead())(None).event_shape
    (5,)
    """

    raw: Array
    head: Head

    def __call__(self, posterior: object) -> dist.Distribution:
        """Return the prior, whatever the posterior is."""
        return self.head(self.raw).to_event(self.raw.ndim - 1)


class VampPrior(eqx.Module):
    """p(z) = Σ_k w_k q(z | u_k): the posterior at learned pseudo-inputs u, mixed by learned weights.

    It is a prior in want of a posterior, which a `LatentVariableModel` gives it, and holds once. Draws choose a
    component. It costs the encoder's pass over K inputs in every step.

    Args:
        pseudo_inputs: u at the start, [K, *event_shape], such as rows of the data.
        interval: (low, high), in which u stays; None where x is real.

    Raises ValueError where they are not within the interval, or, once there is a posterior, where that does not take
    them.

    References: VAE with a VampPrior (Tomczak, Welling 2018), arXiv:1705.07120.

    >>> import jax.numpy as jnp
    >>> import numpyro.distributions as dist
    >>> prior = VampPrior(jnp.array([[-1.0], [1.0]]))(lambda x: dist.Normal(x, 0.5).to_event(1))
    >>> float(prior.log_prob(jnp.array([1.0])).round(3))
    -0.919
    """

    raw: Array
    logits: Array
    interval: tuple[float, float] | None = eqx.field(static=True)

    def __init__(self, pseudo_inputs: Array, *, interval: tuple[float, float] | None = None):
        u = jnp.asarray(pseudo_inputs, float)
        check_sizes(pseudo_inputs=u.shape[0] if u.ndim else 0)
        if interval is not None:
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
