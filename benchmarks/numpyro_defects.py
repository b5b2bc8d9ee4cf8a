"""What numpyro's objectives do today on programs that they get wrong, beside the exact gradient and `objectives.ELBO`.

    python benchmarks/numpyro_defects.py [--replicates 20000]

It prints versions and two lines a defect, and never fails: when numpyro mends one, its line says "right". Defect 9 is
its densities' derivative at zero logits. `TraceEnum_ELBO` needs funsor.
"""

import argparse
import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import mask, scale
from numpyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from numpyro.primitives import mutable
from pairing import environment

from probgen.inference.objectives import ELBO, ImportanceWeighted

X = jnp.array([-1.0, 0.2, 1.5, 3.0])
LOGITS = jnp.array([-1.0, 0.3, 0.5, 0.9])


class Case(NamedTuple):
    """A program, its guide and params, the exact loss, and the objective of numpyro's that is in question."""

    name: str
    stock: Any
    model: Callable
    guide: Callable
    params: dict[str, Any]
    exact: Callable[[dict[str, Any]], Any]


def bit(z: Any, logit: Any) -> Any:
    return z * logit - jax.nn.softplus(logit)


def rows_exact(weights: Any = 1.0, prior_weight: Any = 1.0) -> Callable[[dict[str, Any]], Any]:
    def loss(params: dict[str, Any]) -> Any:
        total: Any = 0.0
        for z in (0.0, 1.0):
            log_q, log_p = bit(z, params["logits"]), bit(z, jnp.log(0.3 / 0.7))
            log_x = -0.5 * (X - 1.5 * z) ** 2
            total += jnp.exp(log_q) * (prior_weight * (log_q - log_p) - log_x)
        return jnp.sum(weights * total)

    return loss


def rows(size: int | None = None, hidden: Any = None) -> tuple[Callable, Callable]:
    """A plate of bits with a likelihood each; `size` of a minibatch; `hidden`: a mask of prior and guide."""
    masked = lambda: mask(mask=True if hidden is None else hidden)

    def model() -> None:
        with numpyro.plate("rows", len(X), subsample_size=size) as index:
            with masked():
                z = numpyro.sample("z", dist.Bernoulli(logits=jnp.log(0.3 / 0.7)), infer={"enumerate": "parallel"})
            numpyro.sample("x", dist.Normal(1.5 * z, 1.0), obs=X[index])

    def guide() -> None:
        logits = numpyro.param("logits", LOGITS)
        with numpyro.plate("rows", len(X), subsample_size=size) as index, masked():
            numpyro.sample("z", dist.Bernoulli(logits=logits[index]), infer={"enumerate": "parallel"})

    return model, guide


def mixture() -> Case:
    parts = dist.Normal(jnp.array([-1.0, 1.0]), 0.5)
    make = lambda logits: dist.MixtureSameFamily(dist.Categorical(logits=logits), parts)
    grid = jnp.linspace(-6, 6, 4001)

    def model() -> None:
        z = numpyro.sample("z", dist.Normal(0.0, 2.0))
        numpyro.sample("x", dist.Normal(z, 1.0), obs=0.7)

    def exact(params: dict[str, Any]) -> Any:
        log_q = make(params["logits"]).log_prob(grid)
        log_p = dist.Normal(0.0, 2.0).log_prob(grid) + dist.Normal(grid, 1.0).log_prob(0.7)
        return jnp.sum(jnp.exp(log_q) * (log_q - log_p)) * (grid[1] - grid[0])

    params = {"logits": jnp.array([0.3, -0.2])}
    guide = lambda: numpyro.sample("z", make(numpyro.param("logits", params["logits"])))
    return Case("2  a mixture's weights", Trace_ELBO(), model, guide, params, exact)


def importance_weighted() -> Case:
    """The expected bound of two importance samples, over all pairs of bits."""
    model, guide = rows()

    def exact(params: dict[str, Any]) -> Any:
        total: Any = 0.0
        for pair in itertools.product((0.0, 1.0), repeat=2):
            z = jnp.array(pair)[:, None]
            log_q = bit(z, params["logits"])
            log_w = bit(z, jnp.log(0.3 / 0.7)) - 0.5 * (X - 1.5 * z) ** 2 - log_q
            total += jnp.exp(log_q.sum(0)) * (jax.nn.logsumexp(log_w, 0) - jnp.log(2.0))
        return -jnp.sum(total)

    return Case("6  importance weights", RenyiELBO(0.0, 2), model, guide, {"logits": LOGITS}, exact)


