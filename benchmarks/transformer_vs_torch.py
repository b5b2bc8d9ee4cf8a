"""A transformer's training step beside the same one in PyTorch, and characters of Shakespeare.

    python benchmarks/transformer_vs_torch.py --contests step,shakespeare
    python benchmarks/transformer_vs_torch.py --contests shakespeare --recipe gpu
    python benchmarks/transformer_vs_torch.py --contests cpu --recipe dropout

The recipes are nanoGPT's for characters (Karpathy 2022): `cpu` is 4 layers, 4 heads, 128 wide, context 64, batch 12,
2,000 steps without dropout; `gpu` 6 layers, 6 heads, 384 wide, context 256, batch 64, 5,000 steps, dropout 0.2. AdamW,
its rate from 1e-3 to 1e-4 as a cosine after 100 steps, β₂ = 0.99, weight decay 0.1 of matrices, gradients clipped at 1.
`dropout` is 3 layers of 96, context 96, batch 32, dropout 0.2, for the contest `cpu`: a step's CPU time on one core.
The loss on validation text is that of all windows of context + 1 characters that do not overlap, their first character
not counted, so that what is predicted and what is seen is nanoGPT's.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from pairing import Turns, environment, paired, show, write_json

import probgen
from probgen.autoregressive import transformer

MOST_OF_TORCH, MOST_NATS, CHUNK = 1.25, 1.88, 10


class Recipe(NamedTuple):
    """nanoGPT's."""

    layers: int
    heads: int
    width: int
    context: int
    batch: int
    steps: int
    dropout: float
    published: float


RECIPES = {
    "cpu": Recipe(4, 4, 128, 64, 12, 2000, 0.0, 1.88),
    "gpu": Recipe(6, 6, 384, 256, 64, 5000, 0.2, 1.4697),
    "dropout": Recipe(3, 4, 96, 96, 32, 2000, 0.2, float("nan")),
}


def load_text() -> tuple[np.ndarray, np.ndarray, str]:
    """(train, validation) as symbols 0..levels−1, and what they stand for."""
    os.environ.setdefault("PROBGEN_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    data = probgen.data.load("tinyshakespeare")
    return data.train, data.test, data.alphabet


def adamw(steps: int) -> optax.GradientTransformation:
    """The recipes' optimizer."""
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, steps, 1e-4)
    is_matrix = lambda path, leaf: leaf.ndim - ("blocks" in jax.tree_util.keystr(path)) > 1
    matrices = functools.partial(jax.tree_util.tree_map_with_path, is_matrix)
    decayed = optax.adamw(rate, b2=0.99, weight_decay=0.1, mask=matrices)
    return optax.chain(optax.clip_by_global_norm(1.0), decayed)


def model_of(recipe: Recipe, levels: int, length: int, key: Array) -> Any:
    """The recipe's transformer of windows of so many symbols."""
    return transformer(
        length, levels, width=recipe.width, heads=recipe.heads, layers=recipe.layers, dropout=recipe.dropout, key=key
    )


def probgen_step(recipe: Recipe, levels: int, batches: np.ndarray, chunk: int = 1) -> Callable[[], Any]:
    """A jitted call of `chunk` steps on batches of windows of `context` symbols, its state donated."""
    params, rest = probgen.partition(model_of(recipe, levels, recipe.context, jax.random.key(0)))
    transform = adamw(recipe.steps)

    def step(held: Any, x: Array) -> tuple[Any, Array]:
        params, state, key = held
        key, dropped = jax.random.split(key)

        def loss(params: Any) -> Array:
            model = probgen.with_key(probgen.combine(params, rest), dropped)
            return -jnp.mean(model.log_prob(x)) / recipe.context

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = transform.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state, key), value

    steps = jax.jit(lambda held, x: step(held, x[0]) if chunk == 1 else lax.scan(step, held, x), donate_argnums=0)
    held = [(params, transform.init(params), jax.random.key(1))]
    turn = iter(range(10**9))

    def call() -> Array:
        held[0], value = steps(held[0], batches[[next(turn) % len(batches) for _ in range(chunk)]])
        return value

    return call


