"""Minibatches in numpyro programs: a batch must weigh what the full data would.

A program that opens `plate("N", x.shape[0])` on a batch of B rows out of N sees too little data, and its posterior is
√(N/B) times too wide. Here the plates that follow the rows are found by tracing the program at two batch sizes, and
their sites are scaled by N/B; what cannot be mended is refused with the reason.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpyro
from numpyro.primitives import Messenger


class ScalePlates(Messenger):
    """Multiply the scale of every site under one of the named plates."""

    def __init__(self, fn: Callable | None, names: frozenset[str], factor: float):
        self.names, self.factor = names, factor
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        """Scale one site."""
        if msg["type"] == "sample" and any(frame.name in self.names for frame in msg["cond_indep_stack"]):
            msg["scale"] = self.factor * (1.0 if msg["scale"] is None else msg["scale"])


def _sites(program: Callable, args: tuple, kwargs: dict, rows: int) -> dict[str, Any]:
    """The program's sites on `rows` rows, traced abstractly: (type, plate names, value shape, plate sizes)."""
    found: dict[str, Any] = {}
    resize = lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype)

    def run(args: tuple, kwargs: dict) -> None:
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=0), numpyro.handlers.trace() as trace:
            program(*args, **kwargs)
        for name, site in trace.items():
            plates = tuple(frame.name for frame in site.get("cond_indep_stack", ()))
            shape = jax.numpy.shape(site["value"]) if site["type"] == "sample" else ()
            if site["type"] == "sample" and type(site["fn"]).__name__ == "Unit":  # numpyro.factor
                shape = jax.numpy.shape(site["fn"].log_factor)
            found[name] = (site["type"], plates, shape, site["args"][:2] if site["type"] == "plate" else ())

    jax.eval_shape(run, *jax.tree.map(resize, (args, kwargs)))
    return found


def plates_to_scale(program: Callable, args: tuple, kwargs: dict, rows: int, batch_size: int) -> frozenset[str]:
    """Names of the plates to be scaled by rows / batch_size; ValueError where a batch cannot be made to serve."""
    sites = _sites(program, args, kwargs, batch_size)
    other = _sites(program, args, kwargs, batch_size + 1)
    unscaled, following = set(), set()
    for name, (kind, _, _, sizes) in sites.items():
        if kind != "plate" or name not in other:
            continue
        (size, part), (other_size, other_part) = sizes, other[name][3]
        if size != other_size:
            unscaled.add(name)
        elif part != other_part and size != rows:
            raise ValueError(f"plate {name!r} says that there are {size} rows, but the data has {rows}")
        elif part == other_part and part not in (None, size):
            raise ValueError(
                f"plate {name!r} draws its own subsample: give fit the whole data (batch_size=None), or open the plate "
                f"with subsample_size=x.shape[0] and let fit draw the batches"
            )
        elif part != other_part:
            following.add(name)
    for name, (kind, plates, shape, _) in sites.items():
        if kind == "sample" and shape != other[name][2] and not (unscaled | following) & set(plates):
            raise ValueError(
                f"site {name!r} depends on the rows but stands under no plate of them, so that a batch would weigh too "
                f"little: put it under numpyro.plate('data', {rows}, subsample_size=x.shape[0])"
            )
    return frozenset(unscaled)
