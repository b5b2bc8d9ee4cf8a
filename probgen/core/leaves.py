"""Every leaf of a model has a path and a kind; `partition` is the one rule of what learns.

The kind follows from where a leaf stands, never from its type, so that it is the same before and after `jit`,
`vmap`, stacking or a file. The nearest owner decides: a module's float arrays learn, those of a plain numpyro or
distrax object are values, and a field may be declared `given()` or `state()`, or be put under a `Frozen` node.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpyro.distributions as dist
from jax import Array


class Kind(enum.Enum):
    """The kind of a leaf: only `LEARNED` floats are params; `GIVEN`, `STATE` and `FROZEN` hold for the whole
    subtree."""

    LEARNED = "learned"
    VALUE = "value"
    GIVEN = "given"
    STATE = "state"
    FROZEN = "frozen"


class Leaf(NamedTuple):
    """A leaf of a model, in the order of `jax.tree.leaves`.

    Attributes:
        path: such as `bijector.layers.conditioner.weights.0`.
        kind: what it is.
        value: the array.
    """

    path: str
    kind: Kind
    value: Any


def given(**kwargs: Any) -> Any:
    """Return a module field that is not learned and passes gradients on, such as a context.

    Args:
        kwargs: as `equinox.field`'s, such as `default`.
    """
    return eqx.field(metadata={"kind": Kind.GIVEN}, **kwargs)


def state(**kwargs: Any) -> Any:
    """Return a module field that only `update(batch, key)` changes, such as a running mean.

    `fit` calls the `update` of the model itself and of no part within it: what a part sees of a batch only the model
    can say, so its own `update` hands that on to the parts that have one.

    Args:
        kwargs: as `equinox.field`'s, such as `default`.
    """
    return eqx.field(metadata={"kind": Kind.STATE}, **kwargs)


class Frozen(eqx.Module):
    """A subtree that does not learn: gradients stop where `value` is read.

    Args:
        tree: any pytree, such as a network.

    >>> import jax.numpy as jnp
    >>> partition({"w": Frozen(jnp.ones(2))})[0]
    {}
    """

    tree: Any

    @property
    def value(self) -> Any:
        """The subtree, behind `stop_gradient`."""
        return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if _is_float(x) else x, self.tree)

    def __call__(self, *args: Any) -> Any:
        """Call the subtree, so that a frozen network serves wherever a network does."""
        return self.value(*args)


_STICKY = (Kind.GIVEN, Kind.STATE, Kind.FROZEN)
_FOREIGN = (dist.Distribution, dist.transforms.Transform, distrax.Bijector, distrax.Distribution)


def _child_kind(node: Any, name: str, inherited: Kind) -> Kind:
    if inherited in _STICKY:
        return inherited
    if isinstance(node, Frozen):
        return Kind.FROZEN
    if isinstance(node, eqx.Module):
        field = node.__dataclass_fields__.get(name)
        return Kind.LEARNED if field is None else field.metadata.get("kind", Kind.LEARNED)
    if isinstance(node, _FOREIGN):  # a probgen distribution says which of its own fields learn
        if name in getattr(node, "state_fields", ()):
            return Kind.STATE
        return Kind.LEARNED if name in getattr(node, "learnable_fields", ()) else Kind.VALUE
    return inherited


def child_name(node: Any, key: Any) -> str:
    """Return what a child is called in the paths of its node."""
    if isinstance(key, jtu.GetAttrKey):
        return key.name
    if isinstance(key, jtu.DictKey):
        return str(key.key)
    if isinstance(key, jtu.SequenceKey):
        return str(key.idx)
    if isinstance(node, dist.Distribution):
        return type(node).gather_pytree_data_fields()[key.key]
    if isinstance(node, distrax.Bijector | distrax.Distribution):
        inner = jtu.tree_flatten_with_path(node.__dict__)[0][key.key][0]
        return jtu.keystr(inner, simple=True, separator=".")
    return str(getattr(key, "key", key))


def leaves(model: Any) -> list[Leaf]:
    """Return the leaves of a model with their paths (such as `bijector.layers.conditioner.weights.0`) and kinds.

    Args:
        model: any pytree.
    """
    found: list[Leaf] = []

    def walk(node: Any, path: str, kind: Kind) -> None:
        if node is None:
            return
        children, _ = jtu.tree_flatten_with_path(node, is_leaf=lambda n: n is not node)
        if len(children) == 1 and children[0][0] == ():
            found.append(Leaf(path, kind, node))
            return
        for (key, *_), child in children:
            name = child_name(node, key)
            walk(child, f"{path}.{name}" if path else name, _child_kind(node, name, kind))

    walk(model, "", Kind.VALUE)
    return found


def leaves_by_path(model: Any) -> dict[str, Leaf]:
    """Return the leaves of a model under their paths. Raises ValueError where two of them share one."""
    found: dict[str, Leaf] = {}
    for leaf in leaves(model):
        if leaf.path in found:
            raise ValueError(f"two leaves of the model share the path {leaf.path!r}")
        found[leaf.path] = leaf
    return found


def _is_float(x: Any) -> bool:
    dtype = getattr(x, "dtype", None)
    return isinstance(x, float) if dtype is None else bool(jnp.issubdtype(dtype, jnp.floating))


class Rest(eqx.Module):
    """A model without its params: what `combine` needs beside them.

    Attributes:
        leaves: those that are no params.
        params: for each leaf of the model its path where it is a param, or None.
        structure: of the model's pytree.
    """

    leaves: tuple
    params: tuple[str | None, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)


def partition(model: Any, learnable: Callable[[str, Any], bool] | None = None) -> tuple[dict[str, Array], Rest]:
    """Split a model into its params `{path: array}` and the rest; `combine` puts them together again.

    `jax.grad`, `optax` and `numpyro.param` take the params; everything takes both.

    Args:
        model: any pytree.
        learnable: `(path, leaf) -> bool`, narrows what learns further (fine-tuning).

    Raises ValueError where two leaves share a path.

    >>> import jax, probgen
    >>> flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(0))
    >>> params, rest = probgen.partition(flow)
    >>> sorted(params)[0], probgen.combine(params, rest).event_shape
    ('bijector.bijectors.0.log_scale', (2,))
    """
    named = leaves(model)
    params, others, paths = {}, [], []
    for path, kind, value in named:
        learns = kind is Kind.LEARNED and _is_float(value) and (learnable is None or learnable(path, value))
        paths.append(path if learns else None)
        if not learns:
            others.append(value)
        elif path in params:
            raise ValueError(f"two leaves of the model share the path {path!r}")
        else:
            params[path] = jnp.asarray(value)
    return params, Rest(tuple(others), tuple(paths), jax.tree.structure(model))


def combine(params: dict[str, Array], rest: Rest) -> Any:
    """Return the model that `partition` took apart, with `params` in their places.

    Args:
        params: `{path: array}`.
        rest: what `partition` returned beside them.

    Raises ValueError where the two are not of one model.
    """
    wanted = [path for path in rest.params if path is not None]
    if params.keys() != set(wanted):
        raise ValueError(f"params and rest disagree at {sorted(params.keys() ^ set(wanted))[:3]}")
    others = iter(rest.leaves)
    filled = [next(others) if path is None else params[path] for path in rest.params]
    return jax.tree.unflatten(rest.structure, filled)


def count_parameters(model: Any) -> int:
    """Return how many numbers of a model are learned.

    Args:
        model: any pytree.
    """
    return sum(leaf.size for leaf in partition(model)[0].values())


def replace_leaves(model: Any, new: Callable[[Leaf], Any]) -> Any:
    """Return the model with every leaf replaced by `new(leaf)`."""
    return jax.tree.unflatten(jax.tree.structure(model), [new(leaf) for leaf in leaves(model)])
