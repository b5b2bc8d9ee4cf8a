"""Eight posteriors as numpyro programs, with gold draws: six of posteriordb's, Neal's funnel, and a banana.

Each is the Stan program of posteriordb, line by line, its parameters under the names of the gold draws. Where Stan has
a flat prior, so has the program (`ImproperUniform`); what Stan only declares up to a constant is that here too. The
file with the draws is `posteriordb_subset.npz` in the folder that `PROBGEN_DATA` names (`../shared/data` without).

    python benchmarks/posterior_programs.py [--only NAME]

validates them: means and sds of a NUTS run of each program beside the gold draws', in Monte Carlo standard errors.

References: posteriordb (Magnusson, Torgander, Bürkner, Zhang, Carpenter, Vehtari 2024), arXiv:2407.04967; the funnel:
Slice sampling (Neal 2003); the banana: Adaptive proposal distribution for random walk Metropolis algorithm (Haario,
Saksman, Tamminen 1999).
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, lax
from numpyro.distributions import constraints
from numpyro.infer import MCMC, NUTS, Predictive


class Posterior(NamedTuple):
    """A program of no arguments, and gold draws [N, D] of the parameters `names`."""

    program: Callable[[], None]
    names: tuple[str, ...]
    gold: np.ndarray


def flat(name: str, constraint: Any, shape: tuple[int, ...] = ()) -> Array:
    """A parameter with Stan's flat prior."""
    return numpyro.sample(name, dist.ImproperUniform(constraint, (), shape))


def eight_schools_noncentered(y: Array, sigma: Array, **_: Any) -> None:
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    raw = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0).expand([len(y)]).to_event(1))
    theta = numpyro.deterministic("theta", mu + tau * raw)
    numpyro.sample("y", dist.Normal(theta, sigma).to_event(1), obs=y)


def garch11(y: Array, sigma1: float, **_: Any) -> None:
    mu = flat("mu", constraints.real)
    alpha0 = flat("alpha0", constraints.positive)
    alpha1 = flat("alpha1", constraints.unit_interval)
    # flat on (0, 1 − α₁), whose upper end depends on another parameter
    share = flat("share", constraints.unit_interval)
    numpyro.factor("jacobian", jnp.log1p(-alpha1))
    beta1 = numpyro.deterministic("beta1", (1 - alpha1) * share)

    def step(variance: Array, last: Array) -> tuple[Array, Array]:
        variance = alpha0 + alpha1 * (last - mu) ** 2 + beta1 * variance
        return variance, variance

    first = jnp.asarray(sigma1**2)
    variances = jnp.append(first, lax.scan(step, first, y[:-1], unroll=8)[1])
    numpyro.sample("y", dist.Normal(mu, jnp.sqrt(variances)).to_event(1), obs=y)


def gp_pois_regr(x: Array, k: Array, jitter: float = 1e-10, **_: Any) -> None:
    rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    raw = numpyro.sample("f_tilde", dist.Normal(0.0, 1.0).expand([len(x)]).to_event(1))
    kernel = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x) / rho) ** 2) + jitter * jnp.eye(len(x))
    f = numpyro.deterministic("f", jnp.linalg.cholesky(kernel) @ raw)
    numpyro.sample("k", dist.Poisson(jnp.exp(f)).to_event(1), obs=k)


def low_dim_gauss_mix(y: Array, **_: Any) -> None:
    mu = flat("mu", constraints.ordered_vector, (2,))
    numpyro.factor("mu_prior", dist.Normal(0.0, 2.0).log_prob(mu).sum())
    sigma = numpyro.sample("sigma", dist.HalfNormal(2.0).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5.0, 5.0))
    each = dist.Normal(mu, sigma).log_prob(y[:, None]) + jnp.log(jnp.stack([theta, 1 - theta]))
    numpyro.factor("y", jax.nn.logsumexp(each, 1).sum())


