"""Whether a guide fits its model: the same latent sites, plates and shapes, as strictly as numpyro's objectives."""

import warnings
from collections.abc import Iterator

import jax.numpy as jnp
import numpyro.distributions as dist

from probgen.distributions.supports import draws_outside
from probgen.distributions.wrapped import family


def check_match(model: dict, guide: dict) -> None:
    """Raise ValueError where the latent sites, the plates or the shapes of a guide are not the model's, or where it
    is known to draw what lies outside of the model's support.

    Warn, as numpyro does, where shapes broadcast over an axis that no plate is for, and where the guide opens a plate
    that the model has not.
    """
    drawn = {name for name, site in guide.items() if site["type"] == "sample" and not site["is_observed"]}
    latent = {name for name, site in model.items() if site["type"] == "sample" and not site["is_observed"]}
    for name in sorted(latent - drawn):
        raise ValueError(
            f"site {name!r} of the model is neither observed nor drawn by the guide, which draws {sorted(drawn)}: "
            "draw it in the guide (a discrete one by estimators.Enumerate(), to sum it out)"
        )
    for name in sorted(drawn - latent):
        if not guide[name]["infer"].get("is_auxiliary"):
            raise ValueError(
                f"site {name!r} of the guide is no latent site of the model, which has {sorted(latent)}: "
                "give both one name, or mark it infer={'is_auxiliary': True}"
            )
    _check_plates(model, guide)
    for said in unfitting_plates(model):
        raise ValueError(said)
    for name in sorted(drawn & latent):
        a, b = guide[name]["fn"], model[name]["fn"]
        if a.event_shape != b.event_shape or _without_ones(a.batch_shape) != _without_ones(b.batch_shape):
            raise ValueError(
                f"site {name!r}: the guide draws batch × event {list(a.batch_shape)} × {list(a.event_shape)}, "
                f"the model has {list(b.batch_shape)} × {list(b.event_shape)}"
            )
        _check_support(name, a, b)
    for said in missing_plates(model):
        warnings.warn(said, UserWarning, stacklevel=2)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a batch shape from its first axis that is not of size one."""
    first = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


def _check_support(name: str, guide: dist.Distribution, model: dist.Distribution) -> None:
    """Raise ValueError where the guide is known to draw outside of the model's support."""
    if draws_outside(guide, model):
        raise ValueError(
            f"site {name!r}: the guide draws {type(family(guide)).__name__} on {guide.support}, outside the support "
            f"{model.support} of the model's {type(family(model)).__name__}, where the bound is −∞"
        )


def _check_plates(model: dict, guide: dict) -> None:
    frames = lambda trace: {f.name: f for site in trace.values() for f in site.get("cond_indep_stack", ())}
    ours, theirs = frames(guide), frames(model)
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            raise ValueError(
                f"plate {name!r} is axis {ours[name].dim} with {ours[name].size} elements in the guide, "
                f"axis {theirs[name].dim} with {theirs[name].size} in the model: give both the same dim and sizes"
            )
    sizes = lambda trace: {name: site["args"][0] for name, site in trace.items() if site["type"] == "plate"}
    ours_of, theirs_of = sizes(guide), sizes(model)  # (the model replays the guide's indices, whatever it says itself)
    for name in sorted(ours_of.keys() & theirs_of.keys()):
        if ours_of[name] != theirs_of[name]:
            raise ValueError(
                f"plate {name!r} has {ours_of[name]} elements in the guide, {theirs_of[name]} in the model: give both "
                "the same size"
            )
    for name in sorted(ours.keys() - theirs.keys()):
        warnings.warn(f"the guide opens plate {name!r}, which the model has not", UserWarning, stacklevel=3)


def missing_plates(model: dict) -> Iterator[str]:
    """Yield what is to be said of sites under plates whose value and parameters broadcast over an axis that is no
    plate's.

    An observation `[N, 1]` beside parameters `[N]` counts N × N terms where N were meant.
    """
    for name, site in model.items():
        if site["type"] == "sample" and site["cond_indep_stack"]:
            yield from (_without_plate(name, site, axis) for axis in _axes_of_no_plate(site))


def fitting(plate: str) -> str:
    """Return how a plate is opened for the rows x, for an error."""
    return f"write plate({plate!r}, x.shape[0]), or plate({plate!r}, N, subsample_size=x.shape[0]) where x is a batch"


def unfitting_plates(model: dict) -> Iterator[str]:
    """Yield what is to be said of observations that are neither one nor as many as the elements of their plate."""
    for name, site in model.items():
        if site["type"] != "sample" or not site["is_observed"]:
            continue
        value = jnp.shape(site["value"])
        value = value[: len(value) - len(site["fn"].event_shape)]
        for frame in site["cond_indep_stack"]:
            if -frame.dim <= len(value) and value[frame.dim] not in (1, frame.size):
                yield (
                    f"site {name!r} observes {value[frame.dim]} values in plate {frame.name!r}, which has {frame.size} "
                    f"elements: {fitting(frame.name)}"
                )


def repeated_observations(model: dict) -> Iterator[str]:
    """Yield what is to be said of observed sites whose value and parameters both lack an axis that the other has, no
    plate's: some observations would meet the parameters of others, and count more than once."""
    for name, site in model.items():
        if site["type"] != "sample" or not site["is_observed"] or not (axes := _axes_of_no_plate(site)):
            continue
        own = site["fn"]
        while isinstance(own, dist.ExpandedDistribution):  # a plate's expansion repeats parameters, rightly
            own = own.base_dist
        full, value = _shapes(site)
        if max(value, default=1) > 1 and value != full and tuple(own.batch_shape) != full:
            said = _without_plate(name, site, axes[-1])
            yield f"{said}, so that observations would count more than once: give both one shape"


def _shapes(site: dict) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of a site's log-densities, and that of its value without the event's axes."""
    fn, value = site["fn"], jnp.shape(site["value"])
    value = value[: len(value) - len(fn.event_shape)]
    return jnp.broadcast_shapes(tuple(fn.batch_shape), value), value


def _axes_of_no_plate(site: dict) -> list[int]:
    shape, _ = _shapes(site)
    plates = {frame.dim for frame in site["cond_indep_stack"]}
    scanned = {-len(shape)} if site.get("_control_flow_done", False) else set()
    return [axis for axis in range(-1, -len(shape) - 1, -1) if shape[axis] > 1 and axis not in plates | scanned]


def _without_plate(name: str, site: dict, axis: int) -> str:
    return (
        f"site {name!r} has {list(_shapes(site)[0])} log-densities, but no plate on axis {axis}: its distribution has "
        f"batch shape {list(site['fn'].batch_shape)}, its value the shape {list(jnp.shape(site['value']))}"
    )
