"""The exact sum over a site's values."""

import dataclasses
import itertools
import math
from typing import ClassVar

import jax
import numpy as np
import numpyro.distributions as dist

from probgen.core import check_sizes
from probgen.distributions.wrapped import family
from probgen.inference.estimators.base import Estimator


@dataclasses.dataclass(frozen=True)
class Enumerate(Estimator):
    """The sum over all values of the site, each weighted by its probability: no variance from this site.

        ∇_θ E[f(z)] = ∇_θ Σ_z q(z; θ) f(z)

    The program runs once for each value (its parts that do not depend on z run once in all). Elements of a plate take
    their values in lock-step, S runs for S values however many elements there are: right where every cost that
    depends on z lies within z's plates, and refused otherwise. An event of D values with S levels takes S^D runs.

    Args:
        budget: the most values that one site may take.
    """

    budget: int = 4096

    needs: ClassVar[str] = "a finite support, and costs that stay within the site's plates"
    reference: ClassVar[str] = "exact"

    def __post_init__(self) -> None:
        check_sizes(budget=self.budget)

    def problem(self, fn: dist.Distribution) -> str | None:
        """Return why not, where the support is not finite and small."""
        values = levels(fn)
        if values is None:
            return "its support is not finite"
        size = len(values) ** math.prod(fn.event_shape[: fn.event_dim - family(fn).event_dim])
        return f"it takes {_count(size)} values, more than the budget of {self.budget}" if size > self.budget else None

    def support(self, fn: dist.Distribution, plates: tuple[int, ...]) -> np.ndarray | None:
        """Return all values, the same for each element of a plate. Raises ValueError where there are too many."""
        values = levels(fn)
        if values is None:
            raise ValueError(self.problem(fn))
        inner = family(fn).event_dim
        batch = tuple(1 if axis - len(fn.batch_shape) in plates else n for axis, n in enumerate(fn.batch_shape))
        free = batch + fn.event_shape[: fn.event_dim - inner]
        size = len(values) ** math.prod(free)
        if size > self.budget:
            raise ValueError(f"it takes {_count(size)} values, more than the budget of {self.budget}")
        rows = np.array(list(itertools.product(range(len(values)), repeat=math.prod(free))))
        return values[rows].reshape(size, *free, *values.shape[1:])


def _count(size: int) -> str:
    return f"{size:,}" if size < 10**9 else f"about 10^{len(str(size)) - 1}"


def levels(fn: dist.Distribution) -> np.ndarray | None:
    """Return the values that one element of a distribution takes, [S, *event]; None where they are not finite or not
    known."""
    inner = family(fn)
    if not getattr(inner.support, "is_discrete", False):
        return None
    try:
        with jax.ensure_compile_time_eval():
            values = np.asarray(inner.enumerate_support(expand=False))
    except (NotImplementedError, jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return None
    return values.reshape(len(values), *inner.event_shape)
