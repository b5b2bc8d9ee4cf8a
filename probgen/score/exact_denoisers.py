"""Exact denoisers, of normals and of their mixtures: the oracles of all others."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import cho_solve, solve_triangular

from probgen.core import check_numbers, in_words
from probgen.score.denoiser import Denoiser
from probgen.score.sde import coefficients


class GaussianDenoiser(Denoiser):
    """The exact denoiser of x ~ Normal(m, S), where S is diagonal or not: an oracle.

        E[x | z] = m + α S u,   E[ε | z] = σ u,   ∇ log p(z) = −u,   u = (α² S + σ² I)⁻¹ (z − α m)

    Args:
        loc: m, of the event's shape, or one number.
        scale: s > 0 where S = diag(s²), of the event's shape, or one number.
        covariance: S otherwise, positive definite, [D, D], D the size of an event.

    Raises ValueError where S is given in both forms, or in neither, or is not positive; where it is called, where the
    shapes are not the event's.

    >>> import jax.numpy as jnp
    >>> GaussianDenoiser(jnp.array(1.0), jnp.array(2.0))(jnp.array(0.0), jnp.array(-80.0)).item()
    1.0
    """

    loc: Array
    scale: Array | None = None
    covariance: Array | None = eqx.field(default=None, kw_only=True)

    def __check_init__(self) -> None:
        _check_spread(self.scale, self.covariance)

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z]."""
        u = self._whitened(z, log_snr)
        full: Any = self.covariance
        spread = self.scale**2 * u if self.scale is not None else (full @ u.reshape(-1)).reshape(z.shape)
        return self.loc + coefficients(log_snr)[0] * spread

    def noise(self, z: Array, log_snr: Array) -> Array:
        """Return E[ε | z]."""
        return coefficients(log_snr)[1] * self._whitened(z, log_snr)

    def score(self, z: Array, log_snr: Array) -> Array:
        """Return ∇ log p(z)."""
        return -self._whitened(z, log_snr)

    def log_prob(self, z: Array, log_snr: Array) -> Array:
        """Return log p(z), in nats."""
        off, root = self._off(z, log_snr), self._root(log_snr)
        if self.scale is not None:
            return jnp.sum(jax.scipy.stats.norm.logpdf(off / root) - jnp.log(root))
        white = solve_triangular(root, off.reshape(-1), lower=True)
        return jnp.sum(jax.scipy.stats.norm.logpdf(white) - jnp.log(jnp.diagonal(root)))

    def _whitened(self, z: Array, log_snr: Array) -> Array:
        off, root = self._off(z, log_snr), self._root(log_snr)
        if self.scale is not None:
            return off / root**2
        return cho_solve((root, True), off.reshape(-1)).reshape(z.shape)

    def _off(self, z: Array, log_snr: Array) -> Array:
        """Return z − α m."""
        for name, x in {"loc": self.loc, "scale": 1.0 if self.scale is None else self.scale}.items():
            axes = zip(jnp.shape(x)[::-1], z.shape[::-1], strict=False)
            if jnp.ndim(x) > z.ndim or any(a not in (1, b) for a, b in axes):
                raise ValueError(f"{name}: expected the event's shape {z.shape}, or one number, got {in_words(x)}")
        if self.covariance is not None and len(self.covariance) != z.size:
            raise ValueError(f"covariance: expected [{z.size}, {z.size}], got {in_words(self.covariance)}")
        return z - coefficients(log_snr)[0] * self.loc

    def _root(self, log_snr: Array) -> Array:
        """Return the deviations of z, or the Cholesky factor of its covariance."""
        alpha, sigma = coefficients(log_snr)
        if self.scale is not None:
            return jnp.sqrt((alpha * self.scale) ** 2 + sigma**2)
        full: Any = self.covariance
        return jnp.linalg.cholesky(alpha**2 * full + sigma**2 * jnp.eye(len(full)))


