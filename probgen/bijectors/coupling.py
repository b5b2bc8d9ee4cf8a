"""Coupling: a part of the event transforms the rest."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.bijectors.base import Bijector, apply
from probgen.bijectors.transformers import ShiftTransformer, Transformer
from probgen.core import check_instances, check_sizes, static_functions


class Coupling(Bijector):
    """y_A = x_A,  y_B = τ(x_B; h(x_A)): triangular, so its determinant is the product of τ's slopes.

        log|det| = Σ_{i∈B} log ∂τ/∂x_i

    Args: `conditioner` h: any callable pytree, [|A|] → [|B| · num_params] in row-major order; `transformer` τ: raw
    [|B|, num_params] → elementwise bijector; A is the first `split` coordinates, or those where `mask` is True.
    Raises ValueError where not exactly one of `split` and `mask` is given, where A or B is empty, or where the
    conditioner's output has another size.

    References: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio 2017), arXiv:1605.08803.

    >>> import jax, jax.numpy as jnp
    >>> from probgen.bijectors import AffineTransformer
    >>> from probgen.networks import MLP
    >>> flow = Coupling(MLP(2, 4, hidden=(8,), key=jax.random.key(0)), AffineTransformer(), split=2)
    >>> y, log_det = flow.forward_and_log_det(jnp.ones((5, 4)))
    >>> y.shape, log_det.shape
    ((5, 4), (5,))
    """

    conditioner: Callable[[Array], Array] = eqx.field(converter=static_functions)
    transformer: Transformer
    split: int | None = eqx.field(static=True)
    mask: tuple[bool, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        conditioner: Callable[[Array], Array],
        transformer: Transformer,
        *,
        split: int | None = None,
        mask: tuple[bool, ...] | None = None,
    ):
        check_instances(conditioner=conditioner, transformer=transformer)
        if (split is None) == (mask is None):
            raise ValueError(f"expected split or mask, got split={split}, mask={mask}")
        if split is not None:
            check_sizes(split=split)
        if mask is not None and len(set(map(bool, mask))) != 2:
            raise ValueError(f"mask: expected some True and some False, got {mask}")
        self.conditioner, self.transformer = conditioner, transformer
        self.split = None if split is None else int(split)
        self.mask = None if mask is None else tuple(bool(m) for m in mask)

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return None if self.mask is None else (len(self.mask),)

    @property
    def is_constant_log_det(self) -> bool:
        return isinstance(self.transformer, ShiftTransformer)

    def _parts(self, x: Array) -> tuple[Array, Array]:
        if self.mask is None:
            if self.split is None or x.shape[0] <= self.split:
                raise ValueError(f"split={self.split} leaves nothing to transform in events of shape {x.shape}")
            return x[: self.split], x[self.split :]
        mask = np.array(self.mask)
        return x[np.flatnonzero(mask)], x[np.flatnonzero(~mask)]

    def _join(self, fixed: Array, moved: Array) -> Array:
        both = jnp.concatenate([fixed, moved])
        if self.mask is None:
            return both
        mask = np.array(self.mask)
        return both[np.argsort(np.concatenate([np.flatnonzero(mask), np.flatnonzero(~mask)]))]

    def _both(self, x: Array, *, inverse: bool) -> tuple[Array, Array]:
        fixed, moved = self._parts(x)
        raw, num_params = self.conditioner(fixed), self.transformer.num_params
        if raw.size != moved.size * num_params:
            raise ValueError(
                f"conditioner: expected {num_params} numbers for each of {moved.size} coordinates, got {raw.shape}"
            )
        tau = self.transformer(raw.reshape(moved.size, num_params))
        moved, log_det = apply(tau, moved, inverse=inverse)
        return self._join(fixed, moved), log_det

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self._both(x, inverse=False)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self._both(y, inverse=True)
