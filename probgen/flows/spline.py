"""Flows of splines: for vectors, and for one number, whose distribution function they learn."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.bijectors import ActNorm, Chain, Spline, SplineTransformer, Tails
from probgen.core import check_sizes, recipe
from probgen.distributions import ConditionalModel, Transformed
from probgen.flows.layers import (
    Nets,
    autoregressive_layer,
    coupling_layer,
    flow_of_layers,
    standard_normal,
)
from probgen.mixtures.conditional import moved_by_context


@recipe
def nsf(
    dim: int,
    *,
    layers: int = 5,
    bins: int = 8,
    interval: tuple[float, float] = (-3.0, 3.0),
    hidden: Sequence[int] = (256, 256),
    passes: int | None = 2,
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    permute: bool = False,
    linear: bool = False,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """Neural spline flow: rational-quadratic splines whose knots a network sets, in couplings or autoregressive.

        z_i = Spline(x_i; h_i(x_<i))   in each layer,   z ~ Normal(0, I)

    Args:
        dim: D, the size of an event.
        layers: L, run as one scan, so that compilation does not grow with L.
        bins: how many a spline has.
        interval: (low, high) of the splines, which are the identity outside.
        hidden: widths of the conditioners' hidden layers.
        passes: 2 are couplings (fast both ways); D, or None, fully autoregressive (fast in density).
        dropout: the rate in the conditioners, in training.
        activation: of the conditioners' hidden layers.
        permute: whether the order is shuffled between layers.
        linear: whether a learned LU matrix stands between layers, in place of an order.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where D < 2 in couplings.

    References: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios 2019), arXiv:1906.04032.

    >>> import jax, jax.numpy as jnp
    >>> nsf(2, layers=2, hidden=(16,), key=jax.random.key(0)).log_prob(jnp.zeros((5, 2))).shape
    (5,)
    """
    transformer = SplineTransformer(bins, interval)
    nets = Nets(hidden, dropout, activation, context_dim)
    between = {"permute": permute, "linear": linear}
    if passes == 2:
        layer = coupling_layer(dim, transformer, nets, **between)
    else:
        layer = autoregressive_layer(dim, transformer, nets, passes=passes, **between)
    return flow_of_layers(dim, layer, layers=layers, context_dim=context_dim, key=key)


@recipe
def cdf_flow(
    dim: int = 1,
    *,
    bins: int = 16,
    interval: tuple[float, float] = (-4.0, 4.0),
    uniform: bool = False,
    context_dim: int | None = None,
    hidden: Sequence[int] = (64, 64),
    key: Array,
) -> Transformed | ConditionalModel:
    """A density of one number by its learned distribution function; of D numbers, a product of them.

        x = a · F⁻¹(z) + b:   F a spline, z ~ Normal(0, 1),   or on [low, high], z ~ Uniform(low, high)

    Drawing is noise → data by F⁻¹, and the likelihood data → noise by F. With `uniform`, (F(x) − low) / (high − low)
    is the distribution function of x itself: `(flow.bijector.inverse(x) − low) / (high − low)`.

    Args:
        dim: D, the size of an event.
        bins: how many the spline has.
        interval: (low, high) of the spline.
        uniform: whether the density lives on the interval alone.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, whose network, an MLP of the
            context, moves what is learned.
        hidden: widths of that MLP's hidden layers.
        key: draws the weights of that MLP.

    References: Neural Spline Flows (Durkan et al. 2019), arXiv:1906.04032; inverse transform sampling (von Neumann
    1947).

    >>> import jax, jax.numpy as jnp
    >>> flow = cdf_flow(uniform=True, interval=(0.0, 1.0), key=jax.random.key(0))
    >>> flow.bijector.inverse(jnp.array([0.25])), flow.log_prob(jnp.array([0.25])).round(4)
    (Array([0.25], dtype=float32), Array(0., dtype=float32))
    """
    check_sizes(dim=dim)
    tails = Tails.BOUNDED if uniform else Tails.LINEAR
    raw = jnp.zeros((dim, SplineTransformer(bins, interval, tails).num_params))
    spline = Spline(raw, interval=interval, tails=tails)
    if uniform:
        low, high = (jnp.full(dim, float(end)) for end in interval)
        flow = Transformed(dist.Uniform(low, high).to_event(1), spline)
    else:
        flow = Transformed(standard_normal(dim), Chain([ActNorm(dim), spline]))
    return moved_by_context(flow, hidden=hidden, context_dim=context_dim, key=key)
