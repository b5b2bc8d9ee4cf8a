"""How a distribution is coded: what a codec goes through to write a value, and to read it again.

A distribution that can be coded has two methods, inverse to each other, for all lanes of a message at once:

    push(message, x): write x [lanes, *event_shape];      pop(message) -> x: read it, newest first

Numbers that are independent are written by the message itself (`Table`, `Open`, `Normals`); a product of conditionals
goes through its steps; a model with latent variables reads its latents before it writes (bits-back). Messages are
stacks: what is written last is read first, so that `push` goes through a model from its end to its beginning.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from probgen.distributions.enumeration import levels
from probgen.distributions.wrapped import elementwise, family, is_masked, kind_of, unmasked

_BITS_OF_A_REAL = 10
_LARGEST_TABLE = 1 << 16
_FIRST, _NUMBERS = 1 << 14, 1 << 16  # of a distribution without end: the largest table, and numbers in those of a lane
_ROUNDING = 1e-5  # of a table's sum, in single precision
_TAIL = 2.0**-20  # of a distribution without end, what its table leaves to the escape


class Message(Protocol):
    """A stack of what was written, by `lanes` events side by side (`probgen.compression.Message`)."""

    lanes: int
    active: np.ndarray  # which lanes are in use, [lanes]
    width: float  # of the grid
    replays: bool  # whether what is written runs the reader's own program: no other gives the same last digits

    def only(self, mask: np.ndarray) -> Self:
        """Return the same message, with those lanes in use, [lanes], of the ones that are."""
        ...

    def on_grid(self, width: float) -> Self:
        """Return the same message, its latents on another grid, of steps of this width, a power of two."""
        ...

    def stir(self, bits: int) -> None:
        """Make the bits on top chance, before a posterior takes about so many for each lane; once more undoes it."""
        ...

    def push_symbols(self, symbols: np.ndarray, log_p: ArrayLike) -> None:
        """Write symbols [lanes, ...] of 0..n−1 by log-probabilities [lanes, ..., n]."""
        ...

    def pop_symbols(self, log_p: ArrayLike) -> np.ndarray:
        """Read symbols; 0 in lanes that are not in use."""
        ...

    def push_numbers(self, numbers: np.ndarray, where: np.ndarray) -> None:
        """Write integers of at least 0, of which little is known, [lanes, ...] where that is True."""
        ...

    def pop_numbers(self, where: np.ndarray) -> np.ndarray:
        """Read such integers; 0 elsewhere."""
        ...

    def push_normals(self, z: np.ndarray, loc: ArrayLike, scale: ArrayLike) -> None:
        """Write reals [lanes, ...] of the message's grid by normal distributions."""
        ...

    def pop_normals(self, loc: ArrayLike, scale: ArrayLike) -> np.ndarray:
        """Read reals of the grid; 0 in lanes that are not in use."""
        ...


class Table(eqx.Module):
    """Independent integers low..low+n−1, by a table of log-probabilities [lanes, ..., n]."""

    log_p: Array
    low: int = eqx.field(static=True)

    def push(self, message: Message, x: np.ndarray) -> None:
        """Write integers [lanes, ...]."""
        message.push_symbols(np.asarray(x) - self.low, self.log_p)

    def pop(self, message: Message) -> np.ndarray:
        """Read integers [lanes, ...]."""
        return message.pop_symbols(self.log_p) + self.low


class Open(eqx.Module):
    """Independent integers from `low` on without end: a table of the first of them, whose last entry is an escape."""

    log_p: Array
    low: int = eqx.field(static=True)

    def push(self, message: Message, x: np.ndarray) -> None:
        """Write integers [lanes, ...]."""
        size, index = self._size(message), np.asarray(x).astype(np.int64) - self.low
        message.push_numbers(np.maximum(index - size, 0), index >= size)
        message.push_symbols(np.minimum(index, size), self._table(size))

    def pop(self, message: Message) -> np.ndarray:
        """Read integers [lanes, ...]."""
        size = self._size(message)
        index = message.pop_symbols(self._table(size)).astype(np.int64)
        return (np.where(index < size, index, size + message.pop_numbers(index == size)) + self.low).astype(np.int32)

    def _size(self, message: Message) -> int:
        """Return how many integers the table has: as few as leave next to nothing to the escape."""
        p = np.exp(np.asarray(self.log_p, np.float64)[message.active].reshape(-1, self.log_p.shape[-1]))
        below, all_of_them = p.cumsum(-1), p.sum(-1, keepdims=True)
        missing = all_of_them - below + np.maximum(1.0 - all_of_them - _ROUNDING, 0.0)
        enough = np.flatnonzero(missing.max(0, initial=0.0) < _TAIL)
        return int(enough[0]) + 1 if len(enough) else self.log_p.shape[-1]

    def _table(self, size: int) -> np.ndarray:
        log_p = np.asarray(self.log_p[..., :size], np.float64)
        rest = np.maximum(1.0 - np.exp(log_p).sum(-1, keepdims=True), 2.0**-24)
        return np.concatenate([log_p, np.log(rest)], -1)


