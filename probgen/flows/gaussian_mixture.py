"""The mixture of normals, and the mixture density network."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from probgen.core import as_numbers, check_sizes, recipe
from probgen.distributions import ConditionalModel, GaussianMixture, kmeans
from probgen.flows.layers import moved_by_context


@recipe
def gaussian_mixture(
    dim: int,
    *,
    components: int,
    data: Array | None = None,
    diagonal: bool = False,
    context_dim: int | None = None,
    hidden: Sequence[int] = (64, 64),
    key: Array,
) -> GaussianMixture | ConditionalModel:
    """A mixture of K normals, for `EM` or gradients; given a context, the mixture density network.

        p(x) = Σ_k π_k Normal(x; μ_k, Σ_k)

    Args: `dim` D; `components` K; `data`, [N, D]: its clusters, by k-means++ and Lloyd's iterations on coordinates of
    equal variance, are the start, each with its own covariance; without it the components start as narrow normals
    about draws of the standard normal. `diagonal`: covariances without correlations. With `context_dim` a
    `ConditionalModel`: an MLP (`hidden` widths) of the context moves all the mixture's numbers. Raises ValueError for
    sizes below 1, and for data of another width, not finite, or with fewer than K different rows.

    References: k-means++ (Arthur, Vassilvitskii 2007); Mixture Density Networks (Bishop 1994), NCRG/94/004.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.concatenate([jax.random.normal(jax.random.key(0), (100, 2)) + m for m in (-9.0, 0.0, 9.0)])
    >>> model = gaussian_mixture(2, components=3, data=x, key=jax.random.key(1))
    >>> sorted(model.loc[:, 0].round(0).tolist())
    [-9.0, 0.0, 9.0]
    """
    check_sizes(dim=dim, components=components)
    start_key, network_key = jax.random.split(key)
    if data is None:
        mixture = _apart(dim, components, diagonal, start_key)
    else:
        mixture = _clustered(dim, components, data, diagonal, start_key)
    return moved_by_context(mixture, hidden=hidden, context_dim=context_dim, key=network_key)


def _apart(dim: int, components: int, diagonal: bool, key: Array) -> GaussianMixture:
    loc = jax.random.normal(key, (components, dim))
    raw = jnp.full((components, dim), -math.log(components) / dim)  # together they fill what one standard normal does
    return GaussianMixture(jnp.zeros(components), loc, raw if diagonal else raw[..., None] * jnp.eye(dim))


def _clustered(dim: int, components: int, data: Array, diagonal: bool, key: Array) -> GaussianMixture:
    x = jnp.asarray(as_numbers("data", data), float)
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"data: expected rows [N, {dim}], got shape {x.shape}")
    spread = x.std(0)
    _, labels = kmeans(x / jnp.where(spread > 0, spread, 1.0), components, key=key)
    return GaussianMixture.from_labels(x, labels, components, diagonal=diagonal)
