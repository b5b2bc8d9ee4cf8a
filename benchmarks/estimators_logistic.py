"""Gradient estimators on Bayesian logistic regression: variance along one trajectory, and what each trains to.

    PROBGEN_DATA=/path/to/data python benchmarks/estimators_logistic.py [--quick] [--json FILE]

After section 8 of Monte Carlo Gradient Estimation in Machine Learning (Mohamed, Rosca, Figurnov, Mnih 2020),
arXiv:1906.10652: UCI breast cancer (569 rows, 30 standardised features and an intercept), weights ~ Normal(0, 1), a
mean-field Gaussian guide that starts as the prior, minibatches of 32 rows, 50 posterior samples a step, KL in closed
form, 5,000 steps, a learning rate of 1e-3 with cosine decay. Theirs is plain gradient descent; here it is Adam.

Measured: (1) at points of ONE trajectory, steered by the pathwise estimator, the variance of the gradient of −ELBO (for
all 569 rows, in nats) with 50 samples, mean and maximum over the 31 components of `loc` and of `log_scale`; once with
new minibatches in every replicate, and once with all rows, where only the estimator's own variance is left; (2) the
ELBO of all rows that each estimator reaches when it trains alone.

The figure is written to docs/figures/logistic_variance.png.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from jax import Array, lax
from numpyro.infer import SVI
from pairing import environment, write_json

from probgen.inference.estimators import (
    Estimator,
    LeaveOneOut,
    MovingAverage,
    OptimalCoefficient,
    Pathwise,
    ScoreFunction,
    StickingTheLanding,
    use,
)
from probgen.inference.laboratory import gradient_report, shared_trajectory
from probgen.inference.objectives import ELBO

BATCH, SAMPLES, RATE = 32, 50, 1e-3
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "logistic_variance.png"
Choices: TypeAlias = Mapping[str, Mapping[str, Estimator]]
CONTENDERS: Choices = {
    "score function": {"w": ScoreFunction()},
    "score, moving average": {"w": ScoreFunction(MovingAverage())},
    "leave-one-out": {"w": LeaveOneOut()},
    "optimal coefficient": {"w": ScoreFunction(OptimalCoefficient())},
    "pathwise": {"w": Pathwise()},
    "sticking the landing": {"w": StickingTheLanding()},
}
SAMPLED_KL = "pathwise, sampled KL"  # the same estimator with another objective


def breast_cancer() -> tuple[Array, Array]:
    """Standardised features and an intercept [569, 31]; labels 0 or 1 [569]."""
    folder = os.environ.get("PROBGEN_DATA")
    if not folder:
        sys.exit("set PROBGEN_DATA to the folder with uci_classification_small.npz")
    data = np.load(Path(folder) / "uci_classification_small.npz", allow_pickle=False)
    x, y = data["breast_cancer_x"], data["breast_cancer_y"]
    x = (x - x.mean(0)) / x.std(0)
    return jnp.asarray(np.column_stack([x, np.ones(len(x))]), float), jnp.asarray(y, float)


def regression(batch: int) -> Callable[[Array, Array], None]:
    """The model, on minibatches of so many rows."""

    def model(x: Array, y: Array) -> None:
        w = numpyro.sample("w", dist.Normal(jnp.zeros(x.shape[1]), 1.0).to_event(1))
        with numpyro.plate("data", len(x), subsample_size=batch) as rows:
            numpyro.sample("y", dist.Bernoulli(logits=x[rows] @ w), obs=y[rows])

    return model


def guide(x: Array, y: Array) -> None:
    loc = numpyro.param("loc", jnp.zeros(x.shape[1]))
    log_scale = numpyro.param("log_scale", jnp.zeros(x.shape[1]))
    numpyro.sample("w", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))


def adam(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(RATE, steps))


def variances(
    data: tuple[Array, Array], steps: int, points: int, replicates: int, contenders: Choices, batches: Sequence[int]
) -> dict[str, Any]:
    """Reports along one trajectory, with batches of so many rows that are new in each replicate."""
    trajectory = shared_trajectory(
        jax.random.key(0),
        regression(BATCH),
        use(guide, {"w": Pathwise()}),
        *data,
        optimizer=adam(steps),
        steps=steps,
        every=steps // (points - 1),
        estimators=contenders,
        objective=ELBO(SAMPLES),
    )
    report = lambda batch: gradient_report(
        jax.random.key(1),
        trajectory,
        regression(batch),
        guide,
        *data,
        estimators={**contenders, SAMPLED_KL: ELBO(SAMPLES, analytic_kl=False)},
        num_replicates=replicates,
        objective=ELBO(SAMPLES),
    )
    return {f"minibatches of {b}" if b < len(data[0]) else "all rows": report(b) for b in batches}


def trained(data: tuple[Array, Array], steps: int, seeds: int, contenders: Choices) -> dict[str, dict[str, float]]:
    """The ELBO of all rows, in nats, that each estimator reaches alone: its mean and standard error over seeds."""
    loss = lambda params: ELBO(10_000).loss(jax.random.key(9), params, regression(len(data[0])), guide, *data)
    bound = jax.jit(jax.vmap(loss))
    found = {}
    for name, chosen in contenders.items():
        svi = SVI(regression(BATCH), use(guide, chosen), adam(steps), ELBO(SAMPLES))

        def train(key: Array, svi: SVI = svi) -> dict[str, Array]:
            step = lambda state, _: (svi.update(state, *data)[0], None)
            return svi.get_params(lax.scan(step, svi.init(key, *data), length=steps)[0])

        params = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(2), seeds))
        elbos = -bound({site: params[site] for site in ("loc", "log_scale")})
        error = float(jnp.std(elbos, ddof=1) / np.sqrt(seeds)) if seeds > 1 else float("nan")
        found[name] = {"elbo": float(jnp.mean(elbos)), "se": error}
    return found


def markdown(report: Any) -> str:
    """Mean and maximum of the variance by component at the first, the middle and the last point."""
    places = [0, len(report.step) // 2, -1]
    head = [f"{group}, step {int(report.step[i])}" for group in report.group.values for i in places]
    lines = ["| estimator | " + " | ".join(head) + " | worst bias z | ms |", "|---" * (len(head) + 3) + "|"]
    for name in report.estimator.values:
        one = report.sel(estimator=name)
        at = lambda group, i, one=one: one.sel(group=group).isel(step=i)
        cells = [
            f"{float(at(group, i).variance_mean):.3g} / {float(at(group, i).variance_max):.3g}"
            for group in report.group.values
            for i in places
        ]
        z, ms = float(one.bias_z.max()), 1e3 * float(one.seconds)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {z:.1f} | {ms:.2f} |")
    note = f"Mean / maximum over components; {report.num_replicates} gradients; bias beyond z = "
    return "\n".join([*lines, "", note + f"{float(report.bias_limit):.1f} would not be chance."])


def draw(reports: Mapping[str, Any], path: Path) -> None:
    """The mean variance by component along training: a row of panels for each report, a column for each group."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = next(iter(reports.values())).group.values
    figure, axes = plt.subplots(len(reports), len(groups), figsize=(10, 7), sharex=True, sharey=True, squeeze=False)
    for row, (title, report) in zip(axes, reports.items()):
        for ax, group in zip(row, groups):
            for name in report.estimator.values:
                one = report.variance_mean.sel(estimator=name, group=group)
                ax.plot(report.step, one, label=str(name), lw=1.4, ls="--" if name == SAMPLED_KL else "-")
            ax.set(yscale="log", title=f"{group}, {title}")
            ax.grid(alpha=0.3)
    for ax in axes[-1]:
        ax.set_xlabel("step")
    for ax in axes[:, 0]:
        ax.set_ylabel("mean variance of a component")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--points", type=int, default=11)
    parser.add_argument("--replicates", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=5, help="training runs of each estimator")
    parser.add_argument("--quick", action="store_true", help="a smoke test; the figure goes to the temporary folder")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.points, args.replicates, args.seeds = 20, 3, 50, 2
    return args


