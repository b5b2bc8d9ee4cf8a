"""Inverse problems: denoisers of the posterior given y = A x + s ε, around the denoiser of the prior."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.sparse.linalg import cg
from jax.scipy.stats import norm

from probgen.core import (
    as_number,
    as_numbers,
    check_functions,
    check_numbers,
    check_positive,
    check_sizes,
    given,
    in_words,
    static_functions,
)
from probgen.score.denoiser import Denoiser
from probgen.score.sde import coefficients

_CG_STEPS = 32


def _array(name: str) -> Callable[[Any], Array]:
    def convert(x: Any) -> Array:
        as_numbers(name, x)
        return jnp.asarray(x)

    return convert


def _operator(operator: Any) -> Any:
    """Return a matrix that is written as lists as an array."""
    matrix = isinstance(operator, list | tuple)
    return jnp.asarray(as_numbers("operator", operator), float) if matrix else static_functions(operator)


class Measurement(eqx.Module):
    """What was seen of one event: y = A x + s ε, ε ~ Normal(0, I), with a linear A.

    Where the data are integers, x is where the decoder places them. Nothing in it learns.

    Args:
        y: what was seen, of any shape.
        operator: A: any callable pytree x ↦ A x that JAX can differentiate, or a matrix [M, D] of events' D numbers in
            a row and y's M.
        scale: s > 0, one number, or of the shape of y.

    Raises ValueError where y is not finite, the scale is not positive, or, once it is called, where A x has another
    shape than y.

    >>> import jax.numpy as jnp
    >>> seen = Measurement(jnp.array([1.0]), jnp.array([[1.0, 1.0]]), 0.5)
    >>> round(seen.log_likelihood(jnp.array([0.25, 0.75])).item(), 3)  # −log √(2π) 0.5
    -0.226
    """

    y: Array = given(converter=_array("y"))
    operator: Any = given(converter=_operator)
    scale: Array = given(converter=_array("scale"))

    def __check_init__(self) -> None:
        matrix = isinstance(self.operator, jax.Array | np.ndarray)
        if not matrix:
            check_functions("A x", operator=self.operator)
        elif self.operator.ndim != self.y.ndim + 1:
            found = in_words(self.operator)
            raise ValueError(f"operator: expected a matrix, one row for each number of y, got {found}")
        check_numbers(y=self.y)
        check_numbers(positive=True, scale=self.scale)

    def __call__(self, x: Array) -> Array:
        """Return A x."""
        matrix = isinstance(self.operator, jax.Array | np.ndarray)
        if matrix and self.operator.shape[-1] != x.size:
            raise ValueError(f"operator: expected a matrix of {x.size} columns, got {in_words(self.operator)}")
        seen: Array = self.operator @ x.reshape(-1) if matrix else self.operator(x)
        if seen.shape != self.y.shape:
            raise ValueError(f"operator: expected A x of y's shape {self.y.shape}, got {seen.shape}")
        return seen

    def log_likelihood(self, x: Array) -> Array:
        """Return log p(y | x), in nats."""
        return jnp.sum(norm.logpdf(self.y, self(x), self.scale))

    def twist(self, x: Array, log_snr: Array) -> Array:
        """Return log N(y; A x̂, s² I + σ² A Aᵀ) but for a constant: what x̂ foretells, where x | z has the variance σ².

        It is the `twist` of `twisted` by which particles follow a small s.
        """
        seen, transposed = jax.vjp(self, x)
        residual, variance = self.y - seen, coefficients(log_snr)[1] ** 2
        spread = lambda u: jax.jvp(self, (x,), transposed(u))[1]
        solved = cg(lambda u: self.scale**2 * u + variance * spread(u), residual, maxiter=_CG_STEPS)[0]
        return -0.5 * jnp.vdot(residual, solved)


class _Observed(eqx.Module):
    """x ↦ its numbers at some places."""

    places: Array

    def __call__(self, x: Array) -> Array:
        return x.reshape(-1)[self.places]


def inpainting(y: Array, mask: Array, scale: float) -> Measurement:
    """Return the measurement that sees an event where a mask is true, with noise.

    Args:
        y: an event; what it has where the mask is false is not read.
        mask: of booleans, of the event's shape; True where y was seen.
        scale: s > 0, the standard deviation of the noise; where there is none, a small number.

    Raises ValueError where the mask is not boolean, has another shape than y, or is nowhere true; where y is not finite
    there, or the scale is not positive.

    >>> import jax.numpy as jnp
    >>> inpainting(jnp.array([1.0, jnp.nan]), jnp.array([True, False]), 0.1).y.tolist()
    [1.0]
    """
    y, seen = jnp.asarray(as_numbers("y", y)), np.asarray(mask)
    if seen.dtype != bool:
        raise ValueError(f"mask: expected booleans, got dtype {seen.dtype}")
    if seen.shape != y.shape:
        raise ValueError(f"mask: expected the shape of y, {y.shape}, got {seen.shape}")
    if not seen.any():
        raise ValueError("mask: expected True somewhere, got False everywhere")
    observed = _Observed(jnp.flatnonzero(seen))
    return Measurement(observed(y), observed, jnp.asarray(scale))


class Look(NamedTuple):
    """What a `PosteriorDenoiser` solves with at one z: the products with (∂x̂/∂z)ᵀ, A and Aᵀ, and σ²/α."""

    pull: Callable[[Array], Array]
    operator: Callable[[Array], Array]
    transposed: Callable[[Array], Array]
    ratio: Array


class PosteriorDenoiser(Denoiser):
    """The base of denoisers of p(x | y), which differ in what they take p(x | z) for, beside its mean x̂:

        x̂ + σ²/α ∇ log N(y; A x̂, s² I + A C Aᵀ),   ∇ … = (∂x̂/∂z)ᵀ Aᵀ (s² I + A C Aᵀ)⁻¹ (y − A x̂)

    A subclass writes `solved(residual, look, log_snr)`, the last two factors, by the products with (∂x̂/∂z)ᵀ, A and Aᵀ,
    `look.pull`, `look.operator` and `look.transposed`. An A that is not linear is taken as it is near x̂. One call
    costs one of the denoiser and a few products with its Jacobian. Samplers take it as any denoiser,
    `model.replace(denoiser=…)`; for many y, `jax.vmap` over what makes it.

    Args:
        denoiser: of the prior.
        measurement: y, A and s.

    Raises ValueError where one is of another kind.
    """

    coherent: ClassVar[bool] = False
    denoiser: Denoiser
    measurement: Measurement

    def __check_init__(self) -> None:
        for name, kind in {"denoiser": Denoiser, "measurement": Measurement}.items():
            if not isinstance(part := getattr(self, name), kind):
                raise ValueError(f"{name}: expected a score.{kind.__name__}, got {in_words(part)}")

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z, y]."""
        alpha, sigma = coefficients(log_snr)
        x, pull = jax.vjp(lambda z: self.denoiser.checked(z, log_snr), z)
        seen, transposed = jax.vjp(self.measurement, x)
        operator = lambda v: jax.jvp(self.measurement, (x,), (v,))[1]
        look = Look(lambda v: pull(v)[0], operator, lambda u: transposed(u)[0], sigma**2 / alpha)
        found = self.solved(self.measurement.y - seen, look, log_snr)
        return x + look.ratio * look.pull(look.transposed(found))

    def solved(self, residual: Array, look: Look, log_snr: Array) -> Array:
        """Return (s² I + A C Aᵀ)⁻¹ (y − A x̂)."""
        raise NotImplementedError(f"{type(self).__name__} has no solved: write solved(residual, look, log_snr)")


