"""Encoders that lag behind their decoders: training that lets them catch up, until they say enough of the data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from numpyro.infer import ELBO

from probgen.core import check_sizes, evaluating
from probgen.inference.training.fit import fit
from probgen.inference.training.result import FitResult
from probgen.inference.training.stream import as_rows
from probgen.inference.training.task import is_model
from probgen.inference.training.watch import Metric

_Encoder = Callable[[str], bool]


class _State(NamedTuple):
    step: Array
    encoder: Any
    others: Any


def aggressive(
    optimizer: optax.GradientTransformation, encoder: _Encoder, *, encoder_steps: int = 10
) -> optax.GradientTransformation:
    """Return an optax transformation that moves the encoder alone, and at every (k + 1)-th step the others alone.

    Both have a state of their own, which rests while the other moves.

    Args:
        optimizer: of both.
        encoder: whether a param is the encoder's, by its path: `name.path` of what `probgen.module(name, …)`
            registered, such as `"model.posterior.network.layers.0.weight"`, and else the name of its site.
        encoder_steps: k, at least 1.

    Raises ValueError where all params are the encoder's, or none is.

    References: Lagging Inference Networks and Posterior Collapse (He, Spokoyny, Neubig, Berg-Kirkpatrick 2019),
    arXiv:1901.05534.

    >>> import jax.numpy as jnp
    >>> optimizer = aggressive(optax.sgd(1.0), lambda path: path == "slope", encoder_steps=2)
    >>> params = {"slope": jnp.array(0.0), "bias": jnp.array(0.0)}
    >>> state = optimizer.init(params)
    >>> for _ in range(6):
    ...     updates, state = optimizer.update({"slope": jnp.array(-1.0), "bias": jnp.array(-1.0)}, state)
    ...     params = optax.apply_updates(params, updates)
    >>> float(params["slope"]), float(params["bias"])
    (4.0, 2.0)
    """
    check_sizes(encoder_steps=encoder_steps)
    if not callable(encoder):
        raise ValueError(f"encoder: expected a function of a param's path, got {encoder!r}")
    ours = lambda params: _by_path(params, lambda path: bool(encoder(path)))
    others = lambda params: jax.tree.map(lambda mine: not mine, ours(params))
    first, second = optax.masked(optimizer, ours), optax.masked(optimizer, others)

    def init(params: Any) -> _State:
        if len(set(jax.tree.leaves(ours(params)))) < 2:
            paths = jax.tree.leaves(_by_path(params, lambda path: path))
            raise ValueError(f"encoder: expected it to be true of some of these paths, and not of all: {paths}")
        return _State(jnp.zeros((), jnp.int32), first.init(params), second.init(params))

    def update(gradients: Any, state: _State, params: Any = None) -> tuple[Any, _State]:
        def encode() -> tuple[Any, _State]:
            updates, inner = first.update(gradients, state.encoder, params)
            return _only(updates, ours(gradients)), state._replace(encoder=inner)

        def decode() -> tuple[Any, _State]:
            updates, inner = second.update(gradients, state.others, params)
            return _only(updates, others(gradients)), state._replace(others=inner)

        updates, new = lax.cond(state.step == encoder_steps, decode, encode)
        return updates, new._replace(step=(state.step + 1) % (encoder_steps + 1))

    return optax.GradientTransformation(init, update)


def _only(updates: Any, mask: Any) -> Any:
    return jax.tree.map(lambda x, mine: x if mine else jnp.zeros_like(x), updates, mask)


def _by_path(params: Any, function: Callable[[str], Any]) -> Any:
    """Return what a function says of the path of each param."""
    of = lambda path: ".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)
    return jax.tree_util.tree_map_with_path(lambda path, _: function(of(path).replace("$params.", ".", 1)), params)


def fit_aggressively(
    model: Any,
    data: Any,
    *,
    encoder: _Encoder,
    encoder_steps: int = 10,
    information: Metric,
    objective: ELBO | None = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int,
    batch_size: int | None = None,
    key: Array,
    validation: Any,
    patience: int | None = None,
    progress: bool | str = True,
) -> FitResult:
    """Train a model with latent variables by `aggressive` epochs, until an epoch raises the information no more that z
    has of the validation rows, and then as `fit` does.

        I(x; z) = E_x KL(q(z | x) ‖ q(z)),   q(z) = E_x q(z | x)

    Args:
        model: a distribution with an encoder.
        data: as for `fit`.
        encoder: which params are the encoder's, by their paths `"model.…"`, such as
            `lambda path: path.startswith("model.posterior")`.
        encoder_steps: how many steps the encoder takes for one of the others.
        information: `function(model, key, rows)`, an estimate of I(x; z) under the model's encoder, in nats.
        objective: as for `fit`.
        optimizer: of both, and begun anew with each aggressive epoch; `optax.adam(1e-3)` by default.
        epochs: how many in all, at least 2, of which the last is not aggressive.
        batch_size: as for `fit`; an epoch has to have more steps than `encoder_steps`.
        key: a `jax.random.key`.
        validation: rows like `data`.
        patience: as for `fit`, of what is not aggressive.
        progress: as for `fit`.

    Returns the `FitResult` of the plain epochs, or of the aggressive one that failed or was interrupted. Its `history`
    has beside theirs `information`, before training and after each aggressive epoch, and `aggressive`, the losses of
    those epochs. Raises ValueError for a program, for an epoch in which no other param would move, and what `fit` and
    `aggressive` raise.

    References: Lagging Inference Networks and Posterior Collapse (He, Spokoyny, Neubig, Berg-Kirkpatrick 2019),
    arXiv:1901.05534.

    >>> import jax, jax.numpy as jnp, probgen
    >>> x = jax.random.bernoulli(jax.random.key(0), 0.5, (32, 3)).astype(int)
    >>> model = probgen.latent.vae((3,), 2, latent_dim=1, hidden=(4,), key=jax.random.key(1))
    >>> result = fit_aggressively(
    ...     model,
    ...     x,
    ...     encoder=lambda path: path.startswith("model.posterior"),
    ...     encoder_steps=3,
    ...     epochs=3,
    ...     batch_size=8,
    ...     information=lambda model, key, rows: model.kl(key, rows).mean(),  # an upper bound of I(x; z)
    ...     key=jax.random.key(2),
    ...     validation=x,
    ...     progress=False,
    ... )
    >>> result.stopped, result.history["information"].shape[0] >= 2
    ('finished', True)
    """
    check_sizes(2, epochs=epochs)
    if not is_model(model):
        raise ValueError(f"model: expected a distribution with an encoder, got {type(model).__name__}")
    if not callable(information):
        raise ValueError(f"information: expected a function of model, key and rows, got {information!r}")
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    both = aggressive(optimizer, encoder, encoder_steps=encoder_steps)
    steps = as_rows(data, batch_size).epoch_steps
    if steps is not None and steps <= encoder_steps:
        raise ValueError(f"encoder_steps: expected fewer than the steps of an epoch, {steps}, got {encoder_steps}")
    measure_key, key = jax.random.split(key)
    measured, losses = [_measure(information, model, measure_key, validation)], [np.zeros(0, np.float32)]
    options: dict[str, Any] = {"objective": objective, "batch_size": batch_size, "progress": progress}
    while len(measured) < epochs and (len(measured) < 2 or measured[-1] > measured[-2]):
        key, own = jax.random.split(key)
        result = fit(model, data, optimizer=both, epochs=1, key=own, **options)
        model = result.model
        losses.append(result.losses)
        if result.stopped != "finished":
            return result
        measured.append(_measure(information, model, measure_key, validation))
    left = epochs - len(measured) + 1
    options |= {"validation": validation, "patience": patience}
    result = fit(model, data, optimizer=optimizer, epochs=left, key=key, **options)
    result.history = result.history.assign(
        information=("aggressive_epoch", np.array(measured)), aggressive=("aggressive_step", np.concatenate(losses))
    )
    return result


def _measure(information: Metric, model: Any, key: Array, rows: Any) -> float:
    with evaluating():
        found = information(model, key, rows)
    if np.shape(found):
        raise ValueError(f"information: expected one number, got shape {np.shape(found)}")
    return float(found)
