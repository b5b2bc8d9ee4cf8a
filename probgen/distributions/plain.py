"""Plain numpyro distributions as parts of our models: their fields in sorted order, with names."""

from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpyro.distributions as dist

from probgen.core.settings import own_settings


class Plain:
    """A pytree node around a numpyro distribution, for the time that it is flattened.

    numpyro orders the fields of a distribution by a set, so leaf order would change with PYTHONHASHSEED.
    """

    def __init__(self, distribution: dist.Distribution):
        self.distribution = distribution

    def static_settings(self) -> dict[str, Any]:
        """Return the distribution's static facts."""
        return own_settings(self.distribution)


def _flatten(node: Plain) -> tuple[list[tuple[jtu.GetAttrKey, Any]], Any]:
    cls = type(node.distribution)
    data, aux = node.distribution.tree_flatten()
    fields = sorted(zip(cls.gather_pytree_data_fields(), data, strict=True), key=lambda pair: pair[0])
    facts = tuple(sorted(zip(cls.gather_pytree_aux_fields(), aux, strict=True), key=lambda pair: pair[0]))
    return [(jtu.GetAttrKey(name), hold(value)) for name, value in fields], (cls, facts)


def _unflatten(aux: Any, children: Any) -> Plain:
    cls, facts = aux
    data = dict(zip(sorted(cls.gather_pytree_data_fields()), map(release, children), strict=True))
    facts = dict(facts)
    in_order = tuple(facts[name] for name in cls.gather_pytree_aux_fields())
    return Plain(cls.tree_unflatten(in_order, tuple(data[name] for name in cls.gather_pytree_data_fields())))


jtu.register_pytree_with_keys(Plain, _flatten, _unflatten)


def _is_plain(node: Any) -> bool:
    return isinstance(node, dist.Distribution) and not hasattr(node, "learnable_fields")


def hold(value: Any) -> Any:
    """Return the value with every plain distribution in it wrapped; modules and our own distributions see to
    themselves."""
    stop = lambda node: isinstance(node, dist.Distribution | eqx.Module)
    return jax.tree.map(lambda node: Plain(node) if _is_plain(node) else node, value, is_leaf=stop)


def release(value: Any) -> Any:
    """Return the inverse of `hold`: the value with every wrapped distribution in it bare again."""
    stop = lambda node: isinstance(node, Plain | dist.Distribution | eqx.Module)
    return jax.tree.map(lambda node: node.distribution if isinstance(node, Plain) else node, value, is_leaf=stop)