def main() -> None:
    args, data = arguments(), breast_cancer()
    figure, contenders, batches = FIGURE, CONTENDERS, [BATCH, len(data[0])]
    if args.quick:  # nearly all of the time is compilation
        contenders, batches = {name: CONTENDERS[name] for name in ("score, moving average", "pathwise")}, [BATCH]
        figure = Path(os.environ.get("TMPDIR", "/tmp")) / FIGURE.name
    began = time.perf_counter()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment("matplotlib"), **vars(args)}
    print(f"{report['command']}\n{report['environment']}")
    reports = variances(data, args.steps, args.points, args.replicates, contenders, batches)
    for title, found in reports.items():
        print(f"\nVariance of the gradient, {title}, {SAMPLES} samples\n\n{markdown(found)}")
        losses = found.loss.sel(estimator="pathwise").values
        print(f"−ELBO along the trajectory: {np.round(losses, 2).tolist()}")
    draw(reports, figure)
    report["variances"] = {title: found.to_dict() for title, found in reports.items()}
    report["trained"] = trained(data, args.steps, args.seeds, contenders)
    print(f"\n| trained by | ELBO of all rows, nats (≥, ± SE of {args.seeds} seeds) |\n|---|---|")
    for name, one in report["trained"].items():
        print(f"| {name} | {one['elbo']:.2f} ± {one['se']:.2f} |")
    report["seconds"] = time.perf_counter() - began
    print(f"\nfigure: {figure}; {report['seconds']:.0f} s in all")
    write_json(args.json, report)


if __name__ == "__main__":
    main()
