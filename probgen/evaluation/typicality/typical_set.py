"""Whether data are typical of a model: its entropy, its typical set, and the test of a batch."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax

from probgen.core import as_numbers, check_key, check_not_negative, check_sizes, split_key
from probgen.distributions import ConditionalModel
from probgen.evaluation.likelihood.row_by_row import Evaluation, check_density, evaluate

_FEWEST = 20  # rows, of which a mean has an error that is known
_BLOCK = 1 << 20  # numbers that are resampled together


def entropy(
    model: dist.Distribution,
    *,
    num_draws: int = 1000,
    num_particles: int = 1,
    batch_size: int = 128,
    key: Array,
) -> Evaluation:
    """Return the entropy of a model, the mean of −log p of its own draws, as `evaluate` returns that of data.

        H = E_p[−log p(x)] ≈ −1/S Σ_s log p(x_s),   x_s ~ p

    Where the density has a bound only, so has the entropy: it is at most what is printed. Data whose −log p is far from
    H, above or below, are not typical of the model.

    Args:
        model: a distribution of batch shape (), ours or numpyro's; a conditional one at a context.
        num_draws: S.
        num_particles: of the bound.
        batch_size: draws at a time.
        key: a `jax.random.key`.

    Raises ValueError as `evaluate`, and where the model is a conditional one.

    References: Elements of Information Theory, chapter 3 (Cover, Thomas 2006).

    >>> import jax, jax.numpy as jnp
    >>> from probgen.mixtures import histogram
    >>> print(entropy(histogram((2,), 4), num_draws=10, key=jax.random.key(0)))  # uniform: 2 bits each
    = 2.0000 ± 0.0000 bits/dim (= 2.773 ± 0.000 nats, 10 rows)
    """
    check_sizes(num_draws=num_draws)
    if isinstance(model, ConditionalModel):
        raise ValueError("model: expected one to draw from, got a ConditionalModel: call it with a context")
    check_density(model)
    draw_key, key = split_key(key, (2,))
    draws = jax.jit(lambda model, key: model.sample(key, (num_draws,)))(model, draw_key)
    return evaluate(model, draws, key=key, num_particles=num_particles, batch_size=batch_size, progress=False)


def in_typical_set(log_likelihoods: Any, entropy: float, *, epsilon: float) -> np.ndarray:
    """Return whether each row lies in the typical set, [N].

        |−log p(x) − H| ≤ ε

    An event of D independent numbers is in it with a probability that goes to 1 where ε grows faster than √D, whatever
    a single value of highest density may be.

    Args:
        log_likelihoods: log p(x) of rows, [N], in nats, such as `pointwise` returns.
        entropy: H, in nats, such as `entropy(model, key=key).nats`.
        epsilon: ε, in nats.

    Raises ValueError where the log-likelihoods are no row of numbers, or ε is negative.

    References: Elements of Information Theory, chapter 3 (Cover, Thomas 2006).

    A coin that shows heads nine times in ten, thrown 100 times: k heads have log p = k log 0.9 + (100 − k) log 0.1. All
    heads is the likeliest sequence, and not typical; within 10 nats of H = 32.51 are 86 to 94 heads, which come with
    probability 0.87 and are one in 24 million million of all sequences:

    >>> import numpy as np
    >>> from scipy import special, stats
    >>> heads = np.arange(101)
    >>> log_p = heads * np.log(0.9) + (100 - heads) * np.log(0.1)
    >>> typical = in_typical_set(log_p, 100 * stats.bernoulli(0.9).entropy(), epsilon=10.0)
    >>> print(heads[typical].min(), heads[typical].max(), typical[heads == 100])
    86 94 [False]
    >>> print(stats.binom(100, 0.9).pmf(heads)[typical].sum().round(4))
    0.8699
    >>> print(f"{special.comb(100, heads[typical]).sum() / 2**100:.1e}")
    4.1e-14

    Of a normal distribution in 100 dimensions H = 50 log 2πe, and −log p − H = (|x|² − 100) / 2. Its density is highest
    at 0, 50 nats off; draws are within two standard deviations, 2 √50 nats, where |x| is between 8.5 and 11.3, with
    probability 0.9555:

    >>> normal, radii = stats.norm(), np.array([0.0, 8.4, 8.5, 10.0, 11.3, 11.4])
    >>> log_p = 100 * normal.logpdf(0.0) - radii**2 / 2
    >>> in_typical_set(log_p, 100 * normal.entropy(), epsilon=2 * 50**0.5)
    array([False, False,  True,  True,  True, False])
    >>> print(np.diff(stats.chi2(100).cdf(100 + 4 * np.array([-1, 1]) * 50**0.5)).round(4))
    [0.9555]
    """
    check_not_negative(epsilon=epsilon)
    return np.abs(-as_column("log_likelihoods", log_likelihoods) - float(entropy)) <= epsilon


class Typicality(NamedTuple):
    """What a `typicality_test` found; `str` prints it.

    Attributes:
        epsilon: ε, how far the batch's mean log-likelihood is from that of the training rows, in nats.
        threshold: of ε, at the level.
        p_value: the probability of as much, or more, of a batch of rows like the training ones.
        likelier: whether the batch is likelier than those.
        entropy: Ĥ, the mean −log p of the training rows.
        se_entropy: its standard error.
        level: of the test.
        rows: of the batch.
    """

    epsilon: float
    threshold: float
    p_value: float
    likelier: bool
    entropy: float
    se_entropy: float
    level: float
    rows: int

    @property
    def typical(self) -> bool:
        """Whether ε is at most the threshold."""
        return self.epsilon <= self.threshold

    def __str__(self) -> str:
        verdict, sign = ("typical", "≤") if self.typical else ("not typical", ">")
        return (
            f"{verdict}: ε = {self.epsilon:.3f} {sign} {self.threshold:.3f} nats at level {self.level:g} "
            f"(p = {self.p_value:.3g}), {'likelier' if self.likelier else 'less likely'} than "
            f"Ĥ = {self.entropy:.3f} ± {self.se_entropy:.3f} nats, {self.rows} rows"
        )


def typicality_test(
    batch: Any,
    training: Any,
    *,
    validation: Any = None,
    level: float = 0.01,
    num_resamples: int = 10_000,
    key: Array,
) -> Typicality:
    """Return whether a batch of M rows is typical of a model, by the mean of its log-likelihood, with the threshold by
    the bootstrap.

        ε = |1/M Σ_m −log p(x_m) − Ĥ|,   Ĥ = 1/N Σ_n −log p(x_n)

    A batch that the model likes too much is as atypical as one that it does not like. Batches of M are resampled from
    the validation rows, and the threshold is what their ε exceeds with the probability `level`. The mean that they are
    compared with has an error of its own, which is drawn with each of them, so that the level holds where the rows are
    not many more than M too; with N ≫ M that is the test of the paper. Bounds of log p serve as well, where they are
    bounds of the same kind throughout.

    Args:
        batch: log p(x) of the rows in question, [M], in nats, such as `pointwise` returns; −∞ is welcome.
        training: that of training rows, [N].
        validation: that of rows like them which the model was not trained on; the training rows themselves by default,
            which is right where the model is no likelier on them than on others.
        level: the probability with which a typical batch is called atypical.
        num_resamples: how many batches are drawn.
        key: a `jax.random.key`.

    Raises ValueError where there are fewer than 20 rows to resample from, or all are equal, where some are not finite,
    or where there are too few batches for the level.

    References: Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (Nalisnick, Matsukawa,
    Teh, Lakshminarayanan 2019), arXiv:1906.02994.

    >>> import jax, numpy as np
    >>> from scipy import stats
    >>> draws = np.random.RandomState(0).standard_normal((2100, 100))
    >>> log_p = stats.norm.logpdf(draws).sum(1)
    >>> test = lambda batch: typicality_test(batch, log_p[100:], key=jax.random.key(0))
    >>> test(log_p[:20]).typical, test(stats.norm.logpdf(0.9 * draws[:20]).sum(1)).typical
    (True, False)
    """
    check_sizes(num_resamples=num_resamples)
    check_key(key)
    own = as_column("batch", batch)
    seen = as_column("training", training, fewest=_FEWEST, finite=True)
    alike = seen if validation is None else as_column("validation", validation, fewest=_FEWEST, finite=True)
    if np.isposinf(own).any():
        raise ValueError(f"batch: expected log-likelihoods below ∞, got ∞ in row {np.isposinf(own).argmax()}")
    if not np.ptp(alike) > 0:
        name = "training" if validation is None else "validation"
        raise ValueError(f"{name}: expected log-likelihoods that differ, got {len(alike)} of {alike[0]:g}")
    if not 1 / (num_resamples + 1) <= level < 1:
        raise ValueError(f"level: expected a number from 1 / (num_resamples + 1) to 1, got {level!r}")
    gap = float(own.mean() - seen.mean())
    middle, scale = alike.mean(), alike.std()
    standard = np.asarray((alike - middle) / scale, np.float32)
    resampled = scale * np.asarray(_gaps(key, standard, len(own), num_resamples), np.float64)
    typical = np.abs(resampled + (middle - seen.mean()))
    exceeding = int(level * (num_resamples + 1) + 1e-9)  # of so many, the batch itself among them, ε is the largest
    return Typicality(
        epsilon=abs(gap),
        threshold=float(np.sort(typical)[num_resamples - exceeding]),
        p_value=float((1 + (typical >= abs(gap)).sum()) / (num_resamples + 1)),
        likelier=gap > 0,
        entropy=-float(seen.mean()),
        se_entropy=float(seen.std(ddof=1) / np.sqrt(len(seen))),
        level=level,
        rows=len(own),
    )


@partial(jax.jit, static_argnums=(2, 3))
def _gaps(key: Array, values: Array, size: int, count: int) -> Array:
    """Return, `count` times, how far the mean of `size` resampled values is from that of all, which has an error of its
    own; values have the mean 0 and the standard deviation 1."""
    draw_key, error_key = split_key(key, (2,))
    mean = lambda key: values[jax.random.randint(key, (size,), 0, len(values))].mean()
    means = lax.map(mean, jax.random.split(draw_key, count), batch_size=max(1, _BLOCK // size))
    return means - jax.random.normal(error_key, (count,)) / np.sqrt(len(values) - 1)


def as_column(name: str, values: Any, *, fewest: int = 1, finite: bool = False) -> np.ndarray:
    """Return one number for each of some rows, [N] in float64.

    Args:
        name: of the argument, for errors.
        values: the numbers.
        fewest: how many there are at least.
        finite: whether infinite ones are refused.

    Raises ValueError where they have another shape, or are too few, or some are NaN, or not finite where they have to
    be.
    """
    given = as_numbers(name, values)
    if isinstance(given, jax.core.Tracer):
        raise ValueError(f"{name}: expected numbers, got a traced array: this cannot be called under jax.jit")
    column = np.asarray(given, np.float64)
    if column.ndim != 1 or len(column) < fewest:
        raise ValueError(f"{name}: expected one number for each of at least {fewest} rows, got shape {column.shape}")
    wrong = ~np.isfinite(column) if finite else np.isnan(column)
    if wrong.any():
        raise ValueError(
            f"{name}: expected {'finite numbers' if finite else 'numbers'}, got {column[wrong][0]} in row "
            f"{wrong.argmax()}"
        )
    return column
