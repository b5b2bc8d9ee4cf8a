"""Density estimation on real data: nats of test rows, of flows beside a Gaussian and a mixture of Gaussians.

    python benchmarks/density.py --data power --model nsf --minutes 60
    python benchmarks/density.py --data power --model nsf --recipe paper    # 400,000 steps, for a GPU
    python benchmarks/density.py --data wine_red                            # every model of that table
    python benchmarks/density.py --data sachs --picture sachs.png

The files are those of `probgen.data`, in the folder that PROBGEN_DATA names (by default ../shared/data).

POWER is prepared and split as published (arXiv:1705.07057). With the recipe "hour", a step is timed first, and the
learning rate falls to 0 over as many steps as fit into `--minutes`. The tables are prepared as for RNADE
(arXiv:1306.0186): columns of fewer than 50 different numbers are dropped, and of two whose correlation exceeds 0.98
the second; what is left gets uniform noise as wide as its rounding, and is standardized; a tenth are test rows, and a
tenth of the others validation rows. Of the Sachs proteins the logarithms are taken, 5 % of noise is added (many
numbers lie on the detector's least), and they are standardized. Of every training the best on validation rows counts.
Flows are then put to the test at 500 test rows: log|det| beside the determinant of the whole Jacobian, and the way from
data to noise and back.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from density_data import NAMES, PROTEINS, SACHS_GRAPH, Rows, load_rows
from jax import Array, lax
from pairing import environment, write_json

import probgen
from probgen import bijectors, distributions, flows, mixtures
from probgen.core import with_key

PUBLISHED = {"power": {"gaussian": -7.74, "real_nvp": 0.17, "maf": 0.24, "nsf": 0.66, "nsf_coupling": 0.64}}
LOOKED_AT = 20_000  # validation rows, at most
HEAD = (
    f"{'':17s}{'test nats ± 2 s.e.':>17s}{'over the Gaussian':>18s}{'published':>11s}{'parameters':>12s}"
    f"{'steps':>10s}{'seconds':>9s}"
)
Make = Callable[[Array], Any]


class Recipe(NamedTuple):
    """How flows are built and trained; `steps` of None are as many as the time allows."""

    layers: int
    hidden: tuple[int, ...]
    dropout: float
    batch: int
    rate: float
    steps: int | None
    every: int  # steps between two looks at the validation rows
    patience: int | None  # looks


RECIPES = {
    "hour": Recipe(10, (128, 128), 0.0, 512, 3e-3, None, 2000, None),  # on two cores
    "paper": Recipe(10, (256, 256), 0.0, 512, 5e-4, 400_000, 5000, None),
    "table": Recipe(4, (64, 64), 0.2, 128, 1e-3, 10_000, 100, 20),
}


def flow_makers(data: str, dim: int, recipe: Recipe) -> dict[str, Make]:
    """The flows by name, each a function of a key."""
    nets = {"hidden": recipe.hidden, "dropout": recipe.dropout}
    # permutations and no matrices between layers: matrices let affine layers send rare test rows very far out
    deep = {"layers": recipe.layers, "permute": True, **nets}
    makers = {
        "real_nvp": functools.partial(flows.real_nvp, dim, **deep),
        "maf": functools.partial(flows.maf, dim, **deep),
        "mixture_flow": functools.partial(flows.mixture_flow, dim, layers=2, **nets),
        "nsf": functools.partial(flows.nsf, dim, passes=None, **deep),
        "nsf_coupling": functools.partial(flows.nsf, dim, **deep),
    }
    if data == "sachs":
        makers["bayes_net"] = functools.partial(flows.bayes_net_flow, SACHS_GRAPH, **nets)
    return {name: lambda key, make=make: make(key=key) for name, make in makers.items()}


class Trained(NamedTuple):
    """A model with what its training took."""

    model: Any
    steps: int
    seconds: float
    note: str = ""


def gaussian(train: np.ndarray) -> Trained:
    """The normal of greatest likelihood, as the flow that it is."""
    began = time.perf_counter()
    flow = flows.affine_flow(train.shape[1], key=jax.random.key(0))
    wide = train.astype(float)
    matrix = bijectors.Triangular.of(jnp.asarray(np.linalg.cholesky(np.cov(wide.T))), jnp.asarray(wide.mean(0)))
    return Trained(flow.replace(bijector=matrix), 0, time.perf_counter() - began)


def gaussian_mixture(rows: Rows, key: Array) -> Trained:
    """The number of components that is best on validation rows, each by expectation–maximization."""
    began, best, steps = time.perf_counter(), None, 0
    train, held_out = jnp.asarray(rows.train[:200_000]), rows.validation[:LOOKED_AT]
    for components in (1, 2, 4, 8, 16, 32, 64):
        mixture = mixtures.gaussian_mixture(train.shape[1], components=components, data=train[:20_000], key=key)
        result = probgen.fit(
            mixtures.EM(mixture), train, steps=200, validation=held_out, validate_every=2, patience=5,
            key=key, progress=False,
        )  # fmt: skip
        steps += len(result.losses)
        if best is None or result.best.loss < best[0]:
            best = result.best.loss, result.model.model, f"{components} components"
    return Trained(best[1], steps, time.perf_counter() - began, best[2])


def optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Adam on clipped gradients, its rate warmed up and let down to 0 as a cosine."""
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.rate, min(1000, steps // 10), steps)
    return optax.chain(optax.clip_by_global_norm(5.0), optax.adam(rate))


def train_flow(make: Make, rows: Rows, recipe: Recipe, minutes: float, key: Array) -> Trained:
    """The flow that is best on validation rows."""
    init_key, fit_key = jax.random.split(key)
    flow = distributions.initialize(make(init_key), jnp.asarray(rows.train[:20_000]))
    steps = recipe.steps or max(100, int(60 * minutes / step_seconds(flow, rows, recipe)))
    began = time.perf_counter()
    result = probgen.fit(
        flow, rows.train, steps=steps, batch_size=recipe.batch, optimizer=optimizer(recipe, steps), key=fit_key,
        validation=rows.validation[:LOOKED_AT], validate_every=recipe.every, patience=recipe.patience,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    note = f"validation {-result.best.loss:.3f} after {result.best.step} steps"
    return Trained(result.model, len(result.losses), time.perf_counter() - began, note)


def step_seconds(flow: Any, rows: Rows, recipe: Recipe, at_least: float = 10.0, *, averaged: bool = False) -> float:
    """Seconds of a training step, over `at_least` seconds of them; `averaged`: with an average of the parameters."""
    params, rest = probgen.partition(flow)
    batches = min(64, len(rows.train) // recipe.batch)
    transform, x = optimizer(recipe, 1000), jnp.asarray(rows.train[: batches * recipe.batch])
    x = x.reshape(-1, recipe.batch, *x.shape[1:])

    def one(i: Array, carry: Any) -> Any:
        params, state, average = carry
        model = lambda params: with_key(probgen.combine(params, rest), jax.random.key(i))
        loss = lambda params: -jnp.mean(model(params).log_prob(x[i % len(x)]))
        updates, state = transform.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        return params, state, optax.incremental_update(params, average, 1e-3) if averaged else average

    run = jax.jit(lambda carry, steps: lax.fori_loop(0, steps, one, carry))
    steps, took, start = 1, 0.0, (params, transform.init(params), params if averaged else None)
    jax.block_until_ready(run(start, steps))
    while took < at_least:
        steps = max(2 * steps, int(0.7 * at_least * steps / max(took, 1e-3))) if took else 20
        began = time.perf_counter()
        jax.block_until_ready(run(start, steps))
        took = time.perf_counter() - began
    return took / steps


def log_likelihoods(model: Any, x: np.ndarray) -> np.ndarray:
    """log p of each row, in nats."""
    return np.asarray(jax.jit(lambda model, x: lax.map(model.log_prob, x, batch_size=2048))(model, x), float)


def check(flow: Any, x: Array) -> str:
    """The claim at rows x: how far log|det| is from autodiff's whole Jacobian, and x from its image's image; a median
    and the worst."""

    def one(x: Array) -> tuple[Array, Array]:
        z, log_det = flow.bijector.inverse_and_log_det(x)
        whole = jnp.linalg.slogdet(jax.jacobian(flow.bijector.inverse)(x))[1]
        return jnp.abs(log_det - whole), jnp.abs(flow.bijector.forward(z) - x).max()

    say = lambda gaps: f"{float(jnp.median(gaps)):.0e} to {float(jnp.max(gaps)):.0e}"
    of_det, of_round_trip = jax.jit(lambda x: lax.map(one, x))(x)
    return f"log|det| off by {say(of_det)}, round trip by {say(of_round_trip)}"


def report(name: str, data: str, trained: Trained, nats: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Print a line, with the difference to the Gaussian paired row by row; and the same for JSON."""
    mean_and_error = lambda x: (float(x.mean()), float(2 * x.std(ddof=1) / np.sqrt(len(x))))
    (mean, error), (gain, gain_error) = mean_and_error(nats), mean_and_error(nats - reference)
    size = probgen.core.count_parameters(trained.model)
    published = PUBLISHED.get(data, {}).get(name)
    print(
        f"{name:17s}{mean:9.3f} ± {error:.3f}{gain:10.3f} ± {gain_error:.3f}"
        f"{'' if published is None else published:>11}{size:12,d}{trained.steps:10,d}{trained.seconds:9.0f}"
        f"  {trained.note}",
        flush=True,
    )
    return {
        "nats": mean, "two_se": error, "over_gaussian": gain, "over_gaussian_two_se": gain_error,
        "published": published, "parameters": size, "steps": trained.steps, "seconds": trained.seconds,
        "note": trained.note,
    }  # fmt: skip


def draw_sachs(path: str, models: dict[str, Any], x: np.ndarray) -> None:
    """The graph, and the Jacobians' zeros of the Bayes net and of the MAF beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from probgen import plotting

    figure, axes = plt.subplots(1, 1 + len(models), figsize=(4.6 * (1 + len(models)), 4.6), layout="constrained")
    title = plotting.graph(SACHS_GRAPH, names=PROTEINS, ax=axes[0]).get_title()
    axes[0].set_title(f"the graph of Sachs et al.: {title}")
    for ax, (name, model) in zip(axes[1:], models.items()):
        jacobian = jax.vmap(jax.jacobian(model.bijector.inverse))(jnp.asarray(x[:200]))
        plotting.jacobian_zeros(jacobian, adjacency=SACHS_GRAPH, names=PROTEINS, ax=ax)
        ax.set_title(f"{name}, |∂z/∂x|: {ax.get_title()}", fontsize="small")
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def choices() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=NAMES, default="power")
    parser.add_argument("--model", nargs="*", metavar="NAME", help="by default every one; the Gaussian always")
    parser.add_argument("--recipe", choices=RECIPES, help='"hour" for power, else "table"')
    parser.add_argument("--minutes", type=float, default=60.0, help='of a training by the recipe "hour"')
    parser.add_argument("--rate", type=float, help="the greatest learning rate, instead of the recipe's")
    parser.add_argument("--layers", type=int, help="instead of the recipe's")
    parser.add_argument("--hidden", type=int, nargs="+", help="widths, instead of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", metavar="FILE", help="of the Sachs graph and the Jacobians")
    parser.add_argument("--json", metavar="FILE")
    return parser


def main() -> None:
    parser = choices()
    args = parser.parse_args()
    recipe = RECIPES[args.recipe or ("hour" if args.data == "power" else "table")]
    changes = {"rate": args.rate, "layers": args.layers, "hidden": args.hidden and tuple(args.hidden)}
    recipe = recipe._replace(**{name: value for name, value in changes.items() if value})
    rows, key = load_rows(args.data), jax.random.key(args.seed)
    makers = flow_makers(args.data, rows.train.shape[1], recipe)
    trainings = {
        "gaussian": lambda: gaussian(rows.train),
        "gaussian_mixture": lambda: gaussian_mixture(rows, key),
        **{name: lambda make=make: train_flow(make, rows, recipe, args.minutes, key) for name, make in makers.items()},
    }
    names = args.model or list(trainings)
    if not trainings.keys() >= set(names):
        parser.error(f"--model: expected some of {', '.join(trainings)}, got {' '.join(names)}")
    print(f"{args.data}, rows: {', '.join(f'{len(part):,} {name}' for name, part in rows._asdict().items())}; {recipe}")
    print(HEAD, flush=True)
    found, models, reference = {}, {}, None
    for name in dict.fromkeys(["gaussian", *names]):
        trained = trainings[name]()
        nats = log_likelihoods(trained.model, rows.test)
        reference = nats if reference is None else reference
        if trained.steps and isinstance(trained.model, distributions.Transformed):
            trained = trained._replace(note=f"{trained.note}; {check(trained.model, jnp.asarray(rows.test[:500]))}")
        found[name], models[name] = report(name, args.data, trained, nats, reference), trained.model
    if args.picture:
        draw_sachs(args.picture, {name: models[name] for name in ("bayes_net", "maf") if name in models}, rows.test)
    settings = {"data": args.data, "seed": args.seed, **recipe._asdict()}
    write_json(args.json, {"environment": environment(), "settings": settings, "models": found})


if __name__ == "__main__":
    main()
