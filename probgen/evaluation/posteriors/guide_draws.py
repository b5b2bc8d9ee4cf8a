"""Draws of a guide with their importance weights; what is wrong with a program and its guide is said beforehand."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer.util import log_density

from probgen.core import as_numbers, check_functions, evaluating, split_key
from probgen.distributions.events import widened
from probgen.distributions.in_blocks import map_particles

Program = Callable[..., Any]
Call = tuple[tuple, dict]  # what a program is called with


def as_call(data: Any) -> Call:
    """Return positional and keyword arguments, as `fit` calls a program with its data."""
    args = () if data is None or isinstance(data, dict) else data if isinstance(data, tuple) else (data,)
    kwargs = data if isinstance(data, dict) else {}
    is_list = lambda x: isinstance(x, list)
    number = lambda x: jnp.asarray(as_numbers("data", x)) if isinstance(x, list) or hasattr(x, "dtype") else x
    return widened_numbers(jax.tree.map(number, (args, kwargs), is_leaf=is_list))


def widened_numbers(call: Call) -> Call:
    """Return small integers as int32, and what is no array as it is."""
    return jax.tree.map(lambda x: widened(x) if isinstance(x, jax.Array) else x, call)


def sites_of(program: Program, call: Call, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sites of a program, `{name: site}`, with abstract values."""
    found: dict[str, Any] = {}

    def run() -> None:
        seeded = numpyro.handlers.seed(numpyro.handlers.substitute(evaluating(program), data=dict(params)), 0)
        found.update(numpyro.handlers.trace(seeded).get_trace(*call[0], **call[1]))

    with numpyro.handlers.block():
        try:
            jax.eval_shape(run)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise ValueError(f"data: program and guide cannot be called with it: {error}") from error
    return found


def is_latent(site: Mapping[str, Any]) -> bool:
    """Return whether a site of a trace is drawn, by the program or by its guide."""
    drawn = site["type"] == "sample" and not site["is_observed"]
    return drawn and not site["infer"].get("is_auxiliary", False)


def is_observed(site: Mapping[str, Any]) -> bool:
    """Return whether a site of a trace is data, and no factor."""
    return site["type"] == "sample" and site["is_observed"] and not isinstance(site["fn"], dist.Unit)


def draws_of_guide(
    key: Array, program: Program, guide: Program, call: Call, params: Mapping[str, Any], num_draws: int
) -> tuple[dict[str, Array], Array]:
    """Return draws of the latent sites `{name: [K, ...]}` and log p(x, z) − log q(z), [K]. Raises ValueError where the
    guide does not fit the program."""
    check_functions("nothing, but has sample sites", program=program, guide=guide)
    with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=0):
        guide(*call[0], **call[1])  # an automatic guide sets itself up when it first runs, and not abstractly
    names = _check_pair(program, guide, call, params)
    arrays, rest = eqx.partition((call, dict(params)), eqx.is_array)

    @jax.jit
    def draw(keys: Array, arrays: Any) -> tuple[dict[str, Array], Array]:
        (args, kwargs), values = eqx.combine(arrays, rest)

        def one(key: Array) -> tuple[dict[str, Array], Array]:
            guide_key, program_key = split_key(key, (2,))
            with numpyro.handlers.block(), evaluating():
                log_q, drawn = log_density(numpyro.handlers.seed(guide, guide_key), args, kwargs, values)
                replayed = numpyro.handlers.replay(numpyro.handlers.seed(program, program_key), drawn)
                log_p, _ = log_density(replayed, args, kwargs, values)
            return {name: drawn[name]["value"] for name in names}, log_p - log_q

        size = sum(math.prod(x.shape) for x in jax.tree.leaves(arrays))
        found: Any = map_particles(one, (keys,), size)  # type: ignore[arg-type]
        return found

    drawn: tuple[dict[str, Array], Array] = draw(split_key(key, (num_draws,)), arrays)
    return drawn


def _check_pair(program: Program, guide: Program, call: Call, params: Mapping[str, Any]) -> list[str]:
    """Return the names of the latent sites."""
    ours, theirs = sites_of(program, call, params), sites_of(guide, call, params)
    for name, site in {**ours, **theirs}.items():
        if site["type"] == "param" and name not in params:
            raise ValueError(f"params: expected a value of the param site {name!r}, got {sorted(params)}")
        if site["type"] == "plate" and site["args"][1] is not None and site["args"][1] < site["args"][0]:
            raise ValueError(f"program: plate {name!r} takes a part of its rows, and all are needed")
    latent = {name for name, site in ours.items() if is_latent(site)}
    drawn = {name for name, site in theirs.items() if is_latent(site)}
    if latent != drawn:
        lacks, more = sorted(latent - drawn), sorted(drawn - latent)
        said = [f"draws no {lacks}"] * bool(lacks) + [f"draws {more}, which the program has not"] * bool(more)
        raise ValueError(f"guide: expected one that draws the program's latent sites, but it {' and '.join(said)}")
    if not latent:
        raise ValueError("program: expected latent sites, got none")
    return [name for name in ours if name in latent]
