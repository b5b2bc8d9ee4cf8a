"""The laws of baselines."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from probgen.inference.estimators import Baseline, Signal
from probgen.inference.estimators.base import check_kind
from probgen.inference.laboratory.replicates import limit
from probgen.testing.law import require

_LEVEL = 1e-3
_TOLERANCE = 1e-6  # in float64


def check_baseline(
    baseline: Baseline,
    *args: Any,
    make: Callable[[Any], dist.Distribution] | None = None,
    theta: float = 0.3,
    num: int = 2000,
    key: Array | None = None,
    **kwargs: Any,
) -> None:
    """Check that a baseline does not depend on its own particle's draw, and so changes no mean.

        b_k(z_1, …, z_k, …) = b_k(z_1, …, z'_k, …),   E[b_k ∇_θ log q(z_k; θ)] = 0

    Each particle's draw is replaced in turn, its cost, log q and `observe` with it, and b_k must stay where it is, in
    float64. The mean is held against zero by a z-test, which a right baseline fails in one of a thousand keys. Beside
    that: b has the costs' shape, over plates and enumerated values; the new state is like the first; the
    auxiliary loss sends no gradient to log q; and without `couples` b_k reads no costs of other particles, but
    `others`. Costs are of each element of the plates, and of all of them together.

    Args:
        baseline: to be checked.
        *args: the guide's arguments, for a baseline that predicts from them.
        make: from θ to the distribution of one number, Normal(θ, 1.2) by default.
        theta: where θ stands.
        num: of independent sets of particles.
        key: a fixed one by default.
        **kwargs: the guide's keyword arguments.

    >>> from probgen.inference.estimators import Baseline, MovingAverage
    >>> check_baseline(MovingAverage())
    >>> class MeanOfAll(Baseline):
    ...     particles = 2
    ...
    ...     def __call__(self, signal):
    ...         return signal.cost.mean(0, keepdims=True), None, 0.0
    >>> check_baseline(MeanOfAll())
    Traceback (most recent call last):
    AssertionError: b does not depend on its own particle: another draw of it moved b by ...
    """
    check_kind("baseline", baseline, Baseline, "MovingAverage()")
    make = make or (lambda t: dist.Normal(t, 1.2))
    key = jax.random.key(0) if key is None else key
    with jax.enable_x64(True):
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
            prediction = baseline.predict("z", args, kwargs)
        plates = (3,) if prediction is None else np.shape(prediction)
        count = baseline.particles
        first, rest = jax.random.split(key)
        site = _Site(baseline, make, prediction, (count,), plates)
        _check_result(site, theta, site.draw(first, theta))
        # the same with one more particle, and two values that were enumerated upstream
        site = site._replace(lead=(count + 1, 2))
        state = _check_result(site, theta, site.draw(first, theta))
        facts = jax.jit(jax.vmap(site.facts, (0, None, None)))(jax.random.split(rest, num), theta, state)
        _check_facts(baseline, jax.tree.map(np.asarray, facts))


class _Facts(NamedTuple):
    """The facts of a baseline that laws are about.

    `own`, `others`: how far b moves relative to the costs; `product`: ∇_θ Σ b log q; `auxiliary`: its slope.
    """

    own: Any
    others: Any
    product: Any
    auxiliary: Any


class _Site(NamedTuple):
    """Particles of a site, and of its costs: arrays [K, *values, *plates]."""

    baseline: Baseline
    make: Callable[[Any], dist.Distribution]
    prediction: Any
    lead: tuple[int, ...]
    plates: tuple[int, ...]

    def draw(self, key: Array, theta: Any) -> Array:
        return self.make(theta).sample(key, (*self.lead, *self.plates))

    def signal(self, theta: Any, state: Any, value: Array) -> Signal:
        axes = tuple(range(len(self.lead), value.ndim))
        cost = (value - 0.5) ** 2 + value.sum(axes, keepdims=True) + 4.0
        others = None if len(value) == 1 else (cost.sum(0, keepdims=True) - cost) / (len(value) - 1)
        levels = self.lead[1:]
        weight = jnp.full(value.shape, 1 / np.prod(levels)) if levels else 1.0
        extra = self.prediction
        if extra is None:
            observe = lambda z: self.baseline.observe(self.make(theta).expand(self.plates), z)
            for _ in self.lead:
                observe = jax.vmap(observe)
            extra = observe(value)
        else:
            extra = jnp.broadcast_to(extra, value.shape)
        log_q = self.make(theta).log_prob(value)
        return Signal(log_q, cost, jnp.ones((1,) * value.ndim), others, weight, state, extra, len(levels))

    def b(self, signal: Signal) -> Array:
        return jnp.broadcast_to(self.baseline(signal)[0], signal.cost.shape)

    def facts(self, key: Array, theta: Any, state: Any) -> _Facts:
        value, other = self.draw(key, theta), self.draw(jax.random.fold_in(key, 1), theta)
        signal = self.signal(theta, state, value)
        b, unit = self.b(signal), jnp.max(jnp.abs(signal.cost))
        another = self.signal(theta, state, other).cost

        def moves(k: Array) -> tuple[Array, Array]:
            another_draw = self.b(self.signal(theta, state, value.at[k].set(other[k])))
            others_costs = self.b(signal._replace(cost=another.at[k].set(signal.cost[k])))
            return jnp.max(jnp.abs(another_draw - b)[k]) / unit, jnp.max(jnp.abs(others_costs - b)[k]) / unit

        own, others = jax.vmap(moves)(jnp.arange(len(value)))
        total = lambda t: jnp.sum(signal.weight * b * self.make(t).log_prob(value)) / len(value)
        auxiliary = lambda log_q: jnp.asarray(self.baseline(signal._replace(log_q=log_q))[2], float)
        slope = jnp.max(jnp.abs(jax.grad(auxiliary)(signal.log_q)))
        return _Facts(own, others, jax.grad(total)(jnp.asarray(theta, float)), slope)


def _check_result(site: _Site, theta: Any, value: Array) -> Any:
    """Check what one call gives, and return the state that it leaves."""
    before = site.baseline.init_state()
    result = site.baseline(site.signal(theta, before, value))
    triple = isinstance(result, tuple) and len(result) == 3
    require("a baseline gives (b, new state, auxiliary loss)", triple, f"it gave {type(result).__name__}")
    b, after, auxiliary = result
    shape = np.shape(b)
    fits = len(shape) <= value.ndim and all(n in (1, m) for n, m in zip(shape[::-1], value.shape[::-1], strict=False))
    require("b has the costs' shape", fits, f"{shape}, of costs {value.shape} ([K, *values, *plates])")
    require("finite b", np.isfinite(b), f"{b}")
    like = lambda tree: jax.tree.map(lambda x: (np.shape(x), jnp.result_type(x)), tree)
    require("the new state is like the first", like(before) == like(after), f"{like(before)} became {like(after)}")
    require(
        "the auxiliary loss is a finite number", np.shape(auxiliary) == () and np.isfinite(auxiliary), f"{auxiliary}"
    )
    return after


def _check_facts(baseline: Baseline, found: _Facts) -> None:
    moved = f"another draw of it moved b by {found.own.max():.2g} of the costs"
    require("b does not depend on its own particle", found.own <= _TOLERANCE, moved)
    if not baseline.couples:
        moved = f"others' moved it by {found.others.max():.2g}: couples = True says so, or `others` serves"
        require("b reads no costs of other particles", found.others <= _TOLERANCE, moved)
    require(
        "the auxiliary loss does not reach log q", found.auxiliary == 0, f"its slope is {found.auxiliary.max():.2g}"
    )
    error = found.product.std() / len(found.product) ** 0.5 + 1e-9
    z = abs(found.product.mean()) / error
    require("b changes no mean", z <= limit(_LEVEL, 1), f"E[b ∇ log q] = {found.product.mean():.2g} ± {error:.2g}")