def ar_k(y: Array, K: int, **_: Any) -> None:
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([K]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    lags = jnp.stack([y[K - k - 1 : len(y) - k - 1] for k in range(K)], 1)
    numpyro.sample("y", dist.Normal(alpha + lags @ beta, sigma).to_event(1), obs=y[K:])


def hmm_example(y: Array, K: int, **_: Any) -> None:
    rows = [numpyro.sample(f"theta{k + 1}", dist.Dirichlet(jnp.ones(K))) for k in range(K)]
    mu = flat("mu", constraints.positive_ordered_vector, (K,))
    numpyro.factor("mu_prior", dist.Normal(jnp.array([3.0, 10.0]), 1.0).log_prob(mu).sum())
    log_theta = jnp.log(jnp.stack(rows))
    emission = dist.Normal(mu, 1.0).log_prob(y[:, None])

    def step(gamma: Array, emitted: Array) -> tuple[Array, None]:
        return jax.nn.logsumexp(gamma[:, None] + log_theta, 0) + emitted, None

    last, _ = lax.scan(step, emission[0], emission[1:], unroll=8)
    numpyro.factor("y", jax.nn.logsumexp(last))


def funnel(dim: int = 10) -> None:
    v = numpyro.sample("v", dist.Normal(0.0, 3.0))
    numpyro.sample("x", dist.Normal(0.0, jnp.exp(v / 2)).expand([dim - 1]).to_event(1))


def banana(curvature: float = 0.03, width: float = 10.0) -> None:
    x1 = numpyro.sample("x1", dist.Normal(0.0, width))
    numpyro.sample("x2", dist.Normal(curvature * (x1**2 - width**2), 1.0))


_POSTERIORDB: dict[str, tuple[str, Callable]] = {
    "eight_schools": ("eight_schools-eight_schools_noncentered", eight_schools_noncentered),
    "garch11": ("garch-garch11", garch11),
    "gp_pois_regr": ("gp_pois_regr-gp_pois_regr", gp_pois_regr),
    "low_dim_gauss_mix": ("low_dim_gauss_mix-low_dim_gauss_mix", low_dim_gauss_mix),
    "arK": ("arK-arK", ar_k),
    "hmm_example": ("hmm_example-hmm_example", hmm_example),
}
NAMES = (*_POSTERIORDB, "funnel", "banana")


def load(name: str) -> Posterior:
    """One of the eight."""
    if name not in _POSTERIORDB:
        program = {"funnel": funnel, "banana": banana}[name]
        draws = Predictive(program, num_samples=10_000, parallel=True)(jax.random.key(0))
        return Posterior(program, *as_columns(draws))
    key, program = _POSTERIORDB[name]
    folder = Path(os.environ.get("PROBGEN_DATA", Path(__file__).parents[2] / "shared" / "data"))
    file = np.load(folder / "posteriordb_subset.npz", allow_pickle=False)
    data = json.loads(str(file[f"{key}__data_json"]))
    arrays = {k: jnp.asarray(v, float) if isinstance(v, list) else v for k, v in data.items()}
    names = tuple(str(n) for n in file[f"{key}__params"])
    return Posterior(partial(program, **arrays), names, file[f"{key}__draws"].reshape(-1, len(names)))


def as_columns(draws: dict[str, Any], names: Sequence[str] | None = None) -> tuple[tuple[str, ...], np.ndarray]:
    """Draws {site: [N, ...]} as columns named as Stan names them, such as `theta[1]`; those of `names` if given."""
    columns = {}
    for site, values in draws.items():
        flat_values = np.asarray(values, float).reshape(len(values), -1)
        scalar = np.ndim(values) == 1
        columns |= {site if scalar else f"{site}[{i + 1}]": column for i, column in enumerate(flat_values.T)}
    chosen = tuple(columns) if names is None else tuple(names)
    return chosen, np.stack([columns[name] for name in chosen], 1)


def validate(name: str, num_samples: int = 5000) -> float:
    """Compare NUTS on the program with the gold draws; returns the largest |z| of means and of sds."""
    posterior = load(name)
    kernel = NUTS(posterior.program, target_accept_prob=0.95)
    mcmc = MCMC(kernel, num_warmup=1000, num_samples=num_samples, num_chains=2, chain_method="vectorized",
                progress_bar=False)  # fmt: skip
    mcmc.run(jax.random.key(1))
    grouped = mcmc.get_samples(group_by_chain=True)
    draws = {site: values.reshape(-1, *values.shape[2:]) for site, values in grouped.items()}
    _, ours = as_columns(draws, posterior.names)
    ess = lambda x: numpyro.diagnostics.effective_sample_size(x.reshape(2, num_samples))
    worst = 0.0
    print(f"\n{name}: NUTS, {2 * num_samples} draws, beside {len(posterior.gold)} gold draws")
    for i, parameter in enumerate(posterior.names):
        gold, mine = posterior.gold[:, i], ours[:, i]
        n = min(float(ess(mine)), float(ess((mine - mine.mean()) ** 2)), len(mine))
        sd = gold.std()
        se_sd = 0.5 * ((gold - gold.mean()) ** 2).std() / sd
        both = np.sqrt(1 / n + 1 / len(gold))
        z_mean, z_sd = (mine.mean() - gold.mean()) / (sd * both), (mine.std() - sd) / (se_sd * both)
        worst = max(worst, abs(z_mean), abs(z_sd))
        print(f"{parameter:12s} mean {mine.mean():9.4f} / {gold.mean():9.4f} (z {z_mean:5.2f})   "
              f"sd {mine.std():8.4f} / {sd:8.4f} (z {z_sd:5.2f})   ess {n:6.0f}")  # fmt: skip
    print(f"largest |z|: {worst:.2f} of {2 * len(posterior.names)}; divergences: "
          f"{int(mcmc.get_extra_fields()['diverging'].sum())}")  # fmt: skip
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=NAMES)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for name in [args.only] if args.only else NAMES:
        validate(name)


if __name__ == "__main__":
    main()
