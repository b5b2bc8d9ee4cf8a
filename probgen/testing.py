"""The laws of bijectors and distributions, as checks for users' own classes.

Each check raises AssertionError that says which law is broken and by how much. They are what probgen's own registry
is tested with.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import combine, partition


def _require(law: str, fine: Any, detail: str) -> None:
    if not bool(np.all(np.asarray(fine))):
        raise AssertionError(f"{law}: {detail}")


def _close(law: str, a: Any, b: Any, tolerance: float) -> None:
    a, b = np.asarray(a, float), np.asarray(b, float)
    _require(law, a.shape == b.shape, f"shapes {a.shape} and {b.shape}")
    error = np.max(np.abs(a - b) / (1 + np.abs(b)), initial=0.0)
    _require(law, error <= tolerance, f"relative error {error:.2e} exceeds {tolerance:.0e}")


def check_bijector(bijector: Any, x: Array, *, tolerance: float = 1e-4) -> None:
    """Round trip, log-determinants against autodiff and against each other, shapes under leading axes and `vmap`.

    Args: `bijector`; `x`: ONE event in its domain; `tolerance`: relative, for float32.

    >>> import jax.numpy as jnp
    >>> from probgen.bijectors import Sigmoid
    >>> check_bijector(Sigmoid(), jnp.array(0.3))
    """
    x = jnp.asarray(x)

    @jax.jit
    def facts(b: Any, x: Array) -> dict[str, Array]:
        y, forward = b.forward_and_log_det(x)
        back, inverse = b.inverse_and_log_det(y)
        jacobian = jax.jacobian(b.forward)(x).reshape(y.size, x.size)
        batch, batch_log_det = b.forward_and_log_det(jnp.stack([x, x])[:, None])
        return {
            "y": y, "back": back, "forward": forward, "inverse": inverse, "batch": batch,
            "batch_log_det": batch_log_det, "autodiff": jnp.linalg.slogdet(jacobian)[1],
        }  # fmt: skip

    f = facts(bijector, x)
    _require("shape of forward", f["y"].shape == bijector.forward_shape(x.shape), f"{f['y'].shape}")
    _require("rank of forward", f["y"].ndim - x.ndim == bijector.event_ndims_out - bijector.event_ndims_in, "")
    _close("round trip", f["back"], x, tolerance)
    _close("log_det = autodiff", jnp.sum(f["forward"]), f["autodiff"], tolerance)
    _close("inverse log_det = −log_det", f["inverse"], -f["forward"], tolerance)
    _close("leading axes", f["batch"], jnp.broadcast_to(f["y"], f["batch"].shape), tolerance)
    _close(
        "log_det over leading axes",
        f["batch_log_det"],
        jnp.broadcast_to(f["forward"], f["batch_log_det"].shape),
        tolerance,
    )
    _require("shape of log_det", f["batch_log_det"].shape[:2] == (2, 1), f"{f['batch_log_det'].shape}")


def check_learnable(model: Any, loss: Any) -> None:
    """Every learnable leaf gets a finite gradient that is not zero. `loss(model) -> scalar`.

    >>> import jax.numpy as jnp
    >>> from probgen.bijectors import Affine
    >>> check_learnable(Affine(jnp.zeros(2), jnp.zeros(2)), lambda b: b.forward_and_log_det(jnp.ones(2))[0].sum())
    """
    params, rest = partition(model)
    for path, gradient in jax.jit(jax.grad(lambda p: loss(combine(p, rest))))(params).items():
        _require("finite gradient", np.isfinite(gradient), f"leaf {path!r}")
        _require("gradient reaches every leaf", np.any(np.asarray(gradient) != 0), f"leaf {path!r} gets none")


def check_gradients(
    model: Any, function: Any, *values: Any, step: float = 1e-5, tolerance: float = 1e-5
) -> dict[str, float]:
    """Gradients are the right ones: of every learned leaf of `model`, and of every value, against central differences.

        ⟨∇f, v⟩ = (f(θ + h v) − f(θ − h v)) / 2h   for a random direction v in each leaf, in float64

    Args: `function(model, *values) -> scalar`, smooth at the model's numbers and deterministic (a density of fixed
    data, a weighted sum of draws of a fixed key); `values`: arrays of floats, such as events and contexts; `step`: h;
    `tolerance`: of the difference, relative to 1 + |⟨∇f, v⟩|. Returns ⟨∇f, v⟩ under the path of each leaf, and of
    values under "value 0" and so on.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.bijectors import Affine
    >>> affine = Affine(jnp.ones(2), jnp.zeros(2))
    >>> found = check_gradients(affine, lambda b, x: jnp.sum(b.forward(x) ** 2), jnp.array([0.3, 2.0]))
    >>> list(found)
    ['shift', 'log_scale', 'value 0']
    >>> check_gradients(affine, lambda b, x: jnp.sum(jax.lax.stop_gradient(b).forward(x)), jnp.array([0.3, 2.0]))
    Traceback (most recent call last):
    AssertionError: gradient = central difference: leaf ...: 0 and ...
    """
    with jax.enable_x64(True):
        model, values = jax.tree.map(_wide, (model, values))
        params, rest = partition(model)
        start = {**params, **{f"value {i}": value for i, value in enumerate(values)}}
        rng = np.random.default_rng(0)
        along = {path: rng.normal(size=leaf.shape) for path, leaf in start.items()}

        def moved(sizes: Array) -> Array:
            new = {p: leaf + size * along[p] for size, (p, leaf) in zip(sizes, start.items(), strict=True)}
            new_values = [new.pop(f"value {i}") for i in range(len(values))]
            return function(combine(new, rest), *new_values)

        both = jax.jit(jax.value_and_grad(moved))  # one program for both, since compiling is what takes time
        gradient = both(jnp.zeros(len(start)))[1].tolist()
        for path, found, h in zip(start, gradient, step * np.eye(len(start)), strict=True):
            right = float(both(h)[0] - both(-h)[0]) / (2 * step)
            fine = abs(found - right) <= tolerance * (1 + abs(right))
            _require("gradient = central difference", fine, f"leaf {path!r}: {found:.6g} and {right:.6g}")
        return dict(zip(start, gradient, strict=True))


def _wide(leaf: Any) -> Any:
    is_float = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jnp.asarray(np.asarray(leaf, np.float64)) if is_float else leaf  # (by NumPy, which compiles nothing)


def check_pytree(model: Any, x: Array) -> None:
    """Plain `jit` takes the model; leaves, paths and densities survive it; new values do not retrace.

    `x` is a batch of events, and the model is exact.
    """
    traces: list[None] = []

    @jax.jit
    def log_prob(model: Any, x: Array) -> tuple[Any, Array]:
        traces.append(None)
        return model, model.log_prob(x)

    again, first = log_prob(model, x)
    changed = jax.tree.map(lambda leaf: leaf * 1, again)
    log_prob(log_prob(changed, x)[0], x)
    _require("no retrace on new values", len(traces) == 1, f"{len(traces)} traces")
    _require("paths survive jit", list(partition(model)[0]) == list(partition(again)[0]), "")
    _close("jit keeps the density", first, again.log_prob(x), 1e-5)


def check_normalized(model: Any, events: Array, *, volume: float = 1.0, tolerance: float = 1e-3) -> None:
    """Σ p(x) · volume = 1 over `events` [N, *event_shape]: all of a discrete support, or a fine grid.

    >>> import jax.numpy as jnp
    >>> from probgen.mixtures import histogram
    >>> check_normalized(histogram((), 4), jnp.arange(4))
    """
    total = jnp.exp(jax.nn.logsumexp(jax.jit(lambda m, x: m.log_prob(x))(model, events))) * volume
    _require("the density is normalized", abs(float(total) - 1) <= tolerance, f"it sums to {float(total):.6f}")


def check_samples(model: Any, *, key: Array, num: int = 4096, z: float = 4.5) -> None:
    """Samples agree with the density, by E_p[∂ log p / ∂θ] = 0 for every learnable number θ at once.

    The score of a right density has mean zero under its own samples; each mean is held against its standard error at
    |z| ≤ `z` after a Bonferroni-like widening. Exact models with learnable floats only.
    """
    params, rest = partition(model)

    @jax.jit
    def z_scores(params: Any) -> tuple[Array, Array]:
        draws = combine(params, rest).sample(key, (num,))
        scores = jax.vmap(jax.grad(lambda p, x: combine(p, rest).log_prob(x)), in_axes=(None, 0))(params, draws)
        flat = jnp.concatenate([leaf.reshape(num, -1) for leaf in jax.tree.leaves(scores)], axis=1)
        return flat.mean(0) / (flat.std(0) / jnp.sqrt(num) + 1e-6), flat.std(0)

    values, spread = z_scores(params)
    worst = float(np.max(np.abs(np.asarray(values)[np.asarray(spread) > 1e-4]), initial=0.0))
    _require("samples agree with the density", worst <= z, f"a score has z = {worst:.1f}")


def influence(model: Any, x: Array) -> np.ndarray:
    """Which numbers move which conditionals of an autoregressive model, [D, D] of booleans: [i, j] is True where
    changing number j moves the conditional of number i. Each number is changed in turn, to the least or the largest of
    x; positions are flat. A row is the receptive field of a position, and what it misses a blind spot.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.autoregressive.made((3,), 4, hidden=(8,), key=jax.random.key(0))
    >>> influence(model, jnp.array([0, 3, 1])).astype(int)
    array([[0, 0, 0],
           [1, 0, 0],
           [1, 1, 0]])
    """
    _require_one(model)
    known = np.asarray(x)
    if known.shape != model.event_shape:
        raise ValueError(f"x: expected one event of shape {model.event_shape}, got {known.shape}")
    least, largest = known.min(), known.max()
    other = np.where(known == largest, least, largest) if largest > least else known + 1
    eye = np.eye(known.size, dtype=bool).reshape(known.size, *known.shape)
    same, *changed = np.asarray(_raw(model, jnp.asarray(np.concatenate([known[None], np.where(eye, other, known)]))))
    moved: np.ndarray = np.any(np.abs(changed - same) > 1e-5 * (1 + np.abs(same)), axis=-1).T
    return moved


def _require_one(model: Any) -> None:
    if not hasattr(model, "raw") or model.batch_shape:
        kind = type(model).__name__
        raise ValueError(f"model: expected an Autoregressive, or a conditional one with a single context, got a {kind}")


@eqx.filter_jit
def _raw(model: Any, events: Array) -> Array:
    return model.raw(events).reshape(len(events), events[0].size, -1)


def check_causal(model: Any, x: Array) -> None:
    """The conditionals of an autoregressive model depend only on what comes before, by perturbing each position.

    `model` is an `Autoregressive` of integers or reals, `x` one event in its support; every position is changed in
    turn, and no conditional at it or before it in the order may move. Without this law a likelihood means nothing.

    >>> import jax, jax.numpy as jnp, probgen
    >>> model = probgen.autoregressive.made((3,), 4, hidden=(8,), key=jax.random.key(0))
    >>> check_causal(model, jnp.array([0, 3, 1]))
    """
    moved, order = influence(model, x), np.asarray(model.order)
    for place, position in enumerate(order):
        before = [int(p) for p in order[: place + 1] if moved[p, position]]
        _require("causality", not before, f"changing position {position} moves the conditionals at {before}")
