"""A U-Net's training step beside the same one in PyTorch: images of 28×28, batches of 64, denoising loss, Adam.

    python benchmarks/unet_vs_torch.py
    python benchmarks/unet_vs_torch.py --cpu --contenders "probgen, 1 threads;PyTorch, 1 threads"

The network is `UNet((28, 28, 1), 1, context_dim=33, channels=(32, 64, 64))`, 0.8 million parameters, attention at 7×7.
PyTorch holds images as [N, H, W, C], which is its `channels_last`, with its own RMS norms, attention and fused Adam.
Its outputs at our weights are compared first. Contenders run in processes of their own, which take turns: in one
process PyTorch's idle threads slow JAX's. With `--cpu` a step's time is that of the processor, which other programs on
the machine do not lengthen as much. `probgen, k steps a call` is how `fit` runs: so many steps in one call.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from pairing import Turns, environment, paired, show, write_json

import probgen
from probgen.networks import NoiseEmbedding, UNet

BATCH, SIDE, MOST_OF_TORCH = 64, 28, 1.0
CONTENDERS = tuple(
    f"{name}, {n} threads"
    for n in (1, 2)
    for name in ("probgen", "probgen, 10 steps a call", "PyTorch", "PyTorch, compiled")
)
EMBEDDING = NoiseEmbedding()


def network() -> UNet:
    """The network of all contenders, with weights of which none is zero."""
    net = UNet((SIDE, SIDE, 1), 1, context_dim=EMBEDDING.dim, channels=(32, 64, 64), key=jax.random.key(0))
    params, rest = probgen.partition(net)
    keys = jax.random.split(jax.random.key(1), len(params))
    pairs = zip(sorted(params.items()), keys, strict=True)
    return probgen.combine({path: p + 0.02 * jax.random.normal(k, p.shape) for (path, p), k in pairs}, rest)


def images() -> np.ndarray:
    """Batches of images."""
    return np.random.RandomState(0).normal(size=(8, BATCH, SIDE, SIDE, 1)).astype(np.float32)


def probgen_step(chunk: int) -> Callable[[], Any]:
    """A jitted call of `chunk` steps, its state donated."""
    params, rest = probgen.partition(network())
    transform, data = optax.adam(1e-3), jnp.asarray(images())

    def loss(params: Any, x: Array, key: Array) -> Array:
        noise_key, level_key = jax.random.split(key)
        log_snr = jax.random.uniform(level_key, (BATCH,), minval=-7.0, maxval=7.0)
        alpha, sigma = (jnp.sqrt(jax.nn.sigmoid(s))[:, None, None, None] for s in (log_snr, -log_snr))
        noise = jax.random.normal(noise_key, x.shape)
        guess = jax.vmap(probgen.combine(params, rest))(alpha * x + sigma * noise, jax.vmap(EMBEDDING)(log_snr))
        return jnp.mean((guess - noise) ** 2)

    def step(held: Any, i: Array) -> tuple[Any, Array]:
        params, state, key = held
        key, here = jax.random.split(key)
        value, gradient = jax.value_and_grad(loss)(params, data[i % len(data)], here)
        updates, state = transform.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state, key), value

    indices = jnp.arange(chunk)
    steps = jax.jit(
        lambda held: step(held, jnp.int32(0)) if chunk == 1 else lax.scan(step, held, indices), donate_argnums=0
    )
    held = [(params, transform.init(params), jax.random.key(2))]

    def call() -> Array:
        held[0], value = steps(held[0])
        return value

    return call


def torch_network(net: UNet) -> Any:
    """The same network in PyTorch, at the same weights: images [N, H, W, C] and contexts [N, context_dim]."""
    import torch
    from torch import nn
    from torch.nn import functional

    tensor = lambda x: torch.from_numpy(np.array(x))
    normed = lambda h: functional.rms_norm(h, h.shape[-1:], eps=1e-6)

    def linear(layer: Any) -> Any:
        made = nn.Linear(*layer.weight.shape[::-1])
        made.weight.data, made.bias.data = tensor(layer.weight), tensor(layer.bias)
        return made

    class Convolution(nn.Module):
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.stride = layer.stride
            kernel = tensor(layer.kernel).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
            self.kernel, self.bias = nn.Parameter(kernel), nn.Parameter(tensor(layer.bias))

        def forward(self, x: Any) -> Any:
            x, padding = x.permute(0, 3, 1, 2), 1
            if self.stride == 2 and x.shape[-1] % 2 == 0:
                x, padding = functional.pad(x, (0, 1, 0, 1)), 0
            return functional.conv2d(x, self.kernel, self.bias, self.stride, padding).permute(0, 2, 3, 1)

    class Attention(nn.Module):
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.inwards, self.outwards, self.heads = linear(layer.inwards), linear(layer.outwards), layer.heads

        def forward(self, h: Any) -> Any:
            places = self.inwards(normed(h).flatten(1, 2))
            q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in places.chunk(3, -1))
            y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return h + self.outwards(y).view(h.shape)

    class Block(nn.Module):
        def __init__(self, block: Any) -> None:
            super().__init__()
            self.into, self.film, self.out = Convolution(block.into), linear(block.film), Convolution(block.out)
            self.across = nn.Identity() if block.across is None else linear(block.across)
            self.attention = nn.Identity() if block.attention is None else Attention(block.attention)

        def forward(self, h: Any, embedded: Any) -> Any:
            scale, shift = self.film(embedded)[:, None, None].chunk(2, -1)
            inner = torch.addcmul(shift, 1 + scale, normed(self.into(functional.silu(normed(h)))))
            return self.attention(self.across(h) + self.out(functional.silu(inner)))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            stages = lambda blocks: nn.ModuleList(nn.ModuleList(map(Block, stage)) for stage in blocks)
            self.first, self.second = linear(net.embedding.into), linear(net.embedding.out)
            self.into, self.out = Convolution(net.into), Convolution(net.out)
            self.down, self.up, self.middle = stages(net.down), stages(net.up), nn.ModuleList(map(Block, net.middle))
            self.smaller = nn.ModuleList(map(Convolution, net.smaller))
            self.larger = nn.ModuleList(map(linear, net.larger))

        def forward(self, x: Any, context: Any) -> Any:
            embedded = functional.silu(self.second(functional.silu(self.first(context))))
            h, said = self.into(x), []
            for stage, blocks in enumerate(self.down):
                h = self.smaller[stage - 1](h) if stage else h
                for block in blocks:
                    h = block(h, embedded)
                    said.append(h)
            for block in self.middle:
                h = block(h, embedded)
            for stage in reversed(range(len(self.up))):
                for block in self.up[stage]:
                    h = block(torch.cat([h, said.pop()], -1), embedded)
                if stage:
                    larger = self.larger[stage - 1](h).permute(0, 3, 1, 2)
                    h = functional.interpolate(larger, scale_factor=2).permute(0, 2, 3, 1)
            return self.out(functional.silu(normed(h)))

    return Network()


def torch_step(*, compiled: bool, threads: int) -> Callable[[], Any]:
    """The same step in PyTorch."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = torch_network(network())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    data = torch.from_numpy(images())
    frequencies = torch.from_numpy(np.geomspace(np.pi / 20, EMBEDDING.fastest, EMBEDDING.dim // 2).astype(np.float32))

    def loss_of(x: Any) -> Any:
        log_snr = torch.rand(len(x), 1) * 14 - 7
        alpha, sigma = (torch.sigmoid(s).sqrt()[..., None, None] for s in (log_snr, -log_snr))
        noise, angles = torch.randn_like(x), frequencies * log_snr
        context = torch.cat([log_snr / 10, angles.sin(), angles.cos()], -1)
        return (model(alpha * x + sigma * noise, context) - noise).square().mean()

    loss_of, turn = torch.compile(loss_of) if compiled else loss_of, iter(range(10**9))

    def call() -> float:
        loss = loss_of(data[next(turn) % len(data)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return call


def compare() -> float:
    """Return the largest difference of outputs at the same weights, relative to the largest output."""
    import torch

    net, x = network(), images()[0][:4]
    context = np.random.RandomState(1).normal(size=(4, EMBEDDING.dim)).astype(np.float32)
    ours = np.asarray(jax.jit(jax.vmap(net))(x, context))
    with torch.no_grad():
        theirs = torch_network(net)(torch.from_numpy(x), torch.from_numpy(context)).numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def milliseconds(contender: str, steps: int, *, cpu: bool) -> float:
    """The median step of one contender, in this process; with `cpu` in CPU time of all its threads."""
    *how, threads = contender.removesuffix(" threads").split(", ")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(threads) :])
    chunk = 10 if "10 steps a call" in how else 1
    ours = contender.startswith("probgen")
    call = probgen_step(chunk) if ours else torch_step(compiled="compiled" in how, threads=int(threads))
    rounds, clock = max(3, steps // chunk), time.process_time if cpu else time.perf_counter
    turns = paired({contender: call}, rounds=rounds, steps=1, warmup=2, clock=clock)
    return 1e3 * statistics.median(turns.seconds[contender]) / chunk


def step(contenders: tuple[str, ...], rounds: int, steps: int, *, cpu: bool) -> dict[str, Any]:
    """Steps in processes that take turns."""
    seconds: dict[str, list[float]] = {contender: [] for contender in contenders}
    for i in range(rounds):
        for contender in contenders[i % len(contenders) :] + contenders[: i % len(contenders)]:
            command = [sys.executable, __file__, "--steps", str(steps), "--time", contender, *["--cpu"] * cpu]
            printed = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
            seconds[contender].append(1e-3 * float(printed.split()[-1]))
            print(f"load {os.getloadavg()[0]:.1f}: {contender} {1e3 * seconds[contender][-1]:.0f} ms", flush=True)
    turns = Turns(seconds)
    timings = {contender: turns.timing(contender, to=contenders[0]) for contender in contenders}
    show(f"training step{', CPU time' if cpu else ''}", timings, contenders[0])
    best = lambda name: min(t.ms for contender, t in timings.items() if contender.startswith(name))
    ratio = best("probgen") / best("PyTorch")
    print(f"the best of probgen / the best of PyTorch: {ratio:.3f} (at most {MOST_OF_TORCH})")
    return {"ratio": ratio, "timings": {contender: t._asdict() for contender, t in timings.items()}}


def main() -> None:
    """Compare outputs, then time steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contenders", default=";".join(CONTENDERS), help="some of these, between semicolons")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender")
    parser.add_argument("--steps", type=int, default=20, help="steps in each process")
    parser.add_argument("--cpu", action="store_true", help="CPU time")
    parser.add_argument("--time", choices=CONTENDERS, help="print the milliseconds of one contender's step alone")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.time:
        print(milliseconds(options.time, options.steps, cpu=options.cpu))
        return
    print(environment("torch"))
    print(f"outputs at the same weights differ by {compare():.1e} of the largest")
    write_json(options.json, step(tuple(options.contenders.split(";")), options.rounds, options.steps, cpu=options.cpu))


if __name__ == "__main__":
    main()
