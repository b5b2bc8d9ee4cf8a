"""Outliers by how rare the values of a model's statistics are, and not by how low its density is."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from probgen.core import as_numbers, check_sizes
from probgen.distributions import ConditionalModel
from probgen.distributions.events import rows_where_they_are
from probgen.distributions.wrapped import kind_of
from probgen.evaluation.likelihood.row_by_row import check_density

_FEWEST = 20
_BLOCK = 1 << 21  # numbers that are held together


class DensityOfStates(NamedTuple):
    """What `density_of_states` learned of the statistics of rows.

    Attributes:
        statistics: of those rows, [N, S].
        bandwidths: of the kernels, [S].
        own_scores: of each of those rows among the others, [N].
    """

    statistics: np.ndarray
    bandwidths: np.ndarray
    own_scores: np.ndarray

    def scores(self, statistics: Any) -> np.ndarray:
        """Return s(x) = −Σ_i log p̂(T_i(x)) in nats, [M], larger for outliers.

        Args:
            statistics: of rows, [M, S], or [M] of a single one.
        """
        values = _as_statistics(statistics, 1, self.statistics.shape[1])
        return _costs(values, self.statistics, self.bandwidths).sum(1)

    def p_values(self, statistics: Any) -> np.ndarray:
        """Return the probability with which a row like those it learned from has a score as large, [M].

            p(x) = (1 + #{n : s_n ≥ s(x)}) / (N + 1)

        s_n is the score of row n by the kernels of the others, so that p is uniform but for 1/N.

        Args:
            statistics: of rows, [M, S], or [M] of a single one.
        """
        below = np.searchsorted(np.sort(self.own_scores), self.scores(statistics), side="left")
        return (1 + len(self.own_scores) - below) / (len(self.own_scores) + 1)


def density_of_states(statistics: Any) -> DensityOfStates:
    """Return an estimate of how often a model's statistics take which values, by a product of kernel densities.

        p̂(t_i) = 1/(N h_i) Σ_n φ((t_i − T_i(x_n)) / h_i),   h_i = N^{−1/5} σ_i

    The density p(x) of a single x says little of whether it is typical; how many typical x have that density says it,
    and so do other statistics: log p(x), |∇ log p(x)| (`gradient_norms`), rate and distortion, the cost of a
    `png`. An outlier has values of them, too large or too small, that are rare in the data.

    Args:
        statistics: T(x) of rows like the data, of which the model was better not trained on, [N, S], or [N] of a single
            one.

    Raises ValueError where there are fewer than 20 rows, some numbers are not finite, or one statistic is the same for
    all.

    References: Density of States Estimation for Out-of-Distribution Detection (Morningstar, Ham, Gallagher,
    Lakshminarayanan, Alemi, Dillon 2021), arXiv:2006.09273.

    >>> import numpy as np
    >>> from scipy import stats
    >>> draws = np.random.RandomState(0).standard_normal((1000, 100))
    >>> log_p = lambda x: stats.norm.logpdf(x).sum(-1)
    >>> print((density_of_states(log_p(draws)).p_values(log_p(np.zeros((1, 100)))) < 0.01).item())  # the mode
    True
    """
    values = _as_statistics(statistics, _FEWEST, None)
    spread = values.std(0, ddof=1)
    if (same := np.ptp(values, axis=0) == 0).any():
        raise ValueError(f"statistics: expected values that differ, got one value of statistic {same.argmax()}")
    widths = spread * len(values) ** -0.2
    return DensityOfStates(values, widths, _costs(values, values, widths, apart=True).sum(1))


def _costs(values: np.ndarray, centres: np.ndarray, widths: np.ndarray, *, apart: bool = False) -> np.ndarray:
    """Return −log p̂ of each statistic, [M, S]; where `apart`, values are the centres, and each is left out of its
    own."""
    from scipy.special import logsumexp

    parts, size = [], max(1, _BLOCK // len(centres))
    for start in range(0, len(values), size):
        block = values[start : start + size, None]
        with np.errstate(over="ignore"):  # as far as that, and no density
            exponents = -0.5 * ((block - centres) / widths) ** 2
        if apart:
            rows = np.arange(len(block))
            exponents[rows, start + rows] = -np.inf
        parts.append(logsumexp(exponents, 1))
    count = len(centres) - apart
    return np.log(count * widths * np.sqrt(2 * np.pi)) - np.concatenate(parts)


def _as_statistics(statistics: Any, fewest: int, size: int | None) -> np.ndarray:
    values = np.asarray(as_numbers("statistics", statistics), np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) < fewest or values.shape[1] != (size or values.shape[1]) or not values.size:
        columns = "S" if size is None else size
        raise ValueError(f"statistics: expected [N, {columns}] of at least {fewest} rows, got shape {values.shape}")
    if (wrong := ~np.isfinite(values)).any():
        row = int(np.argwhere(wrong)[0][0])
        raise ValueError(f"statistics: expected finite numbers, got {values[wrong][0]} in row {row}")
    return values


def gradient_norms(model: dist.Distribution, data: Any, *, batch_size: int = 128) -> np.ndarray:
    """Return |∇ log p(x)| of each row, [N]: a statistic for `density_of_states`, near 0 at a mode.

    Args:
        model: a distribution of real numbers of batch shape (), ours or numpyro's, with an exact density; a conditional
            one at a context.
        data: x, [N, *event_shape].
        batch_size: rows at a time.

    Raises ValueError where the model has no exact density of real numbers, or rows are no events of it.

    References: as `density_of_states`.

    >>> import jax.numpy as jnp
    >>> gradient_norms(dist.Normal(jnp.zeros(2), 2.0).to_event(1), jnp.array([[3.0, 4.0], [0.0, 1.0]])).round(
    ...     3
    ... )  # |x| / 2²
    array([1.25, 0.25])
    """
    check_sizes(batch_size=batch_size)
    if isinstance(model, ConditionalModel):
        raise ValueError("model: expected one without contexts, got a ConditionalModel: call it with a context")
    check_density(model)
    if (kind := kind_of(model)) != "exact":
        raise ValueError(f"model: expected one with an exact density, got a {type(model).__name__} of kind {kind!r}")
    (x,) = rows_where_they_are("data", model, data)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"model: expected one of real numbers, which have gradients, got data of dtype {x.dtype}")

    @jax.jit
    def norms(model: Any, x: jax.Array) -> jax.Array:
        slopes = jax.vmap(jax.grad(lambda x: model.log_prob(x)))(x)
        return jnp.sqrt(jnp.sum(slopes.reshape(len(x), -1) ** 2, 1))

    rows = [np.arange(start, start + batch_size) % len(x) for start in range(0, len(x), batch_size)]
    found = [np.asarray(norms(model, jnp.asarray(x[block])), np.float64) for block in rows]
    return np.concatenate(found)[: len(x)]
