"""Learned matrices as bijectors, inverted by triangular solves and never by a general inverse."""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from probgen.bijectors.base import Bijector
from probgen.bijectors.elementwise import Affine
from probgen.bijectors.orthogonal import EXACT, random_orthogonal, reflect
from probgen.core import Frozen, as_float, check_sizes


class ActNorm(Affine):
    """y = exp(log_scale) · x + shift, an `Affine` that takes its first numbers from data.

    `initialize` sets them such that in the density direction each coordinate of the batch comes out with mean 0 and
    standard deviation 1; a constant coordinate is only shifted. Until then it is the identity; afterwards both learn.

    Args:
        dim: D, the size of an event's last axis: of images, the channels.

    References: Glow: Generative Flow with Invertible 1×1 Convolutions (Kingma, Dhariwal 2018), arXiv:1807.03039.

    >>> import jax.numpy as jnp
    >>> norm, z = ActNorm(2).initialize(jnp.array([[1.0, 5.0], [3.0, 5.0]]), inverse=True)
    >>> norm.shift.tolist(), z.tolist()
    ([2.0, 5.0], [[-1.0, 0.0], [1.0, 0.0]])
    """

    def __init__(self, dim: int):
        check_sizes(dim=dim)
        super().__init__(jnp.zeros(dim), jnp.zeros(dim))

    def initialize(self, batch: Array, *, inverse: bool, context: Array | None = None) -> tuple[Bijector, Array]:
        batch = as_float(batch)
        axes = tuple(range(batch.ndim - 1))
        mean, sd = jnp.mean(batch, axes), jnp.std(batch, axes)
        rounding = 10 * jnp.finfo(batch.dtype).eps * jnp.max(jnp.abs(batch), axes)  # the sd of a constant, computed
        log_sd = jnp.log(jnp.where(sd > rounding, sd, 1))
        shift, log_scale = (mean, log_sd) if inverse else (-mean * jnp.exp(-log_sd), -log_sd)
        new = eqx.tree_at(lambda b: (b.shift, b.log_scale), self, (shift, log_scale))
        return new, (new.inverse if inverse else new.forward)(batch)


class _Linear(Bijector):
    shift: eqx.AbstractVar[Array]
    is_constant_jacobian = True

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.shift.shape


