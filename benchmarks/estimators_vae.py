"""Gradient estimators on a VAE with 200 binary latents: variance along one trajectory, and equal wall time.

    PROBGEN_DATA=/path/to/data python benchmarks/estimators_vae.py [--quick] [--json FILE]

After DisARM (Dong, Mnih, Tucker 2020), arXiv:2006.10680, and REBAR (Tucker et al. 2017), arXiv:1703.07370: one layer of
200 Bernoulli latents with learned prior logits, a linear decoder 200-784 and a linear encoder 784-200, batches of 50.
Theirs are 1e6 steps of Adam at 1e-4 on dynamically binarized digits (the prior by SGD at 1e-2); here it is Adam at 1e-3
for everything, a few thousand or ten thousand steps, on Larochelle's static binarization. The pixels' means are
subtracted from the encoder's input and are the decoder's first bias; the decoder takes 2z − 1. KL in closed form.

Contenders: the score function alone; with a moving average; with a learned baseline (784-100-1, tanh, on top of a
moving average: NVIL, arXiv:1402.0030); leave-one-out.

Measured: (1) at points of ONE trajectory, steered by leave-one-out, the variance of the gradient of the mean −ELBO of
the rows (nats) by the encoder's 157,000 params, every contender with two particles, at one fixed minibatch of 50
training rows: the estimator's variance alone. Averages and baselines have been brought along. (2) The test bound
that each contender reaches alone in equal wall time, with as few particles as it needs (two for leave-one-out, else
one). The contenders take turns of some seconds, so that a busy machine slows all of them alike.

The figure is written to docs/figures/vae_estimators.png.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
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

import probgen
from probgen.inference.estimators import Estimator, Learned, LeaveOneOut, MovingAverage, ScoreFunction, use
from probgen.inference.laboratory import gradient_report, shared_trajectory
from probgen.inference.objectives import ELBO
from probgen.networks import MLP, Linear

Choices: TypeAlias = Mapping[str, Mapping[str, Estimator]]
BATCH, LATENTS, PIXELS, RATE, CHUNK = 50, 200, 784, 1e-3, 100
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "vae_estimators.png"


def binarized_mnist() -> tuple[Array, Array]:
    """The training rows [50_000, 784] and the test rows [10_000, 784], bits as uint8."""
    folder = os.environ.get("PROBGEN_DATA")
    if not folder:
        sys.exit("set PROBGEN_DATA to the folder with binarized_mnist_static.npz")
    data = np.load(Path(folder) / "binarized_mnist_static.npz", allow_pickle=False)
    unpack = lambda name: jnp.asarray(np.unpackbits(data[name], axis=-1)[:, :PIXELS])
    return unpack("train_packed"), unpack("test_packed")


class VAE:
    """The program: `model(x)` and `guide(x)` take all rows, of which the plate draws some, or one batch."""

    def __init__(self, train: Array, key: Array):
        encoder_key, decoder_key, baseline_key = jax.random.split(key, 3)
        self.rows, self.mean = len(train), jnp.asarray(np.asarray(train).mean(0), float)
        self.encoder = Linear(PIXELS, LATENTS, key=encoder_key)
        p = jnp.clip(self.mean, 1e-3, 1 - 1e-3)
        decoder = Linear(LATENTS, PIXELS, key=decoder_key)
        self.decoder = eqx.tree_at(lambda d: d.bias, decoder, jnp.log(p) - jnp.log1p(-p))
        self.baseline = MLP(PIXELS, 1, hidden=(100,), activation=jnp.tanh, key=baseline_key)

    def batch(self, x: Array) -> Array:
        return (numpyro.subsample(x, event_dim=1) if len(x) == self.rows else x).astype(float)

    def likelihood(self, decoder: Any, z: Array) -> dist.Distribution:
        return dist.Bernoulli(logits=probgen.core.vectorize(decoder, 1)(2.0 * z - 1.0)).to_event(1)

    def posterior(self, encoder: Any, x: Array) -> dist.Distribution:
        return dist.Bernoulli(logits=probgen.core.vectorize(encoder, 1)(x - self.mean)).to_event(1)

    def model(self, x: Array) -> None:
        decoder = probgen.module("decoder", self.decoder)
        prior = numpyro.param("prior", jnp.zeros(LATENTS))
        with numpyro.plate("data", self.rows, subsample_size=BATCH):
            z = numpyro.sample("z", dist.Bernoulli(logits=prior).to_event(1))
            numpyro.sample("x", self.likelihood(decoder, z), obs=self.batch(x))

    def guide(self, x: Array) -> None:
        encoder = probgen.module("encoder", self.encoder)
        with numpyro.plate("data", self.rows, subsample_size=BATCH):
            numpyro.sample("z", self.posterior(encoder, self.batch(x)))

    def contenders(self) -> Choices:
        learned = Learned(self.baseline, inputs=lambda x: self.batch(x) - self.mean, center=MovingAverage())
        return {
            "score function": {"z": ScoreFunction()},
            "moving average": {"z": ScoreFunction(MovingAverage())},
            "learned baseline": {"z": ScoreFunction(learned)},
            "leave-one-out": {"z": LeaveOneOut()},
        }

    def bounds(self, params: Mapping[str, Any], x: Array, key: Array, samples: int) -> tuple[Array, Array]:
        """(ELBO, importance-weighted bound) of each row, nats, both from so many samples."""
        encoder = probgen.from_params(dict(params), "encoder", self.encoder)
        decoder = probgen.from_params(dict(params), "decoder", self.decoder)
        prior = dist.Bernoulli(logits=params["prior"]).to_event(1)

        def block(inputs: tuple[Array, Array]) -> tuple[Array, Array]:
            key, rows = inputs
            rows = rows.astype(float)
            q = self.posterior(encoder, rows)
            z = q.sample(key, (samples,))
            log_w = self.likelihood(decoder, z).log_prob(rows) + prior.log_prob(z) - q.log_prob(z)
            return log_w.mean(0), jax.nn.logsumexp(log_w, 0) - jnp.log(samples)

        blocks = x.reshape(-1, min(100, len(x)), PIXELS)
        elbo, weighted = lax.map(block, (jax.random.split(key, len(blocks)), blocks))
        return elbo.ravel(), weighted.ravel()


def variances(vae: VAE, train: Array, steps: int, points: int, replicates: int, contenders: Choices) -> Any:
    """A report on gradients of the mean −ELBO of rows, at one fixed minibatch."""
    trajectory = shared_trajectory(
        jax.random.key(1),
        vae.model,
        use(vae.guide, {"z": LeaveOneOut()}),
        train,
        optimizer=optax.adam(RATE),
        steps=steps,
        every=steps // (points - 1),
        estimators=contenders,
        objective=ELBO(2),
    )
    fixed = train[jax.random.choice(jax.random.key(2), len(train), (BATCH,), replace=False)]
    report = gradient_report(
        jax.random.key(3),
        trajectory,
        vae.model,
        vae.guide,
        fixed,
        estimators=contenders,
        num_replicates=replicates,
        num_particles=2,
    )
    for name in ("variance_mean", "variance_max", "variance_total", "work"):  # of one row, not of all rows
        report[name] = report[name] / vae.rows**2
    report["loss"] = report["loss"] / vae.rows
    return report.sel(group="encoder$params")


class Seen(NamedTuple):
    """After so many seconds of training and steps: a bound of the test rows, nats."""

    seconds: float
    steps: int
    elbo: float


class Trainee:
    """A contender's training, which can be stopped and goes on."""

    def __init__(self, vae: VAE, chosen: Mapping[str, Estimator], train: Array, key: Array):
        self.svi = SVI(vae.model, use(vae.guide, chosen), optax.adam(RATE), ELBO())
        self.train, self.seconds, self.steps = train, 0.0, 0
        self.state = jax.tree.map(jnp.copy, self.svi.init(key, train))  # its buffers are donated
        step = lambda train: lambda state, _: (self.svi.update(state, train)[0], None)
        chunk = lambda state, train: lax.scan(step(train), state, length=CHUNK)[0]
        self.chunk = jax.jit(chunk, donate_argnums=0).lower(self.state, train).compile()
        self.curve: list[Seen] = []

    def turn(self, seconds: float) -> None:
        began = time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            self.state = jax.block_until_ready(self.chunk(self.state, self.train))
            self.steps += CHUNK
        self.seconds += spent

    @property
    def params(self) -> dict[str, Any]:
        return {name: self.svi.get_params(self.state)[name] for name in ("encoder$params", "decoder$params", "prior")}


