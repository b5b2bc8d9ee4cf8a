"""Continuous normalizing flows: the solution of an ordinary differential equation, trained by maximum likelihood."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax.numpy as jnp
from jax import Array

from probgen.bijectors import ODE, ActNorm, Chain, ODESolver, Reshape, Velocity
from probgen.core import as_shape, recipe
from probgen.distributions import ConditionalModel, Transformed
from probgen.flows.layers import standard_normal
from probgen.networks import MLP, NoiseEmbedding, Reshaped, UNet
from probgen.networks.images import image_shape

_TIME = NoiseEmbedding(9, reach=1.0)


@recipe
def cnf(
    event_shape: Sequence[int],
    *,
    hidden: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
    activation: Callable[[Array], Array] = jnp.tanh,
    tolerance: float = 1e-4,
    probes: int | None = None,
    max_steps: int = 4096,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """A continuous normalizing flow: noise is carried to data by a velocity that a network learns.

        x = a ∘ x(1) + b,   dx(t)/dt = f(x(t), t),   x(0) ~ Normal(0, I)
        log p(x) = log N(x(0); 0, I) − ∫₀¹ tr ∂f/∂x dt − Σ_d log|a_d|

    Its density is an estimate within `tolerance` (`log_prob_estimate(key, x)`); f starts near zero, and `initialize`
    sets a and b. A velocity of another kind goes in by hand: `Transformed(base, bijectors.ODE(velocity))`.

    Args:
        event_shape: the shape of one event, of D numbers.
        hidden: widths of a dense network's hidden layers, (64, 64, 64) by default.
        channels: of the stages of a `UNet`, for images [H, W] or [H, W, C].
        activation: of the hidden layers, a smooth one: the solver's steps grow small at kinks.
        tolerance: of a step of the solver.
        probes: how many estimate the trace, drawn anew at each training step; None for the exact one, at D products
            with the Jacobian.
        max_steps: of the solver, after which it raises.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where one is out of its range, or would do nothing.

    References: Neural Ordinary Differential Equations (Chen, Rubanova, Bettencourt, Duvenaud 2018), arXiv:1806.07366.

    >>> import jax, jax.numpy as jnp
    >>> flow = cnf((2,), hidden=(16,), key=jax.random.key(0))
    >>> flow.kind, flow.log_prob_estimate(jax.random.key(1), jnp.zeros((5, 2))).shape
    ('estimate', (5,))
    """
    event_shape = as_shape(event_shape)
    dim, context = math.prod(event_shape), _TIME.dim + (context_dim or 0)
    options: dict[str, Any] = {"activation": activation, "context_dim": context, "key": key}
    network = (
        MLP(dim, dim, hidden=(64, 64, 64) if hidden is None else hidden, **options)
        if channels is None
        else _of_images(event_shape, hidden, channels=tuple(channels), **options)
    )
    solver = ODESolver(tolerance, probes, max_steps=max_steps)
    parts = [ActNorm(dim), ODE(Velocity(network, _TIME, context_dim=context_dim), solver)]
    placed = [] if event_shape == (dim,) else [Reshape((dim,), event_shape)]
    flow = Transformed(standard_normal(dim), Chain([*placed, *parts]))
    return ConditionalModel(flow, (context_dim,)) if context_dim else flow


@recipe
def ffjord(
    event_shape: Sequence[int],
    *,
    hidden: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
    activation: Callable[[Array], Array] = jnp.tanh,
    tolerance: float = 1e-4,
    probes: int = 1,
    max_steps: int = 4096,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """A `cnf` whose trace is Hutchinson's estimate, so that an evaluation costs the same at any D.

    What `log_prob_estimate(key, x)` returns is unbiased for log p(x), and its spread over keys is that of the probes.

    Args:
        event_shape: as for `cnf`.
        hidden: as for `cnf`.
        channels: as for `cnf`.
        activation: as for `cnf`.
        tolerance: as for `cnf`.
        probes: how many there are.
        max_steps: as for `cnf`.
        context_dim: as for `cnf`.
        key: draws the first weights.

    References: FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models (Grathwohl, Chen,
    Bettencourt, Sutskever, Duvenaud 2019), arXiv:1810.01367.

    >>> import jax, jax.numpy as jnp
    >>> flow = ffjord((4, 4, 1), hidden=(16,), key=jax.random.key(0))
    >>> flow.training_loss(jax.random.key(1), jnp.zeros((5, 4, 4, 1))).shape
    (5,)
    """
    flow = cnf(
        event_shape,
        hidden=hidden,
        channels=channels,
        activation=activation,
        tolerance=tolerance,
        probes=probes,
        max_steps=max_steps,
        context_dim=context_dim,
        key=key,
    )
    return cast(Transformed | ConditionalModel, flow)


def _of_images(event_shape: tuple[int, ...], hidden: Sequence[int] | None, **options: Any) -> Reshaped:
    """Return a U-Net that takes an image as a vector."""
    if hidden is not None:
        raise ValueError(f"hidden: expected none beside the channels of a U-Net, got {hidden}")
    shape = image_shape(event_shape)
    return Reshaped(UNet(shape, shape[2], **options), shape)
