"""One training run whose points all estimators are measured at."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from jax import Array
from numpyro.infer import SVI

from probgen.core import split_key
from probgen.inference.estimators import Estimator, use
from probgen.inference.laboratory.report import Point
from probgen.inference.objectives import ELBO


def shared_trajectory(
    key: Array,
    model: Callable,
    guide: Callable,
    *args: Any,
    optimizer: optax.GradientTransformation,
    steps: int,
    every: int,
    estimators: Mapping[str, Mapping[str, Estimator]] | None = None,
    objective: ELBO | None = None,
    baseline_optimizer: optax.GradientTransformation | None = None,
    **kwargs: Any,
) -> list[Point]:
    """Train by SVI, and keep every so many steps' params: points for `gradient_report`.

    What contenders keep from step to step (moving averages, learned baselines) is brought along at the same params,
    each by its own gradients, so that all of them are as warm as they would be, and none of them steers.

    Args:
        key: a `jax.random.key`.
        model: a numpyro program.
        guide: its guide, with the estimators that steer.
        *args: the program's arguments.
        optimizer: an optax transformation.
        steps: how many.
        every: steps from one point to the next.
        estimators: the contenders, `{name: {site: estimator}}`.
        objective: `objectives.ELBO()` by default.
        baseline_optimizer: of learned baselines; `optimizer` by default.
        **kwargs: the program's keyword arguments.

    >>> import jax, optax
    >>> from probgen.inference.laboratory import bits
    >>> b = bits(3)
    >>> points = shared_trajectory(
    ...     jax.random.key(0),
    ...     b.model,
    ...     b.guide,
    ...     optimizer=optax.adam(0.1),
    ...     steps=10,
    ...     every=5,
    ...     estimators=b.contenders,
    ... )
    >>> [point.step for point in points], sorted(points[0].own)
    ([0, 5, 10], ['moving average'])
    """
    objective = ELBO() if objective is None else objective
    init_key, follow_key = split_key(key, (2,))
    svi = SVI(model, guide, optimizer, objective)
    state = svi.init(init_key, *args, **kwargs)
    followers = {
        name: follower
        for name, chosen in (estimators or {}).items()
        if (follower := _Follower(model, use(guide, chosen), objective, baseline_optimizer or optimizer)).init(
            init_key, args, kwargs, svi.get_params(state)
        )
    }

    @jax.jit
    def step(state: Any, kept: dict[str, Any], key: Array, args: tuple, kwargs: dict) -> tuple[Any, dict[str, Any]]:
        params = svi.get_params(state)
        kept = {name: followers[name].update(key, params, kept[name], args, kwargs) for name in followers}
        return svi.update(state, *args, **kwargs)[0], kept

    kept = {name: follower.start for name, follower in followers.items()}
    points = []
    for i in range(steps + 1):
        if i % every == 0:
            own = {name: followers[name].own(kept[name]) for name in followers}
            points.append(Point(i, svi.get_params(state), own))
        if i < steps:
            state, kept = step(state, kept, jax.random.fold_in(follow_key, i), args, kwargs)
    return points


class _Follower:
    """A contender that learns what it keeps, at the params of another one."""

    def __init__(self, model: Callable, guide: Callable, objective: ELBO, optimizer: optax.GradientTransformation):
        self.model, self.guide, self.objective, self.optimizer = model, guide, objective, optimizer

    def init(self, key: Array, args: tuple, kwargs: dict, params: dict[str, Any]) -> bool:
        """Return whether there is anything to keep; `start` is how it begins."""
        svi = SVI(self.model, self.guide, self.optimizer, self.objective)
        state = svi.init(key, *args, **kwargs)
        learned = {name: value for name, value in svi.get_params(state).items() if name not in params}
        self.start = (learned, self.optimizer.init(learned), state.mutable_state or {})
        return bool(learned or state.mutable_state)

    def update(self, key: Array, params: dict[str, Any], kept: Any, args: tuple, kwargs: dict) -> Any:
        learned, optimizer_state, mutables = kept

        def loss(learned: dict[str, Any]) -> tuple[Array, Any]:
            found = self.objective.loss_with_mutable_state(
                key, {**params, **learned, **mutables}, self.model, self.guide, *args, **kwargs
            )
            return found["loss"], found["mutable_state"]

        gradient, new = jax.grad(loss, has_aux=True)(learned)
        updates, optimizer_state = self.optimizer.update(gradient, optimizer_state, learned)
        return optax.apply_updates(learned, updates), optimizer_state, new or {}

    def own(self, kept: Any) -> dict[str, Any]:
        return {**kept[0], **kept[2]}
