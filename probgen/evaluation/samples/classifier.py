"""Whether a classifier can tell two samples apart."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from probgen.core import check_functions, check_not_negative, check_sizes, split_key
from probgen.evaluation.samples.rows import as_rows
from probgen.evaluation.samples.two_sample import TwoSample, permutation_p_value, permuted_labels

Decide = Callable[[Array], Any]  # rows [M, D] → log-odds of the first sample, [M]
Classifier = Callable[[Array, Array, Array], Decide]  # key, rows [N, D], labels [N] → Decide

_BATCH = 512
_RATE = 0.01


def neural_classifier(
    key: Array,
    rows: Array,
    labels: Array,
    *,
    hidden: Sequence[int] = (32,),
    steps: int = 300,
    weight_decay: float = 1e-3,
) -> Decide:
    """Return the log-odds of label 1 by a small network, as a function of rows, for `classifier_test`.

        min_w 1/2 Σ_c mean_{n: label c} −log p_w(c | x_n) + λ/2 |w|²

    Rows are standardized; the optimizer is Adam, whose rate falls from 0.01 to 0 as a cosine, on batches of up to 512
    rows of which each label has half the weight. `functools.partial(neural_classifier, hidden=())` is logistic
    regression.

    Args:
        key: a `jax.random.key`.
        rows: [N, D].
        labels: 0 or 1, [N].
        hidden: the widths of the hidden layers.
        steps: of the optimizer.
        weight_decay: λ, of weights but not of biases.

    Raises ValueError where sizes are no positive integers or λ is negative.

    >>> import jax, jax.numpy as jnp
    >>> rows = jnp.linspace(-1.0, 1.0, 20)[:, None]
    >>> log_odds = neural_classifier(jax.random.key(0), rows, rows[:, 0] > 0)
    >>> log_odds(jnp.array([[-1.0], [1.0]])) > 0
    Array([False,  True], dtype=bool)
    """
    check_sizes(steps=steps, **{f"hidden[{i}]": width for i, width in enumerate(hidden)})
    check_not_negative(weight_decay=weight_decay)
    labels = jnp.asarray(labels, rows.dtype)
    mean, sd = rows.mean(0), rows.std(0)
    standard = lambda x: (x - mean) / jnp.where(sd > 0, sd, 1.0)
    params = _trained(key, standard(rows), labels, tuple(hidden), steps, weight_decay)
    return lambda x: _log_odds(params, standard(x))


_Params = list[tuple[Array, Array]]


def _log_odds(params: _Params, x: Array) -> Array:
    for weight, bias in params[:-1]:
        x = jax.nn.silu(x @ weight + bias)
    weight, bias = params[-1]
    return (x @ weight + bias)[:, 0]


@partial(jax.jit, static_argnums=(3, 4))
def _trained(key: Array, x: Array, labels: Array, hidden: tuple[int, ...], steps: int, weight_decay: float) -> _Params:
    sizes = (x.shape[1], *hidden, 1)
    init_key, batch_key = split_key(key, (2,))
    shapes = list(zip(split_key(init_key, (len(sizes) - 1,)), sizes, sizes[1:]))
    params = [(jax.random.normal(key, (n, m)) * n**-0.5, jnp.zeros(m)) for key, n, m in shapes]
    params[-1] = jax.tree.map(jnp.zeros_like, params[-1])  # at first it knows nothing
    optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, steps))
    share = labels.mean()
    weights = jnp.where(labels == 1, 0.5 / share, 0.5 / (1 - share))

    def loss(params: _Params, chosen: Array | slice) -> Array:
        losses = optax.sigmoid_binary_cross_entropy(_log_odds(params, x[chosen]), labels[chosen])
        penalty = sum(jnp.sum(weight**2) for weight, _ in params)
        return jnp.mean(weights[chosen] * losses) + weight_decay / 2 * penalty

    def step(carry: tuple[_Params, Any], key: Array) -> tuple[tuple[_Params, Any], None]:
        params, state = carry
        chosen = slice(None) if len(x) <= _BATCH else jax.random.randint(key, (_BATCH,), 0, len(x))
        updates, state = optimizer.update(jax.grad(loss)(params, chosen), state)
        return (optax.apply_updates(params, updates), state), None

    return lax.scan(step, (params, optimizer.init(params)), split_key(batch_key, (steps,)))[0][0]


def classifier_test(
    x: Any,
    y: Any,
    *,
    classifier: Classifier = neural_classifier,
    held_out: float = 0.5,
    num_permutations: int = 500,
    key: Array,
) -> TwoSample:
    """Return how well a classifier tells two samples apart on rows held out from it, and the p-value by permutation.

        accuracy = 1/2 (share of held-out x that are called x + share of held-out y that are called y)

    It is ½ where the samples cannot be told apart, also where one has more rows. The p-value is that of the mean
    probability given to the right label, the accuracy without its jumps, among permutations of the held-out labels:
    under the null those could be permuted, whatever the classifier learned from the other rows, so that it is exact at
    any number of rows. (A binomial p-value of the accuracy itself jumps, and counts rows as if they were drawn with
    replacement.)

    Args:
        x: one sample, [N, *event].
        y: the other, [M, *event].
        classifier: `(key, rows [n, D], labels [n]) → (rows [m, D] → log-odds of label 1 [m])`, where x has label 1.
            Rows are flat, and shifted and scaled as a whole.
        held_out: the share of each sample that is.
        num_permutations: B; the p-value is at least 1 / (1 + B).
        key: a `jax.random.key`.

    Raises ValueError where events differ in shape, fewer than 2 rows of a sample are held out or left, numbers are not
    finite, all rows are the same, or the classifier returns other than finite numbers [m].

    References: Revisiting Classifier Two-Sample Tests (Lopez-Paz, Oquab 2017), arXiv:1610.06545; on probabilities in
    place of accuracies: Classification Logit Two-Sample Testing by Neural Networks (Cheng, Cloninger 2022),
    arXiv:1909.11298.

    >>> import jax
    >>> x, y = jax.random.normal(jax.random.key(0), (2, 200, 2))
    >>> found = classifier_test(x, 2.0 * y, key=jax.random.key(1))
    >>> 0.6 < found.statistic < 0.8, found.p_value < 0.01
    (True, True)
    """
    from scipy.special import expit

    check_sizes(num_permutations=num_permutations)
    check_functions("a function of rows", classifier=classifier)
    _, samples = as_rows(fewest=4, x=x, y=y)
    *split_keys, train_key, key = split_key(key, (4,))
    parts = [_split(key, rows, held_out) for key, rows in zip(split_keys, samples, strict=True)]
    (train_x, test_x), (train_y, test_y) = parts
    labels = jnp.arange(len(train_x) + len(train_y)) < len(train_x)
    decide = classifier(train_key, jnp.concatenate([train_x, train_y]), labels.astype(train_x.dtype))
    check_functions("log-odds, as the classifier has to", classifier=decide)
    test = jnp.concatenate([test_x, test_y])
    log_odds = np.asarray(decide(test), np.float64)
    if log_odds.shape != (len(test),) or not np.isfinite(log_odds).all():
        raise ValueError(
            f"classifier: expected finite log-odds of shape ({len(test)},) for as many rows, got shape {log_odds.shape}"
            + (" with NaN or infinity" if log_odds.shape == (len(test),) else "")
        )
    n, m = len(test_x), len(test_y)
    called = (log_odds > 0) + 0.5 * (log_odds == 0)
    accuracy = (called[:n].mean() + 1 - called[n:].mean()) / 2
    # of the mean probability of the right label the sum over the rows of label 1 is an increasing function
    sums = np.asarray(permuted_labels(key, n + m, n, num_permutations)) @ expit(log_odds)
    p_value = permutation_p_value(sums, 1e-9 * n)
    return TwoSample(float(accuracy), p_value, "held-out accuracy", (n, m), num_permutations)


def _split(key: Array, rows: Array, held_out: float) -> tuple[Array, Array]:
    """Return the rows to train on and the rows that are held out, at random."""
    count = round(held_out * len(rows)) if 0 < held_out < 1 else 0
    if not 2 <= count <= len(rows) - 2:
        raise ValueError(
            f"held_out: expected a share in (0, 1) that leaves and takes at least 2 rows of {len(rows)}, got {held_out}"
        )
    shuffled = jax.random.permutation(key, rows)
    return shuffled[count:], shuffled[:count]
