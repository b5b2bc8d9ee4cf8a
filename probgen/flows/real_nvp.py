"""RealNVP, for vectors and for discrete images."""

from collections.abc import Sequence
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from probgen.bijectors import Affine, AffineTransformer, Chain, Coupling, Permute, Reshape, Reverse, Sigmoid, Stacked
from probgen.core import Contextual, recipe
from probgen.distributions import ConditionalModel, Dequantized, Transformed
from probgen.networks import MLP


@recipe
def real_nvp(
    dim: int,
    *,
    layers: int = 8,
    hidden: Sequence[int] = (256, 256),
    dropout: float = 0.0,
    permute: bool = False,
    unroll: int = 4,
    context_dim: int | None = None,
    key: Array,
) -> Transformed | ConditionalModel:
    """Affine couplings with the order reversed (or, with `permute`, shuffled) between them; a standard normal base.

        x = a ⊙ (f₁ ∘ … ∘ f_L)(z) + b,   f_l = coupling ∘ permutation,   z ~ Normal(0, I)

    Args: `dim` D ≥ 2; `layers` L, run as one scan that unrolls `unroll` of them at a time (compilation grows with that
    number and not with L); `hidden` widths of the conditioners, and their `dropout`; with
    `context_dim` a `ConditionalModel`. Raises ValueError where D < 2 (there is nothing to couple).

    References: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio 2017), arXiv:1605.08803.

    >>> import jax, jax.numpy as jnp
    >>> flow = real_nvp(2, layers=4, hidden=(16,), key=jax.random.key(0))
    >>> flow.log_prob(jnp.zeros((5, 2))).shape
    (5,)
    """
    if dim < 2:
        raise ValueError(f"dim: a coupling needs at least 2, got {dim}")
    split, transformer = dim // 2, AffineTransformer()

    def layer(key: Array) -> Chain:
        net_key, order_key = jax.random.split(key)
        out = (dim - split) * transformer.num_params
        net = MLP(
            split, out, hidden=hidden, activation=jax.nn.relu, dropout=dropout, context_dim=context_dim, key=net_key
        )
        order = Permute(jax.random.permutation(order_key, dim)) if permute else Reverse()
        return Chain([Coupling(Contextual(net) if context_dim else net, transformer, split=split), order])

    couplings = Stacked(jax.vmap(layer)(jax.random.split(key, layers)), unroll)
    bijector = Chain([Affine(jnp.zeros(dim), jnp.zeros(dim)), couplings])
    flow = Transformed(dist.Normal(jnp.zeros(dim), 1.0).to_event(1), bijector)
    return ConditionalModel(flow, (context_dim,)) if context_dim else flow


@recipe
def discrete_real_nvp(
    event_shape: tuple[int, ...],
    levels: int,
    *,
    layers: int = 8,
    hidden: Sequence[int] = (256, 256),
    dropout: float = 0.0,
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
    dim = int(jnp.zeros(event_shape).size)
    flow: Any = real_nvp(dim, layers=layers, hidden=hidden, dropout=dropout, permute=permute, key=key)
    scale = distrax.ScalarAffine(shift=0.0, scale=float(levels))
    to_levels = Chain([Reshape((dim,), tuple(event_shape)), scale, Sigmoid(), flow.bijector])
    return Dequantized(Transformed(flow.base, to_levels), levels)
