"""The choice of an estimator where the program makes none: the best unbiased one."""

from typing import NamedTuple

from probgen.inference.engine.sites import Site
from probgen.inference.engine.surrogate import Graph
from probgen.inference.estimators.base import Estimator
from probgen.inference.estimators.enumeration import Enumerate
from probgen.inference.estimators.implicit import has_conditions

CHEAP = 4  # evaluations of the program that enumeration may cost in all: twice those of leave-one-out


class Choice(NamedTuple):
    """An estimator, and the reason for it in a clause."""

    estimator: Estimator
    reason: str


def choose(graph: Graph, enumerates: bool = True) -> dict[str, Choice]:
    """Return an estimator for every site.

    It is what the program or `use` says; else the path; else the implicit path where it is right for every cost; else
    the exact sum, for the sites with the fewest values first, as long as all sums together cost at most four
    evaluations and no cost leaves the site's plates; else leave-one-out.
    """
    choices = {name: _first(site) for name, site in graph.sites.items()}
    exact, spent = Enumerate(), 1
    asked = [name for name, choice in choices.items() if isinstance(choice.estimator, Enumerate)]
    sizes = {}
    for name, site in graph.sites.items():
        if site.chosen or not site.estimator.scored or site.scanned or not enumerates:
            continue
        if problem := exact.problem(site.fn):
            choices[name] = Choice(site.estimator, f"no gradient path, and {problem}")
            continue
        try:
            values = exact.support(site.fn, site.plates)
        except ValueError as problem:
            choices[name] = Choice(site.estimator, f"no gradient path, and {problem}")
        else:
            sizes[name] = len(values) if values is not None else 1
    for name in sorted(sizes, key=sizes.__getitem__):
        if spent * sizes[name] > CHEAP:
            reason = f"its {sizes[name]} values would take {spent * sizes[name]} evaluations, more than {CHEAP}"
        elif leaving := graph.leaving(name, [*asked, name]):
            reason = f"{leaving[0][1]!r} depends on it and lies outside its plate {leaving[1]!r}"
        else:
            choices[name] = Choice(exact, f"{sizes[name]} values, and every cost lies within its plates")
            spent *= sizes[name]
            asked.append(name)
            continue
        choices[name] = Choice(graph.sites[name].estimator, reason)
    return choices


def _first(site: Site) -> Choice:
    if site.chosen:
        return Choice(site.estimator, "asked for")
    if site.estimator.scored:
        why = has_conditions(site.fn) or "no gradient path"
        return Choice(site.estimator, why + (", within a scan" if site.scanned else ""))
    return Choice(
        site.estimator, "samples carry gradients" if site.fn.has_rsample else "its distribution function is known"
    )
