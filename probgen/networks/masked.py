"""Masked dense networks: an output sees only the inputs that it may depend on."""

import copy
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.core import Dependence, check_sizes
from probgen.networks.dropout import Dropout, refuse_dropout
from probgen.networks.masked_steps import MaskedSteps
from probgen.networks.mlp import Linear, check_hidden, dense_layers, spread

BLOCK = 256  # rows of a masked matrix that are multiplied at once, by the columns that any sees; less does not pay


class Units(NamedTuple):
    """The variables to which each layer's units belong, sorted by level, and the layers' masks.

    A hidden unit may see the parents of its variable; the inputs and outputs are the variables themselves. `direct`
    is the mask from the inputs to the outputs.
    """

    variables: tuple[tuple[int, ...], ...]
    masks: tuple[np.ndarray, ...]
    direct: np.ndarray


class MADE(eqx.Module):
    """A masked MLP, x [D] (and a context) → [D, num_params], whose row d depends only on the x that d may depend on.

    A hidden unit may see the parents of one variable, and what sees no more than that: W_ij is masked unless the
    inputs that unit j sees are among those that unit i may see. The units are sorted by level, so that the masks are
    block-triangular and the blocks of zeros are never multiplied. Masks are made at trace time from static facts: one
    that is an array among the leaves could be trained.

    Args:
        dim: D.
        num_params: how many raw numbers an output has.
        hidden: widths of the hidden layers.
        order: a permutation of 0..D−1, the first to be generated first (0..D−1 by default), or any `Dependence`:
            groups, a graph.
        context_dim: the size of a context, if it takes one; every unit of the first layer sees it.
        direct: whether there are weights from the inputs to the outputs too, for few units see the inputs just before
            an output.
        activation: of the hidden layers.
        dropout: the rate after each hidden layer, in training.
        out_scale: of the last weights.
        key: draws the first weights.

    Raises ValueError where `order` is no permutation, or a layer has fewer units than there are sets of parents in a
    graph.

    References: MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray, Larochelle 2015),
    arXiv:1502.03509; for graphs: Graphical Normalizing Flows (Wehenkel, Louppe 2021), arXiv:2006.02548.

    >>> import jax, jax.numpy as jnp
    >>> net = MADE(3, 2, hidden=(8,), key=jax.random.key(0))
    >>> net(jnp.ones(3)).shape
    (3, 2)
    """

    layers: tuple[Linear, ...]
    context: Linear | None
    direct: Array | None
    dropout: Dropout
    dependence: Dependence = eqx.field(static=True)
    num_params: int = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        num_params: int,
        *,
        hidden: Sequence[int] = (256, 256),
        order: Sequence[int] | Dependence | None = None,
        context_dim: int | None = None,
        direct: bool = False,
        activation: Callable[[Array], Array] = jax.nn.silu,
        dropout: float = 0.0,
        out_scale: float = 0.1,
        key: Array,
    ):
        check_hidden(hidden, activation)
        check_sizes(dim=dim, num_params=num_params)
        check_sizes(0, context_dim=context_dim or 0)
        if not isinstance(order, Dependence):
            order = Dependence.in_order(range(dim) if order is None else order)
        if order.dim != dim:
            raise ValueError(f"order: expected {dim} variables, got {order.dim}")
        layers_key, context_key, direct_key = jax.random.split(key, 3)
        sizes = dim, *hidden, num_params * dim
        self.layers = dense_layers(sizes, out_scale=out_scale, key=layers_key)
        self.context = spread(context_dim, sizes[1], key=context_key) if context_dim else None
        self.direct = Linear(dim, num_params * dim, scale=out_scale, key=direct_key).weight if direct else None
        self.dependence, self.num_params = order, int(num_params)
        self.dropout, self.activation = Dropout(dropout), activation
        self.units  # noqa: B018 (or the widths are refused)

    def in_order(self, order: Sequence[int] | Dependence) -> "MADE":
        """Return the same weights with the masks of another order."""
        new = copy.copy(self)
        object.__setattr__(new, "dependence", order if isinstance(order, Dependence) else Dependence.in_order(order))
        new.units  # noqa: B018 (or the order is refused)
        return new

    @property
    def units(self) -> Units:
        """The variables to which units belong, and the masks that say who sees what."""
        hidden = tuple(layer.bias.shape[-1] for layer in self.layers[:-1])
        return _units(self.dependence, hidden, self.num_params, self.context is not None)

    def sequential(self) -> MaskedSteps:
        """Return the network as steps, group by group, each unit computed once: what an inverse or a draw asks for."""
        refuse_dropout(self.dropout)
        levels = [self.dependence.levels[list(units)] for units in self.units.variables]
        layers = list(zip(self.layers, self.units.masks, strict=True))
        direct = None if self.direct is None else (self.direct, self.units.direct)
        return MaskedSteps.arrange(layers, levels, self.context, direct, self.activation, self.num_params)

    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Apply the network to a vector, and to a context where it was built with `context_dim`."""
        x, last = _reordered(x, self.dependence.order), len(self.layers) - 1
        straight = 0.0 if self.direct is None else _product(self.direct, self.units.direct, x)
        for i, (layer, mask) in enumerate(zip(self.layers, self.units.masks, strict=True)):
            x = _product(layer.weight, mask, x) + layer.bias
            if i == 0 and self.context is not None and context is not None:
                x = x + self.context(context)
            x = x if i == last else self.dropout(self.activation(x))
        return _reordered((x + straight).reshape(-1, self.num_params), np.argsort(self.dependence.order))


def _reordered(x: Array, order: Sequence[int] | np.ndarray) -> Array:
    order = np.asarray(order)
    return x if (order == np.arange(len(order))).all() else x[order]


def _product(weight: Array, mask: np.ndarray, x: Array) -> Array:
    """Return (W ⊙ M) x, block by block of rows, without the columns that no row of a block sees."""
    rows, products = len(mask), []
    ends = np.linspace(0, rows, max(1, min(4, rows // BLOCK)) + 1).astype(int)
    for start, end in itertools.pairwise(ends):
        block = mask[start:end]
        seen = int(np.flatnonzero(block.any(0))[-1]) + 1 if block.any() else 0
        products.append(x[:seen] @ jnp.where(block[:, :seen], weight[start:end, :seen], 0.0).T)
    return products[0] if len(products) == 1 else jnp.concatenate(products)


@functools.lru_cache(maxsize=256)
def _units(dependence: Dependence, hidden: tuple[int, ...], num_params: int, has_context: bool) -> Units:
    matrix, order = dependence.matrix, list(dependence.order)
    outputs = [variable for variable in order for _ in range(num_params)]
    owners = tuple(_owners(matrix[order], order, size, has_context, dependence.parents is None) for size in hidden)
    sees = [np.eye(dependence.dim, dtype=bool)[order], *(matrix[list(layer)] for layer in owners), matrix[outputs]]
    masks = [sees[1][:, order]]
    for before, after in itertools.pairwise(sees[1:]):
        missing = before.astype(np.float32) @ (~after).T.astype(np.float32)  # how much of `before` it must not see
        masks.append(missing.T == 0)
    return Units((tuple(order), *owners, tuple(outputs)), tuple(masks), sees[-1][:, order])


def _owners(sorted_rows: np.ndarray, order: list[int], size: int, has_context: bool, nested: bool) -> tuple[int, ...]:
    """Return one variable for each set of parents, in order of level, spread over the units of a layer."""
    first: dict[bytes, int] = {}
    for row, variable in zip(sorted_rows, order, strict=True):
        if row.any() or has_context:
            first.setdefault(row.tobytes(), variable)
    candidates = list(first.values()) or order[:1]
    if size < len(candidates) and not nested:
        raise ValueError(f"hidden: expected at least {len(candidates)} units, one a set of parents, got {size}")
    if size < len(candidates):
        return tuple(candidates[i] for i in np.linspace(0, len(candidates) - 1, size).round().astype(int))
    return tuple(candidates[i * len(candidates) // size] for i in range(size))
