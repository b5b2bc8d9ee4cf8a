"""Dreaming: a model's own draws of everything, latent values and data, and where the data go in its arguments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.extend.core import jaxpr_as_fun
from numpyro.primitives import Messenger

from probgen.core import split_key
from probgen.distributions.wrapped import family
from probgen.inference.engine.provenance import mark, provenance, unchanged
from probgen.inference.engine.sites import describe
from probgen.inference.estimators.base import detached, draw_cut
from probgen.inference.objectives.elbo import Pair

Dream = Callable[[tuple, dict, dict[str, Array]], tuple[tuple, dict]]
AWAKE = "ReweightedWakeSleep(…, insomnia=1.0) dreams of nothing"


class Dreamt(NamedTuple):
    """The arguments with dreamt data, and the other values of the dream: of latent sites, and the indices of plates."""

    args: tuple
    kwargs: dict
    latents: dict[str, Array]
    indices: dict[str, Array]


class Dreaming(Messenger):
    """The innermost handler of a model, which draws every site without a gradient, the observed ones too; `observed`
    collects what was observed."""

    def __init__(self, fn: Callable, key: Array):
        self.key, self.observed = key, {}  # type: ignore[var-annotated]
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        """Draw one site."""
        if msg["type"] != "sample" or (msg["value"] is not None and not msg["is_observed"]):
            return
        name, fn = msg["name"], msg["fn"]
        if msg["is_observed"]:
            if msg.get("_control_flow_done"):
                raise ValueError(f"site {name!r} is observed inside a scan, where it cannot be dreamt of; {AWAKE}")
            self.observed[name] = jnp.asarray(msg["value"])
        self.key, key = jax.random.split(self.key)
        try:
            if isinstance(family(fn), dist.Unit):
                raise NotImplementedError("it is a factor")
            value = draw_cut(key, fn, msg["kwargs"]["sample_shape"])
        except NotImplementedError as error:
            raise ValueError(
                f"site {name!r} cannot be dreamt of: {describe(fn)} cannot be sampled "
                f"({str(error) or 'it has no sampler'}); {AWAKE}"
            ) from error
        msg["value"], msg["is_observed"] = value, False


def dream_of(pair: Pair, key: Array, where: Dream | None) -> Dreamt:
    """Draw latent values and data of a model, its params held, and put the data where the observed were.

    Args:
        pair: the model and its arguments.
        key: the randomness.
        where: says where the data go; None finds it: they replace the argument that a site observes as it is, perhaps
            in another shape or dtype.

    Raises ValueError, naming the site, where it cannot be found, where what is drawn depends on the data, and for what
    cannot be drawn.
    """
    arguments = _Arguments(pair)
    traced = _trace(pair, arguments, key)
    drawn, observed = traced.drawn, traced.sources
    latents = {name: value for name, value in drawn.items() if name not in observed}
    if where is not None:
        args, kwargs = _pair_of(where(pair.args, pair.kwargs, {**drawn, **traced.indices}))
        return Dreamt(args, kwargs, latents, traced.indices)
    arrays = list(arguments.arrays)
    for name, i in observed.items():
        if i is None or drawn[name].size != arrays[i].size or list(observed.values()).count(i) > 1:
            raise ValueError(
                f"site {name!r}: it was not found which argument of the program it observes, in whose place the guide "
                "would see its dreams: pass the data as an argument and observe it as it is, or say where dreams go, "
                "dream=lambda args, kwargs, drawn: (args, kwargs)"
            )
        if fed := sorted(other for other in drawn if str(i) in traced.origins[other]):
            raise ValueError(
                f"site {fed[0]!r} is drawn from the data that site {name!r} observes, so that its dreams would not be "
                "the model's own: write both as one distribution, or say where dreams go by the option dream"
            )
        arrays[i] = drawn[name].reshape(arrays[i].shape).astype(arrays[i].dtype)
    return Dreamt(*arguments.filled(arrays), latents, traced.indices)


class _Arguments:
    """The arguments of a program: the arrays in them, and how others take their place."""

    def __init__(self, pair: Pair):
        self.leaves, self.structure = jax.tree.flatten((pair.args, pair.kwargs))
        self.places = [i for i, leaf in enumerate(self.leaves) if _is_data(leaf)]
        self.arrays = [jnp.asarray(self.leaves[i]) for i in self.places]

    def filled(self, arrays: list[Array]) -> tuple[tuple, dict]:
        """Return the arguments with these arrays."""
        given = dict(zip(self.places, arrays, strict=True))
        return jax.tree.unflatten(self.structure, [given.get(i, leaf) for i, leaf in enumerate(self.leaves)])


class _Traced(NamedTuple):
    """A dream: the values of all sites and of the indices of minibatches; of each observed site which array it
    observes, and of each site the arrays that its value comes from."""

    drawn: dict[str, Array]
    indices: dict[str, Array]
    sources: dict[str, int | None]
    origins: dict[str, frozenset[str]]


def _trace(pair: Pair, arguments: _Arguments, key: Array) -> _Traced:
    program_key, key = split_key(key, (2,))

    def run(arrays: list[Array]) -> tuple[dict, dict, dict]:
        args, kwargs = arguments.filled([mark(str(i), x) for i, x in enumerate(arrays)])
        dreaming = Dreaming(pair.model, key)
        again = Pair(dreaming, pair.guide, args, kwargs, pair.param_map, pair.plate_key)
        trace = again.trace(dreaming, program_key, detached(pair.param_map))
        kinds = {kind: {n: site for n, site in trace.items() if site["type"] == kind} for kind in ("sample", "plate")}
        drawn = {name: jnp.asarray(site["value"]) for name, site in kinds["sample"].items()}
        part = {name: jnp.asarray(site["value"]) for name, site in kinds["plate"].items() if _is_part(*site["args"])}
        return drawn, part, dreaming.observed

    closed, shape = jax.make_jaxpr(run, return_shape=True)(arguments.arrays)
    unflatten = lambda flat: jax.tree.unflatten(jax.tree.structure(shape), flat)
    drawn, indices, _ = unflatten(jaxpr_as_fun(closed)(*arguments.arrays))
    origins, _, observed = unflatten(provenance(closed))
    sources = unflatten([-1 if i is None else i for i in unchanged(closed)])[2]
    return _Traced(drawn, indices, {n: None if sources[n] < 0 else sources[n] for n in observed}, origins)


def _is_part(size: int, subsample_size: int | None) -> bool:
    return subsample_size is not None and subsample_size < size


def _is_data(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _pair_of(given: Any) -> tuple[tuple, dict]:
    if not (
        isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], tuple) and isinstance(given[1], dict)
    ):
        raise ValueError(f"dream: expected it to return (args, kwargs), a tuple and a dict, got {given!r}")
    return given
