"""The probability integral transform: what is uniform if a model is right."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from numpy.typing import ArrayLike

from probgen.core import as_numbers, check_distributions, check_sizes, split_key
from probgen.distributions import ConditionalModel, Transformed
from probgen.distributions.conditionals import inner_model
from probgen.distributions.enumeration import levels
from probgen.distributions.events import as_arrays, check_rows, widened
from probgen.distributions.step_codes import Stepwise
from probgen.distributions.wrapped import elementwise, family, unmasked
from probgen.evaluation.calibration.ranks import Uniformity


def pit(model: Any, data: Any, *, key: Array | None = None, batch_size: int = 128) -> Array:
    """Return the probability integral transform of each row, [N, *event]: independent uniform numbers where the rows
    are of the model.

        u_i = F(x_i | x_{<i});   of integers  u_i = P(X_i < x_i | x_{<i}) + v P(X_i = x_i | x_{<i}),   v ~ Uniform(0, 1)

    F is the distribution function of a number, of each of independent numbers, or of each conditional of an
    autoregressive model or a mixture, in its order. Of a flow it is that of the base at z = f⁻¹(x), so that u belongs
    to the numbers of z, which are those of x only where f goes number by number. A heap of u at both ends is a model
    that is too narrow, one in the middle a model that is too wide, a slope is a bias; `pit_uniformity` tests it, and
    `probgen.plotting.pit_histogram` draws it.

    Args:
        model: a distribution of batch shape (), ours or numpyro's, or a conditional one.
        data: x [N, *event_shape], or (x, contexts [N, *context]).
        key: a `jax.random.key` that draws v, of integers.
        batch_size: rows at a time.

    Raises ValueError where there are no rows, or some that are no event of the model, where the key is missing, or
    where no distribution function is known.

    References: Remarks on a Multivariate Transformation (Rosenblatt 1952), Annals of Mathematical Statistics 23; of
    integers: Predictive Model Assessment for Count Data (Czado, Gneiting, Held 2009), Biometrics 65.

    >>> import jax, jax.numpy as jnp
    >>> pit(dist.Normal(jnp.zeros(2), 1.0).to_event(1), jnp.array([[0.0, 1.96]])).round(3)
    Array([[0.5  , 0.975]], dtype=float32)
    """
    check_sizes(batch_size=batch_size)
    if not isinstance(model, ConditionalModel):
        check_distributions("a model, or a ConditionalModel", model=model)
    arrays = check_rows("data", model, as_arrays("data", data)[:2])
    discrete = not jnp.issubdtype(arrays[0].dtype, jnp.floating)
    if discrete and key is None:
        raise ValueError("key: the transform of integers is randomized, and needs a jax.random key")
    count = len(arrays[0])
    keys = split_key(jax.random.key(0) if key is None else key, (count,))

    @jax.jit
    def of_all(model: Any, keys: Array, *arrays: Array) -> Array:
        return lax.map(lambda row: _of_row(model, *row), (keys, *arrays), batch_size=min(batch_size, count))

    try:
        return jnp.clip(of_all(model, keys, *widened(arrays)), 0.0, 1.0)
    except NotImplementedError:
        name = type(family(inner_model(model))).__name__
        raise ValueError(
            "model: expected one with distribution functions, of a number, of independent numbers, of conditionals or "
            f"of a flow's base, got a {name}"
        ) from None


def _of_row(model: Any, key: Array, x: Array, *context: Array) -> Array:
    d = model(*context) if context else model
    return _uniforms(d._at(d.context) if context else d, key, x)


def _uniforms(d: Any, key: Array, x: Array) -> Array:
    """Return the transform of one event."""
    d = unmasked(d)
    if isinstance(d, Stepwise):
        conditionals = getattr(d, "conditionals", None)
        return _step_by_step(d, key, x) if conditionals is None else _of_numbers(conditionals(x), key, x)
    if isinstance(d, Transformed) and x.size > 1:
        return _uniforms(d.base, key, d.bijector.inverse(x))
    numbers = elementwise(d)
    if numbers.event_shape:
        return d.cdf(x).reshape(x.shape)  # of one number, or it refuses
    return _of_numbers(numbers, key, x)


def _step_by_step(d: Any, key: Array, x: Array) -> Array:
    steps, values = d.steps(), d.in_order(x)

    def one(carry: tuple[Any, Array], here: tuple[Array, Array]) -> tuple[tuple[Any, Array], Array]:
        (cache, before), (i, value) = carry, here
        cache, number = steps.step(cache, before, i)
        return (cache, value), _of_numbers(number, jax.random.fold_in(key, i), value)

    start = steps.init(), jnp.zeros((), values.dtype)
    return lax.scan(one, start, (jnp.arange(len(values)), values))[1].reshape(x.shape)


def _of_numbers(each: dist.Distribution, key: Array, x: Array) -> Array:
    """Return F(x) of single numbers, each by its own distribution; of integers, a number between P(X < x) and
    P(X ≤ x)."""
    support: Any = each.support
    if not support.is_discrete:
        return each.cdf(x)
    v = jax.random.uniform(key, jnp.shape(x))
    return _mass_below(each, support, x) + v * jnp.exp(each.log_prob(x))


def _mass_below(each: dist.Distribution, support: Any, x: Array) -> Array:
    found = levels(support)
    if found is None:
        least = support.lower_bound
        return jnp.where(x > least, each.cdf(jnp.maximum(x - 1, least)), 0.0)
    low, count = found

    def add(total: Array, value: Array) -> tuple[Array, None]:
        mass = jnp.exp(each.log_prob(jnp.full(x.shape, value, x.dtype)))
        return total + jnp.where(value < x, mass, 0.0), None

    return lax.scan(add, jnp.zeros(x.shape), jnp.arange(low, low + count))[0]


def pit_uniformity(u: ArrayLike, *, bins: int = 20) -> Uniformity:
    """Test whether the columns of a probability integral transform are uniform on [0, 1], by χ² over equal bins and by
    Kolmogorov and Smirnov.

        χ² = Σ_b (n_b − N / bins)² / (N / bins),   KS = sup_t |F̂(t) − t|

    χ²'s p-values are asymptotic, KS's exact. D p-values are D chances of a small one; that columns depend on each other
    no p-value of one of them shows.

    Args:
        u: numbers in [0, 1], [N] or [N, *event], as `pit` returns them.
        bins: at most N/5 are taken.

    Raises ValueError where some are not in [0, 1], or there are none.

    >>> import numpy as np
    >>> print(pit_uniformity((np.arange(1000) + 0.5) / 1000))
    0: χ² = 0.0 over 20 bins (p = 1), KS = 0.001 (p = 1)
    """
    from scipy import stats

    check_sizes(bins=bins)
    array = np.asarray(as_numbers("u", u), np.float64)
    if not array.ndim or not array.size:
        raise ValueError(f"u: expected numbers in [0, 1], got an array of shape {array.shape}")
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError("u: expected numbers in [0, 1], got some outside")
    columns = np.sort(array.reshape(len(array), -1), 0)
    count = len(columns)
    bins = max(1, min(bins, count // 5))
    in_bins = np.stack([np.histogram(column, bins, (0.0, 1.0))[0] for column in columns.T])
    chi_square = ((in_bins - count / bins) ** 2).sum(1) / (count / bins)
    above = np.arange(1, count + 1)[:, None] / count - columns
    ks = np.maximum(above, 1 / count - above).max(0)
    return Uniformity(chi_square, stats.chi2.sf(chi_square, max(bins - 1, 1)), ks, stats.kstwo.sf(ks, count), bins)
