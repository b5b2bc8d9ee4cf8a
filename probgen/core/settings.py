"""The static settings of a model, by name: what a file must agree in beside its arrays."""

import dataclasses
import enum
import functools
import hashlib
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
import numpyro.distributions as dist

from probgen.core.leaves import child_name

_NOT_SETTINGS = {"recipe", "_leaf_ndim", "_validate_args", "_batch_shape"}


def settings(model: Any) -> dict[str, str]:
    """Return what is static in every node of a model (its type, its fields that are no arrays), under `path.field`.

    >>> from probgen.distributions import NormalHead
    >>> settings(NormalHead())
    {'type': 'NormalHead', 'min_scale': '0.001'}
    """
    found: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        children, _ = jtu.tree_flatten_with_path(node, is_leaf=lambda n: n is not node)
        if node is None or (len(children) == 1 and children[0][0] == ()):
            return
        under = lambda name: f"{path}.{name}" if path else name
        found.update({under(name): description(value) for name, value in own_settings(node).items()})
        for (key, *_), child in children:
            walk(child, under(child_name(node, key)))

    walk(model, "")
    return found


def own_settings(node: Any) -> dict[str, Any]:
    """Return the static facts of one node, without those of its children."""
    if hasattr(type(node), "static_settings"):  # a node that stands for another
        return node.static_settings()
    if isinstance(node, eqx.Module):
        names = [field.name for field in dataclasses.fields(node) if field.metadata.get("static")]
    elif isinstance(node, dist.Distribution):
        names = sorted(type(node).gather_pytree_aux_fields())
    else:
        return {}
    facts = {name: getattr(node, name, None) for name in names if name not in _NOT_SETTINGS}
    return {"type": type(node), **facts}


def description(value: Any) -> str:
    """Return a value in words that are the same in every process."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return f"{array.dtype}{list(array.shape)} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(description, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(description, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {description(part)}' for key, part in sorted(value.items()))}}}"
    if isinstance(value, functools.partial):
        return f"partial({description(value.func)}, {description(value.args)}, {description(value.keywords)})"
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float | complex | bytes | np.generic):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if name := getattr(value, "__qualname__", None) or getattr(value, "__name__", None):
        return str(name)
    if isinstance(value, eqx.Module):
        return description(settings(value))
    return f"{type(value).__name__}{description(vars(value)) if hasattr(value, '__dict__') else ''}"
