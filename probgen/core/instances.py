"""Objects that a caller chose: parts of a model, objectives, samplers."""

from typing import Any

import numpy as np
import numpyro.distributions as dist


def check_instances(**given: Any) -> None:
    """Raise ValueError for the first of the named that is a class, where what it makes was meant.

    Args:
        given: the objects, by the names of the arguments.

    >>> check_instances(objective=float)
    Traceback (most recent call last):
    ValueError: objective: expected an instance, such as float(…), got the class itself
    """
    for name, x in given.items():
        if isinstance(x, type):
            raise ValueError(f"{name}: expected an instance, such as {x.__name__}(…), got the class itself")


def check_distributions(such_as: str, **given: Any) -> None:
    """Raise ValueError for the first of the named that is no distribution, ours or numpyro's.

    Args:
        such_as: what was meant, for the error.
        given: the objects, by the names of the arguments.

    >>> check_distributions("a flow", prior=3)
    Traceback (most recent call last):
    ValueError: prior: expected a distribution, such as a flow, got 3
    """
    check_instances(**given)
    for name, x in given.items():
        if not isinstance(x, dist.Distribution):
            raise ValueError(f"{name}: expected a distribution, such as {such_as}, got {in_words(x)}")


def check_functions(returning: str, **given: Any) -> None:
    """Raise ValueError for the first of the named that is no function: a class, a distribution, which is called to draw
    from it, or what cannot be called.

    Args:
        returning: what the functions return, for the error.
        given: the objects, by the names of the arguments.

    >>> check_functions("a distribution of z", posterior=dist.Normal(0.0, 1.0))
    Traceback (most recent call last):
    ValueError: posterior: expected a function that returns a distribution of z, got a Normal
    """
    check_instances(**given)
    for name, x in given.items():
        if isinstance(x, dist.Distribution) or not callable(x):
            raise ValueError(f"{name}: expected a function that returns {returning}, got {in_words(x)}")


def in_words(x: Any) -> str:
    """Return what an object is, for an error: an array by its shape, a number, a text or None as it is written, and
    others by their class.

    Args:
        x: any object.
    """
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"an array of shape {x.shape}"
    return repr(x) if x is None or isinstance(x, str | int | float) else f"a {type(x).__name__}"


def check_flags(**flags: Any) -> None:
    """Raise ValueError where an argument is neither True nor False.

    Args:
        flags: the arguments by their names.

    >>> check_flags(resume="yes")
    Traceback (most recent call last):
    ValueError: resume: expected True or False, got 'yes'
    """
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise ValueError(f"{name}: expected True or False, got {flag!r}")
