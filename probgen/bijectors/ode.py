"""Continuous flows: a bijector that follows an ordinary differential equation, and how that is solved."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from probgen.bijectors.base import Bijector
from probgen.core import (
    DensityKind,
    check_instances,
    check_positive,
    check_sizes,
    given,
    is_random,
    row_number,
    static_functions,
)


@dataclass(frozen=True)
class ODESolver:
    """How dx/dt = f(x, t) is solved, with the logarithm by which the flow stretches volumes, in one pass.

        d log|det ∂x(t)/∂x(0)| / dt = tr ∂f/∂x

    by Tsitouras' method of order 5, whose steps adapt to each event by itself. The trace is exact, at D products with
    the Jacobian for an evaluation; or the mean of vᵀ (∂f/∂x) v over Rademacher probes v, which stay the same along a
    path, for every event and at every call, so that a density is a deterministic function then too. It is unbiased over
    seeds, but off by more than `tolerance` at any one of them. Derivatives are those of the steps that were taken.

    Args:
        tolerance: of a step, relative and absolute, in nats where it is of the logarithm.
        probes: how many; None for the exact trace.
        seed: draws the probes.
        max_steps: after which it raises.
        forward_mode: whether there are forward-mode derivatives too, which makes a gradient several times slower.

    Raises ValueError where one is out of its range, or the tolerance is less than the numbers' precision allows.

    References: Neural Ordinary Differential Equations (Chen, Rubanova, Bettencourt, Duvenaud 2018), arXiv:1806.07366;
    FFJORD (Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud 2019), arXiv:1810.01367 (Hutchinson's trace); Runge–Kutta
    pairs of order 5(4) satisfying only the first column simplifying assumption (Tsitouras 2011).

    >>> import jax.numpy as jnp
    >>> x, log_det = ODESolver().solve(lambda x, t: -x, jnp.ones(2), (0.0, 1.0), density=True)
    >>> bool(jnp.allclose(x, jnp.exp(-1.0), atol=1e-4)), round(float(log_det), 3)
    (True, -2.0)
    """

    tolerance: float = 1e-5
    probes: int | None = None
    seed: int = 0
    max_steps: int = 4096
    forward_mode: bool = False

    def __post_init__(self) -> None:
        check_positive(tolerance=self.tolerance)
        check_sizes(max_steps=self.max_steps)
        if self.probes is not None:
            check_sizes(probes=self.probes)
        elif self.seed != 0:
            raise ValueError(f"seed: expected probes beside it, or it would do nothing, got {self.seed}")

    def solve(
        self,
        velocity: Callable[[Array, Array], Array],
        x: Array,
        ends: tuple[Any, Any],
        *,
        density: bool,
        key: Array | None = None,
    ) -> tuple[Array, Array]:
        """Return x(t) at the second of two times, and ∫ tr ∂f/∂x dt from the first to it.

        Args:
            velocity: f, x, t ↦ dx/dt.
            x: one event at the first time.
            ends: the times, in either order.
            density: whether the integral is wanted; 0 otherwise.
            key: draws the probes in place of the seed.
        """
        probes = self._probes(x.shape, x.dtype, key)

        def rate(t: Any, y: tuple[Array, Array], _: Any) -> tuple[Array, Array]:
            at = lambda x: self._checked(velocity(x, t), x)
            if not density:
                return at(y[0]), jnp.zeros_like(y[1])
            value, linear = jax.linearize(at, y[0])
            products = jax.vmap(lambda v: jnp.vdot(v, linear(v)))(probes)
            return value, jnp.sum(products) / (1 if self.probes is None else self.probes)

        found = self.integrate(rate, (x, jnp.zeros((), x.dtype)), ends)
        return found.ys[0][-1], found.ys[1][-1]

    def integrate(self, rate: Callable, y: Any, ends: tuple[Any, Any], *, every: bool = False) -> Any:
        """Return diffrax's solution of dy/dt = rate(t, y, None) by this tolerance.

        Args:
            rate: the right-hand side.
            y: any arrays of one dtype, at the first time.
            ends: the two times.
            every: whether y is kept after every step, and not at the end alone.

        Raises ValueError where y's numbers cannot meet the tolerance.
        """
        import diffrax

        dtype = jnp.result_type(*jax.tree.leaves(y))
        self.check_precision(dtype)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(rate),
            diffrax.Tsit5(),
            *(jnp.asarray(end, dtype) for end in ends),
            None,
            y,
            stepsize_controller=diffrax.PIDController(rtol=self.tolerance, atol=self.tolerance),
            adjoint=diffrax.DirectAdjoint() if self.forward_mode else diffrax.RecursiveCheckpointAdjoint(),
            saveat=diffrax.SaveAt(t0=True, steps=True) if every else diffrax.SaveAt(t1=True),
            max_steps=self.max_steps,
        )

    def check_precision(self, dtype: Any) -> None:
        """Raise ValueError where numbers of this kind cannot meet the tolerance.

        Args:
            dtype: of the event.
        """
        least = 4.0 * float(jnp.finfo(dtype).eps)
        if self.tolerance < least:
            raise ValueError(
                f"tolerance: expected at least {least:.1e} for {jnp.dtype(dtype).name}, got {self.tolerance}; "
                "jax.enable_x64 allows less"
            )

    def _probes(self, shape: tuple[int, ...], dtype: Any, key: Array | None) -> Array:
        size = math.prod(shape)
        if self.probes is None:
            return jnp.eye(size, dtype=dtype).reshape(size, *shape)
        key = jax.random.key(self.seed) if key is None else key
        return jax.random.rademacher(key, (self.probes, *shape), dtype)

    @staticmethod
    def _checked(value: Array, x: Array) -> Array:
        if jnp.shape(value) != x.shape:
            raise ValueError(f"velocity: expected the event's shape {x.shape}, got {jnp.shape(value)}")
        return value.astype(x.dtype)


class Velocity(eqx.Module):
    """A network of (event, context) as a velocity f(x, t): features of the time are its context, and a condition, which
    `core.bind` sets, is appended to them.

    Args:
        network: of (event, context), to as many numbers as the event has.
        embedding: t ↦ features, [...].
        context_dim: the size of the condition, if there is one.
        context: the condition, once it is bound.

    >>> import jax.numpy as jnp
    >>> Velocity(lambda x, c: c[0] * x, lambda t: jnp.stack([t, t**2]))(jnp.ones(2), jnp.array(0.5)).tolist()
    [0.5, 0.5]
    """

    network: Any = eqx.field(converter=static_functions)
    embedding: Callable[[Array], Array] = eqx.field(converter=static_functions)
    context_dim: int | None = eqx.field(static=True, default=None, kw_only=True)
    context: Array | None = given(default=None, kw_only=True)

    def __check_init__(self) -> None:
        if self.context_dim is not None:
            check_sizes(context_dim=self.context_dim)

    def bind_context(self, context: Array) -> "Velocity":
        """Return the same velocity with its condition filled in."""
        if self.context_dim is None:
            return self
        return eqx.tree_at(lambda v: v.context, self, context, is_leaf=lambda x: x is None)

    def __call__(self, x: Array, t: Array) -> Array:
        """Return f(x, t). Raises ValueError where it takes a condition and none is bound."""
        context = self.embedding(t).astype(x.dtype)
        if self.context_dim is not None:
            if self.context is None:
                raise ValueError("this model is conditional: call the ConditionalModel with a context first")
            context = jnp.concatenate([context, self.context])
        return self.network(x, context).reshape(x.shape)


_SOLVER = ODESolver()


def _callable(velocity: Any) -> Any:
    check_instances(velocity=velocity)  # (a class is a function too, which would become a static one)
    return static_functions(velocity)


class ODE(Bijector):
    """Where the flow of dx/dt = f(x, t) carries an event: x(0) is the base's, x(1) the data's.

        y = x + ∫₀¹ f(x(t), t) dt,   log|det ∂y/∂x| = ∫₀¹ tr ∂f/∂x dt

    Both directions are one solve, log-determinant included. f may be any smooth function of an event and a number: the
    flow is invertible whatever its weights are. Its log-determinant is an estimate within the solver's tolerance.
    Probes stay what they are until a key is bound (`core.with_key`), as `fit` does in each step; then each row has
    its own. (Weights could learn to please a few fixed ones.)

    Args:
        velocity: f, x, t ↦ dx/dt, any callable pytree: a `Velocity` of a network, or what another model follows.
        solver: its tolerance, and how the trace is found.
        ndims: the rank of an event.
        key: the randomness of one training step; `core.with_key` sets it.

    Raises ValueError where f holds dropout, whose masks would change along a path, or gives another shape.

    References: as `ODESolver`'s.

    >>> import jax.numpy as jnp
    >>> y, log_det = ODE(lambda x, t: 2.0 * t * x).forward_and_log_det(jnp.ones((3, 2)))  # y = e x
    >>> y.shape, log_det.round(3)
    ((3, 2), Array([2., 2., 2.], dtype=float32))
    """

    velocity: Any = eqx.field(converter=_callable)
    solver: ODESolver = eqx.field(static=True, default=_SOLVER)
    ndims: int = eqx.field(static=True, default=1)
    key: Array | None = given(default=None, kw_only=True)

    def __check_init__(self) -> None:
        check_instances(solver=self.solver)
        if not isinstance(self.solver, ODESolver):
            raise ValueError(f"solver: expected a bijectors.ODESolver, got {type(self.solver).__name__}")
        check_sizes(0, ndims=self.ndims)
        if is_random(self.velocity):
            raise ValueError("velocity: expected no dropout, whose masks would change along a path")

    @property
    def event_ndims_in(self) -> int:
        return self.ndims

    @property
    def kind(self) -> DensityKind:
        return "estimate"

    @property
    def tolerance(self) -> float:
        return self.solver.tolerance

    @property
    def is_random(self) -> bool:
        """Whether a key makes a difference: where there are probes."""
        return self.solver.probes is not None

    def bind_key(self, key: Array) -> "ODE":
        """Return the same flow with probes that the key draws, other ones for each row."""
        return ODE(self.velocity, self.solver, self.ndims, key=key) if self.is_random else self

    def _solve(self, x: Array, start: float, end: float) -> tuple[Array, Array]:
        key = None if self.key is None else jax.random.fold_in(self.key, row_number())
        return self.solver.solve(self.velocity, x, (start, end), density=True, key=key)

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self._solve(x, 0.0, 1.0)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self._solve(y, 1.0, 0.0)
