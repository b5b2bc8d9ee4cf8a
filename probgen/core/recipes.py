"""A recipe is a function that returns a model; the model remembers it, so that its file can be loaded alone."""

import dataclasses
import functools
import inspect
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints

from probgen.core.sizes import as_number, check_sizes
from probgen.core.vectorize import check_key

F = TypeVar("F", bound=Callable[..., Any])
_FUNCTIONS = {"jax.nn": jax.nn, "jax.numpy": jnp}
_CONSTRAINTS: dict[str, Any] = {
    name: x
    for name, x in vars(constraints).items()
    if not name.startswith("_") and (x if isinstance(x, type) else type(x)).__module__ == constraints.__name__
}
_RECIPES: dict[str, Callable[..., Any]] = {}


class Recipe(NamedTuple):
    """The name of a recipe and its arguments as JSON, without `key` and `data`, on which only the numbers depend.

    Arguments that recipes made (a flow on a support) are recipes there, in their turn.

    Args:
        name: "part.function".
        arguments: as JSON.
    """

    name: str
    arguments: str

    def build(self, *, key: Any) -> Any:
        """Call the recipe again with other random weights. Raises ValueError where it is not known here."""
        if self.name not in _RECIPES:
            raise ValueError(f"the recipe {self.name!r} is not known here: import the module that defines it first")
        function = _RECIPES[self.name]
        keyed = {"key": key} if "key" in inspect.signature(function).parameters else {}
        return function(**_tuples(json.loads(self.arguments, object_hook=_from_json)), **keyed)

    def makes(self, model: Any) -> bool:
        """Return whether the recipe still builds a model of this static structure and these shapes, whatever their
        values."""
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
    """Return arrays as lists; public functions of `jax.nn` and `jax.numpy` (activations), constraints of numpyro and
    models of recipes by name; else raise TypeError."""
    if isinstance(x, np.ndarray | jax.Array):
        return x.tolist()
    if isinstance(made_by := getattr(x, "recipe", None), Recipe):  # whether it still makes x, the whole's `makes` tells
        return {"recipe": made_by.name, "arguments": made_by.arguments}
    if isinstance(x, constraints.Constraint):
        return _constraint(x)
    name = getattr(x, "__name__", "")
    for module, functions in _FUNCTIONS.items():
        if not name.startswith("_") and getattr(functions, name, None) is x:
            return {"function": f"{module}.{name}"}
    raise TypeError(f"JSON cannot hold {x}")


def _constraint(x: constraints.Constraint) -> dict[str, Any]:
    """Return numpyro's name for a constraint, with the arguments of one that takes some."""
    for name, known in _CONSTRAINTS.items():
        if known is x:
            return {"constraint": name, "arguments": {}}
        if known is type(x):
            return {"constraint": name, "arguments": {p: getattr(x, p) for p in inspect.signature(known).parameters}}
    raise TypeError(f"JSON cannot hold {x}")


def _from_json(x: dict[str, Any]) -> Any:
    """Return what `_as_json` named."""
    match x:
        case {"function": str(name), **rest} if not rest:
            return _function(name)
        case {"recipe": str(name), "arguments": str(arguments), **rest} if not rest:
            return Recipe(name, arguments).build(key=jax.random.key(0))
        case {"constraint": str(name), "arguments": dict(arguments), **rest} if not rest:
            if name not in _CONSTRAINTS:
                raise ValueError(f"recipe: expected a constraint of numpyro, got {name!r}")
            bounds = {name: np.asarray(x) if _is_of_numbers(x) else x for name, x in arguments.items()}
            return _CONSTRAINTS[name](**bounds) if bounds else _CONSTRAINTS[name]
    return x


def _is_of_numbers(x: Any) -> bool:
    return isinstance(x, list) and all(isinstance(y, int | float) or _is_of_numbers(y) for y in x)


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(".")
    if (
        module not in _FUNCTIONS
        or function.startswith("_")
        or not callable(getattr(_FUNCTIONS[module], function, None))
    ):
        raise ValueError(f"recipe: expected a function of {' or '.join(_FUNCTIONS)}, got {name!r}")
    found: Callable[..., Any] = getattr(_FUNCTIONS[module], function)
    return found


