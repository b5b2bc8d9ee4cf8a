"""One evaluation of an objective: trace the program once, choose the estimators, run the particles, assemble the
gradient."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from probgen.core import split_key
from probgen.inference.engine.choice import Choice, choose
from probgen.inference.engine.provenance import traced
from probgen.inference.engine.sites import Frames, Site
from probgen.inference.engine.surrogate import Expectation, Graph, Key, Run, evaluations, over_values
from probgen.inference.estimators.base import Estimator


class Static(NamedTuple):
    """The facts of a program that are no arrays."""

    sites: dict[str, Site]
    frames: dict[Key, Frames]
    plate_scales: dict[str, float]


# a program for one particle: (key, decided estimators, values in place of draws) -> arrays, static facts
Program = Callable[[Array, Mapping[str, Estimator], Mapping[str, Array]], tuple[Run, Static]]


class Plan(NamedTuple):
    """A traced program with an estimator for every site: `run(key)` gives `[S_1, …, S_m, *plates]`."""

    graph: Graph
    plate_scales: dict[str, float]
    choices: dict[str, Choice]
    supports: dict[str, Any]
    run: Callable[[Array], Run]

    @property
    def particles(self) -> int:
        """The fewest particles that the estimators need."""
        return max([choice.estimator.particles for choice in self.choices.values()], default=1)

    def evaluations(self, num_particles: int) -> int:
        """Return at how many joint values the density is evaluated for one gradient."""
        return evaluations(self.supports, max(num_particles, self.particles))


def make_plan(program: Program, key: Array, *, enumerates: bool = True) -> Plan:
    """Trace a program, find what flows where, choose the estimators. Raises ValueError, naming the site, where none
    serves."""
    static: list[Static] = []

    def first(key: Array) -> Run:
        run, facts = program(key, {}, {})
        static.append(facts)
        return run

    run, flows = traced(first, key)
    sites, frames = static[0].sites, static[0].frames
    # what is drawn within a scan leaves no mark on what the scan hands on: it may flow anywhere
    scanned = frozenset(name for name, site in sites.items() if site.scanned)
    graph = Graph(
        sites,
        frames,
        {name: flow | scanned for name, flow in flows.terms.items()},
        {name: flow | scanned | {name} for name, flow in flows.log_q.items()},
    )
    choices = choose(graph, enumerates)
    decided = {name: choice.estimator for name, choice in choices.items()}
    supports = graph.enumerated(decided)
    if supports:
        run = over_values(lambda key, values: program(key, decided, values)[0], supports)
    needed = {name for name, estimator in decided.items() if estimator.scored or name in supports}
    pruned = lambda run: run._replace(log_q={name: run.log_q[name] for name in run.log_q if name in needed})
    return Plan(graph, static[0].plate_scales, choices, supports, lambda key: pruned(run(key)))


class Values(NamedTuple):
    """The values of an objective's terms.

    `terms`: each term's mean over particles, summed over plates; `units`: how many elements a drawn site's terms count
    for (plate sizes times scale); `mutables`: the program's own state after the run, a mean over particles.
    """

    terms: dict[Key, Array]
    units: dict[str, Array]
    mutables: dict[str, Any]


class Estimate(NamedTuple):
    """The values of an objective's terms, and what their gradient takes beside them.

    `values` (the gradient of their terms is that of the path alone); `weights` of terms in the gradient; `score`: zero,
    with the gradient that the paths lack; `states`: the estimators' new ones.
    """

    values: Values
    weights: Mapping[Key, Any]
    score: Array
    states: dict[str, Any]


def estimate(
    plan: Plan,
    key: Array,
    num_particles: int,
    vectorize: Callable[[Callable[[Array], Run], Array], Run],
    coefficients: Callable[[Values], Mapping[Key, Any]] = lambda values: {},
    chosen: Iterable[Key] | None = None,
) -> Estimate:
    """Run K particles and put their terms together.

    Args:
        plan: the traced program.
        key: the randomness of the particles.
        num_particles: how many, or more where an estimator needs more.
        vectorize: `(run, keys) -> runs`, how the particles are run.
        coefficients: weighs terms in the gradient, given their values (those not named by 1).
        chosen: the terms that are summed, all by default.
    """
    count = max(num_particles, plan.particles)
    if count == 1:
        runs = jax.tree.map(lambda x: x[None], plan.run(key))
    else:
        runs = vectorize(plan.run, split_key(key, (count,)))
    chosen = list(plan.graph.frames if chosen is None else chosen)
    scored = {("q", name) for name, choice in plan.choices.items() if choice.estimator.scored}
    held = lambda name: lax.stop_gradient(runs.terms[name]) if name in scored else runs.terms[name]  # E[∇ log q] = 0
    runs = runs._replace(terms={name: held(name) for name in chosen})
    copies = {name: choice.estimator.copies for name, choice in plan.choices.items()}
    whole = Expectation(runs, plan.graph, list(plan.supports), copies)
    axes = 1 + len(plan.supports)
    values = Values(
        {name: whole.value(name) for name in chosen},
        {name: whole.unit(name) for name in plan.graph.sites},
        jax.tree.map(lambda x: mean_of_particles(x, axes), runs.mutables),
    )
    weights = coefficients(values)
    score, states = jnp.zeros(()), {}
    for name, choice in plan.choices.items():
        if choice.estimator.scored:
            term, state = whole.surrogate(name, choice.estimator, weights)
            score = score + term - lax.stop_gradient(term)
            if state is not None:
                states[name] = state
    return Estimate(values, weights, score, states)


def mean_of_particles(x: Array, axes: int) -> Array:
    """Return one state of those that particles and values each leave behind: numbers are averaged, counts are all the
    same."""
    lead = tuple(range(axes))
    return jnp.mean(x, lead) if jnp.issubdtype(x.dtype, jnp.floating) else x[(0,) * axes]
