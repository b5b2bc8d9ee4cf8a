"""Files of any bytes, coded losslessly by an autoregressive model of sequences of bytes; chunk by chunk."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from probgen.compression.container import Chunk, ChunkWriter, check_read, crc_of, read_chunks, read_header, written
from probgen.compression.identity import check_identity, identity
from probgen.compression.message import Message, precision
from probgen.compression.stack import Stack
from probgen.core import check_flags, check_sizes, combine, partition
from probgen.core.files import read_arrays
from probgen.core.recipes import Recipe
from probgen.distributions.coding import in_double
from probgen.distributions.conditionals import ConditionalModel, inner_model
from probgen.distributions.enumeration import levels
from probgen.distributions.step_codes import pop_steps, push_steps

_LANES, _MOST_LANES = 64, 1 << 12  # by default, and at all
_OF_A_LANE = 1000  # bytes, at least, where there are several: each row begins without knowing anything
_LARGEST = 1 << 17  # bytes of a chunk, of which each has a table of 1 kB
_STORED = "probgen-bytes-1"


@dataclass(frozen=True)
class Compressed:
    """What a file takes.

    Attributes:
        size: the bytes that it had.
        coded: the bytes of its coded chunks.
        file: the bytes of the whole file, with what says by which model, and the checksums.
    """

    size: int
    coded: int
    file: int

    @property
    def bits_per_byte(self) -> float:
        """The bits of the whole file for each byte."""
        return 8 * self.file / self.size if self.size else math.inf


def compress(
    source: BinaryIO,
    target: BinaryIO,
    model: Any,
    *,
    lanes: int | None = None,
    size: int | None = None,
    portable: bool = False,
    progress: bool | str = False,
) -> Compressed:
    """Write a file of any bytes by a model of bytes; each costs −log₂ of its probability, and at most 24 bits.

    A chunk is split into as many rows as there are lanes, which are coded side by side; each row is an event of the
    model, or the beginning of one. What is in memory does not grow with the file.

    Args:
        source: what is read to its end.
        target: what is written.
        model: an autoregressive one of sequences [T] of 256 levels, from left to right.
        lanes: how many rows go side by side: more are faster, and each begins without knowing anything. By default a
            power of two up to 64, so that each has 1,000 bytes, or an event of the model, at least.
        size: how many bytes the source has, by which lanes are chosen and chunks made of one length; unknown by
            default.
        portable: whether the file can be read on other machines, too, as `Codec` says.
        progress: a bar with the bits of a byte so far; a string names it.

    Raises ValueError where the model is none of bytes, or the source has another size.

    >>> import io, jax, probgen
    >>> model, out = probgen.autoregressive.char_rnn(8, 256, width=4, key=jax.random.key(0)), io.BytesIO()
    >>> compress(io.BytesIO(b"two by two"), out, model).size
    10
    >>> back = io.BytesIO()
    >>> decompress(io.BytesIO(out.getvalue()), back, model)
    10
    >>> back.getvalue()
    b'two by two'
    """
    length = _length(model)
    check_flags(portable=portable)
    lanes = _lanes(size, length) if lanes is None else lanes
    check_sizes(lanes=lanes)
    if lanes > _MOST_LANES:
        raise ValueError(f"lanes: expected at most {_MOST_LANES}, got {lanes}")
    if size is not None:
        check_sizes(0, size=size)
    out = _Counting(target)
    facts = {"lanes": lanes, "size": size} | ({"portable": True} if portable else {})
    writer, rows = ChunkWriter(out, {**_identity(model), **facts}), _Rows(model, lanes, length, portable)  # type: ignore[arg-type]
    done = coded = 0
    with _bar(size, progress) as bar:
        for data in _pieces(source, _piece(lanes, length, size)):
            chunk = rows.written(np.frombuffer(data, np.uint8))
            writer.write(chunk)
            done, coded = done + len(data), coded + len(chunk.data)
            bar.set_postfix_str(f"{8 * coded / done:.3f} bits/byte", refresh=False)
            bar.update(len(data))
    if size is not None and done != size:
        raise ValueError(f"source: expected {size} bytes, got {done}: it was changed while it was read")
    writer.close()
    return Compressed(done, coded, out.count)


def decompress(source: BinaryIO, target: BinaryIO, model: Any, *, progress: bool | str = False) -> int:
    """Write the bytes of a file that `compress` wrote, and return how many they are.

    Args:
        source: the file.
        target: what is written, chunk by chunk: where a later one is damaged, the first are there.
        model: the one that it was written by.
        progress: a bar; a string names it.

    Raises ValueError where the file is damaged, of another model, or was written on another kind of machine or by other
    versions: it says which.
    """
    length, facts = _length(model), read_header(source)
    check_identity(facts, _identity(model))
    lanes, size, done = facts.get("lanes"), facts.get("size"), 0
    if not isinstance(lanes, int) or not 0 < lanes <= _MOST_LANES:
        raise ValueError(f"the file's header is damaged: its lanes are {lanes!r}")
    if not isinstance(size, int | None):
        raise ValueError(f"the file's header is damaged: its size is {size!r}")
    rows = _Rows(model, lanes, length, facts["portable"])
    with _bar(size, progress) as bar:
        for number, chunk in enumerate(read_chunks(source)):
            if chunk.items > _longest(lanes, length):
                raise ValueError(f"chunk {number} of the file is damaged: it is longer than any of its model")
            try:
                symbols = rows.read(chunk)
            except ValueError as error:
                raise ValueError(f"chunk {number} was decoded to something else: {error}") from None
            target.write(symbols.tobytes())
            done += len(symbols)
            bar.update(len(symbols))
    if size is not None and done != size:
        raise ValueError(f"the file is damaged: it has {done} bytes, and says that they are {size}")
    return done


def bundled() -> Any:
    """Return the model that comes with the package: a recurrent network of 470,000 numbers, trained on English.

    Of what else there is it knows little: bytes that are no text take 8 bits and more. `benchmarks/byte_model.py`
    trains it, and says what it takes.
    """
    return stored(Path(__file__).with_name("english.safetensors"))


def stored(path: str | os.PathLike) -> Any:
    """Read a model of which the numbers are kept as float16.

    Args:
        path: of a safetensors file, with the model's recipe.

    Raises ValueError where it is none.
    """
    arrays, metadata = read_arrays(path)
    if _STORED not in metadata:
        raise ValueError(f"{path} holds no model of bytes: its metadata lacks {_STORED!r}")
    model = Recipe(*json.loads(metadata[_STORED])["recipe"]).build(key=jax.random.key(0))
    params, rest = partition(model)
    found = {name: array.shape for name, array in arrays.items()}
    if found != {name: value.shape for name, value in params.items()}:
        raise ValueError(f"{path} has other numbers than its recipe's model")
    return combine({name: jnp.asarray(arrays[name], value.dtype) for name, value in params.items()}, rest)


class _Rows:
    """Chunks as so many rows of bytes, one after another in the file, coded side by side."""

    def __init__(self, model: Any, lanes: int, length: int, portable: bool):
        self._lanes, self._length, self._portable = lanes, length, portable
        with precision(portable):
            self._model = in_double(model) if portable else model

    def written(self, symbols: np.ndarray) -> Chunk:
        """Return the chunk of bytes, which was read again if it is portable."""
        return written(self._portable, lambda replays: self._written(symbols, replays), self.read)

    def _written(self, symbols: np.ndarray, replays: bool) -> Chunk:
        message, lengths = self._message(Stack(), replays), _lengths(len(symbols), self._lanes)
        rows = np.zeros((self._lanes, self._length), np.int32)
        rows[np.arange(self._length) < lengths[:, None]] = symbols
        with precision(self._portable):
            push_steps(self._model, message, rows, lengths)
        return Chunk(len(symbols), message.stack.finish(), crc_of(symbols))

    def read(self, chunk: Chunk) -> np.ndarray:
        """Return the bytes of a chunk; raise ValueError where they are not those that were written."""
        message, lengths = self._message(Stack(chunk.data), True), _lengths(chunk.items, self._lanes)
        with precision(self._portable):
            rows = pop_steps(self._model, message, lengths)
        symbols: np.ndarray = rows[np.arange(self._length) < lengths[:, None]].astype(np.uint8)
        check_read(chunk, symbols, ends=message.stack.is_empty)
        return symbols

    def _message(self, stack: Stack, replays: bool) -> Message:
        return Message(stack, self._lanes, self._lanes, 1.0, portable=self._portable, replays=replays)


class _Counting:
    """What is written to a file, counted."""

    def __init__(self, file: BinaryIO):
        self._file, self.count = file, 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.count += len(data)


def _identity(model: Any) -> dict[str, Any]:
    """Return what has to be the same; of another format than a `Codec`'s files, neither of which reads the other's."""
    ours = identity(model)
    return {**ours, "format": f"bytes {ours['format']}", "kind": "bytes"}


def is_of_bytes(model: Any) -> bool:
    """Return whether a model is one of sequences of 256 levels.

    Args:
        model: any.
    """
    inner = inner_model(model)
    return len(inner.event_shape) == 1 and levels(inner.support) == (0, 256)


def _length(model: Any) -> int:
    """Return how many bytes an event of the model has. Raises ValueError where it is no model of bytes."""
    if isinstance(model, ConditionalModel):
        raise ValueError("model: expected one of bytes, got one that takes contexts: call it with one first")
    shape, found = model.event_shape, levels(model.support)
    if model.batch_shape or not is_of_bytes(model):
        many = "other values" if found is None else f"{found[1]} levels from {found[0]}"
        raise ValueError(
            f"model: expected one of sequences of 256 levels, got batch shape {model.batch_shape}, event shape {shape} "
            f"and {many}"
        )
    if not hasattr(model, "steps") or not hasattr(model, "in_order"):
        raise ValueError(f"model: expected an autoregressive one, got a {type(model).__name__}")
    places = np.arange(shape[0])
    if not np.array_equal(np.asarray(model.in_order(jnp.asarray(places))), places):
        raise ValueError("model: expected one that goes from left to right, got one of another order")
    return int(shape[0])


def _lanes(size: int | None, length: int) -> int:
    """Return the largest power of two that leaves each lane enough, or a whole event; all of them where the size is not
    known."""
    if size is None:
        return _LANES
    return min(_LANES, 1 << max(0, (size // min(_OF_A_LANE, length)).bit_length() - 1))


def _longest(lanes: int, length: int) -> int:
    """Return how many bytes a chunk has at most."""
    return min(lanes * length, _LARGEST)


def _piece(lanes: int, length: int, size: int | None) -> int:
    """Return how many bytes a chunk has: where the size is known, all chunks about the same."""
    longest = _longest(lanes, length)
    return longest if not size else math.ceil(size / math.ceil(size / longest))


def _pieces(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield what is read, in pieces of one size but for the last; pipes give less at a time."""
    while True:
        parts, missing = [], size
        while missing and (part := source.read(missing)):
            parts.append(part)
            missing -= len(part)
        if missing < size:
            yield b"".join(parts)
        if missing:
            return


def _lengths(count: int, lanes: int) -> np.ndarray:
    """Return how many bytes each row has, [lanes]: as equal as they can be."""
    return count // lanes + (np.arange(lanes) < count % lanes)


def _bar(size: int | None, progress: bool | str) -> tqdm:
    name = progress if isinstance(progress, str) else None
    return tqdm(total=size, desc=name, disable=progress is False, dynamic_ncols=True, unit="B", unit_scale=True)