def torch_step(recipe: Recipe, levels: int, batches: np.ndarray, *, compiled: bool, threads: int) -> Callable[[], Any]:
    """The same in PyTorch: fused attention, fused AdamW."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(recipe.width), nn.LayerNorm(recipe.width)
            self.inwards, self.outwards = (
                nn.Linear(recipe.width, 3 * recipe.width),
                nn.Linear(recipe.width, recipe.width),
            )
            self.drop = nn.Dropout(recipe.dropout)
            self.up, self.down = nn.Linear(recipe.width, 4 * recipe.width), nn.Linear(4 * recipe.width, recipe.width)

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            split = lambda part: part.view(b, t, recipe.heads, c // recipe.heads).transpose(1, 2)
            q, k, v = map(split, self.inwards(self.first(x)).split(c, -1))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=recipe.dropout)
            x = x + self.drop(self.outwards(y.transpose(1, 2).reshape(b, t, c)))
            return x + self.drop(self.down(functional.gelu(self.up(self.second(x)))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.symbols, self.start = (
                nn.Embedding(levels, recipe.width),
                nn.Parameter(torch.randn(recipe.width) * 0.02),
            )
            self.places = nn.Parameter(torch.randn(recipe.context, recipe.width) * 0.02)
            self.blocks = nn.Sequential(*(Block() for _ in range(recipe.layers)))
            self.norm, self.out = nn.LayerNorm(recipe.width), nn.Linear(recipe.width, levels)
            self.drop = nn.Dropout(recipe.dropout)

        def forward(self, x: Any) -> Any:
            first = self.start.expand(len(x), 1, -1)
            h = torch.cat([first, self.symbols(x[:, :-1])], 1) + self.places
            logits = self.out(self.norm(self.blocks(self.drop(h))))
            return functional.cross_entropy(logits.reshape(-1, levels), x.reshape(-1))

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    loss_of = torch.compile(model) if compiled else model
    data, turn = torch.from_numpy(batches.astype(np.int64)), iter(range(10**9))

    def call() -> float:
        loss = loss_of(data[next(turn) % len(data)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return call


CONTENDERS = ("probgen", *(f"PyTorch{c}, {n} threads" for n in (1, 2) for c in ("", ", compiled")))


# `fit` takes many steps in one call of the device; a call for each gets fresh pages from the system every time
ON_ONE_CORE = ("probgen", f"probgen, {CHUNK} steps a call", "PyTorch, 1 threads", "PyTorch, compiled, 1 threads")


def milliseconds(recipe: Recipe, contender: str, steps: int = 60, *, cpu: bool = False) -> float:
    """The median step of one contender, in this process; with `cpu` in CPU time of all its threads, on one core."""
    if cpu:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    train, _, alphabet = load_text()
    places = np.random.RandomState(0).randint(0, len(train) - recipe.context, (50, recipe.batch))
    batches = train[places[..., None] + np.arange(recipe.context)]
    chunk = CHUNK if "a call" in contender else 1
    if contender.startswith("probgen"):
        call = probgen_step(recipe, len(alphabet), batches, chunk)
    else:
        threads, compiled = int(contender.split()[-2]), "compiled" in contender
        call = torch_step(recipe, len(alphabet), batches, compiled=compiled, threads=threads)
    clock = time.process_time if cpu else time.perf_counter
    turns = paired({contender: call}, rounds=steps // chunk, steps=1, warmup=max(2, 10 // chunk), clock=clock)
    return 1e3 * statistics.median(turns.seconds[contender]) / chunk


def step(name: str, rounds: int, *, cpu: bool = False) -> dict[str, Any]:
    """Steps on the same windows, in processes that take turns: in one process, PyTorch's idle threads slow JAX's."""
    contenders = ON_ONE_CORE if cpu else CONTENDERS
    seconds: dict[str, list[float]] = {contender: [] for contender in contenders}
    for i in range(rounds):
        for contender in contenders[i % len(contenders) :] + contenders[: i % len(contenders)]:
            command = [sys.executable, __file__, "--recipe", name, "--time", contender, *["--cpu"] * cpu]
            printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
            seconds[contender].append(1e-3 * float(printed.split()[-1]))
    turns = Turns(seconds)
    timings = {contender: turns.timing(contender, to="probgen") for contender in contenders}
    show(f"training step{', CPU time on one core' if cpu else ''}, {RECIPES[name]}", timings, "probgen")
    best = min(t.ms for contender, t in timings.items() if contender.startswith("PyTorch"))
    ratio = min(t.ms for contender, t in timings.items() if contender.startswith("probgen")) / best
    print(f"probgen / the best of PyTorch: {ratio:.3f} (at most {1.0 if cpu else MOST_OF_TORCH})")
    return {"ratio": ratio, "timings": {contender: t._asdict() for contender, t in timings.items()}}


def shakespeare(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train as the recipe says, on random windows, and evaluate on the last tenth of the text."""
    train, validation, alphabet = load_text()
    init_key, rows_key, fit_key = jax.random.split(jax.random.key(seed), 3)
    length = recipe.context + 1
    model = model_of(recipe, len(alphabet), length, init_key)
    places = jax.random.randint(rows_key, (recipe.steps * recipe.batch,), 0, len(train) - length)
    windows = train[np.asarray(places)[:, None] + np.arange(length)]
    began = time.perf_counter()
    result = probgen.fit(
        model, windows, steps=recipe.steps, batch_size=recipe.batch, optimizer=adamw(recipe.steps), key=fit_key,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    held_out = validation[: len(validation) // length * length].reshape(-1, length)
    costs = jax.jit(lambda m, x: lax.map(lambda row: m.conditionals(row).log_prob(row)[1:], x, batch_size=64))
    nats = -np.asarray(costs(result.model, held_out), float).mean(-1)
    mean, error = nats.mean(), nats.std(ddof=1) / np.sqrt(len(nats))
    print(
        f"validation {mean:.4f} ± {error:.4f} nats a character after {recipe.steps} steps in {seconds:.0f} s "
        f"(published {recipe.published}; at most {MOST_NATS}), "
        f"{probgen.core.count_parameters(model):,} parameters"
    )
    drawn = probgen.autoregressive.generate(result.model, jax.random.key(1), (3,), temperature=0.8)
    for row in np.asarray(drawn):
        print(repr("".join(alphabet[i] for i in row)))
    return {"nats": mean, "se": error, "seconds": seconds}


def main() -> None:
    """Run the contests that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contests", default="step,shakespeare")
    parser.add_argument("--recipe", choices=RECIPES, default="cpu")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each contender")
    parser.add_argument("--cpu", action="store_true", help="with --time: CPU time on one core")
    parser.add_argument(
        "--time",
        choices=sorted({*CONTENDERS, *ON_ONE_CORE}),
        help="print the milliseconds of one contender's step, and no more",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    options = parser.parse_args()
    recipe, contests = RECIPES[options.recipe], options.contests.split(",")
    if options.time:
        print(milliseconds(recipe, options.time, cpu=options.cpu))
        return
    packages = ("torch",) if {"step", "cpu"} & {*contests} else ()
    print(environment(*packages))
    report: dict[str, Any] = {}
    if "step" in contests:
        report["step"] = step(options.recipe, options.rounds)
    if "cpu" in contests:
        report["cpu"] = step(options.recipe, options.rounds, cpu=True)
    if "shakespeare" in contests:
        report["shakespeare"] = shakespeare(recipe, options.seed)
    write_json(options.json, report)


if __name__ == "__main__":
    main()
