"""Baselines of the score-function estimator: what is subtracted from the cost, and changes no mean.

    ∇_θ E[f(z)] = E[(f(z) − b) ∇_θ log q(z)]   for every b that does not depend on z

Each is a frozen dataclass; called on a `Signal` it gives b, its new state, and an auxiliary loss (for what it learns
itself).
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions.batch_util import promote_batch_shape

from probgen.core import module, vectorize
from probgen.distributions.wrapped import unmasked
from probgen.inference.estimators.base import Seams, Signal, State, check_kind

Baselined = tuple[Array | float, State, Array | float]


@dataclasses.dataclass(frozen=True)
class Baseline(Seams, abc.ABC):
    """A number that is subtracted from the cost; it may ask for what an estimator may.

    A subclass is a frozen dataclass that is called on a `Signal`, whose arrays are `[K, *values, *plates]`. What it
    gives must not depend on the particle's own value: `probgen.testing.check_baseline` finds out.

    >>> class LeastOfOthers(Baseline):  # the least that the other particles cost
    ...     particles = 2
    ...     couples = True  # it reads the costs of other particles
    ...
    ...     def __call__(self, signal):
    ...         least = [jnp.min(jnp.delete(signal.cost, k, axis=0), axis=0) for k in range(len(signal.cost))]
    ...         return jnp.stack(least), None, 0.0
    >>> from probgen.testing import check_baseline
    >>> check_baseline(LeastOfOthers())
    """

    @abc.abstractmethod
    def __call__(self, signal: Signal) -> Baselined:
        """Return (b, new state, auxiliary loss)."""


@dataclasses.dataclass(frozen=True)
class Constant(Baseline):
    """b = value, a number that the user knows, per unit of the site's scale.

    Args:
        value: the cost that is expected, per unit of the scale.
    """

    value: Any = 0.0

    def __call__(self, signal: Signal) -> Baselined:
        """Return the constant."""
        return self.value * signal.scale, None, 0.0


@dataclasses.dataclass(frozen=True)
class MovingAverage(Baseline):
    """b = exponential moving average of the costs of past steps, averaged over particles and plates.

        m ← decay · m + (1 − decay) · mean(cost / scale),   b = scale · m / (1 − decay^t)

    The step's own costs enter only afterwards, so that b does not depend on z. It keeps state: `use` registers it.

    Args:
        decay: in [0, 1).

    Raises ValueError for another decay.

    References: Simple Statistical Gradient-Following Algorithms (Williams 1992).
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: expected a number in [0, 1), got {self.decay!r}")

    def init_state(self) -> State:
        """Return the sum, and the weight that it has."""
        return {"sum": jnp.zeros(()), "weight": jnp.zeros(())}

    def __call__(self, signal: Signal) -> Baselined:
        """Return the average so far, and the next."""
        state = signal.state
        average = state["sum"] / jnp.maximum(state["weight"], 1e-8)
        now = jnp.mean(jnp.sum(signal.weight * signal.cost / signal.scale, tuple(range(1, 1 + signal.value_axes))))
        new = {
            "sum": self.decay * state["sum"] + (1 - self.decay) * now,
            "weight": self.decay * state["weight"] + (1 - self.decay),
        }
        return signal.scale * average, new, 0.0


