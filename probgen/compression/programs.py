"""A numpyro program of discrete sites as a distribution, which has a density, draws and a code."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.infer.util import log_density

from probgen.distributions import Model
from probgen.distributions.coding import Message, coded, over_lanes


class Sites(Model):
    """All sites of one run of a numpyro program whose values are integers, as one vector, in the order of the program.

        log p(x) = Σ_s log p(x_s | x_1, …, x_{s−1})

    Each site may depend on those before it; its conditional is coded as it is, numbers of one site side by side.

    Args:
        program: a numpyro program, without observations. What it learns comes in by
            `numpyro.handlers.substitute(program, data=params)`.
        args: arrays that it is called with, the same for all events; what is no array (a size, a name) is bound by
            `functools.partial`.
        kwargs: as `args`, by name.

    Raises ValueError where a site is continuous or observed, or the program has none.

    >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
    >>> from probgen.compression import Codec
    >>> def program():
    ...     rain = numpyro.sample("rain", dist.Bernoulli(0.2))
    ...     numpyro.sample("drops", dist.Poisson(jnp.where(rain, 9.0, 0.1)).expand((3,)).to_event(1))
    >>> model = Sites(program)
    >>> x = model.pack({"rain": jnp.array([0, 1]), "drops": jnp.array([[0, 0, 0], [7, 12, 300]])})
    >>> codec = Codec(model, lanes=2)
    >>> model.unpack(codec.decode(codec.encode(x)))["drops"].tolist()
    [[0, 0, 0], [7, 12, 300]]
    """

    pytree_data_fields = ("args", "kwargs")
    pytree_aux_fields = ("program", "shapes")

    def __init__(self, program: Callable[..., Any], *args: Any, **kwargs: Any):
        self.program, self.args, self.kwargs = program, args, kwargs
        names: list[str] = []  # in the program's order, which a dict does not keep under `eval_shape`

        def values() -> list[Array]:
            sites = self._trace({})
            names[:] = sites
            return [site["value"] for site in sites.values()]

        shapes = [tuple(value.shape) for value in jax.eval_shape(values)]
        self.shapes: tuple[tuple[str, tuple[int, ...]], ...] = tuple(zip(names, shapes, strict=True))
        if not self.shapes:
            raise ValueError("program: expected sample sites, got none")
        super().__init__((sum(math.prod(shape) for _, shape in self.shapes),))

    @property
    def support(self) -> constraints.Constraint:
        """The integers from 0; which of them a site takes, its density says."""
        return constraints.independent(constraints.nonnegative_integer, 1)

    def pack(self, values: dict[str, Any]) -> Array:
        """Return the vectors [N, D] of values by site, [N, *site]."""
        parts = [jnp.asarray(values[name]).reshape(-1, math.prod(shape)) for name, shape in self.shapes]
        return jnp.concatenate([part.astype(int) for part in parts], 1)

    def unpack(self, x: Any) -> dict[str, Any]:
        """Return the values by site, [..., *site], of vectors [..., D]."""
        values, first = {}, 0
        for name, shape in self.shapes:
            values[name] = x[..., first : first + math.prod(shape)].reshape(*x.shape[:-1], *shape)
            first += math.prod(shape)
        return values

    def sample_event(self, key: Array) -> Array:
        """Run the program once."""
        sites = self._trace({}, key)
        return self.pack({name: site["value"][None] for name, site in sites.items()})[0]

    def log_prob_event(self, x: Array) -> Array:
        """Return the sum of the sites' log-probabilities."""
        program = handlers.seed(self.program, jax.random.key(0))
        log_p: Array = log_density(program, self.args, self.kwargs, self.unpack(x))[0]
        return log_p

    def push(self, message: Message, x: np.ndarray) -> None:
        """Write events [lanes, D], the last site first."""
        x, codes = np.asarray(x).astype(np.int32), []
        for i, (first, last, shape) in enumerate(self._places()):
            seen = np.where(np.arange(x.shape[1]) < first, x, 0)
            codes.append((_code(self, seen, i), x[:, first:last].reshape(-1, *shape)))
        for code, value in reversed(codes):
            code.push(message, value)

    def pop(self, message: Message) -> np.ndarray:
        """Read events [lanes, D]."""
        x = np.zeros((message.lanes, *self.event_shape), np.int32)
        for i, (first, last, _) in enumerate(self._places()):
            x[:, first:last] = _code(self, x, i).pop(message).reshape(message.lanes, -1)
        return x

    def _places(self) -> list[tuple[int, int, tuple[int, ...]]]:
        ends = np.cumsum([0, *(math.prod(shape) for _, shape in self.shapes)])
        return [(int(a), int(b), shape) for a, b, (_, shape) in zip(ends, ends[1:], self.shapes, strict=False)]

    def _trace(self, values: dict[str, Any], key: Array | None = None) -> dict[str, Any]:
        """Return the sample sites of a run at these values."""
        program = handlers.seed(self.program, jax.random.key(0) if key is None else key)
        program = handlers.substitute(program, data=values)
        sites = {}
        for name, site in handlers.trace(program).get_trace(*self.args, **self.kwargs).items():
            if site["type"] != "sample" or isinstance(site["fn"], numpyro.distributions.Unit):
                continue
            if site["is_observed"] and name not in values:
                raise ValueError(f"program: expected no observations, got one at site {name!r}")
            if not site["fn"].support.is_discrete:
                raise ValueError(f"program: expected sites of integers, got {name!r} on {site['fn'].support}")
            sites[name] = site
        return sites


@partial(jax.jit, static_argnums=2)
def _code(d: Sites, x: Array, i: int) -> Any:
    def one(d: Sites, x: Array) -> Any:
        fn = d._trace(d.unpack(x))[d.shapes[i][0]]["fn"]
        return coded(fn.to_event(len(fn.batch_shape)), ())

    return over_lanes(d, one, x)
