"""What a score model is trained on: p(λ) × weight(λ) × ‖v − x̂‖² of data v and denoiser x̂, its bound, or no data at all.

A loss is the argument `loss=` of a `ScoreModel`; what the model reports stays its bound.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import check_sizes, map_batch, split_key
from probgen.distributions.in_blocks import map_particles
from probgen.score.coupling import Coupling, Independent
from probgen.score.learned_schedule import LearnedLogSNR
from probgen.score.noise_levels import NoiseLevels, OfNormal, OfSchedule
from probgen.score.sde import coefficients
from probgen.score.weights import EDMWeight, NoiseWeight, VelocityWeight, Weight

_OF_NOISE, _OF_SCHEDULE, _INDEPENDENT = NoiseWeight(), OfSchedule(), Independent()


@dataclass(frozen=True)
class Loss:
    """The base of losses. A subclass writes `event(model, key, noise, t, x)` for one event.

    Its mean over t ~ Uniform(0, 1) and noise ε ~ Normal(0, I) is what is minimized; key draws what else is random.
    Times are spread evenly over the rows and particles of a batch, uniform for each of them.
    """

    is_bound = False  # whether it is minus a lower bound of log p(x)
    scores = True  # whether the denoiser of which it is least has the scores of the data with noise

    def event(self, model: Any, key: Array, noise: Array, t: Array, x: Array) -> Array:
        """Return the loss of one event."""
        raise NotImplementedError(f"{type(self).__name__} has no event")

    def coupled(self, noise: Array, v: Array, event_dim: int) -> Array:
        """Return the noise of rows of data v: as it was drawn."""
        return noise

    def __call__(self, model: Any, key: Array, t: Array, x: Array) -> Array:
        """Return the loss of rows [*rows, *event_shape], the mean over their times [*rows, K]."""
        t = jnp.moveaxis(t, -1, 0)
        noise_key, key = jax.random.split(key)

        def particle(noise_key: Array, keys: Array, t: Array) -> Array:
            noise = self.coupled(jax.random.normal(noise_key, x.shape), model.decoder.place(x), model.event_dim)
            event = lambda _, *args: self.event(model, *args)
            return map_batch(event, None, (), (keys, noise, t, x), (0, model.event_dim, 0, model.event_dim))

        keys = jax.random.split(noise_key, len(t)), split_key(key, t.shape)
        return jnp.mean(map_particles(particle, (*keys, t), x.size), 0)


@dataclass(frozen=True)
class Bound(Loss):
    """Minus the model's variational bound, in nats: what it reports.

    ½ E_t[−λ'(t) ‖ε − ε̂‖²] is the loss of score matching with likelihood weighting, g²; what the bound has beside it
    (the decoder, and the mismatch of the prior) trains what else there is: a decoder, the ends of a `LearnedLogSNR`,
    whose interior is trained on the variance of the estimate instead.

    References: Variational Diffusion Models (Kingma, Salimans, Poole, Ho 2021), arXiv:2107.00630; Maximum Likelihood
    Training of Score-Based Diffusion Models (Song, Durkan, Murray, Ermon 2021), arXiv:2101.09258.
    """

    is_bound = True

    def event(self, model: Any, key: Array, noise: Array, t: Array, x: Array) -> Array:
        """Return the loss of one event."""
        if not isinstance(model.sde, LearnedLogSNR):
            return -model.bound_event(key, noise, t, x)
        # the ends of a learned schedule are trained on the bound; its interior, which leaves the bound's mean as it is,
        # on the variance: E d² of the diffusion term d, of which only d's own slope by λ(t) and the weight is needed
        ends, interior = model.sde.with_interior_held(), model.sde.with_ends_held()
        held, free = (model.replace(sde=sde).diffusion_weight(t) for sde in (ends, interior))
        terms = lambda *at: model.replace(sde=ends).terms_at(key, noise, at, x)
        diffusion, pull, found = jax.vjp(lambda *at: ((f := terms(*at)).diffusion, f), *held, has_aux=True)
        slopes = lax.stop_gradient([diffusion * slope for slope in pull(jnp.ones_like(diffusion))])
        spread = sum(slope * (at - lax.stop_gradient(at)) for slope, at in zip(slopes, free, strict=True))
        return spread / noise.size - found.total()


@dataclass(frozen=True)
class Denoising(Loss):
    """Denoising score matching: the squared error of the denoiser, weighted.

        E_{λ ~ p, ε} [w(λ) ‖v − x̂(z)‖²],   z = α v + σ ε

    Every w gives the same optimum, x̂ = E[v | z]; what of it a network finds depends on p and w.

    Args:
        weight: w; by default that of `NoiseWeight`, the error of ε̂.
        levels: p, from which λ is drawn; by default the schedule's own at uniform times.
        coupling: of data and noise, which are independent by default.

    References: A Connection Between Score Matching and Denoising Autoencoders (Vincent 2011), Neural Computation 23;
    Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation (Kingma, Gao 2023), arXiv:2303.00848.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR, ScoreModel
    >>> exact = GaussianDenoiser(jnp.array(0.0), jnp.array(1.0))
    >>> model = ScoreModel(exact, LinearLogSNR(), (2,), loss=Denoising())
    >>> model.training_loss(jax.random.key(0), jnp.ones((5, 2))).shape
    (5,)
    """

    weight: Weight = _OF_NOISE
    levels: NoiseLevels = _OF_SCHEDULE
    coupling: Coupling = _INDEPENDENT

    @property
    def scores(self) -> bool:  # type: ignore[override]
        """Whether x̂ tends to E[v | z] of data and noise that are independent."""
        return isinstance(self.coupling, Independent)

    def coupled(self, noise: Array, v: Array, event_dim: int) -> Array:
        """Return the noise of rows of data v, as the coupling deals it out."""
        return self.coupling(noise, v, event_dim)

    def event(self, model: Any, key: Array, noise: Array, t: Array, x: Array) -> Array:
        """Return the loss of one event."""
        log_snr, density = self.levels(model.sde, t)
        v = model.decoder.place(x)
        alpha, sigma = coefficients(log_snr)
        missed = jnp.sum((v - model.denoiser.checked(alpha * v + sigma * noise, log_snr)) ** 2)
        return self.weight(log_snr, density) * missed


@dataclass(frozen=True)
class Implicit(Loss):
    """Implicit score matching of data with noise: no word of what the data were before it.

        E_t [σ² ‖s‖² + 2 σ² tr ∂s/∂z] = E_t ‖ε − ε̂‖² − D,   s = ∇ log p(z)

    The trace is exact, at D products with the Jacobian; or sliced, vᵀ (∂s/∂z) v with Rademacher v, which is unbiased.
    It equals `Denoising()` up to a constant, at more cost and variance; it is for what cannot be denoised, and to see
    that.

    Args:
        probes: how many v; None for the exact trace.

    References: Estimation of Non-Normalized Statistical Models by Score Matching (Hyvärinen 2005), JMLR 6; Sliced Score
    Matching (Song, Garg, Shi, Ermon 2019), arXiv:1905.07088.
    """

    probes: int | None = None

    def __post_init__(self) -> None:
        if self.probes is not None:
            check_sizes(probes=self.probes)

    def event(self, model: Any, key: Array, noise: Array, t: Array, x: Array) -> Array:
        """Return the loss of one event."""
        log_snr = model.sde.log_snr(t)
        alpha, sigma = coefficients(log_snr)
        # −ε̂ = σ s
        value, product = jax.linearize(
            lambda z: -model.denoiser.noise(z, log_snr), alpha * model.decoder.place(x) + sigma * noise
        )
        if self.probes is None:
            vectors = jnp.eye(noise.size, dtype=noise.dtype).reshape(noise.size, *noise.shape)
        else:
            vectors = jax.random.rademacher(key, (self.probes, *noise.shape), noise.dtype)
        trace = jnp.sum(vectors * jax.vmap(product)(vectors)) / (self.probes or 1)
        return jnp.sum(value**2) + 2.0 * sigma * trace


def edm_loss(scale: float = 1.0, *, mean: float = -1.2, std: float = 1.2) -> Denoising:
    """Return EDM's loss: log σ/α ~ Normal(mean, std²), and the weight that makes the error of F count everywhere alike.

        w(λ) = e^λ + 1/s² = (ρ² + s²) / (ρ s)²,   ρ = σ/α

    Args:
        scale: s, the standard deviation of the data, as that of the `RealDenoiser`.
        mean: of log ρ.
        std: of log ρ.

    References: Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila, Laine 2022),
    arXiv:2206.00364, table 1.

    >>> edm_loss(0.5).weight.scale
    0.5
    """
    return Denoising(EDMWeight(scale), OfNormal(mean, std))


def flow_matching_loss(coupling: Coupling | None = None) -> Denoising:
    """Return flow matching's loss: the error of the velocity ε − v along straight lines from data to noise.

        E_{u, ε} ‖(ε − v) − (x_u − x̂)/u‖²,   x_u = (1 − u) v + u ε

    For a model whose SDE is `Straight`, whose times are u.

    Args:
        coupling: of data and noise, which are independent by default; `OptimalTransport()` straightens the paths.

    References: Flow Matching for Generative Modeling (Lipman, Chen, Ben-Hamu, Nickel, Le 2023), arXiv:2210.02747;
    Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (Tong et al. 2024),
    arXiv:2302.00482.

    >>> flow_matching_loss().scores
    True
    """
    return Denoising(VelocityWeight(), coupling=Independent() if coupling is None else coupling)
