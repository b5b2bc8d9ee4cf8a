"""Coupling flows: NICE, RealNVP, and RealNVP for discrete images."""

from collections.abc import Callable, Sequence
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from jax import Array

from probgen.bijectors import AffineTransformer, Chain, Reshape, ShiftTransformer, Sigmoid
from probgen.core import check_sizes, recipe
from probgen.distributions import ConditionalModel, Dequantized, Transformed
from probgen.flows.layers import Nets, coupling_layer, flow_of_layers


@recipe
def nice(
    dim: int,
    *,
    layers: int = 8,
    hidden: Sequence[int] = (256, 256),
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    permute: bool = False,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """Additive couplings, which keep volumes, and one scale for each coordinate at the end.

        z = (f_L ∘ … ∘ f₁)((x − b) / a),   f_l: (x_A, x_B) ↦ (x_A, x_B + t_l(x_A)) and a permutation

    Args: as `real_nvp`'s.

    References: NICE: Non-linear Independent Components Estimation (Dinh, Krueger, Bengio 2015), arXiv:1410.8516 (its
    base is logistic).

    >>> import jax, jax.numpy as jnp
    >>> nice(2, layers=4, hidden=(16,), key=jax.random.key(0)).log_prob(jnp.zeros((5, 2))).shape
    (5,)
    """
    nets = Nets(hidden, dropout, activation, context_dim)
    layer = coupling_layer(dim, ShiftTransformer(), nets, permute=permute)
    return flow_of_layers(dim, layer, layers=layers, context_dim=context_dim, key=key)


@recipe
def real_nvp(
    dim: int,
    *,
    layers: int = 8,
    hidden: Sequence[int] = (256, 256),
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    permute: bool = False,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """Affine couplings, the halves exchanged (or, with `permute`, the order shuffled) between them; a normal base.

        z = (f_L ∘ … ∘ f₁)((x − b) / a),   f_l: (x_A, x_B) ↦ (x_A, exp(s_l(x_A)) x_B + t_l(x_A)) and a permutation

    Args: `dim` D ≥ 2; `layers` L, run as one scan, so that compilation does not grow with L; `hidden` widths of the
    conditioners, their `dropout` and `activation`; with `context_dim` a `ConditionalModel`. Raises ValueError where
    D < 2 (there is nothing to couple).

    References: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio 2017), arXiv:1605.08803.

    >>> import jax, jax.numpy as jnp
    >>> flow = real_nvp(2, layers=4, hidden=(16,), key=jax.random.key(0))
    >>> flow.log_prob(jnp.zeros((5, 2))).shape
    (5,)
    """
    nets = Nets(hidden, dropout, activation, context_dim)
    layer = coupling_layer(dim, AffineTransformer(), nets, permute=permute)
    return flow_of_layers(dim, layer, layers=layers, context_dim=context_dim, key=key)


@recipe
def discrete_real_nvp(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    layers: int = 8,
    hidden: Sequence[int] = (256, 256),
    dropout: float = 0.0,
    activation: Callable[[Array], Array] = jax.nn.relu,
    permute: bool = True,
    key: Array,
) -> Dequantized:
    """RealNVP on dequantized integers 0..levels−1: a sigmoid maps the flow into [0, levels).

        x = ⌊levels · sigmoid(y)⌋,   y ~ real_nvp

    Args: `event_shape`, `levels`; the rest as `real_nvp`'s.

    References: as `real_nvp`; the logit for bounded pixels is theirs (section 4.1).

    >>> import jax, jax.numpy as jnp
    >>> model = discrete_real_nvp((4, 4), 17, layers=2, hidden=(8,), key=jax.random.key(0))
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 4, 4), int)).shape
    (3,)
    """
    check_sizes(2, levels=levels)
    dim = int(jnp.zeros(event_shape).size)
    flow: Any = real_nvp(
        dim, layers=layers, hidden=hidden, dropout=dropout, activation=activation, permute=permute, key=key
    )
    scale = distrax.ScalarAffine(shift=0.0, scale=float(levels))
    to_levels = Chain([Reshape((dim,), tuple(event_shape)), scale, Sigmoid(), flow.bijector])
    return Dequantized(Transformed(flow.base, to_levels), levels)
