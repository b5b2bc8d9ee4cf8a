"""The distribution that a denoiser and an SDE make, with the variational bound of continuous-time diffusion."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.core import check_instances, map_batch, split_key
from probgen.distributions import Model
from probgen.distributions.in_blocks import map_particles
from probgen.score.denoiser import Denoiser, LevelDenoiser, level_values
from probgen.score.sampler import Ancestral, Sampler
from probgen.score.sde import VP, coefficients


class ScoreModel(Model):
    """A diffusion model of reals, or of integers 0..L−1 that are put evenly into [−1, 1].

        log p(x) ≥ E log p(x | z_0) − KL(q(z_1 | x) ‖ Normal(0, I)) − ½ E_{t,ε} [ −λ'(t) e^{λ(t)} ‖x − x̂(z_t)‖² ]

    with z_t = α x + σ ε. The decoder is Π_d P(x_d | z_0) of a `LevelDenoiser` for integers, and
    Normal(x̂(z_0), e^{−λ(0)} I) for reals. The bound is averaged over the particles, which lowers its variance and
    leaves its mean; t is spread evenly over particles and rows, uniform for each. exp of it is no unbiased estimate of
    p(x), so there are no `log_weights`.

    Args: `denoiser`: z, λ ↦ E[x | z], a `LevelDenoiser` for integers; `sde`; `event_shape`; `sampler`.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR
    >>> model = ScoreModel(GaussianDenoiser(jnp.array(0.0), jnp.array(0.5)), LinearLogSNR(), (2,))
    >>> model.log_prob_bound(jax.random.key(0), jnp.zeros((3, 2)), 10).shape
    (3,)
    """

    pytree_data_fields = ("denoiser", "sde")
    pytree_aux_fields = ("sampler",)
    kind = "bound"

    def __init__(
        self,
        denoiser: Denoiser,
        sde: VP,
        event_shape: tuple[int, ...],
        *,
        sampler: Sampler | None = None,
        validate_args: bool | None = None,
    ):
        check_instances(denoiser=denoiser, sde=sde, sampler=sampler)
        self.denoiser, self.sde = denoiser, sde
        self.sampler = Ancestral() if sampler is None else sampler
        super().__init__(event_shape, validate_args=validate_args)

    @property
    def levels(self) -> int | None:
        """The number of values of an integer; None for reals."""
        return self.denoiser.levels if isinstance(self.denoiser, LevelDenoiser) else None

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0..levels−1, or the reals."""
        numbers = constraints.real if self.levels is None else constraints.integer_interval(0, self.levels - 1)
        return constraints.independent(numbers, self.event_dim)

    def sample_event(self, key: Array) -> Array:
        """One draw: noise, the sampler's steps, the decoder."""
        noise_key, steps_key, decoder_key = jax.random.split(key, 3)
        z = self.sampler(steps_key, self.denoiser, self.sde, jax.random.normal(noise_key, self.event_shape))
        log_snr = self.sde.log_snr(0.0)
        if isinstance(self.denoiser, LevelDenoiser):
            return jax.random.categorical(decoder_key, self.denoiser.log_posterior(z, log_snr)).astype(jnp.int32)
        noise = jax.random.normal(decoder_key, self.event_shape)
        return self.denoiser(z, log_snr) + jnp.exp(-0.5 * log_snr) * noise

    def _log_prob_bound(self, key: Array, value: Array, num_particles: int) -> Array:
        time_key, noise_key = jax.random.split(key)
        lead = value.shape[: value.ndim - self.event_dim]
        rows = math.prod(lead)
        shift = (jax.random.uniform(time_key) + jnp.arange(rows).reshape(lead) / max(1, rows)) % 1.0
        t = (jnp.arange(num_particles).reshape(-1, *[1] * len(lead)) + shift) / num_particles
        bound = lambda _, k, t, x: self.bound_event(k, t, x)
        particle = lambda keys, t: map_batch(bound, None, (), (keys, t, value), (0, 0, self.event_dim))
        return jnp.mean(map_particles(particle, (split_key(noise_key, t.shape), t), value.size), 0)

    def bound_event(self, key: Array, t: Array, x: Array) -> Array:
        """The bound of one event with its diffusion term at the time t; uniform t makes it unbiased."""
        diffusion_key, decoder_key = jax.random.split(key)
        placed = x if self.levels is None else level_values(self.levels)[x.astype(jnp.int32)]
        return (
            self._reconstruction(decoder_key, x, placed)
            - self._prior_kl(placed)
            - self._diffusion(diffusion_key, t, placed)
        )

    def _noisy(self, key: Array, placed: Array, log_snr: Array) -> Array:
        alpha, sigma = coefficients(log_snr)
        return alpha * placed + sigma * jax.random.normal(key, self.event_shape)

    def _reconstruction(self, key: Array, x: Array, placed: Array) -> Array:
        log_snr = self.sde.log_snr(0.0)
        z = self._noisy(key, placed, log_snr)
        if isinstance(self.denoiser, LevelDenoiser):
            log_p = self.denoiser.log_posterior(z, log_snr)
            return jnp.sum(jnp.take_along_axis(log_p, x[..., None].astype(jnp.int32), -1))
        squares = jnp.exp(log_snr) * (x - self.denoiser(z, log_snr)) ** 2
        return 0.5 * jnp.sum(log_snr - math.log(2 * math.pi) - squares)

    def _prior_kl(self, placed: Array) -> Array:
        log_snr = self.sde.log_snr(1.0)
        # σ² − 1 = −α², −log σ² = softplus(λ)
        return 0.5 * jnp.sum(jax.nn.sigmoid(log_snr) * (placed**2 - 1.0) + jax.nn.softplus(log_snr))

    def _diffusion(self, key: Array, t: Array, placed: Array) -> Array:
        log_snr = self.sde.log_snr(t)
        x = self.denoiser(self._noisy(key, placed, log_snr), log_snr)
        return 0.5 * -self.sde.log_snr_rate(t) * jnp.exp(log_snr) * jnp.sum((placed - x) ** 2)
