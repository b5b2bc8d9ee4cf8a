"""A method is written for one element; here it becomes that of many rows, contexts, and axes that `vmap` added."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp

from probgen.core import map_batch, split_key
from probgen.distributions.supports import check_within

# "key": one key, of which each element gets its own; "keys": those already; "event"; or an element's number of axes
Rank = str | int
F = TypeVar("F", bound=Callable[..., Any])


def map_elements(
    function: Callable[..., Any],
    owner: Any,
    axes: tuple[int, ...],
    args: tuple[Any, ...],
    ranks: tuple[Rank, ...],
    *,
    event_ndims: int,
    batch_ndims: int = 0,
    keys_ndims: int = 0,
) -> Any:
    """Return `function(owner, *args)` for each element of the owner's first `axes` and of the rows of the arguments.

    Args:
        function: of one element of the owner and of one element's arguments.
        owner: a pytree, whose leaves have `axes` in front.
        axes: the shape of those axes.
        args: the arguments.
        ranks: what each argument is, as in `lifted`.
        event_ndims: the rank of an event.
        batch_ndims: the axes of an element's own batch.
        keys_ndims: the axes of an element's own keys.
    """
    special = {"key": 0, "keys": keys_ndims, "event": batch_ndims + event_ndims}
    ndims = tuple(special[r] if isinstance(r, str) else batch_ndims + r for r in ranks)
    full = [x if r == "key" else jnp.asarray(x) for x, r in zip(args, ranks, strict=True)]
    leads = [x.shape[: x.ndim - n] for x, n, r in zip(full, ndims, ranks, strict=True) if r != "key"]
    lead = common_lead(axes, *leads)
    full = [split_key(x, lead) if r == "key" else x for x, r in zip(full, ranks, strict=True)]
    return map_batch(function, owner, axes, tuple(full), ndims)


def common_lead(axes: tuple[int, ...], *leads: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes over which rows and a distribution's own batch are mapped together.

    Args:
        axes: the distribution's own, such as those of contexts.
        leads: of each argument, what stands before its event.

    Raises ValueError where they do not broadcast.
    """
    try:
        return jnp.broadcast_shapes(axes, *leads)
    except ValueError:
        expected = f"rows that go with batch shape {axes} (one for each context)" if axes else "rows that go together"
        raise ValueError(f"expected {expected}, got {', '.join(map(str, leads))}") from None


def check_event(name: str, shape: tuple[int, ...], event: tuple[int, ...]) -> None:
    """Raise ValueError where the shape of some rows does not end in an event's.

    Args:
        name: of the argument.
        shape: of the rows.
        event: of one event.
    """
    if shape[len(shape) - len(event) :] != event:
        raise ValueError(f"{name}: expected events of shape [{', '.join(('...', *map(str, event)))}], got {shape}")


def verb(method: F) -> F:
    """Mark a method that is written in terms of other verbs: a conditional model has it, at its context, too.

    Args:
        method: the method to mark; it is returned.
    """
    method.is_verb = True  # type: ignore[attr-defined]
    return method


def lifted(*ranks: Rank, within: bool = False) -> Callable[[F], F]:
    """Mark a method as written for ONE element, of one context; callers may give it rows, batches and many contexts.

    Keyword arguments are the same for all. The method returns arrays.

    Args:
        ranks: of its positional arguments: "key" (one key, of which each element gets its own), "keys" (one for each
            already), "event", or the number of axes of one element's array.
        within: whether events that are known to lie outside of the support are refused by ValueError.

    >>> import jax, jax.numpy as jnp, probgen
    >>> class Two(probgen.distributions.Model):
    ...     @lifted("event")
    ...     def norm(self, x):
    ...         return jnp.sqrt(jnp.sum(x**2))
    >>> Two((2,)).norm(jnp.ones((5, 4, 2))).shape
    (5, 4)
    """

    def mark(method: F) -> F:
        @functools.wraps(method)
        def of_many(self: Any, *args: Any, **static: Any) -> Any:
            one = lambda model, *args: method(model, *args, **static)
            for x in (x for x, rank in zip(args, ranks, strict=False) if rank == "event"):
                check_event("value", jnp.shape(x), self.event_shape)
                if within:
                    check_within("value", jnp.asarray(x), self._first())

            def rows(model: Any, *args: Any) -> Any:
                batch, event = len(model._batch_shape), model.event_dim
                here = lambda _, *args: one(model, *args)
                return map_elements(here, None, (), args, ranks, event_ndims=event, batch_ndims=batch)

            return self._each(rows, *args, ranks=ranks)

        return verb(of_many)  # type: ignore[return-value]

    return mark