def _tuples(x: Any) -> Any:
    if isinstance(x, list):
        return tuple(_tuples(v) for v in x)
    return {k: _tuples(v) for k, v in x.items()} if isinstance(x, dict) else x


def _plain(x: Any) -> Any:
    """Return an argument with scalars of NumPy and JAX, and ranges, as Python's, which JSON and static fields hold."""
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, jax.Array):
        return as_number(x)
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


def recipe(function: F | None = None, *, formerly: tuple[str, ...] = ()) -> Any:
    """Mark a function that returns a model as a recipe: `save` then keeps its name and arguments.

    `context_dim`, where it takes one, is None or at least 1, and `key` a key: others are refused with ValueError. A
    recipe with a `context_dim` has a `context_levels` too, by which contexts are labels.

    Its model must have a (static) field `recipe`, as every probgen distribution and `ConditionalModel` does. Its
    arguments `key` and `data` are not kept: they choose the model's numbers, which are in the file. An argument may be
    a model that a recipe made, a numpyro constraint, or a function of `jax.nn` or `jax.numpy`. A call with another
    argument that JSON cannot hold is not remembered; `load` then needs `like=`. It also does where the model's static
    structure is not what the recipe builds again: because it was changed since, or because the recipe makes a function
    anew at every call (a `lambda` for an activation).

    Args:
        function: it is returned, as one that marks its models.
        formerly: names ("part.function") under which files of before know it, so that they load after it has moved.
    """
    if function is None:
        return functools.partial(recipe, formerly=formerly)
    module = function.__module__.split(".")
    name = f"{module[1] if module[0] == 'probgen' and len(module) > 1 else function.__module__}.{function.__name__}"
    signature = inspect.signature(function)
    default_key = getattr(signature.parameters.get("key"), "default", None)  # None where a recipe can do without

    @functools.wraps(function)
    def build(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _plain(args), _plain(kwargs)
        levels = _levels(kwargs) if "context_dim" in signature.parameters else None
        if (width := kwargs.get("context_dim")) is not None:
            check_sizes(context_dim=width)
        if kwargs.get("key", default_key) is not default_key:
            check_key(kwargs["key"])
        model = function(*args, **kwargs)
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        if levels is not None:
            model = model.of_labels()
            arguments["context_levels"] = arguments.pop("context_dim")
        for name_of_numbers in ("key", "data"):
            arguments.pop(name_of_numbers, None)
        try:
            return _remember(model, Recipe(name, json.dumps(arguments, sort_keys=True, default=_as_json)))
        except TypeError:
            return model

    if "context_dim" in signature.parameters:
        _document_levels(build, signature)
    _RECIPES.update(dict.fromkeys((name, *formerly), build))
    return build


def _levels(kwargs: dict[str, Any]) -> int | None:
    """Take `context_levels` out of the arguments of a recipe, and return it; one-hot labels are contexts of its size.

    Raises ValueError where there is a `context_dim` as well, or it is less than 2.
    """
    levels = kwargs.pop("context_levels", None)
    if levels is None:
        return None
    check_sizes(2, context_levels=levels)
    if kwargs.get("context_dim") is not None:
        raise ValueError("context_levels: a context is a label, or a vector of context_dim numbers, and not both")
    kwargs["context_dim"] = levels
    return int(levels)


def _document_levels(build: Any, signature: inspect.Signature) -> None:
    """Put `context_levels` into the signature and the docstring of a recipe that takes contexts."""
    parameters = list(signature.parameters.values())
    place = 1 + [parameter.name for parameter in parameters].index("context_dim")
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters.insert(place, inspect.Parameter("context_levels", keyword, default=None, annotation=int | None))
    build.__signature__ = signature.replace(parameters=parameters)
    line = (
        "        context_levels: K, in place of `context_dim`, where a context is a label 0..K−1, an integer;\n"
        "            the model makes it one-hot.\n"
    )
    found = re.search(r"^        context_dim: .*\n(?:            .*\n)*", build.__doc__ or "", re.M)
    if found:
        build.__doc__ = build.__doc__[: found.end()] + line + build.__doc__[found.end() :]