def equal_time(
    vae: VAE, train: Array, test: Array, budget: float, turn: float, seed: int, contenders: Choices
) -> dict[str, Trainee]:
    """Train all contenders in turns, each for `budget` seconds of its own."""
    trainees = {name: Trainee(vae, one, train, jax.random.key(seed)) for name, one in contenders.items()}
    elbo = jax.jit(lambda params, test: jnp.mean(vae.bounds(params, test, jax.random.key(4), 1)[0]))
    names, turns = list(trainees), max(1, round(budget / turn))
    for i in range(turns):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            one = trainees[name]
            one.turn(budget * (i + 1) / turns - one.seconds)
            if (i + 1) % max(1, turns // 12) == 0 or i == turns - 1:
                one.curve.append(Seen(one.seconds, one.steps, float(elbo(one.params, test))))
    return trainees


def judged(vae: VAE, trainees: Mapping[str, Trainee], rows: Mapping[str, Array], samples: int) -> dict[str, Any]:
    """The bounds of each contender, by part of the data: (mean, standard error over rows)."""
    bounds = jax.jit(lambda params, x: vae.bounds(params, x, jax.random.key(5), samples))
    summary = lambda x: (float(jnp.mean(x)), float(jnp.std(x) / np.sqrt(x.size)))
    found: dict[str, Any] = {}
    for name, one in trainees.items():
        found[name] = {"steps": one.steps, "seconds": one.seconds, "curve": [seen._asdict() for seen in one.curve]}
        for part, x in rows.items():
            elbo, weighted = bounds(one.params, x)
            found[name][part] = {"elbo": summary(elbo), "weighted": summary(weighted)}
    return found


def markdown_variances(report: Any) -> str:
    """The mean variance by component, of each contender at each point."""
    head = " | ".join(f"step {int(step)}" for step in report.step.values)
    lines = [f"| estimator | {head} | worst bias z | ms |", "|---" * (len(report.step) + 3) + "|"]
    for name in report.estimator.values:
        one = report.sel(estimator=name)
        cells = " | ".join(f"{float(v):.3g}" for v in one.variance_mean.values)
        lines.append(f"| {name} | {cells} | {float(one.bias_z.max()):.1f} | {1e3 * float(one.seconds):.1f} |")
    lines.append(f"| −ELBO of the minibatch | {' | '.join(f'{v:.1f}' for v in report.loss.values[:, -1])} | | |")
    note = (
        f"{report.num_replicates} gradients each; bias beyond z = {float(report.bias_limit):.1f} would not be chance."
    )
    return "\n".join([*lines, "", note])


def markdown_training(found: Mapping[str, Any], samples: int) -> str:
    """What each contender trained to."""
    parts = [part for part in next(iter(found.values())) if part not in ("steps", "seconds", "curve")]
    head = " | ".join(f"{part}, ELBO (≥) | {part}, {samples} samples (≥)" for part in parts)
    lines = [f"| estimator | steps | {head} |", "|---" * (2 + 2 * len(parts)) + "|"]
    for name, one in found.items():
        both = [one[part][kind] for part in parts for kind in ("elbo", "weighted")]
        cells = " | ".join(f"{mean:.2f} ± {se:.2f}" for mean, se in both)
        lines.append(f"| {name} | {one['steps']:,} | {cells} |")
    return "\n".join(lines)


def draw(report: Any, found: Mapping[str, Any], path: Path) -> None:
    """Variance along the shared trajectory; test bounds along equal wall time."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for name in report.estimator.values:
        left.plot(report.step, report.variance_mean.sel(estimator=name), "o-", ms=3, label=str(name))
        curve = found[str(name)]["curve"]
        right.plot([seen["seconds"] for seen in curve], [seen["elbo"] for seen in curve], "o-", ms=3, label=str(name))
    left.set(yscale="log", xlabel="step of the shared trajectory", ylabel="mean variance of an encoder param")
    right.set(xlabel="seconds of training", ylabel="test ELBO, nats")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    left.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=7_000, help="of the shared trajectory")
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds of training for each contender")
    parser.add_argument("--turn", type=float, default=8.0, help="seconds of a turn")
    parser.add_argument("--samples", type=int, default=100, help="of the importance-weighted bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a smoke test; the figure goes to the temporary folder")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.points, args.replicates, args.budget, args.turn, args.samples = 20, 3, 10, 0.4, 0.2, 5
    return args


def main() -> None:
    args = arguments()
    figure = Path(os.environ.get("TMPDIR", "/tmp")) / FIGURE.name if args.quick else FIGURE
    began = time.perf_counter()
    train, test = binarized_mnist()
    if args.quick:
        train, test = train[:2_000], test[:200]
    vae = VAE(train, jax.random.key(args.seed))
    contenders = vae.contenders()
    if args.quick:  # nearly all of the time is compilation
        contenders = {name: contenders[name] for name in ("learned baseline", "leave-one-out")}
    report: dict[str, Any] = {"command": " ".join(sys.argv), "environment": environment("matplotlib"), **vars(args)}
    print(f"{report['command']}\n{report['environment']}", flush=True)
    trainees = equal_time(vae, train, test, args.budget, args.turn, args.seed, contenders)
    found = judged(vae, trainees, {"train": train[: len(test) // 5], "test": test}, args.samples)
    print(f"\nTrained for {args.budget:g} s each\n\n{markdown_training(found, args.samples)}", flush=True)
    measured = variances(vae, train, args.steps, args.points, args.replicates, contenders)
    print(f"\nMean variance of the encoder's gradient, 2 particles\n\n{markdown_variances(measured)}")
    draw(measured, found, figure)
    report |= {"trained": found, "variances": measured.to_dict(), "seconds": time.perf_counter() - began}
    print(f"\nfigure: {figure}; {report['seconds']:.0f} s in all")
    write_json(args.json, report)


if __name__ == "__main__":
    main()
