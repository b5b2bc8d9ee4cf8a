"""A numpyro distribution as a pytree: fields sorted and named, and batch axes that `vmap` and stacking add to."""

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.batch_util import promote_batch_shape

from probgen.core import Recipe, static_functions
from probgen.distributions.lifting import Rank, map_elements
from probgen.distributions.plain import hold, release
from probgen.distributions.wrapped import Wrapping

Family = tuple[Any, tuple[int, ...], Callable[[Any], "PytreeDistribution"]]


class PytreeDistribution(Wrapping):
    """What `Distribution` is beside its densities: a pytree, and a family of distributions over added axes."""

    learnable_fields: ClassVar[tuple[str, ...]] = ()
    state_fields: ClassVar[tuple[str, ...]] = ()
    pytree_data_fields: tuple[str, ...] = ()
    pytree_aux_fields: tuple[str, ...] = ("recipe", "_leaf_ndim")
    recipe: Recipe | None = None
    _leaf_ndim: int | None = None

    def __init__(
        self,
        batch_shape: tuple[int, ...] = (),
        event_shape: tuple[int, ...] = (),
        *,
        validate_args: bool | None = None,
    ):
        for name in type(self).gather_pytree_data_fields():
            if (value := self.__dict__.get(name)) is not None:
                self.__dict__[name] = static_functions(value)
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    # -- the pytree: fields sorted (numpyro's order is a set's) and named

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super(dist.Distribution, cls).__init_subclass__(**kwargs)  # numpyro's would register it without names
        jtu.register_pytree_with_keys(cls, _flatten_with_names, cls.tree_unflatten, lambda d: d.tree_flatten())  # type: ignore[arg-type]

    @classmethod
    def gather_pytree_data_fields(cls) -> tuple[str, ...]:
        """Return the names of the fields with arrays, sorted."""
        return tuple(sorted(super().gather_pytree_data_fields()))

    @classmethod
    def gather_pytree_aux_fields(cls) -> tuple[str, ...]:
        """Return the names of the static fields, sorted."""
        return tuple(sorted(super().gather_pytree_aux_fields()))

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return children and static facts, as `jax.tree_util` asks."""
        if self._leaf_ndim is None:  # before the first transformation: the rank that tells added axes apart
            self._leaf_ndim = _first_ndim(self)
        data, aux = super().tree_flatten()
        return tuple(hold(value) for value in data), aux

    @classmethod
    def tree_unflatten(cls, aux_data: tuple[Any, ...], params: tuple[Any, ...]) -> Self:
        """Return the distribution again, from what `tree_flatten` returned."""
        return super().tree_unflatten(aux_data, tuple(release(value) for value in params))  # type: ignore[return-value]

    def replace(self, **fields: Any) -> Self:
        """Return the same distribution with other values of some fields. Raises ValueError where the class refuses
        them."""
        known = (*self.gather_pytree_data_fields(), *self.gather_pytree_aux_fields())
        if unknown := [name for name in fields if name not in known]:
            of = ", ".join(name for name in known if not name.startswith("_"))
            raise ValueError(f"{unknown[0]}: a {type(self).__name__} has no such field; it has {of}")
        new, added = copy.copy(self), len(self._added_shape)
        for name, value in fields.items():
            setattr(new, name, value)
        if self._leaf_ndim is not None and (ndim := _first_ndim(new)) is not None:
            new._leaf_ndim = ndim - added  # what was replaced may be where the rank is read
        new._check_fields()
        return new

    def _check_fields(self) -> None:
        """Raise ValueError where fields do not go together: a constructor's own check, for `replace` too."""

    # -- shapes

    @property
    def _added_shape(self) -> tuple[int, ...]:
        """The axes that `vmap` or stacking put in front of every leaf."""
        if self._leaf_ndim is None:
            return ()
        shape = jnp.shape(next(iter(_own_leaves(self))))
        return tuple(shape[: max(0, len(shape) - self._leaf_ndim)])

    @property
    def _axes(self) -> tuple[int, ...]:
        """The axes over which this is a family of distributions, each with a draw of its own."""
        return self._added_shape

    def _family(self) -> Family | None:
        """Return of what this is a family: (what has the axes, the axes, a function to the distribution of one
        element); None for a single distribution."""
        added = self._added_shape
        return (self, added, lambda d: d) if added else None

    def _each(self, function: Callable[..., Any], *args: Any, ranks: tuple[Rank, ...] = ()) -> Any:
        """Return `function(d, *args)` for each distribution d of the family, with its part of the arguments
        (`lifted`)."""
        family = self._family()
        if family is None:
            return function(self, *args)
        owner, axes, at = family
        one = lambda element, *args: at(element)._each(function, *args, ranks=ranks)
        if not axes:
            return one(owner, *args)
        return map_elements(
            one, owner, axes, args, ranks, event_ndims=self.event_dim,
            batch_ndims=len(self.batch_shape) - len(axes), keys_ndims=len(self._axes) - len(axes),
        )  # fmt: skip

    def _varies(self, part: Any) -> bool:
        """Return whether a part of the model differs from context to context."""
        return False

    def _at_rows(self, part: Callable[..., Any], *args: Array) -> Any:
        """Return `part(model, *args)`, a distribution, at rows of the arguments, each at its own context if there are
        any."""
        return part(self, *args)

    def _first(self) -> Self:
        """Return the first distribution along the added axes."""
        first = (0,) * len(self._added_shape)
        return jax.tree.map(lambda leaf: leaf[first], self) if first else self

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The axes over which the distribution's parameters are batched."""
        return self._added_shape + self._batch_shape


@promote_batch_shape.register
def _(d: PytreeDistribution) -> dist.Distribution:
    return d  # its batch shape has the new axes already


def _own_leaves(d: PytreeDistribution) -> list[Any]:
    fields = (hold(d.__dict__.get(name)) for name in type(d).gather_pytree_data_fields())
    return jax.tree.leaves(tuple(fields))


def _first_ndim(d: PytreeDistribution) -> int | None:
    first = next(iter(_own_leaves(d)), None)
    return None if first is None else np.ndim(first)


def _flatten_with_names(d: PytreeDistribution) -> tuple[Any, Any]:
    children, aux = d.tree_flatten()
    names = type(d).gather_pytree_data_fields()
    return tuple((jtu.GetAttrKey(name), child) for name, child in zip(names, children, strict=True)), aux
