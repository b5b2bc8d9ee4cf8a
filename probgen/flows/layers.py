"""What flows are stacked from: one layer as a function of a key, and the stack of them on a normal base."""

from collections.abc import Callable, Sequence

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
from probgen.core import Contextual, Dependence, count_parameters
from probgen.distributions import ConditionalModel, FromContext, Transformed
from probgen.networks import MADE, MLP

Layer = Callable[[Array], Bijector]


def standard_normal(dim: int) -> dist.Distribution:
    """Normal(0, I) of vectors."""
    return dist.Normal(jnp.zeros(dim), 1.0).to_event(1)


def flow_of_layers(
    dim: int, layer: Layer, *, layers: int, unroll: int, context_dim: int | None, key: Array
) -> Transformed | ConditionalModel:
    """`layers` of a kind on a normal base, run as one scan, and an `ActNorm` at the data's end."""
    if layers < 1:
        raise ValueError(f"layers: expected at least 1, got {layers}")
    stacked = Stacked(jax.vmap(layer)(jax.random.split(key, layers)), unroll)
    flow = Transformed(standard_normal(dim), Chain([ActNorm(dim), stacked]))
    return ConditionalModel(flow, (context_dim,)) if context_dim else flow


def moved_by_context(
    flow: Transformed, *, hidden: Sequence[int], context_dim: int | None, key: Array
) -> Transformed | ConditionalModel:
    """The flow, or with a context one whose learned numbers an MLP of the context moves."""
    if not context_dim:
        return flow
    network = MLP(context_dim, count_parameters(flow), hidden=hidden, key=key)
    return ConditionalModel(FromContext(flow, network), (context_dim,))


def reorder(dim: int, *, permute: bool, linear: bool = False, key: Array) -> Bijector:
    """What stands between two layers: the order reversed or shuffled, or a learned matrix, cheap in density."""
    if linear:
        return Inverse(LU(dim, key=key))
    return Permute(jax.random.permutation(key, dim)) if permute else Reverse()


def coupling_layer(
    dim: int,
    transformer: Transformer,
    *,
    hidden: Sequence[int],
    dropout: float = 0.0,
    permute: bool = False,
    linear: bool = False,
    inverse: bool = False,
    context_dim: int | None = None,
) -> Layer:
    """A coupling of two halves by an MLP, and what reorders them; `inverse` gives the density τ itself, where τ⁻¹ costs
    more. Raises ValueError where D < 2."""
    if dim < 2:
        raise ValueError(f"dim: a coupling needs at least 2, got {dim}")
    split = dim // 2

    def layer(key: Array) -> Bijector:
        net_key, order_key = jax.random.split(key)
        out = (dim - split) * transformer.num_params
        net = MLP(
            split, out, hidden=hidden, activation=jax.nn.relu, dropout=dropout, context_dim=context_dim, key=net_key
        )
        coupling = Coupling(Contextual(net) if context_dim else net, transformer, split=split)
        between = reorder(dim, permute=permute, linear=linear, key=order_key)
        return Chain([Inverse(coupling) if inverse else coupling, between])

    return layer


def masked_layer(
    dependence: Dependence,
    transformer: Transformer,
    *,
    hidden: Sequence[int],
    dropout: float = 0.0,
    context_dim: int | None = None,
    out_scale: float = 0.01,
) -> Callable[[Array], MaskedAutoregressive]:
    """A masked autoregressive bijector by a `MADE`, fast in `forward`."""

    def layer(key: Array) -> MaskedAutoregressive:
        net = MADE(
            dependence.dim,
            transformer.num_params,
            hidden=hidden,
            order=dependence,
            context_dim=context_dim,
            activation=jax.nn.relu,
            dropout=dropout,
            out_scale=out_scale,
            key=key,
        )
        return MaskedAutoregressive(Contextual(net) if context_dim else net, transformer, dependence)

    return layer


def autoregressive_layer(
    dim: int,
    transformer: Transformer,
    *,
    hidden: Sequence[int],
    passes: int | None = None,
    inverse: bool = True,
    dropout: float = 0.0,
    permute: bool = False,
    linear: bool = False,
    context_dim: int | None = None,
) -> Layer:
    """A `masked_layer` in D steps (or `passes`), and what reorders them; `inverse`: fast in density, as in a MAF."""
    dependence = Dependence.in_order(range(dim), passes=passes)
    masked = masked_layer(dependence, transformer, hidden=hidden, dropout=dropout, context_dim=context_dim)

    def layer(key: Array) -> Bijector:
        net_key, order_key = jax.random.split(key)
        bijector = masked(net_key)
        between = reorder(dim, permute=permute, linear=linear, key=order_key)
        return Chain([Inverse(bijector) if inverse else bijector, between])

    return layer
