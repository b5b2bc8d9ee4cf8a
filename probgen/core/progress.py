"""A bar for a loop that runs on the device."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import io_callback
from tqdm import tqdm

_bars: dict[int, tqdm] = {}
_numbers = itertools.count()


def scan_with_bar(one: Callable[[Any, Any], tuple[Any, Any]], start: Any, xs: Any, *, show: bool | str) -> Any:
    """Return `lax.scan(one, start, xs)`, whose steps a bar counts while they are taken.

    There is one bar for each run of the loop, within `jit` too; below `vmap`, where one loop takes the steps of all
    rows, it counts the loop's.

    Args:
        one: a step.
        start: the carry before the first step.
        xs: arrays with the steps on axis 0.
        show: whether there is a bar, or its name; without one nothing is added to the program.

    >>> import jax.numpy as jnp
    >>> scan_with_bar(lambda total, x: (total + x, None), 0, jnp.arange(4), show=False)[0].item()
    6
    """
    if show is False:
        return lax.scan(one, start, xs)
    steps = jax.tree.leaves(xs)[0].shape[0]

    def open_bar() -> Any:
        number = next(_numbers)
        _bars[number] = tqdm(total=steps, desc=show if isinstance(show, str) else None, dynamic_ncols=True)
        return jnp.int32(number)

    bar = io_callback(open_bar, jax.ShapeDtypeStruct((), jnp.int32))

    def counted(carry: Any, x: Any) -> tuple[Any, Any]:
        out = one(carry, x)
        jax.debug.callback(_advance, bar)
        return out

    return lax.scan(counted, start, xs)


def _advance(bar: Any) -> None:
    shown = _bars[int(bar)]
    shown.update()
    if shown.n == shown.total:
        _bars.pop(int(bar)).close()
