"""What is wrong with a program's data, or with an objective, is said before anything compiles, in one sentence."""

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import ELBO, TraceEnum_ELBO

from probgen.distributions.events import Data, count, widened
from probgen.inference.engine.provenance import traced
from probgen.inference.engine.sites import describe
from probgen.inference.objectives.match import fitting, repeated_observations, unfitting_plates
from probgen.inference.training.origins import Marks


def check_objective(objective: Any) -> None:
    """Raise ValueError for what is no objective, or one that lacks the package that it needs."""
    if objective is not None and not isinstance(objective, ELBO):
        raise ValueError(
            f"objective: expected an ELBO of numpyro or of probgen.inference.objectives, got {type(objective).__name__}"
        )
    if isinstance(objective, TraceEnum_ELBO) and importlib.util.find_spec("funsor") is None:
        raise ValueError(
            "objective: TraceEnum_ELBO needs the package funsor, which is not installed; objectives.ELBO() sums over "
            "the values of discrete sites without it"
        )


class Observed:
    """A look for rows of which a program observes values outside their support (masked ones may be anything).

    Of the support, only what follows from the data alone is known: not one that depends on latent values or params. The
    program is traced once, on as many rows as the `batch` has; all of its log-densities are dead code. `observed(data,
    first)` looks at more, the first of which has that number. Raises ValueError, then and there, also where an
    observation would count more than once, because it broadcasts with the parameters over an axis of no plate.
    """

    def __init__(self, name: str, program: Callable, batch: Data):
        self.name, self.size = name, count(batch)
        self._seen: dict[str, Any] = {}

        def inside(args: tuple, kwargs: dict) -> dict[str, Any]:
            with (
                numpyro.handlers.block(),
                Marks(),
                numpyro.handlers.seed(rng_seed=0),
                numpyro.handlers.trace() as trace,
            ):
                _run(name, program, args, kwargs, trace)
            for said in itertools.chain(unfitting_plates(trace), repeated_observations(trace)):
                raise ValueError(f"{name}: {said}")
            self._seen.update({site: trace[site]["fn"] for site in trace if trace[site].get("is_observed")})
            return {site: (_inside(fn, trace[site]["value"]), trace[site]["value"]) for site, fn in self._seen.items()}

        again, origins = traced(inside, *widened(batch))
        self._known = [site for site, of in origins.items() if not of[0] and not of[1]]
        self._look = jax.jit(lambda args, kwargs: [again(args, kwargs)[site] for site in self._known])

    def __call__(self, data: Data, first: int) -> None:
        """Look at some rows, so many at a time as the batch had; some of them twice where they do not divide."""
        rows = count(data)
        for start in [*range(0, rows - self.size, self.size), rows - self.size]:
            some = np.arange(start, start + self.size) % rows if start < 0 else slice(start, start + self.size)
            found = self._look(*widened(jax.tree.map(lambda x, some=some: x[some], data)))
            for site, (fine, value) in zip(self._known, found, strict=True):
                if not fine.all():
                    index = tuple(int(i) for i in np.argwhere(~np.asarray(fine))[0])
                    numbers = f"rows {first + max(start, 0)} to {first + start + self.size - 1}"
                    raise ValueError(
                        f"{self.name}: site {site!r} observes {value[index]}, outside the support of its "
                        f"{describe(self._seen[site])} (at {list(index)} in {numbers})"
                    )


def _run(name: str, program: Callable, args: tuple, kwargs: dict, trace: dict) -> None:
    """Run a program; where it fails, and a plate of it has another size than the rows, say so: JAX names neither."""
    try:
        program(*args, **kwargs)
    except (TypeError, ValueError) as error:
        rows = count((args, kwargs))
        for plate, site in trace.items():
            if site["type"] == "plate" and (size := site["args"][1] or site["args"][0]) != rows:
                raise ValueError(
                    f"{name}: the program fails on {rows} rows, and its plate {plate!r} has {size} elements: "
                    f"{fitting(plate)} ({error})"
                ) from error
        raise


def _inside(fn: dist.Distribution, value: Any) -> jax.Array:
    """Return where a value lies in the support, as an array of the batch shape, or is masked."""
    if isinstance(fn, dist.MaskedDistribution):
        return _inside(fn.base_dist, value) | ~jnp.asarray(fn._mask, bool)
    if isinstance(fn, dist.ExpandedDistribution):
        return _inside(fn.base_dist, value)
    if isinstance(fn, dist.Independent):
        inner = _inside(fn.base_dist, value)
        return inner.all(tuple(range(-fn.reinterpreted_batch_ndims, 0)))
    unknown = fn.support is None or isinstance(fn.support, type(dist.constraints.dependent))
    return jnp.asarray(True if unknown else fn.support(value))
