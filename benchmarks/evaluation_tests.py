"""What the tests of samples and posteriors are worth: p-values where nothing differs, and power where something does.

    python benchmarks/evaluation_tests.py

For each test it prints the Kolmogorov–Smirnov distance of 500 p-values from uniform, found where the null hypothesis is
true, with its own p-value; the share of them at or below 0.05; and the share at or below 0.05 of 100 where it is false.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import stats

from probgen.evaluation import (
    classifier_test,
    energy_test,
    expected_coverage,
    memorization,
    mmd_test,
    neural_classifier,
    pit,
    pit_uniformity,
    rank_uniformity,
    tarp,
)

REPLICATES, ALTERNATIVES = 500, 100
ROWS, DIM, SHIFT = 50, 2, 0.5


def of_two_samples(
    test: Callable[..., Any], seed: int, *, shift: float, rows: tuple[int, int], dim: int = DIM
) -> float:
    """The p-value of rows of Normal(0, I) beside rows of Normal(shift, I)."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(rows[0], dim)), rng.normal(size=(rows[1], dim)) + shift
    return test(x, y, num_permutations=199, key=jax.random.key(seed)).p_value


def of_memorization(seed: int, *, copied: float) -> float:
    """The p-value where a share of the draws is a training row and noise of a tenth."""
    rng = np.random.default_rng(seed)
    train, held_out, draws = rng.normal(size=(3, ROWS, DIM))
    count = round(copied * ROWS)
    draws[:count] = train[:count] + 0.1 * draws[:count]
    return memorization(train, held_out, draws).p_value


def of_posteriors(
    function: Callable[..., Any], replicates: int, *, shift: float = 0.0, scale: float = 1.0
) -> np.ndarray:
    """KS p-values of groups of 50 data sets; θ | x ~ Normal(x / 2, √½), moved and scaled by so many of its sds."""
    sd = 0.5**0.5
    found = function(
        lambda x: dist.Normal(x / 2 + shift * sd, scale * sd),
        dist.Normal(0.0, 1.0),
        lambda key, theta: theta + jax.random.normal(key),
        num_datasets=50 * replicates,
        num_draws=999,
        key=jax.random.key(0),
    )
    return rank_uniformity(found.ranks.reshape(50, replicates), 999).p_ks


def of_pit(replicates: int, *, scale: float) -> np.ndarray:
    """KS p-values of groups of 50 rows of Normal(0, scale), under Normal(0, 1)."""
    x = scale * np.random.default_rng(0).normal(size=50 * replicates)
    u = pit(dist.Normal(0.0, 1.0), jnp.asarray(x, jnp.float32), batch_size=len(x))
    return pit_uniformity(np.asarray(u).reshape(50, replicates)).p_ks


def report(name: str, null: Any, alternative: Any, what: str) -> None:
    """One line of the table."""
    null, alternative = np.asarray(null), np.asarray(alternative)
    ks = stats.kstest(null, "uniform")
    print(
        f"{name:<34} KS {ks.statistic:.3f} (p = {ks.pvalue:.2f})   p ≤ 0.05: {np.mean(null <= 0.05):.3f}   "
        f"power {np.mean(alternative <= 0.05):.2f} ({what})",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    logistic = partial(classifier_test, classifier=partial(neural_classifier, hidden=(), steps=100))
    tests = {
        "mmd_test": mmd_test,
        "energy_test": energy_test,
        "classifier_test": classifier_test,
        "… logistic": logistic,
    }
    for name, test in tests.items():
        for rows, dim in (((ROWS, ROWS), DIM), ((30, 80), 20)):
            of = partial(of_two_samples, test, rows=rows, dim=dim)
            null = [of(seed, shift=0.0) for seed in range(REPLICATES)]
            shifted = [of(seed, shift=SHIFT) for seed in range(ALTERNATIVES)]
            report(f"{name}, {rows[0]} and {rows[1]} rows of {dim}", null, shifted, f"mean + {SHIFT}")
    null = [of_memorization(seed, copied=0.0) for seed in range(REPLICATES)]
    copied = [of_memorization(seed, copied=0.3) for seed in range(ALTERNATIVES)]
    report("memorization", null, copied, "30 % near copies")
    for function in (expected_coverage, tarp):
        null = of_posteriors(function, REPLICATES)
        report(function.__name__, null, of_posteriors(function, ALTERNATIVES, scale=0.6), "sd × 0.6")
        report("", null, of_posteriors(function, ALTERNATIVES, shift=0.8), "mean + 0.8 sd")
    report("pit, pit_uniformity", of_pit(REPLICATES, scale=1.0), of_pit(ALTERNATIVES, scale=1.5), "sd × 1.5")


if __name__ == "__main__":
    main()
