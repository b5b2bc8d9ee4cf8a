"""From the bytes of a published file to an array, and from arrays to the parts of a data set."""

from __future__ import annotations

import gzip
import io

import numpy as np

from probgen.data.files import Arrays, Read

Parts = dict[str, np.ndarray]

POWER_COLUMNS = (
    "Global_active_power",
    "Global_reactive_power",
    "Voltage",
    "Global_intensity",
    "Sub_metering_1",
    "Sub_metering_2",
    "Sub_metering_3",
    "minute_of_day",
)
POWER_KEPT = (0, 2, 4, 5, 6, 7)
_POWER_SCALE = (1000, 1000, 100, 10, 1, 1, 1, 1)  # an .npz holds the decimals of the original as integers
_POWER_ROUNDING = (0.001, 0.01, 1.0, 1.0, 1.0, 0.0)  # of the kept columns; the time gets no noise


def idx(content: bytes) -> np.ndarray:
    """Return the array in a gzipped IDX file of unsigned bytes, the format of MNIST.

    The file has the bytes 0, 0, 8 (the type) and the number of dimensions; each dimension as a big-endian 32-bit
    integer; the values in C order.

    Raises ValueError where the content is no such file.
    """
    raw = gzip.decompress(content)
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError("it is no IDX file of unsigned bytes")
    ndim = raw[3]
    shape = np.frombuffer(raw, ">u4", ndim, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def amat(content: bytes) -> np.ndarray:
    """Return the packed bits [N, 98] of a text with 784 zeros and ones per line, each followed by a blank or a
    newline."""
    bits = np.frombuffer(content, np.uint8)[::2] - ord("0")
    return np.packbits(bits.reshape(-1, 784), axis=-1)


def npy(content: bytes) -> np.ndarray:
    """Return the array of an .npy file."""
    return np.load(io.BytesIO(content), allow_pickle=False)


def characters(content: bytes) -> np.ndarray:
    """Return the bytes of an ASCII text."""
    return np.frombuffer(content, np.uint8)


def images(arrays: Arrays) -> Parts:
    """Return labelled images in their customary split."""
    return {
        "train": arrays["x_train"],
        "train_labels": arrays["y_train"],
        "test": arrays["x_test"],
        "test_labels": arrays["y_test"],
    }


def binary_images(arrays: Arrays) -> Parts:
    """Return 28x28 binary images out of packed bits."""
    splits = {"train": "train_packed", "validation": "valid_packed", "test": "test_packed"}
    return {split: np.unpackbits(arrays[name], axis=-1).reshape(-1, 28, 28) for split, name in splits.items()}


def text(arrays: Arrays) -> Parts:
    """Return the places of characters in the sorted alphabet: the first nine tenths to train on, the rest to test
    on."""
    _, codes = np.unique(arrays["text"], return_inverse=True)
    cut = int(0.9 * len(codes))
    return {"train": codes[:cut], "test": codes[cut:]}


def words(arrays: Arrays) -> Parts:
    """Return one lower-case word per row: a..z are 1..26, then zeros; its length counts one of them."""
    spelled = arrays["text"].tobytes().split()
    rows = np.zeros((len(spelled), 1 + max(map(len, spelled))), np.int32)
    for row, word in zip(rows, spelled, strict=True):
        row[: len(word)] = np.frombuffer(word, np.uint8) - (ord("a") - 1)
    return {"train": rows, "train_lengths": np.array([1 + len(word) for word in spelled])}


def power(rows: np.ndarray) -> Parts:
    """Return POWER as Papamakarios et al. prepared it: 6 columns, dequantized, standardized, split 81 : 9 : 10.

    The rows are shuffled; reactive power and intensity are dropped; uniform noise as wide as the rounding is added to
    all but the time; the last tenth is the test part, the last tenth of the rest is the validation part; all are
    standardized by the mean and the standard deviation of training and validation part together.

    Args:
        rows: the complete rows of the original in their order, [N, 8], columns as in `POWER_COLUMNS`.

    References: G. Papamakarios, T. Pavlakou and I. Murray, Masked Autoregressive Flow for Density Estimation, 2017,
    arXiv:1705.07057, appendix D.
    """
    random = np.random.RandomState(42)
    order = random.permutation(len(rows))
    # The published order of the draws: voltage, active power, the three meters.
    voltage, active, meters = random.rand(len(rows), 1), random.rand(len(rows), 1), random.rand(len(rows), 3)
    noise = np.hstack([active, voltage, meters, np.zeros_like(active)]) * _POWER_ROUNDING
    kept = rows[order][:, POWER_KEPT] + noise
    rest, test = np.split(kept, [len(kept) - len(kept) // 10])
    train, validation = np.split(rest, [len(rest) - len(rest) // 10])
    mean, sd = rest.mean(0), rest.std(0)
    return {name: (part - mean) / sd for name, part in [("train", train), ("validation", validation), ("test", test)]}


def power_columns(arrays: Arrays) -> Parts:
    """Return POWER from one array of integers per column."""
    scaled = [arrays[name] / scale for name, scale in zip(POWER_COLUMNS, _POWER_SCALE, strict=True)]
    return power(np.stack(scaled, axis=1))


def reals(**parts: str) -> Read:
    """Return a reader that takes arrays as they are, counts as reals: `reals(train="wine_red")`; labels stay
    integers."""

    def read(arrays: Arrays) -> Parts:
        kinds = {part: np.int32 if part.endswith("labels") else np.float32 for part in parts}
        return {part: arrays[name].astype(kinds[part]) for part, name in parts.items()}

    return read
