"""Choosing estimators from outside a program."""

from collections.abc import Callable, Mapping
from typing import Any

from numpyro.primitives import Messenger, mutable

from probgen.inference.estimators.base import Estimator, check_kind


class use(Messenger):
    """A handler that gives sites their estimators, without touching the program: around a guide, or as a context
    manager.

    The outermost `use` wins, and wins over `infer={"estimator": …}`. What an estimator keeps from step to step (a
    moving average, a learned baseline) is registered by this handler, so that `SVI` carries it: a guide whose text asks
    for one is wrapped as `use(guide)`.

    Args:
        guide: any guide, automatic ones too; or, as a context manager, the estimators.
        estimators: `{site: estimator}`.

    Raises ValueError where a name is not a site that the guide draws.

    >>> import numpyro, numpyro.distributions as dist
    >>> from probgen.inference import estimators
    >>> def guide():
    ...     numpyro.sample("z", dist.Bernoulli(numpyro.param("p", 0.5)))
    >>> guide2 = estimators.use(guide, {"z": estimators.Enumerate()})
    >>> with (
    ...     numpyro.handlers.seed(rng_seed=0),
    ...     numpyro.handlers.trace() as trace,
    ...     estimators.use({"z": estimators.LeaveOneOut()}),
    ... ):
    ...     guide2()
    >>> trace["z"]["infer"]["estimator"]
    LeaveOneOut(baseline=OtherParticles())
    """

    def __init__(
        self,
        guide: Callable | Mapping[str, Estimator] | None = None,
        estimators: Mapping[str, Estimator] | None = None,
    ):
        if isinstance(guide, Mapping):
            guide, estimators = None, guide
        self.estimators = dict(estimators or {})
        for name, estimator in self.estimators.items():
            check_kind(f"site {name!r}", estimator, Estimator, "LeaveOneOut()")
        self.arguments: tuple[tuple, dict] = ((), {})
        self.seen: set[str] = set()
        super().__init__(guide)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide."""
        if self.fn is None:
            return super().__call__(*args, **kwargs)
        self.arguments, self.seen = (args, kwargs), set()
        result = super().__call__(*args, **kwargs)
        if missing := sorted(self.estimators.keys() - self.seen):
            raise ValueError(f"estimators: the guide draws no site {missing[0]!r}; it draws {sorted(self.seen)}")
        return result

    def __getattr__(self, name: str) -> Any:
        """Return what else the guide has, such as an automatic guide's `sample_posterior`."""
        if name.startswith("__") or self.__dict__.get("fn") is None:
            raise AttributeError(name)
        return getattr(self.fn, name)

    def process_message(self, msg: Any) -> None:
        """Set the estimator of a site that is drawn here."""
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        if msg["value"] is not None and not msg.get("_control_flow_done", False):
            return  # replayed or substituted: another program drew it
        self.assign(msg)

    def assign(self, msg: Any) -> None:
        """Write the estimator beside a site."""
        self.seen.add(msg["name"])
        infer = dict(msg["infer"])  # the user's own dict is left alone
        if msg["name"] in self.estimators:
            infer["estimator"] = self.estimators[msg["name"]]
        infer["drawn"] = True
        msg["infer"] = infer

    def postprocess_message(self, msg: Any) -> None:
        """Register what the site's estimator keeps from step to step."""
        if msg["type"] != "sample" or not msg["infer"].get("drawn") or "registered" in msg["infer"]:
            return
        estimator = msg["infer"].get("estimator")
        if not isinstance(estimator, Estimator):
            return
        name, (args, kwargs) = msg["name"], self.arguments
        msg["infer"]["registered"] = True
        if (state := estimator.init_state()) is not None:
            mutable(state_site(name), state)
        msg["infer"]["prediction"] = estimator.predict(name, args, kwargs)


def state_site(name: str) -> str:
    """Return the name of the `mutable` site with the state of a site's estimator."""
    return f"{name}$estimator"
