"""The distribution that a denoiser and an SDE make, with the variational bound of continuous-time diffusion."""

import math

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import as_shape, check_instances, map_batch, split_key, vectorize
from probgen.distributions import Model, lifted, verb
from probgen.distributions.in_blocks import map_particles
from probgen.score.decoder import Decoder, NormalDecoder
from probgen.score.denoiser import Denoiser
from probgen.score.probability_flow import ByFlow, ProbabilityFlow, log_density
from probgen.score.sampler import Sampler
from probgen.score.sde import SDE, check_falls, coefficients
from probgen.score.stochastic_samplers import Ancestral

_EXACT_TRACE = ProbabilityFlow()


class ScoreModel(Model):
    """A diffusion model: of reals, or of what its decoder makes of them.

        log p(x) ≥ E log p(x | z_0) − KL(q(z_1 | v) ‖ Normal(0, I)) − ½ E_{t,ε} [ −λ'(t) e^{λ(t)} ‖v − x̂(z_t)‖² ]

    with v the data as the decoder places them, and z_t = α v + σ ε, α² + σ² = 1: x_t without the SDE's scale, on which
    the bound does not depend. It is averaged over the particles, which lowers its variance and leaves its mean; t is
    spread evenly over particles and rows, uniform for each. exp of it is no unbiased estimate of p(x), so there are no
    `log_weights`.

    Args:
        denoiser: z, λ ↦ E[v | z].
        sde: with the schedule λ(t).
        event_shape: the shape of one event.
        decoder: p(x | z_0); of reals by default.
        sampler: how draws are made; `Ancestral()` by default.

    Raises ValueError where a part is of another kind, or the log-SNR of the SDE is not finite or does not fall.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR
    >>> model = ScoreModel(GaussianDenoiser(jnp.array(0.0), jnp.array(0.5)), LinearLogSNR(), (2,))
    >>> model.log_prob_bound(jax.random.key(0), jnp.zeros((3, 2)), 10).shape
    (3,)
    """

    pytree_data_fields = ("denoiser", "sde", "decoder")
    pytree_aux_fields = ("sampler",)
    kind = "bound"

    def __init__(
        self,
        denoiser: Denoiser,
        sde: SDE,
        event_shape: tuple[int, ...],
        *,
        decoder: Decoder | None = None,
        sampler: Sampler | None = None,
        validate_args: bool | None = None,
    ):
        check_instances(denoiser=denoiser, sde=sde, decoder=decoder, sampler=sampler)
        kinds = {"denoiser": Denoiser, "sde": SDE, "decoder": Decoder, "sampler": Sampler}
        for (name, kind), part in zip(kinds.items(), (denoiser, sde, decoder, sampler), strict=True):
            if part is not None and not isinstance(part, kind):
                raise ValueError(f"{name}: expected a score.{kind.__name__}, got {type(part).__name__}")
        check_falls(sde)
        self.denoiser, self.sde = denoiser, sde
        self.decoder = NormalDecoder() if decoder is None else decoder
        self.sampler = Ancestral() if sampler is None else sampler
        super().__init__(as_shape(event_shape, fewest=0), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The decoder's support, of every number."""
        return constraints.independent(self.decoder.support, self.event_dim)

    def sample_event(self, key: Array) -> Array:
        """Draw an event: noise, the sampler's steps, the decoder."""
        noise_key, steps_key, decoder_key = jax.random.split(key, 3)
        noise = self.sde.prior(self.event_shape).sample(noise_key)
        x = self.sampler(steps_key, self.denoiser.under(self.sde), self.sde, noise)
        z, log_snr = x / self.sde.scale(0.0), self.sde.log_snr(0.0)
        return self.decoder(z, self.denoiser.checked(z, log_snr), log_snr).sample(decoder_key)

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
        """Return the bound of one event with its diffusion term at the time t; uniform t makes it unbiased."""
        placed = self.decoder.place(x)
        log_snrs = jnp.stack([self.sde.log_snr(0.0), self.sde.log_snr(t)])
        # at the data's end and at t: side by side, so that the network is compiled, and its weights are read, once
        z, expected = jax.vmap(self._noised, (0, None, 0))(jax.random.split(key), placed, log_snrs)
        reconstruction = jnp.sum(self.decoder(z[0], expected[0], log_snrs[0]).log_prob(x))
        missed = jnp.sum((placed - expected[1]) ** 2)
        diffusion = 0.5 * -self.sde.log_snr_rate(t) * jnp.exp(log_snrs[1]) * missed
        return reconstruction - self.sde.prior_mismatch(placed) - diffusion

    def _noised(self, key: Array, placed: Array, log_snr: Array) -> tuple[Array, Array]:
        alpha, sigma = coefficients(log_snr)
        z = alpha * placed + sigma * jax.random.normal(key, self.event_shape)
        return z, self.denoiser.checked(z, log_snr)

    @lifted("event")
    def log_prob_ode(self, x: Array, *, flow: ProbabilityFlow = _EXACT_TRACE) -> Array:
        """Return log p(x) of reals [..., *event_shape] by the probability-flow ODE, in nats, [...].

        It is no bound: its error has either sign, and is that of the solver (and of the noise that data have at λ(0)).

        Args:
            x: reals.
            flow: the solver's tolerance, and how the divergence is found.

        Raises ValueError where the data are no reals: `exact_by(flow)` has unbiased weights of those.
        """
        if not isinstance(self.decoder, NormalDecoder):
            raise ValueError(
                "log_prob_ode: expected a model of reals; the ODE's weights of other data are "
                "model.exact_by(flow).log_prob_bound(key, x)"
            )
        alpha, _ = coefficients(self.sde.log_snr(0.0))
        return log_density(self, alpha * x, flow) + x.size * jnp.log(alpha)

    def exact_by(self, flow: ProbabilityFlow = _EXACT_TRACE) -> ByFlow:
        """Return the model whose density is that of the probability-flow ODE, which stands at a `sample` site, and
        whose derivative by x is the score."""
        return ByFlow(self, flow)

    @lifted("event")
    def encode(self, x: Array, *, flow: ProbabilityFlow = _EXACT_TRACE) -> Array:
        """Return the noise [..., *event_shape] at which the ODE from data [..., *event_shape] ends, standard normal
        where x is the model's."""
        start = coefficients(self.sde.log_snr(0.0))[0] * self.decoder.place(x)
        ends = self.sde.log_snr(0.0), self.sde.log_snr(1.0)
        return flow.follow(self.denoiser, start, ends, density=False)[0]

    @verb
    def decode(self, noise: Array, *, flow: ProbabilityFlow = _EXACT_TRACE) -> dist.Distribution:
        """Return p(x | z), z where the ODE from noise [..., *event_shape] ends, of batch shape [...]."""
        found: dist.Distribution = self._at_rows(lambda d, noise: d._data_of(noise, flow), self._as_events(noise))
        return found

    def _data_of(self, noise: Array, flow: ProbabilityFlow) -> dist.Distribution:
        """Return p(x | z) at the ends of the ODE from rows of noise."""
        ends = self.sde.log_snr(1.0), self.sde.log_snr(0.0)
        end_of = lambda noise: flow.follow(self.denoiser, noise, ends, density=False)[0]
        z = vectorize(end_of, self.event_dim)(noise)
        x = vectorize(lambda z: self.denoiser.checked(z, ends[1]), self.event_dim)(z)
        return self.decoder(z, x, ends[1]).to_event(self.event_dim)