class GaussianMixtureDenoiser(Denoiser):
    """The exact denoiser of a mixture Σ_k π_k Normal(m_k, S_k): an oracle with many modes.

        E[x | z] = Σ_k r_k E_k[x | z],   r_k ∝ π_k N(z; α m_k, α² S_k + σ² I)

    E[ε | z] and ∇ log p(z) are such means of the components' too; each of the three is found by itself, so that none
    loses digits at either end of λ.

    Args:
        weights: π, [K], positive, of any sum.
        loc: m, [K, *event].
        scale: s > 0 where S_k = diag(s_k²), [K, *event], or one number.
        covariance: S otherwise, positive definite, [K, D, D], D the size of an event.

    Raises ValueError where the shapes do not fit, a weight is negative, or S is given in both forms, or in neither.

    >>> import jax.numpy as jnp
    >>> denoiser = GaussianMixtureDenoiser(jnp.array([1.0, 3.0]), jnp.array([[-1.0], [1.0]]), jnp.array(0.1))
    >>> denoiser(jnp.zeros(1), jnp.array(-80.0)).tolist()  # nothing is known: the mean
    [0.5]
    """

    weights: Array
    loc: Array
    scale: Array | None = None
    covariance: Array | None = eqx.field(default=None, kw_only=True)

    def __check_init__(self) -> None:
        _check_spread(self.scale, self.covariance)
        shape = jnp.shape(self.weights)
        if len(shape) != 1 or jnp.shape(self.loc)[:1] != shape:
            raise ValueError(f"weights, loc: expected [K] and [K, *event], got {shape} and {jnp.shape(self.loc)}")
        if self.covariance is not None and jnp.shape(self.covariance)[:1] != shape:
            raise ValueError(f"covariance: expected [{shape[0]}, D, D], got {jnp.shape(self.covariance)}")
        if not isinstance(self.weights, jax.core.Tracer) and not (self.weights >= 0).all():
            raise ValueError(f"weights: expected positive numbers, got {self.weights}")

    def __call__(self, z: Array, log_snr: Array) -> Array:
        """Return E[x | z]."""
        return self._mean(lambda d: d(z, log_snr), z, log_snr)

    def noise(self, z: Array, log_snr: Array) -> Array:
        """Return E[ε | z]."""
        return self._mean(lambda d: d.noise(z, log_snr), z, log_snr)

    def score(self, z: Array, log_snr: Array) -> Array:
        """Return ∇ log p(z)."""
        return self._mean(lambda d: d.score(z, log_snr), z, log_snr)

    def log_prob(self, z: Array, log_snr: Array) -> Array:
        """Return log p(z), in nats."""
        return jax.nn.logsumexp(self._log_joint(z, log_snr))

    def log_posterior(self, z: Array, log_snr: Array) -> Array:
        """Return log r, [K]: the log-probabilities of the components given z, an exact classifier."""
        return jax.nn.log_softmax(self._log_joint(z, log_snr))

    def _log_joint(self, z: Array, log_snr: Array) -> Array:
        log_weights = jnp.log(self.weights) - jnp.log(jnp.sum(self.weights))
        return log_weights + jax.vmap(lambda d: d.log_prob(z, log_snr))(self._components)

    def _mean(self, of_component: Callable[[GaussianDenoiser], Array], z: Array, log_snr: Array) -> Array:
        share = jnp.exp(self.log_posterior(z, log_snr))
        return jnp.tensordot(share, jax.vmap(of_component)(self._components), 1)

    @property
    def _components(self) -> GaussianDenoiser:
        scale = None if self.scale is None else jnp.broadcast_to(self.scale, self.loc.shape)
        return GaussianDenoiser(self.loc, scale, covariance=self.covariance)


def _check_spread(scale: Array | None, covariance: Array | None) -> None:
    if (scale is None) == (covariance is None):
        got = "neither" if scale is None else "both"
        raise ValueError(f"scale, covariance: expected one of them, got {got}")
    if scale is not None:
        check_numbers(positive=True, scale=scale)
    elif not isinstance(covariance, jax.core.Tracer) and not _is_definite(np.asarray(covariance)):
        raise ValueError(f"covariance: expected a positive definite matrix, got {covariance}")


def _is_definite(matrix: np.ndarray) -> bool:
    if matrix.shape[-1:] != matrix.shape[-2:-1] or not np.allclose(matrix, matrix.swapaxes(-1, -2)):
        return False
    try:
        return bool(np.isfinite(np.linalg.cholesky(matrix)).all())
    except np.linalg.LinAlgError:
        return False
