"""The file of a codec: what wrote it, and chunks that are checked one by one; written and read from end to end.

    "PGC3" | header's length | header, JSON deflated | CRC-32 of the header | chunk after chunk | an empty chunk
    chunk: items | bytes | CRC-32 of the events | CRC-32 of the chunk | the coded bytes

Numbers are uint32, little-endian. The last CRC goes over the chunk's number (from 0), the three numbers before it and
the coded bytes, so that a chunk in another place is damaged too.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import numpy as np

T = TypeVar("T")
_MAGIC = b"PGC3"
_NUMBER, _CHUNK = struct.Struct("<I"), struct.Struct("<IIII")
_LONGEST = 1 << 24  # bytes of a header


@dataclass(frozen=True)
class Chunk:
    """One chunk of a file: its items, its coded bytes, and the CRC-32 of the events that they stand for."""

    items: int
    data: bytes
    crc_of_events: int


def check_read(chunk: Chunk, events: np.ndarray, *, ends: bool) -> None:
    """Raise ValueError where events that were read are not those that were written.

    Args:
        chunk: that they were read from.
        events: as they were found.
        ends: whether nothing of the chunk is left.
    """
    if crc_of(events) != chunk.crc_of_events or not ends:
        raise ValueError("the probabilities here are others")


def written(portable: bool, write: Callable[[bool], T], read: Callable[[T], Any]) -> T:
    """Return what was written: by one pass, where a file is portable and that comes back; else by replaying what the
    reader does.

    Args:
        portable: whether one pass may do.
        write: whether to replay → what is written.
        read: raises ValueError where what was written does not come back.
    """
    if portable:
        found = write(False)
        with suppress(ValueError):
            read(found)
            return found
    return write(True)


class ChunkWriter:
    """Writes a file, chunk by chunk; it is whole once it was closed.

    Args:
        file: open for writing bytes.
        facts: what JSON holds.
    """

    def __init__(self, file: BinaryIO, facts: dict[str, Any]):
        header = zlib.compress(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode(), 9, -zlib.MAX_WBITS)
        file.write(_MAGIC + _NUMBER.pack(len(header)) + header + _NUMBER.pack(zlib.crc32(header)))
        self._file, self._number = file, 0

    def write(self, chunk: Chunk) -> None:
        """Write the next chunk."""
        facts = chunk.items, len(chunk.data), chunk.crc_of_events
        self._file.write(_CHUNK.pack(*facts, _crc_of_chunk(self._number, facts, chunk.data)) + chunk.data)
        self._number += 1

    def close(self) -> None:
        """Write the end."""
        self.write(Chunk(0, b"", 0))


def read_header(file: BinaryIO) -> dict[str, Any]:
    """Return the facts of a file.

    Args:
        file: open for reading bytes, at its beginning.

    Raises ValueError where it is no file of a codec, or its header is damaged.
    """
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("this is no file of a probgen codec: it does not begin with PGC3")
    (length,) = _NUMBER.unpack(_exactly(file, _NUMBER.size, "its header"))
    if length > _LONGEST:
        raise ValueError("the file's header is damaged: its length is none")
    header = _exactly(file, length, "its header")
    if zlib.crc32(header) != _NUMBER.unpack(_exactly(file, _NUMBER.size, "its header"))[0]:
        raise ValueError("the file's header is damaged: its checksum is another one")
    try:
        facts = json.loads(_inflated(header))
    except (ValueError, RecursionError, zlib.error):
        facts = None
    if not isinstance(facts, dict):
        raise ValueError("the file's header is damaged: it holds no facts")
    return facts


def read_chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the chunks of a file whose header was read.

    Args:
        file: after its header.

    Raises ValueError where a chunk is damaged, or the file does not end where it says.
    """
    number = 0
    while True:
        where = f"chunk {number}"
        *facts, crc = _CHUNK.unpack(_exactly(file, _CHUNK.size, where))
        data = _exactly(file, facts[1], where)
        if _crc_of_chunk(number, (facts[0], facts[1], facts[2]), data) != crc:
            raise ValueError(f"{where} of the file is damaged: its checksum is another one")
        if not facts[0]:
            if data:
                raise ValueError("the file's end is damaged: it holds something")
            break
        yield Chunk(facts[0], data, facts[2])
        number += 1
    if file.read(1):
        raise ValueError("the file is longer than it says: something follows its end")


def _inflated(header: bytes) -> bytes:
    """Return a header's text, of bounded length whatever the bytes are."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    text = inflate.decompress(header, _LONGEST)
    if not inflate.eof or inflate.unused_data:
        raise ValueError("a part of it is something else, or too long")
    return text


def _exactly(file: BinaryIO, size: int, where: str) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"the file ends within {where}")
    return data


def _crc_of_chunk(number: int, facts: tuple[int, int, int], data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(_CHUNK.pack(number, *facts)))


def crc_of(numbers: Any) -> int:
    """Return the CRC-32 of an array: integers as int64, others as float64, little-endian."""
    kind = "<i8" if np.issubdtype(numbers.dtype, np.integer) else "<f8"
    return zlib.crc32(np.ascontiguousarray(numbers, kind).tobytes())
