"""Samplers whose steps adapt: as many as a tolerance asks for, for each draw by itself."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from probgen.bijectors import ODESolver
from probgen.score.denoiser import Denoise
from probgen.score.sampler import Sampler
from probgen.score.sde import SDE, coefficients


@dataclass(frozen=True)
class _Adaptive(Sampler):
    """The base of samplers by diffrax. A subclass writes `_solution` at unit scale, of y(t) = x_t / c."""

    tolerance: float
    max_steps: int = 4096

    def __post_init__(self) -> None:
        self._solver()  # which judges the numbers

    def _solver(self) -> ODESolver:
        return ODESolver(self.tolerance, max_steps=self.max_steps)

    def _solution(self, key: Array, denoise: Denoise, sde: SDE, z: Array, *, every: bool) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _solution")

    def _calls(self, steps: Array) -> Array:
        raise NotImplementedError(f"{type(self).__name__} has no _calls")

    def __call__(self, key: Array, denoise: Denoise, sde: SDE, z: Array) -> Array:
        """Take all steps from z at t = 1, and return z at t = 0."""
        return self._solution(key, denoise, sde, z, every=False).ys[-1] * sde.scale(0.0)

    def path(self, key: Array, denoise: Denoise, sde: SDE, z: Array) -> Array:
        """Take all steps from z at t = 1, and return z after each of them; the last one stands for those that were not
        needed, [max_steps + 1, *event_shape]."""
        found = self._solution(key, denoise, sde, z, every=True)
        taken = jnp.minimum(jnp.arange(self.max_steps + 1), found.stats["num_accepted_steps"])
        scale = jax.vmap(sde.scale)(found.ts[taken]).reshape(-1, *[1] * z.ndim)
        return found.ys[taken] * scale

    def calls(self, key: Array, denoise: Denoise, sde: SDE, z: Array) -> Array:
        """Return how often `denoise` is called on the way from z at t = 1 to t = 0, rejected steps included."""
        return self._calls(self._solution(key, denoise, sde, z, every=False).stats["num_steps"])


@dataclass(frozen=True)
class AdaptiveODE(_Adaptive):
    """The probability-flow ODE by Tsitouras' method of order 5, with steps that a tolerance sets.

        dx/dt = f x − ½ g² ∇ log p_t(x)

    Args:
        tolerance: of a step, relative and absolute, at unit scale.
        max_steps: after which it raises.

    Raises ValueError where one is out of its range, or the tolerance is less than the numbers' precision allows.

    References: Score-Based Generative Modeling through SDEs (Song et al. 2021), arXiv:2011.13456, section 4.3.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR, ScoreModel
    >>> one = GaussianDenoiser(jnp.array(3.0), jnp.array(0.1))
    >>> ScoreModel(one, LinearLogSNR(), (), sampler=AdaptiveODE()).sample(jax.random.key(0)).round(0).item()
    3.0
    """

    tolerance: float = 1e-4

    def _solution(self, key: Array, denoise: Denoise, sde: SDE, z: Array, *, every: bool) -> Any:
        def rate(t: Array, y: Array, _: Any) -> Array:
            alpha, _ = coefficients(sde.log_snr(t))
            return 0.5 * sde.log_snr_rate(t) * alpha * (denoise(sde.scale(t) * y, t) - alpha * y)

        return self._solver().integrate(rate, z / sde.scale(1.0), (1.0, 0.0), every=every)

    def _calls(self, steps: Array) -> Array:
        return 6 * steps + 1  # the last evaluation of a step is the first of the next


@dataclass(frozen=True)
class AdaptiveSDE(_Adaptive):
    """The reverse SDE by the shifted additive-noise Runge–Kutta method of strong order 1.5, with steps that a tolerance
    sets.

        dx = (f x − g² ∇ log p_t(x)) dt + g dw̄

    The noise is a Brownian path that the key alone determines (a virtual tree), so that a step that is rejected and
    taken again in parts sees the same path, and the choice of steps does not bias the draws.

    Args:
        tolerance: of a step, relative and absolute, at unit scale.
        max_steps: after which it raises.

    Raises ValueError where one is out of its range, or the tolerance is less than the numbers' precision allows.

    References: Gotta Go Fast When Generating Data with Score-Based Models (Jolicoeur-Martineau, Li, Piché-Taillefer,
    Kachman, Mitliagkas 2021), arXiv:2105.14080; High order splitting methods for SDEs satisfying a commutativity
    condition (Foster, dos Reis, Strange 2023), arXiv:2210.17543; Single-seed generation of Brownian paths and
    integrals for adaptive and high order SDE solvers (Jelinčič, Foster, Kidger 2024), arXiv:2405.06464.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser, LinearLogSNR, ScoreModel
    >>> one = GaussianDenoiser(jnp.array(3.0), jnp.array(0.1))
    >>> ScoreModel(one, LinearLogSNR(), (), sampler=AdaptiveSDE()).sample(jax.random.key(0)).round(0).item()
    3.0
    """

    tolerance: float = 1e-2

    def _solution(self, key: Array, denoise: Denoise, sde: SDE, z: Array, *, every: bool) -> Any:
        import diffrax
        import lineax

        self._solver().check_precision(z.dtype)
        at = lambda s: (1.0 - s, sde.log_snr(1.0 - s), sde.log_snr_rate(1.0 - s))  # s runs forwards, t = 1 − s

        def drift(s: Any, y: Array, _: Any) -> Array:
            t, log_snr, rate = at(s)
            (alpha, sigma), y = coefficients(log_snr), y.reshape(z.shape)
            return -rate * (alpha * denoise(sde.scale(t) * y, t) - (1.0 - 0.5 * sigma**2) * y).ravel()

        def diffusion(s: Any, y: Array, _: Any) -> Any:
            _, log_snr, rate = at(s)
            g = coefficients(log_snr)[1] * jnp.sqrt(-rate)
            return lineax.DiagonalLinearOperator(jnp.full(y.shape, g, y.dtype))

        shape = jax.ShapeDtypeStruct((z.size,), z.dtype)
        noise = diffrax.VirtualBrownianTree(
            0.0, 1.0, tol=_FINEST / 2, shape=shape, key=key, levy_area=diffrax.SpaceTimeLevyArea
        )
        found = diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, noise)),
            diffrax.ShARK(),
            *(jnp.asarray(end, z.dtype) for end in (0.0, 1.0)),
            jnp.asarray(_FIRST, z.dtype),
            (z / sde.scale(1.0)).ravel(),
            stepsize_controller=diffrax.PIDController(
                rtol=self.tolerance, atol=self.tolerance, pcoeff=0.1, icoeff=0.3, dtmin=_FINEST
            ),
            saveat=diffrax.SaveAt(t0=True, steps=True) if every else diffrax.SaveAt(t1=True),
            max_steps=self.max_steps,
        )
        return _Found(found.ys.reshape(-1, *z.shape), None if found.ts is None else 1.0 - found.ts, found.stats)

    def _calls(self, steps: Array) -> Array:
        return 2 * steps


@dataclass(frozen=True)
class _Found:
    ys: Array
    ts: Any  # where every step is kept
    stats: dict[str, Any]


_FINEST, _FIRST = 2.0**-18, 1e-2  # the shortest step against t, and the first
