"""A range coder of symbols by their probabilities: constriction's, with its traps behind one door."""

import numpy as np
from numpy.typing import ArrayLike

_WORD = np.dtype("<u4")  # in files, on every machine


def _tables(p: ArrayLike) -> np.ndarray:
    """Return rows of probabilities as constriction reads them right: float64, in C order (it takes others for it)."""
    p = np.ascontiguousarray(p, dtype=np.float64)
    if p.ndim != 2 or not p.shape[1]:
        raise ValueError(f"p: expected [N, n], a row of probabilities for each symbol, got shape {p.shape}")
    if not np.all(np.isfinite(p)) or np.any(p < 0) or not np.all(p.sum(1) > 0):
        raise ValueError("p: expected rows of finite numbers of at least 0, and one of them more")
    return p


def _model() -> object:
    import constriction

    # 24 bits, each symbol with at least 2^-24, as `integer_cdf`
    return constriction.stream.model.Categorical(perfect=False)


class RangeWriter:
    """A stream that symbols are written to; a `RangeReader` reads them in the same order.

    What is written costs −log₂ p bits for each symbol, and some 20 to 50 for the whole stream.

    >>> writer = RangeWriter()
    >>> writer.put([1, 0], [[0.25, 0.75], [0.5, 0.5]])
    >>> reader = RangeReader(writer.finish())
    >>> reader.take([[0.25, 0.75]]).tolist(), reader.take([[0.5, 0.5]]).tolist()
    ([1], [0])
    """

    def __init__(self) -> None:
        import constriction

        self._encoder, self._model = constriction.stream.queue.RangeEncoder(), _model()

    def put(self, symbols: ArrayLike, p: ArrayLike) -> None:
        """Write symbols [N] of 0..n−1 by rows of probabilities [N, n], which need no sum of 1.

        Args:
            symbols: integers.
            p: the probabilities of each.

        Raises ValueError where a symbol is none of its row's, or a row is no distribution.
        """
        p, symbols = _tables(p), np.asarray(symbols)
        if not np.issubdtype(symbols.dtype, np.integer) or symbols.shape != p.shape[:1]:
            raise ValueError(f"symbols: expected integers [{len(p)}], got {symbols.dtype} of shape {symbols.shape}")
        if np.any((symbols < 0) | (symbols >= p.shape[1])):
            raise ValueError(f"symbols: expected integers from 0 to {p.shape[1] - 1}, got others")
        if p.size and p.shape[1] > 1:  # what is certain takes no bits
            self._encoder.encode(np.ascontiguousarray(symbols, np.int32), self._model, p)

    def finish(self) -> bytes:
        """Return all that was written."""
        return np.asarray(self._encoder.get_compressed()).astype(_WORD).tobytes()


class RangeReader:
    """What a `RangeWriter` wrote, symbol by symbol.

    What is no such stream, or is read with other probabilities, gives other symbols, and no error: a file needs a
    checksum.

    Args:
        data: bytes that `RangeWriter.finish` returned.

    Raises ValueError where these are no whole words.
    """

    def __init__(self, data: bytes) -> None:
        import constriction

        if len(data) % _WORD.itemsize:
            raise ValueError(f"data: expected whole words of 4 bytes, got {len(data)} bytes")
        words = np.frombuffer(data, _WORD).astype(np.uint32)
        self._decoder, self._model = constriction.stream.queue.RangeDecoder(words), _model()

    def take(self, p: ArrayLike) -> np.ndarray:
        """Return the next symbols [N], int32, whose rows of probabilities [N, n] these are.

        Args:
            p: as they were written.
        """
        p = _tables(p)
        if not p.size or p.shape[1] == 1:
            return np.zeros(len(p), np.int32)
        return np.asarray(self._decoder.decode(self._model, p), np.int32)
