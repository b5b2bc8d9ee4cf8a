"""`probgen train-codec`: a model of the bytes of files, or of the images of arrays, for `compress`."""

import argparse
import io
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from probgen.autoregressive import char_rnn, gated_pixel_cnn, transformer, wavenet
from probgen.cli.codecs import file_to_read, others_of, output
from probgen.cli.files import at_least_one
from probgen.compression import array_files, byte_files
from probgen.core import combine, count_parameters, partition, save
from probgen.inference import fit

_BATCH = 32
_ROWS = 1 << 16  # windows that are drawn, at most; with more steps they come again
_KEPT = 2048  # bytes of an event of a model that works at any length: a row begins anew less often
_WINDOW = 256
_MOST_LEVELS = 255


class _Network(NamedTuple):
    """A recipe, what it calls its width, that width and the learning rate, and whether its length can be changed."""

    recipe: Any
    option: str
    width: int
    rate: float
    any_length: bool = False


_NETWORKS = {
    "gru": _Network(char_rnn, "width", 256, 4e-3, any_length=True),
    "wavenet": _Network(wavenet, "channels", 64, 2e-3, any_length=True),
    "transformer": _Network(transformer, "width", 128, 1e-3),
    "pixel_cnn": _Network(gated_pixel_cnn, "channels", 32, 2e-3),
}
_OF_IMAGES = "pixel_cnn"


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train-codec`.

    Args:
        parser: of the command.
    """
    parser.add_argument("files", nargs="+", metavar="FILE", help="text, images, arrays: any bytes")
    networks = f"the network of bytes, or {_OF_IMAGES} of .npy files of integer images [N, H, W] or [N, H, W, C]"
    parser.add_argument("--model", choices=list(_NETWORKS), default="gru", help=f"{networks} (default gru)")
    widths = ", ".join(f"{network.width} for a {name}" for name, network in _NETWORKS.items())
    parser.add_argument("--width", type=int, help=f"of its layers (default {widths})")
    parser.add_argument("--length", type=int, help="bytes of a window in training (default 256)")
    training = parser.add_mutually_exclusive_group()
    training.add_argument("--minutes", type=float, help="about how long to train (default 5)")
    training.add_argument("--steps", type=int, help=f"of training, each of {_BATCH} windows or images")
    parser.add_argument("--out", default="codec.safetensors", help="model file to write (default codec.safetensors)")
    parser.add_argument("--force", action="store_true", help="replace the model file if it is there")


def train_codec(options: argparse.Namespace) -> None:
    """Train a model of bytes or of images, write its file, and print what it takes of what was held out.

    Args:
        options: of the command.
    """
    if options.minutes is not None and not 0 < options.minutes < float("inf"):
        raise ValueError(f"--minutes: expected more than 0, got {options.minutes}")
    for name in ("steps", "width", "length"):
        if (number := getattr(options, name)) is not None:
            at_least_one(f"--{name}", number)
    out = output(options.out, options.force)
    files = [file_to_read(name).read_bytes() for name in options.files]
    model, held_out = _of_images(options, files) if options.model == _OF_IMAGES else _of_bytes(options, files)
    save(out, model)
    print(f"written: {out}, a {options.model} of {count_parameters(model):,} numbers")
    file, size = io.BytesIO(), len(held_out)
    if options.model == _OF_IMAGES:
        done = array_files.compress(io.BytesIO(held_out), file, model)
    else:
        done = byte_files.compress(io.BytesIO(held_out), file, model, size=size, progress="held out")
    others = {name: 8 * size / done.size for name, size in others_of(io.BytesIO(held_out)).items()}
    print(
        f"held out: {8 * done.coded / done.size:.3f} bits/byte, {done.bits_per_byte:.3f} as a file; "
        + ", ".join(f"{name} {rate:.3f}" for name, rate in others.items())
    )


def _of_bytes(options: argparse.Namespace, files: list[bytes]) -> tuple[Any, bytes]:
    """Return a model of bytes, trained on the first 95 % of each file, and the rest of each."""
    cuts = [len(data) - -(-len(data) // 20) for data in files]
    train = b"".join(data[:cut] for data, cut in zip(files, cuts))
    held_out, length = b"".join(data[cut:] for data, cut in zip(files, cuts)), options.length or _WINDOW
    if len(train) < length or not held_out:
        raise ValueError(f"FILE: expected at least {length} bytes to train on, one window, got {len(train)}")
    print(f"{len(train):,} bytes to train on, {len(held_out):,} held out, the last of each file", flush=True)
    network, sizes = _NETWORKS[options.model], _sizes(options)
    rows = lambda count: _windows(train, length, count, options.seed)
    model = _trained(options, network.recipe(length, 256, **sizes), rows)
    if not network.any_length or length >= _KEPT:
        return model, held_out
    kept = network.recipe(_KEPT, 256, **sizes)  # of the same numbers
    return combine(partition(model)[0], partition(kept)[1]), held_out


def _of_images(options: argparse.Namespace, files: list[bytes]) -> tuple[Any, bytes]:
    """Return a model of images, trained on the first 95 % of each array, and the file of the rest."""
    if options.length is not None:
        raise ValueError(f"--length: a {_OF_IMAGES} is of whole images, and not of windows")
    arrays = [array_files.read_array(data) for data in files]
    if len(shapes := {x.shape[1:] for x in arrays}) > 1 or arrays[0].ndim not in (3, 4) or not min(map(len, arrays)):
        raise ValueError(f"FILE: expected images [N, H, W] or [N, H, W, C] of one shape, got arrays of {shapes}")
    low, high = min(int(x.min()) for x in arrays), max(int(x.max()) for x in arrays)
    if low < 0 or high > _MOST_LEVELS:
        raise ValueError(f"FILE: expected integers from 0 to {_MOST_LEVELS}, got {low} to {high}")
    cuts = [len(x) - -(-len(x) // 20) for x in arrays]
    train, held_out = (np.concatenate([x[part] for x, part in zip(arrays, parts)]) for parts in _halves(cuts))
    if not len(train):
        raise ValueError("FILE: expected at least 2 images")
    print(f"{len(train):,} images to train on, {len(held_out):,} held out, the last of each file", flush=True)
    model, rng = gated_pixel_cnn(train.shape[1:], max(2, high + 1), **_sizes(options)), np.random.default_rng
    rows = lambda count: train[rng(options.seed).permutation(len(train))[:count]]
    file = io.BytesIO()
    np.save(file, held_out)
    return _trained(options, model, rows), file.getvalue()


def _halves(cuts: list[int]) -> tuple[list[slice], list[slice]]:
    return [slice(0, cut) for cut in cuts], [slice(cut, None) for cut in cuts]


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a recipe."""
    network, model_key = _NETWORKS[options.model], jax.random.split(jax.random.key(options.seed))[0]
    return {network.option: options.width or network.width, "key": model_key}


def _trained(options: argparse.Namespace, model: Any, rows: Callable[[int], np.ndarray]) -> Any:
    """Return the model after its training on so many of the rows as its steps take."""
    steps, fit_key = options.steps, jax.random.split(jax.random.key(options.seed))[1]
    if steps is None:
        seconds = 60 * (5.0 if options.minutes is None else options.minutes)
        steps = max(1, int(seconds / _step_seconds(model, rows(_BATCH))))
    rate = optax.warmup_cosine_decay_schedule(0.0, _NETWORKS[options.model].rate, max(1, steps // 20), max(2, steps))
    optimizer, data = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)), rows(min(_ROWS, steps * _BATCH))
    batch = min(_BATCH, len(data))
    return fit(
        model, data, steps=steps, batch_size=batch, optimizer=optimizer, key=fit_key, progress=options.model
    ).model


def _windows(data: bytes, length: int, rows: int, seed: int) -> np.ndarray:
    """Return rows of so many bytes each, at random places."""
    symbols = np.frombuffer(data, np.uint8)
    starts = np.random.default_rng(seed).integers(0, len(symbols) - length + 1, rows)
    return symbols[starts[:, None] + np.arange(length)]


def _step_seconds(model: Any, rows: np.ndarray) -> float:
    """Return what a step of training takes, about: of a gradient, once it is compiled."""
    params, rest = partition(model)
    x = jnp.asarray(rows, jnp.int32)
    gradient = jax.jit(jax.grad(lambda params: -jnp.mean(combine(params, rest).log_prob(x))))
    jax.block_until_ready(gradient(params))
    began = time.perf_counter()
    for _ in range(3):
        jax.block_until_ready(gradient(params))
    return (time.perf_counter() - began) / 3
