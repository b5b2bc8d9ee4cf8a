"""Coupling: a part of the event transforms the rest."""

import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from probgen.bijectors.base import Bijector, apply
from probgen.bijectors.transformers import ShiftTransformer, Transformer
from probgen.core import check_instances, check_sizes, static_functions


class Coupling(Bijector):
    """y_A = x_A,  y_B = τ(x_B; h(x_A)): triangular, so its determinant is the product of τ's slopes.

        log|det| = Σ_{i∈B} log ∂τ/∂x_i

    An image [H, W, C] stays one. Split by channels, h takes [H, W, |A|] and gives [H, W, |B| · num_params]; with a mask
    (a checkerboard, say), h takes the image with B set to 0 and gives [H, W, C · num_params], of which B's are used.

    Args:
        conditioner: h, any callable pytree; of vectors [|A|] → [|B| · num_params], place by place.
        transformer: τ, raw numbers [|B|, num_params] → an elementwise bijector.
        split: A is the first so many of the last axis.
        mask: A is where it is True; of the event's shape.
        event_ndims: rank of an event, 1 by default, or that of `mask`.

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
    mask: tuple[bool, ...] | None = eqx.field(static=True)  # in row-major order
    shape: tuple[int, ...] | None = eqx.field(static=True)
    ndims: int = eqx.field(static=True)

    def __init__(
        self,
        conditioner: Callable[[Array], Array],
        transformer: Transformer,
        *,
        split: int | None = None,
        mask: ArrayLike | None = None,
        event_ndims: int | None = None,
    ):
        check_instances(conditioner=conditioner, transformer=transformer)
        if (split is None) == (mask is None):
            raise ValueError(f"expected split or mask, got split={split}, mask={mask}")
        if split is not None:
            check_sizes(split=split)
        known = None if mask is None else np.asarray(mask)
        if known is not None and known.dtype != bool:
            raise ValueError(f"mask: expected booleans, got dtype {known.dtype}")
        if known is not None and len(set(known.ravel().tolist())) != 2:
            raise ValueError(f"mask: expected some True and some False, got {known.sum()} True of {known.size}")
        ndims = (1 if known is None else known.ndim) if event_ndims is None else event_ndims
        check_sizes(event_ndims=ndims)
        if known is not None and ndims != known.ndim:
            raise ValueError(f"event_ndims: expected {known.ndim}, the rank of the mask, got {event_ndims}")
        self.conditioner, self.transformer, self.ndims = conditioner, transformer, int(ndims)
        self.split = None if split is None else int(split)
        self.mask, self.shape = (None, None) if known is None else (tuple(known.ravel().tolist()), known.shape)

    @property
    def event_ndims_in(self) -> int:
        return self.ndims

    @property
    def event_shape(self) -> tuple[int, ...] | None:
        return self.shape

    @property
    def is_constant_log_det(self) -> bool:
        return isinstance(self.transformer, ShiftTransformer)

    def _kept(self) -> np.ndarray:
        return np.array(self.mask).reshape(self.shape or ())

    def _parts(self, x: Array) -> tuple[Array, Array]:
        """Return (what h sees, x_B)."""
        if self.mask is None:
            if self.split is None or x.shape[-1] <= self.split:
                raise ValueError(f"split={self.split} leaves nothing to transform in events of shape {x.shape}")
            return x[..., : self.split], x[..., self.split :]
        kept = self._kept()
        return x[kept] if x.ndim == 1 else jnp.where(kept, x, 0.0), x[~kept]

    def _join(self, x: Array, moved: Array) -> Array:
        """Return x with other numbers at B."""
        if self.mask is None:
            return jnp.concatenate([x[..., : self.split], moved], -1)
        return x.at[~self._kept()].set(moved)

    def _both(self, x: Array, *, inverse: bool) -> tuple[Array, Array]:
        seen, moved = self._parts(x)
        raw, num_params = self.conditioner(seen), self.transformer.num_params
        whole = seen.size == x.size  # an image with holes: h speaks of all places
        places = x.shape if whole else moved.shape
        side_by_side = (*places[:-1], places[-1] * num_params)
        if raw.shape not in ((math.prod(side_by_side),), side_by_side, (*places, num_params)):
            raise ValueError(
                f"conditioner: expected {num_params} numbers for each of {math.prod(places)} coordinates, "
                f"{list(side_by_side)}, got {list(raw.shape)}"
            )
        raw = raw.reshape(*places, num_params)
        tau = self.transformer(raw[~self._kept()] if whole else raw)
        moved, log_det = apply(tau, moved, inverse=inverse)
        return self._join(x, moved), log_det

    def forward_event(self, x: Array) -> tuple[Array, Array]:
        return self._both(x, inverse=False)

    def inverse_event(self, y: Array) -> tuple[Array, Array]:
        return self._both(y, inverse=True)