class Normals(eqx.Module):
    """Independent normal numbers, which are coded on the message's grid."""

    loc: Array
    scale: Array

    def push(self, message: Message, x: np.ndarray) -> None:
        """Write numbers of the grid, [lanes, ...]."""
        message.push_normals(x, self.loc, self.scale)

    def pop(self, message: Message) -> np.ndarray:
        """Read numbers of the grid, [lanes, ...]."""
        return message.pop_normals(self.loc, self.scale)


class Correlated(eqx.Module):
    """Normal vectors, one number after another, each given those before it."""

    loc: Array  # [lanes, D]
    scale_tril: Array  # [lanes, D, D]

    def push(self, message: Message, x: np.ndarray) -> None:
        """Write vectors of the grid, [lanes, D]."""
        noise, parts = np.zeros(np.shape(x)), []
        for i in range(self.loc.shape[1]):
            parts.append(self._given(noise, i))
            noise[:, i] = _standardized(x[:, i], parts[i])
        for i in reversed(range(len(parts))):
            parts[i].push(message, x[:, i])

    def pop(self, message: Message) -> np.ndarray:
        """Read vectors of the grid, [lanes, D]."""
        noise = np.zeros(self.loc.shape)
        x = np.zeros_like(noise)
        for i in range(noise.shape[1]):
            here = self._given(noise, i)
            x[:, i] = here.pop(message)
            noise[:, i] = _standardized(x[:, i], here)
        return x

    def _given(self, noise: np.ndarray, i: int) -> Normals:
        loc, tril = (np.asarray(a, np.float64) for a in (self.loc[:, i], self.scale_tril[:, i]))
        with np.errstate(invalid="ignore"):  # lanes that are not in use may hold anything
            return Normals(loc + (tril[:, :i] * noise[:, :i]).sum(-1), tril[:, i])  # type: ignore[arg-type]


def _standardized(x: np.ndarray, normal: Normals) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x - np.asarray(normal.loc)) / np.asarray(normal.scale)


class Mixed(eqx.Module):
    """A mixture of products of normals: which component it is, is read by its posterior, and written by its weight, so
    that an event costs −log₂ of the whole mixture (bits-back, with the exact posterior)."""

    log_weights: Array  # [lanes, K]
    loc: Array  # [lanes, K, *event]
    scale: Array

    def push(self, message: Message, x: np.ndarray) -> None:
        """Write numbers of the grid, [lanes, *event]."""
        which = message.pop_symbols(_responsibilities(self, x))
        self._component(which).push(message, x)
        message.push_symbols(which, self.log_weights)

    def pop(self, message: Message) -> np.ndarray:
        """Read numbers of the grid, [lanes, *event]."""
        which = message.pop_symbols(self.log_weights)
        x = self._component(which).pop(message)
        message.push_symbols(which, _responsibilities(self, x))
        return x

    def _component(self, which: np.ndarray) -> Normals:
        lanes = np.arange(len(which))
        return Normals(self.loc[lanes, which], self.scale[lanes, which])


@jax.jit
def _responsibilities(mixed: Mixed, x: Array) -> Array:
    normal = dist.Normal(mixed.loc, mixed.scale).to_event(mixed.loc.ndim - 2)
    return jax.nn.log_softmax(mixed.log_weights + normal.log_prob(x[:, None]))


