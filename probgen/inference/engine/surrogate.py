"""From the terms of an objective and the estimators of the sites to one number whose gradient is right."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from probgen.inference.engine.sites import Frames, Site
from probgen.inference.estimators.base import Estimator, Signal

Key = tuple[str, str] | tuple[str, str, int]  # ("p" | "q" | "kl" | "f", site), ("kl", site, layer)


class Run(NamedTuple):
    """The results of one run of a program, as arrays over the plates: `[*plates]`, ones where a term has no such plate.

    `terms`: the summands of the objective, scaled and masked. `log_q`: of the sites, unscaled and unmasked. `scales`:
    of the sites; `extras`: of the scored ones. `states`: of their estimators. `mutables`: the program's own.
    """

    terms: dict[Key, Array]
    log_q: dict[str, Array]
    scales: dict[str, Array]
    extras: dict[str, Any]
    states: dict[str, Any]
    mutables: dict[str, Any]


class Graph(NamedTuple):
    """The facts of a program that are known before it runs: its sites, its terms' plates, and what flows where.

    `flows[key]`: the sites whose values a term depends on; `parents[name]`: those that a site's log q depends on,
    itself included.
    """

    sites: dict[str, Site]
    frames: dict[Key, Frames]
    flows: dict[Key, frozenset[str]]
    parents: dict[str, frozenset[str]]

    def enumerated(self, decided: Mapping[str, Estimator]) -> dict[str, np.ndarray]:
        """Return the values of the sites that want to see several, or which of their coupled draws. Raises ValueError
        where a term leaves the plates of one."""
        supports = {}
        for name, site in self.sites.items():
            copies = decided[name].copies
            try:
                values = decided[name].support(site.fn, site.plates) if copies == 1 else np.arange(copies)
            except ValueError as error:
                raise ValueError(f"site {name!r}: {decided[name]}: {error}; LeaveOneOut() would serve") from None
            if values is not None:
                supports[name] = values
        for name in supports:
            if decided[name].copies == 1 and (leaving := self.leaving(name, supports)):
                raise ValueError(
                    f"site {name!r}: {decided[name]} takes the elements of plate {leaving[1]!r} in lock-step, but "
                    f"{leaving[0][1]!r} depends on them and lies outside of it; LeaveOneOut() would serve"
                )
        return supports

    def leaving(self, name: str, supports: Iterable[str]) -> tuple[Key, str] | None:
        """Return a term that depends on a site and lies outside one of the site's plates, with that plate; or None."""
        for key in self.frames:
            if name in self.closure(self.flows[key], supports):
                for frame in self.sites[name].frames:
                    if frame not in self.frames[key]:
                        return key, frame.name
        return None

    def closure(self, names: Iterable[str], among: Iterable[str]) -> frozenset[str]:
        """Return those of `among` that the names depend on, at once or through the probability of another."""
        among = frozenset(among)
        reached: frozenset[str] = frozenset()
        frontier = frozenset(names) & among
        while frontier - reached:
            reached |= frontier
            frontier = frozenset().union(*(self.parents[name] for name in reached)) & among
        return reached


def to_plates(x: Any, frames: Frames, rank: int) -> Array:
    """Sum every axis that is no plate of `frames`, and give the rest `rank` axes."""
    x = jnp.asarray(x)
    plates = {frame.dim for frame in frames}
    x = jnp.sum(x, tuple(axis for axis in range(x.ndim) if axis - x.ndim not in plates), keepdims=True)
    shape = x.shape[max(0, x.ndim - rank) :]
    return x.reshape((1,) * (rank - len(shape)) + shape)


def over_values(run: Callable[..., Run], supports: Mapping[str, np.ndarray]) -> Callable[[Array], Run]:
    """Return `run(key, values)` at all combinations of values, [S_1, …, S_m, …]; what depends on no value runs once."""

    def nested(key: Array, fixed: dict[str, Array], names: list[str]) -> Run:
        if not names:
            return run(key, fixed)
        name, *rest = names
        return jax.vmap(lambda value: nested(key, {**fixed, name: value}, rest))(jnp.asarray(supports[name]))

    return lambda key: nested(key, {}, list(supports))


