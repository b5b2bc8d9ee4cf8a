"""A recipe is a function that returns a model; the model remembers it, so that its file can be loaded alone."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probgen.core.sizes import check_sizes

F = TypeVar("F", bound=Callable[..., Any])
_FUNCTIONS = {"jax.nn": jax.nn, "jax.numpy": jnp}
_RECIPES: dict[str, Callable[..., Any]] = {}


class Recipe(NamedTuple):
    """The name of a recipe and its arguments as JSON, without `key` and `data`, on which only the numbers depend."""

    name: str
    arguments: str

    def build(self, *, key: Any) -> Any:
        """Call the recipe again with other random weights. Raises ValueError where it is not known here."""
        if self.name not in _RECIPES:
            raise ValueError(f"the recipe {self.name!r} is not known here: import the module that defines it first")
        function = _RECIPES[self.name]
        keyed = {"key": key} if "key" in inspect.signature(function).parameters else {}
        return function(**_tuples(json.loads(self.arguments, object_hook=_functions)), **keyed)

    def makes(self, model: Any) -> bool:
        """Whether the recipe still builds a model of this static structure and these shapes, whatever their values."""
        try:
            made, model = self._abstract(), jax.eval_shape(lambda m: m, model)
            same: bool = jax.tree.structure(made) == jax.tree.structure(model)  # type: ignore[operator]
        except Exception:  # whatever it is: what cannot be built and compared here must not be claimed
            return False
        facts = lambda tree: [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
        return same and facts(made) == facts(model)

    def _abstract(self) -> Any:
        build = lambda key: self.build(key=key)
        try:
            return jax.eval_shape(build, jax.random.key(0))
        except jax.errors.JAXTypeError:  # it looks at numbers while it builds
            return jax.eval_shape(lambda m: m, build(jax.random.key(0)))


def _as_json(x: Any) -> Any:
    """Arrays as lists, and public functions of `jax.nn` and `jax.numpy` (activations) by name; else TypeError."""
    if isinstance(x, np.ndarray | jax.Array):
        return x.tolist()
    name = getattr(x, "__name__", "")
    for module, functions in _FUNCTIONS.items():
        if not name.startswith("_") and getattr(functions, name, None) is x:
            return {"function": f"{module}.{name}"}
    raise TypeError(f"JSON cannot hold {x}")


def _functions(x: dict[str, Any]) -> Any:
    """The function that `_as_json` named."""
    if x.keys() != {"function"}:
        return x
    module, _, name = x["function"].rpartition(".")
    if module not in _FUNCTIONS or name.startswith("_") or not callable(getattr(_FUNCTIONS[module], name, None)):
        raise ValueError(f"recipe: expected a function of {' or '.join(_FUNCTIONS)}, got {x['function']!r}")
    return getattr(_FUNCTIONS[module], name)


def _tuples(x: Any) -> Any:
    if isinstance(x, list):
        return tuple(_tuples(v) for v in x)
    return {k: _tuples(v) for k, v in x.items()} if isinstance(x, dict) else x


def _plain(x: Any) -> Any:
    """An argument with NumPy's scalars and ranges as Python's, which JSON and static fields can hold."""
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, range):
        return tuple(x)
    if type(x) in (list, tuple):
        return type(x)(_plain(v) for v in x)
    return {k: _plain(v) for k, v in x.items()} if type(x) is dict else x


def _remember(model: Any, made_by: Recipe) -> Any:
    return (
        dataclasses.replace(model, **{"recipe": made_by})
        if isinstance(model, eqx.Module)
        else model.replace(recipe=made_by)
    )


def recipe(function: F) -> F:
    """Mark a function that returns a model as a recipe: `save` then keeps its name and arguments.

    `context_dim`, where it takes one, is None or at least 1: others are refused with ValueError.

    Its model must have a (static) field `recipe`, as every probgen distribution and `ConditionalModel` does. The
    arguments `key` and `data` are not kept: they choose the model's numbers, which are in the file. A call
    with an argument that JSON cannot hold (a model, a function other than those of `jax.nn` and `jax.numpy`) is not
    remembered; `load` then needs `like=`. It also does where the model's static structure is not what the recipe builds
    again: because it was changed since, or because the recipe makes a function anew at every call (a `lambda` for an
    activation).
    """
    module = function.__module__.split(".")
    name = f"{module[1] if module[0] == 'probgen' and len(module) > 1 else function.__module__}.{function.__name__}"
    signature = inspect.signature(function)

    @functools.wraps(function)
    def build(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _plain(args), _plain(kwargs)
        if (width := kwargs.get("context_dim")) is not None:
            check_sizes(context_dim=width)
        model = function(*args, **kwargs)
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        for name_of_numbers in ("key", "data"):
            arguments.pop(name_of_numbers, None)
        try:
            return _remember(model, Recipe(name, json.dumps(arguments, sort_keys=True, default=_as_json)))
        except TypeError:
            return model

    _RECIPES[name] = build
    return build  # type: ignore[return-value]