def coded(d: dist.Distribution, lead: tuple[int, ...]) -> Any:
    """Return what has `push` and `pop` for a distribution: itself, or the table of its independent numbers.

    Under `jit` and `vmap` as well: what it returns is a pytree.

    Args:
        d: of a batch shape that broadcasts to `lead`.
        lead: the lanes; () for that of one.

    Raises ValueError where no way is known to code it: it says what is missing.
    """
    if is_masked(d):
        raise ValueError("model: a masked distribution has no code; code what is under the mask")
    if can_be_coded(d):
        if getattr(d.push, "__self__", d) is not d:
            raise ValueError(
                f"model: the code of a {type(_inner_of(d)).__name__} does not know of contexts: mark its push and pop "
                "with distributions.verb, and let them go by self"
            )
        return d
    if kind_of(d) != "exact":
        raise ValueError(f"model: no code is known of a {type(d).__name__}, whose density is of kind {kind_of(d)!r}")
    each = elementwise(unmasked(d))
    whole = each.event_shape == d.event_shape
    if whole and isinstance(each, dist.MixtureSameFamily) and not each.support.is_discrete:
        return _mixed(each, lead)
    if whole and isinstance(each, dist.MultivariateNormal):
        shape = (*lead, *d.event_shape)
        tril = jnp.broadcast_to(each.scale_tril, (*shape, *d.event_shape))
        return Correlated(jnp.broadcast_to(each.loc, shape), tril)
    if each.event_shape:
        raise ValueError(
            f"model: no code is known of a {type(_inner_of(each)).__name__}, whose numbers depend on one another: "
            "expected a product of conditionals, a model with latent variables, or independent numbers"
        )
    each = each.expand((*lead, *d.event_shape))
    if isinstance(family(each), dist.Normal):
        loc, scale = family(each).loc, family(each).scale
        return Normals(*(jnp.broadcast_to(a, each.batch_shape) for a in (loc, scale)))
    if not each.support.is_discrete:
        raise ValueError(
            f"model: a {type(family(each)).__name__} is of real numbers, which have no bits: put them on levels first, "
            "by a discretized likelihood"
        )
    found, low = levels(each.support), _least(each.support)
    if found is not None and found[1] <= _LARGEST_TABLE:
        return Table(_log_p(each, *found), found[0])
    if low is None:
        raise ValueError(f"model: expected integers with a least one, got {each.support}")
    size = max(256, min(_FIRST, _NUMBERS // max(1, math.prod(d.event_shape))))
    return Open(_log_p(each, low, size), low)


def _mixed(d: dist.MixtureSameFamily, lead: tuple[int, ...]) -> Mixed:
    """Return the code of a mixture of products of normals."""
    components = elementwise(unmasked(d.component_distribution))
    if components.event_shape or not isinstance(family(components), dist.Normal):
        raise ValueError(f"model: no code is known of a mixture of {type(family(components)).__name__}s")
    shape = (*lead, d.mixture_size, *d.event_shape)
    loc, scale = (jnp.broadcast_to(a, shape) for a in (family(components).loc, family(components).scale))
    log_weights = jax.nn.log_softmax(d.mixing_distribution.logits)
    return Mixed(jnp.broadcast_to(log_weights, (*lead, d.mixture_size)), loc, scale)


def bits_of(code: Any, numbers: int) -> int:
    """Return about how many bits so many numbers take that a posterior's code reads."""
    return numbers * (math.ceil(math.log2(code.log_p.shape[-1])) if isinstance(code, Table) else _BITS_OF_A_REAL)


def _inner_of(d: Any) -> Any:
    """Return the model at whose contexts a distribution stands; else the distribution itself."""
    return d.model if hasattr(d, "context") else d


def in_double(d: Any) -> Any:
    """Return a distribution with all its numbers in double precision, under `jax.enable_x64`."""
    wide = lambda a: jnp.asarray(a, jnp.float64) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a
    return jax.tree.map(wide, d)


def can_be_coded(d: Any) -> bool:
    """Return whether a distribution has ways of its own to be written and read."""
    return callable(getattr(d, "push", None)) and callable(getattr(d, "pop", None))


def _log_p(each: dist.Distribution, low: int, count: int) -> Array:
    """Return log p of each value, [lanes, ..., count]."""
    values = jnp.arange(low, low + count).reshape(-1, *(1,) * len(each.batch_shape))

    def at(value: Array) -> Array:
        v = jnp.broadcast_to(value, each.batch_shape)
        inside = each.support(v)  # beyond it numpyro's log_prob may be anything
        return jnp.where(inside, each.log_prob(jnp.where(inside, v, each.support.feasible_like(v))), -jnp.inf)

    return jnp.moveaxis(jax.lax.map(at, values), 0, -1)


def _least(support: Any) -> int | None:
    """Return the least integer of a support; None where it has none that is known."""
    if isinstance(support, constraints.independent):
        return _least(support.base_constraint)
    bound = getattr(support, "lower_bound", None)
    return None if bound is None or isinstance(bound, jax.core.Tracer) else int(np.min(bound))


def over_lanes(d: Any, part: Callable[..., Any], *args: Any) -> Any:
    """Return `part(model, *args)` for each lane, at its own context where the distribution has one for each.

    Args:
        d: a distribution of batch shape () or (lanes,).
        part: of one model and one lane's arguments; it returns any pytree.
        args: pytrees whose arrays have the lanes in front.
    """
    found = d._family()
    if found is None:
        return jax.vmap(lambda *args: part(d, *args))(*args)
    owner, axes, at = found
    if not axes:
        return over_lanes(at(owner), part, *args)
    return jax.vmap(lambda element, *args: part(_only(at(element)), *args))(owner, *args)


def check_lanes(d: Any) -> None:
    """Raise ValueError where a distribution's own parameters have lanes: only contexts, and `vmap`, do."""
    if d._family() is None and d.batch_shape:
        raise ValueError(
            f"model: no code is known of a {type(d).__name__} of batch shape {d.batch_shape}: make it of one row under "
            "jax.vmap, or by a ConditionalModel"
        )


def _only(d: Any) -> Any:
    found = d._family()
    return d if found is None else _only(found[2](found[0]))
