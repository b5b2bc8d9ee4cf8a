"""A model of integers as a lossless codec: what it claims of data is how many bits they take."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from probgen.compression.coder import RangeReader, RangeWriter
from probgen.compression.container import Chunk, crc_of, pack, unpack
from probgen.core import check_sizes
from probgen.core.files import to_numpy
from probgen.core.leaves import leaves_by_path
from probgen.core.settings import settings
from probgen.distributions import Distribution
from probgen.distributions.enumeration import levels
from probgen.distributions.events import as_arrays, check_events

_FORMAT = 1


@dataclass(frozen=True)
class CodecReport:
    """What data cost by a codec.

    Attributes:
        items: how many events they are.
        claimed: −log₂ p of all of them, by the model, in bits.
        coded: the bits of the coded chunks.
        file: the bytes of the whole file.
        seconds: that encoding took.
    """

    items: int
    claimed: float
    coded: int
    file: int
    seconds: float

    @property
    def overhead(self) -> float:
        """By how much the coded bits are more than those that the model claimed, as a share of these."""
        return self.coded / self.claimed - 1.0 if self.claimed else math.inf

    def __str__(self) -> str:
        return (
            f"{self.items} items: {self.claimed:.0f} bits claimed, {self.coded} coded ({100 * self.overhead:+.3f} %), "
            f"{self.file} bytes as a file, {self.seconds:.1f} s"
        )


class Codec:
    """A lossless codec of events of integers, by a model that is a product of conditionals.

    Each number is coded by the conditional that the model's `steps()` have for it, so that an event costs −log₂ p(x)
    bits. Encoding runs the decoder's own program (one jitted step, so many events side by side), since no other gives
    the same probabilities to the last bit: a whole pass of the network does not. A file is read by the same model, on
    the same kind of machine and versions; another one is refused.

    Args:
        model: of batch shape (), over integers of finitely many levels, with `steps()` and `in_order(x)`
            (`core.Steps`), as an `Autoregressive` has.
        lanes: how many events are coded side by side.
        chunk: how many events a chunk has, at most; it is checked, and takes memory, by itself.

    Raises ValueError where the model has no steps, or its numbers are no integers of finitely many levels.

    References: Language Modeling Is Compression (Delétang et al. 2024), arXiv:2309.10668; Understanding Entropy Coding
    With Asymmetric Numeral Systems (Bamler 2022), arXiv:2201.01741.

    >>> import jax, numpy as np, probgen
    >>> model = probgen.autoregressive.made((4,), 3, hidden=(8,), key=jax.random.key(0))
    >>> codec, x = Codec(model, lanes=4), np.array([[0, 1, 2, 0], [2, 2, 1, 1]])
    >>> codec.decode(codec.encode(x)).tolist()
    [[0, 1, 2, 0], [2, 2, 1, 1]]
    """

    def __init__(self, model: Distribution, *, lanes: int = 64, chunk: int = 4096):
        check_sizes(lanes=lanes, chunk=chunk)
        if not isinstance(model, Distribution) or not all(hasattr(model, name) for name in ("steps", "in_order")):
            raise ValueError(
                f"model: expected one that is a product of conditionals, with steps() and in_order(x), got a "
                f"{type(model).__name__}"
            )
        if model.batch_shape:
            raise ValueError(f"model: expected batch shape (), got {model.batch_shape}")
        found = levels(model.support)
        if found is None:
            raise ValueError(
                f"model: expected integers of finitely many levels, got {model.support}; put reals on levels first"
            )
        self.model, self.lanes, self.chunk = model, lanes, chunk
        self._low, self._levels = found
        self._size = math.prod(model.event_shape)
        self._start = jax.jit(lambda model: jax.vmap(lambda _: model.steps().init())(jnp.arange(lanes)))
        self._step = jax.jit(partial(_step, values=self._low + np.arange(self._levels)))
        self._log_prob = jax.jit(lambda model, x: model.log_prob(x))
        # where in the event the i-th number of the order lies
        places = jnp.arange(self._size).reshape(model.event_shape)
        self._places = np.asarray(model.in_order(places))

    def encode(self, x: Any) -> bytes:
        """Return the file of events [N, *event_shape].

        Args:
            x: integers; no events at all are a file, too.

        Raises ValueError where an event is none of the model's.
        """
        return self._encode(x)[0]

    def decode(self, data: bytes) -> np.ndarray:
        """Return the events [N, *event_shape] of a file, in the dtype that they had.

        Args:
            data: that `encode` returned.

        Raises ValueError where the file is damaged, of another model, or was written on another kind of machine or by
        other versions: it says which.
        """
        facts, chunks = unpack(data)
        for name, ours in self._identity().items():
            if facts.get(name) != ours:
                raise ValueError(f"the file's {name} is {facts.get(name)!r}, and here it is {ours!r}")
        if facts["lanes"] != self.lanes:  # another program
            return Codec(self.model, lanes=facts["lanes"], chunk=self.chunk).decode(data)
        parts = [np.zeros((0, self._size), np.int32)]
        for number, chunk in enumerate(chunks):
            reader = RangeReader(chunk.data)
            symbols = np.zeros((chunk.items, self._size), np.int32)
            for rows in self._groups(symbols):
                self._run(len(rows), partial(_read, reader, rows))
            if crc_of(symbols) != chunk.crc_of_symbols:
                raise ValueError(f"chunk {number} was decoded to something else: the probabilities here are others")
            parts.append(symbols)
        symbols = np.concatenate(parts) + self._low
        events = np.empty_like(symbols)
        events[:, self._places] = symbols
        return events.reshape(-1, *self.model.event_shape).astype(facts["dtype"])

    def report(self, x: Any) -> CodecReport:
        """Encode events, and return what that cost beside what the model claimed.

        Args:
            x: integers, [N, *event_shape].
        """
        rows = np.asarray(x)
        parts = [rows[i : i + self.lanes] for i in range(0, len(rows), self.lanes)]
        claimed = -sum(
            float(np.asarray(self._log_prob(self.model, part), np.float64).sum()) for part in parts
        ) / math.log(2)
        began = time.perf_counter()
        data, coded = self._encode(x)
        return CodecReport(len(rows), claimed, 8 * coded, len(data), time.perf_counter() - began)

    def _encode(self, x: Any) -> tuple[bytes, int]:
        """Return the file, and how many of its bytes are coded events."""
        x = np.asarray(x)
        if x.shape[1:] != self.model.event_shape or not np.issubdtype(x.dtype, np.integer):
            expected = ", ".join(("N", *map(str, self.model.event_shape)))
            raise ValueError(f"x: expected integers [{expected}], got {x.dtype} of shape {x.shape}")
        if len(x):
            check_events("x", self.model, as_arrays("x", x)[0][0])
        symbols = (x.reshape(len(x), self._size)[:, self._places].astype(np.int64) - self._low).astype(np.int32)
        chunks = []
        for start in range(0, len(x), self.chunk):
            part, writer = symbols[start : start + self.chunk], RangeWriter()
            for rows in self._groups(part):
                self._run(len(rows), partial(_write, writer, rows))
            chunks.append(Chunk(len(part), writer.finish(), crc_of(part)))
        return pack({**self._identity(), "dtype": x.dtype.name, "lanes": self.lanes}, chunks), sum(
            len(c.data) for c in chunks
        )

    def _groups(self, symbols: np.ndarray) -> Iterator[np.ndarray]:
        """Yield so many rows as go side by side."""
        for start in range(0, len(symbols), self.lanes):
            yield symbols[start : start + self.lanes]

    def _run(self, rows: int, number: Callable[[int, np.ndarray], np.ndarray]) -> None:
        """Go through the places of some events, all lanes at a time: `number` is handed the place and the probabilities
        of each row there, and returns what stands there. Encoding and decoding differ in this only."""
        cache, before = self._start(self.model), np.zeros(self.lanes, np.int32)
        for i in range(self._size):
            cache, log_p = self._step(self.model, cache, before, i)
            p = np.exp(np.asarray(log_p, np.float64)[:rows])
            before = np.full(self.lanes, self._low, np.int32)
            before[:rows] = number(i, p) + self._low

    def _identity(self) -> dict[str, Any]:
        """Return what has to be the same where a file is read."""
        return {
            "format": _FORMAT,
            "event_shape": list(self.model.event_shape),
            "levels": [self._low, self._levels],
            "model": fingerprint(self.model),
            "machine": machine(),
        }


def _step(model: Any, cache: Any, before: Array, i: Array, *, values: np.ndarray) -> tuple[Any, Array]:
    """Return the caches of all lanes, and the log-probability of each value at place i, [lanes, n]."""

    def one(cache: Any, before: Array) -> tuple[Any, Array]:
        cache, here = model.steps().step(cache, before, i)
        return cache, here.log_prob(jnp.asarray(values))

    return jax.vmap(one)(cache, before)


def _write(writer: RangeWriter, rows: np.ndarray, i: int, p: np.ndarray) -> np.ndarray:
    """Write the i-th number of each row, and return them."""
    writer.put(rows[:, i], p)
    return rows[:, i]


def _read(reader: RangeReader, rows: np.ndarray, i: int, p: np.ndarray) -> np.ndarray:
    """Read the i-th number of each row into the rows, and return them."""
    rows[:, i] = reader.take(p)
    return rows[:, i]


def fingerprint(model: Any) -> str:
    """Return the SHA-256 of all numbers of a model, by their paths, and of its settings: equal where it is the same.

    Args:
        model: any model.

    >>> import jax, probgen
    >>> make = lambda seed: probgen.autoregressive.made((3,), 2, hidden=(4,), key=jax.random.key(seed))
    >>> fingerprint(make(0)) == fingerprint(make(0)), fingerprint(make(0)) == fingerprint(make(1))
    (True, False)
    """
    digest = hashlib.sha256(json.dumps(settings(model), sort_keys=True).encode())
    for path, leaf in sorted(leaves_by_path(model).items()):
        array = to_numpy(leaf)
        digest.update(f"{path} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def machine() -> dict[str, str]:
    """Return what the numbers of a program depend on: versions, device, width of floats."""
    device = jax.devices()[0]
    return {
        "jax": jax.__version__,
        "jaxlib": jax.lib.__version__,
        "device": f"{device.platform} {device.device_kind}",
        "floats": jnp.zeros(()).dtype.name,
    }
