"""What an objective would do with a numpyro program, site by site, and what the stock objectives would do wrong with
it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

from probgen.core import check_instances
from probgen.distributions.wrapped import family, is_masked
from probgen.inference.engine.sites import describe
from probgen.inference.estimators import LeaveOneOut
from probgen.inference.laboratory.independence import mixed_plates
from probgen.inference.objectives import ELBO
from probgen.inference.objectives.elbo import Pair
from probgen.inference.objectives.match import missing_plates


class SiteChoice(NamedTuple):
    """A random site of a guide: what it is, which estimator serves it, why, and what it flows into."""

    name: str
    distribution: str
    plates: tuple[str, ...]
    estimator: str
    unbiased: bool
    reason: str
    costs: tuple[str, ...]


class Defect(NamedTuple):
    """A fault of one of numpyro's objectives on a program."""

    objective: str
    sites: tuple[str, ...]
    what: str


class Explanation(NamedTuple):
    """The plan of an objective for a program; `str` prints it all.

    Attributes:
        sites: for each random site of the guide what it is, which estimator serves it and why.
        closed_kl: the sites whose KL is taken in closed form.
        num_particles: how many particles there would be.
        evaluations: joint values at which the density is evaluated for one gradient.
        mixed_plates: (site, plate, term) where the elements of a plate are not independent, so that no objective is
            right.
        missing_plates: what broadcasts over an axis that is no plate's.
        defects: what numpyro's own objectives would do wrong.
    """

    sites: tuple[SiteChoice, ...]
    closed_kl: tuple[str, ...]
    num_particles: int
    evaluations: int
    mixed_plates: tuple[tuple[str, str, str], ...]
    missing_plates: tuple[str, ...]
    defects: tuple[Defect, ...]

    def __str__(self) -> str:
        head = ("site", "distribution", "plates", "estimator", "why", "flows into")
        rows = [head] + [
            (
                site.name,
                site.distribution,
                ", ".join(site.plates) or "–",
                site.estimator + ("" if site.unbiased else "  (BIASED)"),
                site.reason,
                ", ".join(site.costs) or "nothing",
            )
            for site in self.sites
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append(
            f"\n{self.evaluations} evaluation{'s' * (self.evaluations != 1)} of the program for one gradient, "
            f"{self.num_particles} particle{'s' * (self.num_particles != 1)}"
            + (f"; KL in closed form: {', '.join(self.closed_kl)}" if self.closed_kl else "")
        )
        lines += [
            f"\nWRONG: {term!r} mixes the elements of plate {plate!r}, which {site!r} is drawn in: plates promise "
            "independence, and gradients are taken by it; draw the site outside of the plate, by .to_event()"
            for site, plate, term in self.mixed_plates
        ]
        lines += [f"\nSUSPECT: {said}" for said in self.missing_plates]
        if self.defects:
            lines.append("\nnumpyro's own objectives on this program:")
            lines += [f"  {d.objective}: {', '.join(d.sites) or 'the program'}: {d.what}" for d in self.defects]
            lines.append(
                "fix: SVI(model, guide, optimizer, probgen.inference.objectives.ELBO()), the program unchanged"
            )
        else:
            lines.append("\nnumpyro's own objectives are right on this program, as far as is known.")
        return "\n".join(lines)


def explain(
    model: Callable,
    guide: Callable,
    *args: Any,
    objective: ELBO | None = None,
    params: dict[str, Any] | None = None,
    key: Array | None = None,
    **kwargs: Any,
) -> Explanation:
    """Return, for any numpyro program and guide, which estimator serves each site, why, and what the stock objectives
    would do wrong with it.

    Args:
        model: a numpyro program.
        guide: its guide.
        *args: the program's arguments.
        objective: `objectives.ELBO()` by default.
        params: values of `param` sites; their initial ones by default.
        key: of one run of guide and model.
        **kwargs: the program's keyword arguments.

    Raises ValueError as the objective would.

    >>> import numpyro, numpyro.distributions as dist
    >>> def model():
    ...     z = numpyro.sample("z", dist.Bernoulli(0.5))
    ...     numpyro.sample("x", dist.Normal(z, 1.0), obs=2.0)
    >>> def guide():
    ...     numpyro.sample("z", dist.Bernoulli(logits=numpyro.param("logit", 0.3)))
    >>> print(explain(model, guide))
    site  distribution             plates  estimator    why                                              flows into
    z     BernoulliLogits [] × []  –       Enumerate()  2 values, and every cost lies within its plates  x
    <BLANKLINE>
    2 evaluations of the program for one gradient, 1 particle; KL in closed form: z
    <BLANKLINE>
    numpyro's own objectives on this program:
      Trace_ELBO, TraceMeanField_ELBO, RenyiELBO: z: no gradient path and no score term: silently biased
    fix: SVI(model, guide, optimizer, probgen.inference.objectives.ELBO()), the program unchanged
    """
    check_instances(model=model, guide=guide, objective=objective)
    objective = ELBO() if objective is None else objective
    key = jax.random.key(0) if key is None else key
    params = {} if params is None else params
    guide_trace, model_trace = _run(model, guide, key, params, args, kwargs)
    plan = objective.plan(key, params, model, guide, *args, **kwargs)
    terms = objective.terms(plan)
    closed = tuple(dict.fromkeys(term[1] for term in terms if term[0] == "kl"))
    sites = []
    for name, site in plan.graph.sites.items():
        choice = plan.choices[name]
        costs = {term[1] for term in terms if name in plan.graph.flows[term]}
        sites.append(
            SiteChoice(
                name,
                describe(site.fn),
                tuple(frame.name for frame in site.frames),
                str(choice.estimator),
                choice.estimator.unbiased,
                choice.reason,
                tuple(sorted(costs)),
            )
        )
    chosen = {name: choice.estimator for name, choice in plan.choices.items()}
    # values are given to all sites here, and not which of several draws
    decided = {name: LeaveOneOut() if estimator.copies > 1 else estimator for name, estimator in chosen.items()}
    pair = Pair(model, guide, args, kwargs, params, key)
    mixed = mixed_plates(plan, lambda k, given: pair(k, decided, given)[0], key, guide_trace)
    particles = max(objective.num_particles, plan.particles)
    defects = tuple(stock_defects(guide_trace, model_trace))
    missing = tuple(missing_plates(model_trace))
    return Explanation(tuple(sites), closed, particles, plan.evaluations(particles), tuple(mixed), missing, defects)


def _run(model: Callable, guide: Callable, key: Array, params: dict, args: tuple, kwargs: dict) -> tuple[dict, dict]:
    handlers = numpyro.handlers
    seeded = lambda fn: handlers.substitute(handlers.seed(fn, key), data=params)
    guide_trace = handlers.trace(seeded(guide)).get_trace(*args, **kwargs)
    model_trace = handlers.trace(handlers.replay(seeded(model), guide_trace)).get_trace(*args, **kwargs)
    return guide_trace, model_trace


def stock_defects(guide: dict, model: dict) -> list[Defect]:
    """Return what numpyro 0.22's objectives do wrong with a program, given the traces of guide and model."""
    drawn = {n: s for n, s in guide.items() if s["type"] == "sample" and not s["is_observed"]}
    sites = {**{n: s for n, s in model.items() if s["type"] == "sample"}, **drawn}
    stuck = tuple(name for name, site in drawn.items() if not site["fn"].has_rsample)
    scaled = tuple(name for name in stuck if drawn[name]["scale"] is not None)
    masked = tuple(name for name in stuck if is_masked(drawn[name]["fn"]))
    subsampled = {n for n, s in guide.items() if s["type"] == "plate" and s["args"][1] not in (None, s["args"][0])}
    minibatch = tuple(n for n in stuck if subsampled & {f.name for f in drawn[n]["cond_indep_stack"]})
    auxiliary = tuple(name for name, site in drawn.items() if site["infer"].get("is_auxiliary"))
    mutable = tuple(name for trace in (guide, model) for name, site in trace.items() if site["type"] == "mutable")
    zero = tuple(name for name, site in sites.items() if _has_zero_logits(site["fn"]))
    series = tuple(name for name, site in drawn.items() if isinstance(family(site["fn"]), dist.Kumaraswamy))
    found = [
        ("Trace_ELBO, TraceMeanField_ELBO, RenyiELBO", stuck, "no gradient path and no score term: silently biased"),
        ("TraceGraph_ELBO", scaled, "its score is scaled too: the gradient is multiplied by the scale once more"),
        ("TraceGraph_ELBO", masked, "its score is masked with its cost: silently biased"),
        ("TraceEnum_ELBO", minibatch, "guide and model see different minibatches: the gradient is wrong"),
        ("TraceEnum_ELBO", auxiliary if stuck else (), "auxiliary sites raise KeyError"),
        ("TraceGraph_ELBO, TraceEnum_ELBO, RenyiELBO", mutable, "mutable state raises NotImplementedError"),
        ("TraceMeanField_ELBO", series, "KL(Kumaraswamy ‖ Beta) is a truncated series: the loss is no bound"),
        ("all", zero, "logits are exactly 0, where numpyro's log_prob has a wrong derivative"),
    ]  # fmt: skip
    return [Defect(objective, names, what) for objective, names, what in found if names]


def _has_zero_logits(fn: dist.Distribution) -> bool:
    inner = family(fn)
    return isinstance(inner, dist.BernoulliLogits | dist.BinomialLogits) and bool(jnp.any(inner.logits == 0))
