"""A model of integers as a lossless codec: what it claims of data is how many bits they take."""

import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probgen.compression.container import Chunk, ChunkWriter, check_read, crc_of, read_chunks, read_header, written
from probgen.compression.identity import check_identity, identity
from probgen.compression.message import Message, precision
from probgen.compression.stack import Stack
from probgen.core import as_numbers, check_flags, check_positive, check_sizes
from probgen.distributions import ConditionalModel, Distribution
from probgen.distributions.coding import coded, in_double
from probgen.distributions.conditionals import inner_model
from probgen.distributions.events import as_arrays, check_events
from probgen.distributions.wrapped import kind_of

_WIDTH = 2.0**-6
_MOST_LANES, _MOST_EVENTS = 1 << 16, 1 << 24  # side by side, and in a chunk
_DTYPES = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


@dataclass(frozen=True)
class CodecReport:
    """What data cost by a codec.

    Attributes:
        items: how many events they are.
        claimed: −log₂ p of all of them, by the model, in bits; where it has a bound, −log₂ of the weights
            p(x, z) / q(z | x) at the z that were read, whose mean is the bound.
        coded: the bits of the coded chunks.
        borrowed: of these, the bits that bits-back coding had to begin with, which nothing gave back.
        file: the bytes of the whole file.
        seconds: that encoding took.
    """

    items: int
    claimed: float
    coded: int
    borrowed: int
    file: int
    seconds: float

    @property
    def overhead(self) -> float:
        """By how much the coded bits, without those borrowed, are more than the model claimed, as a share of these."""
        return (self.coded - self.borrowed) / self.claimed - 1.0 if self.claimed else math.inf

    def __str__(self) -> str:
        borrowed = f", {self.borrowed} of them borrowed" if self.borrowed else ""
        return (
            f"{self.items} items: {self.claimed:.0f} bits claimed, {self.coded} coded{borrowed} "
            f"({100 * self.overhead:+.3f} %), {self.file} bytes as a file, {self.seconds:.1f} s"
        )