class Triangular(_Linear):
    """y = L x + b with L lower triangular and its diagonal positive: on a normal base, the multivariate normal.

        log|det| = Σ log L_ii

    Cov(y) = L Lᵀ where Cov(x) = I. It starts as the identity, or at a given matrix: `Triangular.of(matrix, shift)`.
    The rows of L are learned in one vector, `packed` [D (D + 1) / 2], which holds log L_ii on the diagonal.

    Args:
        dim: D, the size of an event.

    >>> import jax.numpy as jnp
    >>> Triangular.of(jnp.array([[2.0, 0.0], [1.0, 1.0]])).forward(jnp.ones(2))
    Array([2., 2.], dtype=float32)
    """

    shift: Array
    packed: Array

    def __init__(self, dim: int):
        check_sizes(dim=dim)
        self.shift, self.packed = jnp.zeros(dim), jnp.zeros(dim * (dim + 1) // 2)

    @classmethod
    def of(cls, matrix: Array, shift: Array | float = 0.0) -> Self:
        """Return the bijector of a given matrix and shift.

        Args:
            matrix: lower triangular with a positive diagonal, [D, D].
            shift: b, [D], or one number for all.

        Raises ValueError where the matrix is of another kind.
        """
        matrix = _square(matrix)
        numbers = _numbers(matrix)
        if numbers is not None and (np.any(np.triu(numbers, 1)) or np.any(np.diagonal(numbers) <= 0)):
            raise ValueError(f"matrix: expected a lower triangle with a positive diagonal, got {numbers}")
        dim = matrix.shape[0]
        packed = _on_diagonal(matrix, jnp.log(jnp.diagonal(matrix)))[np.tril_indices(dim)]
        return eqx.tree_at(lambda b: (b.shift, b.packed), cls(dim), (_shift(shift, dim), packed))

    @property
    def _unpacked(self) -> tuple[Array, Array]:
        """The matrix L, and log|det|."""
        dim = self.shift.shape[0]
        full = jnp.zeros((dim, dim), self.packed.dtype).at[np.tril_indices(dim)].set(self.packed)
        logs = jnp.diagonal(full)
        return _on_diagonal(full, jnp.exp(logs)), jnp.sum(logs)

    @property
    def matrix(self) -> Array:
        """The matrix L, [D, D]."""
        return self._unpacked[0]

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        matrix, log_det = self._unpacked
        return jnp.matmul(matrix, x, precision=EXACT) + self.shift, log_det

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        matrix, log_det = self._unpacked
        return solve_triangular(matrix, y - self.shift, lower=True), -log_det


class LU(_Linear):
    """y = P L U x + b: any invertible matrix, with the determinant of a triangular one.

        log|det| = Σ log|U_ii|

    L has ones on its diagonal; the permutation P and the signs of U's diagonal stay as they were at the start, a random
    orthogonal matrix or a given one: `LU.of(matrix, shift)`. One learned matrix, `packed` [D, D], holds L below its
    diagonal, U above, and log|U_ii| on it. Where `inverse` should be the cheaper direction, take `Inverse(LU(…))`.

    Args:
        dim: D, the size of an event.
        key: draws the first matrix.

    References: Glow: Generative Flow with Invertible 1×1 Convolutions (Kingma, Dhariwal 2018), arXiv:1807.03039.

    >>> import jax.numpy as jnp
    >>> swap = LU.of(jnp.array([[0.0, 2.0], [1.0, 0.0]]))
    >>> swap.forward_and_log_det(jnp.array([1.0, 3.0]))[0]
    Array([6., 1.], dtype=float32)
    """

    shift: Array
    packed: Array
    order: Array
    sign: Frozen

    def __init__(self, dim: int, *, key: Array):
        check_sizes(dim=dim)
        self.packed, self.sign, self.order = _factorize(random_orthogonal(dim, key))
        self.shift = jnp.zeros(dim)

    @classmethod
    def of(cls, matrix: Array, shift: Array | float = 0.0) -> Self:
        """Return the bijector of a given matrix and shift.

        Args:
            matrix: invertible, [D, D].
            shift: b, [D], or one number for all.

        Raises ValueError where the matrix is not invertible.
        """
        matrix = _square(matrix)
        numbers = _numbers(matrix)
        if numbers is not None:
            _require_full_rank(numbers)
        dim = matrix.shape[0]
        parts = (_shift(shift, dim), *_factorize(matrix))
        return eqx.tree_at(lambda b: (b.shift, b.packed, b.sign, b.order), cls(dim, key=jax.random.key(0)), parts)

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        lower, upper = _unpack(self.packed, self.sign.value)
        z = jnp.matmul(lower, jnp.matmul(upper, x, precision=EXACT), precision=EXACT)
        return z[jnp.argsort(self.order)] + self.shift, jnp.sum(jnp.diagonal(self.packed))

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        x = _solve(*_unpack(self.packed, self.sign.value), (y - self.shift)[self.order])
        return x, -jnp.sum(jnp.diagonal(self.packed))


class LowRank(_Linear):
    """y = (D + U Vᵀ) x + b, a diagonal and K directions, in O(D K): for dimensions where a full matrix is too much.

        D = diag(d),   log|det| = Σ log d_i + log det C,   C = I + Vᵀ D⁻¹ U

    By the matrix determinant lemma it is singular only where C is; so C itself, K×K, is the parameter, as L U with a
    positive diagonal, and no values make it singular. V = the first K columns of a product of reflections, hence
    VᵀV = I, and D⁻¹ U = V (C − I) + (I − V Vᵀ) A. In words: along V the map is C, and across V it is a shift, A Vᵀx,
    of what lies outside; the inverse (Woodbury's) solves with C and shifts back.

    Args:
        dim: D, the size of an event.
        rank: K, 1 ≤ K < D (`LU` is the full matrix).
        key: draws the first directions.

    Raises ValueError for another rank.

    References: Inverting modified matrices (Woodbury 1950); the reflections as in `Householder`.

    >>> import jax, jax.numpy as jnp
    >>> y, log_det = LowRank(100, 3, key=jax.random.key(0)).forward_and_log_det(jnp.ones(100))
    >>> y.shape, float(log_det)
    ((100,), 0.0)
    """

    shift: Array
    log_diagonal: Array
    vectors: Array
    across: Array
    packed: Array

    def __init__(self, dim: int, rank: int, *, key: Array):
        check_sizes(dim=dim, rank=rank)
        if not rank < dim:
            raise ValueError(f"rank: expected 1 to {dim - 1}, less than dim={dim}, got {rank}")
        vectors_key, across_key = jax.random.split(key)
        self.shift, self.log_diagonal = jnp.zeros(dim), jnp.zeros(dim)
        self.vectors = jax.random.normal(vectors_key, (rank, dim))
        self.across = jax.random.normal(across_key, (dim, rank)) / dim  # near the identity; zeros would hold V still
        self.packed = jnp.zeros((rank, rank))

    def _parts(self) -> tuple[Array, Array, Array, Array]:
        """Return L and U of C, V, and the D⁻¹U of the formula."""
        dim, rank = self.across.shape
        v = reflect(self.vectors, jnp.eye(dim, rank, dtype=self.vectors.dtype))
        lower, upper = _unpack(self.packed)
        along = jnp.matmul(lower, upper, precision=EXACT) - jnp.eye(rank, dtype=lower.dtype)
        along = along - jnp.matmul(v.T, self.across, precision=EXACT)
        return lower, upper, v, self.across + jnp.matmul(v, along, precision=EXACT)

    @property
    def _log_det(self) -> Array:
        return jnp.sum(self.log_diagonal) + jnp.sum(jnp.diagonal(self.packed))

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        _, _, v, u = self._parts()
        y = x + jnp.matmul(u, jnp.matmul(v.T, x, precision=EXACT), precision=EXACT)
        return y * jnp.exp(self.log_diagonal) + self.shift, self._log_det

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        lower, upper, v, u = self._parts()
        y = (y - self.shift) * jnp.exp(-self.log_diagonal)
        inner = _solve(lower, upper, jnp.matmul(v.T, y, precision=EXACT))
        return y - jnp.matmul(u, inner, precision=EXACT), -self._log_det


def _unpack(packed: Array, sign: Array | float = 1.0) -> tuple[Array, Array]:
    """Return L and U from one matrix, which has L below its diagonal, U above it, and log|U_ii| on it."""
    lower = _on_diagonal(jnp.tril(packed), jnp.ones((), packed.dtype))
    return lower, _on_diagonal(jnp.triu(packed), sign * jnp.exp(jnp.diagonal(packed)))


def _on_diagonal(matrix: Array, diagonal: Array) -> Array:
    return jnp.where(np.eye(matrix.shape[0], dtype=bool), diagonal, matrix)


def _solve(lower: Array, upper: Array, z: Array) -> Array:
    return solve_triangular(upper, solve_triangular(lower, z, lower=True, unit_diagonal=True))


def _factorize(matrix: Array) -> tuple[Array, Frozen, Array]:
    """Return `packed`, the signs of U's diagonal, and the order of rows in which the matrix is L U."""
    lu, _, order = lax.linalg.lu(matrix)
    diagonal = jnp.diagonal(lu)
    return _on_diagonal(lu, jnp.log(jnp.abs(diagonal))), Frozen(jnp.sign(diagonal)), order


def _square(matrix: Array) -> Array:
    matrix = as_float(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"matrix: expected a square matrix [D, D], got shape {matrix.shape}")
    return matrix


def _numbers(matrix: Array) -> np.ndarray | None:
    """Return the matrix's numbers, or None where it is traced. Raises ValueError where they are not finite."""
    if isinstance(matrix, jax.core.Tracer):
        return None
    numbers = np.asarray(matrix)
    if not np.all(np.isfinite(numbers)):
        raise ValueError("matrix: expected finite numbers, got NaN or infinity")
    return numbers


def _require_full_rank(matrix: np.ndarray) -> None:
    rows = np.max(np.abs(matrix), axis=1, keepdims=True)  # the units of the outputs make no matrix singular
    rank = np.linalg.matrix_rank(matrix / np.where(rows > 0, rows, 1))
    if rank < len(matrix):
        raise ValueError(f"matrix: expected an invertible one, got a singular one, of rank {rank} for D={len(matrix)}")


def _shift(shift: Array | float, dim: int) -> Array:
    shift = as_float(shift)
    if shift.ndim and shift.shape != (dim,):
        raise ValueError(f"shift: expected shape ({dim},), got {shift.shape}")
    return jnp.broadcast_to(shift, (dim,))
