"""Latent-variable models as numpyro programs: a site for the latents of each layer, z, z2, z3, …, from the data up."""

from collections.abc import Callable
from typing import Any

import numpyro
from jax import Array

from probgen.distributions import Bounded
from probgen.distributions.wrapped import kind_of


def rows_plate(x: Array | None, size: int | None) -> Any:
    """Return the plate of rows: those of x, out of `size`, or `size` new ones."""
    if x is None and size is None:
        raise ValueError("size: expected the number of rows to draw where x is None")
    rows = size if x is None else x.shape[0]
    if x is not None and size is not None and size < x.shape[0]:
        raise ValueError(f"size: expected at least the {x.shape[0]} rows of x, got {size}")
    return numpyro.plate("data", rows if size is None else size, subsample_size=rows)


def as_rows(model: Any, x: Array) -> Array:
    """Return rows [N, *event_shape] of the model's events. Raises ValueError where they are of another shape."""
    x = model._as_events(x)
    if x.ndim != 1 + model.event_dim:
        raise ValueError(f"x: expected rows [N, {', '.join(map(str, model.event_shape))}], got shape {x.shape}")
    return x


def draw_latents(model: Any) -> Array:
    """Draw the latents of a model, those of the layers above first, each at a site of its own; return z."""
    return _draw(model, lambda d: d, 1)


def infer_latents(model: Any, x: Array) -> Array:
    """Draw the latents from the posteriors given those below, beginning with the rows x; return z."""
    z = numpyro.sample("z", model._at_rows(lambda d, x: d._posteriors(x), x))
    _infer_above(model, _nested, z, 2)
    return z


def _nested(model: Any) -> Any:
    return model.nested


def _infer_above(model: Any, owner: Callable[[Any], Any], z: Array, layer: int) -> None:
    """Draw the latents of the models that are priors, at sites "z2", "z3", …, each from its posterior given those
    below."""
    if owner(model) is not None:
        above = numpyro.sample(f"z{layer}", model._at_rows(lambda d, z: owner(d)._posteriors(z), z))
        _infer_above(model, lambda d: owner(d).nested, above, layer + 1)


def _draw(model: Any, owner: Callable[[Any], Any], layer: int) -> Array:
    """Draw z of the model `owner(model)` at a site "z", "z2", …, after those of the layers above, if there are any."""
    site, upper = "z" if layer == 1 else f"z{layer}", owner(model).nested
    if upper is not None:
        above = _draw(model, lambda d: owner(d).nested, layer + 1)
        prior = model._at_rows(lambda d, z: owner(d).nested.likelihood(z), above)
    elif model._varies(owner(model).prior_parts):
        prior = model._at_rows(lambda d: owner(d).latent_prior)
    else:
        prior = owner(model).latent_prior
    return numpyro.sample(site, prior if kind_of(prior) == "exact" else Bounded(prior, numpyro.prng_key()))