class Codec:
    """A lossless codec of events of integers, by any model that says how it is coded.

    An event costs −log₂ p(x) bits; with latent variables −log₂ of the weight p(x, z) / q(z | x), z being read from bits
    that were written before (bits-back coding), so that the mean is the bound. Encoding runs the decoder's own
    programs, so many events side by side, since no other give the same probabilities to the last bit. A file is read by
    the same model, on the same kind of machine and versions; another one is refused. Where two processors of one kind
    compute the last digits in another way, the checksum of what was read says so.

    A `portable` codec computes in double precision and rounds log-probabilities to steps of 1/128 nat, which costs 3
    millionths of a nat a number. Programs that differ in their last digits then agree but for about one number in 10¹²,
    so that other machines and versions read the file, and one pass of the model writes all numbers of an
    autoregressive event. Each chunk is read again before it is written; one that came out wrong is written by the
    reader's own program. It takes more time in all.

    - Independent numbers (any of numpyro's and our distributions of integers, those without an end by an escape),
      mixtures of them, autoregressive models in every order, `Ragged` ones by their lengths as contexts.
    - Models with latent variables whose posterior is normal, of integers, or a flow; hierarchies, bottom-up and
      top-down; priors that are normal, mixtures of such, `VampPrior`s, autoregressive, flows; `VectorQuantized`.
    - Flows on levels, masked diffusion, `stepwise` score models; `Sites` of a program.
    - What else has `push(message, x)` and `pop(message)` (`docs/extending.md`).

    Args:
        model: of batch shape (), over integers; a `ConditionalModel` codes events at contexts that the reader has too.
        lanes: how many events are coded side by side.
        chunk: how many events a chunk has, at most; it is checked, and takes memory, by itself.
        width: of the grid that normal latents are put on, a power of two, 1/64 by default; best between 1/13 and 1/2 of
            the posterior's standard deviations, and 1/1,000 of them where a flow is among prior and posterior.
        portable: whether a file can be read on other machines, too.

    Raises ValueError where no code is known of the model, or its numbers are no integers: it says what is missing; and,
    once something is encoded, where a width was given and nothing lies on that grid, or portable latents are real.

    References: Practical Lossless Compression with Latent Variables using Bits Back Coding (Townsend, Bird, Barber
    2019), arXiv:1901.04866; HiLLoC (Townsend, Bird, Kunze, Barber 2020), arXiv:1912.09953; Language Modeling Is
    Compression (Delétang et al. 2024), arXiv:2309.10668; Understanding Entropy Coding With Asymmetric Numeral Systems
    (Bamler 2022), arXiv:2201.01741.

    >>> import jax, numpy as np, probgen
    >>> model = probgen.autoregressive.made((4,), 3, hidden=(8,), key=jax.random.key(0))
    >>> codec, x = Codec(model, lanes=4), np.array([[0, 1, 2, 0], [2, 2, 1, 1]])
    >>> codec.decode(codec.encode(x)).tolist()
    [[0, 1, 2, 0], [2, 2, 1, 1]]
    """

    def __init__(
        self,
        model: Distribution | ConditionalModel,
        *,
        lanes: int = 64,
        chunk: int = 4096,
        width: float | None = None,
        portable: bool = False,
    ):
        check_sizes(lanes=lanes, chunk=chunk)
        check_flags(portable=portable)
        if lanes > _MOST_LANES or chunk > _MOST_EVENTS:
            raise ValueError(f"lanes, chunk: expected at most {_MOST_LANES} and {_MOST_EVENTS}, got {lanes}, {chunk}")
        self._asked, width = width is not None, _WIDTH if width is None else width
        check_positive(width=width)
        if math.frexp(width)[0] != 0.5:
            raise ValueError(f"width: expected a power of two, got {width}")
        inner = inner_model(model)
        if inner.batch_shape:
            raise ValueError(f"model: expected batch shape (), got {inner.batch_shape}")
        support = inner.support
        if not support.is_discrete:
            raise ValueError(
                f"model: expected one of integers, got one on {support}, of which a number has no bits: put it on "
                "levels first, by a discretized likelihood or head"
            )
        self.model, self.lanes, self.chunk, self.width, self.portable = model, lanes, chunk, float(width), portable
        # what is read in lanes that are not in use: a network computes them, and has to have the same in writing
        self._unused = np.asarray(support.feasible_like(np.zeros(inner.event_shape, np.int32)))
        self._conditional = isinstance(model, ConditionalModel)
        with precision(self.portable):
            self._used = in_double(model) if portable else model
            self._code = None if self._conditional else coded(self._used, (lanes,))

    def encode(self, x: Any, contexts: Any = None) -> bytes:
        """Return the file of events [N, *event_shape].

        Args:
            x: integers; no events at all are a file, too.
            contexts: of a conditional model, [N, *context_shape]; they are not in the file.

        Raises ValueError where an event is none of the model's.
        """
        return self._encode(x, contexts)[0]

    def _facts(self, data: bytes) -> tuple[dict[str, Any], list[Chunk]]:
        file = io.BytesIO(data)
        facts = read_header(file)
        check_identity(facts, identity(self.model))
        kinds = {"lanes": int, "chunk": int, "width": float, "contexts": int, "dtype": str}
        for name, kind in kinds.items():
            if not isinstance(facts.get(name), kind):
                raise ValueError(f"the file's header is damaged: its {name} is {facts.get(name)!r}")
        if facts["dtype"] not in _DTYPES:
            raise ValueError(f"the file's header is damaged: its dtype is {facts['dtype']!r}")
        chunks = list(read_chunks(file))
        for number, chunk in enumerate(chunks):
            if chunk.items > facts["chunk"]:
                raise ValueError(f"chunk {number} of the file is damaged: it is longer than any of this file")
        return facts, chunks

    def decode(self, data: bytes, contexts: Any = None) -> np.ndarray:
        """Return the events [N, *event_shape] of a file, in the dtype that they had.

        Args:
            data: that `encode` returned.
            contexts: those of encoding.

        Raises ValueError where the file is damaged, of another model or contexts, or was written on another kind of
        machine or by other versions: it says which.
        """
        facts, chunks = self._facts(data)
        program = {name: facts[name] for name in ("lanes", "width", "portable")}
        if any(getattr(self, name) != value for name, value in program.items()):  # another program
            return Codec(self.model, chunk=facts["chunk"], **program).decode(data, contexts)
        at = self._contexts(contexts, sum(chunk.items for chunk in chunks))
        if _crc_of_contexts(at) != facts["contexts"]:
            raise ValueError("contexts: they are not those that the file was written with")
        event, first = inner_model(self.model).event_shape, 0
        parts = [np.zeros((0, *event), np.int64)]
        for number, chunk in enumerate(chunks):
            try:
                parts.append(self._popped(chunk, at, first))
            except ValueError as error:
                raise ValueError(f"chunk {number} was decoded to something else: {error}") from None
            first += chunk.items
        found = np.concatenate(parts)
        if not np.array_equal(found, found.astype(facts["dtype"])):
            raise ValueError(f"the file's header is damaged: its events are no {facts['dtype']}")
        return found.astype(facts["dtype"])

    def report(self, x: Any, contexts: Any = None) -> CodecReport:
        """Encode events, and return what that cost beside what the model claimed.

        Args:
            x: integers, [N, *event_shape].
            contexts: of a conditional model.
        """
        began = time.perf_counter()
        data, stacks = self._encode(x, contexts)
        seconds = time.perf_counter() - began
        bits = 8 * sum(len(stack.finish()) for stack in stacks)
        exact = kind_of(inner_model(self.model)) == "exact"
        claimed = self._claimed(np.asarray(x), contexts) if exact else sum(stack.information for stack in stacks)
        return CodecReport(len(x), claimed, bits, sum(stack.borrowed for stack in stacks), len(data), seconds)

    def _claimed(self, x: np.ndarray, contexts: Any) -> float:
        """Return −log₂ p by whole passes of the model, which know nothing of steps and tables."""
        at, total = self._contexts(contexts, len(x)), 0.0
        for start, count in self._groups(len(x)):
            log_p = _log_prob(self.model, self._padded(x[start : start + count]), self._lanes_of(at, start, count))
            total -= float(np.asarray(log_p, np.float64)[:count].sum())
        return total / math.log(2)

    def _encode(self, x: Any, contexts: Any) -> tuple[bytes, list[Stack]]:
        """Return the file, and the stack of each chunk."""
        x, event = np.asarray(x), inner_model(self.model).event_shape
        if x.ndim != 1 + len(event) or x.shape[1:] != event or x.dtype.name not in _DTYPES:
            expected = ", ".join(("N", *map(str, event)))
            raise ValueError(f"x: expected integers [{expected}], got {x.dtype} of shape {x.shape}")
        if x.size and not -(2**31) <= int(x.min()) <= int(x.max()) < 2**31:
            raise ValueError(f"x: expected integers of 32 bits, got {int(x.min())} to {int(x.max())}")
        if len(x):
            check_events("x", inner_model(self.model), as_arrays("x", x)[0][0])
        at, file, stacks = self._contexts(contexts, len(x)), io.BytesIO(), []
        facts = {"dtype": x.dtype.name, "contexts": _crc_of_contexts(at)}
        facts |= {"lanes": self.lanes, "chunk": self.chunk, "width": self.width}
        facts |= {"portable": True} if self.portable else {}
        writer = ChunkWriter(file, {**identity(self.model), **facts})
        for first in range(0, len(x), self.chunk):
            chunk, stack = self._written(x[first : first + self.chunk], at, first)
            writer.write(chunk)
            stacks.append(stack)
        writer.close()
        if stacks and self._asked and not any(self.width in stack.widths for stack in stacks):
            raise ValueError(f"width: nothing of this model lies on a grid of {self.width}: leave it out")
        return file.getvalue(), stacks

    def _written(self, part: np.ndarray, at: np.ndarray | None, first: int) -> tuple[Chunk, Stack]:
        """Return the chunk of events, the first of which is that one of all, and its stack."""
        write = lambda replays: self._pushed(part, at, first, replays)
        return written(self.portable, write, lambda found: self._popped(found[0], at, first))

    def _pushed(self, part: np.ndarray, at: np.ndarray | None, first: int, replays: bool) -> tuple[Chunk, Stack]:
        stack = Stack()
        with precision(self.portable):
            for start, count in reversed(list(self._groups(len(part)))):  # what is written last is read first
                message = Message(stack, self.lanes, count, self.width, portable=self.portable, replays=replays)
                self._at(at, first + start, count).push(message, self._padded(part[start : start + count]))
        return Chunk(len(part), stack.finish(), crc_of(part)), stack

    def _popped(self, chunk: Chunk, at: np.ndarray | None, first: int) -> np.ndarray:
        """Return the events of a chunk; raise ValueError where they are not those that were written."""
        stack, rows = Stack(chunk.data), []
        with precision(self.portable):
            for start, count in self._groups(chunk.items):
                message = Message(stack, self.lanes, count, self.width, portable=self.portable)
                rows.append(self._at(at, first + start, count).pop(message)[:count])
        x = np.concatenate(rows)
        check_read(chunk, x, ends=stack.is_empty)
        return x

    def _groups(self, rows: int) -> Iterator[tuple[int, int]]:
        """Yield the first, and the number, of the rows that go side by side."""
        for start in range(0, rows, self.lanes):
            yield start, min(self.lanes, rows - start)

    def _padded(self, rows: np.ndarray) -> np.ndarray:
        """Return rows for all lanes."""
        rest = np.broadcast_to(self._unused, (self.lanes - len(rows), *self._unused.shape))
        return np.concatenate([rows.astype(np.int64), rest]).astype(np.int32)

    def _contexts(self, contexts: Any, rows: int) -> np.ndarray | None:
        if not self._conditional:
            if contexts is not None:
                raise ValueError("contexts: this model takes none")
            return None
        shape = self.model.context_shape
        if contexts is None or np.shape(contexts) != (rows, *shape):
            got = "none" if contexts is None else np.shape(contexts)
            raise ValueError(f"contexts: expected [{', '.join(map(str, (rows, *shape)))}], got {got}")
        given = np.asarray(as_numbers("contexts", contexts))
        floats = np.issubdtype(given.dtype, np.floating)
        if not np.all(np.isfinite(given)) or (not floats and given.size and np.abs(given.astype(float)).max() >= 2**31):
            raise ValueError("contexts: expected finite numbers, and integers of 32 bits, got others")
        wide = np.dtype(np.float64) if self.portable else jnp.zeros(()).dtype
        return given.astype(wide if floats else np.int32)  # one program, whatever the reader has them in

    def _lanes_of(self, contexts: np.ndarray | None, start: int, count: int) -> np.ndarray | None:
        if contexts is None:
            return None
        rows = contexts[start : start + count]
        return np.concatenate([rows, np.zeros((self.lanes - count, *rows.shape[1:]), rows.dtype)])

    def _at(self, contexts: np.ndarray | None, start: int, count: int) -> Any:
        """Return what codes those rows."""
        here = self._lanes_of(contexts, start, count)
        return self._code if here is None else coded(self._used(jnp.asarray(here)), (self.lanes,))


@jax.jit
def _log_prob(model: Any, x: Any, contexts: Any) -> Any:
    return (model if contexts is None else model(contexts)).log_prob(x)


def _crc_of_contexts(contexts: np.ndarray | None) -> int:
    return 0 if contexts is None else crc_of(contexts)
