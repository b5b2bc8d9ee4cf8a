"""Autoregressive models: what a draw costs with a cache, without, and by fixed-point iteration; and their trade-offs.

    python benchmarks/autoregressive.py --contests draws,trained,steps,table

- `draws`: cached steps, a whole pass for each number, and passes until nothing changes, beside one parallel pass of a
  density: the same draws from the same key.
- `trained`: the passes until nothing changes before and after a short training.
- `steps`: a cached step of convolutions at the beginning and at the end of an image: its cost does not grow.
- `table`: parameters, receptive field and sequential steps by network and number of dimensions.
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from pairing import environment, paired, show, write_json

import probgen
from probgen.autoregressive import (
    Autoregressive,
    char_rnn,
    fixed_point,
    gated_pixel_cnn,
    made,
    pass_by_pass,
    pixel_cnn,
    step_by_step,
    transformer,
    wavenet,
)
from probgen.core import Prefix, count_parameters, sequential

KEY = jax.random.key(0)
DIMS = (64, 256, 1024)


class Case(NamedTuple):
    """A model, how many draws at once, and the least ratio of naive to cached time."""

    name: str
    make: Callable[[], Autoregressive]
    batch: int
    least: float


CASES = [
    Case("transformer, 256 tokens", lambda: transformer(256, 65, key=KEY), 16, 10.0),
    Case("gated PixelCNN, 28×28", lambda: gated_pixel_cnn((28, 28), 2, key=KEY), 16, 20.0),
    Case("PixelCNN, 28×28", lambda: pixel_cnn((28, 28), 2, key=KEY), 16, 20.0),
    Case("WaveNet, 10 layers, 1,024 samples", lambda: wavenet(1024, 256, layers=10, key=KEY), 4, 20.0),
    Case("GRU, 256 characters", lambda: char_rnn(256, 65, key=KEY), 16, 1.0),
    Case("MADE, 784 pixels", lambda: made((784,), 2, hidden=(512, 512), key=KEY), 16, 1.0),
]


@functools.partial(jax.jit, static_argnums=2)
def _draw(model: Autoregressive, key: Array, batch: int) -> Array:
    return model.sample(key, (batch,))


@jax.jit
def _density(model: Autoregressive, x: Array) -> Array:
    return model.log_prob(x)


@functools.partial(jax.jit, static_argnums=2)
def _passes(model: Autoregressive, key: Array, batch: int) -> Array:
    """Passes of the slowest of a batch: all of it is evaluated until that one is done."""
    none = Prefix(model.in_order(model.sample(key) * 0), 0)
    one = lambda key: fixed_point(model, key, none).passes
    return jnp.max(jax.vmap(one)(jax.random.split(key, batch)))


def draws(rounds: int) -> Iterator[dict[str, Any]]:
    """Times by way of drawing, and the agreement of the draws."""
    for case in CASES:
        model = case.make()
        x = _draw(model, KEY, case.batch)
        size = len(model.order)
        ways = {"cached": step_by_step, "naive": pass_by_pass, "fixed point": fixed_point}
        models = {name: model.replace(draw=way) for name, way in ways.items()}
        contenders: dict[str, Callable[[], Array]] = {"one parallel pass": functools.partial(_density, model, x)}
        contenders |= {name: functools.partial(_draw, m, KEY, case.batch) for name, m in models.items()}
        turns = paired(contenders, rounds=rounds, steps=1, warmup=1)
        timings = {name: turns.timing(name, to="cached") for name in contenders}
        show(f"{case.name}, {case.batch} at once", timings, "cached")
        agree = {name: float(jnp.mean(_draw(m, KEY, case.batch) == x)) for name, m in models.items()}
        passes = int(_passes(model, KEY, case.batch))
        in_passes = 1 / timings["one parallel pass"].ratio
        print(f"same numbers: {agree}")
        print(f"naive / cached {timings['naive'].ratio:.1f} (at least {case.least}); cached / one pass {in_passes:.1f}")
        print(f"fixed point: {passes} passes of {size}, {passes / size:.3f} of D (fresh weights)")
        yield {"case": case.name, "naive": timings["naive"].ratio, "in passes": in_passes, "passes": passes / size}


def trained() -> Iterator[dict[str, Any]]:
    """Passes of the fixed point with fresh weights, and once the model knows a sticky Markov chain."""
    for case in CASES:
        model = case.make()
        size, fresh = len(model.order), int(_passes(model, KEY, case.batch))
        passes = int(_passes(_trained(model), KEY, case.batch))
        print(
            f"{case.name:36s}{fresh:6d} passes, trained {passes:6d} of {size:6d}: {passes / size:.3f} of D", flush=True
        )
        yield {"case": case.name, "fresh": fresh / size, "trained": passes / size}


def _trained(model: Autoregressive) -> Autoregressive:
    """After 150 steps on a Markov chain that stays where it is nine times out of ten."""
    levels = int(getattr(model.support.base_constraint, "upper_bound", 1)) + 1
    moves, fresh = jax.random.split(KEY)
    shape = (512, len(model.order))
    new = jax.random.randint(fresh, shape, 0, levels)
    stay = jax.random.bernoulli(moves, 0.9, shape)
    keep = lambda before, at: (jnp.where(at[0], before, at[1]),) * 2
    _, rows = jax.lax.scan(keep, new[:, 0], (stay.T, new.T))
    rows = rows.T.reshape(512, *model.event_shape)
    result = probgen.fit(model, rows, steps=150, batch_size=16, optimizer=optax.adam(2e-3), key=KEY, progress=False)
    return result.model


def steps(rounds: int) -> Iterator[dict[str, Any]]:
    """A cached step at several places."""
    for name, model in {
        "gated PixelCNN": gated_pixel_cnn((28, 28), 2, key=KEY),
        "PixelCNN": pixel_cnn((28, 28), 2, key=KEY),
        "WaveNet": wavenet(784, 2, layers=10, key=KEY),
    }.items():

        @functools.partial(jax.jit, static_argnums=1)
        def run(model: Autoregressive, count: int, start: Array) -> Array:
            network = sequential(model.network)

            def one(cache: Any, i: Array) -> tuple[Any, Array]:
                cache, raw = network.step(cache, jnp.zeros(1, jnp.int32), i)
                return cache, raw.sum()

            return jax.lax.scan(one, network.init(), start + jnp.arange(count))[1]

        places = {f"steps from {start}": start for start in (28, 392, 728)}
        contenders = {n: lambda s=s, m=model: run(m, 56, jnp.array(s)) for n, s in places.items()}
        turns = paired(contenders, rounds=rounds, steps=5)
        first = next(iter(places))
        timings = {n: turns.timing(n, to=first) for n in places}
        show(f"56 cached steps of one {name}", timings, first)
        yield {"steps": name, **{n: t.ratio for n, t in timings.items()}}


def table() -> Iterator[dict[str, Any]]:
    """The notes' trade-offs, made by the models themselves."""
    print(f"\n{'network':20s}{'D':>6s}{'parameters':>12s}{'sees of what comes before':>27s}{'density':>9s}{'draw':>6s}")
    for dim in DIMS:
        side = int(dim**0.5)
        for name, model in {
            "MADE": made((dim,), 2, hidden=(256, 256), key=KEY),
            "GRU": char_rnn(dim, 2, key=KEY),
            "WaveNet": wavenet(dim, 2, key=KEY),
            "PixelCNN": pixel_cnn((side, side), 2, key=KEY),
            "gated PixelCNN": gated_pixel_cnn((side, side), 2, key=KEY),
            "transformer": transformer(dim, 2, key=KEY),
            "transformer, rotary": transformer(dim, 2, rotary=True, key=KEY),
        }.items():
            # the conditional in the middle of the last row, or that of the last number
            last = dim - side // 2 if "Pixel" in name else dim - 1
            seen = _seen(model, last)
            sequential_steps = dim if name == "GRU" else 1
            parameters = count_parameters(model)
            print(
                f"{name:20s}{dim:6d}{parameters:12,d}{seen:>15d} of {last:>8d}{sequential_steps:9d}{dim:6d}", flush=True
            )
            yield {"network": name, "D": dim, "parameters": parameters, "sees": seen, "of": last}


def _seen(model: Autoregressive, place: int) -> int:
    """How many numbers the conditional at a place depends on (`testing.influence` changes all of them at once)."""

    @jax.jit
    def raw(model: Autoregressive, events: Array) -> Array:
        one = lambda x: model.raw(x).reshape(x.size, -1)[place]
        return jax.lax.map(jax.vmap(one), events)

    # batches of one size, so that what differs is not rounding
    flips = jnp.eye(len(model.order), dtype=jnp.int32).reshape(-1, 32, *model.event_shape)
    strong = model.replace(network=jax.tree.map(lambda leaf: 2 * leaf if leaf.ndim > 1 else leaf, model.network))
    moved = np.asarray(raw(strong, flips)) != np.asarray(raw(strong, 0 * flips[:1]))
    return int(moved.any(-1).sum())


def main() -> None:
    """Run the contests that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contests", default="draws,trained,steps,table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    print(environment())
    report: dict[str, Any] = {}
    for contest in options.contests.split(","):
        found = {
            "draws": lambda: draws(options.rounds),
            "trained": trained,
            "steps": lambda: steps(4 * options.rounds),
            "table": table,
        }[contest]()
        report[contest] = list(found)
    write_json(options.json, report)


if __name__ == "__main__":
    main()
