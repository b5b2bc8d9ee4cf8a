"""What flows are stacked from: one layer as a function of a key, and the stack of them on a normal base."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.bijectors import (
    LU,
    ActNorm,
    Bijector,
    Chain,
    Coupling,
    Inverse,
    MaskedAutoregressive,
    Permute,
    Reverse,
    Stacked,
)
from probgen.bijectors.transformers import Transformer
from probgen.core import Contextual, Dependence, check_sizes
from probgen.distributions import ConditionalModel, Distribution, Transformed
from probgen.networks import MADE, MLP

Layer = Callable[[Array], Bijector]
M = TypeVar("M", bound=Distribution)


class Nets(NamedTuple):
    """The settings from which the networks of all layers are built."""

    hidden: Sequence[int]
    dropout: float
    activation: Callable[[Array], Array]
    context_dim: int | None

    def bound(self, net: Callable) -> Callable:
        """Return the network of a bijector, which takes a context where there is one."""
        return Contextual(net) if self.context_dim else net


def standard_normal(dim: int) -> dist.Distribution:
    """Return Normal(0, I) of vectors."""
    check_sizes(dim=dim)
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)


def flow_of_layers(
    dim: int, layer: Layer, *, layers: int, context_dim: int | None, key: Array
) -> Transformed | ConditionalModel:
    """Return a flow of `layers` of a kind on a normal base, run as one scan, with an `ActNorm` at the data's end."""
    check_sizes(layers=layers)
    stacked = Stacked(jax.vmap(layer)(jax.random.split(key, layers)))
    flow = Transformed(standard_normal(dim), Chain([ActNorm(dim), stacked]))
    return ConditionalModel(flow, (context_dim,)) if context_dim else flow


def reorder(dim: int, fixed: Bijector, *, permute: bool, linear: bool = False, key: Array) -> Bijector:
    """Return what stands between two layers: a fixed order, a shuffled one, or a learned matrix, cheap in density."""
    if linear:
        return Inverse(LU(dim, key=key))
    return Permute(jax.random.permutation(key, dim)) if permute else fixed


def coupling_layer(
    dim: int,
    transformer: Transformer,
    nets: Nets,
    *,
    inverse: bool = True,
    permute: bool = False,
    linear: bool = False,
) -> Layer:
    """Return a function of a key to a coupling of two halves by an MLP, and what reorders them. Raises ValueError where
    D < 2.

    With `inverse` the density applies τ itself and draws τ⁻¹: z = exp(s) x + t as in RealNVP's paper, and in no density
    a spline's τ⁻¹, which costs more. By default the order is turned by half of D: reversed, an odd D's middle would
    never be what others depend on.
    """
    check_sizes(dim=dim)
    if dim < 2:
        raise ValueError(f"dim: a coupling needs at least 2, got {dim}")
    split = dim // 2
    turned = Permute((*range(split, dim), *range(split)))

    def layer(key: Array) -> Bijector:
        net_key, order_key = jax.random.split(key)
        net = MLP(split, (dim - split) * transformer.num_params, **nets._asdict(), key=net_key)
        coupling = Coupling(nets.bound(net), transformer, split=split)
        between = reorder(dim, turned, permute=permute, linear=linear, key=order_key)
        return Chain([Inverse(coupling) if inverse else coupling, between])

    return layer


def masked_layer(
    dependence: Dependence, transformer: Transformer, nets: Nets, *, out_scale: float = 0.01
) -> Callable[[Array], MaskedAutoregressive]:
    """Return a function of a key to a masked autoregressive bijector by a `MADE`, fast in `forward`."""

    def layer(key: Array) -> MaskedAutoregressive:
        sizes = dependence.dim, transformer.num_params
        net = MADE(*sizes, order=dependence, out_scale=out_scale, **nets._asdict(), key=key)
        return MaskedAutoregressive(nets.bound(net), transformer, dependence)

    return layer


def autoregressive_layer(
    dim: int,
    transformer: Transformer,
    nets: Nets,
    *,
    passes: int | None = None,
    inverse: bool = True,
    permute: bool = False,
    linear: bool = False,
) -> Layer:
    """Return a function of a key to a `masked_layer` in D steps (or `passes`), and what reorders them; with `inverse`
    it is fast in density, as in a MAF."""
    check_sizes(dim=dim)
    masked = masked_layer(Dependence.in_order(range(dim), passes=passes), transformer, nets)

    def layer(key: Array) -> Bijector:
        net_key, order_key = jax.random.split(key)
        bijector = masked(net_key)
        between = reorder(dim, Reverse(), permute=permute, linear=linear, key=order_key)
        return Chain([Inverse(bijector) if inverse else bijector, between])

    return layer
