"""The masked autoencoder for distribution estimation."""

import math
from collections.abc import Sequence

from jax import Array

from probgen.autoregressive.autoregressive import Autoregressive, model_of
from probgen.autoregressive.ensemble import OrderEnsemble
from probgen.core import as_shape, recipe
from probgen.distributions import ConditionalModel, integer_head
from probgen.networks import MADE, Pixels


@recipe
def made(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    hidden: Sequence[int] = (256, 256),
    order: Sequence[int] | None = None,
    orders: Sequence[Sequence[int]] | None = None,
    direct: bool = False,
    dropout: float = 0.0,
    context_dim: int | None = None,
    key: Array,
) -> Autoregressive | OrderEnsemble | ConditionalModel:
    """An autoregressive model of integers 0..levels−1 whose network is a masked MLP.

        p(x) = Π_d Categorical(x_d; logits_d(x_{<d}))      (Bernoulli where levels = 2)

    Args:
        event_shape: the shape of one event, such as (28, 28).
        levels: how many integers a number takes, at least 2.
        hidden: widths of the hidden layers.
        order: of the flat positions; raster by default (`Order`).
        orders: several, over which the model is a mixture; they share the weights (`OrderEnsemble`).
        direct: whether there are weights from each position to the later ones, beside the hidden layers.
        dropout: the rate in the network, in training.
        context_dim: the size of a context; with it the model is a `ConditionalModel`, a function of the context.
        key: draws the first weights.

    Raises ValueError where `orders` are given with `order` or `context_dim`.

    References: MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray, Larochelle 2015),
    arXiv:1502.03509.

    >>> import jax, jax.numpy as jnp
    >>> made((2, 2), 3, hidden=(16,), key=jax.random.key(0)).log_prob(jnp.zeros((5, 2, 2), int)).shape
    (5,)
    """
    event_shape = as_shape(event_shape)
    dim = math.prod(event_shape)
    head = integer_head(levels)
    masked = MADE(dim, head.num_params, hidden=hidden, context_dim=context_dim, direct=direct, dropout=dropout, key=key)
    if orders is not None:
        if order is not None or context_dim:
            raise ValueError("orders: expected neither order nor context_dim beside them")
        return OrderEnsemble(masked, levels, head, event_shape, orders=orders)
    return model_of(Pixels(masked, levels, (dim,)), head, event_shape, order=order, context_dim=context_dim)