class _ByConjugateGradients(PosteriorDenoiser):
    """The base of those that solve for the last factor; a subclass writes `covariance(v, look, log_snr)`, C v."""

    max_steps: int = eqx.field(static=True, default=_CG_STEPS, kw_only=True)
    tolerance: float = eqx.field(static=True, default=1e-5, converter=as_number, kw_only=True)

    def __check_init__(self) -> None:
        check_sizes(max_steps=self.max_steps)
        check_positive(tolerance=self.tolerance)

    def solved(self, residual: Array, look: Look, log_snr: Array) -> Array:
        """Return (s² I + A C Aᵀ)⁻¹ (y − A x̂)."""

        def product(u: Array) -> Array:
            spread = look.operator(self.covariance(look.transposed(u), look, log_snr))
            return self.measurement.scale**2 * u + spread

        return cg(product, residual, tol=self.tolerance, maxiter=self.max_steps)[0]

    def covariance(self, v: Array, look: Look, log_snr: Array) -> Array:
        """Return C v."""
        raise NotImplementedError(f"{type(self).__name__} has no covariance: write covariance(v, look, log_snr)")


class MomentMatching(_ByConjugateGradients):
    """The denoiser of p(x | y) that takes p(x | z) for the normal of its own mean and covariance:

        C = V[x | z] = σ²/α ∂x̂/∂z        (the second-order Tweedie formula)

    It is exact where the prior is normal. C is never formed: each step of conjugate gradients is a product with the
    Jacobian, which is symmetric as far as the denoiser is exact.

    Args:
        denoiser: of the prior.
        measurement: y, A and s.
        max_steps: of conjugate gradients, at most; few make it less sure, and cheaper.
        tolerance: where they stop, relative to |y − A x̂|.

    Raises ValueError where an argument is out of its range.

    References: Learning Diffusion Priors from Observations by Expectation Maximization (Rozet, Andry, Lanusse, Louppe
    2024), arXiv:2405.13712, section 4.2.

    >>> import jax.numpy as jnp
    >>> from probgen.score import GaussianDenoiser
    >>> prior, seen = GaussianDenoiser(jnp.zeros(2), jnp.array(1.0)), Measurement(jnp.ones(1), jnp.eye(1, 2), 1.0)
    >>> MomentMatching(prior, seen)(jnp.zeros(2), jnp.array(-40.0)).round(4).tolist()  # the posterior's mean
    [0.5, 0.0]
    """

    def covariance(self, v: Array, look: Look, log_snr: Array) -> Array:
        """Return σ²/α ∂x̂/∂z v."""
        return look.ratio * look.pull(v)


