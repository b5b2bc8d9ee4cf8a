"""What a report is about: a model, rows of its test and training data, its draws, and what it says of each."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probgen.autoregressive import Ragged
from probgen.cli.splits import Split
from probgen.core import split_key
from probgen.distributions import ConditionalModel
from probgen.distributions.conditionals import inner_model
from probgen.evaluation import Evaluation, pointwise
from probgen.evaluation.likelihood.row_by_row import has_bound_of_draws

DRAWS = 400  # and as many test rows beside them
TRAINING = 1000  # rows whose likelihood is compared with that of the test rows
NEIGHBOURS = 20_000_000  # numbers of training rows among which neighbours are looked for

Rows = tuple[np.ndarray, ...]


class Subject(NamedTuple):
    """A model and its data, and what both were drawn into.

    Attributes:
        model: as it was evaluated; a conditional one where its rows come with contexts or lengths.
        split: the rows, as the command line splits them.
        evaluation: of all test rows.
        test: x [N, *event], or (x, contexts), all of them.
        train: the training rows, in random order.
        chosen: the numbers of `DRAWS` test rows at random.
        draws: of the model, at the contexts of training rows where it takes some.
        train_log_p: log p of the first training rows, in nats, or its bound.
        draws_log_p: that of the draws.
        particles: of the bounds.
        key: for what else is random.
    """

    model: Any
    split: Split
    evaluation: Evaluation
    test: Rows
    train: Rows
    chosen: np.ndarray
    draws: Rows
    train_log_p: np.ndarray
    draws_log_p: np.ndarray
    particles: int
    key: jax.Array

    @property
    def inner(self) -> Any:
        """The model itself, of a conditional one."""
        return inner_model(self.model)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.test[0].shape[1:]

    @property
    def are_images(self) -> bool:
        """Whether rows are pictures [H, W]."""
        return len(self.event_shape) == 2

    @property
    def alphabet(self) -> str:
        """The characters of rows that are texts; of others it is empty."""
        return self.split.alphabet if len(self.event_shape) == 1 else ""

    @property
    def some(self) -> Rows:
        """Test rows, as many as there are draws, where there are so many."""
        return tuple(x[self.chosen] for x in self.test)

    @property
    def labels(self) -> np.ndarray | None:
        """The classes of all test rows, where the data set has them."""
        return self.split.test_labels

    def spelled(self, rows: np.ndarray) -> list[str]:
        """Return rows as texts, up to the first symbol where that fills them up.

        Args:
            rows: of symbols, [N, T].
        """
        texts = ["".join(self.alphabet[i] for i in row) for row in rows]
        return [text.split(self.alphabet[0])[0] for text in texts] if self.split.ragged else texts


def prepared(model: Any, rows: Any, split: Split, evaluation: Evaluation, *, key: jax.Array) -> Subject:
    """Return a model and its data with draws, and with the likelihoods of draws and training rows.

    Args:
        model: as it was evaluated.
        rows: the test rows, as they were evaluated.
        split: where they are from.
        evaluation: what was found.
        key: a `jax.random.key`.
    """
    test = as_tuple(rows)
    order_key, test_key, draw_key, key = split_key(key, (4,))
    order = np.asarray(jax.random.permutation(order_key, split.rows))
    train = tuple(x[order] for x in as_tuple(split.train)[: len(test)])
    chosen = np.asarray(jax.random.permutation(test_key, len(test[0])))[:DRAWS]
    draws = _drawn(draw_key, model, train)
    both = tuple(np.concatenate([x[:TRAINING], y]) for x, y in zip(train, draws, strict=True))
    particles = evaluation.num_particles if has_bound_of_draws(model) else 1
    log_p = pointwise(model, both if len(both) > 1 else both[0], key=key, num_particles=particles)
    of_train, of_draws = np.split(log_p, [len(both[0]) - len(draws[0])])
    return Subject(model, split, evaluation, test, train, np.sort(chosen), draws, of_train, of_draws, particles, key)


def as_tuple(rows: Any) -> Rows:
    """Return (x,) or (x, contexts).

    Args:
        rows: x, or (x, contexts).
    """
    return tuple(map(np.asarray, rows if isinstance(rows, tuple) else (rows,)))


def _drawn(key: jax.Array, model: Any, train: Rows) -> Rows:
    """Return draws, with the contexts of training rows that they are at, or with their own lengths."""
    inner = inner_model(model)
    if isinstance(inner, Ragged):
        return up_to_the_end(_sampled(inner.model, key, (DRAWS,)))
    if isinstance(model, ConditionalModel):
        contexts = np.resize(train[1], (DRAWS, *train[1].shape[1:]))  # in random order already
        return _sampled(model(jnp.asarray(contexts)), key, ()), contexts
    return (_sampled(model, key, (DRAWS,)),)


def _sampled(model: Any, key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(jax.jit(lambda model, key: model.sample(key, shape))(model, key))


def up_to_the_end(x: np.ndarray) -> Rows:
    """Return rows with nothing but zeros after their first one, and how many numbers those are, it included."""
    rows = x.reshape(len(x), math.prod(x.shape[1:]))
    ends = rows == 0
    lengths = np.where(ends.any(1), ends.argmax(1) + 1, rows.shape[1])
    kept = np.where(np.arange(rows.shape[1]) < lengths[:, None], rows, 0)
    return kept.reshape(x.shape), lengths
