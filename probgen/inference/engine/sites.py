"""How the sites of a guide are drawn, each as its estimator asks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro import primitives
from numpyro.primitives import Messenger

from probgen.distributions.wrapped import family
from probgen.inference.engine.differentiable import Differentiable
from probgen.inference.engine.provenance import mark
from probgen.inference.estimators.base import Estimator, check_kind
from probgen.inference.estimators.implicit import Implicit, has_conditions
from probgen.inference.estimators.path import Pathwise
from probgen.inference.estimators.score import LeaveOneOut, ScoreFunction
from probgen.inference.estimators.use import use

Frames = tuple[Any, ...]  # of numpyro's CondIndepStackFrame(name, dim, size)


class Site(NamedTuple):
    """A random site of a guide, as far as it is known before any number is: `chosen` where the user named its
    estimator."""

    name: str
    estimator: Estimator
    chosen: bool
    frames: Frames
    fn: dist.Distribution
    scanned: bool

    @property
    def plates(self) -> tuple[int, ...]:
        """The site's plate axes."""
        return tuple(frame.dim for frame in self.frames)


class Drawing(Differentiable):
    """The outermost handler of a guide: finds each site's estimator and draws what it asks for.

    `decided` names estimators that overrule what the sites say; `values` holds values that replace draws, or says which
    of several coupled draws is the value. `sites` collects what was drawn.
    """

    def __init__(self, decided: Mapping[str, Estimator], values: Mapping[str, Array]):
        self.decided, self.values = decided, values
        self.sites: dict[str, Site] = {}
        # a `use` that is open around the whole objective would be asked only after this handler has drawn
        self.outside = [handler for handler in reversed(primitives._PYRO_STACK) if isinstance(handler, use)]
        super().__init__()

    def process_message(self, msg: Any) -> None:
        """Decide, check, draw."""
        super().process_message(msg)
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        scanned = msg.get("_control_flow_done", False)
        if msg["value"] is not None and not scanned:
            return  # given from outside: nothing is random here
        for handler in self.outside:
            handler.assign(msg)
        name, fn = msg["name"], msg["fn"]
        chosen = msg["infer"].get("estimator")
        if chosen is not None:
            check_kind(f"site {name!r}", chosen, Estimator, "LeaveOneOut()")
        estimator = self.decided.get(name) or chosen or provisional(fn)
        self.sites[name] = Site(name, estimator, chosen is not None, tuple(msg["cond_indep_stack"]), fn, scanned)
        if problem := estimator.problem(fn):
            raise ValueError(f"site {name!r}: {estimator} does not serve {describe(fn)}: {problem}; {_instead(fn)}")
        if scanned:
            _check_scanned(self.sites[name], msg["value"])
        elif estimator.copies > 1:  # of coupled draws the value says which: all have the site's key
            drawn = jnp.asarray(estimator.draw(msg["kwargs"]["rng_key"], fn, msg["kwargs"]["sample_shape"]))
            wanted = (estimator.copies, *fn.shape(msg["kwargs"]["sample_shape"]))
            if drawn.shape != wanted:
                raise ValueError(f"site {name!r}: expected {estimator} to draw {wanted}, got {drawn.shape}")
            msg["value"] = drawn[self.values.get(name, 0)]
        elif name in self.values:
            shape = (*msg["kwargs"]["sample_shape"], *fn.batch_shape, *fn.event_shape)
            msg["value"] = jnp.broadcast_to(self.values[name], shape)
        else:
            msg["value"] = estimator.draw(msg["kwargs"]["rng_key"], fn, msg["kwargs"]["sample_shape"])

    def check_names(self) -> None:
        """Raise ValueError where a `use` around the objective names a site that the guide has not drawn."""
        for handler in self.outside:
            if missing := sorted(handler.estimators.keys() - self.sites.keys()):
                raise ValueError(f"estimators: the guide draws no site {missing[0]!r}; it draws {sorted(self.sites)}")

    def postprocess_message(self, msg: Any) -> None:
        """Mark the value, so that it is known what it flows into."""
        if msg["type"] == "sample" and msg["name"] in self.sites:
            msg["value"] = mark(msg["name"], msg["value"])


class Recorded(Messenger):
    """A handler that puts values in place of draws after a site got its key: a second run has the randomness of the
    first."""

    def __init__(self, values: Mapping[str, Array]):
        self.values = values
        super().__init__()

    def process_message(self, msg: Any) -> None:
        """Set one site's value."""
        if msg["type"] == "sample" and msg["value"] is None and msg["name"] in self.values:
            msg["value"] = self.values[msg["name"]]


def provisional(fn: dist.Distribution) -> Estimator:
    """Return the path where there is one and it serves, else the score."""
    if Pathwise().problem(fn) is None:
        return Pathwise()
    return Implicit() if Implicit().problem(fn) is None and not has_conditions(fn) else LeaveOneOut()


def describe(fn: dist.Distribution) -> str:
    """Return a distribution in a word, such as `BernoulliLogits [5] × []` (batch × event)."""
    return f"{type(family(fn)).__name__} {list(fn.batch_shape)} × {list(fn.event_shape)}"


def _instead(fn: dist.Distribution) -> str:
    instead = provisional(fn)
    return f"{type(instead).__name__}() would" if instead.problem(fn) is None else "no estimator does"


def _check_scanned(site: Site, value: Array) -> None:
    """Check a site of a `scan`, which numpyro draws within its body, out of reach: refuse what cannot be right
    there."""
    path = type(site.estimator) is Pathwise
    discrete = not jnp.issubdtype(jnp.result_type(value), jnp.floating)
    if path or (discrete and isinstance(site.estimator, ScoreFunction)):
        return
    serves = "Pathwise()" if site.fn.has_rsample else "LeaveOneOut()" if discrete else "no estimator (unroll the loop)"
    raise ValueError(
        f"site {site.name!r} is drawn inside a scan, out of the reach of {site.estimator}: {serves} serves there"
    )
