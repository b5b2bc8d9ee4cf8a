"""`gradient_report`: bias, variance and cost of gradient estimators, side by side."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro.infer import elbo as numpyro_elbo

from probgen.core import check_instances, check_sizes, split_key
from probgen.inference.estimators import Estimator, use
from probgen.inference.laboratory.replicates import Group, Moments, flat, limit, replicate, z_scores
from probgen.inference.objectives import ELBO

Contender: TypeAlias = "Mapping[str, Estimator] | numpyro_elbo.ELBO"
_LEVEL = 0.01  # of all components' tests together, for a false alarm
_ROUNDS = 15


class Point(NamedTuple):
    """A point at which gradients are taken.

    Attributes:
        step: of the training that led there.
        params: of all `param` sites.
        own: what contenders keep beside them, `{contender: {site: value}}`.
    """

    step: int
    params: dict[str, Any]
    own: Mapping[str, dict[str, Any]]


def gradient_report(
    key: Array,
    params: dict[str, Any] | Sequence[Point],
    model: Callable,
    guide: Callable,
    *args: Any,
    estimators: Mapping[str, Contender] | None = None,
    num_replicates: int = 1000,
    num_particles: int | None = None,
    objective: ELBO | None = None,
    reference: Callable[[dict[str, Any]], Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Compare gradient estimators at frozen params, or along one trajectory that all of them share.

    Args:
        key: a `jax.random.key`.
        params: values of all `param` sites as `SVI.get_params` gives them; or the points of `shared_trajectory`.
        model: a numpyro program, as for SVI.
        guide: its guide.
        *args: the program's arguments.
        estimators: `{name: {site: estimator}}`, each on top of the guide's own choices; or `{name: objective}`, such as
            numpyro's `TraceGraph_ELBO()`; the default alone by default.
        num_replicates: independent gradients for each.
        num_particles: of the objectives that are made here, 1 by default.
        objective: an `objectives.ELBO` to use instead.
        reference: `params -> loss`, exact, to be differentiated. Without one, bias is held against the default
            estimators, which are unbiased, with their own standard error.
        **kwargs: the program's keyword arguments.

    Returns an `xarray.Dataset` over `estimator`, `group` (one for each param site), and `step` along a trajectory:
    `variance_mean`, `variance_max` and `variance_total` over the group's components; `bias_z`, the largest |z| of a
    component's mean, and `bias_limit`, what it stays under by chance in 99 of 100 reports (Bonferroni; standard errors
    are widened by 5/N of the largest gradient, which a value too rare to be drawn may hide: Maurer and Pontil 2009,
    arXiv:0907.3740); `snr`, the
    mean of |mean| / sd; `cosine` of single gradients to the reference; and for each estimator `evaluations` (joint
    values at which the density is evaluated), `seconds` (median of a compiled call), `work` (total variance ×
    evaluations), `loss`, `loss_se` and `reason`. A contender that raises for this program, as `Pathwise` does for a
    discrete site, is warned of: its row is not a number, and `reason` says why ("" for the others). `table` prints it,
    `evaluation.to_arviz` converts it, and `plotting.variance_against_cost` draws it.

    Raises ValueError where `estimators` holds no estimators, and what the last of the contenders raises if all do.

    References: Monte Carlo Gradient Estimation in Machine Learning (Mohamed, Rosca, Figurnov, Mnih 2020),
    arXiv:1906.10652; SNR: Tighter Variational Bounds are Not Necessarily Better (Rainforth et al. 2018),
    arXiv:1802.04537.

    >>> import jax
    >>> from probgen.inference.laboratory import bernoulli_toy, table
    >>> toy = bernoulli_toy()
    >>> report = gradient_report(
    ...     jax.random.key(0), toy.params, toy.model, toy.guide, estimators=toy.contenders, reference=toy.loss
    ... )
    >>> bool(
    ...     report.bias_z.sel(estimator="straight-through").max()
    ...     > report.bias_limit
    ...     > report.bias_z.sel(estimator="score").max()
    ... )
    True
    """
    estimators = {"default": {}} if estimators is None else estimators
    _check(params, estimators, num_replicates)
    check_instances(model=model, guide=guide, objective=objective)
    if objective is None:
        objective = ELBO(1 if num_particles is None else num_particles)
    elif num_particles is not None:
        raise ValueError("num_particles: an objective has its own: set them there")
    points = [Point(0, params, {})] if isinstance(params, dict) else list(params)
    contenders = {name: _Contender(entry, guide, objective) for name, entry in estimators.items()}
    trusted = _Contender({}, guide, objective)
    program = _Program(model, args, kwargs)
    keys = split_key(key, (2 + len(contenders),))
    compiled = {name: program.replicates(contender, num_replicates) for name, contender in contenders.items()}
    trust = program.replicates(trusted, num_replicates)
    measured, reasons = _measure(compiled, points, [_reference(reference, trust, p, keys[0]) for p in points], keys[2:])
    served = {name: contender for name, contender in contenders.items() if name not in reasons}
    if reasons:
        unfit = "; ".join(f"{name!r} ({reason})" for name, reason in reasons.items())
        warnings.warn(f"estimators: left out of the comparison, since they raise here: {unfit}", stacklevel=2)
    seconds = program.seconds(served, points[-1], keys[1])
    evaluations = {name: program.evaluations(contender, points[-1], keys[1]) for name, contender in served.items()}
    data = _dataset(list(contenders), measured, points, seconds, evaluations, num_replicates, reference is not None)
    data["reason"] = "estimator", np.array([reasons.get(name, "") for name in contenders])
    return data.squeeze("step", drop=True) if isinstance(params, dict) else data