def with_mutable() -> Case:
    model, guide = rows()

    def counting() -> None:
        mutable("count", {"n": jnp.zeros(())})
        guide()

    return Case("7  mutable state", TraceGraph_ELBO(), model, counting, {"logits": LOGITS}, rows_exact())


def von_mises() -> Case:
    grid = jnp.linspace(-jnp.pi, jnp.pi, 4001)[:-1]
    params = {"loc": jnp.array(0.3), "concentration": jnp.array(1.5)}

    def model() -> None:
        angle = numpyro.sample("angle", dist.VonMises(0.0, 1.0))
        numpyro.sample("x", dist.VonMises(angle, 4.0), obs=1.2)

    def guide() -> None:
        p = {name: numpyro.param(name, value) for name, value in params.items()}
        numpyro.sample("angle", dist.VonMises(p["loc"], p["concentration"]))

    def exact(p: dict[str, Any]) -> Any:
        log_q = dist.VonMises(p["loc"], p["concentration"]).log_prob(grid)
        log_p = dist.VonMises(0.0, 1.0).log_prob(grid) + dist.VonMises(grid, 4.0).log_prob(1.2)
        return jnp.sum(jnp.exp(log_q) * (log_q - log_p)) * (grid[1] - grid[0])

    return Case("8  a von Mises guide", Trace_ELBO(), model, guide, params, exact)


def cases() -> list[Case]:
    plain, half, hidden = rows(), rows(2), jnp.array([True, False, True, False])
    params, zero = {"logits": LOGITS}, {"logits": jnp.zeros(4)}
    tripled = tuple(scale(program, 3.0) for program in plain)
    masked = rows_exact(prior_weight=jnp.where(hidden, 1.0, 0.0))
    return [
        Case("1  a Bernoulli guide", Trace_ELBO(), *plain, params, rows_exact()),
        mixture(),
        Case("3a a minibatch", TraceGraph_ELBO(), *half, params, rows_exact()),
        Case("3b handlers.scale(3)", TraceGraph_ELBO(), *tripled, params, rows_exact(3.0)),
        Case("4  a mask", TraceGraph_ELBO(), *rows(hidden=hidden), params, masked),
        Case("5  a minibatch, enumerated", TraceEnum_ELBO(), *half, params, rows_exact()),
        importance_weighted(),
        with_mutable(),
        von_mises(),
        Case("9  logits of zero", TraceGraph_ELBO(), *plain, zero, rows_exact()),
    ]


def gradient(objective: Any, case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean and its standard error."""
    if "mutable" in case.name:  # as SVI calls it for such programs
        loss = lambda p, key: objective.loss_with_mutable_state(key, p, case.model, case.guide)["loss"]
    else:
        loss = lambda p, key: objective.loss(key, p, case.model, case.guide)
    flat = lambda tree: jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])
    one = lambda key: flat(jax.grad(loss)(case.params, key))
    found = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), count)), float)
    return found.mean(0), found.std(0) / np.sqrt(count)


def verdict(objective: Any, case: Case, count: int) -> str:
    exact = np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.grad(case.exact)(case.params))])
    try:
        mean, error = gradient(objective, case, count)
    except Exception as wrong:
        return f"{type(wrong).__name__}: {str(wrong).splitlines()[0][:60] if str(wrong) else ''}"
    z = np.abs(mean - exact) / (error + 1e-5)
    worst = int(np.argmax(z))
    return (
        f"{'right' if z.max() < 5 else 'WRONG':6s} {mean[worst]:8.4f} ± {error[worst]:.4f}  exact {exact[worst]:8.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=20_000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(environment())
    print("the component that is farthest from the exact gradient, in standard errors:\n")
    for case in cases():
        ours = ImportanceWeighted(2) if isinstance(case.stock, RenyiELBO) else ELBO(2)
        print(f"{case.name:28s}{type(case.stock).__name__:18s}{verdict(case.stock, case, args.replicates)}")
        print(f"{'':28s}{'probgen':18s}{verdict(ours, case, args.replicates)}", flush=True)


if __name__ == "__main__":
    main()