@dataclasses.dataclass(frozen=True)
class Learned(Baseline):
    """b = a network of what the guide is given, trained beside it to predict the cost (NVIL).

        b(x) = scale · (network(x) + c),   auxiliary loss ½ Σ (cost / scale − b(x) / scale)²

    Its params are a `param` site `NAME$baseline$params` of the guide (a learning rate of their own:
    `optax.multi_transform`).

    Args:
        network: any callable pytree from a vector [D] to [1].
        inputs: `(*args, **kwargs) -> [*plates, D]`, from the guide's arguments; called inside the site's plates, so
            that `numpyro.subsample` works in it.
        center: a baseline that is subtracted first, such as `MovingAverage()`, since a network takes long to learn a
            large constant.

    References: Neural Variational Inference and Learning in Belief Networks (Mnih, Gregor 2014), arXiv:1402.0030.
    """

    network: Any
    inputs: Callable[..., Array]
    center: Baseline = Constant()

    def __post_init__(self) -> None:
        """Refuse what is no baseline."""
        check_kind("center", self.center, Baseline, "MovingAverage()")

    @property
    def learns(self) -> bool:
        """Whether it has params of its own: it has."""
        return True

    def init_state(self) -> State:
        """Return the center's state."""
        return self.center.init_state()

    def predict(self, name: str, args: tuple, kwargs: dict) -> Array:
        """Return network(x), of the plates' shape."""
        network = module(f"{name}$baseline", self.network)
        return vectorize(network, 1)(lax.stop_gradient(self.inputs(*args, **kwargs)))[..., 0]

    def __call__(self, signal: Signal) -> Baselined:
        """Return the center's baseline and the network's."""
        center, state, _ = self.center(signal)
        residual = lax.stop_gradient((signal.cost - center) / signal.scale)
        prediction = signal.extra
        loss = 0.5 * jnp.sum(signal.weight * (residual - prediction) ** 2) / len(residual)
        return center + signal.scale * lax.stop_gradient(prediction), state, loss


@dataclasses.dataclass(frozen=True)
class OtherParticles(Baseline):
    """b_k = what the other particles expect of the k-th: their mean cost, where an objective is a mean over particles.

        b_k = 1/(K − 1) Σ_{j≠k} cost_j

    References: Buy 4 REINFORCE Samples, Get a Baseline for Free! (Kool, van Hoof, Welling 2019); the same for the
    multi-sample bound: VIMCO (Mnih, Rezende 2016), arXiv:1602.06725.
    """

    @property
    def particles(self) -> int:
        """The fewest particles that it needs: two."""
        return 2

    def __call__(self, signal: Signal) -> Baselined:
        """Return the mean of the others."""
        if signal.others is None:
            raise ValueError("leave-one-out needs two particles or more")
        return signal.others, None, 0.0


@dataclasses.dataclass(frozen=True)
class OptimalCoefficient(Baseline):
    """b_k = the variance-optimal constant for the score of the site's parameters, estimated from the other particles.

        b_k = Σ_{j≠k} cost_j ‖s_j‖² / Σ_{j≠k} ‖s_j‖²,   s = ∂ log q(z) / ∂ (parameters of the distribution)

    per element of the plates. With two particles it is `OtherParticles`. The ratio has a noise of
    its own, which with a few dozen particles costs more than the coefficient gains: `gradient_report` tells.

    References: Variance Reduction Techniques for Gradient Estimates in Reinforcement Learning (Greensmith, Bartlett,
    Baxter 2004); Black Box Variational Inference (Ranganath, Gerrish, Blei 2014), arXiv:1401.0118.
    """

    @property
    def particles(self) -> int:
        """The fewest particles that it needs: two."""
        return 2

    @property
    def couples(self) -> bool:
        """Whether it reads the costs of other particles: it does."""
        return True

    def observe(self, fn: dist.Distribution, value: Array) -> Array:
        """Return ‖s‖², of the distribution's batch shape."""
        full = promote_batch_shape(unmasked(fn))
        floats, structure = jax.tree.flatten(full)
        learns = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in floats]

        def total(chosen: list[Array]) -> Array:
            given = iter(chosen)
            leaves = [next(given) if yes else leaf for leaf, yes in zip(floats, learns, strict=True)]
            return jnp.sum(jax.tree.unflatten(structure, leaves).log_prob(value))

        scores = jax.grad(total)([lax.stop_gradient(leaf) for leaf, yes in zip(floats, learns, strict=True) if yes])
        batch = len(fn.batch_shape)
        return sum(jnp.sum(s**2, tuple(range(batch, s.ndim))) for s in scores)  # type: ignore[return-value]

    def __call__(self, signal: Signal) -> Baselined:
        """Return the weighted mean of the others."""
        weights = lax.stop_gradient(signal.extra) + 1e-12
        others = lambda x: jnp.sum(x, 0, keepdims=True) - x
        return others(signal.cost * weights) / others(weights), None, 0.0
