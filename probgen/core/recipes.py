"""A recipe is a function that returns a model; the model remembers it, so that its file can be loaded alone."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx

F = TypeVar("F", bound=Callable[..., Any])
_RECIPES: dict[str, Callable[..., Any]] = {}


class Recipe(NamedTuple):
    """The name of a recipe and its arguments as JSON (without the key)."""

    name: str
    arguments: str

    def build(self, *, key: Any) -> Any:
        """Call the recipe again with other random weights. Raises ValueError where it is not known here."""
        if self.name not in _RECIPES:
            raise ValueError(f"the recipe {self.name!r} is not known here: import the module that defines it first")
        return _RECIPES[self.name](**_tuples(json.loads(self.arguments)), key=key)


def _tuples(x: Any) -> Any:
    if isinstance(x, list):
        return tuple(_tuples(v) for v in x)
    return {k: _tuples(v) for k, v in x.items()} if isinstance(x, dict) else x


def _remember(model: Any, made_by: Recipe) -> Any:
    return (
        dataclasses.replace(model, **{"recipe": made_by})
        if isinstance(model, eqx.Module)
        else model.replace(recipe=made_by)
    )


def recipe(function: F) -> F:
    """Mark a function that returns a model as a recipe: `save` then keeps its name and arguments.

    Its model must have a (static) field `recipe`, as every probgen distribution and `ConditionalModel` does. A call
    with an argument that JSON cannot hold (a function, a model) is not remembered; `load` then needs `like=`.
    """
    module = function.__module__.split(".")
    name = f"{module[1] if module[0] == 'probgen' and len(module) > 1 else function.__module__}.{function.__name__}"
    signature = inspect.signature(function)

    @functools.wraps(function)
    def build(*args: Any, **kwargs: Any) -> Any:
        model = function(*args, **kwargs)
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        arguments.pop("key", None)
        try:
            return _remember(model, Recipe(name, json.dumps(arguments, sort_keys=True)))
        except TypeError:
            return model

    _RECIPES[name] = build
    return build  # type: ignore[return-value]
