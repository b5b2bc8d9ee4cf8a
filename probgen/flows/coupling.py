"""Coupling flows: NICE and RealNVP."""

from collections.abc import Callable, Sequence

import jax
from jax import Array

from probgen.bijectors import AffineTransformer, ShiftTransformer
from probgen.core import recipe
from probgen.distributions import ConditionalModel, Transformed
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

    Args:
        dim: D ≥ 2, the size of an event.
        layers: L, run as one scan, so that compilation does not grow with L.
        hidden: widths of the conditioners' hidden layers.
        dropout: the rate in the conditioners, in training.
        activation: of the conditioners' hidden layers.
        permute: whether the order is shuffled between layers, and not turned by half of D.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where D < 2 (there is nothing to couple).

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
    inverse: bool = True,
    permute: bool = False,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """Affine couplings, the halves exchanged (or, with `permute`, the order shuffled) between them; a normal base.

        z = (f_L ∘ … ∘ f₁)((x − b) / a),   f_l: (x_A, x_B) ↦ (x_A, exp(s_l(x_A)) x_B + t_l(x_A)) and a permutation

    Args:
        dim: D ≥ 2, the size of an event.
        layers: L, run as one scan, so that compilation does not grow with L.
        hidden: widths of the conditioners' hidden layers.
        dropout: the rate in the conditioners, in training.
        activation: of the conditioners' hidden layers.
        inverse: whether the maps f_l lead from data to noise, as in the paper; with False they lead from noise to data,
            which is better in a guide (`inference.AutoFlow`), as that learns by its draws.
        permute: whether the order is shuffled between layers, and not turned by half of D.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where D < 2 (there is nothing to couple).

    References: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio 2017), arXiv:1605.08803.

    >>> import jax, jax.numpy as jnp
    >>> flow = real_nvp(2, layers=4, hidden=(16,), key=jax.random.key(0))
    >>> flow.log_prob(jnp.zeros((5, 2))).shape
    (5,)
    """
    nets = Nets(hidden, dropout, activation, context_dim)
    layer = coupling_layer(dim, AffineTransformer(), nets, inverse=inverse, permute=permute)
    return flow_of_layers(dim, layer, layers=layers, context_dim=context_dim, key=key)
