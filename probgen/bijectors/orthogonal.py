"""Orthogonal matrices as bijectors: they mix the coordinates and keep lengths and volumes."""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import solve_triangular

from probgen.bijectors.base import Bijector
from probgen.core import Frozen, check_sizes

# a GPU multiplies float32 in 10 bits unless it is told otherwise, and the two directions would part ways
EXACT = lax.Precision.HIGHEST


class _Orthogonal(Bijector):
    is_constant_jacobian = True

    def _apply(self, x: Array, *, transpose: bool) -> Array:
        raise NotImplementedError(f"{type(self).__name__} has no map: write _apply(x, transpose=)")

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self._apply(x, transpose=False), jnp.zeros((), x.dtype)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self._apply(y, transpose=True), jnp.zeros((), y.dtype)


class Rotation(_Orthogonal):
    """y = Q x with a fixed random rotation Q: it mixes the coordinates and never learns.

    Q is orthogonal, from the QR decomposition of a normal matrix, so log|det| = 0.

    Args:
        dim: D, the size of an event.
        key: draws Q.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> x = jnp.ones(3)
    >>> y = Rotation(3, key=jax.random.key(0)).forward(x)
    >>> bool(jnp.allclose(y @ y, x @ x))
    True
    """

    matrix: Frozen

    def __init__(self, dim: int, *, key: Array):
        check_sizes(dim=dim)
        self.matrix = Frozen(random_orthogonal(dim, key))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.matrix.value.shape[-1:]

    def _apply(self, x: Array, *, transpose: bool) -> Array:
        matrix = self.matrix.value
        return jnp.matmul(matrix.T if transpose else matrix, x, precision=EXACT)


def random_orthogonal(dim: int, key: Array) -> Array:
    """Draw an orthogonal matrix [dim, dim] uniformly (Haar)."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (dim, dim)))
    return q * jnp.sign(jnp.diagonal(r))


class Householder(_Orthogonal):
    """y = H₁ H₂ ⋯ H_K x, a learned product of reflections: orthogonal at any values of its parameters.

        H_k = I − 2 v_k v_kᵀ / ‖v_k‖²,   log|det| = 0

    All K at once: H₁ ⋯ H_K = I − Uᵀ S⁻¹ U, where the rows of U are √2 v_k / ‖v_k‖ and S is the upper triangle of
    U Uᵀ, so that a batch takes two matrix products and one triangular solve. K = D reflections reach every orthogonal
    matrix of determinant (−1)ᴰ. A vector of zeros reflects nothing.

    Args:
        dim: D, the size of an event.
        reflections: K, D unless given.
        key: draws the first v_k.

    Raises ValueError where either is less than 1.

    References: Improving Variational Auto-Encoders using Householder Flow (Tomczak, Welling 2016), arXiv:1611.09630;
    Accumulating Householder transformations, revisited (Joffrain, Low, Quintana-Ortí, van de Geijn, Van Zee 2006).

    >>> import jax, jax.numpy as jnp
    >>> mix = Householder(3, reflections=2, key=jax.random.key(0))
    >>> y, log_det = mix.forward_and_log_det(jnp.array([3.0, 4.0, 0.0]))
    >>> round(float(jnp.linalg.norm(y)), 4), float(log_det)
    (5.0, 0.0)
    """

    vectors: Array

    def __init__(self, dim: int, *, reflections: int | None = None, key: Array):
        count = dim if reflections is None else reflections
        check_sizes(dim=dim, reflections=count)
        self.vectors = jax.random.normal(key, (count, dim))

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.vectors.shape[-1:]

    def _apply(self, x: Array, *, transpose: bool) -> Array:
        return reflect(self.vectors, x, transpose=transpose)


def reflect(vectors: Array, x: Array, *, transpose: bool = False) -> Array:
    """Return H₁ ⋯ H_K x, or its transpose's, for reflections along the rows of `vectors` [K, D]; x is [D] or [D, N]."""
    rows = _scaled(vectors)
    upper = jnp.triu(jnp.matmul(rows, rows.T, precision=EXACT), 1)
    inner = jnp.matmul(rows, x, precision=EXACT)
    inner = solve_triangular(upper, inner, trans=int(transpose), unit_diagonal=True)
    return x - jnp.matmul(rows.T, inner, precision=EXACT)


def _scaled(vectors: Array) -> Array:
    """Return the vectors at length √2, in two steps, since the square of a very short or long one leaves float32."""
    peak = lax.stop_gradient(jnp.max(jnp.abs(vectors), -1, keepdims=True))  # (lengths do not matter, nor do gradients)
    rows = vectors / jnp.where(peak > 0, peak, 1)
    squares = jnp.sum(rows**2, -1, keepdims=True)
    return rows * jnp.sqrt(2 / jnp.where(squares > 0, squares, 2))
