"""The models of the command line: how each is built and trained on images, or sequences, of integers.

With `quick` they are small, and without the dropout that little training has no use for: most of the time goes into
compiling them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import Array

from probgen.autoregressive import Autoregressive, Ragged, char_rnn, gated_pixel_cnn
from probgen.core import count_parameters
from probgen.distributions import ConditionalModel, Distribution
from probgen.flows import on_levels, real_nvp
from probgen.inference import FitResult, fit
from probgen.inference.objectives import ELBO, ImportanceWeighted
from probgen.latent import vae
from probgen.mixtures import EM, categorical_mixture, gaussian_mixture, histogram
from probgen.score import vp_score


class Split(NamedTuple):
    """Rows of integers 0..levels−1 (0 levels: of reals), split into three: each x [N, ...], or (x, what comes along).

    Along come the one-hot [N, classes] of labels; or, of `ragged` rows, their lengths [N] before they are filled up.
    """

    name: str
    train: Any
    validation: Any
    test: Any
    levels: int
    classes: int | None = None
    ragged: bool = False

    @property
    def rows(self) -> int:
        """The number of rows to train on."""
        return len(jax.tree.leaves(self.train)[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return jax.tree.leaves(self.train)[0].shape[1:]


class Trained(NamedTuple):
    """A trained model, the history of its training, and how many numbers were learned."""

    model: Any
    history: Any
    parameters: int


class Entry(NamedTuple):
    """A model of the command line: `train(data, key=, quick=) ->
    Trained`; `particles` for its bound on test rows; `what` it is, for the table.

    `event_dim`: 2 of images, 1 of sequences; `conditional`: whether it takes contexts.
    """

    name: str
    what: str
    particles: int
    train: Callable[..., Trained]
    conditional: bool = True
    event_dim: int = 2


def _em(data: Split, model: Distribution, name: str, steps: int, key: Array, **pseudo_counts: float) -> FitResult:
    rows = len(data.train)
    return fit(
        EM(model, **pseudo_counts),
        data.train,
        steps=steps,
        batch_size=rows,
        key=key,
        validation=data.validation,
        validate_every=1,
        patience=5,
        progress=name,
    )


def _independent(data: Split, *, key: Array, quick: bool) -> Trained:
    model = histogram(data.shape, data.levels)
    # one step counts all there is to count, and a second finds nothing to change
    result = _em(data, model, "independent", 2, key, smoothing=1e-3)
    return Trained(result.model.model, result.history, count_parameters(model))


def _mixture(data: Split, *, key: Array, quick: bool) -> Trained:
    runs = []
    for components in (20,) if quick else (40, 80, 120):
        model_key, fit_key = jax.random.split(jax.random.fold_in(key, components))
        model = categorical_mixture(data.shape, data.levels, components=components, key=model_key)
        name = f"mixture of {components}"
        runs.append(_em(data, model, name, 10 if quick else 80, fit_key, smoothing=0.1, shrinkage=16.0))
    best = min(runs, key=lambda result: float(result.history["validation"].min()))  # by validation
    return Trained(best.model.model, best.history, count_parameters(best.model.model))


def _by_gradients(
    data: Split,
    model: Any,
    name: str,
    *,
    epochs: int,
    batch_size: int,
    rate: float,
    objective: ELBO | None = None,
    key: Array,
) -> Trained:
    """Train by AdamW with a warm-up and a cosine decay, clipped gradients, averaged params, the best on validation."""
    batch_size = min(batch_size, data.rows)
    per_epoch = data.rows // batch_size
    schedule = optax.cosine_onecycle_schedule(epochs * per_epoch, rate, pct_start=0.1)
    result = fit(
        model,
        data.train,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(schedule, weight_decay=1e-2)),
        objective=objective,
        key=key,
        validation=data.validation,
        validate_every=per_epoch * max(1, epochs // 25),
        ema=0.998 if epochs * per_epoch > 1000 else 0.98,
        progress=name,
    )
    return Trained(result.model, result.history, count_parameters(result.model))


def _real_nvp(data: Split, *, key: Array, quick: bool) -> Trained:
    model_key, fit_key = jax.random.split(key)
    layers, hidden, dropout = (4, (64,), 0.0) if quick else (12, (128, 128), 0.1)
    flow = real_nvp(
        math.prod(data.shape),
        layers=layers,
        hidden=hidden,
        dropout=dropout,
        permute=True,
        context_dim=data.classes,
        key=model_key,
    )
    model = on_levels(flow, data.shape, data.levels)
    return _by_gradients(data, model, "real_nvp", epochs=4 if quick else 120, batch_size=128, rate=1e-3, key=fit_key)


def _autoregressive(data: Split, *, key: Array, quick: bool) -> Trained:
    model_key, fit_key = jax.random.split(key)
    channels, depth, dropout = (16, 1, 0.0) if quick else (32, 5, 0.2)
    model = gated_pixel_cnn(
        data.shape,
        data.levels,
        channels=channels,
        depth=depth,
        dropout=dropout,
        context_dim=data.classes,
        key=model_key,
    )
    return _by_gradients(
        data, model, "autoregressive", epochs=2 if quick else 20, batch_size=64, rate=4e-3, key=fit_key
    )


def _vae(data: Split, *, key: Array, quick: bool) -> Trained:
    prior_key, model_key, fit_key = jax.random.split(key, 3)
    hidden, dropout = ((128,), 0.0) if quick else ((256, 256), 0.02)
    model = vae(
        data.shape,
        data.levels,
        latent_dim=16,
        hidden=hidden,
        prior=gaussian_mixture(16, components=20, diagonal=True, key=prior_key),
        dropout=dropout,
        input_dropout=dropout,
        context_dim=data.classes,
        key=model_key,
    )
    epochs, objective = 4 if quick else 70, ImportanceWeighted(2)  # two weights: 0.006 bits/dim better in equal time
    return _by_gradients(data, model, "vae", epochs=epochs, batch_size=128, rate=4e-3, objective=objective, key=fit_key)


def _score(data: Split, *, key: Array, quick: bool) -> Trained:
    model_key, fit_key = jax.random.split(key)
    network: dict[str, Any] = {"depth": 1 if quick else 3, "context_dim": data.classes, "key": model_key}
    if max(data.shape[:2]) <= 16:  # larger images take too long at their own resolution
        network |= {"channels": 8 if quick else 32, "dropout": 0.0 if quick else 0.05}
        epochs, batch_size, rate = 30, 64, 4e-3
    else:
        network |= {"width": 128 if quick else 256, "dropout": 0.0 if quick else 0.1}
        epochs, batch_size, rate = 100, 128, 1e-3
    model = vp_score(data.shape, levels=data.levels, **network)
    options: dict[str, Any] = {"epochs": 4 if quick else epochs, "batch_size": batch_size, "rate": rate}
    return _by_gradients(data, model, "score", **options, key=fit_key)


def _char_rnn(data: Split, *, key: Array, quick: bool) -> Trained:
    """Train on ragged rows by their density up to their lengths: what fills them up is not learned."""
    model_key, fit_key = jax.random.split(key)
    width = 32 if quick else 128
    model: Any = char_rnn(*data.shape, data.levels, width=width, context_dim=data.classes, key=model_key)
    model = up_to_lengths(model) if data.ragged else model
    trained = _by_gradients(data, model, "char_rnn", epochs=1 if quick else 20, batch_size=64, rate=4e-3, key=fit_key)
    return trained._replace(model=trained.model.model.model) if data.ragged else trained


def up_to_lengths(model: Autoregressive) -> ConditionalModel:
    """Return the model of the beginnings of rows, as long as their lengths say."""
    return ConditionalModel(Ragged(model), ())


MODELS = [
    Entry("independent", "a histogram for each pixel", 1, _independent, conditional=False),
    Entry("mixture", "mixture of independent categoricals, by EM", 1, _mixture, conditional=False),
    Entry("real_nvp", "RealNVP on dequantized pixels, {particles} particles", 16, _real_nvp),
    Entry("autoregressive", "gated PixelCNN", 1, _autoregressive),
    Entry("vae", "VAE, importance-weighted bound, {particles} particles", 256, _vae),
    Entry("score", "VP diffusion, variational bound, mean of {particles} draws", 64, _score),
    Entry("char_rnn", "recurrent network", 1, _char_rnn, event_dim=1),
]
