"""The groups that ArviZ takes, as data sets: posterior, predictive, log-likelihood, data, what a sampler says."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import numpyro
from jax import Array
from numpyro.infer import MCMC, Predictive, log_likelihood

from probgen.core import evaluating
from probgen.evaluation.posteriors.guide_draws import Call, Program, is_latent, is_observed, sites_of

if TYPE_CHECKING:
    import xarray

_ARVIZ_NAMES = {
    "potential_energy": "lp",
    "adapt_state.step_size": "step_size",
    "num_steps": "n_steps",
    "accept_prob": "acceptance_rate",
}
Draws = Mapping[str, Any]  # {site: [chains, draws, ...]}


def as_draws(name: str, draws: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return draws {site: [K, ...]} with a first axis of one chain. Raises ValueError where they are unusable."""
    arrays = {site: np.asarray(x)[None] for site, x in draws.items()}
    counts = {x.shape[1:2] for x in arrays.values()}
    if not arrays or len(counts) != 1 or counts == {()} or counts == {(0,)}:
        shapes = {site: x.shape[1:] for site, x in arrays.items()}
        raise ValueError(f"{name}: expected arrays with one number of draws on axis 0, got {shapes}")
    return arrays


def dataset(draws: Draws, sites: Mapping[str, Any] | None = None, lead: tuple[str, ...] = ("chain", "draw")) -> Any:
    """Return values [*lead, ...] of sites as a data set, whose axes are named after the plates that they are of. A
    slash in a name, which would nest groups, becomes a dot."""
    import xarray

    variables = {}
    for name, value in draws.items():
        array = np.asarray(value)
        axes = _axes(name, array.shape[len(lead) :], (sites or {}).get(name))
        variables[_label(name)] = ((*lead, *axes), array)
    sizes = {dim: size for dims, array in variables.values() for dim, size in zip(dims, array.shape, strict=True)}
    return xarray.Dataset(variables, {dim: np.arange(size) for dim, size in sizes.items()})


def _axes(name: str, shape: tuple[int, ...], site: Any) -> list[str]:
    """Return names of the axes of a value, of plates where they are theirs."""
    axes = [f"{_label(name)}_dim_{i}" for i in range(len(shape))]
    if site is None:
        return axes
    event = site["fn"].event_dim if site["type"] == "sample" else 0
    for plate in site["cond_indep_stack"]:
        i = len(shape) - event + plate.dim
        if 0 <= i and shape[i] == plate.size:
            axes[i] = _label(plate.name)
    return axes


def _label(name: str) -> str:
    return name.replace("/", ".")


def of_program(
    draws: Draws, program: Program, call: Call, params: Mapping[str, Any], key: Array | None
) -> dict[str, "xarray.Dataset"]:
    """Return the groups of a program's posterior draws: with the data's log-likelihood, and predictive draws of them
    where there is a key."""
    sites = sites_of(program, call, params)
    observed = [name for name, site in sites.items() if is_observed(site)]
    latent = {name for name, site in sites.items() if is_latent(site)}
    if missing := latent - draws.keys():
        raise ValueError(
            f"result: expected draws of all latent sites of the program, got none of {sorted(missing)}; "
            "Predictive(program, draws, infer_discrete=True) draws those that were summed over"
        )
    lead = next(iter(draws.values())).shape[:2]
    flat = {name: np.asarray(x).reshape(-1, *x.shape[2:]) for name, x in draws.items() if name not in observed}
    stacked = lambda found: {name: np.asarray(x).reshape(*lead, *x.shape[1:]) for name, x in found.items()}
    bound = evaluating(numpyro.handlers.substitute(program, data=dict(params)))
    computed = _computed(bound, flat, call, [n for n, site in sites.items() if site["type"] == "deterministic"])
    groups = {"posterior": dataset({**stacked(computed), **_without(draws, observed)}, sites)}
    if not observed:
        return groups
    seeded = numpyro.handlers.seed(bound, rng_seed=0)
    log_p = jax.jit(lambda draws: log_likelihood(seeded, draws, *call[0], **call[1]))(flat)
    groups["log_likelihood"] = dataset(
        stacked({name: log_p[name] for name in observed}), {name: _of_batch(sites[name]) for name in observed}
    )
    if predicted := {name: x for name, x in draws.items() if name in observed}:
        groups["posterior_predictive"] = dataset(predicted, sites)
    elif key is not None:
        groups["posterior_predictive"] = dataset(stacked(_predicted(key, bound, flat, call, observed)), sites)
    groups["observed_data"] = dataset(_observations(seeded, call, observed), sites, lead=())
    return groups


def _without(draws: Draws, names: list[str]) -> dict[str, Any]:
    return {name: x for name, x in draws.items() if name not in names}


def _of_batch(site: Mapping[str, Any]) -> Any:
    """Return a site as its log-density has axes: of the batch alone."""
    return {**site, "type": "log_prob"}


def _computed(program: Program, draws: Mapping[str, Any], call: Call, names: list[str]) -> dict[str, Any]:
    """Return the deterministic sites at each draw that draws do not hold."""
    if not (missing := [name for name in names if name not in draws]):
        return {}
    one = Predictive(program, dict(draws), return_sites=missing)
    return jax.jit(lambda: one(jax.random.key(0), *call[0], **call[1]))()


def _predicted(key: Array, program: Program, draws: Mapping[str, Any], call: Call, names: list[str]) -> dict[str, Any]:
    """Return new data at each draw, as many as there are."""
    one = Predictive(numpyro.handlers.uncondition(program), dict(draws), return_sites=names)
    return jax.jit(lambda key: one(key, *call[0], **call[1]))(key)


def _observations(program: Program, call: Call, names: list[str]) -> dict[str, Any]:
    run = lambda: numpyro.handlers.trace(program).get_trace(*call[0], **call[1])
    return jax.jit(lambda: {name: site["value"] for name, site in run().items() if name in names})()


def of_sampler(mcmc: MCMC) -> dict[str, "xarray.Dataset"]:
    """Return the group `sample_stats`, by the names that ArviZ knows."""
    found: dict[str, np.ndarray] = {}
    for name, value in mcmc.get_extra_fields(group_by_chain=True).items():
        if isinstance(value, dict | tuple):
            continue
        array = np.asarray(value)
        found[_ARVIZ_NAMES.get(name, name)] = -array if name == "potential_energy" else array
        if name == "num_steps":
            found["tree_depth"] = np.log2(array).astype(int) + 1
    return {"sample_stats": dataset(found)} if found else {}


def of_losses(losses: Any) -> "xarray.Dataset":
    """Return the losses of each step."""
    import xarray

    array = np.asarray(losses)
    return xarray.Dataset({"train": ("step", array)}, {"step": np.arange(1, len(array) + 1)})