class Expectation:
    """Expected values over what was enumerated, and surrogates for what was drawn, given runs `[K, S_1, …, S_m,
    *plates]`; `names` are the sites that have axes of values, `copies` how many draws of each are coupled."""

    def __init__(self, run: Run, graph: Graph, names: list[str], copies: Mapping[str, int]):
        self.run, self.graph, self.names, self.copies = run, graph, names, copies

    def _axes(self, depends: frozenset[str], x: Array) -> Array:
        """Return one slice of every axis of values that x does not depend on."""
        for axis, name in enumerate(self.names, 1):
            if name not in depends:
                x = lax.slice_in_dim(x, 0, 1, axis=axis)
        return x

    def _expect(self, x: Array, over: frozenset[str]) -> Array:
        """Return Σ over the values of some sites, weighted by their probabilities."""
        if not over:
            return x
        x = x * self._weight(over)
        return jnp.sum(x, tuple(axis for axis, name in enumerate(self.names, 1) if name in over), keepdims=True)

    def _weight(self, names: frozenset[str]) -> Array | float:
        """Return the joint probability of values; of coupled draws, a share for each."""
        share = 1.0 / math.prod(self.copies[name] for name in names)
        summed = [name for name in self.names if name in names and self.copies[name] == 1]
        logs = [self._axes(self._depends({name}), self.run.log_q[name]) for name in summed]
        return share * jnp.exp(sum(logs[1:], start=logs[0])) if logs else share

    def _depends(self, names: Iterable[str]) -> frozenset[str]:
        return self.graph.closure(names, self.names)

    def value(self, key: Key) -> Array:
        """Return the mean of one term over particles and values, summed over plates; its gradient is that of the
        path."""
        depends = self._depends(self.graph.flows[key])
        term = self._expect(self._axes(depends, self.run.terms[key]), depends)
        return jnp.sum(term) / term.shape[0]

    def unit(self, name: str) -> Array:
        """Return how many elements the terms of a site count for."""
        sizes = math.prod(frame.size for frame in self.graph.sites[name].frames)
        return lax.stop_gradient(self.run.scales[name].ravel()[0] * sizes)

    def surrogate(self, name: str, estimator: Estimator, coefficients: Mapping[Key, Any]) -> tuple[Array, Any]:
        """Return the score term of one site, and its estimator's new state."""
        site, graph = self.graph.sites[name], self.graph
        own = self._depends(graph.parents[name])
        rank = self.run.log_q[name].ndim - 1 - len(self.names)
        cost = jnp.zeros(jnp.shape(self.run.log_q[name])[:1] + (1,) * (len(self.names) + rank))
        for key, term in self.run.terms.items():
            if name in graph.flows[key]:
                depends = self._depends(graph.flows[key])
                term = self._expect(self._axes(depends, lax.stop_gradient(term)), depends - own)
                # another plate may lie on the same axis: only those that both share keep their elements apart
                shared = {frame.dim for frame in site.frames if frame in graph.frames[key]}
                outside = tuple(axis for axis in range(-rank, 0) if axis not in shared)
                cost = cost + coefficients.get(key, 1.0) * jnp.sum(term, outside, keepdims=True)
        others = (jnp.sum(cost, 0, keepdims=True) - cost) / (len(cost) - 1) if len(cost) > 1 else None
        return estimator.surrogate(self.signal(name, cost, others))

    def signal(self, name: str, cost: Array, others: Array | None) -> Signal:
        """Return what the estimator of a site is told, given the cost at its plates."""
        own = self._depends(self.graph.parents[name])
        return Signal(
            log_q=self._axes(own, self.run.log_q[name]),
            cost=lax.stop_gradient(cost),
            scale=lax.stop_gradient(self._axes(own, self.run.scales[name])),
            others=None if others is None else lax.stop_gradient(others),
            weight=lax.stop_gradient(self._weight(own)),
            state=jax.tree.map(lambda x: x[(0,) * (1 + len(self.names))], self.run.states.get(name)),
            extra=jax.tree.map(lambda x: self._axes(own, x), self.run.extras.get(name)),
            value_axes=len(self.names),
            axis=1 + self.names.index(name) if name in self.names else None,
        )


def evaluations(supports: Mapping[str, np.ndarray], num_particles: int) -> int:
    """Return at how many joint values a program's density is evaluated for one gradient."""
    return num_particles * math.prod(len(values) for values in supports.values())
