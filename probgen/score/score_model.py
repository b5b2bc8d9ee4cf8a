"""The distribution that a denoiser and an SDE make, with the variational bound of continuous-time diffusion."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from probgen.core import as_shape, check_instances, vectorize
from probgen.core.even_times import even
from probgen.distributions import Model, lifted, verb
from probgen.distributions.coding import Message
from probgen.score.chain_codes import pop_chain, push_chain
from probgen.score.decoder import Decoder, NormalDecoder
from probgen.score.denoiser import Denoiser
from probgen.score.losses import Bound, Loss
from probgen.score.probability_flow import ByFlow, ProbabilityFlow, log_density
from probgen.score.sampler import Sampler, StepSampler
from probgen.score.sde import SDE, check_falls, coefficients
from probgen.score.stochastic_samplers import Ancestral

_EXACT_TRACE = ProbabilityFlow()
_PARTS: dict[str, type] = {"denoiser": Denoiser, "sde": SDE, "decoder": Decoder, "sampler": Sampler, "loss": Loss}


@dataclass(frozen=True)
class _MinusBound(Loss):
    """Minus the bound, with the bound's own gradient, by a schedule's interior too (`Bound` has the variance's)."""

    def event(self, model: Any, key: Array, noise: Array, t: Array, x: Array) -> Array:
        minus: Array = -model.bound_event(key, noise, t, x)
        return minus


_MINUS_BOUND = _MinusBound()


class BoundTerms(NamedTuple):
    """What a bound is made of, in nats.

    Attributes:
        reconstruction: log p(x | z_0).
        mismatch: KL(q(z_1 | v) ‖ Normal(0, I)).
        diffusion: what z_t costs at one time, times how many there are.
        log_snr: λ(t).
    """

    reconstruction: Array
    mismatch: Array
    diffusion: Array
    log_snr: Array

    def total(self) -> Array:
        """Return the bound."""
        return self.reconstruction - self.mismatch - self.diffusion


class ScoreModel(Model):
    """A diffusion model: of reals, or of what its decoder makes of them.

        log p(x) ≥ E log p(x | z_0) − KL(q(z_1 | v) ‖ Normal(0, I)) − ½ E_{t,ε} [ −λ'(t) e^{λ(t)} ‖v − x̂(z_t)‖² ]

    with v the data as the decoder places them, and z_t = α v + σ ε, α² + σ² = 1: x_t without the SDE's scale, on which
    the bound does not depend. It is averaged over the particles, which lowers its variance and leaves its mean; t is
    spread evenly over particles and rows, uniform for each. exp of it is no unbiased estimate of p(x), so there are no
    `log_weights`.

    That is the limit of a latent-variable model of many layers. With `stepwise` it is the model of `Ancestral`'s own
    steps, of one layer z_s | z_t each, with ½ T (e^{λ_s} − e^{λ_t}) in the place of ½ (−λ') e^λ: a looser bound, of
    what is drawn.

    Args:
        denoiser: z, λ ↦ E[v | z].
        sde: with the schedule λ(t).
        event_shape: the shape of one event.
        decoder: p(x | z_0); of reals by default.
        sampler: how draws are made; `Ancestral()` by default.
        loss: what is trained; the bound by default. What is reported is the bound.
        stepwise: whether the bound is that of the sampler's steps.

    Raises ValueError where a part is of another kind, the log-SNR of the SDE is not finite or does not fall, or
    a `stepwise` model has another sampler than `Ancestral`.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630; Denoising Diffusion
    Probabilistic Models (Ho, Jain, Abbeel 2020), arXiv:2006.11239.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR
    >>> model = ScoreModel(GaussianDenoiser(jnp.array(0.0), jnp.array(0.5)), LinearLogSNR(), (2,))
    >>> model.log_prob_bound(jax.random.key(0), jnp.zeros((3, 2)), 10).shape
    (3,)
    """

    pytree_data_fields = ("denoiser", "sde", "decoder")
    pytree_aux_fields = ("sampler", "loss", "stepwise")
    kind = "bound"

    def __init__(
        self,
        denoiser: Denoiser,
        sde: SDE,
        event_shape: tuple[int, ...],
        *,
        decoder: Decoder | None = None,
        sampler: Sampler | None = None,
        loss: Loss | None = None,
        stepwise: bool = False,
        validate_args: bool | None = None,
    ):
        self.denoiser, self.sde = denoiser, sde
        self.decoder = NormalDecoder() if decoder is None else decoder
        self.sampler = Ancestral() if sampler is None else sampler
        self.loss, self.stepwise = Bound() if loss is None else loss, stepwise
        self._check_fields()
        super().__init__(as_shape(event_shape, fewest=0), validate_args=validate_args)

    def _check_fields(self) -> None:
        parts = {name: getattr(self, name) for name in _PARTS}
        check_instances(**parts)
        for name, part in parts.items():
            if not isinstance(part, _PARTS[name]):
                raise ValueError(f"{name}: expected a score.{_PARTS[name].__name__}, got {type(part).__name__}")
        check_falls(self._first().sde)
        if self.stepwise and not isinstance(self.sampler, Ancestral):
            raise ValueError(f"stepwise: expected the sampler to be Ancestral, got {type(self.sampler).__name__}")

    @property
    def loss_is_bound(self) -> bool:  # type: ignore[override]
        """Whether what is trained is minus the bound."""
        return self.loss.is_bound

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

    def _of_rows(self, method: str, key: Array, value: Array, num_particles: int) -> Array:
        time_key, key = jax.random.split(key)
        t = jnp.moveaxis(even(time_key, self._lead(value), num_particles), 0, -1)
        one = lambda d, key, t, x: getattr(d, method)(key, t, x)
        return self._each(one, key, t, value, ranks=("key", 1, "event"))

    def _log_prob_bound(self, key: Array, t: Array, x: Array) -> Array:  # type: ignore[override]
        return -_MINUS_BOUND(self, key, t, x)

    def _training_loss(self, key: Array, t: Array, x: Array) -> Array:  # type: ignore[override]
        return self.loss(self, key, t, x)

    def bound_event(self, key: Array, noise: Array, t: Array, x: Array) -> Array:
        """Return the bound of one event with its diffusion term at the time t; uniform t makes it unbiased.

        Args:
            key: draws the noise of z_0.
            noise: that of z_t.
            t: in [0, 1].
            x: one event.
        """
        return self.bound_terms(key, noise, t, x).total()

    def bound_terms(self, key: Array, noise: Array, t: Array, x: Array) -> BoundTerms:
        """Return what that is the sum of, and λ(t)."""
        return self.terms_at(key, noise, self.diffusion_weight(t), x)

    def terms_at(self, key: Array, noise: Array, at: tuple[Array, Array], x: Array) -> BoundTerms:
        """Return the terms where the diffusion's has a given weight and λ."""
        placed, (weight, log_snr) = self.decoder.place(x), at
        log_snrs = jnp.stack([self.sde.log_snr(0.0), log_snr])
        noises = jnp.stack([jax.random.normal(key, noise.shape, noise.dtype), noise])
        # at the data's end and at t: side by side, so that the network is compiled, and its weights are read, once
        z, expected = jax.vmap(self._noised, (0, None, 0))(noises, placed, log_snrs)
        reconstruction = self.decoder.log_prob(x, z[0], expected[0], log_snrs[0])
        diffusion = weight * jnp.sum((placed - expected[1]) ** 2)
        return BoundTerms(reconstruction, self.sde.prior_mismatch(placed), diffusion, log_snr)

    def diffusion_weight(self, t: Array) -> tuple[Array, Array]:
        """Return what ‖v − x̂‖² is multiplied by, and λ: ½ (−λ') e^λ at t, or of the sampler's step in which t lies,
        ½ T (e^{λ_s} − e^{λ_t})."""
        if not self.stepwise:
            log_snr = self.sde.log_snr(t)
            return 0.5 * -self.sde.log_snr_rate(t) * jnp.exp(log_snr), log_snr
        times = self.step_times()
        steps = len(times) - 1
        layer = jnp.clip(jnp.floor(t * steps).astype(int), 0, steps - 1)
        log_snr, less_noise = self.sde.log_snr(times[layer]), self.sde.log_snr(times[layer + 1])
        return 0.5 * steps * jnp.expm1(less_noise - log_snr) * jnp.exp(log_snr), log_snr

    def step_times(self) -> Array:
        """Return the times of the sampler's steps, from 1 to 0. Raises ValueError where it has none of its own."""
        if not isinstance(self.sampler, StepSampler):
            raise ValueError(f"sampler: expected a score.StepSampler, got {type(self.sampler).__name__}")
        return self.sampler.grid(self.sde, self.sampler.steps)

    def _noised(self, noise: Array, placed: Array, log_snr: Array) -> tuple[Array, Array]:
        alpha, sigma = coefficients(log_snr)
        z = alpha * placed + sigma * noise
        return z, self.denoiser.checked(z, log_snr)

    @lifted("key", "event")
    def sampled_terms(self, key: Array, x: Array, *, num_particles: int) -> BoundTerms:
        """Return the terms of the bound of rows at times spread evenly, each [..., num_particles]."""
        time_key, noise_key, key = jax.random.split(key, 3)
        t = even(time_key, (), num_particles)
        keys, noises = (jax.random.split(k, num_particles) for k in (key, noise_key))
        one = lambda key, noise_key, t: self.bound_terms(key, jax.random.normal(noise_key, self.event_shape), t, x)
        return jax.vmap(one)(keys, noises, t)

    @lifted("event")
    def log_prob_ode(self, x: Array, *, flow: ProbabilityFlow = _EXACT_TRACE) -> Array:
        """Return log p(x) of reals [..., *event_shape] by the probability-flow ODE, in nats, [...].

        It is no bound: its error has either sign. It is that of the solver, whose tolerance is of a step
        (`ProbabilityFlow` has figures of the whole); of the noise that data have at λ(0); and of the signal that is
        left at λ(1), where N(0, I) stands for N(α m, …).

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

    @verb
    def push(self, message: Message, x: np.ndarray) -> None:
        """Write events [lanes, *event_shape], layer by layer (bits-back); of a `stepwise` model."""
        push_chain(self, message, x)

    @verb
    def pop(self, message: Message) -> np.ndarray:
        """Read events [lanes, *event_shape]."""
        return pop_chain(self, message)

    def _data_of(self, noise: Array, flow: ProbabilityFlow) -> dist.Distribution:
        """Return p(x | z) at the ends of the ODE from rows of noise."""
        ends = self.sde.log_snr(1.0), self.sde.log_snr(0.0)
        end_of = lambda noise: flow.follow(self.denoiser, noise, ends, density=False)[0]
        z = vectorize(end_of, self.event_dim)(noise)
        x = vectorize(lambda z: self.denoiser.checked(z, ends[1]), self.event_dim)(z)
        return self.decoder(z, x, ends[1]).to_event(self.event_dim)
