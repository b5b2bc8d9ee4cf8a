"""Files of arrays of integers (.npy), coded losslessly by a model of their rows, such as one of images."""

import io
from typing import Any, BinaryIO

import numpy as np

from probgen.compression.byte_files import Compressed
from probgen.compression.codec import Codec
from probgen.compression.container import read_chunks, read_header

_BEGINNING = b"\x93NUMPY"


def compress(source: BinaryIO, target: BinaryIO, model: Any, *, lanes: int = 64, portable: bool = False) -> Compressed:
    """Write an array of integers [N, *event_shape] by a model of its rows, as a `Codec` does.

    What is read again is the very file, its header included; an array that is not in C's order, or
    in another machine's order of bytes, is refused.

    Args:
        source: a .npy file, from its beginning.
        target: what is written.
        model: of batch shape (), over integers.
        lanes: how many rows are coded side by side.
        portable: whether the file can be read on other machines, too, as `Codec` says.

    Raises ValueError where the file is none of such an array, or a row is no event of the model.

    >>> import io, jax, numpy as np, probgen
    >>> model, file, out = probgen.mixtures.histogram((2, 2), 3), io.BytesIO(), io.BytesIO()
    >>> np.save(file, np.array([[[0, 1], [2, 0]]], np.uint8))
    >>> compress(io.BytesIO(file.getvalue()), out, model).size == len(file.getvalue())
    True
    >>> back = io.BytesIO()
    >>> decompress(io.BytesIO(out.getvalue()), back, model)
    1
    >>> back.getvalue() == file.getvalue()
    True
    """
    data = source.read()
    file = Codec(model, lanes=lanes, portable=portable).encode(read_array(data))
    target.write(file)
    whole = io.BytesIO(file)
    read_header(whole)
    return Compressed(len(data), sum(len(chunk.data) for chunk in read_chunks(whole)), len(file))


def decompress(source: BinaryIO, target: BinaryIO, model: Any) -> int:
    """Write the .npy file that `compress` read, and return how many rows it has.

    Args:
        source: the file that was written.
        target: what is written.
        model: the one that it was written by.

    Raises ValueError where the file is damaged, of another model, or was written on another kind of machine or by other
    versions: it says which.
    """
    x = Codec(model).decode(source.read())
    np.save(target, x)
    return len(x)


def read_array(data: bytes) -> np.ndarray:
    """Return the array of a .npy file.

    Args:
        data: the whole file.

    Raises ValueError where it is none of integers, or NumPy would write the array that is decoded in other bytes.
    """
    if not data.startswith(_BEGINNING):
        raise ValueError("the file is no array: it does not begin as a .npy file does")
    try:
        x = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"the file is no whole array: {error}") from None
    if not np.issubdtype(x.dtype, np.integer):
        raise ValueError(f"the file: expected an array of integers, got one of {x.dtype}")
    again = io.BytesIO()
    np.save(again, np.array(x, x.dtype.newbyteorder("="), order="C"))  # what the decoder has
    if again.getvalue() != data:
        raise ValueError(
            "the file: expected what NumPy writes of an array in C's order: its bytes could not be restored"
        )
    return x
