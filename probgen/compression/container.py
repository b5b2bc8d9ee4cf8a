"""The file of a codec: what wrote it, and chunks that are checked one by one.

    "PGC1" | header's length, uint32 | header, JSON in UTF-8 | CRC-32 of the header | chunk after chunk

Numbers are little-endian. For each chunk the header has its items, its bytes and two CRC-32: of the bytes as they
lie in the file, and of the events, int64, item after item.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

_MAGIC = b"PGC1"
_NUMBER = struct.Struct("<I")


@dataclass(frozen=True)
class Chunk:
    """One chunk of a file: its items, its coded bytes, and the CRC-32 of the events that they stand for."""

    items: int
    data: bytes
    crc_of_events: int


def pack(facts: dict[str, Any], chunks: list[Chunk]) -> bytes:
    """Return a file of facts and chunks.

    Args:
        facts: what JSON holds.
        chunks: one after another.
    """
    entries = [
        {"items": c.items, "bytes": len(c.data), "crc": zlib.crc32(c.data), "crc_of_events": c.crc_of_events}
        for c in chunks
    ]
    header = json.dumps({**facts, "chunks": entries}, sort_keys=True).encode()
    parts = [_MAGIC, _NUMBER.pack(len(header)), header, _NUMBER.pack(zlib.crc32(header))]
    return b"".join(parts + [c.data for c in chunks])


def unpack(data: bytes) -> tuple[dict[str, Any], list[Chunk]]:
    """Return the facts and chunks of a file.

    Args:
        data: of the file.

    Raises ValueError where it is none, or damaged: it names the part.
    """
    data = bytes(data)
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("this is no file of a probgen codec: it does not begin with PGC1")
    start = len(_MAGIC) + _NUMBER.size
    if len(data) < start or len(data) < (end := start + _NUMBER.unpack_from(data, len(_MAGIC))[0]) + _NUMBER.size:
        raise ValueError("the file ends within its header")
    header = data[start:end]
    if zlib.crc32(header) != _NUMBER.unpack_from(data, end)[0]:
        raise ValueError("the file's header is damaged: its checksum is another one")
    facts = json.loads(header)
    entries, at, chunks = facts.pop("chunks"), end + _NUMBER.size, []
    if at + sum(entry["bytes"] for entry in entries) != len(data):
        raise ValueError(f"the file has {len(data)} bytes, and its header speaks of others: it is cut off or longer")
    for number, entry in enumerate(entries):
        coded = data[at : at + entry["bytes"]]
        if zlib.crc32(coded) != entry["crc"]:
            raise ValueError(f"chunk {number} of the file is damaged: its checksum is another one")
        chunks.append(Chunk(entry["items"], coded, entry["crc_of_events"]))
        at += entry["bytes"]
    return facts, chunks


def crc_of(numbers: Any) -> int:
    """Return the CRC-32 of an array: integers as int64, others as float64, little-endian."""
    kind = "<i8" if np.issubdtype(numbers.dtype, np.integer) else "<f8"
    return zlib.crc32(np.ascontiguousarray(numbers, kind).tobytes())
