"""A variational posterior corrected by importance weights with their tail smoothed, and how far that can be trusted."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer.svi import SVIRunResult

from probgen.core import check_sizes
from probgen.evaluation.posteriors.guide_draws import as_call, draws_of_guide
from probgen.evaluation.posteriors.pareto import largest_k, smoothed_weights
from probgen.inference import FitResult


class Corrected(NamedTuple):
    """Draws of a guide, and the weights that make them draws of the posterior.

    Attributes:
        draws: of the latent sites, `{name: [K, ...]}`.
        weights: smoothed, of sum 1, [K].
        pareto_k: k̂ of the raw weights; above `limit` the posterior lies too far from the guide for them.
        log_evidence: log 1/K Σ w, smoothed, in nats.
    """

    draws: dict[str, Array]
    weights: np.ndarray
    pareto_k: float
    log_evidence: float

    @property
    def limit(self) -> float:
        """What k̂ may be: min(1 − 1/log₁₀ K, 0.7)."""
        return largest_k(len(self.weights))

    @property
    def trusted(self) -> bool:
        """Whether k̂ is below its limit."""
        return self.pareto_k < self.limit

    @property
    def effective_size(self) -> float:
        """1 / Σ w², how many draws of the posterior the weighted ones are worth."""
        return float(1 / np.sum(self.weights**2))

    def expectation(self, function: Callable[[dict[str, Array]], Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return (Σ_k w_k f(z_k), its standard error √Σ_k w_k² (f(z_k) − mean)²).

        Args:
            function: f, of one draw `{site: value}`; numbers in an array.
        """
        values = np.asarray(jax.vmap(lambda draw: jnp.asarray(function(draw)))(self.draws), np.float64)
        weights = self.weights.reshape(-1, *[1] * (values.ndim - 1))
        mean = np.sum(weights * values, 0)
        return mean, np.sqrt(np.sum(weights**2 * (values - mean) ** 2, 0))

    def resample(self, key: Array, num_draws: int) -> dict[str, Array]:
        """Return draws of the posterior, `{site: [num_draws, ...]}`, drawn from those of the guide by their weights.

        Args:
            key: a `jax.random.key`.
            num_draws: how many, with replacement.
        """
        check_sizes(num_draws=num_draws)
        rows = jax.random.choice(key, len(self.weights), (num_draws,), p=jnp.asarray(self.weights))
        return {name: draws[rows] for name, draws in self.draws.items()}

    def __str__(self) -> str:
        judged = "below" if self.trusted else "not below, so that the weights are not to be trusted:"
        return (
            f"k̂ = {self.pareto_k:.2f} ({judged} {self.limit:.2f}), log evidence ≈ {self.log_evidence:.3f} nats, "
            f"{len(self.weights)} draws worth {self.effective_size:.0f}"
        )


def psis(
    program: Callable | FitResult,
    guide: Callable | None = None,
    data: Any = None,
    *,
    params: Mapping[str, Any] | SVIRunResult | None = None,
    num_draws: int = 2000,
    key: Array,
) -> Corrected:
    """Return draws of a guide with Pareto-smoothed importance weights, which correct them to the posterior.

        w_k ∝ p(x, z_k) / q(z_k),   z_k ~ q,   E[f(z) | x] ≈ Σ_k w_k f(z_k)

    The largest weights are replaced by quantiles of the generalized Pareto distribution that is fitted to them, whose
    shape is k̂. A guide that is too narrow, or lies elsewhere, has a k̂ above 0.7, and its draws cannot be corrected.
    Weights are those of all latent sites together, so that many local ones make k̂ large; of a model with latent
    variables for each row, see `pareto_k` of its `log_weights`. log p(x, z) of very many rows is rounded in float32 by
    more than weights can bear: run it under `jax_enable_x64` then.

    Args:
        program: a numpyro program, or the `FitResult` of one, which brings its guide and its params.
        guide: any guide of the program, automatic ones too.
        data: what both are called with: `program(*data)` for a tuple, `program(**data)` for a dict, else
            `program(data)`; nothing where it is None.
        params: `{site: value}` of all `param` sites, or what `SVI.run` returned.
        num_draws: K, at least 25.
        key: a `jax.random.key`.

    Raises ValueError where a `FitResult` is one of a model or has no guide, where the guide does not draw exactly the
    program's latent sites, a param has no value, a plate takes a part of its rows, draws are fewer than 25, or a weight
    is not finite.

    References: Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao, Gabry 2024), arXiv:1507.02646; Yes,
    but Did It Work?: Evaluating Variational Inference (Yao, Vehtari, Simpson, Gelman 2018), arXiv:1802.02538.

    >>> import jax, jax.numpy as jnp, numpyro
    >>> import numpyro.distributions as dist
    >>> def program(x):  # z | x ~ Normal(x / 2, √½)
    ...     z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    ...     numpyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> guide = lambda x: numpyro.sample("z", dist.Normal(0.0, 1.2))
    >>> found = psis(program, guide, jnp.array(2.0), key=jax.random.key(0))
    >>> mean, se = found.expectation(lambda draw: draw["z"])
    >>> bool(found.trusted), bool(abs(mean - 1.0) < 4 * se)
    (True, True)

    A training says by itself how far its guide goes:

    >>> import probgen
    >>> from numpyro.infer.autoguide import AutoNormal
    >>> x, options = jnp.array([2.0]), {"steps": 300, "learning_rate": 0.03, "progress": False}
    >>> result = probgen.fit(program, x, guide=AutoNormal(program), key=jax.random.key(1), **options)
    >>> psis(result, data=x, key=jax.random.key(2)).trusted
    True
    """
    check_sizes(25, num_draws=num_draws)
    program, guide, params = _trained(program, guide, params)
    draws, log_weights = draws_of_guide(key, program, guide, as_call(data), params, num_draws)
    raw = np.asarray(log_weights, np.float64)
    if lost := int((~np.isfinite(raw)).sum()):
        raise ValueError(
            f"program: expected finite densities at the guide's draws, got NaN or infinite weights of {lost} of "
            f"{num_draws} draws"
        )
    smooth, evidence, k = smoothed_weights(raw)
    weights = np.exp(smooth - np.logaddexp.reduce(smooth))
    return Corrected(draws, weights, float(k), float(evidence))


def _trained(
    program: Callable | FitResult, guide: Callable | None, params: Mapping[str, Any] | SVIRunResult | None
) -> tuple[Callable, Callable, Mapping[str, Any]]:
    """Return a program, its guide and its params, out of whatever brings them."""
    if isinstance(program, FitResult):
        if guide is not None or params is not None:
            brought = "guide" if guide is not None else "params"
            raise ValueError(f"{brought}: a FitResult brings its own; give the data as data=")
        if program.source is None:
            raise ValueError(
                f"program: expected the FitResult of a numpyro program, got one of a {type(program.model).__name__}: "
                "pareto_k of its log_weights, where it has them, says the same of each row"
            )
        return _trained(*program.source, program.params)
    if guide is None:
        raise ValueError("guide: expected one that draws the program's latent sites, got none")
    return program, guide, params.params if isinstance(params, SVIRunResult) else params or {}