class PseudoinverseGuidance(_ByConjugateGradients):
    """ΠGDM: the denoiser of p(x | y) that takes p(x | z) for a normal of the same variance everywhere:

        C = r² I,   r² = σ² p² / (α² p² + σ²)

    that of x ~ Normal(0, p² I) with noise. Without noise, s → 0, it is guidance by the pseudoinverse of A.

    Args:
        denoiser: of the prior.
        measurement: y, A and s.
        max_steps: of conjugate gradients, at most.
        tolerance: where they stop, relative to |y − A x̂|.
        prior_scale: p, the standard deviation of the (centred) data.

    Raises ValueError where an argument is out of its range.

    References: Pseudoinverse-Guided Diffusion Models for Inverse Problems (Song, Vahdat, Mardani, Kautz 2023), ICLR.
    """

    prior_scale: float = eqx.field(static=True, default=1.0, converter=as_number, kw_only=True)

    def __check_init__(self) -> None:
        check_positive(prior_scale=self.prior_scale)

    def covariance(self, v: Array, look: Look, log_snr: Array) -> Array:
        """Return r² v."""
        alpha, sigma = coefficients(log_snr)
        return (sigma * self.prior_scale) ** 2 / ((alpha * self.prior_scale) ** 2 + sigma**2) * v


class PosteriorSampling(PosteriorDenoiser):
    """DPS: the denoiser of p(x | y) that takes p(x | z) for its mean, C = 0.

    It is biased towards y, the more the noise is, and where s is small its scores are so large that few samplers
    follow. `zeta` takes the place of the likelihood's slope, |y − A x̂| / s², as in the published algorithm, whose
    steps have one length whatever the residual; s does nothing then.

    Args:
        denoiser: of the prior.
        measurement: y, A and s.
        zeta: ζ > 0, a slope; None for the likelihood's.

    Raises ValueError where an argument is out of its range.

    References: Diffusion Posterior Sampling for General Noisy Inverse Problems (Chung, Kim, Mccann, Klasky, Ye 2023),
    arXiv:2209.14687, theorem 1 and section 3.2.
    """

    zeta: float | None = eqx.field(static=True, default=None, converter=as_number, kw_only=True)

    def __check_init__(self) -> None:
        if self.zeta is not None:
            check_positive(zeta=self.zeta)

    def solved(self, residual: Array, look: Look, log_snr: Array) -> Array:
        """Return (y − A x̂) / s², or its direction times ζ."""
        if self.zeta is None:
            return residual / self.measurement.scale**2
        size = jnp.sqrt(jnp.sum(residual**2))
        return self.zeta * residual / jnp.where(size > 0, size, 1.0)
