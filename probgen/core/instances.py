"""Objects that a caller chose: parts of a model, objectives, samplers."""

from typing import Any


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
