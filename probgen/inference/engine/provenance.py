"""Which random sites does a number depend on? Read off the jaxpr of a program whose sites' values are marked."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

_MARK = "probgen site: "
Names = frozenset[str]


def mark(name: str, value: Array) -> Array:
    """Return the same value, with its origin written beside it in the jaxpr; it costs nothing when it runs."""
    return checkpoint_name(value, _MARK + name)


def provenance(closed: ClosedJaxpr) -> list[Names]:
    """Return for every output of a jaxpr the names of the marked values that flow into it.

    Through `jit`, custom derivatives, `remat` and `cond` it is exact; a `scan` is iterated to its fixed point; in
    every other primitive each output depends on each input.

    References: Nonstandard Interpretations of Probabilistic Programs for Efficient Inference (Wingate, Goodman,
    Stuhlmüller, Siskind 2011).

    >>> import jax
    >>> f = lambda x: (mark("z", x) + 1, x)
    >>> provenance(jax.make_jaxpr(f)(1.0))
    [frozenset({'z'}), frozenset()]
    """
    return _outputs(closed.jaxpr, [frozenset()] * len(closed.jaxpr.invars))


_SAME = ("name", "copy", "reshape", "squeeze", "broadcast_in_dim", "convert_element_type")  # if sizes agree


def unchanged(closed: ClosedJaxpr) -> list[int | None]:
    """Return for every output of a jaxpr which input it is, perhaps in another shape or dtype; None where it is none.

    >>> import jax
    >>> f = lambda x, y: (y[:, None], x + y, x.astype(int))
    >>> unchanged(jax.make_jaxpr(f)(jax.numpy.ones(2), jax.numpy.ones(2)))
    [1, None, 0]
    """
    return _same_inputs(closed.jaxpr, list(range(len(closed.jaxpr.invars))))


def _same_inputs(jaxpr: Any, inputs: list[int | None]) -> list[int | None]:
    known: dict[Any, int | None] = dict(zip(jaxpr.invars, inputs, strict=True))
    read = lambda v: None if isinstance(v, Literal) else known.get(v)
    for equation in jaxpr.eqns:
        into, inner = [read(v) for v in equation.invars], _inner(equation)
        if inner is not None:
            known.update(zip(equation.outvars, _same_inputs(inner, into), strict=True))
        elif equation.primitive.name in _SAME and equation.invars[0].aval.size == equation.outvars[0].aval.size:
            known[equation.outvars[0]] = into[0]
    return [read(v) for v in jaxpr.outvars]


def _outputs(jaxpr: Any, inputs: list[Names]) -> list[Names]:
    known: dict[Any, Names] = dict(zip(jaxpr.invars, inputs, strict=True))
    read = lambda v: frozenset() if isinstance(v, Literal) else known.get(v, frozenset())
    for equation in jaxpr.eqns:
        into = [read(v) for v in equation.invars]
        known.update(zip(equation.outvars, _rule(equation, into), strict=True))
    return [read(v) for v in jaxpr.outvars]


def _rule(equation: Any, into: list[Names]) -> list[Names]:
    name, params = equation.primitive.name, equation.params
    everything = frozenset().union(*into)
    if name == "name" and params["name"].startswith(_MARK):
        return [everything | {params["name"].removeprefix(_MARK)}]
    if name == "scan" and (counts := _scan_counts(params)) is not None:
        return _scan(params["jaxpr"].jaxpr, *counts, into)
    if name == "cond":
        branches = [_outputs(branch.jaxpr, into[1:]) for branch in params["branches"]]
        return [frozenset(into[0]).union(*outs) for outs in zip(*branches, strict=True)]
    if (inner := _inner(equation)) is not None:
        return _outputs(inner, into)
    return [everything] * len(equation.outvars)


def _inner(equation: Any) -> Any:
    """Return the jaxpr that an equation calls once on its inputs; None where it calls none."""
    params = equation.params
    inner = next((params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params), None)
    inner = getattr(inner, "jaxpr", inner)
    if equation.primitive.name == "scan" or inner is None:
        return None
    fits = len(inner.invars) == len(equation.invars) and len(inner.outvars) == len(equation.outvars)
    return inner if fits else None


def _scan_counts(params: dict[str, Any]) -> tuple[int, int] | None:
    """Return how many of a scan's inputs are constants, and how many are carried: JAX has spelt it in two ways."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    if "ft_in" in params:
        consts, carry, _ = params["ft_in"].unpack()
        return len(consts), len(carry)
    return None  # then each output depends on each input, which is right and costs variance


def _scan(body: Any, consts: int, carried: int, into: list[Names]) -> list[Names]:
    fixed, carry, xs = into[:consts], into[consts : consts + carried], into[consts + carried :]
    while True:
        out = _outputs(body, [*fixed, *carry, *xs])
        grown = [old | new for old, new in zip(carry, out[:carried], strict=True)]
        if grown == carry:
            return [*grown, *out[carried:]]
        carry = grown


def traced(function: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], Any]:
    """Return a function traced once: the same function as its jaxpr, and the provenance of each of its outputs."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
    structure = jax.tree.structure(shape)
    run = jaxpr_as_fun(closed)
    again = lambda *args: jax.tree.unflatten(structure, run(*jax.tree.leaves(args)))
    return again, jax.tree.unflatten(structure, provenance(closed))
