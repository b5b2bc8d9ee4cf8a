"""Refusing files that are damaged, or larger than they look, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Refused(ValueError):
    """What is wrong with a file, in our own words."""


def check_size(size: int, max_bytes: int) -> None:
    """Raise Refused where what a file holds is larger than is allowed."""
    if size > max_bytes:
        raise Refused(f"it holds {size:,} bytes, more than max_bytes={max_bytes:,}")


@contextmanager
def parsing() -> Iterator[None]:
    """Make one ValueError of whatever the parsers of other libraries raise at a damaged file, which is anything.

    Raises ValueError in the place of every exception but Refused.
    """
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise ValueError(f"it is truncated, corrupted or another file: {reason}") from None
