"""Data sets, posteriors and histories as ArviZ takes them. The one file that knows which ArviZ is installed."""

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.infer import MCMC
from numpyro.infer.svi import SVIRunResult

from probgen.core import check_sizes, in_words, split_key
from probgen.evaluation.posteriors import arviz_groups
from probgen.evaluation.posteriors.guide_draws import as_call, draws_of_guide

if TYPE_CHECKING:
    import xarray


class _Given(NamedTuple):
    """The options of `to_arviz`."""

    program: Callable | None
    guide: Callable | None
    data: Any
    num_draws: int | None
    group: str | None
    key: Array | None


def to_arviz(
    result: "xarray.Dataset | SVIRunResult | MCMC | Mapping[str, Array]",
    *,
    program: Callable | None = None,
    guide: Callable | None = None,
    data: Any = None,
    num_draws: int | None = None,
    group: str | None = None,
    key: Array | None = None,
) -> Any:
    """Return a result as what ArviZ takes: an `arviz.InferenceData` for ArviZ 0.x, an `xarray.DataTree` for 1.x.

    - Of MCMC: `posterior`, `sample_stats`, and of its own program and data `log_likelihood`, `observed_data`, and with
      a key `posterior_predictive`.
    - Of SVI, by `SVI.run` or `fit`: `history`; with a guide, whose draws are taken for those of the posterior, the
      same groups. A program that `fit` trained need not be given again, nor a model with latent variables, whose guide
      is its own.
    - Of draws `{site: [K, ...]}`, such as `Predictive` returns and `psis` resamples: the same groups where there is a
      program; those of data that was observed are the `posterior_predictive`. Without a program, one group.
    - Of an `xarray.Dataset`, such as a `gradient_report`: one group, its attributes kept.

    Axes are named after plates, and a slash in a site's name becomes a dot. With either ArviZ,
    `to_arviz(report)["gradients"]["variance_total"]` is the variable, and `az.summary`, `az.loo` and `az.compare` take
    what comes out of a program.

    Args:
        result: what was found.
        program: a numpyro program; MCMC has its own.
        guide: of SVI.
        data: what the program is called with, as `fit` does it; MCMC has kept its own.
        num_draws: of the guide, 1000 by default.
        group: the name of the one group, "gradients" by default for a data set, "posterior" for draws.
        key: a `jax.random.key`, for draws of a guide and of new data.

    Raises ValueError for other results, for options that would do nothing, and where something is missing: a key, a
    guide, draws of a latent site.

    References: ArviZ a unified library for exploratory analysis of Bayesian models in Python (Kumar, Carroll,
    Hartikainen, Martin 2019), doi:10.21105/joss.01143.

    >>> import xarray
    >>> report = xarray.Dataset({"snr": ("estimator", [0.2, 0.9])}, {"estimator": ["score", "leave-one-out"]})
    >>> float(to_arviz(report)["gradients"]["snr"].sel(estimator="leave-one-out"))
    0.9
    >>> import jax, jax.numpy as jnp, numpyro
    >>> import numpyro.distributions as dist
    >>> def program(x):
    ...     mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    ...     with numpyro.plate("rows", len(x)):
    ...         numpyro.sample("x", dist.Normal(mean, 1.0), obs=x)
    >>> draws = {"mean": jax.random.normal(jax.random.key(0), (200,))}
    >>> found = to_arviz(draws, program=program, data=jnp.zeros(5), key=jax.random.key(1))
    >>> found["posterior_predictive"]["x"].dims
    ('chain', 'draw', 'rows')
    """
    given = _Given(program, guide, data, num_draws, group, key)
    if isinstance(result, MCMC):
        groups = _of_mcmc(result, given)
    elif isinstance(result, SVIRunResult):
        groups = _of_svi(result, given)
    elif hasattr(result, "data_vars"):
        _none(given, "a data set", "group")
        groups = {_named("gradients" if group is None else group): result}
    elif isinstance(result, Mapping):
        groups = _of_draws(result, given)  # type: ignore[arg-type]
    else:
        raise ValueError(
            f"result: expected MCMC, a result of SVI or fit, draws {{site: array}} or an xarray.Dataset, "
            f"got {in_words(result)}"
        )
    return _as_arviz(groups)


def _of_mcmc(mcmc: MCMC, given: _Given) -> dict[str, Any]:
    _none(given, "MCMC", "program", "data", "key")
    draws = {name: np.asarray(x) for name, x in mcmc.get_samples(group_by_chain=True).items()}
    program = given.program or getattr(mcmc.sampler, "model", None)
    call = (mcmc._args, mcmc._kwargs) if given.data is None else as_call(given.data)
    if program is None:
        _none(given, "MCMC by a potential function, without a program")
        return {"posterior": arviz_groups.dataset(draws), **arviz_groups.of_sampler(mcmc)}
    return {**arviz_groups.of_program(draws, program, call, {}, given.key), **arviz_groups.of_sampler(mcmc)}


def _of_svi(result: Any, given: _Given) -> dict[str, Any]:
    history = getattr(result, "history", None)
    history = arviz_groups.of_losses(result.losses) if history is None else history
    program, guide = given.program, given.guide
    model: Any = getattr(result, "model", None)
    params = {**result.params, **(result.state.mutable_state or {})}
    if program is None and guide is None and hasattr(type(model), "program"):
        program, guide, params = (lambda x: model.program(x, name=None)), (lambda x: model.guide(x, name=None)), {}
        if given.data is None:  # its history alone
            guide = None
    elif program is None and not isinstance(model, dist.Distribution):
        program = model  # that `fit` trained
    if guide is None:
        _none(given, "a result of SVI without a guide")
        return {"history": history}
    _none(given, "a result of SVI", "program", "guide", "data", "num_draws", "key")
    if program is None or given.key is None:
        raise ValueError("program, key: a guide's draws need the program that it belongs to, and a jax.random.key")
    num_draws = 1000 if given.num_draws is None else given.num_draws
    check_sizes(num_draws=num_draws)
    guide_key, key = split_key(given.key, (2,))
    call = as_call(given.data)
    draws, _ = draws_of_guide(guide_key, program, guide, call, params, num_draws)
    groups = arviz_groups.of_program(arviz_groups.as_draws("guide", draws), program, call, params, key)
    return {**groups, "history": history}


def _of_draws(draws: Mapping[str, Array], given: _Given) -> dict[str, Any]:
    arrays = arviz_groups.as_draws("result", draws)
    if given.program is None:
        _none(given, "draws without a program", "group")
        return {_named("posterior" if given.group is None else given.group): arviz_groups.dataset(arrays)}
    _none(given, "draws of a program", "program", "data", "key")
    return arviz_groups.of_program(arrays, given.program, as_call(given.data), {}, given.key)


def _none(given: _Given, what: str, *used: str) -> None:
    """Raise ValueError for an option that would do nothing."""
    for name, value in given._asdict().items():
        if value is not None and name not in used:
            raise ValueError(f"{name}: it would do nothing for {what}")


def _named(group: str) -> str:
    if not group.isidentifier():  # a slash would nest, and a space would be out of reach as an attribute
        raise ValueError(f"group: expected a name such as 'gradients', got {group!r}")
    return group


def _as_arviz(groups: Mapping[str, Any]) -> Any:
    if _version() < 1:
        import arviz

        return arviz.InferenceData(**groups)
    import xarray

    return xarray.DataTree.from_dict(dict(groups))


def _version() -> int:
    # by its version: 1.x still answers to InferenceData, with DataTree and a warning
    return int(importlib.metadata.version("arviz").split(".")[0])
