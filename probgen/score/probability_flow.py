"""The probability-flow ODE of a score model: its densities, and the path between data and noise."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import constraints

from probgen.bijectors import ODESolver
from probgen.core import DensityKind
from probgen.distributions import Model
from probgen.score.decoder import NormalDecoder
from probgen.score.denoiser import Denoiser, check_coherent
from probgen.score.sde import coefficients


@dataclass(frozen=True)
class ProbabilityFlow(ODESolver):
    """How the ODE whose marginals are the score model's is solved, against λ, at unit scale:

        dz/dλ = ½ α (x̂(z, λ) − α z),   d log p(z)/dλ = −½ α (tr ∂x̂/∂z − α D)

    as `bijectors.ODESolver` says. **The tolerance is of a step**: over a whole path errors add up, the more the wider
    λ reaches. Of a normal of two numbers, λ from 14 to −18, the largest error of a log-density was

        tolerance   1e-2    1e-3     1e-4
        error       1.6     0.045    0.0016   nats

    so that a prior in NUTS wants 1e-3 or less: by 1e-2 the variances of a posterior came out too small.

    Args:
        tolerance: of a step, relative and absolute, in nats where it is of the density.
        probes: how many; None for the exact trace.
        seed: draws the probes.
        max_steps: of the solver, after which it raises.
        forward_mode: whether there are forward-mode derivatives too, which makes a gradient several times slower.

    Raises ValueError where one is out of its range, or the tolerance is less than the numbers' precision allows.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456, section 4.3.

    >>> import jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR, ScoreModel
    >>> model = ScoreModel(GaussianDenoiser(jnp.array(0.0), jnp.array(1.0)), LinearLogSNR(12.0, -12.0), (2,))
    >>> round(float(model.log_prob_ode(jnp.zeros(2))), 3)  # −log 2π
    -1.838
    """

    def follow(self, denoiser: Denoiser, z: Array, ends: tuple[Array, Array], *, density: bool) -> tuple[Array, Array]:
        """Return z at the second of two log-SNRs, and ∫ ½ α (tr ∂x̂/∂z − α D) dλ from the first to it; NaN
        where z is not finite.

        Args:
            denoiser: z, λ ↦ x̂.
            z: one event at the first log-SNR.
            ends: the log-SNRs.
            density: whether the integral is wanted; 0 otherwise.
        """

        def velocity(z: Array, log_snr: Array) -> Array:
            alpha = coefficients(log_snr)[0]
            return 0.5 * alpha * (denoiser.checked(z, log_snr) - alpha * z)

        finite = jnp.isfinite(z).all()  # a row that is not would keep all others until `max_steps`
        found = self.solve(velocity, jnp.where(finite, z, 0.0), ends, density=density)
        return tuple(jnp.where(finite, x, jnp.nan) for x in found)  # type: ignore[return-value]


def log_density(model: Any, z: Array, flow: ProbabilityFlow) -> Array:
    """Return log p(z) at the data's end of a `ScoreModel`'s ODE, z at unit scale."""
    ends = model.sde.log_snr(0.0), model.sde.log_snr(1.0)
    noise, integral = flow.follow(model.denoiser, z, ends, density=True)
    return jnp.sum(jax.scipy.stats.norm.logpdf(noise)) + integral


class ByFlow(Model):
    """A score model whose density is the ODE's, as far as its solver's steps are right.

        log p(x) = log p_ODE(α x) + D log α,   ∇ₓ log p(x) = α ∇ log p(z), z = α x:   α at λ(0)

    of reals, up to the noise e^{−λ(0)} that data have there. **The derivative by x is the score**, one call of the
    denoiser and no ODE; that by the model's params goes through the solver. The two agree as far as the denoiser's
    scores are the gradient of a density; where its loss says that there are no scores, the derivative by x goes through
    the solver too. Of integers, log p_ODE(z) + log p(x | z) − log q(z | x) at one draw from
    q(z | x) = N(α v, σ²): the weights of `log_prob_bound`, which are unbiased but for the tolerance.

    `ScoreModel.exact_by(flow)` makes it. To a program it is exact; how much it is off depends on its `tolerance`, that
    of a solver's step, of which it can be a hundred times as much: `ProbabilityFlow` has figures. In NUTS 1e-3 serves.

    Args:
        model: the `ScoreModel`.
        flow: how the ODE is solved.

    Raises ValueError where the denoiser is guided, so that its score is no derivative of this density.

    References: NUTS by the score of a flow or a diffusion, as in sbi's vector-field potentials (Tejero-Cantero et al.
    2020).
    """

    pytree_data_fields = ("model",)
    pytree_aux_fields = ("flow",)

    def __init__(self, model: Any, flow: ProbabilityFlow, *, validate_args: bool | None = None):
        if not isinstance(flow, ProbabilityFlow):
            raise ValueError(f"flow: expected a score.ProbabilityFlow, got {type(flow).__name__}")
        check_coherent(model.denoiser)
        self.model, self.flow = model, flow
        super().__init__(model.event_shape, validate_args=validate_args)

    @property
    def kind(self) -> DensityKind:  # type: ignore[override]
        """The kind "exact" of reals, "weights" of other data; both but for the solver's errors, so that their numbers
        are printed with "≈"."""
        return "exact" if isinstance(self._first().model.decoder, NormalDecoder) else "weights"

    @property
    def tolerance(self) -> float:  # type: ignore[override]
        """That of one step of the solver, in nats: the errors of a path's steps add up to more."""
        return self.flow.tolerance

    @property
    def support(self) -> constraints.Constraint:
        """The model's support."""
        return self._first().model.support

    def sample_event(self, key: Array) -> Array:
        """Draw noise, and follow the ODE to data."""
        noise_key, key = jax.random.split(key)
        noise = jax.random.normal(noise_key, self.event_shape)
        return self.model._data_of(noise, self.flow).sample(key)

    def log_prob_event(self, x: Array) -> Array:
        """Return log p(x)."""
        alpha, _ = coefficients(self.model.sde.log_snr(0.0))
        return self._log_density(alpha * x) + x.size * jnp.log(alpha)

    def log_weight_event(self, key: Array, x: Array) -> Array:
        """Return log p(z) + log p(x | z) − log q(z | x) at one draw z from q(z | x)."""
        log_snr, placed = self.model.sde.log_snr(0.0), self.model.decoder.place(x)
        alpha, sigma = coefficients(log_snr)
        eps = jax.random.normal(key, placed.shape)
        z = alpha * placed + sigma * eps
        given_z = self.model.decoder.log_prob(x, z, self.model.denoiser.checked(z, log_snr), log_snr)
        log_q = jnp.sum(jax.scipy.stats.norm.logpdf(eps) - jnp.log(sigma))
        return self._log_density(z) + given_z - log_q

    def _log_density(self, z: Array) -> Array:
        if self.model.loss.scores:
            return _log_density(self.model, self.flow, z)
        return log_density(self.model, z, self.flow)


@eqx.filter_custom_jvp
def _log_density(model: Any, flow: ProbabilityFlow, z: Array) -> Array:
    return log_density(model, z, flow)


@_log_density.def_jvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    model, flow, z = primals
    moved, _, dz = tangents
    rate = jnp.zeros((), z.dtype)
    if dz is not None:
        rate += jnp.vdot(model.denoiser.score(z, model.sde.log_snr(0.0)), dz)
    if any(leaf is not None for leaf in jax.tree.leaves(moved, is_leaf=lambda leaf: leaf is None)):
        of_model = lambda model: log_density(model, z, dataclasses.replace(flow, forward_mode=True))
        rate += eqx.filter_jvp(of_model, (model,), (moved,))[1]
    return _log_density(model, flow, z), rate
