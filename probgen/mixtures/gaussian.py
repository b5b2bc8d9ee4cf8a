"""The mixture of normals, by EM or by gradients, and the mixture density network."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.linalg import solve_triangular
from numpyro.distributions import constraints

from probgen.core import Steps, as_numbers, check_sizes, recipe
from probgen.distributions import ConditionalModel
from probgen.distributions.in_blocks import block_size, sum_over_rows
from probgen.distributions.step_codes import Stepwise
from probgen.mixtures.conditional import moved_by_context
from probgen.mixtures.gaussian_steps import GaussianSteps
from probgen.mixtures.kmeans import kmeans
from probgen.mixtures.mixture import Mixture

_BOUND = 20.0  # of |log σ|
_FARTHEST = 1e17  # of |x − μ| / σ: the square, summed over any event, is still a float32
_LEAST_SMOOTHING = 1e-6


class GaussianMixture(Stepwise, Mixture):
    """A mixture of K normals of D coordinates, whose covariances are full or diagonal.

        p(x) = Σ_k π_k Normal(x; μ_k, Σ_k),   Σ_k = (I − B_k)⁻¹ diag σ_k² (I − B_k)⁻ᵀ

    In each component, every coordinate is regressed on those before it, with coefficients B_k (strictly lower
    triangular) and residual scales σ_k; all numbers are unconstrained, and the density takes products only, so that
    its gradients are finite whatever they are.

    Args:
        logits: of the weights π, [K], learned.
        loc: μ, [K, D], learned.
        raw_scale: learned, with log σ = 20 tanh(raw / 20): [K, D] is raw, for diagonal covariances; [K, D, D] has raw
            on the diagonals and B below them (what lies above is not used).

    Raises ValueError where the shapes differ from these.

    References: A View of the EM Algorithm (Neal, Hinton 1998); Joint mean-covariance models: unconstrained
    parameterisation (Pourahmadi 1999); as a prior: VAE with a VampPrior (Tomczak, Welling 2018), arXiv:1705.07120.

    >>> import jax.numpy as jnp
    >>> model = GaussianMixture(jnp.zeros(3), jnp.zeros((3, 2)), jnp.zeros((3, 2)))
    >>> model.log_prob(jnp.zeros(2)).round(3)
    Array(-1.838, dtype=float32)
    >>> GaussianMixture(jnp.zeros(3), jnp.zeros((3, 2)), jnp.zeros((3, 2, 2))).covariance.shape
    (3, 2, 2)
    """

    pytree_data_fields = ("logits", "loc", "raw_scale")
    learnable_fields = ("logits", "loc", "raw_scale")
    support = constraints.real_vector

    def __init__(self, logits: Array, loc: Array, raw_scale: Array, *, validate_args: bool | None = None):
        self.logits, self.loc, self.raw_scale = (jnp.asarray(a, float) for a in (logits, loc, raw_scale))
        shape = self.loc.shape
        full = shape + shape[-1:]
        if len(shape) != 2 or self.logits.shape != shape[:1] or self.raw_scale.shape not in (shape, full):
            raise ValueError(
                "expected logits [K], loc [K, D] and raw_scale [K, D] or [K, D, D], got "
                f"{self.logits.shape}, {shape} and {self.raw_scale.shape}"
            )
        super().__init__(shape[-1:], validate_args=validate_args)

    @classmethod
    def from_covariances(cls, logits: Array, loc: Array, covariance: Array) -> "GaussianMixture":
        """Return the mixture with these covariances.

        Args:
            logits: of the weights π, [K].
            loc: μ, [K, D].
            covariance: Σ, positive definite [K, D, D], or variances [K, D].

        Raises ValueError where a covariance is not positive definite.

        >>> import jax.numpy as jnp
        >>> full = jnp.array([[[2.0, 1.0], [1.0, 3.0]]])
        >>> GaussianMixture.from_covariances(jnp.zeros(1), jnp.zeros((1, 2)), full).covariance.round(4).tolist()
        [[[2.0, 1.0], [1.0, 3.0]]]
        """
        covariance = jnp.asarray(covariance, float)
        diagonal = covariance.ndim == 2
        cholesky = _diagonal(jnp.sqrt(covariance)) if diagonal else jnp.linalg.cholesky(covariance)
        scale = jnp.diagonal(cholesky, axis1=-2, axis2=-1)
        if not isinstance(scale, jax.core.Tracer) and not bool(jnp.all(scale > 0)):
            raise ValueError("covariance: expected positive definite matrices or positive variances, got others")
        if diagonal:
            return cls(logits, loc, _raw(scale))
        regressed = scale[..., None] * _inverse(cholesky)  # I − B
        return cls(logits, loc, jnp.tril(-regressed, -1) + _diagonal(_raw(scale)))

    @classmethod
    def from_labels(
        cls, x: Array, labels: Array, components: int, *, diagonal: bool = False, smoothing: float = 0.1
    ) -> "GaussianMixture":
        """Return the mixture of rows whose components are known: `em_step` without its E-step.

        A component without rows stands at their mean, as wide as all of them.

        Args:
            x: rows, [N, D].
            labels: their components, [N] of 0..components−1.
            components: K, how many.
            diagonal: whether covariances have no correlations.
            smoothing: pseudo-rows, as `EM` explains.

        Raises ValueError where the shapes differ from these.

        >>> import jax.numpy as jnp
        >>> x = jnp.array([[0.0], [2.0], [7.0], [9.0]])
        >>> GaussianMixture.from_labels(x, jnp.array([0, 0, 1, 1]), 2).loc.tolist()
        [[1.0], [8.0]]
        """
        x, labels = jnp.asarray(as_numbers("x", x), float), jnp.asarray(labels)
        if x.ndim != 2 or labels.shape != x.shape[:1]:
            raise ValueError(f"expected rows x [N, D] and labels [N], got {x.shape} and {labels.shape}")
        counts, totals = (jax.ops.segment_sum(a, labels, components) for a in (jnp.ones(len(x)), x))
        means = jnp.where(counts[:, None] > 0, totals / jnp.maximum(counts, 1.0)[:, None], x.mean(0))
        known = lambda _, labels: jax.nn.one_hot(labels, components, dtype=x.dtype)
        return cls.from_covariances(*_maximize(known, (x, labels), means, diagonal, smoothing, 0.0))

    @property
    def diagonal(self) -> bool:
        """Whether the covariances are diagonal."""
        return self.raw_scale.ndim == self.loc.ndim

    @property
    def covariance(self) -> Array:
        """The covariances Σ, [K, D, D]."""
        tril = self._scale_tril
        return jnp.einsum("...ij,...kj->...ik", tril, tril, precision="highest")

    @property
    def _log_scale(self) -> Array:
        raw = self.raw_scale if self.diagonal else jnp.diagonal(self.raw_scale, axis1=-2, axis2=-1)
        return _BOUND * jnp.tanh(raw / _BOUND)

    @property
    def _scale_tril(self) -> Array:
        """(I − B)⁻¹ diag σ, [K, D, D]."""
        scale = jnp.exp(self._log_scale)
        if self.diagonal:
            return _diagonal(scale)
        return _inverse(jnp.eye(self.loc.shape[-1]) - jnp.tril(self.raw_scale, -1)) * scale[..., None, :]

    def log_components(self, x: Array) -> Array:
        """Return log Normal(x; μ_k, Σ_k) of one event, [K]."""
        residual, log_scale = x - self.loc, self._log_scale
        if not self.diagonal:
            regression = jnp.tril(self.raw_scale, -1)
            residual = residual - jnp.einsum("kij,kj->ki", regression, residual, precision="highest")
        z = jnp.clip(residual * jnp.exp(-log_scale), -_FARTHEST, _FARTHEST)
        return -0.5 * jnp.sum(z**2 + math.log(2 * math.pi), -1) - jnp.sum(log_scale, -1)

    def sample_component(self, key: Array, k: Array) -> Array:
        """Draw from component k."""
        noise = jax.random.normal(key, self.event_shape, self.loc.dtype)
        return self.loc[k] + jnp.einsum("ij,j->i", self._scale_tril[k], noise, precision="highest")

    def steps(self) -> Steps:
        """Return the conditionals p(x_i | x_{<i}), mixtures of normals, one coordinate after another (`core.Steps`)."""
        regression = jnp.zeros_like(self.covariance) if self.diagonal else jnp.tril(self.raw_scale, -1)
        return GaussianSteps(jax.nn.log_softmax(self.logits), self.loc, regression, jnp.exp(self._log_scale))

    def in_order(self, x: Array) -> Array:
        """Return the numbers of one event as the steps go through them, [D]."""
        return x

    def _as_normal(self) -> dist.MultivariateNormal | None:
        if len(self.logits) > 1:
            return None
        return dist.MultivariateNormal(self.loc[0], scale_tril=self._scale_tril[0])

    def _mean(self) -> Array:
        return jax.nn.softmax(self.logits) @ self.loc

    def _covariance(self) -> Array:
        """Return the covariance of an event as a whole, [D, D]: within the components and between them."""
        away = self.loc - self._mean()
        between = jnp.einsum("ki,kj->kij", away, away, precision="highest")
        return jnp.einsum("k,kij->ij", jax.nn.softmax(self.logits), self.covariance + between, precision="highest")

    def _variance(self) -> Array:
        return jnp.diagonal(self._covariance())

    def _entropy(self) -> Array:
        if len(self.logits) > 1:
            return super()._entropy()
        return jnp.sum(self._log_scale) + 0.5 * self.event_shape[0] * math.log(2 * math.pi * math.e)

    def _cdf(self, value: Array) -> Array:
        if self.event_shape != (1,):
            return super()._cdf(value)
        scaled = (value - self.loc[:, 0]) / jnp.exp(self._log_scale).reshape(-1)
        return jax.scipy.special.ndtr(scaled) @ jax.nn.softmax(self.logits)

    def em_step(self, x: Array, smoothing: float = 0.1, shrinkage: float = 0.0) -> "GaussianMixture":
        """Return the mixture after one step of expectation–maximization on rows [N, D], block by block.

            r_nk = p(k | x_n),   n_k = Σ_n r_nk,   μ_k ← Σ_n r_nk x_n / n_k,
            Σ_k ← (Σ_n r_nk (x_n − μ_k)(x_n − μ_k)ᵀ + s diag v) / (n_k + s),   π_k ∝ n_k + 1

        with the data's variances v and s = max(smoothing, 1e-6), to which `shrinkage` adds as `EM` explains. So a
        component that lost all its rows stays where it is, as wide as the data. Variances are raised by what float
        rounding may have taken of them, and by e⁻⁴⁰: collinear or constant coordinates do no harm. Raises ValueError
        where x is no [N, D].
        """
        x = jnp.asarray(x, float)
        if x.ndim != 2 or x.shape[1:] != self.event_shape:
            raise ValueError(f"x: expected rows [N, {self.event_shape[0]}], got shape {x.shape}")
        responsibilities = lambda rows: jax.nn.softmax(jax.vmap(self.log_joint)(rows))
        new = self.from_covariances(*_maximize(responsibilities, (x,), self.loc, self.diagonal, smoothing, shrinkage))
        return self.replace(logits=new.logits, loc=new.loc, raw_scale=new.raw_scale)


def _maximize(
    responsibilities: Callable[..., Array],
    rows: tuple[Array, ...],
    centers: Array,
    diagonal: bool,
    smoothing: float,
    shrinkage: float,
) -> tuple[Array, Array, Array]:
    """Return the M-step's logits, means and covariances, from moments about `centers`, where float32 rounds little
    away."""
    x, eye = rows[0], jnp.ones(()) if diagonal else jnp.eye(centers.shape[1])
    product, square = (
        ("nkd,nkd->kd", lambda a: a * a) if diagonal else ("nkd,nke->kde", lambda a: a[..., :, None] * a[..., None, :])
    )
    wide = lambda count: count.reshape(-1, *[1] * (1 if diagonal else 2))

    def moments(weights: Array, away: Array) -> tuple[Array, Array, Array]:
        weighted = weights[..., None] * away
        return weights.sum(0), weighted.sum(0), jnp.einsum(product, weighted, away, precision="highest")

    of_block = lambda x, *more: moments(responsibilities(x, *more), x[:, None] - centers)
    counts, first, second = sum_over_rows(of_block, rows, block_size(centers.size))
    mean, variance = x.mean(0), x.var(0)
    whole = moments(jnp.full((len(x), 1), 1 / len(x)), (x - mean)[:, None])[2]
    counts, first = counts + shrinkage, first + shrinkage * (mean - centers)
    second = second + shrinkage * (whole + square(mean - centers))
    shift = first / (counts[:, None] + jnp.finfo(x.dtype).tiny)
    smoothing = max(smoothing, _LEAST_SMOOTHING)
    moved = wide(counts) * square(shift)
    # sums over N rows are rounded by about √N eps; what that leaves of a scatter far from its center is not positive
    rounding = 4 * x.shape[1] * jnp.finfo(x.dtype).eps * (second + math.sqrt(len(x)) * moved)
    scatter = second - moved + (smoothing * variance + rounding) * eye
    covariance = scatter / wide(counts + smoothing) + math.exp(-2 * _BOUND) * eye
    return jnp.log(counts - shrinkage + 1), centers + shift, covariance


def _raw(scale: Array) -> Array:
    """Return the raw number that gives this σ."""
    return _BOUND * jnp.arctanh(jnp.clip(jnp.log(scale) / _BOUND, -1 + 1e-6, 1 - 1e-6))


def _diagonal(x: Array) -> Array:
    return x[..., None] * jnp.eye(x.shape[-1], dtype=x.dtype)


def _inverse(lower: Array) -> Array:
    eye = jnp.broadcast_to(jnp.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
    return solve_triangular(lower, eye, lower=True)


@recipe(formerly=("flows.gaussian_mixture",))
def gaussian_mixture(
    dim: int,
    *,
    components: int,
    data: Array | None = None,
    diagonal: bool = False,
    context_dim: int | None = None,
    hidden: Sequence[int] = (64, 64),
    key: Array,
) -> GaussianMixture | ConditionalModel:
    """A mixture of K normals, for `EM` or gradients; given a context, the mixture density network.

        p(x) = Σ_k π_k Normal(x; μ_k, Σ_k)

    Args:
        dim: D, the size of an event.
        components: K, how many.
        data: [N, D], whose clusters, by k-means++ and Lloyd's iterations on coordinates of equal variance, are the
            start, each with its own covariance; without it the components start as narrow normals about draws of the
            standard normal.
        diagonal: whether covariances have no correlations.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, whose network, an MLP of the
            context, moves all the mixture's numbers.
        hidden: widths of that MLP's hidden layers.
        key: draws the start.

    Raises ValueError for sizes below 1, and for data of another width, not finite, or with fewer than K different rows.

    References: k-means++ (Arthur, Vassilvitskii 2007); Mixture Density Networks (Bishop 1994), NCRG/94/004.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.concatenate([jax.random.normal(jax.random.key(0), (100, 2)) + m for m in (-9.0, 0.0, 9.0)])
    >>> model = gaussian_mixture(2, components=3, data=x, key=jax.random.key(1))
    >>> sorted(model.loc[:, 0].round(0).tolist())
    [-9.0, 0.0, 9.0]
    """
    check_sizes(dim=dim, components=components)
    start_key, network_key = jax.random.split(key)
    if data is None:
        mixture = _apart(dim, components, diagonal, start_key)
    else:
        mixture = _clustered(dim, components, data, diagonal, start_key)
    return moved_by_context(mixture, hidden=hidden, context_dim=context_dim, key=network_key)


def _apart(dim: int, components: int, diagonal: bool, key: Array) -> GaussianMixture:
    loc = jax.random.normal(key, (components, dim))
    raw = jnp.full((components, dim), -math.log(components) / dim)  # together they fill what one standard normal does
    return GaussianMixture(jnp.zeros(components), loc, raw if diagonal else raw[..., None] * jnp.eye(dim))


def _clustered(dim: int, components: int, data: Array, diagonal: bool, key: Array) -> GaussianMixture:
    x = jnp.asarray(as_numbers("data", data), float)
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"data: expected rows [N, {dim}], got shape {x.shape}")
    spread = x.std(0)
    _, labels = kmeans(x / jnp.where(spread > 0, spread, 1.0), components, key=key)
    return GaussianMixture.from_labels(x, labels, components, diagonal=diagonal)
