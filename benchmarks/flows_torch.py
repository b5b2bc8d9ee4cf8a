"""zuko's and nflows' flows of the same architectures, in PyTorch.

Both with the number of threads that is the faster in a short trial, and with PyTorch's fused Adam, which is faster than
its default. zuko runs eagerly and through `torch.compile`; nflows, whose splines index by boolean masks, eagerly.
"""

import contextlib
import functools
import itertools
import math
import os
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from flows_architecture import BATCH, BINS, BOUND, RATE, Architecture, Contender

Call = Callable[[], Any]


def flow(
    peer: str, architecture: Architecture, *, seed: int = 0
) -> tuple[torch.nn.Module, Callable[[Any], Any], Callable[[int], Any]]:
    """(module, log_prob, sample)."""
    torch.manual_seed(seed)
    if peer == "zuko":
        module = _zuko(architecture)
        return module, lambda x: module().log_prob(x), lambda n: module().sample((n,))
    module = _nflows(architecture)
    return module, module.log_prob, module.sample


def _zuko(a: Architecture) -> torch.nn.Module:
    """Its `NICE` (whose couplings take any transformer, affine by default) or `MAF`, with the spline of its `NSF`."""
    import zuko

    transformer = {}
    if a.spline:
        univariate = functools.partial(zuko.transforms.MonotonicRQSTransform, bound=BOUND)
        transformer = {"univariate": univariate, "shapes": [(BINS,), (BINS,), (BINS - 1,)]}
    recipe = zuko.flows.NICE if a.coupling else zuko.flows.MAF
    return recipe(a.dim, transforms=a.layers, hidden_features=a.hidden, **transformer)


def _nflows(a: Architecture) -> torch.nn.Module:
    """Its layers, stacked as in its `SimpleRealNVP` and `MaskedAutoregressiveFlow`, but on plain networks, which have
    the two hidden layers of the others (a residual block has two layers itself)."""
    from nflows import transforms
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow

    spline = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND} if a.spline else {}
    if a.coupling:
        kind = (
            transforms.PiecewiseRationalQuadraticCouplingTransform if a.spline else transforms.AffineCouplingTransform
        )
        masks = [[i % 2 == n % 2 for i in range(a.dim)] for n in range(a.layers)]
        conditioner = functools.partial(_conditioner, hidden=a.hidden)
        layers = [kind(torch.tensor(mask).int(), conditioner, **spline) for mask in masks]
    else:
        spline_kind = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
        kind = spline_kind if a.spline else transforms.MaskedAffineAutoregressiveTransform
        one = lambda: kind(a.dim, a.hidden[0], num_blocks=len(a.hidden) - 1, use_residual_blocks=False, **spline)
        layers = [layer for _ in range(a.layers) for layer in (one(), transforms.ReversePermutation(a.dim))]
    return Flow(transforms.CompositeTransform(layers), StandardNormal([a.dim]))


def _conditioner(inputs: int, outputs: int, *, hidden: Sequence[int]) -> torch.nn.Module:
    """nflows' MLP in the place of its residual net: told of a context that is None, and asked for its width."""
    from nflows.nn.nets import MLP

    class Conditioner(MLP):
        hidden_features = hidden[0]

        def forward(self, inputs: Any, context: None = None) -> Any:
            return super().forward(inputs)

    return Conditioner([inputs], [outputs], list(hidden))


def _step(module: torch.nn.Module, loss: Callable[[Any], Any], batches: Sequence[np.ndarray]) -> Call:
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE, fused=True)
    turns = itertools.cycle([torch.from_numpy(x) for x in batches])

    def call() -> Any:
        optimizer.zero_grad()
        value = loss(next(turns))
        value.backward()
        optimizer.step()
        return value.detach()

    return call


def _on_threads(call: Call, threads: int) -> Call:
    def run() -> Any:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return call()

    return run


def at_best_threads(call: Call, *, rounds: int = 5) -> tuple[Call, str]:
    """The call with 1 or 2 threads (or as many as there are cores), whichever is faster in a short trial; in words.

    A number of threads with which a call takes three times as long as with fewer is given up at once.
    """
    cores = os.cpu_count() or 1
    runs = {n: _on_threads(call, n) for n in sorted({1, min(2, cores), cores})}
    medians: dict[int, float] = {}
    for n, run in runs.items():
        run()  # what is compiled, is compiled for each number of threads
        times = [_seconds(run)]
        while len(times) < rounds and times[0] < 3 * min(medians.values(), default=math.inf):
            times.append(_seconds(run))
        medians[n] = statistics.median(times)
    best = min(medians, key=lambda n: medians[n])
    tried = ", ".join(f"{n}: {1e3 * seconds:.1f} ms" for n, seconds in medians.items())
    return runs[best], f"{best} thread{'s' * (best != 1)} ({tried})"


def _seconds(call: Call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """TimeoutError in the block once the time is over."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def steps(
    peer: str, architecture: Architecture, batches: Sequence[np.ndarray], *, compile_limit: float
) -> dict[str, Contender]:
    """The peer's training step, and zuko's compiled one where `torch.compile` succeeds within the limit of seconds."""
    module, log_prob, _ = flow(peer, architecture)
    loss = lambda x: -log_prob(x).mean()
    size = sum(p.numel() for p in module.parameters())
    call, threads = at_best_threads(_step(module, loss, batches))
    found = {peer: Contender(call, size, threads)}
    if peer == "zuko" and compile_limit > 0:
        try:
            call, note = _compiled(architecture, batches, compile_limit)
            found["zuko (compiled)"] = Contender(call, size, note)
        except Exception as error:  # whatever stops PyTorch's compiler is a result to report, not an end of the run
            words = str(error).strip().split("\n")[0]
            print(f"zuko through torch.compile, {architecture}: {type(error).__name__}: {words}", flush=True)
    return found


def _compiled(architecture: Architecture, batches: Sequence[np.ndarray], limit: float) -> tuple[Call, str]:
    """Every number of threads is compiled for anew, and the trial does both: the limit is theirs together."""
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 64  # what follows the 8th version of a function would run eagerly
    module, log_prob, _ = flow("zuko", architecture)
    step = _step(module, torch.compile(lambda x: -log_prob(x).mean()), batches)
    began = time.perf_counter()
    with time_limit(limit), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _on_threads(step, 1)()
        seconds = time.perf_counter() - began
        call, threads = at_best_threads(step)
    return call, f"{threads}, compiled in {seconds:.0f} s"


def sampler(peer: str, architecture: Architecture, *, size: int = BATCH) -> Contender:
    """Draws without a graph of gradients, eagerly: compiled, D passes of each layer would be one long program."""
    module, _, sample = flow(peer, architecture)

    def call() -> Any:
        with torch.no_grad():
            return sample(size)

    best, threads = at_best_threads(call, rounds=2)
    return Contender(best, sum(p.numel() for p in module.parameters()), threads)