def _check(params: Any, estimators: Any, num_replicates: int) -> None:
    if not params:
        raise ValueError("params: expected values of param sites, or points of a trajectory, got none")
    if not estimators:
        raise ValueError("estimators: expected at least one contender, got none")
    for name, entry in estimators.items():
        if not isinstance(entry, Mapping | numpyro_elbo.ELBO):
            raise ValueError(f"estimators: {name!r}: expected {{site: estimator}} or an objective, got {entry!r}")
    check_sizes(2, num_replicates=num_replicates)


class _Contender:
    """An objective and a guide that carry one choice of estimators."""

    def __init__(self, entry: Contender, guide: Callable, objective: ELBO):
        stock = isinstance(entry, numpyro_elbo.ELBO)
        self.objective: Any = entry if stock else objective
        self.guide: Callable = guide if stock else use(guide, entry)  # type: ignore[arg-type]


class _Program:
    """Gradients of contenders on one model and its data."""

    def __init__(self, model: Callable, args: tuple, kwargs: dict):
        self.model, self.args, self.kwargs = model, args, kwargs

    def gradient(self, contender: _Contender) -> Callable[[dict, dict, Array], tuple[Array, Group]]:
        def of(params: dict, own: dict, key: Array) -> tuple[Array, Group]:
            if not own:
                own = self.initial(contender, key)
            loss = lambda p: contender.objective.loss(
                key, {**own, **p}, self.model, contender.guide, *self.args, **self.kwargs
            )
            value, gradient = jax.value_and_grad(loss)(params)
            return value, flat(gradient)

        return of

    def initial(self, contender: _Contender, key: Array) -> dict[str, Any]:
        """Return the state that a guide begins with, which SVI would carry."""
        with numpyro.handlers.block(), numpyro.handlers.trace() as trace, numpyro.handlers.seed(rng_seed=key):
            contender.guide(*self.args, **self.kwargs)
        return {name: site["value"] for name, site in trace.items() if site["type"] == "mutable"}

    def replicates(self, contender: _Contender, count: int) -> Callable[..., Moments]:
        gradient = self.gradient(contender)

        def run(params: dict, own: dict, key: Array, reference: Group | None) -> Moments:
            found = replicate(lambda k: gradient(params, own, k), key, count, reference)
            return found

        return jax.jit(run)

    def seconds(self, contenders: Mapping[str, _Contender], point: Point, key: Array) -> dict[str, float]:
        """Return medians of single compiled gradients, taken in turns."""
        calls = {name: jax.jit(self.gradient(contender)) for name, contender in contenders.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for round in range(_ROUNDS + 1):
            for name, call in calls.items():
                began = time.perf_counter()
                jax.block_until_ready(call(point.params, point.own.get(name, {}), key))
                if round:
                    times[name].append(time.perf_counter() - began)
        return {name: float(np.median(taken)) for name, taken in times.items()}

    def evaluations(self, contender: _Contender, point: Point, key: Array) -> int:
        if not isinstance(contender.objective, ELBO):
            return contender.objective.num_particles
        plan = contender.objective.plan(key, point.params, self.model, contender.guide, *self.args, **self.kwargs)
        return plan.evaluations(contender.objective.num_particles)


class _Reference(NamedTuple):
    mean: Group
    variance: Group  # of the mean itself


def _reference(exact: Callable | None, trusted: Callable[..., Moments], point: Point, key: Array) -> _Reference:
    if exact is not None:
        mean = flat(jax.grad(exact)(point.params))
        return _Reference(mean, jax.tree.map(jnp.zeros_like, mean))
    moments = trusted(point.params, {}, key, None)
    return _Reference(moments.mean, jax.tree.map(lambda v: v / moments.gradients, moments.variance))


def _measure(
    compiled: Mapping[str, Callable[..., Moments]], points: list[Point], exact: list[_Reference], keys: Array
) -> tuple[list[dict[str, tuple[Moments, _Reference]]], dict[str, str]]:
    """Return at each point the moments of every contender that serves, and why the others do not."""
    measured: list[dict[str, tuple[Moments, _Reference]]] = [{} for _ in points]
    reasons: dict[str, str] = {}
    for (name, moments), key in zip(compiled.items(), keys, strict=True):
        try:
            for at, point, truth in zip(measured, points, exact, strict=True):
                at[name] = moments(point.params, point.own.get(name, {}), key, truth.mean), truth
        except Exception as error:  # whatever a program and an objective of someone else's raise between them
            reasons[name] = str(error) or type(error).__name__
            if len(reasons) == len(compiled):
                raise  # nobody is left to compare
    return measured, reasons


def _snr(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return np.where(mean > 0, mean / np.maximum(sd, 1e-7 * mean + 1e-30), 0.0)


def _dataset(
    names: list[str],
    measured: list[dict[str, tuple[Moments, _Reference]]],
    points: list[Point],
    seconds: dict[str, float],
    evaluations: dict[str, int],
    num_replicates: int,
    exact: bool,
) -> Any:
    import xarray

    some = measured[0][next(iter(seconds))][0]
    groups = sorted(some.mean)
    component = {
        "variance_mean": lambda m, r, g: np.mean(m.variance[g]),
        "variance_max": lambda m, r, g: np.max(m.variance[g]),
        "variance_total": lambda m, r, g: np.sum(m.variance[g]),
        "bias_z": lambda m, r, g: np.max(np.abs(z_scores(m, r.mean[g], r.variance[g], g))),
        "snr": lambda m, r, g: np.mean(_snr(np.abs(m.mean[g]), np.sqrt(m.variance[g]))),
        "cosine": lambda m, r, g: float(m.cosine[g]),
    }
    found = lambda f, at, name, *group: float(f(*at[name], *group)) if name in at else np.nan
    by_group = lambda f: [[[found(f, at, name, group) for group in groups] for name in names] for at in measured]
    variables: dict[str, Any] = {
        name: (("step", "estimator", "group"), np.array(by_group(f))) for name, f in component.items()
    }
    each = lambda f: (("step", "estimator"), np.array([[found(f, at, name) for name in names] for at in measured]))
    variables["loss"] = each(lambda m, r: m.loss)
    variables["loss_se"] = each(lambda m, r: np.sqrt(m.loss_variance / m.gradients))
    variables["evaluations"] = ("estimator", np.array([evaluations.get(name, np.nan) for name in names]))
    variables["seconds"] = ("estimator", np.array([seconds.get(name, np.nan) for name in names]))
    size = sum(x.size for x in some.mean.values())
    data = xarray.Dataset(
        variables,
        {"step": [point.step for point in points], "estimator": names, "group": groups},
        {"num_replicates": num_replicates, "reference": "exact" if exact else "the default estimators"},
    )
    data["work"] = data["variance_total"].sum("group", skipna=False) * data["evaluations"]
    data["bias_limit"] = limit(_LEVEL, size * len(names) * len(points))
    return data
