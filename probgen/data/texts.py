"""Files of text: a string of characters with its alphabet, bytes, or one datum in each line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from probgen.data.datasets import Data, as_part
from probgen.data.malformed import check_size, parsing

WAYS = ("characters", "bytes", "lines")


def content(path: Path, *, max_bytes: int) -> bytes:
    """Return the bytes of a file, unpacked where its name ends in .gz.

    Raises ValueError where it is damaged, or holds more than `max_bytes` when unpacked.
    """
    if path.suffix.lower() != ".gz":
        return path.read_bytes()
    with open(path, "rb") as stream, parsing(), gzip.open(stream) as unpacked:
        found = unpacked.read(max_bytes + 1)
        check_size(len(found), max_bytes)
        return found


def decoded(path: Path, *, encoding: str, max_bytes: int) -> str:
    """Return the text of a file, with one "\\n" at the end of each line.

    Raises ValueError where it is empty or not in that encoding.
    """
    found = content(path, max_bytes=max_bytes)
    if encoding == "utf-8" and found[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError('expected UTF-8, got UTF-16: encoding="utf-16" reads it')
    try:
        text = found.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeError as error:
        place = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise ValueError(f'it is not in {encoding}{place}: encoding= says another, such as "latin-1"') from None
    except LookupError:
        raise ValueError(f"encoding must be one that Python knows; it is {encoding!r}") from None
    if not text.strip():
        raise ValueError("it is empty")
    if "\0" in text:
        raise ValueError("it has NUL bytes, so that it is no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, *, text: str, encoding: str | None, alphabet: str | None, max_bytes: int) -> Data:
    """Return a text as the part "train".

    Args:
        path: the file, .gz or not.
        text: "characters": one array of places in the alphabet; "bytes": one array of bytes; "lines": a row for each
            line that is not empty, ended by zeros, and "train_lengths", which count one of them.
        encoding: of the text; None for UTF-8.
        alphabet: of characters that the codes are places in; None for all that occur, sorted, "\\n" the first of lines.
        max_bytes: how much a .gz file may hold, and the array of lines.

    Raises ValueError where the file is no text of that encoding and alphabet.
    """
    if text not in WAYS:
        raise ValueError(f"text must be one of {', '.join(WAYS)}; it is {text!r}")
    if text == "bytes":
        for option, value in (("alphabet", alphabet), ("encoding", encoding)):
            if value is not None:
                raise ValueError(f"{option} does not apply to bytes")
        found = np.frombuffer(content(path, max_bytes=max_bytes), np.uint8)
        if not len(found):
            raise ValueError("it is empty")
        return Data(path.name, {"train": as_part(found)}, 256)
    string = decoded(path, encoding=encoding or "utf-8", max_bytes=max_bytes)
    if text == "lines":
        return _lines(path.name, [line for line in string.split("\n") if line], alphabet, max_bytes)
    alphabet = alphabet or "".join(sorted(set(string)))
    return Data(path.name, {"train": _codes(string, alphabet)}, len(alphabet), alphabet=alphabet)


def _lines(name: str, lines: list[str], alphabet: str | None, max_bytes: int) -> Data:
    alphabet = alphabet or "\n" + "".join(sorted(set("".join(lines))))
    lengths = np.array([1 + len(line) for line in lines], np.int32)
    check_size(4 * len(lines) * int(lengths.max()), max_bytes)
    rows = np.zeros((len(lines), lengths.max()), np.int32)
    rows[np.arange(lengths.max()) < lengths[:, None] - 1] = _codes("".join(lines), alphabet, least=1)
    return Data(name, {"train": rows, "train_lengths": lengths}, len(alphabet), alphabet=alphabet)


def _codes(string: str, alphabet: str, *, least: int = 0) -> np.ndarray:
    """Return the places of characters in an alphabet, from the place `least` on, int32.

    Raises ValueError at a character that is not in it.
    """
    if len(alphabet) <= least:
        raise ValueError(f"alphabet must have more than {least} characters; it is {alphabet!r}")
    points = np.frombuffer(string.encode("utf-32-le"), np.uint32)
    known = np.frombuffer(alphabet[least:].encode("utf-32-le"), np.uint32)
    order = np.argsort(known)
    found = np.minimum(np.searchsorted(known, points, sorter=order), len(known) - 1)
    codes = order[found]
    if unknown := np.flatnonzero(known[codes] != points)[:1].tolist():
        raise ValueError(f"expected characters of the alphabet, got {string[unknown[0]]!r}, which is unknown")
    return (codes + least).astype(np.int32)
