"""Minibatches in numpyro programs: a batch must weigh what the full data would.

A program that opens `plate("N", x.shape[0])` on a batch of B rows out of N sees too little data, and its posterior is
√(N/B) times too wide. Here the plates that follow the rows are found by tracing the program and its guide at two batch
sizes, and their sites are scaled by N/B. What else depends on the rows is read off the jaxpr, and refused with the
reason where a batch cannot stand for all of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
from numpyro.primitives import Messenger

from probgen.inference.engine.provenance import mark, provenance
from probgen.inference.objectives.match import fitting
from probgen.inference.training.origins import Marks

_DATA = "the rows of the data"


class ScalePlates(Messenger):
    """Multiply the scale of every site under one of the named plates."""

    def __init__(self, fn: Callable | None, names: frozenset[str], factor: float):
        self.names, self.factor = names, factor
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        """Scale one site."""
        if msg["type"] == "sample" and any(frame.name in self.names for frame in msg["cond_indep_stack"]):
            msg["scale"] = self.factor * (1.0 if msg["scale"] is None else msg["scale"])


class _Site(NamedTuple):
    """A site of one abstract run: the plates around it, its shapes (or a plate's sizes), what its log-density comes
    from."""

    kind: str
    plates: frozenset[str]
    shapes: Any
    origins: frozenset[str]


class _Plates(NamedTuple):
    """The plates that follow the rows: those that weigh too little, and all of them; `fixed` draw a subsample of their
    own."""

    unscaled: frozenset[str]
    all: frozenset[str]
    fixed: frozenset[str]


_Runs = list[tuple[str, _Site, _Site]]


def plates_to_scale(
    program: Callable, guide: Callable, args: tuple, kwargs: dict, rows: int, size: int, instead: str
) -> tuple[frozenset[str], frozenset[str]]:
    """Return names of the plates of the program and of its guide to be scaled by rows / size, where `size` rows of all
    stand for all of them. Raises ValueError where they cannot; `instead` tells what may be done instead."""
    model, ours = (_two_runs(of, fn, args, kwargs, size) for of, fn in (("", program), (" of the guide", guide)))
    try:
        plates, our_plates = _plates("", model, rows, size), _plates(" of the guide", ours, rows, size)
        if plates.fixed:
            raise ValueError(_draws_its_own(min(plates.fixed)))
        drawn = _latent_sites("", model, plates.all, rows)
        by_guide = _latent_sites(" of the guide", ours, our_plates.all, rows)
        for name in sorted(drawn.keys() & by_guide.keys()):
            _check_match(name, drawn[name], by_guide[name])
    except ValueError as error:
        raise ValueError(f"{size} of {rows} rows cannot stand for all: {error}; or {instead}") from error
    return plates.unscaled, our_plates.unscaled


def _two_runs(of: str, program: Callable, args: tuple, kwargs: dict, size: int) -> _Runs:
    """Return the sites that there are on `size` rows and on one more, as they are there and there."""
    sites = _sites(program, args, kwargs, size)
    try:
        other = _sites(program, args, kwargs, size + 1)
    except Exception as error:
        _check_plates_of(sites, size)
        raise ValueError(
            f"the program{of} runs on {size} rows, but not on {size + 1}: take sizes from the data ({error})"
        ) from error
    return [(name, site, other[name]) for name, site in sites.items() if name in other]


def _check_plates_of(sites: dict[str, _Site], size: int) -> None:
    """Raise ValueError where a plate has another number of elements than there are rows: a reason to fail on others."""
    for name, site in sites.items():
        full, part = site.shapes if site.kind == "plate" else (size, None)
        if part not in (None, full):
            raise ValueError(_draws_its_own(name))
        if full != size:
            raise ValueError(f"plate {name!r} has {full} elements, and a batch {size} rows: {fitting(name)}")


def _draws_its_own(plate: str) -> str:
    return f"plate {plate!r} draws its own subsample: open it with subsample_size=x.shape[0], and fit draws the batches"


def _plates(of: str, runs: _Runs, rows: int, size: int) -> _Plates:
    """Return the plates that follow the rows; raise ValueError for those that do so in a way that is not understood."""
    unscaled, following, fixed = set(), set(), set()
    for name, site, other in runs:
        if site.kind != "plate":
            continue
        (full, part), (other_full, other_part) = site.shapes, other.shapes
        if full != other_full:
            unscaled.add(name)
            if full * (size + 1) != other_full * size:
                raise ValueError(
                    f"plate {name!r}{of} has {full} elements for {size} rows and {other_full} for {size + 1}: open one "
                    "with an element for each row"
                )
        elif part != other_part:
            following.add(name)
            if full != rows:
                raise ValueError(f"plate {name!r}{of} says that there are {full} rows, but the data has {rows}")
        elif part not in (None, full):
            fixed.add(name)
    return _Plates(frozenset(unscaled), frozenset(unscaled | following), frozenset(fixed))


def _latent_sites(of: str, runs: _Runs, plates: frozenset[str], rows: int) -> dict[str, frozenset[str]]:
    """Return the latent sites with their plates of the rows; raise ValueError for a site that a batch would not do
    justice."""
    local = {name for name, site, _ in runs if site.plates & plates}
    for name, site, other in runs:
        _check_site(f"{name!r}{of}", site, site.shapes != other.shapes, plates, local, rows)
    return {name: site.plates & plates for name, site, _ in runs if site.kind == "latent"}


def _check_match(name: str, model: frozenset[str], guide: frozenset[str]) -> None:
    if model and not guide:
        raise ValueError(
            f"site {name!r} is drawn for each row, but not so by the guide (an automatic one keeps params for the rows "
            f"that it first saw): write a guide that draws it from the row's data, under plate {min(model)!r}"
        )
    if model != guide:
        raise ValueError(
            f"site {name!r} stands under {_names(guide)} of the rows in the guide, under {_names(model)} in the model: "
            "open the same in both"
        )


def _names(plates: frozenset[str]) -> str:
    return f"plate {min(plates)!r}" if plates else "no plate"


def _check_site(name: str, site: _Site, grows: bool, plates: frozenset[str], local: set[str], rows: int) -> None:
    """Raise ValueError for a site that a batch would not do justice."""
    if site.kind == "param" and grows:
        raise ValueError(f"param {name} has a value for each row of a batch, which the next batch would inherit")
    if site.kind not in ("latent", "observed"):
        return
    if found := sorted(site.origins & plates):
        raise ValueError(
            f"site {name} looks something up by the indices of plate {found[0]!r}, which are not those of the batch's "
            f"rows: pass jnp.arange({rows}) with the data, and look up by that"
        )
    if len(site.plates & plates) > 1:
        raise ValueError(f"site {name} stands under several plates of the rows: {sorted(site.plates & plates)}")
    if not site.plates & plates and (grows or site.origins & (local | {_DATA})):
        raise ValueError(
            f"site {name} depends on the rows but stands under no plate of them, so that a batch would weigh too "
            f"little: put it under numpyro.plate('data', {rows}, subsample_size=x.shape[0])"
        )


def _sites(program: Callable, args: tuple, kwargs: dict, size: int) -> dict[str, _Site]:
    """Return the program's sites on `size` rows, traced abstractly."""
    found: dict[str, _Site] = {}

    def run(args: tuple, kwargs: dict) -> dict[str, Any]:
        args, kwargs = jax.tree.map(lambda x: mark(_DATA, x), (args, kwargs))
        with numpyro.handlers.block(), Marks(), numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
            program(*args, **kwargs)
        densities = {name: _log_density(site) for name, site in trace.items() if site["type"] == "sample"}
        for name, site in trace.items():
            plates = frozenset(frame.name for frame in site.get("cond_indep_stack", ()))
            found[name] = _Site(_kind(site), plates, _shapes(site, densities.get(name)), frozenset())
        for site in (trace[name] for name in densities):
            for frame in site["cond_indep_stack"]:  # a plate within a scan shows in its sites alone
                scale = site.get("scale")
                known = isinstance(scale, int | float)
                full = round(frame.size * scale) if known else frame.size
                found.setdefault(frame.name, _Site("plate", frozenset(), (full, frame.size), frozenset()))
        return densities

    resize = lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)
    closed, densities = jax.make_jaxpr(run, return_shape=True)(*jax.tree.map(resize, (args, kwargs)))
    origins = jax.tree.unflatten(jax.tree.structure(densities), provenance(closed))
    return {name: site._replace(origins=origins.get(name, site.origins)) for name, site in found.items()}


def _log_density(site: Any) -> Any:
    given = (site["intermediates"],) if site["intermediates"] else ()
    return jnp.asarray(site["fn"].log_prob(site["value"], *given))


def _kind(site: Any) -> str:
    return site["type"] if site["type"] != "sample" else "observed" if site["is_observed"] else "latent"


def _shapes(site: Any, density: Any) -> Any:
    if site["type"] == "plate":
        return site["args"][:2]
    if site["type"] == "param":
        return [jnp.shape(x) for x in jax.tree.leaves(site["value"])]
    return () if density is None else (jnp.shape(site["value"]), density.shape)
