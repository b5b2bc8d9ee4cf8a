"""Any flow as a model of integers."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import distrax
from jax import Array
from numpyro.distributions import Distribution as NumpyroDistribution

from probgen.bijectors import Chain, Reshape, Sigmoid
from probgen.core import as_shape, check_sizes, recipe
from probgen.distributions import ConditionalModel, Dequantized, Transformed

Flow = TypeVar("Flow", Transformed, ConditionalModel)


@recipe
def on_levels(
    flow: Flow, shape: Sequence[int], levels: int, *, noise: Callable[[Array], NumpyroDistribution] | None = None
) -> Dequantized | ConditionalModel:
    """A flow as a model of integers 0..levels−1: a sigmoid maps it into [0, levels), and draws are cut.

        x = ⌊levels · sigmoid(y)⌋,   y ~ flow

    Args:
        flow: over vectors ℝᴰ, or a conditional of one.
        shape: of one event, of D numbers in all, such as (28, 28).
        levels: how many integers, at least 2.
        noise: q(u | x), by which events are dequantized; uniform by default (`distributions.Dequantized`).

    Raises ValueError where the sizes do not fit.

    References: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio 2017), arXiv:1605.08803, section 4.1.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.flows import real_nvp
    >>> model = on_levels(real_nvp(16, layers=2, hidden=(8,), key=jax.random.key(0)), (4, 4), 17)
    >>> model.log_prob_bound(jax.random.key(1), jnp.zeros((3, 4, 4), int)).shape
    (3,)
    """
    if isinstance(flow, ConditionalModel):
        inner = on_levels(flow.model, shape, levels, noise=noise)
        return cast(ConditionalModel, dataclasses.replace(flow, model=inner, recipe=None))
    check_sizes(2, levels=levels)
    shape = as_shape(shape, fewest=0)
    if flow.event_shape not in ((math.prod(shape),), shape):
        expected = f"vectors of {math.prod(shape)} numbers or events of shape {shape}"
        raise ValueError(f"flow: expected {expected}, got event shape {flow.event_shape}")
    scale: Any = distrax.ScalarAffine(shift=0.0, scale=float(levels))
    return Dequantized(
        Transformed(flow, Chain([Reshape(flow.event_shape, shape), scale, Sigmoid()])), levels, noise=noise
    )
